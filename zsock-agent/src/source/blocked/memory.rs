//! Bytes of a process's memory, which hold what the process likes.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nix::unistd::{SysconfVar, sysconf};

/// Reads from the memory of the thread whose directory in `/proc` this is. `None` where it may not be read, or some of it is not there.
///
/// Only what is in memory, or in swap, is read: any other page is for somebody else to supply, a file system or a handler of page faults
/// in user space, and would keep the reader waiting for as long as that one likes. What a thread has just handed to the kernel is there.
pub(super) fn read(thread: &Path, address: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    if length == 0 {
        return Some(bytes);
    }
    let last = address.checked_add(length as u64 - 1)?;
    let page_size: u64 = sysconf(SysconfVar::PAGE_SIZE).ok()??.try_into().ok()?;
    let pages = File::open(thread.join("pagemap")).ok()?;
    for page in address / page_size..=last / page_size {
        if !is_at_hand(&pages, page)? {
            return None;
        }
    }
    File::open(thread.join("mem")).ok()?.read_exact_at(&mut bytes, address).ok()?;
    Some(bytes)
}

/// Whether a page is in memory or in swap, from `/proc/PID/pagemap`: 64 bits for each page, see `proc_pid_pagemap(5)`.
fn is_at_hand(pages: &File, page: u64) -> Option<bool> {
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    let mut entry = [0; size_of::<u64>()];
    pages.read_exact_at(&mut entry, page.checked_mul(size_of::<u64>() as u64)?).ok()?;
    Some(u64::from_ne_bytes(entry) & (PRESENT | SWAPPED) != 0)
}
