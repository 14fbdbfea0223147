//! The memory that the kernel and the reader of a ring buffer share: a page with how far was read, a page with how far is written, and the
//! records.
//!
//! The records are mapped piece by piece, as they are read. The kernel maps all of a piece at once, and what is mapped counts as resident
//! memory, written or not. Aya's reader maps the whole buffer twice, one copy behind the other, so that no record is ever in two parts.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

use anyhow::{Context as _, Result, ensure};
use memmap2::{MmapOptions, MmapRaw};
use nix::unistd::{SysconfVar, sysconf};

use super::HEADER_BYTES;

/// The size of a piece: as much as waits when the reader is woken. To map one takes microseconds, and it holds more than a thousand records.
pub(super) const PIECE_BYTES: usize = 256 << 10;

pub(super) struct Shared {
    fd: OwnedFd,
    consumed: MmapRaw,
    produced: MmapRaw,
    /// The piece that is mapped, and where it begins in the buffer.
    piece: MmapRaw,
    begin: usize,
    page_bytes: usize,
    pub(super) size_bytes: usize,
}

impl Shared {
    /// Maps the ring buffer of `size_bytes` behind `fd`.
    ///
    /// # Errors
    /// When it cannot be mapped, or cannot be of that size.
    pub(super) fn map(fd: OwnedFd, size_bytes: usize) -> Result<Self> {
        let page_bytes = usize::try_from(sysconf(SysconfVar::PAGE_SIZE)?.context("the size of a page")?)?;
        ensure!(
            size_bytes.is_power_of_two() && size_bytes.is_multiple_of(page_bytes),
            "it cannot be of {size_bytes} bytes with pages of {page_bytes}"
        );
        let consumed = MmapOptions::new().len(page_bytes).map_raw(&fd)?;
        let produced = read_only(fd.as_fd(), page_bytes, page_bytes)?;
        let piece = read_only(fd.as_fd(), 2 * page_bytes, size_bytes.min(PIECE_BYTES))?;
        Ok(Self { fd, consumed, produced, piece, begin: 0, page_bytes, size_bytes })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// How far was read.
    pub(super) fn consumed(&self) -> &AtomicUsize {
        // SAFETY: a page is mapped, and all who share it take its first word for a number that changes at once.
        unsafe { AtomicUsize::from_ptr(self.consumed.as_mut_ptr().cast()) }
    }

    /// How far is written, and with it the headers until there.
    pub(super) fn produced(&self) -> usize {
        // SAFETY: as above; a word that is only mapped to be read can be loaded so.
        let produced = unsafe { &*self.produced.as_ptr().cast::<AtomicUsize>() }.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        produced
    }

    /// The first word of the header at a position, and with it what was written before that word was.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub(super) fn header(&mut self, position: usize) -> io::Result<u32> {
        let at = self.turn_to(position)?;
        assert!(at.is_multiple_of(HEADER_BYTES), "no header can be at {position}");
        // SAFETY: as above, and headers fit in between any of their places and the end of the piece.
        let header = unsafe { &*self.piece.as_ptr().add(at).cast::<AtomicU32>() }.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        Ok(header)
    }

    /// The bytes at a position: `most` of them, or as many as are in the same piece. They must be of a record that is written and was not
    /// given back.
    ///
    /// # Errors
    /// When they cannot be mapped.
    pub(super) fn bytes(&mut self, position: usize, most: usize) -> io::Result<&[u8]> {
        let at = self.turn_to(position)?;
        let length = most.min(self.piece.len() - at);
        // SAFETY: they are in the piece, and the kernel leaves them alone until `consumed` says that they were read.
        Ok(unsafe { std::slice::from_raw_parts(self.piece.as_ptr().add(at), length) })
    }

    /// Maps the piece that a position is in, unless it is. Returns where in the piece that is.
    fn turn_to(&mut self, position: usize) -> io::Result<usize> {
        let at = position & (self.piece.len() - 1);
        let begin = (position & (self.size_bytes - 1)) - at;
        if begin != self.begin {
            self.piece = read_only(self.fd.as_fd(), 2 * self.page_bytes + begin, self.piece.len())?;
            self.begin = begin;
        }
        Ok(at)
    }
}

fn read_only(fd: BorrowedFd<'_>, offset: usize, length: usize) -> io::Result<MmapRaw> {
    MmapOptions::new().offset(offset as u64).len(length).map_raw_read_only(fd.as_raw_fd())
}
