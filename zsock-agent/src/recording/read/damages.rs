//! What is told of the damage in a file: of many passages the first few, of a file that is no recording that alone.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::Damage;
use super::lines::{Ending, Line};
use crate::record::{SCHEMA, What, printable};

/// Told one by one of a file; of more, how many there were.
const TOLD: u64 = 16;

/// No more characters than these are told of what is wrong.
const LONGEST_REASON: usize = 200;

/// The types of schema 1 that stand in recordings beside those of events.
const TYPES: [&str; 5] = ["start", "end", "lost", "tick", "verdict"];

/// Records that other commands write, which stand in no recording.
const OF_OTHERS: [(&str, &[&str]); 4] = [
    ("zsock audit", &["socket", "summary"]),
    ("zsock keepalive` or `zsock kill", &["action", "actions"]),
    ("zsock doctor", &["doctor", "check", "hook", "sysctl"]),
    ("zsock report", &["incident", "timeline", "clock", "run", "damage", "report"]),
];

/// A record of schema 1 that stands in no recording that this zsock knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    /// This command writes it.
    Of(&'static str),
    /// No command of this zsock does: a newer one.
    Newer,
}

/// Tells of the damage in one file.
#[derive(Debug)]
pub(super) struct Damages {
    input: Arc<str>,
    count: u64,
    /// The first of those that were not told one by one.
    first_untold: Option<Damage>,
    /// Those from before the first record: where none comes, they are not worth telling.
    held: Vec<Damage>,
    has_record: bool,
}

impl Damages {
    pub(super) fn new(input: Arc<str>) -> Self {
        Self { input, count: 0, first_untold: None, held: Vec::new(), has_record: false }
    }

    /// Whether a record was found.
    pub(super) fn has_record(&self) -> bool {
        self.has_record
    }

    /// Notes that a record was found, and gives what there was to tell before it.
    pub(super) fn found_record(&mut self) -> Vec<Damage> {
        self.has_record = true;
        std::mem::take(&mut self.held)
    }

    /// Notes a passage that could not be read, and gives it where it is to be told now.
    pub(super) fn add(&mut self, at_byte: u64, line: Option<u64>, why: String) -> Option<Damage> {
        self.count += 1;
        if self.first_untold.is_some() {
            return None;
        }
        let damage = Damage { input: Arc::clone(&self.input), at_byte, line, why };
        if self.count > TOLD {
            self.first_untold = Some(damage);
            return None;
        }
        if self.has_record {
            return Some(damage);
        }
        self.held.push(damage);
        None
    }

    /// What is to be told at the end of the file.
    pub(super) fn close(self) -> Option<Damage> {
        let Self { count, first_untold, held, has_record, .. } = self;
        if has_record {
            let first = first_untold?;
            let more = count - TOLD;
            return Some(Damage {
                why: format!("{more} more passages from here on could not be read"),
                ..first
            });
        }
        let first = held.into_iter().next()?;
        let why = if count == 1 {
            format!("holds no record of zsock: {}", first.why)
        } else {
            format!("holds no record of zsock; the first of {count} passages that are none: {}", first.why)
        };
        Some(Damage { why, ..first })
    }
}

/// Why a line holds no record of a recording: whose it is, where it is one of another kind.
///
/// # Errors
/// What is wrong with it.
pub(super) fn explain(line: &Line<'_>, error: &serde_json::Error) -> Result<Stranger, String> {
    #[derive(Deserialize)]
    struct Envelope {
        schema: Option<Value>,
        r#type: Option<Value>,
    }
    let reason = if !line.text.starts_with(b"{") {
        "is no record: it does not begin with {".to_owned()
    } else if error.is_eof() && line.ending == Ending::File {
        "ends in the midst of a record".to_owned()
    } else if let Ok(Envelope { schema, r#type }) = serde_json::from_slice(line.text) {
        match (schema, r#type) {
            (None, _) => "is JSON but no record of zsock: it has no schema".to_owned(),
            (Some(schema), _) if schema != SCHEMA => other_schema(schema),
            (Some(_), Some(Value::String(name)))
                if !TYPES.iter().chain(&What::TYPES).any(|known| *known == name.as_str()) =>
            {
                let of_others = OF_OTHERS.iter().find(|(_, types)| types.contains(&name.as_str()));
                return Ok(of_others.map_or(Stranger::Newer, |(command, _)| Stranger::Of(command)));
            }
            (Some(_), _) => format!("is no whole record: {}", in_line(error)),
        }
    } else {
        format!("is no record: {}", in_line(error))
    };
    let shown = printable(&reason);
    Err(shown.chars().take(LONGEST_REASON).collect())
}

/// What is wrong, and where in the line; of the file's lines serde knows none.
fn in_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place)
        .map_or_else(|| text.clone(), |what| format!("{what} at column {}", error.column()))
}

/// Why a record of another schema is none here.
pub(super) fn other_schema(schema: impl fmt::Display) -> String {
    format!("is a record of schema {schema}; this zsock reads schema {SCHEMA}")
}
