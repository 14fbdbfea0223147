//! Memory for sockets, made once and for all. To give a socket storage of its own (`bpf_sk_storage_get` with `F_CREATE`)
//! took 650 ns where an empty program takes 55, whatever the size; a slot takes 10.
//!
//! A socket's slot follows from its address, so neighbours in the kernel's memory do not meet, and an address that is used
//! again finds memory that is still in the cache. Of two sockets that meet the first has the slot, the other gets storage
//! of its own. A slot belongs to the socket whose cookie it bears, and no cookie is given twice.

use core::arch::asm;

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use zsock_common::wire::Past;

use crate::maps::WOKEN_NS;
use crate::read::Sock;
use crate::words;

/// Takes 9.5 MiB. Sockets beyond it cost more, and lose nothing.
const COUNT: u32 = 32_768;
/// A `struct tcp_sock` has more than 2 KiB on every kernel, so no two sockets share such a piece of address.
const ADDRESS_SHIFT: u32 = 11;

/// One slot.
#[repr(C)]
struct Slot {
    /// Cookie of the socket that has it; 0 for none.
    cookie: u64,
    /// That socket's address, counted from [`WOKEN_NS`]; 0 for none.
    address: u64,
    past: Past,
}

#[btf_map]
static SLOTS: Array<Slot, { COUNT as usize }> = Array::new();

/// The memory of `sk` where it has a slot.
#[inline(always)]
pub(crate) fn find(sk: Sock) -> Option<&'static mut Past> {
    let slot = of(address(sk))?;
    let cookie = sk.known_cookie();
    (cookie != 0 && slot.cookie == cookie).then_some(&mut slot.past)
}

/// Gives `sk`, just born, a slot; `None` where another socket has it.
#[inline(always)]
pub(crate) fn claim(sk: Sock, cookie: u64) -> Option<&'static mut Past> {
    let address = address(sk);
    let slot = of(address)?;
    let owner = slot.cookie;
    if owner == cookie {
        return Some(&mut slot.past);
    }
    // The end of a former socket at the same address went by unseen.
    let is_free = owner == 0 || slot.address == address;
    if !is_free || !exchange(&mut slot.cookie, owner, cookie) {
        return None;
    }
    slot.address = address;
    let past = &mut slot.past;
    words::clear(past);
    Some(past)
}

/// Takes the slot back that [`find`] found for `sk`.
#[inline(always)]
pub(crate) fn release(sk: Sock) {
    if let Some(slot) = of(address(sk))
        && slot.cookie == sk.known_cookie()
    {
        words::clear(&mut slot.address);
        words::clear(&mut slot.cookie);
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the number of slots has 15 bits")]
fn of(address: u64) -> Option<&'static mut Slot> {
    let index = ((address >> ADDRESS_SHIFT) & u64::from(COUNT - 1)) as u32;
    // SAFETY: only the socket whose cookie it bears uses what a slot holds, and hooks see a socket one at a time but for the
    // counts, the flags and the opener that a look finds, of which one may be lost; all of it is integers.
    SLOTS.get_ptr_mut(index).map(|slot| unsafe { &mut *slot })
}

/// The address of `sk` as a number. The verifier lets no program calculate with a pointer to a socket, but subtract another pointer.
#[inline(always)]
fn address(sk: Sock) -> u64 {
    (sk.as_ptr() as u64).wrapping_sub((&raw const WOKEN_NS) as u64)
}

/// Replaces `before` by `after` in one step that no other CPU can come between; `false` where something else is there by now.
#[inline(always)]
fn exchange(place: &mut u64, before: u64, after: u64) -> bool {
    let found: u64;
    // SAFETY: works on `place` alone. The language's own way is not there for this target, whose oldest processors lack it.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({place} + 0, r0, {after})",
            place = in(reg) place,
            after = in(reg) after,
            inout("r0") before => found,
        );
    }
    found == before
}
