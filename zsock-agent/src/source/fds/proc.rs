//! What `/proc` tells of a process's file descriptors.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{BufReader, Read as _};
use std::net::IpAddr;

use nix::libc;
use procfs_core::net::{TcpNetEntries, TcpState};
use procfs_core::{ExplicitSystemInfo, FromBufReadSI as _};
use rlimit::Resource;

use crate::record::PeerSockets;
use crate::source::process;

/// A process with more descriptors is not looked through: this many take a tenth of a second.
const MAX_LOOKED_THROUGH: u64 = 65_536;

/// A longer table of a network namespace's sockets, about 100,000, is not looked through.
const MAX_TABLE_BYTES: u64 = 16 << 20;

/// So many peers are told.
const PEERS: usize = 5;

/// How many descriptors a process has open, and how many it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) open_fds: u64,
    /// The soft `RLIMIT_NOFILE`.
    pub(super) limit: u64,
}

impl Usage {
    /// Whether more than so many percent are in use.
    pub(super) fn exceeds(self, percent: u64) -> bool {
        u128::from(self.open_fds) * 100 > u128::from(self.limit) * u128::from(percent)
    }

    /// Whether so many percent or more are in use.
    pub(super) fn reaches(self, percent: u64) -> bool {
        self.open_fds > 0 && u128::from(self.open_fds) * 100 >= u128::from(self.limit) * u128::from(percent)
    }
}

/// Counts the descriptors of processes, as this kernel lets it.
#[derive(Debug)]
pub(super) struct Counter {
    /// The size of `/proc/PID/fd` is their number (6.2 and later); before it was 0.
    has_count: bool,
}

impl Counter {
    pub(super) fn new() -> Self {
        let own = fs::metadata("/proc/self/fd");
        Self { has_count: own.is_ok_and(|directory| directory.len() > 0) }
    }

    /// How a process uses its descriptors. `None` where that cannot be read, and where no count is needed to see that it uses no
    /// more than half of them, unless `is_wanted_anyway`.
    pub(super) fn usage(&self, pid: u32, is_wanted_anyway: bool) -> Option<Usage> {
        let limit = limit(pid)?;
        let directory = format!("/proc/{pid}/fd");
        if self.has_count {
            return Some(Usage { open_fds: fs::metadata(directory).ok()?.len(), limit });
        }
        // The table of descriptors only grows, so its size is an upper bound.
        let at_most = table_size(&fs::read(format!("/proc/{pid}/status")).ok()?)?;
        let may_exceed_half = Usage { open_fds: at_most, limit }.exceeds(50);
        if at_most > MAX_LOOKED_THROUGH || !may_exceed_half && !is_wanted_anyway {
            return None;
        }
        Some(Usage { open_fds: fs::read_dir(directory).ok()?.count() as u64, limit })
    }
}

/// How many descriptors the table has room for, from `/proc/PID/status`, whose first line is a name of any bytes.
pub(super) fn table_size(status: &[u8]) -> Option<u64> {
    let status = String::from_utf8_lossy(status);
    status.lines().find_map(|line| line.strip_prefix("FDSize:"))?.trim().parse().ok()
}

/// The soft `RLIMIT_NOFILE` of a process.
fn limit(pid: u32) -> Option<u64> {
    let (mut soft, mut hard) = (0, 0);
    let id = libc::pid_t::try_from(pid).ok()?;
    match rlimit::prlimit(id, Resource::NOFILE, None, Some((&mut soft, &mut hard))) {
        Ok(()) => Some(soft),
        // To ask for another user's takes CAP_SYS_RESOURCE; to read it, which costs 20 times as much, takes nothing.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            soft_limit(&fs::read(format!("/proc/{pid}/limits")).ok()?)
        }
        Err(_) => None,
    }
}

/// The soft `RLIMIT_NOFILE` in `/proc/PID/limits`.
pub(super) fn soft_limit(limits: &[u8]) -> Option<u64> {
    let limits = String::from_utf8_lossy(limits);
    let columns = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    // `unlimited` is no number.
    columns.split_ascii_whitespace().next()?.parse().ok()
}

/// What a look through a process's descriptors found.
#[derive(Debug)]
pub(super) struct Looked {
    /// How many there were.
    pub(super) open_fds: u64,
    /// The inode numbers of those that were sockets.
    pub(super) sockets: Vec<u64>,
}

/// Looks through a process's descriptors; `None` where they may not be read or are too many.
pub(super) fn look_through(pid: u32, open_fds: u64) -> Option<Looked> {
    if open_fds > MAX_LOOKED_THROUGH {
        return None;
    }
    let links = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let mut looked = Looked { open_fds: 0, sockets: Vec::new() };
    for link in links {
        match fs::read_link(link.path()) {
            Ok(file) => {
                looked.open_fds += 1;
                looked.sockets.extend(process::socket_inode(&file));
            }
            // Closed since.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => return None,
        }
    }
    Some(looked)
}

/// The peers with which most of these sockets are connected, most first; none where that cannot be told.
pub(super) fn peers(pid: u32, inodes: &[u64]) -> Vec<PeerSockets> {
    let inodes: HashSet<u64> = inodes.iter().copied().collect();
    let mut by_peer: BTreeMap<IpAddr, u64> = BTreeMap::new();
    for table in ["tcp", "tcp6"] {
        let path = format!("/proc/{pid}/net/{table}");
        let Some(TcpNetEntries(sockets)) = connections(&path) else { return Vec::new() };
        let own = sockets.iter().filter(|socket| inodes.contains(&socket.inode));
        for socket in own.filter(|socket| !matches!(socket.state, TcpState::Listen | TcpState::Close)) {
            *by_peer.entry(socket.remote_address.ip().to_canonical()).or_default() += 1;
        }
    }
    let mut peers: Vec<_> =
        by_peer.into_iter().map(|(remote, sockets)| PeerSockets { remote, sockets }).collect();
    peers.sort_by_key(|peer| std::cmp::Reverse(peer.sockets));
    peers.truncate(PEERS);
    peers
}

/// The sockets of a network namespace's table; `None` where it cannot be read whole.
fn connections(path: &str) -> Option<TcpNetEntries> {
    let mut text = Vec::new();
    let file = match File::open(path) {
        Ok(file) => file,
        // A kernel without IPv6 has no such table.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(TcpNetEntries(Vec::new())),
        Err(_) => return None,
    };
    file.take(MAX_TABLE_BYTES).read_to_end(&mut text).ok()?;
    if text.len() as u64 == MAX_TABLE_BYTES {
        return None;
    }
    sockets_in(&text)
}

/// The sockets of a table such as `/proc/PID/net/tcp`.
fn sockets_in(table: &[u8]) -> Option<TcpNetEntries> {
    /// The table's numbers are in the order of this machine's bytes; what else there is to say of it, no address needs.
    const MACHINE: ExplicitSystemInfo = ExplicitSystemInfo {
        boot_time_secs: 0,
        ticks_per_second: 100,
        page_size: 4096,
        is_little_endian: cfg!(target_endian = "little"),
    };
    TcpNetEntries::from_buf_read(BufReader::new(table), &MACHINE).ok()
}

/// Any bytes in the place of a process's status, its limits and its sockets.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    let _ = table_size(bytes);
    let _ = soft_limit(bytes);
    let _ = sockets_in(bytes);
}
