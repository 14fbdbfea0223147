//! Output: how a record is shown, and how it gets out.
//!
//! Sinks render and never judge: every number that they show stands in the record.

use crate::engine::Timeline;
use crate::record::Record;
use crate::time::Time;

mod actions;
pub mod aside;
pub mod audit;
mod batch;
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
pub use batch::Batch;
pub use ndjson::Ndjson;
pub use palette::Palette;
pub(crate) use quantity::duration;
pub use text::Text;

/// Turns records into the bytes that go to stdout.
#[derive(Debug)]
pub enum Renderer {
    /// For a person.
    Text(Text),
    /// One JSON object a line.
    Ndjson(Ndjson),
}

impl Renderer {
    /// Adds a record to `batch`, line end included. JSON is there at once; text may wait for the end of the batch, [`Renderer::flush`].
    /// `timeline` is what happened to the socket of a verdict until then, where it [shows that](Renderer::shows_timelines): JSON has had
    /// its records already.
    pub fn render(&mut self, record: &Record, timeline: Option<&Timeline>, batch: &mut Batch) {
        let (at, is_verdict) = (record.at, timeline.is_some());
        match self {
            Self::Text(text) => text.render(record, timeline, &mut |text| {
                batch.add(at, is_verdict, |bytes| bytes.extend_from_slice(text.as_bytes()));
            }),
            Self::Ndjson(ndjson) => batch.add(at, is_verdict, |bytes| ndjson.append(record, bytes)),
        }
    }

    /// Whether it shows what happened to the socket of a verdict.
    #[must_use]
    pub const fn shows_timelines(&self) -> bool {
        match self {
            Self::Text(_) => true,
            Self::Ndjson(_) => false,
        }
    }

    /// Ends a batch of records at `now`: adds what waited for that.
    pub fn flush(&mut self, now: Time, batch: &mut Batch) {
        match self {
            Self::Text(text) => text.flush(now, &mut |text| {
                batch.add(now, false, |bytes| bytes.extend_from_slice(text.as_bytes()));
            }),
            Self::Ndjson(_) => {}
        }
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod samples;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Body, Phase, Severity, VerdictName};

    #[test]
    fn the_timeline_of_a_verdict_is_asked_for_where_it_makes_a_difference() {
        let verdict =
            samples::verdict(VerdictName::StuckRetransmission, Phase::Opened, None, Severity::Warning);
        let at = verdict.since;
        let record = Record::new(at, &"web-1".into(), Body::Verdict(Box::new(verdict)));
        let rendered = |mut renderer: Renderer, timeline: &Timeline| {
            let mut batch = Batch::default();
            renderer.render(&record, Some(timeline), &mut batch);
            renderer.flush(at, &mut batch);
            batch.as_bytes().to_vec()
        };
        for new in [|| Renderer::Ndjson(Ndjson::default()), || Renderer::Text(Text::new(Palette::PLAIN))] {
            let [with, without] = [samples::timeline(), Timeline::default()].map(|it| rendered(new(), &it));
            assert_eq!(new().shows_timelines(), with != without);
        }
    }
}
