//! What zsock itself takes of the machine.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};
use procfs_core::FromRead as _;
use procfs_core::process::{Stat, Status};

use crate::source::clock;
use crate::time::Time;

/// What was taken so far and is held now. What cannot be found out is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all threads.
    pub cpu: Option<Duration>,
    /// Memory in RAM, of that which the process maps: the kernel's maps and buffers are not part of it.
    pub resident_bytes: Option<u64>,
    /// The most that this ever was.
    pub peak_resident_bytes: Option<u64>,
    /// Address space.
    pub virtual_bytes: Option<u64>,
    /// When the process was started.
    pub started: Option<Time>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// The soft limit of these.
    pub max_fds: Option<u64>,
}

impl Usage {
    /// Looks.
    #[must_use]
    pub fn read() -> Self {
        let stat = fs::File::open("/proc/self/stat").ok().and_then(|file| Stat::from_read(file).ok());
        // Not what `getrusage` says: that is also of the program which started this one.
        let status = fs::File::open("/proc/self/status").ok().and_then(|file| Status::from_read(file).ok());
        let positive = |variable| u64::try_from(sysconf(variable).ok()??).ok().filter(|value| *value > 0);
        let page_bytes = positive(SysconfVar::PAGE_SIZE);
        let ticks_a_second = positive(SysconfVar::CLK_TCK);
        let since_boot = stat.as_ref().zip(ticks_a_second).map(|(stat, hz)| {
            Duration::from_secs(stat.starttime / hz)
                + Duration::from_secs(stat.starttime % hz) / u32::try_from(hz).unwrap_or(u32::MAX)
        });
        // To look takes a descriptor, too.
        let open_fds =
            fs::read_dir("/proc/self/fd").ok().map(|entries| (entries.count() as u64).saturating_sub(1));
        Self {
            cpu: clock::process_cpu(),
            resident_bytes: stat.as_ref().zip(page_bytes).map(|(stat, bytes)| stat.rss.saturating_mul(bytes)),
            peak_resident_bytes: status.and_then(|status| status.vmhwm?.checked_mul(1_024)),
            virtual_bytes: stat.as_ref().map(|stat| stat.vsize),
            started: since_boot.and_then(clock::since_boot_in_proc),
            open_fds,
            max_fds: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_process_takes_is_found() {
        let usage = Usage::read();
        // Other tests open files at the same time.
        assert!((3..10_000).contains(&usage.open_fds.unwrap()), "{usage:?}");
        assert!(usage.max_fds >= usage.open_fds);
        assert!((1 << 20..1 << 33).contains(&usage.resident_bytes.unwrap()), "{usage:?}");
        assert!(
            (usage.resident_bytes.min(Some(1 << 20))..usage.virtual_bytes)
                .contains(&usage.peak_resident_bytes),
            "{usage:?}"
        );
        assert!(usage.virtual_bytes >= usage.resident_bytes);
        assert!(usage.cpu.unwrap() > Duration::ZERO);
        let clock = clock::Clock::start().unwrap();
        let age = clock.at(clock.monotonic_ns()).since(usage.started.unwrap());
        assert!(age < Duration::from_hours(1), "{age:?}");
    }
}
