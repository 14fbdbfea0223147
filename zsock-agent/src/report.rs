//! What recordings tell in hindsight: verdicts, the incidents that they make together, and the timeline of each socket.
//!
//! Built from records by the engine that judges live; sinks show it as text, JSON or HTML.

use std::sync::Arc;

use crate::engine::Timeline;
use crate::record::{Destination, Process, Record, Severity, Shed, Subject, VerdictName};
use crate::recording::read::Damage;
use crate::time::Time;

mod advice;
mod build;
mod clocks;
mod incidents;
mod join;
mod moment;
mod others;
mod parts;
mod runs;
mod stories;
#[cfg(test)]
pub(crate) mod tests;
mod unjoined;
mod words;

pub use build::{Builder, Options};
pub(crate) use clocks::corrected;
pub(crate) use join::mark;
pub use moment::Moment;

/// All that is shown of recordings.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was read: one for each run of `trace` or `record`, in the order of their beginnings.
    pub runs: Vec<Run>,
    /// What had a verdict, in the order in which trouble began.
    pub stories: Vec<Story>,
    /// Verdicts alike, in order of harm.
    pub incidents: Vec<Incident>,
    /// Connections of which both ends were recorded.
    pub joins: Vec<Join>,
    /// Why connections could not be joined that look as if they could be.
    pub unjoined: Vec<String>,
    /// How the clocks of hosts stand to each other that share connections.
    pub clocks: Vec<ClockOffset>,
    /// What could not be read.
    pub damages: Vec<Damage>,
    /// More of these than are listed.
    pub damages_dropped: u64,
    /// Records that were read twice, as of a copy of a file that was read too. They count once.
    pub repeated: u64,
    /// Stories that found no room, as memory is bounded.
    pub stories_dropped: u64,
    /// Sockets that were let go for want of memory before they could be judged to their end.
    pub sockets_dropped: u64,
}

/// One run of `trace` or `record`, as far as it was recorded.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// The host's name.
    pub host: Arc<str>,
    /// Its boot; socket ids are unique within it. Absent where no `start` record tells it.
    pub boot_id: Option<Arc<str>>,
    /// Release of its kernel; absent as above.
    pub kernel: Option<Arc<str>>,
    /// The first and the last record; absent where there is none.
    pub span: Option<(Time, Time)>,
    /// Records read.
    pub records: u64,
    /// Records that the recording itself says were lost.
    pub lost: u64,
    /// Times in which nothing was recorded although zsock should have: from, until.
    pub gaps: Vec<(Time, Time)>,
    /// What zsock did without from some moment on, to use less of a processor.
    pub shed: Vec<(Time, Shed)>,
    /// Whether records of it come again, or in the wrong order.
    pub is_repeated: bool,
    /// Whether its `end` was recorded: it was ended in order.
    pub is_ended: bool,
}

/// What there is to tell of one socket, process or destination that had a verdict.
#[derive(Clone, Debug)]
pub struct Story {
    /// Its run, as a place in [`Report::runs`].
    pub run: usize,
    /// Who it is, as was told last.
    pub subject: Subject,
    /// Its verdicts as they were told: opened, updated, closed.
    pub verdicts: Vec<Record>,
    /// The place of each of them among all verdicts, as they were told one after another.
    pub order: Vec<u64>,
    /// What happened to the socket, from its birth where that was recorded.
    pub timeline: Timeline,
    /// First and last thing that is told of it.
    pub span: (Time, Time),
    /// The other end of the connection, where that was recorded too: a place in [`Report::stories`].
    pub other_end: Option<usize>,
}

/// Verdicts of one kind that struck connections of one owner to one destination at about the same time.
#[derive(Clone, Debug)]
pub struct Incident {
    /// The gravest verdict that each of its stories has.
    pub verdict: VerdictName,
    /// How bad.
    pub severity: Severity,
    /// Its host.
    pub host: Arc<str>,
    /// Whose connections; absent where their owner is not known. Of many processes alike the first.
    pub process: Option<Process>,
    /// Where they go, or which of our ports they came in on; absent where that differs or is not known.
    pub place: Option<Place>,
    /// When it struck first and last.
    pub span: (Time, Time),
    /// Its stories, as places in [`Report::stories`].
    pub stories: Vec<usize>,
    /// One sentence for a person on call.
    pub summary: String,
    /// What to change, once for all of them.
    pub advice: Vec<String>,
}

/// One end that the connections of an incident have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// They were made to this address and port.
    To(Destination),
    /// They were accepted on this address and port.
    On(Destination),
}

/// A connection of which both ends were recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The story of the end that made the connection, as a place in [`Report::stories`]; where that is not known, of either.
    pub client: usize,
    /// The story of the other end.
    pub server: usize,
    /// Who knew what when, by the clock of the client's host; absent where neither knew of an end.
    pub summary: Option<String>,
    /// By so much the clock of the server's host is ahead of the client's; zero on one host, and where it is not known. Nanoseconds.
    pub server_ahead_ns: i64,
}

/// How far the clock of one host is ahead of another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    /// The host whose clock is taken for right.
    pub reference: Arc<str>,
    /// The other one.
    pub host: Arc<str>,
    /// By so much the other one's clock is ahead; negative where it is behind. Nanoseconds.
    pub ahead_ns: i64,
    /// It may be off by so much. Nanoseconds.
    pub uncertainty_ns: u64,
    /// So many state changes, seen from both ends, it rests on.
    pub changes: u64,
}
