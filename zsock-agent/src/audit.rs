//! What an audit makes of the sockets that it is given one by one: sums, groups and those that are worst off.
//!
//! Pure: no I/O, no clock. What is kept of a socket is small and what is kept of groups is bounded, for a host may have millions.

use clap::ValueEnum;

mod advice;
mod offenders;
mod row;
mod tally;
mod worst;

pub use advice::advice;
pub use offenders::Offenders;
pub use row::{Owner, Queued, Row, Settings, Shared, Size, Span};
pub use tally::Tally;
pub use worst::{Key, Worst};

/// What connections are counted together by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Grouping {
    /// Process and destination together
    #[default]
    Both,
    /// Process
    Process,
    /// Destination; of accepted connections, our end
    Destination,
    /// Not at all
    None,
}

/// In which order sockets come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Warnings and worse, then those without the peer on this host, then by how late a death would be noticed
    #[default]
    Harm,
    /// The longest until a death would be noticed first
    Noticed,
    /// The longest without a segment first
    Idle,
    /// The most bytes unacknowledged, unsent and unread first, of listeners connections
    Queue,
    /// By name and id of the process
    Process,
    /// By our end
    Local,
    /// By the peer's end
    Remote,
}

#[cfg(test)]
pub(crate) mod samples;
