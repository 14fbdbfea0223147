//! What a recording holds, record by record; what cannot be read of it is told with its place, and the rest is read on.
//!
//! Memory is bounded whatever stands there: lines, frames and what is told of damage have limits.

use std::collections::VecDeque;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;

use crate::record::{Record, SCHEMA, printable};

mod as_written;
mod cursor;
mod damages;
mod lines;
mod names;
mod paths;
mod stored;
#[cfg(test)]
mod tests;
mod text;

use damages::{Damages, Stranger};
use lines::{Ending, Line, Lines, Piece};
use names::Names;
use paths::Place;

/// What comes next in a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// A record.
    Record(Record),
    /// Something that is none.
    Damage(Damage),
}

/// A passage of a recording that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, or `-` for stdin, as a terminal may be sent it.
    pub input: Arc<str>,
    /// Where the passage begins: bytes from the start of the file as it is stored. Of a line in a zstd frame, where the frame begins.
    pub at_byte: u64,
    /// The line of the text, from 1 on; absent where it cannot be told, as after a frame that could not be read.
    pub line: Option<u64>,
    /// What is wrong with it, as a terminal may be sent it.
    pub why: String,
}

/// Records of schema 1 that stand in no recording that this zsock knows: of its other commands, or of types that a newer one writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassedOver {
    /// How many.
    pub count: u64,
    /// The first command that writes some of them, as it is typed; absent where none of this zsock does.
    pub written_by: Option<&'static str>,
}

impl PassedOver {
    fn note(&mut self, stranger: Stranger) {
        self.count += 1;
        if let Stranger::Of(command) = stranger {
            self.written_by.get_or_insert(command);
        }
    }

    /// Those of two recordings.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { count: self.count + other.count, written_by: self.written_by.or(other.written_by) }
    }
}

/// Opens what each path names: a file, a directory of segments as `zsock record` makes it (read one after another, by their names),
/// or stdin for `-`.
///
/// # Errors
/// Where there is nothing at a path, or nothing that may be read.
pub fn open(paths: &[PathBuf]) -> Result<Vec<Recording>> {
    paths.iter().map(|path| paths::open(path)).collect()
}

/// Records one after another, from one file or from the segments of a directory.
#[derive(Debug)]
pub struct Recording {
    name: Arc<str>,
    /// Still to be read.
    places: VecDeque<Place>,
    /// Being read.
    file: Option<File>,
    stored_bytes: Option<u64>,
    /// Of the files that were read to their ends.
    read_bytes: u64,
    passed_over: PassedOver,
    names: Names,
    /// Nothing was told yet, nor passed over.
    is_silent: bool,
    /// To be told before anything else is read.
    waiting: VecDeque<Next>,
}

/// A file that is being read.
#[derive(Debug)]
struct File {
    lines: Lines,
    damages: Damages,
}

impl Recording {
    /// The recording that `input` gives.
    #[must_use]
    pub fn of(name: &str, input: impl Read + Send + 'static) -> Self {
        let mut recording = Self::at(name, VecDeque::new(), None);
        recording.file = Some(File::new(Arc::clone(&recording.name), Box::new(input)));
        recording
    }

    fn at(name: &str, places: VecDeque<Place>, stored_bytes: Option<u64>) -> Self {
        Self {
            name: printable(name).into(),
            places,
            file: None,
            stored_bytes,
            read_bytes: 0,
            passed_over: PassedOver::default(),
            names: Names::default(),
            is_silent: true,
            waiting: VecDeque::new(),
        }
    }

    /// The path as it was given, as a terminal may be sent it.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How many bytes there are to read, as stored when it was opened; `None` where nobody knows, as of a pipe.
    #[must_use]
    pub fn stored_bytes(&self) -> Option<u64> {
        self.stored_bytes
    }

