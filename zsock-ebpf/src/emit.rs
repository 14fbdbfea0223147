//! Handing records to user space: reserve, fill in place, submit. What finds no room is counted.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns, bpf_ringbuf_query};
use aya_ebpf::maps::ring_buf::RingBufEntry;
use aya_log_ebpf::{debug, warn};
use zsock_common::wire::{Head, Kind, Process, SocketRecord};

use crate::maps::{self, EVENTS, WOKEN_NS};
use crate::read::{self, Read};
use crate::rodata::setting;
use crate::words;

/// At most this often trouble wakes the reader, nanoseconds. It polls every 40 ms besides.
const WAKE_INTERVAL_NS: u64 = 10_000_000;

/// Something that happened to a socket.
pub(crate) struct Event<'a> {
    /// What.
    pub(crate) kind: Kind,
    /// The socket's cookie.
    pub(crate) cookie: u64,
    /// When, CLOCK_MONOTONIC nanoseconds.
    pub(crate) time_ns: u64,
    /// What the kind says.
    pub(crate) detail: u32,
    /// What the kind says.
    pub(crate) detail2: u32,
    /// `lsndtime` as the timer fired that made the event; 0 for none.
    pub(crate) sent_before: u32,
    /// `flag` bits.
    pub(crate) flags: u16,
    /// The process that made it in its own name.
    pub(crate) actor: Option<&'a Process>,
}

impl Event<'_> {
    /// An event of now.
    #[inline(always)]
    pub(crate) fn now(kind: Kind, cookie: u64) -> Self {
        Self { kind, cookie, time_ns: now_ns(), detail: 0, detail2: 0, sent_before: 0, flags: 0, actor: None }
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing and can always be called.
    unsafe { bpf_ktime_get_ns() }
}

/// The kernel's jiffies.
#[inline(always)]
pub(crate) fn jiffies() -> u64 {
    // SAFETY: the helper takes nothing and can always be called.
    unsafe { bpf_jiffies64() }
}

/// Sends `event` of the `struct tcp_sock` at `sk`, which is no trouble by itself.
#[inline(always)]
pub(crate) fn socket_event<R: Read>(ctx: &impl EbpfContext, sk: *const c_void, event: &Event) {
    if let Some(entry) = filled::<R>(ctx, sk, event) {
        submit(entry);
    }
}

/// Sends trouble of the `struct tcp_sock` at `sk`.
#[inline(always)]
pub(crate) fn trouble<R: Read>(ctx: &impl EbpfContext, sk: *const c_void, event: &Event) {
    if let Some(entry) = filled::<R>(ctx, sk, event) {
        submit_trouble(entry, event.time_ns);
    }
}

#[inline(always)]
fn filled<R: Read>(
    ctx: &impl EbpfContext,
    sk: *const c_void,
    event: &Event,
) -> Option<RingBufEntry<SocketRecord>> {
    let mut entry = reserve::<SocketRecord>(ctx, event.kind)?;
    // SAFETY: the slot is ours until it is submitted, and every field is written below.
    fill::<R>(unsafe { &mut *entry.as_mut_ptr() }, sk, event);
    Some(entry)
}

/// Sends that a socket is gone. How it stood nobody asks any more, and where thousands go at once a short record leaves room for others.
#[inline(always)]
pub(crate) fn destroyed(ctx: &impl EbpfContext, cookie: u64) {
    let time_ns = now_ns();
    let Some(mut entry) = reserve::<Head>(ctx, Kind::Destroyed) else { return };
    // SAFETY: the slot is ours until it is submitted, and every field is written.
    head(unsafe { &mut *entry.as_mut_ptr() }, Kind::Destroyed, cookie, time_ns, 0);
    submit(entry);
}

/// Fills in an event of the `struct tcp_sock` at `sk`.
#[inline(always)]
pub(crate) fn fill<R: Read>(record: &mut SocketRecord, sk: *const c_void, event: &Event) {
    head(&mut record.head, event.kind, event.cookie, event.time_ns, event.flags);
    read::endpoints::<R>(&mut record.endpoints, sk);
    read::tcp_facts::<R>(&mut record.tcp, sk);
    record.tcp.sent_before = event.sent_before;
    record.detail = event.detail;
    record.detail2 = event.detail2;
    match event.actor {
        Some(actor) => words::copy(&mut record.actor, actor),
        None => words::clear(&mut record.actor),
    }
}

/// Room for one record; `None`, counted, where there is none.
#[inline(always)]
pub(crate) fn reserve<T: 'static>(ctx: &impl EbpfContext, kind: Kind) -> Option<RingBufEntry<T>> {
    let entry = EVENTS.reserve_untyped::<T>(0);
    if entry.is_none() {
        maps::count(|counters| &mut counters.lost);
        warn!(ctx, "no room for a record of kind {}", kind as u16);
    }
    entry
}

/// Fills in the beginning of a record.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "records carry the low half of jiffies")]
pub(crate) fn head(into: &mut Head, kind: Kind, cookie: u64, time_ns: u64, flags: u16) {
    into.time_ns = time_ns;
    into.cookie = cookie;
    into.kind = kind as u16;
    into.flags = flags;
    into.jiffies = jiffies() as u32;
}

/// Hands a record over, and wakes the reader where that is worth its price: where the buffer has just filled by another mark.
#[inline(always)]
pub(crate) fn submit<T>(entry: RingBufEntry<T>) {
    hand_over(entry, has_filled::<T>());
}

/// The same with a record of trouble, which wakes the reader as well where the last wake-up is a while ago.
#[inline(always)]
pub(crate) fn submit_trouble<T>(entry: RingBufEntry<T>, time_ns: u64) {
    let is_due = has_filled::<T>()
        || time_ns.wrapping_sub(WOKEN_NS.load()) >= WAKE_INTERVAL_NS && {
            WOKEN_NS.store(time_ns);
            true
        };
    hand_over(entry, is_due);
}

#[inline(always)]
fn hand_over<T>(entry: RingBufEntry<T>, is_due: bool) {
    maps::count(|counters| &mut counters.produced);
    entry.submit(u64::from(if is_due { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP }));
}

/// Whether the buffer has filled by another mark.
#[inline(always)]
fn has_filled<T>() -> bool {
    let map = (&raw const EVENTS).cast_mut().cast::<c_void>();
    // SAFETY: `EVENTS` is a ring buffer.
    let available = unsafe { bpf_ringbuf_query(map, u64::from(BPF_RB_AVAIL_DATA)) };
    let before = available.wrapping_sub(size_of::<T>() as u64 + 8);
    let mark = !u64::from(setting!(wake_bytes)).wrapping_sub(1);
    (available ^ before) & mark != 0
}

/// Counts an event of a socket that has no cookie.
#[inline(always)]
pub(crate) fn unnamed(ctx: &impl EbpfContext) {
    maps::count(|counters| &mut counters.unnamed);
    debug!(ctx, "event of a socket without a cookie");
}
