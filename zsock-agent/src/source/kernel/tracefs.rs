//! The file system of the kernel's tracepoints, where nobody has mounted it.

use std::path::Path;

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Where tracefs belongs; a kernel with tracepoints has the directory.
const PLACE: &str = "/sys/kernel/tracing";
/// Where it is as well, if debugfs is mounted.
const PLACE_IN_DEBUGFS: &str = "/sys/kernel/debug/tracing";

/// Runs `work` where it finds tracefs: on this thread, or on one with mounts of its own, which end with it. Nobody else sees them.
///
/// # Errors
/// When tracefs is neither mounted nor can be, for which a process needs `CAP_SYS_ADMIN`.
pub(super) fn with<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    if [PLACE, PLACE_IN_DEBUGFS].iter().any(|place| Path::new(place).join("events").exists()) {
        return Ok(work());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || mount_privately().map(|()| work()));
        let thread = thread.context("start a thread with mounts of its own")?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn mount_privately() -> Result<()> {
    const NOWHERE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("make mounts of its own for a thread")?;
    mount(NOWHERE, "/", NOWHERE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOWHERE)
        .context("part a thread's mounts from the host's")?;
    mount(Some("tracefs"), PLACE, Some("tracefs"), MsFlags::empty(), NOWHERE)
        .with_context(|| format!("mount tracefs at {PLACE}"))
}
