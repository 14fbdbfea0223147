//! Network namespaces, each removed with its value.

use std::fs;
use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

use crate::command;

const PREFIX: &str = "zsock-bench-";
/// Where `ip netns` keeps them.
const PLACE: &str = "/run/netns";

/// What a tool may take for granted, but this machine may lack: a tracefs, and for bcc the directory where it looks for the
/// kernel's headers. `ip netns exec` has mounts of its own, so that the machine's stay as they are.
const SET_UP: &str = "mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug 2> /dev/null
test -z \"$ZSOCK_BENCH_MODULES\" || mount --bind \"$ZSOCK_BENCH_MODULES\" /lib/modules
echo exec >&2
exec \"$0\" \"$@\"";

/// A network namespace.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// One with a loopback device.
    ///
    /// # Errors
    /// When `ip` cannot make it.
    pub(crate) fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self { name: format!("{PREFIX}{}-{count}", process::id()) };
        ip(&["netns", "add", &namespace.name])?;
        ip(&["-n", &namespace.name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Joins both with a cable, `10.66.0.1` at this end, `10.66.0.2` at the other. Time-outs of retransmission may get as short
    /// as `rto_min`.
    ///
    /// # Errors
    /// When `ip` cannot.
    pub(crate) fn join(&self, other: &Self, rto_min: &str) -> Result<()> {
        let (here, there) = (&*self.name, &*other.name);
        ip(&[
            "link", "add", "cable", "netns", here, "type", "veth", "peer", "name", "cable", "netns", there,
        ])?;
        for (name, address) in [(here, "10.66.0.1/24"), (there, "10.66.0.2/24")] {
            ip(&["-n", name, "address", "add", address, "dev", "cable"])?;
            ip(&["-n", name, "link", "set", "cable", "up"])?;
        }
        ip(&["-n", here, "route", "change", "10.66.0.0/24", "dev", "cable", "rto_min", rto_min])
    }

    /// A file that stands for it.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(PLACE).join(&self.name)
    }

    /// A program to be run inside.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]);
        command
    }

    /// The same with what tools take for granted; says `exec` on stderr when it is the tool's turn.
    pub(crate) fn tool(&self) -> Command {
        let mut command = self.command();
        command.args(["sh", "-c", SET_UP]);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What is left is removed by the next run.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

/// Removes those of runs that were killed.
pub(crate) fn remove_those_of_the_dead() {
    for entry in fs::read_dir(PLACE).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if owner(&name).is_some_and(|pid| !fs::exists(format!("/proc/{pid}")).unwrap_or(true)) {
            drop(Namespace { name });
        }
    }
}

/// The process that made the namespace of this name.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn ip(arguments: &[&str]) -> Result<()> {
    command::output(Command::new("ip").args(arguments)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn only_namespaces_of_this_program_have_an_owner() {
        assert_eq!(owner("zsock-bench-812-3"), Some(812));
        assert_eq!(owner("zsock-bench-blue"), None);
        assert_eq!(owner("zt-812-3-client"), None);
    }
}
