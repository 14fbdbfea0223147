//! Values of arrays, by index.
//!
//! An index has half a word, and the verifier takes a word of the stack for one that is still needed as long as only half of it was written
//! anew. What was left in the other half by one branch and not by another would have it look at all that follows twice: here an
//! index fills its word.

#[cfg(target_endian = "big")]
compile_error!("the first half of a word is its lower one here");

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::btf_maps::{Array, PerCpuArray};
use aya_ebpf::helpers::generated::bpf_map_lookup_elem;

/// A map whose keys are indices.
pub(crate) trait Indexed {
    /// What its values are.
    type Value;
}

impl<T, const COUNT: usize> Indexed for Array<T, COUNT> {
    type Value = T;
}

impl<T, const COUNT: usize> Indexed for PerCpuArray<T, COUNT> {
    type Value = T;
}

/// The value at `index`.
#[inline(always)]
pub(crate) fn at<M: Indexed>(array: &'static M, index: u64) -> Option<*mut M::Value> {
    let array = ptr::from_ref(array).cast_mut().cast::<c_void>();
    // SAFETY: `array` is a map, and the first half of `index`, for the kernel is little-endian, is its key.
    let value = unsafe { bpf_map_lookup_elem(array, (&raw const index).cast()) };
    (!value.is_null()).then_some(value.cast())
}
