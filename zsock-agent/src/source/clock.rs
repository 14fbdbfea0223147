//! The one place that reads clocks.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

use crate::time::{Time, nanoseconds};

/// The kernel's monotonic clock with its distance from the wall clock, read once.
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
        let monotonic = read(ClockId::CLOCK_MONOTONIC)?;
        Ok(Self { offset_ns: nanoseconds(wall).saturating_sub(nanoseconds(monotonic)) })
    }

    /// A clock at this distance.
    #[cfg(test)]
    pub(crate) const fn fixed(offset_ns: u64) -> Self {
        Self { offset_ns }
    }

    /// The moment of a monotonic time stamp.
    #[must_use]
    pub fn at(self, monotonic_ns: u64) -> Time {
        Time::from_unix_ns(self.offset_ns.saturating_add(monotonic_ns))
    }

    /// CLOCK_MONOTONIC now, nanoseconds.
    ///
    /// # Panics
    /// Never: CLOCK_MONOTONIC was read at the start and a kernel that has it keeps it.
    #[must_use]
    pub fn monotonic_ns(self) -> u64 {
        nanoseconds(read(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC was read at the start"))
    }
}

fn read(clock: ClockId) -> Result<Duration> {
    Ok(clock_gettime(clock).with_context(|| format!("read the clock {clock:?}"))?.into())
}
