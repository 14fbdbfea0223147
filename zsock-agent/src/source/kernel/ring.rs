//! Reads the ring buffer that the programs write to. Aya's reader maps the records twice, one copy behind the other, so that none is ever in
//! two pieces, and both copies count as resident memory. Here they are mapped once, and a record that goes on at the beginning is put
//! together.
//!
//! The programs say themselves when they wake the reader, so that nothing here has to see to it that the kernel does.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

use anyhow::{Context as _, Result, ensure};
use memmap2::{MmapOptions, MmapRaw};
use nix::unistd::{SysconfVar, sysconf};
use thiserror::Error;

#[cfg(test)]
mod tests;

/// A record begins with its length, eight bytes long, and ends where the next multiple of that is.
const HEADER_BYTES: usize = 8;

/// Set in the length of a record that is still being written.
const BUSY: u32 = 1 << 31;

/// Set in the length of a record that its writer threw away.
const DISCARDED: u32 = 1 << 30;

/// What was read is given back in pieces of at least this size: whenever it is, the processors that write must fetch the position anew.
const GIVE_BACK_BYTES: usize = 4_096;

/// The reader's end of a ring buffer. There must be one only.
pub(super) struct Ring {
    fd: OwnedFd,
    shared: Shared,
    size_bytes: usize,
    /// How far it was read. Positions only grow, and a place in the buffer is the low bits of one.
    position: usize,
    /// How far the kernel had written when that was last asked.
    written: usize,
    /// A record that was in two pieces.
    joined: Vec<u8>,
}

/// What cannot be in a ring buffer that only the kernel writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "at {position} of the ring buffer is a record of {length} bytes, of {written} that are written; please report this"
)]
pub(super) struct Broken {
    position: usize,
    length: usize,
    written: usize,
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
        let shared = Shared::map(&fd, size_bytes).context("map the ring buffer")?;
        let position = shared.consumed().load(Ordering::Relaxed);
        ensure!(position.is_multiple_of(HEADER_BYTES), "{position} is no position in a ring buffer");
        Ok(Self { fd, shared, size_bytes, position, written: position, joined: Vec::new() })
    }

    /// Hands every record that is there to `each`, until the next one begins `most_bytes` after the first.
    ///
    /// # Errors
    /// At a record that cannot be. No other is read from then on.
    pub(super) fn read(&mut self, most_bytes: usize, mut each: impl FnMut(&[u8])) -> Result<(), Broken> {
        let (first, mut given_back) = (self.position, self.position);
        let done = loop {
            if self.position.wrapping_sub(first) >= most_bytes {
                break Ok(());
            }
            match self.find() {
                Ok(Found::Nothing) => break Ok(()),
                Ok(Found::Discarded(next)) => self.position = next,
                Ok(Found::Record(length, next)) => {
                    each(self.record(length));
                    self.position = next;
                }
                Err(broken) => break Err(broken),
            }
            if self.position.wrapping_sub(given_back) >= GIVE_BACK_BYTES {
                given_back = self.give_back();
            }
        };
        self.give_back();
        done
    }

    fn find(&mut self) -> Result<Found, Broken> {
        if self.position == self.written {
            self.written = self.shared.produced();
        }
        find(self.position, self.written, self.size_bytes, |at| self.shared.header(at))
    }

    /// The record of `length` bytes at the position, as [`find`] found it.
    fn record(&mut self, length: usize) -> &[u8] {
        let at = (self.position.wrapping_add(HEADER_BYTES)) & (self.size_bytes - 1);
        let until_end = self.size_bytes - at;
        if length <= until_end {
            return self.shared.bytes(at, length);
        }
        self.joined.clear();
        self.joined.extend_from_slice(self.shared.bytes(at, until_end));
        self.joined.extend_from_slice(self.shared.bytes(0, length - until_end));
        &self.joined
    }

    /// Lets the kernel write where was read. Returns how far that is.
    fn give_back(&self) -> usize {
        // All was read before the kernel sees it.
        self.shared.consumed().store(self.position, Ordering::Release);
        self.position
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// What is at `position` of a ring buffer that is written up to `written`, by the first word of the header `at` a place in it.
fn find(
    position: usize,
    written: usize,
    size_bytes: usize,
    header: impl FnOnce(usize) -> u32,
) -> Result<Found, Broken> {
    let ready_bytes = written.wrapping_sub(position);
    if ready_bytes == 0 {
        return Ok(Found::Nothing);
    }
    let header = header(position & (size_bytes - 1));
    if header & BUSY != 0 {
        return Ok(Found::Nothing);
    }
    let length = (header & !DISCARDED) as usize;
    let whole_bytes = (HEADER_BYTES + length).next_multiple_of(HEADER_BYTES);
    if whole_bytes > ready_bytes || ready_bytes > size_bytes {
        return Err(Broken { position, length, written });
    }
    let next = position.wrapping_add(whole_bytes);
    Ok(if header & DISCARDED == 0 { Found::Record(length, next) } else { Found::Discarded(next) })
}

/// The memory that the kernel shares: a page with how far was read, a page with how far is written, and the records.
struct Shared {
    consumed: MmapRaw,
    produced: MmapRaw,
    page_bytes: usize,
    size_bytes: usize,
}

impl Shared {
    fn map(fd: &OwnedFd, size_bytes: usize) -> Result<Self> {
        let page_bytes = usize::try_from(sysconf(SysconfVar::PAGE_SIZE)?.context("the size of a page")?)?;
        ensure!(
            size_bytes.is_power_of_two() && size_bytes.is_multiple_of(page_bytes),
            "it cannot be of {size_bytes} bytes with pages of {page_bytes}"
        );
        let consumed = MmapOptions::new().len(page_bytes).map_raw(fd)?;
        let produced = MmapOptions::new()
            .offset(page_bytes as u64)
            .len(page_bytes + size_bytes)
            .map_raw_read_only(fd)?;
        Ok(Self { consumed, produced, page_bytes, size_bytes })
    }

    /// How far was read.
    fn consumed(&self) -> &AtomicUsize {
        // SAFETY: a page is mapped, and all who share it take its first word for a number that changes at once.
        unsafe { AtomicUsize::from_ptr(self.consumed.as_mut_ptr().cast()) }
    }

    /// How far is written, and with it the headers until there.
    fn produced(&self) -> usize {
        // SAFETY: a page is mapped, and its first word changes at once; one that is only mapped to be read can be loaded so.
        let produced = unsafe { &*self.produced.as_ptr().cast::<AtomicUsize>() }.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        produced
    }

    /// The first word of the header `at` a place, and with it what was written before that word was.
    fn header(&self, at: usize) -> u32 {
        assert!(at < self.size_bytes && at.is_multiple_of(HEADER_BYTES), "no header can be at {at}");
        // SAFETY: as above, and headers lie there from end to end, as was just checked.
        let header = unsafe { &*self.produced.as_ptr().add(self.page_bytes + at).cast::<AtomicU32>() }
            .load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        header
    }

    /// Bytes of a record that is written and was not given back: the kernel leaves them alone.
    fn bytes(&self, at: usize, length: usize) -> &[u8] {
        assert!(
            at <= self.size_bytes && length <= self.size_bytes - at,
            "{length} bytes at {at} are not there"
        );
        // SAFETY: they are mapped, as was just checked, and nobody writes to them before `consumed` says that they were read.
        unsafe { std::slice::from_raw_parts(self.produced.as_ptr().add(self.page_bytes + at), length) }
    }
}
