//! What a pass finds of one socket: which of the conditions hold that no hook tells of.
//!
//! A healthy socket writes nothing. A condition is told when it comes to hold and when it ceases; what has to be compared with
//! the pass before is kept in the socket's memory.

use core::ffi::c_void;

use zsock_common::offsets::ABSENT;
use zsock_common::wire::{Control, Past, Watch, condition, sk_flag, watch_flag};

use crate::emit;
use crate::looks::{requests, survivals};
use crate::read::{self, Direct, Probed};
use crate::rodata::offset;
use crate::words::Hidden;

/// A stamp may be so many ticks ahead of the clock as it was read.
const AHEAD: u32 = 1 << 16;

pub(super) const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
const CLOSE_WAIT: u8 = 8;
pub(super) const LISTEN: u8 = 10;

/// The state of the socket at `tp`. Read anew wherever it is asked for: what the verifier knows of a number
/// that it has seen compared has it look at all that follows once for each outcome.
#[inline(always)]
pub(super) fn state(tp: *const c_void) -> u8 {
    read::field::<Direct, u8>(tp, offset!(skc_state))
}

/// How a socket stands at this pass.
pub(super) struct Now {
    pub(super) jiffies: u32,
    pub(super) has_socket: Hidden,
    pub(super) snd_una: u32,
    pub(super) snd_wl1: u32,
    pub(super) rcv_nxt: u32,
    /// Data last sent.
    pub(super) sent: u32,
    /// Data last received.
    pub(super) received: u32,
    /// Any segment received.
    pub(super) heard: u32,
    /// The peer's FIN takes a sequence number.
    pub(super) fin: u32,
    /// An accepted connection keeps its listener's backlog: the other end opened it.
    pub(super) backlog: u32,
    /// What the next pass compares with.
    pub(super) bytes_sent: u32,
    pub(super) segs_out: u32,
    pub(super) segs_in: u32,
    pub(super) write_seq: u32,
    pub(super) copied_seq: u32,
    /// Data received since the connection began, low half.
    bytes_received: u32,
}

impl Now {
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "compared with jiffies and counters cut the same way"
    )]
    pub(super) fn of(tp: *const c_void) -> Self {
        let rcv_nxt = read::field::<Direct, u32>(tp, offset!(rcv_nxt));
        let jiffies = emit::jiffies() as u32;
        let flags = read::field::<Direct, u32>(tp, offset!(skc_flags));
        let fin = u32::from(flags & sk_flag::DONE != 0);
        let copied_seq = read::field::<Direct, u32>(tp, offset!(copied_seq));
        let is_read_to_the_end = copied_seq == rcv_nxt;
        Self {
            jiffies,
            has_socket: Hidden::new(
                flags & sk_flag::DEAD == 0 && !read::pointer::<Direct>(tp, offset!(sk_socket)).is_null(),
                jiffies,
            ),
            snd_una: read::field::<Direct, u32>(tp, offset!(snd_una)),
            snd_wl1: read::field::<Direct, u32>(tp, offset!(snd_wl1)),
            rcv_nxt,
            sent: read::field::<Direct, u32>(tp, offset!(lsndtime)),
            received: read::field::<Direct, u32>(tp, offset!(icsk_lrcvtime)),
            heard: read::field::<Direct, u32>(tp, offset!(rcv_tstamp)),
            fin,
            backlog: read::field::<Direct, u32>(tp, offset!(sk_max_ack_backlog)),
            bytes_sent: read::field::<Direct, u64>(tp, offset!(bytes_sent)) as u32,
            segs_out: read::field::<Direct, u32>(tp, offset!(data_segs_out)),
            segs_in: read::field::<Direct, u32>(tp, offset!(data_segs_in)),
            write_seq: read::field::<Direct, u32>(tp, offset!(write_seq)),
            // To read the end of file counts as one more, and is no data.
            bytes_received: (read::field::<Direct, u64>(tp, offset!(bytes_received)) as u32)
                .wrapping_sub(fin),
            copied_seq: if is_read_to_the_end { rcv_nxt.wrapping_sub(fin) } else { copied_seq },
        }
    }

    /// Since then, jiffies.
    #[inline(always)]
    pub(super) fn since(&self, stamp: u32) -> u32 {
        let passed = self.jiffies.wrapping_sub(stamp);
        // Another CPU may be a tick ahead.
        if passed > u32::MAX - AHEAD { 0 } else { passed }
    }

    /// The last segment in either direction.
    #[inline(always)]
    pub(super) fn active(&self) -> u32 {
        later(later(self.sent, self.received), self.heard)
    }

    /// Data received and not read.
    #[inline(always)]
    pub(super) fn unread(&self) -> u32 {
        self.rcv_nxt.wrapping_sub(self.fin).wrapping_sub(self.copied_seq)
    }

    /// Whether the process has never read anything.
    #[inline(always)]
    fn is_untouched(&self) -> bool {
        self.unread() == self.bytes_received
    }

    /// Whether this end opened the connection. A listener may have a backlog of 0, but its connections' births are seen or it is old.
    #[inline(always)]
    pub(super) fn is_client(&self, past: &Past) -> bool {
        // SAFETY: points into `self`; volatile as in [`is_seen`].
        let backlog = unsafe { (&raw const self.backlog).read_volatile() };
        backlog == 0 && (past.count == 0 || past.transitions[0].from != LISTEN)
    }
}

