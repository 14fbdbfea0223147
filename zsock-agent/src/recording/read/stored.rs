//! The bytes of a recording as they are stored, of which the last ones can be looked at again.

use std::fmt;
use std::io::{self, Read};

use memchr::memmem;

/// Read at once.
const CHUNK: usize = 128 << 10;

/// So many bytes that were consumed can be returned to.
const RETAINED: usize = 1 << 20;

/// Stored bytes, some of them read ahead.
pub(super) struct Stored {
    input: Box<dyn Read + Send>,
    /// Where the input puts what it gives.
    chunk: Box<[u8]>,
    /// What was consumed and can be returned to, then what is still to be consumed.
    bytes: Vec<u8>,
    /// The first byte still to be consumed, in `bytes`.
    next: usize,
    /// Where `bytes` begins in the file.
    begins_at: u64,
}

impl fmt::Debug for Stored {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Stored").field("at", &self.at()).finish_non_exhaustive()
    }
}

impl Stored {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Self {
        Self { input, chunk: vec![0; CHUNK].into(), bytes: Vec::new(), next: 0, begins_at: 0 }
    }

    /// Where the first byte still to be consumed is in the file.
    pub(super) fn at(&self) -> u64 {
        self.begins_at + self.next as u64
    }

    /// How many bytes were read from the file.
    pub(super) fn read_bytes(&self) -> u64 {
        self.begins_at + self.bytes.len() as u64
    }

    /// Those read ahead and still to be consumed.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.bytes[self.next..]
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.next += count;
    }

    /// Reads on; `false` at the end of the file.
    pub(super) fn read_ahead(&mut self) -> io::Result<bool> {
        if self.next > 2 * RETAINED {
            self.drop_first(self.next - RETAINED);
        }
        let count = read(&mut self.input, &mut self.chunk)?;
        self.bytes.extend_from_slice(&self.chunk[..count]);
        Ok(count > 0)
    }

    /// Reads ahead until there are so many bytes or the file ends.
    pub(super) fn read_ahead_to(&mut self, count: usize) -> io::Result<()> {
        while self.ahead().len() < count && self.read_ahead()? {}
        Ok(())
    }

    /// Consumes bytes into `place`; zero at the end of the file.
    pub(super) fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
        let ahead = self.ahead();
        if ahead.is_empty() {
            let count = read(&mut self.input, place)?;
            self.begins_at += (self.bytes.len() + count) as u64;
            self.bytes.clear();
            self.next = 0;
            return Ok(count);
        }
        let count = ahead.len().min(place.len());
        place[..count].copy_from_slice(&ahead[..count]);
        self.next += count;
        Ok(count)
    }

    /// Goes to the next `needle` at or after `from`, or after what is not retained, or else to the end; tells whether it is there.
    pub(super) fn seek(&mut self, needle: &[u8], from: u64) -> io::Result<bool> {
        self.next =
            usize::try_from(from.saturating_sub(self.begins_at)).unwrap_or(usize::MAX).min(self.bytes.len());
        loop {
            if let Some(found) = memmem::find(self.ahead(), needle) {
                self.next += found;
                return Ok(true);
            }
            // It may have begun.
            self.next = self.next.max((self.bytes.len() + 1).saturating_sub(needle.len()));
            if !self.read_ahead()? {
                self.next = self.bytes.len();
                return Ok(false);
            }
        }
    }

    /// Nothing before the first byte still to be consumed is returned to.
    pub(super) fn forget(&mut self) {
        if self.next > RETAINED || self.next == self.bytes.len() {
            self.drop_first(self.next);
        }
    }

    fn drop_first(&mut self, count: usize) {
        self.bytes.drain(..count);
        self.next -= count;
        self.begins_at += count as u64;
    }
}

fn read(input: &mut impl Read, place: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(place) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
