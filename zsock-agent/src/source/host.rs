//! What the host says of itself and of what zsock may do, gathered for [`doctor`](crate::doctor). Judges nothing.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};

use super::process;

mod ask;

/// What a file says, or why it could not be read.
pub type Content = Result<String, io::Error>;

/// What was found.
#[derive(Debug)]
pub struct Host {
    /// Capabilities that are held.
    pub held: Result<HashSet<Capability>, String>,
    /// The inode number of zsock's user namespace.
    pub user_namespace: Result<u64, io::Error>,
    /// `/proc/self/status`.
    pub status: Content,
    /// `/sys/kernel/security/lockdown`.
    pub lockdown: Content,
    /// Whether anything is mounted at `/sys/kernel/security`.
    pub has_securityfs: bool,
    /// The hard limit of locked memory, bytes.
    pub locked_memory: Result<u64, Errno>,
    /// `/proc/sys/kernel/yama/ptrace_scope`.
    pub ptrace_scope: Content,
    /// Whether `/proc` shows processes by their ids in the host's PID namespace.
    pub proc_has_our_ids: bool,
    /// Whether `/proc` hides other users' processes.
    pub proc_hides_others: bool,
    /// What came back when TCP sockets were asked for by `sock_diag`, none in particular.
    pub sock_diag: Result<(), Errno>,
    /// What came back when a socket that cannot exist was to be destroyed.
    pub sock_destroy: Result<(), Errno>,
    /// What came back when zsock asked for a descriptor of its own by `pidfd_getfd`.
    pub pidfd_getfd: Result<(), Errno>,
}

impl Host {
    /// Looks and asks. Changes nothing.
    #[must_use]
    pub fn examine() -> Self {
        Self {
            held: caps::read(None, CapSet::Effective).map_err(|error| error.to_string()),
            user_namespace: fs::metadata("/proc/self/ns/user").map(|metadata| metadata.ino()),
            status: fs::read("/proc/self/status").map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            lockdown: fs::read_to_string("/sys/kernel/security/lockdown"),
            has_securityfs: fs::read_dir("/sys/kernel/security")
                .is_ok_and(|mut entries| entries.next().is_some()),
            locked_memory: getrlimit(Resource::RLIMIT_MEMLOCK).map(|(_, hard)| hard),
            ptrace_scope: fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope"),
            proc_has_our_ids: process::proc_has_our_ids(),
            proc_hides_others: process::proc_hides_others(),
            sock_diag: ask::for_no_socket(),
            sock_destroy: ask::to_destroy_no_socket(),
            pidfd_getfd: ask::for_own_descriptor(),
        }
    }
}

/// The kernel's release, as `uname -r` says.
#[must_use]
pub fn kernel_release() -> Option<String> {
    Some(nix::sys::utsname::uname().ok()?.release().to_string_lossy().into_owned())
}
