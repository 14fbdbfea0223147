//! What `/proc` knows of a process: its control group, its container, whether it still exists.
//!
//! That `/proc` does not show a process does not mean that there is none: it may hide those of other users (`hidepid`), or zsock be out of
//! descriptors. Only the kernel's word for it does.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Pid, getpgid};

use crate::record;
use crate::source::clock;

/// Inode number of the initial PID namespace, the same on every kernel (`PROC_PID_INIT_INO`).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// A process as the kernel side saw it: its id with the time of its start, which tells it from a later one of the same id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Id in the initial PID namespace.
    pub pid: u32,
    /// Start, CLOCK_BOOTTIME nanoseconds.
    pub start_ns: u64,
    /// Id of its control group in the unified hierarchy; 0 where that is not known.
    pub cgroup_id: u64,
    /// Name of the thread group's leader, up to 15 bytes of any kind; those that are not UTF-8 are U+FFFD here.
    pub comm: Arc<str>,
    /// All bytes of the name in hexadecimal; only where they are not UTF-8.
    pub comm_hex: Option<Arc<str>>,
}

/// What can be said of the process that has some id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// This one runs.
    Runs(Process),
    /// None runs. One that exited and waits for its parent runs no more.
    Gone,
    /// There is one, and `/proc` does not let it be read.
    Unknown,
}

impl Process {
    /// The process of a wire record; `None` where it names none.
    #[must_use]
    pub fn from_wire(wire: &zsock_common::wire::Process) -> Option<Self> {
        let length = wire.comm.iter().position(|byte| *byte == 0).unwrap_or(wire.comm.len());
        let comm = &wire.comm[..length];
        (wire.tgid != 0).then(|| Self::named(wire.tgid, wire.start_ns, wire.cgroup, comm))
    }

    /// The process that has this id now.
    #[must_use]
    pub fn find(pid: u32) -> Found {
        let stat = match fs::read(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat,
            Err(_) if is_nobody(pid) => return Found::Gone,
            Err(_) => return Found::Unknown,
        };
        let Some(Stat { comm, ticks, is_dead }) = Stat::read(&stat) else { return Found::Unknown };
        let in_proc_ns = ticks.checked_mul(1_000_000_000 / TICKS_PER_SECOND);
        match in_proc_ns.map(|ns| ns.wrapping_sub(clock::boottime_in_proc_ns(0))) {
            Some(_) if is_dead => Found::Gone,
            Some(start_ns) => Found::Runs(Self::named(pid, start_ns, 0, comm)),
            None => Found::Unknown,
        }
    }

    /// Whether it runs no more. A process that exited and waits for its parent runs no more. `None` where that cannot be told: of one that
    /// `/proc` hides, and in a PID namespace, whose `/proc` has other ids and not every process.
    #[must_use]
    pub fn has_exited(&self) -> Option<bool> {
        if !proc_has_our_ids() {
            return None;
        }
        match self.stat() {
            Ok(stat) => Some(!self.is_alive_in(&stat)),
            Err(_) => is_nobody(self.pid).then_some(true),
        }
    }

    /// Whether `/proc` has it, alive and no later process of the same id.
    fn is_in_proc(&self) -> bool {
        self.stat().is_ok_and(|stat| self.is_alive_in(&stat))
    }

    fn stat(&self) -> io::Result<Vec<u8>> {
        fs::read(format!("/proc/{}/stat", self.pid))
    }

    fn is_alive_in(&self, stat: &[u8]) -> bool {
        is_same_and_alive(stat, clock::boottime_in_proc_ns(self.start_ns))
    }

    /// Same process, whatever its name is by now.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.pid == other.pid && self.start_ns == other.start_ns
    }

    /// The process as records name it; without its control group once it runs no more.
    #[must_use]
    pub fn as_record(&self) -> record::Process {
        let (cgroup, container) = self.cgroup().map(|group| (group.path, group.container)).unzip();
        record::Process {
            pid: self.pid,
            comm: Some(Arc::clone(&self.comm)),
            comm_hex: self.comm_hex.clone(),
            cgroup,
            container: container.flatten(),
        }
    }

    /// The control group it is in, and the container that this names. `None` once it runs no more.
    #[must_use]
    pub fn cgroup(&self) -> Option<Cgroup> {
        // A control group may be called anything but `\n`; bytes that are not UTF-8 become U+FFFD, as in a name.
        let table = fs::read(format!("/proc/{}/cgroup", self.pid)).ok()?;
        let table = String::from_utf8_lossy(&table);
        // Asked after the table was read: the id had not been given to another process by then.
        let path = path_of(&table).filter(|_| self.is_in_proc())?;
        Some(Cgroup::of_path(Arc::from(path)))
    }

    fn named(pid: u32, start_ns: u64, cgroup_id: u64, comm: &[u8]) -> Self {
        let comm_hex = std::str::from_utf8(comm).is_err().then(|| Arc::from(hex(comm)));
        Self { pid, start_ns, cgroup_id, comm: Arc::from(String::from_utf8_lossy(comm)), comm_hex }
    }
}

