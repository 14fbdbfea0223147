//! Who holds which socket, by one look through the descriptors of every process that `/proc` opens.

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::super::Holder;
use crate::record;
use crate::source::process::{self, Process};

/// Who holds which socket.
#[derive(Default)]
pub(super) struct Holders {
    processes: Vec<(record::Process, Arc<Process>)>,
    /// By inode number: number of the process, and the descriptor.
    by_inode: HashMap<u32, (usize, u32)>,
    /// Processes whose descriptors may not be read.
    refused: u64,
    /// `/proc` hides processes.
    has_hidden: bool,
    /// `/proc` is of a PID namespace of its own: it has other ids than records do.
    is_foreign: bool,
}

impl Holders {
    /// Looks through every process once.
    pub(super) fn look_up() -> Self {
        if !process::proc_has_our_ids() {
            return Self { is_foreign: true, ..Self::default() };
        }
        let mut holders = Self { has_hidden: process::proc_hides_others(), ..Self::default() };
        for pid in process::pids() {
            holders.look_through(pid);
        }
        holders
    }

    /// Who holds the socket with this inode number: the process as records name it, and the descriptor.
    pub(super) fn of(&self, inode: u32) -> Option<(&record::Process, Holder)> {
        let (number, fd) = *self.by_inode.get(&inode)?;
        let (owner, process) = &self.processes[number];
        Some((owner, Holder { process: Arc::clone(process), fd }))
    }

    /// What is not known of owners, in words.
    pub(super) fn not_told(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.is_foreign {
            words.push("owners: /proc shows a PID namespace of its own; run in the host's".to_owned());
        }
        if self.has_hidden {
            words.push("owners that /proc hides (hidepid); run as root".to_owned());
        }
        if self.refused > 0 {
            words.push(format!(
                "what {} processes hold that /proc does not open to this user, and the network namespaces that only they are in; run as root",
                self.refused
            ));
        }
        words
    }

    fn look_through(&mut self, pid: u32) {
        // A process that ended meanwhile holds nothing any more.
        let process::Found::Runs(process) = Process::find(pid) else { return };
        let sockets = match sockets(pid) {
            Ok(sockets) if sockets.is_empty() => return,
            Ok(sockets) => sockets,
            Err(error) => {
                self.refused += u64::from(error.kind() == ErrorKind::PermissionDenied);
                return;
            }
        };
        if process.has_exited() == Some(true) {
            return;
        }
        let number = self.processes.len();
        self.processes.push((process.as_record(), Arc::new(process)));
        let processes = &self.processes;
        let start = |number: usize| processes[number].1.start_ns;
        for (inode, fd) in sockets {
            let known = self.by_inode.entry(inode).or_insert((number, fd));
            // The others inherited it.
            if start(number) < start(known.0) {
                *known = (number, fd);
            }
        }
    }
}

/// The sockets among a process's descriptors: inode number and descriptor.
fn sockets(pid: u32) -> io::Result<Vec<(u32, u32)>> {
    let mut sockets = Vec::new();
    for link in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let file = match fs::read_link(link.path()) {
            Ok(file) => file,
            // Closed since.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let inode = process::socket_inode(&file).and_then(|inode| u32::try_from(inode).ok());
        let descriptor = link.file_name().to_str().and_then(|name| name.parse().ok());
        sockets.extend(inode.zip(descriptor));
    }
    Ok(sockets)
}
