//! Which threads of a process sit in a system call on a socket's descriptor, from `/proc/PID/task/*/syscall`.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::Read as _;

use nix::libc;

use crate::source::process;

/// A process with more threads is not looked at: a verdict must not wait for it.
const MAX_THREADS: usize = 4096;

/// Threads that wait, or work, in a system call on one descriptor.
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
    /// process is gone or may not be looked at, has too many threads, or runs 32-bit code, whose calls have other numbers.
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
    let threads: Vec<_> = fs::read_dir(format!("/proc/{pid}/task")).ok()?.take(MAX_THREADS + 1).collect();
    if threads.len() > MAX_THREADS {
        return None;
    }
    let mut by_inode: HashMap<u64, Blocked> = HashMap::new();
    let mut is_readable = false;
    for thread in threads.into_iter().flatten() {
        let path = thread.path();
        let Ok(line) = fs::read_to_string(path.join("syscall")) else { continue };
        is_readable = true;
        let Some((call, fd)) = call_on_descriptor(&line) else { continue };
        let opened = fs::read_link(path.join("fd").join(fd.to_string()));
        let Some(inode) = opened.ok().and_then(|file| process::socket_inode(&file)) else { continue };
        let blocked = by_inode.entry(inode).or_default();
        blocked.threads += 1;
        blocked.calls.insert(call);
    }
    is_readable.then_some(by_inode)
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

/// The call and the descriptor of a line such as `45 0x3 0x7ffe… 0x1000 0x0 0x0 0x0 0x7ffe… 0x7f12…`; `None` for a thread that is
/// in no call (`running`, `-1 …`) or in one that is not about a descriptor.
fn call_on_descriptor(line: &str) -> Option<(&'static str, u32)> {
    let mut fields = line.split_ascii_whitespace();
    let number: i64 = fields.next()?.parse().ok()?;
    let argument = u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok()?;
    let (_, name) = CALLS.iter().find(|(known, _)| *known == number)?;
    #[expect(clippy::cast_possible_truncation, reason = "the kernel takes the low half for the descriptor")]
    let fd = argument as u32;
    Some((name, fd))
}

/// Calls whose first argument is a descriptor, by this architecture's numbers.
const CALLS: &[(i64, &str)] = &[
    (libc::SYS_read, "read"),
    (libc::SYS_readv, "readv"),
    (libc::SYS_preadv2, "preadv2"),
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
    (libc::SYS_pwritev2, "pwritev2"),
    (libc::SYS_recvfrom, "recvfrom"),
    (libc::SYS_recvmsg, "recvmsg"),
    (libc::SYS_recvmmsg, "recvmmsg"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_sendmmsg, "sendmmsg"),
    (libc::SYS_sendfile, "sendfile"),
    (libc::SYS_splice, "splice"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_accept, "accept"),
    (libc::SYS_accept4, "accept4"),
    (libc::SYS_close, "close"),
    (libc::SYS_shutdown, "shutdown"),
    (libc::SYS_ioctl, "ioctl"),
    (libc::SYS_fcntl, "fcntl"),
    (libc::SYS_getsockopt, "getsockopt"),
    (libc::SYS_setsockopt, "setsockopt"),
];

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn recvfrom(fd: &str) -> Option<(&'static str, u32)> {
        call_on_descriptor(&format!(
            "{} {fd} 0x7ffe 0x1000 0x0 0x0 0x0 0x7ffe12 0x7f34\n",
            libc::SYS_recvfrom
        ))
    }

    #[test]
    fn a_call_is_known_by_its_number_and_first_argument() {
        assert_eq!(recvfrom("0x3"), Some(("recvfrom", 3)));
        assert_eq!(recvfrom("0xffffffff00000007"), Some(("recvfrom", 7)), "the high half means nothing");
        for line in ["running", "-1 0x7ffe 0x7f34", "", "45", "45 3 0x0", "x 0x3", "99999 0x3 0x0"] {
            assert_eq!(call_on_descriptor(line), None, "{line}");
        }
        let poll = format!("{} 0x3 0x1", libc::SYS_ppoll);
        assert_eq!(call_on_descriptor(&poll), None, "its first argument is no descriptor");
    }

    #[test]
    fn no_number_has_two_names() {
        let numbers: BTreeSet<_> = CALLS.iter().map(|(number, _)| number).collect();
        assert_eq!(numbers.len(), CALLS.len());
    }

    proptest! {
        #[test]
        fn any_line_is_a_call_or_none(line in any::<String>(), number: i64, argument: u64) {
            let _ = call_on_descriptor(&line);
            let _ = call_on_descriptor(&format!("{number} {argument:#x} {line}"));
        }
    }

    #[test]
    fn a_thread_that_waits_for_data_is_found_until_it_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let inode =
            |stream: &TcpStream| fs::metadata(format!("/proc/self/fd/{}", stream.as_raw_fd())).unwrap().ino();
        let (near_inode, far_inode) = (inode(&near), inode(&far));
        let reader = thread::spawn(move || near.read(&mut [0; 1]));
        let found = loop {
            let mut seen = look(std::process::id()).unwrap();
            assert_eq!(seen.get(&far_inode), None);
            if let Some(found) = seen.remove(&near_inode) {
                break found;
            }
            thread::yield_now();
        };
        assert_eq!((found.threads, found.calls.len()), (1, 1));
        assert!(["read", "recvfrom"].iter().any(|call| found.calls.contains(call)), "{found:?}");
        far.write_all(b"x").unwrap();
        reader.join().unwrap().unwrap();
        assert_eq!(look(std::process::id()).unwrap().get(&near_inode), None);
    }

    #[test]
    fn what_was_seen_of_a_process_holds_until_it_is_forgotten() {
        let one = Blocked { threads: 1, calls: ["recvfrom"].into() };
        let mut blocked = BlockedThreads::new();
        let gone = u32::MAX;
        blocked.seen.insert(gone, Some([(7, one.clone())].into()));
        assert_eq!([7, 8].map(|inode| blocked.of(gone, inode)), [Some(one), Some(Blocked::default())]);
        blocked.forget();
        assert_eq!(blocked.of(gone, 7), None);
    }

    #[test]
    fn a_process_that_is_not_there_is_unknown() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(look(pid), None);
    }
}
