//! The one place that reads clocks.
//!
//! The kernel side stamps the host's CLOCK_MONOTONIC. In a time namespace zsock reads a clock that is shifted against it, so
//! what it reads is shifted back.

use std::fs;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

use crate::time::{Time, nanoseconds};

/// How far the clocks of zsock's time namespace are ahead of the host's. Whoever runs in one cannot leave it.
static AHEAD: LazyLock<Ahead> =
    LazyLock::new(|| Ahead::parse(&fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default()));

/// The host's monotonic clock with its distance from the wall clock, read once.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    offset_ns: u64,
}

impl Clock {
    /// Reads the distance between the clocks.
    ///
    /// # Errors
    /// When the kernel refuses to tell the time.
    pub fn start() -> Result<Self> {
        let wall = read(ClockId::CLOCK_REALTIME)?;
        let monotonic_ns = of_host(read(ClockId::CLOCK_MONOTONIC)?);
        Ok(Self { offset_ns: nanoseconds(wall).saturating_sub(monotonic_ns) })
    }

    /// A clock at this distance.
    #[cfg(any(test, fuzzing))]
    pub(crate) const fn fixed(offset_ns: u64) -> Self {
        Self { offset_ns }
    }

    /// The moment of a monotonic time stamp.
    #[must_use]
    pub fn at(self, monotonic_ns: u64) -> Time {
        Time::from_unix_ns(self.offset_ns.saturating_add(monotonic_ns))
    }

    /// The host's CLOCK_MONOTONIC now, nanoseconds.
    ///
    /// # Panics
    /// Never: CLOCK_MONOTONIC was read at the start and a kernel that has it keeps it.
    #[must_use]
    pub fn monotonic_ns(self) -> u64 {
        of_host(read(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC was read at the start"))
    }
}

/// A moment of the host's CLOCK_BOOTTIME as `/proc` tells it to zsock, nanoseconds. Of one before the beginning of the time
/// namespace's clock `/proc` tells a number that has wrapped around, and so does this.
#[must_use]
pub fn boottime_in_proc_ns(of_host_ns: u64) -> u64 {
    of_host_ns.wrapping_add_signed(AHEAD.boottime_ns)
}

/// How far the clocks of a time namespace are ahead of the host's, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ahead {
    monotonic_ns: i64,
    boottime_ns: i64,
}

impl Ahead {
    /// Reads a `timens_offsets` table. A kernel without time namespaces has none, and shifts no clock.
    fn parse(table: &str) -> Self {
        let of_clock = |clock: &str| {
            table.lines().find_map(|line| {
                let mut fields = line.split_ascii_whitespace();
                let (name, seconds, nanoseconds) = (fields.next()?, fields.next()?, fields.next()?);
                let seconds: i64 = seconds.parse().ok().filter(|_| name == clock)?;
                seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds.parse().ok()?)
            })
        };
        Self {
            monotonic_ns: of_clock("monotonic").unwrap_or(0),
            boottime_ns: of_clock("boottime").unwrap_or(0),
        }
    }
}

/// A reading of CLOCK_MONOTONIC as the host's, nanoseconds.
fn of_host(monotonic: Duration) -> u64 {
    nanoseconds(monotonic).saturating_add_signed(AHEAD.monotonic_ns.saturating_neg())
}

fn read(clock: ClockId) -> Result<Duration> {
    Ok(clock_gettime(clock).with_context(|| format!("read the clock {clock:?}"))?.into())
}

/// Processor time of this thread.
#[must_use]
pub fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Processor time of all threads of this process.
#[must_use]
pub fn process_cpu() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).ok().map(Duration::from)
}

/// The moment so long after the boot, as `/proc` counts it here, by the wall clock as it stands now.
#[must_use]
pub fn since_boot_in_proc(since_boot: Duration) -> Option<Time> {
    let booted = read(ClockId::CLOCK_REALTIME).ok()?.checked_sub(read(ClockId::CLOCK_BOOTTIME).ok()?)?;
    Some(Time::from_unix_ns(nanoseconds(booted + since_boot)))
}

/// Any bytes in the place of the table of shifts.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    let _ = Ahead::parse(&String::from_utf8_lossy(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shifts_of_a_time_namespace_are_read_with_their_signs() {
        let table = "monotonic        -101 500000000\nboottime        86400         0\n";
        let expected = Ahead { monotonic_ns: -100_500_000_000, boottime_ns: 86_400_000_000_000 };
        assert_eq!(Ahead::parse(table), expected);
    }

    #[test]
    fn a_kernel_without_time_namespaces_shifts_no_clock() {
        assert_eq!(Ahead::parse(""), Ahead::default());
        assert_eq!(Ahead::parse("monotonic\nboottime x 0\n"), Ahead::default());
    }
}
