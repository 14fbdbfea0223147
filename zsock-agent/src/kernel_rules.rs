//! The kernel's own rules for TCP timers, as pure functions: when the next one acts, when the kernel gives up, why a
//! segment was sent again.
//!
//! Reads no clock and does no I/O. The rules are those of `net/ipv4/tcp_timer.c` and `kernel/time/timer.c`.

mod cause;
mod deadline;
mod jiffies;

pub use cause::{SegmentFacts, retransmission_cause};
pub use deadline::{Discovery, Forecast, Moment, Pending, Timers, discovery, forecast};
pub use jiffies::{Jiffies, hz_among, hz_from};
