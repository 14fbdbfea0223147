//! Sockets of kernels that let a program neither ask a socket for its cookie nor give it storage (before 5.12). There a socket is known
//! by its address, from its first event to its end, under a number that stands for the cookie.
//!
//! What has no slot lodges in a map. Where that is full, a socket has no number, and nothing is told of it but that it is so.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::btf_maps::{HashMap, PerCpuArray};
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_probe_read_kernel};
use aya_ebpf::macros::btf_map;
use zsock_common::wire::Past;

use crate::arrays;
use crate::emit;
use crate::maps::{self, WOKEN_NS};
use crate::memory;
use crate::read::{self, Direct, Probed, Sock};
use crate::rodata::{offset, setting};
use crate::slots;

/// A socket without a slot.
#[repr(C)]
#[derive(Clone, Copy)]
struct Lodger {
    /// What stands for its cookie.
    cookie: u64,
    past: Past,
}

/// By address, as [`slots::address`] counts it. The agent makes room where it is needed.
#[btf_map]
static LODGERS: HashMap<u64, Lodger, 64> = HashMap::new();

/// What a new lodger begins with, all zeroes for good: too large for a program's stack.
#[btf_map]
static BLANK: PerCpuArray<Lodger, 1> = PerCpuArray::new();

/// The number of `sk`; 0 where it has none.
#[inline(always)]
pub(crate) fn cookie(sk: Sock) -> u64 {
    cookie_at(slots::address(sk))
}

/// The number of `sk`, which gets one if it has none; 0 where there is no room.
#[inline(always)]
pub(crate) fn cookie_or_new(sk: Sock) -> u64 {
    let address = slots::address(sk);
    match cookie_at(address) {
        0 => lodge(address, setting!(stored_sockets)).map_or(0, |lodger| lodger.cookie),
        cookie => cookie,
    }
}

/// The number of the socket at `sk`, whose type the verifier does not know; 0 where it has none.
#[inline(always)]
pub(crate) fn cookie_behind(sk: *const c_void) -> u64 {
    cookie_at(address_behind(sk))
}

/// A TCP socket whose type the verifier does not know.
#[derive(Clone, Copy)]
pub(crate) struct Unnamed(*const c_void);

impl Unnamed {
    /// The socket behind an open file; `None` for a file that is no TCP socket.
    #[inline(always)]
    pub(crate) fn of_file(file: *const c_void) -> Option<Self> {
        let sk = read::socket_of_file::<Direct>(file);
        let is_tcp = read::field::<Probed, u16>(sk, offset!(sk_protocol)) == read::IPPROTO_TCP;
        (is_tcp && read::is_stream::<Probed>(sk)).then_some(Self(sk))
    }

    /// Its address.
    #[inline(always)]
    pub(crate) fn as_ptr(self) -> *const c_void {
        self.0
    }

    /// Its memory, if it has any.
    #[inline(always)]
    pub(crate) fn memory(self) -> Option<&'static mut Past> {
        let address = address_behind(self.0);
        match slots::past_at(address) {
            Some(past) => Some(past),
            None => lodger(address).map(|lodger| &mut lodger.past),
        }
    }

    /// The same, made if it has none.
    #[inline(always)]
    pub(crate) fn memory_or_new(self) -> Option<&'static mut Past> {
        match self.memory() {
            Some(past) => Some(past),
            None => lodge(address_behind(self.0), memory::for_healthy()).map(|lodger| &mut lodger.past),
        }
    }
}

/// The memory of `sk`, if it lodges here.
#[inline(always)]
pub(crate) fn find(sk: Sock) -> Option<&'static mut Past> {
    lodger(slots::address(sk)).map(|lodger| &mut lodger.past)
}

/// The same, made if it has none and fewer than `at_most` others have some.
#[inline(always)]
pub(crate) fn find_or_new(sk: Sock, at_most: u32) -> Option<&'static mut Past> {
    lodge(slots::address(sk), at_most).map(|lodger| &mut lodger.past)
}

/// Forgets `sk`, whose address may be another socket's soon.
#[inline(always)]
pub(crate) fn release(sk: Sock) {
    if LODGERS.remove(slots::address(sk)).is_ok() {
        maps::stored_one_less();
    }
}

/// A number that no other socket has had: the time, which passes between two calls on one CPU, and the CPU.
#[inline(always)]
pub(crate) fn new_cookie() -> u64 {
    // SAFETY: the helper takes nothing and can always be called.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    emit::now_ns() | u64::from(cpu) << 56
}

#[inline(always)]
fn cookie_at(address: u64) -> u64 {
    match slots::cookie_at(address) {
        Some(cookie) => cookie,
        None => lodger(address).map_or(0, |lodger| lodger.cookie),
    }
}

/// What lodges at `address`, made if nothing does.
#[inline(always)]
fn lodge(address: u64, at_most: u32) -> Option<&'static mut Lodger> {
    if let Some(lodger) = lodger(address) {
        return Some(lodger);
    }
    if !maps::has_room(at_most) {
        return None;
    }
    // SAFETY: nobody writes there.
    let blank = arrays::at(&BLANK, 0).map(|blank| unsafe { &*blank })?;
    let is_ours = LODGERS.insert(address, blank, u64::from(BPF_NOEXIST)).is_ok();
    let lodger = lodger(address)?;
    // Where another CPU was first, its number counts; until that is there the socket has none.
    if is_ours {
        maps::stored_one_more();
        lodger.cookie = new_cookie();
    }
    (lodger.cookie != 0).then_some(lodger)
}

#[inline(always)]
fn lodger(address: u64) -> Option<&'static mut Lodger> {
    // SAFETY: a value of the map, which hooks see one at a time but for counts and flags; all of it is integers.
    LODGERS.get_ptr_mut(address).map(|lodger| unsafe { &mut *lodger })
}

/// What [`slots::address`] gives for the same socket. Of an address that is a number already no pointer can be subtracted.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a pointer has eight bytes")]
fn address_behind(sk: *const c_void) -> u64 {
    let origin = &raw const WOKEN_NS;
    let mut from = MaybeUninit::<u64>::zeroed();
    // SAFETY: copies a pointer from this program's stack to this program's stack.
    let from = unsafe {
        bpf_probe_read_kernel(from.as_mut_ptr().cast(), size_of::<u64>() as u32, (&raw const origin).cast());
        from.assume_init()
    };
    (sk as u64).wrapping_sub(from)
}
