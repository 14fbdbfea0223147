//! Passing by a socket of which the pass before has said all there was to say.
//!
//! Nearly every socket of a large host is one of these, and what a pass costs is the memory that it touches: to look up what is
//! remembered of a socket costs more than to walk past it. Without a segment since the pass before only time and the process
//! can have changed anything, and both show in a few fields.

use core::ffi::c_void;

use zsock_common::wire::{Control, Watch, sk_flag, walk};

use crate::emit;
use crate::looks::pass::{self, later};
use crate::maps::{self, STALLED, Shared};
use crate::read::{self, Direct};
use crate::rodata::offset;

const ESTABLISHED: u8 = 1;

/// A socket that comes to be idle, or a request to be old, is looked at for so many passes: the record of the first may find no room.
pub(super) const CHANCES: u32 = 4;

/// Where answers are slow, a request that waits for one becomes too old at a time of its own, and keepalive may be switched off on a
/// connection that idles already: looked for in one pass of these.
const SELDOM: u64 = 8;

/// The pass under way, as the agent numbers it, and when it began and the one before, jiffies: no later than the agent found out which
/// namespaces are at rest.
static NUMBER: Shared = Shared::new(0);
static BEGAN: Shared = Shared::new(0);
static PREVIOUS: Shared = Shared::new(0);

/// The last pass that saw a socket in [`STALLED`].
static STALLED_IN: Shared = Shared::new(0);

/// Notes that a pass has begun, with its first socket.
#[inline(always)]
pub(super) fn begin(control: &Control) {
    let (last, pass) = (NUMBER.load(), u64::from(control.pass));
    if last == pass {
        return;
    }
    NUMBER.store(pass);
    // Of one that left everything out the time is known, and not the jiffies, which may have been late then.
    let is_next = last + 1 == pass;
    PREVIOUS.store(if is_next { BEGAN.load() } else { tick_at(control.previous_ns, control.late, control) });
    BEGAN.store(tick_at(control.began_ns, 1, control));
}

/// The tick that had come by then and `spare` before it, jiffies; 0 for 0.
#[inline(always)]
fn tick_at(time_ns: u64, spare: u32, control: &Control) -> u64 {
    if time_ns == 0 || control.tick_ns == 0 {
        return 0;
    }
    let ticks = emit::now_ns().wrapping_sub(time_ns) / u64::from(control.tick_ns);
    emit::jiffies().wrapping_sub(ticks + u64::from(spare))
}

/// Notes whether the process of this socket does not read, now and as told before: what it reads later shows in no segment.
#[inline(always)]
pub(super) fn note_unread(cookie: u64, is_stalled: bool, was_stalled: bool) {
    if is_stalled {
        STALLED_IN.store(NUMBER.load());
    }
    if is_stalled && !was_stalled {
        maps::include(&STALLED, cookie);
    } else if was_stalled && !is_stalled {
        let _ = STALLED.remove(cookie);
    }
}

/// Until when the socket is known to have been as `watch` says, jiffies: a pass that walked past it found that nothing had been sent or
/// received.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "jiffies are compared by their low half")]
pub(super) fn known_until(watch: &Watch) -> u32 {
    let previous = PREVIOUS.load() as u32;
    if previous == 0 { watch.passed } else { later(watch.passed, previous) }
}

/// Whether nothing can have changed since the pass before.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "jiffies are compared by their low half")]
pub(super) fn is_settled(tp: *const c_void, cookie: u64, control: &Control) -> bool {
    let previous = PREVIOUS.load() as u32;
    if pass::state(tp) != ESTABLISHED || previous == 0 {
        return false;
    }
    let now = BEGAN.load() as u32;
    // What is sent is acknowledged, or sent again, which a hook sees: it needs no look, and no touch, of its own.
    let received = read::field::<Direct, u32>(tp, offset!(icsk_lrcvtime));
    let active = later(received, read::field::<Direct, u32>(tp, offset!(rcv_tstamp)));
    let before = previous.wrapping_sub(active);
    // With a tick to spare: both the stamp and the pass may be late by one.
    if before == 0 || before > i32::MAX as u32 {
        return false;
    }
    if control.unwatched_probes != 0 && read::field::<Direct, u8>(tp, offset!(icsk_probes_out)) != 0 {
        return false;
    }
    let interval = now.wrapping_sub(previous);
    let is_turn = control.walk == walk::RARE || (cookie + u64::from(control.pass)).is_multiple_of(SELDOM);
    let is_idle = now.wrapping_sub(active) >= control.idle;
    if is_idle && (is_turn || may_change_while_idle(tp, before, interval, control)) {
        return false;
    }
    // Beside what the walk itself touches.
    if read::field::<Direct, u32>(tp, offset!(sk_receive_queue_length)) != 0 {
        return false;
    }
    let waiting = now.wrapping_sub(active);
    let is_crossing = waiting >= control.silence
        && (is_turn || waiting < control.silence.saturating_add(interval.saturating_mul(CHANCES)));
    if is_crossing && may_wait(tp, received) {
        return false;
    }
    STALLED_IN.load() + 1 < NUMBER.load() || STALLED.get_ptr(cookie).is_none()
}

/// Whether the socket has just come to be idle, or may have been guarded since.
#[inline(always)]
fn may_change_while_idle(tp: *const c_void, before: u32, interval: u32, control: &Control) -> bool {
    before < control.idle.saturating_add(interval.saturating_mul(CHANCES))
        || read::field::<Direct, u32>(tp, offset!(skc_flags)) & sk_flag::KEEPOPEN != 0
}

/// From the pass before to this one, jiffies.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "no two passes are 2^32 ticks apart")]
pub(super) fn interval(control: &Control) -> u32 {
    (control.began_ns.wrapping_sub(control.previous_ns) / u64::from(control.tick_ns.max(1))) as u32
}

/// Whether the last data may be a request of ours without an answer.
#[inline(always)]
fn may_wait(tp: *const c_void, received: u32) -> bool {
    let sent = read::field::<Direct, u32>(tp, offset!(lsndtime));
    if sent == received {
        return read::field::<Direct, u32>(tp, offset!(snd_wl1))
            == read::field::<Direct, u32>(tp, offset!(rcv_nxt));
    }
    // An accepted connection keeps its listener's backlog and asks nothing.
    sent.wrapping_sub(received) < i32::MAX as u32
        && read::field::<Direct, u32>(tp, offset!(sk_max_ack_backlog)) == 0
}
