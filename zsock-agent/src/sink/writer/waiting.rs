//! Records that wait to be written, in the buffers in which they came: to copy them takes as long as to make them.

use std::collections::VecDeque;
use std::mem;

use super::{BATCH_BYTES, PIECE_BYTES};

/// So many buffers are kept to be used again, none of them larger than a busy trace needs.
const SPARE: usize = 4;
const LARGEST_SPARE_BYTES: usize = 2 * BATCH_BYTES;

/// Records that wait, whole ones in each buffer.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    buffers: VecDeque<Vec<u8>>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
}

impl Waiting {
    /// How long they are together.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes in all that stands in a buffer, which is empty then.
    pub(super) fn take(&mut self, records: &mut Vec<u8>) {
        if self.has_room_for(records.len()) {
            self.add(records);
            records.clear();
        } else if !records.is_empty() {
            self.bytes += records.len();
            self.buffers.push_back(mem::replace(records, self.spare.pop().unwrap_or_default()));
        }
    }

    /// Takes in a copy.
    pub(super) fn add(&mut self, records: &[u8]) {
        self.bytes += records.len();
        if !self.has_room_for(records.len()) {
            self.buffers.push_back(self.spare.pop().unwrap_or_default());
        }
        if let Some(last) = self.buffers.back_mut() {
            last.extend_from_slice(records);
        }
    }

    /// Puts those that have waited longest in the place of `records`: `wanted_bytes` or a little more, where there are as many.
    pub(super) fn give(&mut self, wanted_bytes: usize, records: &mut Vec<u8>) {
        let mut done_with = mem::take(records);
        while let Some(next) = self.buffers.pop_front() {
            self.bytes -= next.len();
            if records.is_empty() {
                self.keep(mem::take(&mut done_with));
                *records = next;
            } else {
                records.extend_from_slice(&next);
                self.keep(next);
            }
            if records.len() >= wanted_bytes {
                break;
            }
        }
        self.keep(done_with);
    }

    /// Whether the last buffer has room for so much more: small ones are joined, so that there are few.
    fn has_room_for(&self, bytes: usize) -> bool {
        self.buffers.back().is_some_and(|last| last.len() + bytes <= PIECE_BYTES)
    }

    fn keep(&mut self, mut done_with: Vec<u8>) {
        if (1..=LARGEST_SPARE_BYTES).contains(&done_with.capacity()) && self.spare.len() < SPARE {
            done_with.clear();
            self.spare.push(done_with);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_taken_in_comes_out_whole_and_in_its_order(
            lengths in prop::collection::vec((0..3 * PIECE_BYTES / 2, any::<bool>()), 0..12),
            wanted_bytes in 1..3 * PIECE_BYTES,
            gives_after in 0_usize..12,
        ) {
            let (mut waiting, mut records) = (Waiting::default(), Vec::new());
            let (mut taken, mut given) = (Vec::new(), Vec::new());
            for (at, (length, is_copied)) in lengths.into_iter().enumerate() {
                let mut bytes = vec![b'a' + u8::try_from(at).unwrap(); length];
                taken.extend_from_slice(&bytes);
                if is_copied {
                    waiting.add(&bytes);
                } else {
                    waiting.take(&mut bytes);
                    prop_assert!(bytes.is_empty());
                }
                if at == gives_after {
                    waiting.give(wanted_bytes, &mut records);
                    given.extend_from_slice(&records);
                }
            }
            while waiting.bytes() > 0 {
                let before = waiting.bytes();
                waiting.give(wanted_bytes, &mut records);
                prop_assert!(records.len() >= before.min(wanted_bytes));
                given.extend_from_slice(&records);
            }
            waiting.give(wanted_bytes, &mut records);
            prop_assert!(records.is_empty() && waiting.spare.len() <= SPARE);
            prop_assert!(given == taken);
        }
    }

    #[test]
    fn a_large_buffer_goes_through_as_it_is_and_is_used_again() {
        let (mut waiting, mut records) = (Waiting::default(), Vec::new());
        let mut batch = vec![1; BATCH_BYTES];
        let place = batch.as_ptr();
        waiting.take(&mut batch);
        waiting.give(1, &mut records);
        assert_eq!((records.as_ptr(), records.len()), (place, BATCH_BYTES));
        waiting.take(&mut vec![2; BATCH_BYTES]);
        waiting.give(1, &mut records);
        let mut batch = vec![3; BATCH_BYTES];
        waiting.take(&mut batch);
        assert_eq!((batch.as_ptr(), batch.len()), (place, 0));
    }
}
