//! Output: how a record is shown, and how it gets out.
//!
//! Sinks render and never judge: every number that they show stands in the record.

use crate::engine::Timeline;
use crate::record::Record;
use crate::time::Time;

mod actions;
pub mod aside;
pub mod audit;
pub mod doctor;
pub mod html;
pub mod metrics;
pub mod ndjson;
mod palette;
pub(crate) mod quantity;
pub mod report;
pub mod stdout;
mod text;
pub mod writer;

pub use actions::ActionText;
pub use palette::Palette;
pub(crate) use quantity::duration;
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
    /// Gives out a record, line end included, each call of `emit` one record's worth. JSON goes out at once; text may wait for the end of
    /// the batch, [`Renderer::flush`]. `timeline` is what happened to the socket of a verdict until then; only text shows it: JSON
    /// has had its records already.
    pub fn render(&mut self, record: &Record, timeline: Option<&Timeline>, emit: &mut dyn FnMut(&[u8])) {
        match self {
            Self::Text(text) => text.render(record, timeline, &mut |text| emit(text.as_bytes())),
            Self::Ndjson => {
                let mut line = Vec::with_capacity(ndjson::USUAL_BYTES);
                ndjson::append(record, &mut line);
                emit(&line);
            }
        }
    }

    /// Ends a batch of records at `now`: gives out what waited for that.
    pub fn flush(&mut self, now: Time, emit: &mut dyn FnMut(&[u8])) {
        match self {
            Self::Text(text) => text.flush(now, &mut |text| emit(text.as_bytes())),
            Self::Ndjson => {}
        }
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod samples;
