//! State changes of full sockets, `tp_btf/inet_sock_set_state`.
//!
//! kernel: `(const struct sock *sk, const int oldstate, const int newstate)`, 5.10 to 7.3; fires before the state is set.

use core::ffi::c_void;

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use zsock_common::wire::{Kind, Past};

use crate::emit::{self, Event};
use crate::maps::{self, TROUBLED};
use crate::read::{self, Direct, Sock};
use crate::rodata::{offset, setting};
use crate::{filter, memory, process};

const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const SYN_RECV: u8 = 3;
const FIN_WAIT1: u8 = 4;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
const LISTEN: u8 = 10;
const SHUTDOWN_MASK: u8 = 3;

#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(ctx: BtfTracePointContext) -> u32 {
    let sk: *mut c_void = ctx.arg(0);
    let (from, to): (i32, i32) = (ctx.arg(1), ctx.arg(2));
    if let Some(sk) = Sock::tcp(sk) {
        changed(&ctx, sk, from as u8, to as u8);
    }
    0
}

#[inline(always)]
fn changed(ctx: &BtfTracePointContext, sk: Sock, from: u8, to: u8) {
    if !filter::wants::<Direct>(sk.as_ptr()) {
        return;
    }
    let Some(past) = maps::past_or_new(sk) else {
        maps::count(|counters| counters.forgotten += 1);
        return;
    };
    let time_ns = emit::now_ns();
    let has_actor = keep(past, sk, time_ns, from, to);
    if !filter::wants_process(past.opener.tgid) {
        return;
    }
    let in_trouble = to == CLOSE && is_end_in_trouble(sk);
    if !(setting!(all_events) != 0 || memory::is_announced(past) || in_trouble) {
        return;
    }
    let cookie = sk.cookie();
    if in_trouble {
        memory::announce_past(ctx, past, cookie);
    }
    let tp = sk.tcp_sock();
    if tp.is_null() {
        return;
    }
    let (detail, detail2) = (u32::from(from), u32::from(to));
    let event =
        Event { kind: Kind::State, cookie, time_ns, detail, detail2, sent_before: 0, flags: 0, has_actor };
    emit::socket_event::<Direct>(ctx, tp, &event);
}

/// Writes the change into the socket's memory, and who made it. Returns whether a process made it in its own name.
#[inline(always)]
fn keep(past: &mut Past, sk: Sock, time_ns: u64, from: u8, to: u8) -> bool {
    memory::remember(past, time_ns, from, to);
    if past.count == 1 && (to == SYN_SENT || to == SYN_RECV || to == LISTEN) {
        past.birth_ns = time_ns;
        // The timers know a socket by its cookie alone, and the kernel makes one only when asked.
        sk.cookie();
    }
    if is_opened_by_caller(to) {
        process::write_current(&mut past.opener);
        return true;
    }
    let is_closed_by_caller = is_closed_by_caller(sk, from, to);
    if is_closed_by_caller {
        process::write_current(&mut past.closer);
    }
    is_closed_by_caller
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
