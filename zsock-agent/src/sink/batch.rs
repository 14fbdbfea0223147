//! Records on their way out, as they will be written: gathered, so that the output thread is handed many at once.

use crate::time::Time;

/// Rendered records, one after the other.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) records: Vec<Rendered>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rendered {
    pub(super) length: usize,
    pub(super) is_verdict: bool,
    pub(super) at: Time,
}

impl Batch {
    /// Adds what `write` appends: the record of a moment, line end included.
    #[inline]
    pub fn add(&mut self, at: Time, is_verdict: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.bytes.len();
        write(&mut self.bytes);
        self.records.push(Rendered { length: self.bytes.len() - before, is_verdict, at });
    }

    /// All that was written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Forgets what is in it and keeps the room that it took.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
    }

    /// Each record with its bytes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Rendered, &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.records.iter().map(move |record| {
            let (bytes, after) = rest.split_at(record.length);
            rest = after;
            (*record, bytes)
        })
    }
}