/// A control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its path.
    pub path: Arc<str>,
    /// The container id that the path holds.
    pub container: Option<Arc<str>>,
}

impl Cgroup {
    /// The control group of this path.
    #[must_use]
    pub fn of_path(path: Arc<str>) -> Self {
        let container = container_of(&path).map(Arc::from);
        Self { path, container }
    }
}

/// Every process that `/proc` shows, by its id there.
pub fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether `/proc` shows every process by its id in the initial PID namespace, by which records name it.
#[must_use]
pub fn proc_has_our_ids() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == INITIAL_PID_NAMESPACE)
}

/// Whether `/proc` keeps from zsock what other users' processes do (`hidepid`): it shows nothing of the first process, which is always
/// there.
#[must_use]
pub fn proc_hides_others() -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied};
    let first = fs::read("/proc/1/stat");
    proc_has_our_ids() && first.is_err_and(|error| matches!(error.kind(), NotFound | PermissionDenied))
}

/// Whether the kernel says that no process has this id, not even one that waits for its parent. It says so whatever `/proc` shows, without
/// a descriptor, and to whoever asks.
fn is_nobody(pid: u32) -> bool {
    libc::pid_t::try_from(pid).is_ok_and(|pid| getpgid(Some(Pid::from_raw(pid))) == Err(Errno::ESRCH))
}

/// The inode number of the socket that a link in `/proc/PID/fd` leads to; `None` for other files.
#[must_use]
pub fn socket_inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Clock ticks a second of `/proc`, the kernel's `USER_HZ`: 100 on every architecture that BPF runs on but Alpha.
const TICKS_PER_SECOND: u64 = 100;

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether `/proc/PID/stat` is of a process that started then and runs.
fn is_same_and_alive(stat: &[u8], start_ns: u64) -> bool {
    let ticks = start_ns / (1_000_000_000 / TICKS_PER_SECOND);
    Stat::read(stat).is_some_and(|stat| !stat.is_dead && stat.ticks == ticks)
}

/// What of `/proc/PID/stat` is of use.
struct Stat<'a> {
    comm: &'a [u8],
    /// When it started.
    ticks: u64,
    /// It runs no more. One whose first thread has ended runs as long as it has another.
    is_dead: bool,
}

impl<'a> Stat<'a> {
    /// The state is field 3, the number of threads 20, the start 22; the name before them may hold anything.
    fn read(stat: &'a [u8]) -> Option<Self> {
        let name_from = stat.iter().position(|byte| *byte == b'(')? + 1;
        let name_to = stat.iter().rposition(|byte| *byte == b')').filter(|end| *end >= name_from)?;
        let mut fields = std::str::from_utf8(&stat[name_to + 1..]).ok()?.split_ascii_whitespace();
        let (state, threads) = (fields.next()?, fields.nth(16)?);
        let is_dead = matches!(state, "Z" | "X" | "x") && matches!(threads, "0" | "1");
        let ticks = fields.nth(1)?.parse().ok()?;
        Some(Self { comm: &stat[name_from..name_to], ticks, is_dead })
    }
}

/// The path in a `/proc/PID/cgroup` table: of the unified hierarchy, or where that says nothing, of a hierarchy of version 1.
fn path_of(table: &str) -> Option<&str> {
    let of_controller = |wanted: &str| {
        table.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            controllers.split(',').any(|name| name == wanted).then_some(path)
        })
    };
    // The unified hierarchy has no controllers in its line.
    let unified = of_controller("");
    let legacy = ["name=systemd", "memory", "pids"]
        .into_iter()
        .find_map(|name| of_controller(name).filter(|path| *path != "/"));
    unified.filter(|path| *path != "/").or(legacy).or(unified)
}

/// The container id in a control group's path: 64 hexadecimal digits, bare or as `runtime-ID.scope`.
fn container_of(path: &str) -> Option<&str> {
    const DIGITS: usize = 64;
    path.rsplit('/').find_map(|part| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        let id = part.get(part.len().checked_sub(DIGITS)?..)?;
        let is_whole =
            part.len() == DIGITS || matches!(part.as_bytes().get(part.len() - DIGITS - 1), Some(b'-' | b':'));
        (is_whole && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
    })
}

