//! The keepalive and the persist timer, by the best rung that the kernel has: `fentry`/`fexit` or `kprobe`/`kretprobe` on the timer's
//! function, else the timer tracepoints with the function's address compared.
//!
//! A timer fires without doing anything most of the time. What it did shows in the difference between its entry and its exit:
//! `icsk_probes_out` one higher means that a probe went out. The socket behind a timer has no type that the verifier knows, so
//! its fields are read with `bpf_probe_read_kernel` and its memory is out of reach: records say so and the agent asks for it.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::{btf_tracepoint, fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{BtfTracePointContext, FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use zsock_common::offsets::ABSENT;
use zsock_common::wire::{Kind, flag};

use crate::emit::{self, Event};
use crate::filter;
use crate::maps::{self, KEEPALIVE_FUNCTION, TROUBLED, TimerMark, WRITE_FUNCTION};
use crate::read::{self, Direct, Probed};
use crate::rodata::{offset, setting};

const KEEPALIVE: u32 = 1;
const WRITE: u32 = 2;
const CLOSE: u8 = 7;
/// `ICSK_TIME_RETRANS` and `ICSK_TIME_PROBE0` of `icsk_pending`.
const PENDING_RETRANSMIT: u8 = 1;
const PENDING_PROBE: u8 = 3;

#[btf_tracepoint(function = "timer_expire_entry")]
fn timer_expire_entry(ctx: BtfTracePointContext) -> u32 {
    let timer: *const c_void = ctx.arg(0);
    let function: u64 = read::field::<Direct, u64>(timer, offset!(timer_function));
    if function == 0 {
        return 0;
    }
    if function == KEEPALIVE_FUNCTION.load() {
        enter(KEEPALIVE, timer, offset!(keepalive_timer));
    } else if function == WRITE_FUNCTION.load() {
        enter(WRITE, timer, offset!(write_timer));
    }
    0
}

#[btf_tracepoint(function = "timer_expire_exit")]
fn timer_expire_exit(ctx: BtfTracePointContext) -> u32 {
    let timer: u64 = ctx.arg(0);
    if maps::timer_mark().is_some_and(|mark| mark.sk != 0 && mark.timer == timer) {
        exit(&ctx);
    }
    0
}

macro_rules! bracket {
    ($kind:expr, $member:ident, $fentry:ident, $fexit:ident, $kprobe:ident, $kretprobe:ident, $function:literal) => {
        #[fentry(function = $function)]
        fn $fentry(ctx: FEntryContext) -> u32 {
            enter($kind, ctx.arg(0), offset!($member));
            0
        }

        #[fexit(function = $function)]
        fn $fexit(ctx: FExitContext) -> u32 {
            exit(&ctx);
            0
        }

        #[kprobe(function = $function)]
        fn $kprobe(ctx: ProbeContext) -> u32 {
            if let Some(timer) = ctx.arg::<*const c_void>(0) {
                enter($kind, timer, offset!($member));
            }
            0
        }

        #[kretprobe(function = $function)]
        fn $kretprobe(ctx: RetProbeContext) -> u32 {
            exit(&ctx);
            0
        }
    };
}

bracket!(
    KEEPALIVE,
    keepalive_timer,
    keepalive_fentry,
    keepalive_fexit,
    keepalive_kprobe,
    keepalive_kretprobe,
    "tcp_keepalive_timer"
);
bracket!(WRITE, write_timer, write_fentry, write_fexit, write_kprobe, write_kretprobe, "tcp_write_timer");

/// Notes how the socket stands as its timer fires.
#[inline(always)]
fn enter(kind: u32, timer: *const c_void, member: u32) {
    if member == ABSENT {
        return;
    }
    let Some(mark) = maps::timer_mark() else { return };
    let sk = (timer as usize).wrapping_sub(member as usize) as *const c_void;
    mark.sk = sk as u64;
    mark.timer = timer as u64;
    mark.kind = kind;
    mark.lsndtime = read::field::<Probed, u32>(sk, offset!(lsndtime));
    mark.probes_out = read::field::<Probed, u8>(sk, offset!(icsk_probes_out));
    mark.retransmits = read::field::<Probed, u8>(sk, offset!(icsk_retransmits));
    mark.pending = read::field::<Probed, u8>(sk, offset!(icsk_pending));
    mark.retransmitted = 0;
}

