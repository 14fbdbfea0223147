//! What the host says of itself and of what zsock may do, gathered for [`doctor`](crate::doctor). Judges nothing.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};

use super::{diag, process};
use crate::record::SocketId;

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
    /// What came back by `sock_diag` when a socket that does not exist was to be destroyed.
    pub sock_destroy: Result<diag::Outcome, diag::Error>,
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
            sock_destroy: destroy_nothing(),
            pidfd_getfd: own_descriptor(),
        }
    }
}

/// The kernel's release, as `uname -r` says.
#[must_use]
pub fn kernel_release() -> Option<String> {
    Some(nix::sys::utsname::uname().ok()?.release().to_string_lossy().into_owned())
}

/// Has the kernel destroy the socket with the cookie 0, which none has: one that can do it finds no such socket, one that cannot says so
/// before it looks.
fn destroy_nothing() -> Result<diag::Outcome, diag::Error> {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    diag::destroy(&diag::Target { id: SocketId(0), local: nowhere, remote: Some(nowhere), v4mapped: false })
}

/// Asks for a descriptor of zsock's own, which whoever may ask at all may have.
fn own_descriptor() -> Result<(), Errno> {
    let own = |result: libc::c_long| {
        let fd = Errno::result(result)?;
        let fd = libc::c_int::try_from(fd).map_err(|_| Errno::EBADF)?;
        // SAFETY: the kernel has just made it for this process, and nobody else has it.
        Ok::<_, Errno>(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    // SAFETY: the call takes numbers and makes a descriptor.
    let process = own(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) })?;
    // SAFETY: as above.
    own(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), process.as_raw_fd(), 0) })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not even root is needed.
    #[test]
    fn the_kernel_answers() {
        let answer = destroy_nothing().unwrap();
        let expected = [diag::Outcome::Gone, diag::Outcome::NotPermitted, diag::Outcome::NotBuiltIn];
        assert!(expected.contains(&answer), "{answer:?}");
        assert_eq!(own_descriptor(), Ok(()));
    }
}