/// Any bytes in the place of what `/proc` says of a process.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    use std::os::unix::ffi::OsStrExt as _;

    let text = String::from_utf8_lossy(bytes);
    if let Some(Stat { comm, ticks, is_dead }) = Stat::read(bytes) {
        assert!(comm.len() < bytes.len());
        let is_alive = is_same_and_alive(bytes, ticks.saturating_mul(10_000_000));
        assert!(is_alive != is_dead || ticks > u64::MAX / 10_000_000);
    }
    let _ = path_of(&text).map(container_of);
    assert!(container_of(&text).is_none_or(|id| id.len() == 64));
    let _ = socket_inode(Path::new(std::ffi::OsStr::from_bytes(bytes)));
    let named = Process::named(1, 0, 0, bytes);
    assert_eq!(named.comm_hex.is_some(), std::str::from_utf8(bytes).is_err());
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f5e2a0c9d8b7a6f5e4d3c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f7e6d5c4b3a2f";

    #[test]
    fn containers_are_found_in_the_paths_of_their_runtimes() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/kubepods.slice/kubepods-pod12.slice/cri-containerd-{ID}.scope"),
            format!("/kubepods/besteffort/pod12/{ID}"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
        ] {
            assert_eq!(container_of(&path), Some(ID), "{path}");
        }
        for path in ["/", "/system.slice/nginx.service", "/user.slice/ab", &format!("/x{ID}")] {
            assert_eq!(container_of(path), None, "{path}");
        }
    }

    #[test]
    fn the_unified_path_comes_first_and_a_legacy_one_where_it_says_nothing() {
        assert_eq!(path_of("0::/system.slice/nginx.service\n"), Some("/system.slice/nginx.service"));
        assert_eq!(path_of("5:memory:/docker/a:b\n1:name=systemd:/docker/a:b\n0::/\n"), Some("/docker/a:b"));
        assert_eq!(path_of("5:memory:/\n0::/\n"), Some("/"));
        assert_eq!(path_of("garbage\n"), None);
    }

    #[test]
    fn a_process_is_known_by_its_start_and_a_zombie_runs_no_more() {
        let of_threads = |state: &str, threads: u64, ticks: u64| {
            format!("7 (a) R b) {state} 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 {ticks} 1 1")
                .into_bytes()
        };
        let stat = |state, ticks| of_threads(state, 1, ticks);
        assert!(is_same_and_alive(&stat("S", 1234), 12_349_999_999));
        assert!(!is_same_and_alive(&stat("S", 1235), 12_349_999_999));
        assert!(!is_same_and_alive(&stat("Z", 1234), 12_349_999_999));
        assert!(
            is_same_and_alive(&of_threads("Z", 2, 1234), 12_349_999_999),
            "its first thread alone has ended"
        );
        assert!(!is_same_and_alive(b"", 0));
    }

    #[test]
    fn a_process_is_found_in_proc_and_a_former_one_of_its_id_is_not() {
        let Found::Runs(process) = Process::find(std::process::id()) else { panic!("it runs") };
        let start_ns = process.start_ns;
        let former = Process { start_ns: start_ns.wrapping_sub(1_000_000_000), ..process.clone() };
        assert_eq!((process.is_in_proc(), process.cgroup().is_some()), (true, true));
        assert_eq!((former.is_in_proc(), former.cgroup()), (false, None));
        assert_eq!(former.has_exited(), proc_has_our_ids().then_some(true));
    }

    #[test]
    fn only_who_has_an_id_no_more_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        assert!(!is_nobody(pid) && matches!(Process::find(pid), Found::Runs(_)));
        child.kill().unwrap();
        let waits =
            || fs::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| Stat::read(&stat).unwrap().is_dead);
        while !waits() {
            std::thread::yield_now();
        }
        assert!(!is_nobody(pid) && Process::find(pid) == Found::Gone, "it waits for its parent");
        child.wait().unwrap();
        assert!(is_nobody(pid) && Process::find(pid) == Found::Gone);
        // No process has such an id, and the kernel is not asked for it.
        assert_eq!(Process::find(u32::MAX), Found::Unknown);
    }

    #[test]
    fn a_name_that_is_no_text_keeps_its_bytes() {
        let process = Process::named(1, 0, 0, b"a\xffb");
        assert_eq!((&*process.comm, process.comm_hex.as_deref()), ("a\u{fffd}b", Some("61ff62")));
    }
}
