//! Output: how a record is shown, and how it gets out.
//!
//! Sinks render and never judge: every number that they show stands in the record.

use crate::record::{Record, Tcp, What};
use crate::time::Time;

mod ndjson;
mod palette;
mod quantity;
mod text;
pub mod writer;

pub use palette::Palette;
pub use text::Text;

/// What happened to the socket of a verdict until then, oldest first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timeline<'a> {
    /// The entries that were kept.
    pub entries: &'a [TimelineEntry],
    /// How many older ones were not.
    pub omitted: usize,
}

/// One thing that happened to a socket.
#[derive(Clone, Debug, PartialEq)]
pub struct TimelineEntry {
    /// When.
    pub at: Time,
    /// What.
    pub what: What,
    /// How TCP stood after it.
    pub tcp: Tcp,
    /// Told after the fact.
    pub replayed: bool,
    /// Concluded, not seen.
    pub inferred: bool,
}

/// Turns records into the bytes that go to stdout.
#[derive(Debug)]
pub enum Renderer {
    /// For a person.
    Text(Text),
    /// One JSON object a line.
    Ndjson,
}

impl Renderer {
    /// The bytes of a record, line end included. Only text shows the timeline: JSON has had its records already.
    pub fn render(&mut self, record: &Record, timeline: Timeline<'_>) -> Vec<u8> {
        match self {
            Self::Text(text) => text.render(record, timeline).into_bytes(),
            Self::Ndjson => ndjson::render(record),
        }
    }
}

#[cfg(test)]
mod samples;
