//! What a socket remembers while it is healthy, and how it tells it with its first sign of trouble.

use aya_ebpf::EbpfContext;
use zsock_common::wire::{Kind, MAX_TRANSITIONS, Past, PastRecord, past_flag, watch_flag};

use crate::emit;
use crate::maps::{self, TROUBLED};
use crate::read::Sock;
use crate::rodata::setting;
use crate::{by_address, slots, words};

const CLOSE: u8 = 7;

/// The memory of `sk`, if it has any.
#[inline(always)]
pub(crate) fn of(sk: Sock) -> Option<&'static mut Past> {
    match slots::find(sk) {
        Some(past) => Some(past),
        None => maps::storage(sk),
    }
}

/// The memory of `sk`, made if it has none; `None`, counted, where the kernel has no room for it.
#[inline(always)]
pub(crate) fn of_or_new(sk: Sock) -> Option<&'static mut Past> {
    match slots::find(sk) {
        Some(past) => Some(past),
        None => storage_or_new(sk, false),
    }
}

/// The memory of `sk`, whose state changes, made if it has none; `None`, counted, where the kernel has no room for it. That of a socket
/// which is opened or was accepted is new, but for one that was opened before or heard of during its handshake.
#[inline(always)]
pub(crate) fn of_changed(
    sk: Sock,
    is_opened: impl FnOnce() -> bool,
    is_accepted: impl Fn() -> bool,
) -> Option<&'static mut Past> {
    let is_by_address = setting!(by_address) != 0;
    match of(sk) {
        // The end of a former socket at the same address went by unseen.
        Some(past) if is_by_address && is_accepted() && past.flags & past_flag::ENDED != 0 => release(sk),
        Some(past) => return Some(past),
        None => {}
    }
    if is_opened() || is_accepted() {
        // The timers know a socket by its cookie alone, and the kernel makes one only when asked.
        let cookie = if is_by_address { by_address::new_cookie() } else { sk.cookie() };
        if let Some(past) = slots::claim(sk, cookie) {
            return Some(past);
        }
    }
    storage_or_new(sk, false)
}

/// Forgets `sk`, which is gone.
#[inline(always)]
pub(crate) fn release(sk: Sock) {
    slots::release(sk);
    if setting!(by_address) != 0 {
        by_address::release(sk);
    } else {
        maps::storage_ends(sk);
    }
}

/// How many sockets may have storage before a healthy one gets none: the last eighth is for those in trouble.
#[inline(always)]
pub(crate) fn for_healthy() -> u32 {
    let all = setting!(stored_sockets);
    all - all / 8
}

/// Storage for `sk`.
#[inline(always)]
fn storage_or_new(sk: Sock, in_trouble: bool) -> Option<&'static mut Past> {
    let past = maps::storage_or_new(sk, if in_trouble { setting!(stored_sockets) } else { for_healthy() });
    if past.is_none() {
        maps::count(|counters| &mut counters.forgotten);
    }
    past
}

/// Begins a connection, or a listener's life.
#[inline(always)]
pub(crate) fn restart(past: &mut Past, time_ns: u64) {
    past.birth_ns = time_ns;
    past.count = 0;
    past.flags &= !past_flag::ENDED;
    words::clear(&mut past.watch);
    words::clear(&mut past.closer);
}

/// Keeps a state change.
#[inline(always)]
pub(crate) fn remember(past: &mut Past, time_ns: u64, from: u8, to: u8) {
    let count = past.count as usize;
    if count < MAX_TRANSITIONS {
        let states = u64::from(from) | u64::from(to) << 8;
        words::write(&mut past.transitions[count & (MAX_TRANSITIONS - 1)], [time_ns, states]);
    }
    past.count += 1;
    if to == CLOSE {
        past.flags |= past_flag::ENDED;
    }
}

/// When the last of the kept state changes was; 0 where there is none.
#[inline(always)]
pub(crate) fn last_ns(past: &Past) -> u64 {
    let count = past.count as usize;
    if count == 0 || count > MAX_TRANSITIONS {
        return 0;
    }
    past.transitions[(count - 1) & (MAX_TRANSITIONS - 1)].time_ns
}

/// Makes the events of `sk` go out from here on, its past first, and has the next pass look at it.
#[inline(always)]
pub(crate) fn announce(ctx: &impl EbpfContext, sk: Sock, cookie: u64, time_ns: u64) {
    let past = match slots::find(sk) {
        Some(past) => Some(past),
        None => storage_or_new(sk, true),
    };
    if let Some(past) = past {
        past.watch.flags |= watch_flag::RESTLESS;
        announce_past(ctx, past, cookie, time_ns);
    }
}

/// The same where the socket's memory is at hand.
#[inline(always)]
pub(crate) fn announce_past(ctx: &impl EbpfContext, past: &mut Past, cookie: u64, time_ns: u64) {
    if past.flags & past_flag::ANNOUNCED != 0 {
        return;
    }
    let Some(mut entry) = emit::reserve::<PastRecord>(ctx, Kind::Past) else { return };
    past.flags |= past_flag::ANNOUNCED;
    // SAFETY: the slot is ours until it is submitted, and every field is written below.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    emit::head(&mut record.head, Kind::Past, cookie, time_ns, 0);
    words::copy(&mut record.past, past);
    emit::submit(entry);
    if TROUBLED.get_ptr(cookie).is_none() {
        // A full map evicts its oldest entry: a hook without access to that socket's memory asks the agent then.
        maps::include(&TROUBLED, cookie);
    }
}

/// Whether the events of this socket go out.
#[inline(always)]
pub(crate) fn is_announced(past: &Past) -> bool {
    // SAFETY: points into `past`; volatile so that it is read anew wherever it is asked for, as the verifier would remember the answer.
    unsafe { (&raw const past.flags).read_volatile() & past_flag::ANNOUNCED != 0 }
}
