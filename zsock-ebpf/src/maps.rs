//! Every map, and the few ways in which they are used.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr;

use aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE;
use aya_ebpf::btf_maps::{Array, LruHashMap, PerCpuArray, RingBuf, SkStorage};
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::btf_map;
use zsock_common::wire::{self, Control, Counters, Past, Remote, Rest, States};

use crate::read::Sock;
use crate::rodata::setting;
use crate::{arrays, by_address};

/// Records to user space; the agent sets its size.
#[btf_map]
pub(crate) static EVENTS: RingBuf<u64, 8_388_608> = RingBuf::new();

/// Memory of the sockets that have no slot.
#[btf_map]
static PASTS: SkStorage<Past> = SkStorage::new();

/// Sockets that have shown trouble, by cookie: for hooks that cannot reach [`PASTS`]. The value is the number of keepalive
/// probes that went unanswered.
#[btf_map]
pub(crate) static TROUBLED: LruHashMap<u64, u32, 65536> = LruHashMap::new();

/// How long connections to a destination have idled and lived on, jiffies.
#[btf_map]
pub(crate) static SURVIVED: LruHashMap<Remote, u32, 16384> = LruHashMap::new();

/// Sockets of which it was told that their process does not read.
#[btf_map]
pub(crate) static STALLED: LruHashMap<u64, u32, 16384> = LruHashMap::new();

/// Cookies of the sockets whose holders are wanted.
#[btf_map]
pub(crate) static WANTED: LruHashMap<u64, u32, 16384> = LruHashMap::new();

/// What cannot be handed over is counted.
#[btf_map]
static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();

/// How many sockets are in which state, and came to it.
#[btf_map]
static STATES: PerCpuArray<States, 1> = PerCpuArray::new();

/// What the timer that runs on this CPU is about.
#[btf_map]
static TIMERS: PerCpuArray<TimerMark, 1> = PerCpuArray::new();

/// What the agent wants now.
#[btf_map]
static CONTROL: Array<Control, 1> = Array::new();

/// Whether what is walked is at rest.
#[btf_map]
static REST: Array<Rest, 1> = Array::new();

/// When the reader was last woken for trouble, CLOCK_MONOTONIC nanoseconds.
pub(crate) static WOKEN_NS: Shared = Shared::new(0);

/// Addresses of `tcp_keepalive_timer` and `tcp_write_timer`, learnt from a socket's own timers; 0 until then, and for good
/// where the timer tracepoints are not needed.
pub(crate) static KEEPALIVE_FUNCTION: Shared = Shared::new(0);
/// See [`KEEPALIVE_FUNCTION`].
pub(crate) static WRITE_FUNCTION: Shared = Shared::new(0);

/// A number in `.bss` that all CPUs see. Two that write at once leave one of their values, which is all that its users need.
pub(crate) struct Shared(UnsafeCell<u64>);

// SAFETY: only ever read and written whole, by single volatile instructions.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Its value.
    #[inline(always)]
    pub(crate) fn load(&self) -> u64 {
        // SAFETY: points into a static.
        unsafe { self.0.get().read_volatile() }
    }

    /// Adds to it in one step; `u64::MAX` takes one away.
    #[inline(always)]
    fn add(&self, more: u64) {
        add(self.0.get(), more);
    }

    /// Gives it a value.
    #[inline(always)]
    pub(crate) fn store(&self, value: u64) {
        // SAFETY: points into a static.
        unsafe { self.0.get().write_volatile(value) }
    }
}

/// A timer's socket as it was when the timer fired.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct TimerMark {
    /// Address of the `struct sock`; 0 while no timer of interest runs.
    pub(crate) sk: u64,
    /// Address of the `timer_list`.
    pub(crate) timer: u64,
    /// A `TimerKind`.
    pub(crate) kind: u32,
    /// `lsndtime`; a segment sent again overwrites it.
    pub(crate) lsndtime: u32,
    /// `icsk_probes_out`.
    pub(crate) probes_out: u8,
    /// `icsk_retransmits`.
    pub(crate) retransmits: u8,
    /// `icsk_pending`.
    pub(crate) pending: u8,
    /// The tracepoint of a retransmission was passed since.
    pub(crate) retransmitted: u8,
}

/// The value of a key that says it all. Not on the stack, for what is said in [`arrays`].
static NOTHING: u32 = 0;

/// Puts a socket into a set, by its cookie.
#[inline(always)]
pub(crate) fn include<const COUNT: usize>(set: &LruHashMap<u64, u32, COUNT>, cookie: u64) {
    let nothing: &u32 = &NOTHING;
    let _ = set.insert(cookie, nothing, 0);
}

/// How many sockets have memory of their own, beside the slots.
static STORED: Shared = Shared::new(0);

