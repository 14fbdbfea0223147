//! What was read of a run, to know it again: somebody may give a file and a copy of it, or a directory and a segment in it.

use crate::record::{Body, Record};

/// Known at once; a recording has as many segments as these only where it is no recording.
const PARTS: usize = 4096;

/// The parts of a run: each segment and each stream begins with its `start`.
#[derive(Debug, Default)]
pub(super) struct Parts {
    all: Vec<Part>,
    /// The one that is read.
    current: Option<usize>,
    /// Its `start` was read last.
    is_new: bool,
    /// So many of its records come once more.
    known: u64,
}

/// What comes after a `start`.
#[derive(Debug)]
struct Part {
    first: Record,
    /// Read so far.
    records: u64,
}

impl Parts {
    /// Takes note of a record, and tells whether it was read before.
    pub(super) fn have(&mut self, record: &Record) -> bool {
        if matches!(record.body, Body::Start(_)) {
            (self.is_new, self.current) = (true, None);
            return false;
        }
        // What zsock did without stands at the head of each segment, too, and tells none from another.
        if self.is_new && matches!(record.body, Body::Shed(_)) {
            return false;
        }
        if std::mem::take(&mut self.is_new) && self.all.len() < PARTS {
            let again = self.all.iter().position(|part| part.first == *record);
            self.known = again.map_or(0, |part| self.all[part].records);
            self.current = again.or(Some(self.all.len()));
            if again.is_none() {
                self.all.push(Part { first: record.clone(), records: 0 });
            }
        }
        if self.known > 0 {
            self.known -= 1;
            return true;
        }
        if let Some(part) = self.current {
            self.all[part].records += 1;
        }
        false
    }
}
