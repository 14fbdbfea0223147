//! What zsock may do: what it is given at the start, and how little of it is left once it runs.
//!
//! After the start zsock gives up every capability that it needs no more ([`capabilities`]), every way to get one back, and every system
//! call that writes files, opens sockets, loads eBPF programs or starts other programs ([`system_calls`]). All threads that are started
//! afterwards inherit this. The thread that writes what zsock prints is confined by Landlock as well ([`landlock`]); the others cannot be:
//! under Landlock a thread may not look into any process, and to do so is what zsock is for.

use std::path::Path;

use anyhow::{Context, Result};

use crate::source::process;

pub mod capabilities;
pub mod landlock;
pub mod system_calls;

/// What is lost where `/proc` hides processes, and what to do.
const HIDDEN: &str = "/proc hides other users' processes (its mount option hidepid): of those zsock tells fd_pressure only once an accept fails, no \
     blocked_threads, and not whether they have exited. Grant CAP_SYS_PTRACE, or a group for which /proc is mounted (gid=)";

/// The same where zsock is in a PID namespace. The kernel's walk over all files is one over the processes of the caller's.
const OUTSIDE: &str = "zsock runs in a PID namespace: of the processes outside of it those are known that connect, listen or close meanwhile, not those that \
     hold a socket already or accept one; fd_pressure comes only once an accept fails, without numbers; there are neither blocked_threads \
     nor owner_exited, and network namespaces that are mounted nowhere are not found. Run it in the host's (`docker run --pid=host`, \
     `hostPID: true`)";

/// Says which capabilities are missing and what that costs, then gives up what a running zsock does not need, for this thread and those that it starts from here on. `still_works` tries whether the
/// kernel still lets it do its work.
///
/// # Errors
/// When a capability that is held cannot be given up. That the kernel lacks a way to confine zsock is no error: it is logged.
pub fn give_up(still_works: impl FnMut() -> bool) -> Result<()> {
    capabilities::report_unmet();
    if !process::proc_has_our_ids() {
        log::warn!("{OUTSIDE}");
    } else if process::proc_hides_others() {
        log::warn!("{HIDDEN}");
    }
    let kept = capabilities::give_up(still_works).context("give up capabilities")?;
    log::info!("capabilities kept: {}", capabilities::names(&kept));
    nix::sys::prctl::set_no_new_privs().context("forbid new privileges (PR_SET_NO_NEW_PRIVS)")?;
    match system_calls::refuse() {
        Ok(()) => log::info!("refused from now on: {}", system_calls::REFUSED),
        Err(error) => log::info!("no system call is refused, the kernel has no way to: {error:#}"),
    }
    Ok(())
}

/// Gives up, for this thread, all but the right to write below `writable`. What the kernel has no way to take is kept, and logged.
pub fn give_up_but_writing(writable: &Path) {
    let given_up = capabilities::give_up_but_writing()
        .and_then(|()| {
            nix::sys::prctl::set_no_new_privs().context("forbid new privileges (PR_SET_NO_NEW_PRIVS)")
        })
        .and_then(|()| landlock::confine_writer(&[writable]));
    match given_up {
        Ok(told) => log::info!("the recorder's thread is {told}"),
        Err(error) => log::info!("the recorder's thread is not confined: {error:#}"),
    }
    if let Err(error) = system_calls::refuse_but_writing() {
        log::info!("the recorder's thread is refused no system call: {error:#}");
    }
}
