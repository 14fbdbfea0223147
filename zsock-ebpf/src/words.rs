//! Clearing, copying and writing by words. Of a plain assignment the compiler makes a call of `memset` or `memmove`, which
//! on this target go byte by byte.

use core::arch::asm;
use core::ptr;

const WORD_BYTES: usize = size_of::<u64>();

/// Fills `into` with zeros.
#[inline(always)]
pub(crate) fn clear<T: Copy>(into: &mut T) {
    const { assert!(is_words::<T>(), "not a whole number of words") };
    let into = ptr::from_mut(into).cast::<u64>();
    for i in 0..size_of::<T>() / WORD_BYTES {
        // SAFETY: inside of `into`, whose type is made of words and may hold zeros, being integers.
        unsafe { into.add(i).write_volatile(0) };
    }
}

/// Copies `from` to `into`.
#[inline(always)]
pub(crate) fn copy<T: Copy>(into: &mut T, from: &T) {
    const { assert!(is_words::<T>(), "not a whole number of words") };
    let (into, from) = (ptr::from_mut(into).cast::<u64>(), ptr::from_ref(from).cast::<u64>());
    for i in 0..size_of::<T>() / WORD_BYTES {
        // SAFETY: inside of both, whose type is made of words.
        unsafe { into.add(i).write_volatile(from.add(i).read_volatile()) };
    }
}

/// A condition of which the verifier never knows how it came out. What it knows of a number that one branch has compared and another
/// compares again has it look at all that follows once for each outcome.
#[derive(Clone, Copy)]
pub(crate) struct Hidden {
    value: u64,
    /// Any number that the verifier does not know.
    by: u64,
}

impl Hidden {
    /// `condition`, hidden by a number that the verifier does not know.
    #[inline(always)]
    pub(crate) fn new(condition: bool, by: u32) -> Self {
        Self { value: u64::from(condition), by: u64::from(by) }
    }

    /// Whether it holds.
    #[inline(always)]
    pub(crate) fn holds(self) -> bool {
        let mut value = self.value;
        // SAFETY: works on registers alone, and leaves the value as it was.
        unsafe { asm!("{value} ^= {by}", "{value} ^= {by}", value = inout(reg) value, by = in(reg) self.by) };
        value != 0
    }
}

/// Makes `into` of these words.
#[inline(always)]
pub(crate) fn write<T: Copy, const N: usize>(into: &mut T, words: [u64; N]) {
    const { assert!(is_words::<T>() && size_of::<T>() == N * WORD_BYTES, "another number of words") };
    let into = ptr::from_mut(into).cast::<u64>();
    for (i, word) in words.into_iter().enumerate() {
        // SAFETY: inside of `into`, whose type is made of words and may hold any, being integers.
        unsafe { into.add(i).write_volatile(word) };
    }
}

const fn is_words<T>() -> bool {
    size_of::<T>().is_multiple_of(WORD_BYTES) && align_of::<T>() == WORD_BYTES
}