/// Concludes from the difference what the timer did.
#[inline(always)]
fn exit(ctx: &impl EbpfContext) {
    conclude(&Context(ctx.as_ptr()));
}

/// The context of whichever program it is, so that [`conclude`] exists once.
struct Context(*mut c_void);

impl EbpfContext for Context {
    fn as_ptr(&self) -> *mut c_void {
        self.0
    }
}

#[inline(never)]
fn conclude(ctx: &Context) {
    let Some(mark) = maps::timer_mark() else { return };
    let before = *mark;
    mark.sk = 0;
    let sk = before.sk as *const c_void;
    if sk.is_null() || read::field::<Probed, u8>(sk, offset!(skc_state)) == CLOSE {
        return;
    }
    let cookie = read::cookie_behind(sk);
    let told = if before.kind == KEEPALIVE {
        kept_alive(ctx, sk, cookie, &before)
    } else {
        wrote(sk, cookie, &before)
    };
    if let Some((kind, detail)) = told {
        report(ctx, sk, kind, cookie, detail);
    }
}

#[inline(always)]
fn kept_alive(ctx: &Context, sk: *const c_void, cookie: u64, before: &TimerMark) -> Option<(Kind, u32)> {
    let probes_out = read::field::<Probed, u8>(sk, offset!(icsk_probes_out));
    // SAFETY: a value of the map; another CPU can only be at the same socket's timer after this one is done.
    let unanswered = TROUBLED.get_ptr_mut(cookie).map(|probes| unsafe { &mut *probes });
    if before.probes_out == 0
        && let Some(unanswered) = unanswered
        && *unanswered != 0
    {
        report(ctx, sk, Kind::KeepaliveAnswered, cookie, *unanswered);
        *unanswered = 0;
    }
    if probes_out != before.probes_out.wrapping_add(1) {
        return None;
    }
    let is_known = TROUBLED.get_ptr(cookie).is_some();
    // One probe is no trouble: the first that finds its predecessor unanswered is.
    if probes_out >= 2 {
        suspect(sk, cookie, u32::from(probes_out), is_known);
    } else if setting!(all_events) == 0 && !is_known {
        return None;
    }
    Some((Kind::Keepalive, u32::from(before.probes_out)))
}

#[inline(always)]
fn wrote(sk: *const c_void, cookie: u64, before: &TimerMark) -> Option<(Kind, u32)> {
    let told = if before.pending == PENDING_PROBE {
        let probes_out = read::field::<Probed, u8>(sk, offset!(icsk_probes_out));
        if probes_out != before.probes_out.wrapping_add(1) {
            return None;
        }
        (Kind::WindowProbe, u32::from(before.probes_out))
    } else if before.pending == PENDING_RETRANSMIT && before.retransmitted == 0 {
        let retransmits = read::field::<Probed, u8>(sk, offset!(icsk_retransmits));
        if retransmits != before.retransmits.wrapping_add(1) {
            return None;
        }
        (Kind::RetransmitFailed, 0)
    } else {
        return None;
    };
    suspect(sk, cookie, 0, TROUBLED.get_ptr(cookie).is_some());
    Some(told)
}

/// Notes that a socket whose memory is out of reach has shown trouble.
#[inline(always)]
pub(super) fn suspect(sk: *const c_void, cookie: u64, unanswered: u32, is_known: bool) {
    if cookie == 0 || !filter::wants::<Probed>(sk) {
        return;
    }
    if !is_known {
        maps::set_unannounced();
    }
    if !is_known || unanswered != 0 {
        let _ = TROUBLED.insert(cookie, unanswered, 0);
    }
}

#[inline(never)]
fn report(ctx: &Context, sk: *const c_void, kind: Kind, cookie: u64, detail: u32) {
    if cookie == 0 {
        emit::unnamed(ctx);
        return;
    }
    if !filter::wants::<Probed>(sk) {
        return;
    }
    let mut event = Event::now(kind, cookie);
    event.detail = detail;
    event.flags = flag::PAST_ELSEWHERE;
    emit::trouble::<Probed>(ctx, sk, &event);
}
