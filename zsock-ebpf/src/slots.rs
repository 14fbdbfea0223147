//! Memory for sockets, made once and for all. To give a socket storage of its own (`bpf_sk_storage_get` with `F_CREATE`)
//! took 650 ns where an empty program takes 55, whatever the size; a slot takes 10.
//!
//! A socket's slot follows from its address, so neighbours in the kernel's memory do not meet, and an address that is used
//! again finds memory that is still in the cache. Of two sockets that meet the first has the slot, the other gets storage
//! of its own. A slot belongs to the socket whose cookie it bears, and no cookie is given twice.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use zsock_common::wire::Past;

use crate::maps::{self, WOKEN_NS};
use crate::read::Sock;
use crate::rodata::setting;
use crate::{arrays, words};

/// Takes 9.75 MiB. Sockets beyond it cost more, and lose nothing.
const COUNT: u32 = 32_768;
/// A `struct tcp_sock` has more than 2 KiB on every kernel, so no two sockets share such a piece of address.
const ADDRESS_SHIFT: u32 = 11;

/// One slot.
#[repr(C)]
struct Slot {
    /// Cookie of the socket that has it; 0 for none.
    cookie: u64,
    /// That socket's address, as [`address`] counts it; 0 for none.
    address: u64,
    /// How many sockets have it or are about to claim it.
    claims: u64,
    past: Past,
}

#[btf_map]
static SLOTS: Array<Slot, { COUNT as usize }> = Array::new();

/// The memory of `sk` where it has a slot.
#[inline(always)]
pub(crate) fn find(sk: Sock) -> Option<&'static mut Past> {
    let address = address(sk);
    let slot = at(address)?;
    is_of(slot, sk, address).then_some(&mut slot.past)
}

/// The cookie of the socket at `address`, as [`address`] counts it, where that has a slot.
#[inline(always)]
pub(crate) fn cookie_at(address: u64) -> Option<u64> {
    let slot = at(address)?;
    is_at(slot, address).then_some(slot.cookie)
}

/// The memory of the socket at `address`, as [`address`] counts it, where that has a slot.
#[inline(always)]
pub(crate) fn past_at(address: u64) -> Option<&'static mut Past> {
    let slot = at(address)?;
    is_at(slot, address).then_some(&mut slot.past)
}

/// Gives `sk`, just born, a slot; `None` where another socket has it.
#[inline(always)]
pub(crate) fn claim(sk: Sock, cookie: u64) -> Option<&'static mut Past> {
    let address = address(sk);
    let slot = at(address)?;
    if slot.cookie == cookie {
        return Some(&mut slot.past);
    }
    // The end of a former socket at the same address may have gone by unseen.
    let is_ours = slot.address == address || load(&slot.cookie) == 0 && is_first(slot);
    if is_ours {
        slot.cookie = cookie;
        slot.address = address;
        words::clear(&mut slot.past);
    }
    is_ours.then_some(&mut slot.past)
}

/// Claims a free slot. Each of those that claim at once sees the others: at most one of them is the first.
#[inline(always)]
fn is_first(slot: &mut Slot) -> bool {
    maps::add(&raw mut slot.claims, 1);
    let is_first = load(&slot.claims) == 1;
    if !is_first {
        maps::add(&raw mut slot.claims, u64::MAX);
    }
    is_first
}

/// Takes the slot back that [`find`] found for `sk`.
#[inline(always)]
pub(crate) fn release(sk: Sock) {
    let address = address(sk);
    if let Some(slot) = at(address)
        && is_of(slot, sk, address)
    {
        words::clear(&mut slot.address);
        words::clear(&mut slot.cookie);
        maps::add(&raw mut slot.claims, u64::MAX);
    }
}

/// The address of `sk` as a number, counted from [`WOKEN_NS`]. The verifier lets no program calculate with a pointer to a socket,
/// but subtract another pointer.
#[inline(always)]
pub(crate) fn address(sk: Sock) -> u64 {
    (sk.as_ptr() as u64).wrapping_sub((&raw const WOKEN_NS) as u64)
}

#[inline(always)]
fn is_of(slot: &Slot, sk: Sock, address: u64) -> bool {
    if setting!(by_address) != 0 {
        return is_at(slot, address);
    }
    let cookie = sk.known_cookie();
    cookie != 0 && slot.cookie == cookie
}

#[inline(always)]
fn is_at(slot: &Slot, address: u64) -> bool {
    slot.address == address && slot.cookie != 0
}

#[inline(always)]
fn at(address: u64) -> Option<&'static mut Slot> {
    let index = (address >> ADDRESS_SHIFT) & u64::from(COUNT - 1);
    // SAFETY: only the socket whose cookie it bears uses what a slot holds, and hooks see a socket one at a time but for the
    // counts, the flags and the opener that a look finds, of which one may be lost; all of it is integers.
    arrays::at(&SLOTS, index).map(|slot| unsafe { &mut *slot })
}

/// What is there now, whatever the compiler has read before.
#[inline(always)]
fn load(place: &u64) -> u64 {
    // SAFETY: a reference can be read.
    unsafe { core::ptr::from_ref(place).read_volatile() }
}
