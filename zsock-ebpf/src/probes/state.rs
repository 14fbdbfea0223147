//! State changes of full sockets, `tp_btf/inet_sock_set_state`.
//!
//! kernel: `(const struct sock *sk, const int oldstate, const int newstate)`, 5.10 to 7.3; fires before the state is set.

use core::ffi::c_void;

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use zsock_common::wire::{Kind, Past, Process, flag, sk_flag};

use crate::emit::{self, Event};
use crate::maps::{self, TROUBLED};
use crate::read::{self, Direct, Sock};
use crate::rodata::{offset, setting};
use crate::{filter, memory, process};

const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const SYN_RECV: u8 = 3;
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
const LISTEN: u8 = 10;
const SHUTDOWN_MASK: u8 = 3;

#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(ctx: BtfTracePointContext) -> u32 {
    let sk: *mut c_void = ctx.arg(0);
    if let Some(sk) = Sock::tcp(sk) {
        changed(&ctx, sk, ctx.arg(1), ctx.arg(2));
    }
    0
}

#[inline(always)]
fn changed(ctx: &BtfTracePointContext, sk: Sock, from: u8, to: u8) {
    // An accepted connection bears its listener's cookie here before 6.18, and gets its own after. The segment that makes it
    // makes the next change too, which tells of both.
    if from == LISTEN && to == SYN_RECV || !filter::wants_socket(sk) {
        return;
    }
    // A socket that is closed twice has come to CLOSE once.
    if from != to {
        maps::count_state(to, |states| &mut states.entered);
    }
    let is_opened = is_opened_by_caller(to);
    let past = if is_opened {
        memory::of_newborn(sk)
    } else if from == SYN_RECV {
        memory::of_accepted(sk)
    } else {
        memory::of_or_new(sk)
    };
    let Some(past) = past else { return };
    let is_birth = is_opened || from == SYN_RECV && past.count == 0;
    let in_trouble = to == CLOSE && is_end_in_trouble(sk);
    let is_troubled = memory::is_announced(past) || in_trouble;
    let is_told = setting!(all_events) != 0 || is_troubled;
    let time_ns = if is_told { emit::now_ns() } else { time_of(past, sk, from, to) };
    if is_birth {
        // A socket whose connection was refused may connect again.
        memory::restart(past, time_ns);
        if from == SYN_RECV {
            memory::remember(past, time_ns, LISTEN, SYN_RECV);
        }
    }
    memory::remember(past, time_ns, from, to);
    let has_actor = note_actor(past, sk, from, to);
    // What is announced goes on to its end: the socket may be held by another process than the one that opened it.
    if !is_told || !is_troubled && !filter::wants_process(past.opener.tgid) {
        return;
    }
    let cookie = sk.cookie();
    if cookie == 0 {
        emit::unnamed(ctx);
        return;
    }
    if in_trouble {
        memory::announce_past(ctx, past, cookie, time_ns);
    }
    let tp = sk.tcp_sock();
    if tp.is_null() {
        return;
    }
    if is_birth && from == SYN_RECV {
        emit::socket_event::<Direct>(ctx, tp, &change(cookie, time_ns, LISTEN, SYN_RECV, None));
    }
    let actor = has_actor.then_some(if is_opened { &past.opener } else { &past.closer });
    let mut event = change(cookie, time_ns, from, to, actor);
    if to == SYN_SENT && read::field::<Direct, u16>(sk.as_ptr(), offset!(skc_num)) == 0 {
        event.flags = flag::UNBOUND;
    }
    emit::socket_event::<Direct>(ctx, tp, &event);
}

#[inline(always)]
fn change(cookie: u64, time_ns: u64, from: u8, to: u8, actor: Option<&Process>) -> Event<'_> {
    let (detail, detail2) = (u32::from(from), u32::from(to));
    Event { kind: Kind::State, cookie, time_ns, detail, detail2, sent_before: 0, flags: 0, actor }
}

/// Keeps the process that makes a change in its own name. Returns whether there is one.
#[inline(always)]
fn note_actor(past: &mut Past, sk: Sock, from: u8, to: u8) -> bool {
    let actor = if is_opened_by_caller(to) {
        &mut past.opener
    } else if is_closed_by_caller(sk, from, to) {
        &mut past.closer
    } else {
        return false;
    };
    process::write_current(actor);
    true
}

/// When a change is that nobody is told of yet. To read the clock costs more than all the rest of it, and TCP has just read
/// it for the segment that makes the change, where it is one that nothing but a segment makes.
#[inline(always)]
fn time_of(past: &Past, sk: Sock, from: u8, to: u8) -> u64 {
    let is_by_segment = (from == SYN_SENT || from == SYN_RECV) && to == ESTABLISHED
        || to == FIN_WAIT2
        || to == CLOSE_WAIT
        || from == LAST_ACK && is_orphan(sk);
    if is_by_segment {
        let time_ns = read::field::<Direct, u64>(sk.tcp_sock(), offset!(tcp_clock_cache));
        // A connection that is set up by `TCP_REPAIR` has no segment.
        if time_ns > memory::last_ns(past) {
            return time_ns;
        }
    }
    emit::now_ns()
}

/// Whether no process holds it any more, so that only segments and timers move it.
#[inline(always)]
fn is_orphan(sk: Sock) -> bool {
    read::field::<Direct, u32>(sk.as_ptr(), offset!(skc_flags)) & sk_flag::DEAD != 0
}

/// `connect` and `listen` run in the task that calls them; an accepted connection is born in a softirq.
#[inline(always)]
fn is_opened_by_caller(to: u8) -> bool {
    to == SYN_SENT || to == LISTEN
}

/// The changes that only `close` and `shutdown` make. `tcp_close` marks both directions shut down before it ends a connection at
/// once; a reset that comes in does so after the change.
#[inline(always)]
fn is_closed_by_caller(sk: Sock, from: u8, to: u8) -> bool {
    if to == FIN_WAIT1 || to == LAST_ACK {
        return true;
    }
    let ends_at_once =
        to == CLOSE && (from == ESTABLISHED || from == CLOSE_WAIT || from == SYN_SENT || from == LISTEN);
    ends_at_once && read::field::<Direct, u8>(sk.as_ptr(), offset!(sk_shutdown)) == SHUTDOWN_MASK
}

/// Whether a connection that was healthy so far ends with an error, or one whose trouble only a timer saw.
#[inline(always)]
fn is_end_in_trouble(sk: Sock) -> bool {
    read::field::<Direct, u32>(sk.as_ptr(), offset!(sk_err)) != 0
        || maps::has_unannounced() && TROUBLED.get_ptr(sk.cookie()).is_some()
}
