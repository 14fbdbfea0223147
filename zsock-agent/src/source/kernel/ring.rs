//! Reads the ring buffer that the programs write to.
//!
//! Nothing here sees to it that the reader is woken: the programs force or suppress each wake-up themselves, and the reader polls besides.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, ensure};
use thiserror::Error;

use shared::Shared;

mod shared;
#[cfg(test)]
mod tests;

/// A record begins with its length, in eight bytes, and ends where the next multiple of that is.
const HEADER_BYTES: usize = 8;

/// Set in the length of a record that is still being written.
const BUSY: u32 = 1 << 31;

/// Set in the length of a record that its writer threw away.
const DISCARDED: u32 = 1 << 30;

/// What was read is given back in parts of this size: each time the processors that write have to fetch the position anew.
const GIVE_BACK_BYTES: usize = 4_096;

/// The reader's end of a ring buffer. There must be one only.
pub(super) struct Ring {
    shared: Shared,
    /// How far it was read. Positions only grow, and a place in the buffer is the low bits of one.
    position: usize,
    /// How far the kernel knows that it was.
    given_back: usize,
    /// How far the kernel had written when that was last asked.
    written: usize,
    /// How far it was read when that was last compared.
    compared: usize,
    /// A record that was in two pieces.
    joined: Vec<u8>,
}

/// Why nothing more can be read.
#[derive(Debug, Error)]
pub(super) enum Broken {
    /// It holds what the kernel does not write.
    #[error(
        "at {position} of the ring buffer is a record of {length} bytes, written is all before {written}; please report this"
    )]
    Record {
        /// Where the record begins.
        position: usize,
        /// Its length.
        length: usize,
        /// How far the kernel has written.
        written: usize,
    },
    /// The next piece of it cannot be mapped.
    #[error("map a piece of the ring buffer: {0}")]
    Map(#[from] io::Error),
}

/// What is at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Nothing that can be read yet.
    Nothing,
    /// A record that was thrown away, and where the next one is.
    Discarded(usize),
    /// A record of so many bytes, and where the next one is.
    Record(usize, usize),
}

impl Ring {
    /// Maps the ring buffer of `size_bytes` behind `fd`.
    ///
    /// # Errors
    /// When it cannot be mapped, or is not of that size.
    pub(super) fn map(fd: OwnedFd, size_bytes: usize) -> Result<Self> {
        let shared = Shared::map(fd, size_bytes).context("map the ring buffer")?;
        let position = shared.consumed().load(Ordering::Relaxed);
        ensure!(position.is_multiple_of(HEADER_BYTES), "{position} is no position in a ring buffer");
        Ok(Self {
            shared,
            position,
            given_back: position,
            written: position,
            compared: position,
            joined: Vec::new(),
        })
    }

    /// Hands every record that is there to `each`, until one begins `most_bytes` after the first or later.
    ///
    /// # Errors
    /// At a record that cannot be or cannot be mapped. It is not passed over.
    pub(super) fn read(&mut self, most_bytes: usize, mut each: impl FnMut(&[u8])) -> Result<(), Broken> {
        let first = self.position;
        let mut was_one = Ok(true);
        while let Ok(true) = was_one
            && self.position.wrapping_sub(first) < most_bytes
        {
            was_one = self.take(&mut each);
            if self.position.wrapping_sub(self.given_back) >= GIVE_BACK_BYTES {
                self.give_back();
            }
        }
        self.give_back();
        was_one.map(|_| ())
    }

    /// How far it was read.
    pub(super) const fn position(&self) -> usize {
        self.position
    }

    /// Unmaps all but the piece that is being read, where less than one was read since the last time: while records come fast, to map it anew
    /// would cost more than it saves.
    pub(super) fn unmap_spare(&mut self) {
        let compared = std::mem::replace(&mut self.compared, self.position);
        if self.position.wrapping_sub(compared) < self.shared.piece_bytes {
            self.shared.unmap_but(self.position);
        }
    }

    /// Hands the next record to `each`, or passes one over that was thrown away. Returns whether there was one.
    fn take(&mut self, each: &mut impl FnMut(&[u8])) -> Result<bool, Broken> {
        match self.find()? {
            Found::Nothing => return Ok(false),
            Found::Discarded(next) => self.position = next,
            Found::Record(length, next) => {
                each(self.record(length)?);
                self.position = next;
            }
        }
        Ok(true)
    }

    fn find(&mut self) -> Result<Found, Broken> {
        if self.position == self.written {
            self.written = self.shared.produced();
            if self.position == self.written {
                return Ok(Found::Nothing);
            }
        }
        let header = self.shared.header(self.position)?;
        found(header, self.position, self.written, self.shared.size_bytes)
    }

    /// The record of `length` bytes that was found at the position.
    fn record(&mut self, length: usize) -> io::Result<&[u8]> {
        let begin = self.position.wrapping_add(HEADER_BYTES);
        if self.shared.bytes(begin, length)?.len() == length {
            return self.shared.bytes(begin, length);
        }
        self.joined.clear();
        while self.joined.len() < length {
            let done = self.joined.len();
            self.joined.extend_from_slice(self.shared.bytes(begin.wrapping_add(done), length - done)?);
        }
        Ok(&self.joined)
    }

    /// Lets the kernel write where was read.
    fn give_back(&mut self) {
        // All was read before the kernel sees it.
        self.shared.consumed().store(self.position, Ordering::Release);
        self.given_back = self.position;
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.shared.fd().as_raw_fd()
    }
}

/// What the `header` at `position` says, in a ring buffer of `size_bytes` that is written up to `written`.
fn found(header: u32, position: usize, written: usize, size_bytes: usize) -> Result<Found, Broken> {
    if header & BUSY != 0 {
        return Ok(Found::Nothing);
    }
    let length = (header & !DISCARDED) as usize;
    let whole_bytes = (HEADER_BYTES + length).next_multiple_of(HEADER_BYTES);
    let ready_bytes = written.wrapping_sub(position);
    if whole_bytes > ready_bytes || ready_bytes > size_bytes {
        return Err(Broken::Record { position, length, written });
    }
    let next = position.wrapping_add(whole_bytes);
    Ok(if header & DISCARDED == 0 { Found::Record(length, next) } else { Found::Discarded(next) })
}
