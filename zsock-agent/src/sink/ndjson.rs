//! NDJSON: one record a line, as the schema says.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter};

use crate::record::{Body, Record, printable};
use again::Repeated;

mod again;
mod event;
mod line;
mod verdict;

/// Room for the line of an event, so that it need not grow bit by bit.
const USUAL_BYTES: usize = 1024;

/// Writes the lines of one record after the other, each with the bytes of [`render`]: of an event or a verdict several times as fast.
#[derive(Debug, Default)]
pub struct Ndjson {
    repeated: Repeated,
}

impl Ndjson {
    /// Appends the line of a record.
    ///
    /// # Panics
    /// As [`render`].
    pub fn append(&mut self, record: &Record, lines: &mut Vec<u8>) {
        match &record.body {
            Body::Event(event) => {
                event::append(record, event, &mut self.repeated, lines);
                lines.push(b'\n');
            }
            Body::Verdict(verdict) => {
                verdict::append(record, verdict, &mut self.repeated, lines);
                lines.push(b'\n');
            }
            Body::Start(_)
            | Body::End(_)
            | Body::Lost(_)
            | Body::Shed(_)
            | Body::Process(_)
            | Body::Destination(_)
            | Body::Tick(_) => lines.extend_from_slice(&render(record)),
        }
    }
}

/// The line of a record.
///
/// # Panics
/// On maps whose keys are no strings, of which records have none.
pub fn render<T: Serialize>(record: &T) -> Vec<u8> {
    let mut line = Vec::with_capacity(USUAL_BYTES);
    write(record, &mut line, CompactFormatter);
    // JSON escapes the control characters by itself. Only beyond plain ASCII is there anything to look for, and that is rare.
    if !line.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        line.clear();
        write(record, &mut line, Printable);
    }
    line.push(b'\n');
    line
}

fn write(record: &(impl Serialize + ?Sized), line: &mut Vec<u8>, formatter: impl Formatter) {
    record
        .serialize(&mut Serializer::with_formatter(line, formatter))
        .expect("the maps of a record have strings for keys, and a Vec takes every byte");
}

/// Compact JSON that a terminal shows as it is. JSON itself wants escapes for the control characters of ASCII only;
/// others move cursors and hide text as well.
struct Printable;

impl Formatter for Printable {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let shows = |text: &str| matches!(printable(text), Cow::Borrowed(_));
        if shows(fragment) {
            return writer.write_all(fragment.as_bytes());
        }
        for c in fragment.chars() {
            let (mut eight, mut sixteen) = ([0; 4], [0; 2]);
            let text = c.encode_utf8(&mut eight);
            if shows(text) {
                writer.write_all(text.as_bytes())?;
            } else {
                c.encode_utf16(&mut sixteen).iter().try_for_each(|unit| write!(writer, "\\u{unit:04x}"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::samples;
    use super::*;
    use crate::record::{Phase, Severity, Verdict, VerdictName};

    #[test]
    fn every_record_is_one_line_of_json() {
        let lines: Vec<u8> = samples::all().iter().flat_map(render).collect();
        insta::assert_snapshot!(String::from_utf8(lines).unwrap());
    }

    #[test]
    fn events_and_verdicts_are_written_fast_as_every_record_is() {
        let facts = json!({"share": 0.5, "below": -3, "is": true, "none": null, "a\u{1b}\"b": "\u{202e}"});
        let verdict = samples::verdict(VerdictName::StaleReset, Phase::Closed, None, Severity::Info);
        let odd = Verdict { evidence: facts.as_object().unwrap().clone(), advice: Vec::new(), ..verdict };
        let odd = Record::new(odd.since, &"web-1".into(), Body::Verdict(Box::new(odd)));
        let (mut ndjson, mut lines) = (Ndjson::default(), Vec::new());
        for record in samples::all().into_iter().chain([odd]) {
            lines.clear();
            ndjson.append(&record, &mut lines);
            assert_eq!(String::from_utf8_lossy(&lines), String::from_utf8_lossy(&render(&record)));
        }
    }

    #[test]
    fn hostile_names_are_escaped_and_read_back_whole() {
        for record in samples::all() {
            let line = String::from_utf8(render(&record)).unwrap();
            assert!(matches!(printable(line.strip_suffix('\n').unwrap()), Cow::Borrowed(_)), "{line:?}");
            assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
        }
    }

    #[test]
    fn characters_beyond_16_bits_are_escaped_in_two_units() {
        let host = std::sync::Arc::from("a\u{e0041}\u{7f}ü");
        let body = Body::End(Box::default());
        let record = Record::new(crate::time::Time::from_unix_ns(0), &host, body);
        let line = String::from_utf8(render(&record)).unwrap();
        assert!(line.contains(r#""host":"a\udb40\udc41\u007fü""#), "{line}");
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
    }
}
