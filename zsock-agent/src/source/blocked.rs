//! Which threads of a process sit in a system call on a socket's descriptor, from `/proc/PID/task/*/syscall` and, for calls that wait
//! for a set of descriptors, the process's memory.
//!
//! A thread waits for a socket where the set is small enough to be about it. An event loop, which waits for whatever comes, does not:
//! neither in `epoll_wait` nor with more than a few descriptors in `poll` or `select`.
//!
//! Everything read here is the process's own and may change meanwhile: what is told is told of threads that are in the same call after
//! their descriptors were looked up.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use crate::source::process;
use call::Call;

mod call;
mod memory;

/// A process with more threads is not looked at: a verdict must not wait for it.
const MAX_THREADS: usize = 4096;
/// Nor is one whose threads wait for more descriptors together: each takes some microseconds to look up.
const MAX_DESCRIPTORS: usize = 4 * MAX_THREADS;

/// Threads that wait, or work, in a system call on one socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocked {
    /// How many.
    pub threads: u64,
    /// In which calls, by name.
    pub calls: BTreeSet<&'static str>,
}

/// Looks each process up once until it is told to forget: many verdicts about one process may open at the same moment.
#[derive(Debug, Default)]
pub struct BlockedThreads {
    /// By process and the inode number of the socket; absent for a process that could not be looked at.
    seen: HashMap<u32, Option<HashMap<u64, Blocked>>>,
}

impl BlockedThreads {
    /// Nothing looked at yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The threads of process `pid` that are in a call on the socket with this inode number. `None` where that cannot be told: the
    /// process is gone or may not be looked at, has too many threads or too many descriptors they wait for, runs 32-bit code, whose
    /// calls have other numbers, or has a thread in a call whose descriptors cannot be read.
    pub fn of(&mut self, pid: u32, inode: u64) -> Option<Blocked> {
        let look_once = || process::proc_has_our_ids().then(|| look(pid)).flatten();
        let of_process = self.seen.entry(pid).or_insert_with(look_once).as_ref()?;
        Some(of_process.get(&inode).cloned().unwrap_or_default())
    }

    /// Forgets what was seen: threads move on.
    pub fn forget(&mut self) {
        self.seen.clear();
    }
}

/// Every thread of a process that is in a call on a socket, by the socket's inode number.
fn look(pid: u32) -> Option<HashMap<u64, Blocked>> {
    if !runs_64_bit_code(pid)? {
        return None;
    }
    let call_of = |thread: &Path| fs::read_to_string(thread.join("syscall"));
    look_at(Path::new(&format!("/proc/{pid}/task")), call_of)
}

/// Looks at the threads of a directory such as `/proc/PID/task`. `call_of` reads what a thread's file `syscall` says at the moment.
fn look_at(threads: &Path, call_of: impl Fn(&Path) -> io::Result<String>) -> Option<HashMap<u64, Blocked>> {
    let threads: Vec<_> = fs::read_dir(threads).ok()?.take(MAX_THREADS + 1).collect();
    if threads.len() > MAX_THREADS {
        return None;
    }
    let mut by_inode: HashMap<u64, Blocked> = HashMap::new();
    let mut is_readable = false;
    let mut looked_up = 0;
    for thread in threads.into_iter().flatten() {
        let path = thread.path();
        let Ok(line) = call_of(&path) else { continue };
        is_readable = true;
        let Some(call) = Call::of_line(&line) else { continue };
        let descriptors = call.descriptors.read(&path);
        looked_up += descriptors.as_ref().map_or(0, BTreeSet::len);
        if looked_up > MAX_DESCRIPTORS {
            return None;
        }
        let sockets = descriptors.map(|descriptors| sockets_of(&descriptors, &path));
        let is_still_in_it = call_of(&path).is_ok_and(|now| now == line);
        if !is_still_in_it {
            continue;
        }
        for inode in sockets? {
            let blocked = by_inode.entry(inode).or_default();
            blocked.threads += 1;
            blocked.calls.insert(call.name);
        }
    }
    is_readable.then_some(by_inode)
}

/// The sockets among a thread's descriptors, by inode number.
fn sockets_of(descriptors: &BTreeSet<u32>, thread: &Path) -> BTreeSet<u64> {
    let opened = |fd: &u32| fs::read_link(thread.join("fd").join(fd.to_string())).ok();
    descriptors.iter().filter_map(opened).filter_map(|file| process::socket_inode(&file)).collect()
}

/// Whether a process's program is of the same width as this one; `None` where that cannot be read.
fn runs_64_bit_code(pid: u32) -> Option<bool> {
    /// `EI_CLASS` and `ELFCLASS64`.
    const CLASS: usize = 4;
    const CLASS_64_BIT: u8 = 2;
    let mut start = [0; CLASS + 1];
    File::open(format!("/proc/{pid}/exe")).ok()?.read_exact(&mut start).ok()?;
    Some(start[CLASS] == CLASS_64_BIT)
}

#[cfg(any(test, fuzzing))]
pub(crate) use call::read_any;
#[cfg(test)]
mod tests;