/// The later of two moments, jiffies.
#[inline(always)]
pub(super) fn later(one: u32, other: u32) -> u32 {
    if one.wrapping_sub(other) < i32::MAX as u32 { one } else { other }
}

/// Finds the conditions that hold of a connection, for [`Watch::holds`], and notes what the next pass compares with.
#[inline(always)]
pub(super) fn note_connection(tp: *const c_void, past: &mut Past, control: &Control) {
    let now = Now::of(tp);
    trouble(tp, &now, &mut past.watch);
    if state(tp) == ESTABLISHED {
        if is_idle(tp, &now, control) {
            holds(&mut past.watch, condition::IDLE);
        }
        // When the idle time of one that had to send again ended is not known.
        if is_seen(&past.watch) && now.is_client(past) && past.watch.flags & watch_flag::RESTLESS == 0 {
            survivals::note(tp, &now, &past.watch, control);
        }
        if now.is_client(past) {
            requests::note_silence(&now, past, control);
        }
    }
    if now.has_socket.holds() {
        let watch = &mut past.watch;
        note_unread(tp, &now, watch, control);
        note_half_closed(tp, &now, watch, control);
        watch.flags |= watch_flag::SEEN;
    }
    remember(&now, &mut past.watch);
}

/// The conditions that hold, and those told before.
#[inline(always)]
pub(super) fn conditions(watch: &Watch) -> (u32, u32) {
    // SAFETY: point into `watch`; volatile so that what the compiler knows of them is forgotten as well.
    unsafe { ((&raw const watch.holds).read_volatile(), (&raw const watch.told).read_volatile()) }
}

/// Whether a pass has looked at it before. Read anew wherever it is asked for, and forgotten by the verifier in between, as below.
#[inline(always)]
pub(super) fn is_seen(watch: &Watch) -> bool {
    // SAFETY: points into `watch`.
    unsafe { (&raw const watch.flags).read_volatile() & watch_flag::SEEN != 0 }
}

/// Notes that a condition holds. In memory, for what the verifier knows of a number it follows through every branch: what it
/// forgets here keeps it from looking at the rest of the program once for each combination of conditions.
#[inline(always)]
pub(super) fn holds(watch: &mut Watch, condition: u32) {
    let place = &raw mut watch.holds;
    // SAFETY: points into `watch`.
    unsafe { place.write_volatile(place.read_volatile() | condition) };
}

#[inline(always)]
fn remember(now: &Now, watch: &mut Watch) {
    watch.passed = now.jiffies;
    watch.active = now.active();
    watch.bytes_sent = now.bytes_sent;
    watch.segs_out = now.segs_out;
    watch.segs_in = now.segs_in;
    watch.write_seq = now.write_seq;
    watch.copied_seq = now.copied_seq;
    watch.snd_una = now.snd_una;
}

/// A time-out, an unanswered probe, a window that had to be probed.
#[inline(always)]
fn trouble(tp: *const c_void, now: &Now, watch: &mut Watch) {
    let retransmits = read::field::<Direct, u8>(tp, offset!(icsk_retransmits));
    let probes_out = read::field::<Direct, u8>(tp, offset!(icsk_probes_out));
    let backoff = read::field::<Direct, u8>(tp, offset!(icsk_backoff));
    let is_waiting = now.write_seq != now.snd_una;
    let is_in_trouble = retransmits >= 1 || probes_out >= 2 || probes_out >= 1 && is_waiting;
    let is_window_closed = is_waiting
        && state(tp) != SYN_SENT
        && read::field::<Direct, u32>(tp, offset!(snd_wnd)) == 0
        && backoff >= 1;
    if is_in_trouble {
        holds(watch, condition::TROUBLE);
        let standing = u32::from_le_bytes([retransmits, probes_out, backoff, now.has_socket.holds().into()]);
        if watch.trouble != standing || watch.snd_una != now.snd_una {
            watch.trouble = standing;
            watch.flags |= watch_flag::RESTLESS;
        }
    }
    if is_window_closed {
        holds(watch, condition::WINDOW);
    }
}