    /// How many of them were read.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes + self.file.as_ref().map_or(0, |file| file.lines.read_bytes())
    }

    /// Records that were passed over.
    #[must_use]
    pub fn passed_over(&self) -> PassedOver {
        self.passed_over
    }

    /// What comes next; `None` at the end.
    pub fn next_record(&mut self) -> Option<Next> {
        loop {
            if let Some(next) = self.waiting.pop_front() {
                self.is_silent = false;
                return Some(next);
            }
            let Some(file) = &mut self.file else {
                if self.open_next().is_none() {
                    return self.end();
                }
                continue;
            };
            match file.lines.next() {
                Piece::Line(line) => match read_record(&line, &mut self.names) {
                    Ok(Found::Record(record)) => {
                        if file.damages.has_record() {
                            return Some(Next::Record(record));
                        }
                        self.waiting.extend(file.damages.found_record().into_iter().map(Next::Damage));
                        self.waiting.push_back(Next::Record(record));
                    }
                    Ok(Found::Stranger(stranger)) => self.passed_over.note(stranger),
                    // What is left of a line where its text ends in damage is part of that.
                    Err(_) if line.ending == Ending::Damage => {}
                    Err(why) => {
                        let (at_byte, line) = (line.at_byte, line.number);
                        self.waiting.extend(file.damages.add(at_byte, line, why).map(Next::Damage));
                    }
                },
                Piece::Damage { at_byte, line, why } => {
                    self.waiting.extend(file.damages.add(at_byte, line, why).map(Next::Damage));
                }
                Piece::End => self.close(),
            }
        }
    }

    /// Opens the next file; `None` after the last.
    fn open_next(&mut self) -> Option<()> {
        let place = self.places.pop_front()?;
        let name = place.name();
        match place.open() {
            Ok(input) => self.file = Some(File::new(name, input)),
            Err(error) => {
                let why = format!("cannot be opened: {error}");
                self.waiting.push_back(Next::Damage(Damage { input: name, at_byte: 0, line: None, why }));
            }
        }
        Some(())
    }

    /// Says that there was nothing, where that is so.
    fn end(&mut self) -> Option<Next> {
        let is_silent = std::mem::take(&mut self.is_silent) && self.passed_over.count == 0;
        let why = if self.read_bytes == 0 { "is empty" } else { "holds no record of zsock" };
        is_silent.then(|| {
            let (input, why) = (Arc::clone(&self.name), why.to_owned());
            Next::Damage(Damage { input, at_byte: 0, line: None, why })
        })
    }

    /// Leaves a file at its end.
    fn close(&mut self) {
        let Some(file) = self.file.take() else { return };
        self.read_bytes += file.lines.read_bytes();
        self.waiting.extend(file.damages.close().into_iter().map(Next::Damage));
    }
}

impl Iterator for Recording {
    type Item = Next;

    fn next(&mut self) -> Option<Next> {
        self.next_record()
    }
}

impl File {
    fn new(name: Arc<str>, input: Box<dyn Read + Send>) -> Self {
        Self { lines: Lines::new(input), damages: Damages::new(name) }
    }
}

/// The event in a line, read the fast way; `None` where that leaves it to the other one.
#[cfg(any(test, fuzzing))]
pub(crate) fn event_as_written(line: &[u8]) -> Option<Record> {
    as_written::event(line, &mut Names::default())
}

/// What a line holds.
enum Found {
    Record(Record),
    Stranger(Stranger),
}

/// What a line holds.
///
/// # Errors
/// What is wrong with it.
fn read_record(line: &Line<'_>, names: &mut Names) -> Result<Found, String> {
    if let Some(event) = as_written::event(line.text, names) {
        return Ok(Found::Record(event));
    }
    match serde_json::from_slice::<Record>(line.text) {
        Ok(record) if record.schema == SCHEMA => Ok(Found::Record(record)),
        Ok(Record { schema, .. }) => Err(damages::other_schema(schema)),
        Err(error) => damages::explain(line, &error).map(Found::Stranger),
    }
}
