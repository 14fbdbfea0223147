//! What has to hold for any input, sensible or not. Each property takes any bytes for input of one kind and panics where it does
//! not hold: the tests here try bytes that proptest makes, the fuzz targets in `zsock-agent/fuzz` those that libFuzzer finds.

use std::time::Duration;

use crate::detect::Thresholds;
use crate::engine::{Engine, Timeline};
use crate::record::{Record, printable};
use crate::recording::read::Next;
use crate::report::{Builder, Moment, Options};
use crate::sink::metrics::{Facts, Metrics};
use crate::sink::report::{ReportText, json};
use crate::sink::{Batch, Ndjson, Palette, Renderer, Text, ndjson, samples};
use crate::source::own::Usage;

mod netlink;
mod pages;
mod proc_files;
mod recording_files;
mod recordings;
mod ring_buffer;
mod selectors;

pub use netlink::netlink;
pub use pages::pages;
pub use proc_files::proc_files;
pub use recording_files::recording_files;
pub use recordings::recordings;
#[cfg(test)]
pub(crate) use ring_buffer::assembler;
pub use ring_buffer::ring_buffer;
pub use selectors::selectors;

/// So many sockets, that engines have to let some go.
const FEW_SOCKETS: usize = 8;

/// Takes records as a trace and a report do, and checks what they make of them.
struct Reader {
    engine: Engine,
    json: Renderer,
    text: Text,
    timeline: Timeline,
    report: Builder,
    metrics: Metrics,
}

impl Reader {
    fn new() -> Self {
        let engine = Engine::with_capacity(Thresholds::default(), FEW_SOCKETS);
        // Relative to the end of what is read, and judged by another threshold.
        let options = Options {
            since: Some(Moment::BeforeEnd(Duration::from_hours(1_000_000))),
            thresholds: vec!["stuck_retransmission=1".to_owned()],
            keeps_ends: true,
            ..Options::default()
        };
        Self {
            engine,
            json: Renderer::Ndjson(Ndjson::default()),
            text: Text::new(Palette::PLAIN),
            timeline: samples::timeline(),
            metrics: Metrics::new(Facts::default()),
            report: Builder::new(options),
        }
    }

    /// Judges a record and renders it and its verdicts.
    fn push(&mut self, record: &Record) {
        let findings = self.engine.push(record);
        self.report.push(Next::Record(record.clone()));
        // A verdict that was recorded comes with a timeline of its own reader.
        self.render(record, Some(&self.timeline.clone()));
        for finding in &findings {
            let (first, _, last) = finding.timeline.parts();
            assert!(first.len() + last.len() <= 64, "a timeline is bounded");
            self.render(&finding.record, Some(&finding.timeline));
        }
    }

    /// Checks what all records together came to.
    fn end(self) {
        self.check_metrics();
        let report = self.report.finish();
        let mut told = String::new();
        let text = ReportText { palette: Palette::PLAIN, columns: None, limit: None, is_selective: false };
        text.tell(&report, &mut |text| told.push_str(text));
        json::tell(&report, "host", None, &mut |line| told.push_str(&String::from_utf8_lossy(line)));
        for line in told.split('\n') {
            assert_eq!(printable(line), line);
        }
    }

    /// Numbers that Prometheus can read, and no series for what is in a record: names that this build does not know are one.
    fn check_metrics(&self) {
        let series = |text: &str| -> Vec<String> {
            let samples = text.lines().filter(|line| !line.starts_with("# "));
            let sample = |line: &str| {
                let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
                assert!(value.parse::<f64>().is_ok_and(|value| value >= 0.0), "{line}");
                series.to_owned()
            };
            samples.map(sample).collect()
        };
        let untouched = series(&Metrics::new(Facts::default()).render(Usage::default()));
        let told = series(&self.metrics.render(Usage::default()));
        let is_known = |series: &String| !series.ends_with("=\"other\"}");
        assert_eq!(told.into_iter().filter(is_known).collect::<Vec<_>>(), untouched);
    }

    /// Renders a record in each way: it is told on lines that a terminal may be sent, and JSON is read back as the same.
    fn render(&mut self, record: &Record, timeline: Option<&Timeline>) {
        self.metrics.note(record);
        let mut lines = Batch::default();
        self.json.render(record, timeline, &mut lines);
        assert!(lines.as_bytes() == ndjson::render(record), "an event is written as every record is");
        let line = str::from_utf8(lines.as_bytes()).expect("JSON is UTF-8");
        let content = line.strip_suffix('\n').expect("a record ends its line");
        assert_eq!(printable(content), content);
        let read: Record = serde_json::from_str(content).expect("what is written can be read");
        assert_eq!(&read, record);

        let mut told = String::new();
        self.text.render(record, timeline, &mut |text| told.push_str(text));
        self.text.flush(record.at, &mut |text| told.push_str(text));
        for line in told.split('\n') {
            assert_eq!(printable(line), line);
        }
    }
}

/// A record of each kind, hostile names among them.
fn sample_records() -> Vec<Record> {
    samples::all()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// What a property takes: any bytes, the small and the extreme ones often.
    fn inputs() -> impl Strategy<Value = Vec<u8>> {
        vec(prop_oneof![3 => any::<u8>(), 2 => 0_u8..8, 1 => Just(0xff), 1 => Just(0x80)], 0..2_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn whatever_the_ring_buffer_holds_is_told_judged_rendered_and_read_back(bytes in inputs()) {
            super::ring_buffer(&bytes);
        }

        #[test]
        fn whatever_a_recording_holds_is_refused_or_judged_rendered_and_read_back(bytes in inputs()) {
            super::recordings(&bytes);
        }

        #[test]
        fn whatever_processes_call_themselves_is_data_on_the_page_and_nothing_else(bytes in inputs(), text in any::<String>()) {
            super::pages(&bytes);
            super::pages(text.as_bytes());
            super::pages(format!("{text}</script>{text}<!--<script>").as_bytes());
        }

        #[test]
        fn whatever_a_file_holds_is_read_both_ways_alike_or_its_damage_is_told(bytes in inputs()) {
            super::recording_files(&bytes);
        }

        #[test]
        fn any_command_line_is_refused_in_words_or_selects(bytes in inputs(), text in any::<String>()) {
            super::selectors(&bytes);
            super::selectors(text.as_bytes());
        }

        #[test]
        fn whatever_the_kernel_says_of_sockets_is_told_or_passed_over(bytes in inputs()) {
            super::netlink(&bytes);
        }

        #[test]
        fn any_file_of_proc_is_read_or_passed_over(bytes in inputs(), text in "[ -~\n\t\\\\0-9:()]{0,400}") {
            super::proc_files(&bytes);
            super::proc_files(text.as_bytes());
        }
    }
}
