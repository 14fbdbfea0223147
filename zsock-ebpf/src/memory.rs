//! What a socket remembers while it is healthy, and how it tells it with its first sign of trouble.

use aya_ebpf::EbpfContext;
use zsock_common::wire::{Kind, MAX_TRANSITIONS, Past, PastRecord, Transition, past_flag};

use crate::emit;
use crate::maps::{self, TROUBLED};
use crate::read::Sock;

/// Keeps a state change.
#[inline(always)]
pub(crate) fn remember(past: &mut Past, time_ns: u64, from: u8, to: u8) {
    let count = past.count as usize;
    if count < MAX_TRANSITIONS {
        past.transitions[count & (MAX_TRANSITIONS - 1)] = Transition { time_ns, from, to, reserved: [0; 6] };
    }
    past.count += 1;
}

/// Makes the events of `sk` go out from here on, its past first. Does nothing for one that is announced already.
#[inline(always)]
pub(crate) fn announce(ctx: &impl EbpfContext, sk: Sock, cookie: u64) {
    let Some(past) = maps::past_or_new(sk) else {
        maps::count(|counters| counters.forgotten += 1);
        return;
    };
    announce_past(ctx, past, cookie);
}

/// The same where the socket's memory is at hand.
#[inline(always)]
pub(crate) fn announce_past(ctx: &impl EbpfContext, past: &mut Past, cookie: u64) {
    if past.flags & past_flag::ANNOUNCED != 0 {
        return;
    }
    let Some(mut entry) = emit::reserve::<PastRecord>(ctx, Kind::Past) else { return };
    past.flags |= past_flag::ANNOUNCED;
    // SAFETY: the slot is ours until it is submitted, and every field is written below.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    emit::head(&mut record.head, Kind::Past, cookie, emit::now_ns(), 0);
    record.past = *past;
    emit::submit(entry, Kind::Past);
    if TROUBLED.get_ptr(cookie).is_none() {
        // A full map evicts its oldest entry: a hook without access to that socket's memory asks the agent then.
        let _ = TROUBLED.insert(cookie, 0, 0);
    }
}

/// Whether the events of this socket go out.
#[inline(always)]
pub(crate) fn is_announced(past: &Past) -> bool {
    past.flags & past_flag::ANNOUNCED != 0
}