/// No segment for long, and no keepalive probe that would come in time.
#[inline(always)]
pub(super) fn is_idle(tp: *const c_void, now: &Now, control: &Control) -> bool {
    if now.since(now.active()) < control.idle {
        return false;
    }
    if read::field::<Direct, u32>(tp, offset!(skc_flags)) & sk_flag::KEEPOPEN == 0 {
        return true;
    }
    let own = read::field::<Direct, u32>(tp, offset!(keepalive_time));
    let first_probe = if own == 0 {
        read::field::<Direct, u32>(
            read::pointer::<Direct>(tp, offset!(skc_net)),
            offset!(sysctl_keepalive_time),
        )
    } else {
        own
    };
    first_probe > control.guarded
}

/// Data that the process does not read. When it came is known to the pass that finds it first; of what was there before, only
/// that nothing was read since.
#[inline(always)]
fn note_unread(tp: *const c_void, now: &Now, watch: &mut Watch, control: &Control) {
    let is_open = state(tp) == ESTABLISHED || state(tp) == FIN_WAIT1 || state(tp) == FIN_WAIT2;
    // Below SO_RCVLOWAT, 1 unless a process set it, the process waits for more.
    let is_enough = now.unread() >= read::field::<Direct, u32>(tp, offset!(sk_rcvlowat));
    if now.unread() == 0 || !is_enough || !(is_open || state(tp) == CLOSE_WAIT) {
        watch.unread_since = 0;
        return;
    }
    // One that a pass found in the accept queue had nobody to read it.
    let is_new = watch.passed == 0 && now.is_untouched();
    let is_news = if is_seen(watch) { now.copied_seq != watch.copied_seq } else { !is_new };
    if is_news {
        watch.unread_since = now.jiffies;
    } else if watch.unread_since == 0 {
        watch.unread_since = now.received;
    }
    if is_open && now.since(watch.unread_since) >= control.unread {
        holds(watch, condition::UNREAD);
    }
}

/// The peer has closed and the process has not. What the process read before the first pass is not known where data is left.
#[inline(always)]
fn note_half_closed(tp: *const c_void, now: &Now, watch: &mut Watch, control: &Control) {
    if state(tp) != CLOSE_WAIT {
        watch.quiet_since = 0;
        return;
    }
    // What waits in the send buffer goes on moving after the process has written it.
    let has_moved = now.copied_seq != watch.copied_seq
        || now.write_seq != watch.write_seq
        || now.snd_una != watch.snd_una;
    let is_known = watch.passed == 0 && (now.unread() == 0 || now.is_untouched());
    let is_news = if is_seen(watch) { has_moved } else { !is_known };
    if is_news {
        watch.quiet_since = now.jiffies;
    } else if watch.quiet_since == 0 {
        watch.quiet_since = now.active();
    }
    if now.since(watch.quiet_since) >= control.close_wait {
        holds(watch, condition::CLOSE_WAIT);
    }
}

/// A listener's accept queue.
pub(super) struct Queue {
    pub(super) length: u32,
    pub(super) backlog: u32,
    /// When the oldest connection in it came, jiffies; 0 where it cannot be told.
    pub(super) oldest: u32,
}

impl Queue {
    /// Whether the socket at `tp` is a listener, and its queue can be told of.
    #[inline(always)]
    pub(super) fn is_of(tp: *const c_void) -> bool {
        state(tp) == LISTEN && offset!(sk_ack_backlog) != ABSENT && offset!(sk_max_ack_backlog) != ABSENT
    }

    /// The queue of the listener at `tp`; all zeros for a socket that is none.
    #[inline(always)]
    pub(super) fn of(tp: *const c_void) -> Self {
        if !Self::is_of(tp) {
            return Self { length: 0, backlog: 0, oldest: 0 };
        }
        // First come, first served: the head waits longest, and has sent nothing since it was made.
        let head = read::pointer::<Direct>(tp, offset!(accept_queue_head));
        let oldest = if offset!(request_sk) == ABSENT || offset!(lsndtime) == ABSENT || head.is_null() {
            0
        } else {
            let connection = read::pointer::<Probed>(head, offset!(request_sk));
            read::field::<Probed, u32>(connection, offset!(lsndtime))
        };
        Self {
            length: read::field::<Direct, u32>(tp, offset!(sk_ack_backlog)),
            backlog: read::field::<Direct, u32>(tp, offset!(sk_max_ack_backlog)),
            oldest,
        }
    }

    /// Notes whether it is full: `sk_acceptq_is_full`. A queue that is drained may be full at every look: it is told when
    /// a second look finds the same connection at its head, and then for as long as it is full.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "jiffies are compared by their low half")]
    pub(super) fn note(&self, watch: &mut Watch) {
        let is_full = self.length > self.backlog;
        let was_full_of = if is_full { self.oldest.max(1) } else { 0 };
        let is_same = core::mem::replace(&mut watch.active, was_full_of) == was_full_of;
        if !is_same {
            watch.passed = emit::jiffies() as u32;
        }
        let is_stuck = watch.told & condition::QUEUE != 0 || is_same;
        if is_full && is_stuck {
            holds(watch, condition::QUEUE);
        }
    }
}