/// The storage of `sk`, made if it has none; `None` where `at_most` so many others have some or the kernel has no memory for it.
#[inline(always)]
pub(crate) fn storage_or_new(sk: Sock, at_most: u32) -> Option<&'static mut Past> {
    if setting!(by_address) != 0 {
        return by_address::find_or_new(sk, at_most);
    }
    if let Some(past) = storage_with(sk, 0) {
        return Some(past);
    }
    if !has_room(at_most) {
        return None;
    }
    let made = storage_with(sk, u64::from(BPF_SK_STORAGE_GET_F_CREATE));
    if made.is_some() {
        stored_one_more();
    }
    made
}

/// Notes that `sk` is gone, and its storage with it.
#[inline(always)]
pub(crate) fn storage_ends(sk: Sock) {
    if STORED.load() != 0 && storage_with(sk, 0).is_some() {
        stored_one_less();
    }
}

/// Whether fewer sockets than `at_most` have memory of their own.
#[inline(always)]
pub(crate) fn has_room(at_most: u32) -> bool {
    STORED.load() < u64::from(at_most)
}

/// Notes that one more socket has memory of its own.
#[inline(always)]
pub(crate) fn stored_one_more() {
    STORED.add(1);
}

/// Notes that a socket's own memory is gone.
#[inline(always)]
pub(crate) fn stored_one_less() {
    STORED.add(u64::MAX);
}

/// The storage of `sk`, if it has one.
#[inline(always)]
pub(crate) fn storage(sk: Sock) -> Option<&'static mut Past> {
    if setting!(by_address) != 0 {
        return by_address::find(sk);
    }
    if STORED.load() == 0 {
        return None;
    }
    storage_with(sk, 0)
}

#[inline(always)]
fn storage_with(sk: Sock, flags: u64) -> Option<&'static mut Past> {
    let map = (&raw const PASTS).cast_mut().cast::<c_void>();
    // SAFETY: the map holds `Past` values and `sk` is a socket that the verifier knows; the memory lives as long as the socket.
    unsafe { bpf_sk_storage_get(map, sk.as_ptr(), ptr::null_mut(), flags).cast::<Past>().as_mut() }
}

/// Counts one more in the counter of this CPU's that `pick` names.
#[inline(always)]
pub(crate) fn count(pick: impl FnOnce(&mut Counters) -> &mut u64) {
    if let Some(counters) = arrays::at(&COUNTERS, 0) {
        // SAFETY: a slot of this CPU's own. A program that interrupts this one counts as well, so it is done in one step.
        add(pick(unsafe { &mut *counters }), 1);
    }
}

/// Counts one more socket of this CPU's in what `pick` names, by its state, where anybody asks for that.
#[inline(always)]
pub(crate) fn count_state(state: u8, pick: impl FnOnce(&mut States) -> &mut [u64; wire::STATES]) {
    if setting!(count_states) == 0 {
        return;
    }
    if let Some(states) = arrays::at(&STATES, 0) {
        // Older verifiers follow a mask, and lose a comparison on the way from one register to another.
        let place = usize::from(state) & (wire::STATES - 1);
        // SAFETY: a slot of this CPU's own, as above.
        add(&raw mut pick(unsafe { &mut *states })[place], 1);
    }
}

/// Adds to a number in one step that nothing can come between. It does not tell the sum: a kernel before 5.12 refuses a program in which
/// any instruction does, even one that never runs.
#[inline(always)]
pub(crate) fn add(place: *mut u64, more: u64) {
    // SAFETY: works on `place` alone, a number in a map. The language's own way is not there for this target.
    unsafe { asm!("lock *(u64 *)({place} + 0) += {more}", place = in(reg) place, more = in(reg) more) };
}

/// This CPU's timer mark.
#[inline(always)]
pub(crate) fn timer_mark() -> Option<&'static mut TimerMark> {
    // SAFETY: a slot of this CPU's own, used between a timer's entry and exit, which do not nest.
    arrays::at(&TIMERS, 0).map(|mark| unsafe { &mut *mark })
}

/// What the agent wants now.
#[inline(always)]
pub(crate) fn control() -> Option<&'static Control> {
    // SAFETY: the agent alone writes to it, whole numbers.
    arrays::at(&CONTROL, 0).map(|control| unsafe { &*control })
}

/// Whether what is walked is at rest.
#[inline(always)]
pub(crate) fn rest() -> Option<&'static mut Rest> {
    // SAFETY: one walk at a time writes to it.
    arrays::at(&REST, 0).map(|rest| unsafe { &mut *rest })
}

/// Set once a timer has put a socket into [`TROUBLED`] whose memory it could not reach.
static UNANNOUNCED: Shared = Shared::new(0);

/// Notes that [`TROUBLED`] holds sockets that are not announced.
#[inline(always)]
pub(crate) fn set_unannounced() {
    UNANNOUNCED.store(1);
}

/// Whether [`TROUBLED`] may hold sockets that are not announced.
#[inline(always)]
pub(crate) fn has_unannounced() -> bool {
    UNANNOUNCED.load() != 0
}
