//! The memory that the kernel and the reader of a ring buffer share: a page with how far was read, a page with how far is written, and the
//! records.
//!
//! The records are mapped in pieces, those that are being read. The kernel maps all of a piece at once, and what is mapped counts as resident
//! memory, written or not. Aya's reader maps the whole buffer twice, one copy behind the other, so that no record is ever in two parts.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

use anyhow::{Context as _, Result, ensure};
use memmap2::{MmapOptions, MmapRaw};
use nix::unistd::{SysconfVar, sysconf};

use super::HEADER_BYTES;

/// A buffer is mapped in so many pieces, where none is smaller than a page or larger than [`MAX_PIECE_BYTES`].
pub(super) const PIECES: usize = 32;

/// A piece of a large buffer has no more: 256 KiB, whatever a page has.
const MAX_PIECE_BYTES: usize = 256 * 1024;

pub(super) struct Shared {
    fd: OwnedFd,
    consumed: MmapRaw,
    produced: MmapRaw,
    /// The records, as far as they are mapped.
    pieces: Box<[Option<MmapRaw>]>,
    page_bytes: usize,
    pub(super) size_bytes: usize,
    pub(super) piece_bytes: usize,
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
        let piece_bytes = (size_bytes / PIECES).min(MAX_PIECE_BYTES).max(page_bytes);
        let pieces = (0..size_bytes / piece_bytes).map(|_| None).collect();
        let mut shared = Self { fd, consumed, produced, pieces, page_bytes, size_bytes, piece_bytes };
        // That it can be mapped is known before it is needed.
        shared.piece(shared.consumed().load(Ordering::Relaxed))?;
        Ok(shared)
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
    #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins with a page")]
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
    #[expect(
        clippy::cast_ptr_alignment,
        reason = "a mapping begins with a page, and where in it the header is was checked"
    )]
    pub(super) fn header(&mut self, position: usize) -> io::Result<u32> {
        let (piece, at) = self.piece(position)?;
        assert!(at.is_multiple_of(HEADER_BYTES), "no header can be at {position}");
        // SAFETY: as above, and headers fit in between any of their places and the end of the piece.
        let header = unsafe { &*piece.as_ptr().add(at).cast::<AtomicU32>() }.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        Ok(header)
    }

    /// The bytes at a position: `most` of them, or as many as are in the same piece. They must be of a record that is written and was not
    /// given back.
    ///
    /// # Errors
    /// When they cannot be mapped.
    pub(super) fn bytes(&mut self, position: usize, most: usize) -> io::Result<&[u8]> {
        let (piece, at) = self.piece(position)?;
        let length = most.min(piece.len() - at);
        // SAFETY: they are in the piece, and the kernel leaves them alone until `consumed` says that they were read.
        Ok(unsafe { std::slice::from_raw_parts(piece.as_ptr().add(at), length) })
    }

    /// Unmaps the records but for the piece that a position is in.
    pub(super) fn unmap_but(&mut self, position: usize) {
        let (kept, _) = self.place(position);
        for (_, piece) in self.pieces.iter_mut().enumerate().filter(|(number, _)| *number != kept) {
            *piece = None;
        }
    }

    /// Has what is mapped from now on come from another descriptor. Returns the one before.
    #[cfg(test)]
    pub(super) fn replace_fd(&mut self, fd: OwnedFd) -> OwnedFd {
        std::mem::replace(&mut self.fd, fd)
    }

    /// How much of the records is mapped.
    #[cfg(test)]
    pub(super) fn mapped_bytes(&self) -> usize {
        self.pieces.iter().flatten().map(MmapRaw::len).sum()
    }

    /// The piece that a position is in, which is mapped where it is not, and where in it that is.
    fn piece(&mut self, position: usize) -> io::Result<(&MmapRaw, usize)> {
        let (number, at) = self.place(position);
        if self.pieces[number].is_none() {
            let mapped = self.map_piece(number).or_else(|_| {
                // Where memory is short one at a time has to do.
                self.pieces.fill_with(|| None);
                self.map_piece(number)
            })?;
            self.pieces[number] = Some(mapped);
        }
        let piece = self.pieces[number].as_ref();
        Ok((piece.ok_or_else(|| io::Error::other("it is not mapped"))?, at))
    }

    fn map_piece(&self, number: usize) -> io::Result<MmapRaw> {
        read_only(self.fd.as_fd(), 2 * self.page_bytes + number * self.piece_bytes, self.piece_bytes)
    }

    /// The number of the piece that a position is in, and where in it that is.
    fn place(&self, position: usize) -> (usize, usize) {
        let at = position & (self.size_bytes - 1);
        (at >> self.piece_bytes.trailing_zeros(), at & (self.piece_bytes - 1))
    }
}

fn read_only(fd: BorrowedFd<'_>, offset: usize, length: usize) -> io::Result<MmapRaw> {
    MmapOptions::new().offset(offset as u64).len(length).map_raw_read_only(fd.as_raw_fd())
}
