//! Output: how a record is shown, and how it gets out.
//!
//! Sinks render and never judge: every number that they show stands in the record.

use crate::engine::Timeline;
use crate::record::Record;

mod ndjson;
mod palette;
mod quantity;
pub mod stdout;
mod text;
pub mod writer;

pub use palette::Palette;
pub use text::Text;

/// Turns records into the bytes that go to stdout.
#[derive(Debug)]
pub enum Renderer {
    /// For a person.
    Text(Text),
    /// One JSON object a line.
    Ndjson,
}

impl Renderer {
    /// The bytes of a record, line end included. `timeline` is what happened to the socket of a verdict until then; only text
    /// shows it: JSON has had its records already.
    pub fn render(&mut self, record: &Record, timeline: Option<&Timeline>) -> Vec<u8> {
        match self {
            Self::Text(text) => text.render(record, timeline).into_bytes(),
            Self::Ndjson => ndjson::render(record),
        }
    }
}

#[cfg(test)]
mod samples;
