//! Files of `/proc`, which hold names that others chose.

use crate::run::read_any as read_any_of_run;
use crate::source::{blocked, cgroup, clock, fds, mountinfo, namespaces, process, sysctl};

/// The content of any file of `/proc` that is read.
///
/// # Panics
/// Where the property does not hold.
pub fn proc_files(bytes: &[u8]) {
    process::read_any(bytes);
    fds::read_any(bytes);
    blocked::read_any(bytes);
    clock::read_any(bytes);
    mountinfo::read_any(bytes);
    cgroup::read_any(bytes);
    namespaces::read_any(bytes);
    sysctl::read_any(bytes);
    read_any_of_run(bytes);
}
