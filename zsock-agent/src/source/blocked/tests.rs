use std::cell::Cell;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::PathBuf;
use std::thread;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::select::{FdSet, select};

use super::*;

/// Looks at this process until a thread of it is in a call on the socket `near`, and again once data has come for it.
fn calls_until_there_is_data(wait: impl FnOnce(&TcpStream) + Send + 'static) -> Blocked {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    let inode =
        |stream: &TcpStream| fs::metadata(format!("/proc/self/fd/{}", stream.as_raw_fd())).unwrap().ino();
    let (near_inode, far_inode) = (inode(&near), inode(&far));
    let waiting = thread::spawn(move || {
        wait(&near);
        near
    });
    // So many looks are no claim: the machine may be slow.
    let found = (0..20_000).find_map(|_| {
        thread::yield_now();
        // Unknown for the moment in which another test's thread goes back into its call after a signal.
        let mut seen = look(std::process::id()).unwrap_or_default();
        assert_eq!(seen.get(&far_inode), None);
        seen.remove(&near_inode)
    });
    far.write_all(b"x").unwrap();
    let _open = waiting.join().unwrap();
    assert_eq!(look(std::process::id()).unwrap_or_default().get(&near_inode), None);
    found.expect("a thread in a call on it")
}

#[test]
fn a_thread_that_reads_is_found_until_it_has_data() {
    let found = calls_until_there_is_data(|mut near| near.read_exact(&mut [0; 1]).unwrap());
    assert_eq!((found.threads, found.calls.len()), (1, 1));
    assert!(["read", "recvfrom"].iter().any(|call| found.calls.contains(call)), "{found:?}");
}

