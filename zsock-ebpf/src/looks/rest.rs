//! Whether a network namespace is at rest: as long as nobody in it sends or receives a segment, no pass would find anything there until some
//! tick. To walk it takes the time that it takes to look through the one table in which the kernel has the sockets of all namespaces.

use core::ffi::c_void;

use zsock_common::offsets::ABSENT;
use zsock_common::wire::{Control, Rest, walk, watch_flag};

use crate::looks::pass::{self, ESTABLISHED, LISTEN, Now, later, state};
use crate::looks::quiet;
use crate::read::{self, Direct, Sock};
use crate::rodata::offset;
use crate::{maps, memory};

/// Whether a connection that idled is guarded by keepalive now, which shows in no segment, is looked for in one pass of these, and so is whether
/// a request waits for too long where answers are slow.
const SELDOM: u32 = 4;

/// Notes that the namespace is not at rest.
#[inline(always)]
pub(super) fn ends(control: &Control) {
    if control.walk != walk::BUSY
        && let Some(rest) = maps::rest()
    {
        rest.restless = 1;
    }
}

/// Notes how long `sk`, of which this pass had nothing to tell, leaves the namespace at rest.
#[inline(always)]
pub(super) fn note(sk: Sock, tp: *const c_void, cookie: u64, control: &Control) {
    if control.walk == walk::BUSY {
        return;
    }
    let Some(rest) = maps::rest() else { return };
    if rest.restless != 0 {
        return;
    }
    if state(tp) == LISTEN {
        if offset!(sk_ack_backlog) == ABSENT || read::field::<Direct, u32>(tp, offset!(sk_ack_backlog)) != 0 {
            rest.restless = 1;
        }
        return;
    }
    let now = Now::of(tp);
    // Of one that was told not to be read it is told, too, when it is, also where that comes to pass just now.
    let is_stalled = maps::STALLED.get_ptr(cookie).is_some();
    if state(tp) != ESTABLISHED || is_under_way(tp, &now) || is_stalled {
        rest.restless = 1;
        return;
    }
    let idle = now.since(now.active());
    if idle >= control.idle && !pass::is_idle(tp, &now, control) {
        // Keepalive guards it, and may be switched off.
        rest.restless = 1;
        return;
    }
    lasts(rest, idle, control.idle, control);
    if memory::of(sk).is_some_and(|past| past.watch.flags & watch_flag::WAITING != 0) {
        lasts(rest, now.since(later(now.received, now.heard)), control.silence, control);
    }
}

/// Whether data or a probe is on its way, or data waits for the process.
#[inline(always)]
fn is_under_way(tp: *const c_void, now: &Now) -> bool {
    now.write_seq != now.snd_una
        || now.unread() != 0
        || read::field::<Direct, u32>(tp, offset!(sk_receive_queue_length)) != 0
        || read::field::<Direct, u8>(tp, offset!(icsk_probes_out)) != 0
}

/// The namespace is at rest until the socket, now for `waited` in some condition, is so for `enough`. Then every pass has to look at it
/// for a while: the record of the first may find no room.
#[inline(always)]
fn lasts(rest: &mut Rest, waited: u32, enough: u32, control: &Control) {
    let interval = quiet::interval(control);
    let ticks = if waited < enough {
        enough - waited
    } else if waited - enough < interval.saturating_mul(quiet::CHANCES) {
        0
    } else {
        // Half a pass less: the last one is not to come a moment too early.
        interval.saturating_mul(SELDOM) - interval / 2
    };
    rest.ticks = rest.ticks.min(ticks);
}
