//! Clearing, copying and writing by words. Of a plain assignment the compiler makes a call of `memset` or `memmove`, which
//! on this target go byte by byte.

use core::arch::asm;
use core::ptr;

const WORD_BYTES: usize = size_of::<u64>();

/// Fills `into` with zeros.
#[inline(always)]
pub(crate) fn clear<T: Copy>(into: &mut T) {
    fill(into, 0);
}

#[inline(always)]
fn fill<T: Copy>(into: &mut T, word: u64) {
    const { assert!(is_words::<T>(), "not a whole number of words") };
    let into = ptr::from_mut(into).cast::<u64>();
    for i in 0..size_of::<T>() / WORD_BYTES {
        // SAFETY: inside of `into`, whose type is made of words and may hold any, being integers.
        unsafe { into.add(i).write_volatile(word) };
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
        hidden(self.value, self.by) != 0
    }
}

/// Conditions, a bit each, of which the verifier never knows how they came out. What it knows of a number that one branch has compared
/// and another compares again has it look at all that follows once for each outcome.
#[derive(Clone, Copy)]
pub(crate) struct Facts(u64);

impl Facts {
    /// These bits, hidden by any number that the verifier does not know.
    #[inline(always)]
    pub(crate) fn new(bits: u64, by: u64) -> Self {
        Self(hidden(bits, by))
    }

    /// Whether the condition of this bit holds.
    #[inline(always)]
    pub(crate) fn has(self, bit: u64) -> bool {
        let mut value = bit;
        // SAFETY: works on registers alone. The compiler would keep what it gives for the next to ask, and the verifier knows that.
        unsafe { asm!("{value} &= {facts}", value = inout(reg) value, facts = in(reg) self.0) };
        value != 0
    }
}

/// `value`, of which the verifier knows nothing from here on. It does not know `by` either.
#[inline(always)]
fn hidden(mut value: u64, by: u64) -> u64 {
    // SAFETY: works on registers alone, and leaves the value as it was.
    unsafe { asm!("{value} ^= {by}", "{value} ^= {by}", value = inout(reg) value, by = in(reg) by) };
    value
}

/// Fills `into` with zeros of which the verifier does not know that they are. It tells memory that holds zeros from memory that may hold
/// something else, and looks at all that follows once for either.
#[inline(always)]
pub(crate) fn blank<T: Copy>(into: &mut T, by: u64) {
    fill(into, hidden(0, by));
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