#[test]
fn a_thread_that_polls_is_found_until_there_is_data() {
    let found = calls_until_there_is_data(|near| {
        let sockets = &mut [PollFd::new(near.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(sockets, PollTimeout::NONE), Ok(1));
    });
    assert_eq!((found.threads, found.calls.len()), (1, 1));
    assert!(["poll", "ppoll"].iter().any(|call| found.calls.contains(call)), "{found:?}");
}

#[test]
fn a_thread_that_selects_is_found_until_there_is_data() {
    let found = calls_until_there_is_data(|near| {
        let mut sockets = FdSet::new();
        sockets.insert(near.as_fd());
        assert_eq!(select(None, &mut sockets, None, None, None), Ok(1));
    });
    assert_eq!((found.threads, found.calls.len()), (1, 1));
    assert!(["select", "pselect6"].iter().any(|call| found.calls.contains(call)), "{found:?}");
}

/// A directory like `/proc/PID/task`, gone with this value.
struct Tasks(PathBuf);

/// Where the sets of the threads begin. Pages have 4 KiB, or more, and this one begins a page of any size.
const SET: u64 = 0x2_0000;

impl Tasks {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("zsock-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// A thread in this call, with these bytes in its memory where `SET` is. Its descriptors 3 to 99 are the sockets 1003 to 1099, its
    /// descriptor 100 is socket 1003 once more and 101 is a file.
    fn thread(&self, call: i64, arguments: &str, set: &[u8]) -> PathBuf {
        let path = self.0.join(fs::read_dir(&self.0).unwrap().count().to_string());
        fs::create_dir_all(path.join("fd")).unwrap();
        fs::write(path.join("syscall"), format!("{call} {arguments} 0x7ffe12 0x7f34\n")).unwrap();
        File::create(path.join("mem")).unwrap().write_all_at(set, SET).unwrap();
        set_page(&path, 63);
        let sockets = (3..100).map(|fd| (fd, 1000 + fd)).chain([(100, 1003)]);
        for (fd, inode) in sockets {
            symlink(format!("socket:[{inode}]"), path.join(format!("fd/{fd}"))).unwrap();
        }
        symlink("/etc/passwd", path.join("fd/101")).unwrap();
        path
    }

    /// Every socket with a thread in a call on it: inode number, threads, calls.
    fn look(&self) -> Option<Vec<(u64, u64, Vec<&'static str>)>> {
        let seen = look_at(&self.0, |thread| fs::read_to_string(thread.join("syscall")))?;
        let row =
            |(inode, blocked): (u64, Blocked)| (inode, blocked.threads, blocked.calls.into_iter().collect());
        let mut rows: Vec<_> = seen.into_iter().map(row).collect();
        rows.sort_unstable();
        Some(rows)
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Says of the page where `SET` is that this bit holds, and knows no page after it.
fn set_page(thread: &Path, bit: u32) {
    let page_size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).unwrap().unwrap();
    let at = SET / u64::try_from(page_size).unwrap() * 8;
    File::create(thread.join("pagemap")).unwrap().write_all_at(&(1_u64 << bit).to_ne_bytes(), at).unwrap();
}

/// An array of `struct pollfd`, each for data.
fn poll_fds(fds: impl IntoIterator<Item = i32>) -> Vec<u8> {
    fds.into_iter().flat_map(|fd| [fd.to_ne_bytes(), [1, 0, 0, 0]].concat()).collect()
}

#[test]
fn a_thread_counts_once_for_each_socket_in_its_set() {
    let tasks = Tasks::new("blocked-each");
    // Twice the same descriptor, a copy of it, an element left out, one more socket, a file, and one that is closed.
    tasks.thread(libc::SYS_ppoll, "0x20000 0x7", &poll_fds([3, 3, 100, -1, 4, 101, 500]));
    tasks.thread(libc::SYS_ppoll, "0x20000 0x1", &poll_fds([4, 5]));
    // Sets to read and with exceptions, at the same place: 4 and 63 are below 64, 64 is not.
    let bits = [1_u64 << 4 | 1 << 63, 1].map(u64::to_ne_bytes).concat();
    tasks.thread(libc::SYS_pselect6, "0x40 0x20000 0x0 0x20000", &bits);
    tasks.thread(libc::SYS_recvfrom, "0x6 0x20000", &[]);
    assert_eq!(
        tasks.look(),
        Some(vec![
            (1003, 1, vec!["ppoll"]),
            (1004, 3, vec!["ppoll", "pselect6"]),
            (1006, 1, vec!["recvfrom"]),
            (1063, 1, vec!["pselect6"]),
        ])
    );
}

#[test]
fn a_thread_that_waits_for_more_than_64_descriptors_waits_for_none_of_them() {
    let tasks = Tasks::new("blocked-loop");
    tasks.thread(libc::SYS_ppoll, "0x20000 0x41", &poll_fds(3..68));
    tasks.thread(libc::SYS_ppoll, "0x20000 0xffffffff", &[]);
    tasks.thread(libc::SYS_pselect6, "0x80 0x20000 0x0 0x0", &[[0xf8; 1].as_slice(), &[0xff; 15]].concat());
    tasks.thread(libc::SYS_pselect6, "0x401 0x20000 0x0 0x0", &[0x08; 1]);
    assert_eq!(tasks.look(), Some(vec![]));
    tasks.thread(libc::SYS_ppoll, "0x20000 0x40", &poll_fds(3..67));
    tasks.thread(libc::SYS_pselect6, "0x43 0x20000 0x0 0x0", &[[0xf8; 1].as_slice(), &[0xff; 15]].concat());
    let expected = (1003..1067).map(|inode| (inode, 2, vec!["ppoll", "pselect6"])).collect();
    assert_eq!(tasks.look(), Some(expected));
}

#[test]
fn a_process_whose_threads_wait_for_too_much_together_is_unknown() {
    let tasks = Tasks::new("blocked-much");
    let one = tasks.thread(libc::SYS_ppoll, "0x20000 0x40", &poll_fds(3..67));
    let copies = |range: std::ops::Range<usize>| {
        range.for_each(|copy| symlink(&one, tasks.0.join(format!("copy-{copy}"))).unwrap());
    };
    copies(1..MAX_DESCRIPTORS / 64);
    assert_eq!(tasks.look().map(|seen| seen[0].clone()), Some((1003, 256, vec!["ppoll"])));
    copies(MAX_DESCRIPTORS / 64..MAX_DESCRIPTORS / 64 + 1);
    assert_eq!(tasks.look(), None);
}

#[test]
fn a_thread_that_waits_for_nothing_reads_no_memory() {
    let tasks = Tasks::new("blocked-nothing");
    tasks.thread(libc::SYS_ppoll, "0x0 0x0", &[]);
    tasks.thread(libc::SYS_pselect6, "0x0 0x10 0x10 0x10", &[]);
    tasks.thread(libc::SYS_pselect6, "0x400 0x0 0x0 0x0", &[]);
    assert_eq!(tasks.look(), Some(vec![]));
}

#[test]
fn one_thread_whose_set_cannot_be_read_makes_the_process_unknown() {
    let interrupted = (libc::SYS_restart_syscall, "0x20000 0x1");
    // Without memory there, past what its pages hold, across the end of the page into one that is not there, at the end of addresses.
    let unreadable =
        ["0x10000 0x1", "0x20000 0x2", "0x1fffc 0x1", "0xfffffffffffffffc 0x1", "0xfffffffffffffff0 0x1"];
    for (at, (call, arguments)) in
        unreadable.map(|arguments| (libc::SYS_ppoll, arguments)).into_iter().chain([interrupted]).enumerate()
    {
        let tasks = Tasks::new(&format!("blocked-unreadable-{at}"));
        tasks.thread(libc::SYS_recvfrom, "0x6 0x20000", &[]);
        assert_eq!(tasks.look(), Some(vec![(1006, 1, vec!["recvfrom"])]));
        tasks.thread(call, arguments, &poll_fds([3]));
        assert_eq!(tasks.look(), None, "{arguments}");
    }
}

#[test]
fn a_page_that_somebody_has_yet_to_supply_is_not_read() {
    let tasks = Tasks::new("blocked-page");
    let thread = tasks.thread(libc::SYS_ppoll, "0x20000 0x1", &poll_fds([3]));
    let found = Some(vec![(1003, 1, vec!["ppoll"])]);
    assert_eq!(tasks.look(), found);
    for (bit, expected) in [(63, found.clone()), (62, found), (61, None), (55, None)] {
        set_page(&thread, bit);
        assert_eq!(tasks.look(), expected, "bit {bit}");
    }
}

#[test]
fn a_thread_that_has_moved_on_meanwhile_is_in_none_of_what_was_read() {
    let tasks = Tasks::new("blocked-moved");
    let poll = |address: &str| format!("{} {address} 0x1 0x0 0x7ffe12 0x7f34\n", libc::SYS_ppoll);
    tasks.thread(libc::SYS_ppoll, "0x20000 0x1", &poll_fds([3]));
    let looked_at = |before: &str, after: &str| {
        let looks = Cell::new(0);
        look_at(&tasks.0, |_| {
            looks.set(looks.get() + 1);
            Ok(poll(if looks.get() == 1 { before } else { after }))
        })
        .map(|seen| seen.len())
    };
    assert_eq!(looked_at("0x20000", "0x20000"), Some(1));
    assert_eq!(looked_at("0x20000", "0x30000"), Some(0));
    assert_eq!(looked_at("0x30000", "0x20000"), Some(0), "what could not be read no longer matters");
    assert_eq!(looked_at("0x30000", "0x30000"), None);
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
