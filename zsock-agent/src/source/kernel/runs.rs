//! How often the programs ran and for how long, as the kernel counts it while its statistics are on.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;

use aya::programs::{Program, ProgramFd};
use aya::sys::{Stats, enable_stats};

use super::Kernel;

/// Whether the kernel times programs.
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// What the kernel has counted of each program, by its name, since it was loaded.
pub type Runs = BTreeMap<Arc<str>, Counted>;

/// What the kernel has counted of one program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How often it ran while the statistics were on.
    pub runs: u64,
    /// How long that took.
    pub run_ns: u64,
    /// Runs that were skipped because the same program was running on that CPU. Kernels before 5.12 do not count.
    pub skipped: u64,
    /// It runs where something happens, in whatever the CPU was doing. The others run inside of zsock's own calls, whose time is zsock's.
    pub is_hook: bool,
}

impl Counted {
    /// Reads what `/proc/self/fdinfo` says of a program's descriptor.
    fn parse(facts: &str, is_hook: bool) -> Option<Self> {
        let number = |name: &str| {
            let value = facts.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.map_or(Some(0), |value| value.trim().parse::<u64>().ok())
        };
        let (runs, run_ns, skipped) =
            (number("run_cnt")?, number("run_time_ns")?, number("recursion_misses")?);
        Some(Self { runs, run_ns, skipped, is_hook })
    }

    fn of(fd: &ProgramFd, is_hook: bool) -> Option<Self> {
        let facts = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).ok()?;
        Self::parse(&facts, is_hook)
    }
}

impl Kernel {
    /// Whether the kernel counts runs, because somebody has set it to or zsock asks for it.
    #[must_use]
    pub fn counts_runs(&self) -> bool {
        let is_set = || fs::read_to_string(STATISTICS).is_ok_and(|value| value.trim() != "0");
        self.statistics.is_some() || is_set()
    }

    /// Asks the kernel to count runs for a while, which costs every program of the host some nanoseconds a run. Returns whether it does:
    /// it takes `CAP_SYS_ADMIN` and Linux 5.8.
    pub fn begin_to_count(&mut self) -> bool {
        if !self.counts_runs() {
            let asked = enable_stats(Stats::RunTime);
            self.statistics = asked.inspect_err(|error| log::info!("count runs of programs: {error}")).ok();
        }
        self.counts_runs()
    }

    /// Asks for it no longer.
    pub fn cease_to_count(&mut self) {
        self.statistics = None;
    }

    /// What the kernel has counted of every program that was ever attached. Opens a file for each; `None` where one of them cannot be read.
    #[must_use]
    pub fn runs(&self) -> Option<Runs> {
        let loaded = self.ebpf.programs().filter_map(|(name, program)| {
            let counted = Counted::of(program.fd().ok()?, !matches!(program, Program::Iter(_)));
            Some((Arc::from(name), counted))
        });
        let detached = self.detached.iter().map(|(name, fd)| (Arc::clone(name), Counted::of(fd, true)));
        loaded.chain(detached).map(|(name, counted)| Some((name, counted?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_tells_what_the_kernel_counted_of_its_program() {
        let facts = "pos:\t0\nprog_type:\t26\nrun_time_ns:\t1180\nrun_cnt:\t10\nrecursion_misses:\t3\n";
        let counted = Counted { runs: 10, run_ns: 1_180, skipped: 3, is_hook: true };
        assert_eq!(Counted::parse(facts, true), Some(counted));
    }

    #[test]
    fn an_old_kernel_counts_no_skipped_runs_and_nonsense_is_no_number() {
        let counted = Counted { runs: 2, run_ns: 70, skipped: 0, is_hook: false };
        assert_eq!(Counted::parse("run_time_ns:\t70\nrun_cnt:\t2\n", false), Some(counted));
        assert_eq!(Counted::parse("run_time_ns:\t70\nrun_cnt:\tmany\n", false), None);
    }
}
