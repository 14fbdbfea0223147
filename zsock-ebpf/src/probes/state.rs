//! State changes of full sockets, `tp_btf/inet_sock_set_state`.
//!
//! kernel: `(const struct sock *sk, const int oldstate, const int newstate)`, 5.10 to 7.3; fires before the state is set.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use zsock_common::wire::{Kind, Past, Process, flag, sk_flag};

use crate::emit::{self, Event};
use crate::maps::{self, TROUBLED};
use crate::read::{self, Direct, Sock};
use crate::rodata::{offset, setting};
use crate::words::{self, Facts};
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
#[inline(always)]
fn inet_sock_set_state(ctx: BtfTracePointContext) -> u32 {
    let sk: *mut c_void = ctx.arg(0);
    if let Some(sk) = Sock::tcp(sk) {
        changed(&ctx, sk);
    }
    0
}

/// The state before. Read anew wherever it is asked for, and so is [`to`]: what the verifier knows of a state that it has seen compared
/// has it look at all that follows once for each pair of states.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "states are small numbers")]
fn from(ctx: &BtfTracePointContext) -> u8 {
    argument(ctx, 1) as u8
}

/// The state after.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "states are small numbers")]
fn to(ctx: &BtfTracePointContext) -> u8 {
    argument(ctx, 2) as u8
}

#[inline(always)]
fn argument(ctx: &BtfTracePointContext, place: usize) -> u64 {
    // SAFETY: the tracepoint has three arguments, a word each.
    unsafe { ctx.as_ptr().cast::<u64>().add(place).read_volatile() }
}

#[inline(always)]
fn changed(ctx: &BtfTracePointContext, sk: Sock) {
    // An accepted connection bears its listener's cookie here before 6.18, and gets its own after. The segment that makes it
    // makes the next change too, which tells of both.
    if from(ctx) == LISTEN && to(ctx) == SYN_RECV || !filter::wants_socket(sk) {
        return;
    }
    // A socket that is closed twice has come to CLOSE once.
    if from(ctx) != to(ctx) {
        maps::count_state(to(ctx), |states| &mut states.entered);
    }
    // Before the socket's memory is looked for: what follows is looked at by the verifier once for each place of that.
    let nature = nature(ctx, sk);
    let mut actor = Process::NONE;
    words::blank(&mut actor, argument(ctx, 2));
    if nature.has(OPENED) || nature.has(CLOSED) {
        process::write_current(&mut actor);
    }
    let Some(past) = memory::of_changed(sk, || nature.has(OPENED), || nature.has(ACCEPTED)) else { return };
    let is_told = setting!(all_events) != 0 || is_troubled(past, nature);
    let time_ns = if is_told { emit::now_ns() } else { time_of(past, sk, nature) };
    let mut flags = if nature.has(UNBOUND) { flag::UNBOUND } else { 0 };
    if nature.has(OPENED) {
        // A socket whose connection was refused may connect again.
        memory::restart(past, time_ns);
    } else if nature.has(ACCEPTED) && past.count == 0 {
        memory::restart(past, time_ns);
        memory::remember(past, time_ns, LISTEN, SYN_RECV);
        flags = flag::ACCEPTED;
    }
    memory::remember(past, time_ns, from(ctx), to(ctx));
    if nature.has(OPENED) {
        words::copy(&mut past.opener, &actor);
    } else if nature.has(CLOSED) {
        words::copy(&mut past.closer, &actor);
    }
    // What is announced goes on to its end: the socket may be held by another process than the one that opened it.
    if !is_troubled(past, nature) && (setting!(all_events) == 0 || !filter::wants_process(past.opener.tgid)) {
        return;
    }
    let cookie = sk.cookie();
    if cookie == 0 {
        emit::unnamed(ctx);
        return;
    }
    if nature.has(IN_TROUBLE) {
        memory::announce_past(ctx, past, cookie, time_ns);
    }
    let tp = sk.tcp_sock();
    if !tp.is_null() {
        emit::socket_event::<Direct>(ctx, tp, &change(cookie, time_ns, from(ctx), to(ctx), flags, &actor));
    }
}

/// `connect` or `listen` made the change, in the task that calls it. An accepted connection is born in a softirq.
const OPENED: u64 = 1;
/// The first change that is seen of an accepted connection, unless it was heard of during its handshake.
const ACCEPTED: u64 = 2;
/// `close` or `shutdown` made it.
const CLOSED: u64 = 4;
/// Nothing but a segment makes it.
const BY_SEGMENT: u64 = 8;
/// A connection ends in trouble.
const IN_TROUBLE: u64 = 16;
/// A connection begins that has no port yet.
const UNBOUND: u64 = 32;

/// What sort of change it is.
#[inline(always)]
fn nature(ctx: &BtfTracePointContext, sk: Sock) -> Facts {
    let (from, to) = (from(ctx), to(ctx));
    let mut facts = if from == SYN_RECV { ACCEPTED } else { 0 };
    if to == SYN_SENT || to == LISTEN {
        facts |= OPENED;
    }
    if to == SYN_SENT && read::field::<Direct, u16>(sk.as_ptr(), offset!(skc_num)) == 0 {
        facts |= UNBOUND;
    }
    if is_closed_by_caller(sk, from, to) {
        facts |= CLOSED;
    }
    if is_by_segment(sk, from, to) {
        facts |= BY_SEGMENT;
    }
    if to == CLOSE && is_end_in_trouble(sk) {
        facts |= IN_TROUBLE;
    }
    Facts::new(facts, argument(ctx, 2))
}

/// Whether the socket is in trouble, as far as is known.
#[inline(always)]
fn is_troubled(past: &Past, nature: Facts) -> bool {
    memory::is_announced(past) || nature.has(IN_TROUBLE)
}

#[inline(always)]
fn change(cookie: u64, time_ns: u64, from: u8, to: u8, flags: u16, actor: &Process) -> Event<'_> {
    let (detail, detail2) = (u32::from(from), u32::from(to));
    Event { kind: Kind::State, cookie, time_ns, detail, detail2, sent_before: 0, flags, actor: Some(actor) }
}

/// When a change is that nobody is told of yet. To read the clock costs more than all the rest of it, and TCP has just read
/// it for the segment that makes the change, where it is one that nothing but a segment makes.
#[inline(always)]
fn time_of(past: &Past, sk: Sock, nature: Facts) -> u64 {
    if nature.has(BY_SEGMENT) {
        let time_ns = read::field::<Direct, u64>(sk.tcp_sock(), offset!(tcp_clock_cache));
        // A connection that is set up by `TCP_REPAIR` has no segment.
        if time_ns > memory::last_ns(past) {
            return time_ns;
        }
    }
    emit::now_ns()
}

#[inline(always)]
fn is_by_segment(sk: Sock, from: u8, to: u8) -> bool {
    (from == SYN_SENT || from == SYN_RECV) && to == ESTABLISHED
        || to == FIN_WAIT2
        || to == CLOSE_WAIT
        || from == LAST_ACK && is_orphan(sk)
}

/// Whether no process holds it any more, so that only segments and timers move it.
#[inline(always)]
fn is_orphan(sk: Sock) -> bool {
    read::field::<Direct, u32>(sk.as_ptr(), offset!(skc_flags)) & sk_flag::DEAD != 0
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
        || maps::has_unannounced() && TROUBLED.get_ptr(sk.known_cookie()).is_some()
}
