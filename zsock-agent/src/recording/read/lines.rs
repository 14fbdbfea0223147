//! The lines of a recording, each with its place.

use std::io::Read;
use std::ops::Range;

use memchr::memchr;

use super::text::{More, Passage, Text};

/// Read at once: enough to spare calls, and so little that it does not drive out of the cache what the records are judged with.
const CHUNK: usize = 128 << 10;

/// A longer line holds no record.
const LONGEST_LINE: usize = 1 << 20;

/// What some programs put in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    /// A line that is not empty.
    Line(Line<'a>),
    /// A passage that could not be read.
    Damage { at_byte: u64, line: Option<u64>, why: String },
    /// Nothing more.
    End,
}

/// A line.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) text: &'a [u8],
    pub(super) at_byte: u64,
    /// From 1 on, where it can be told.
    pub(super) number: Option<u64>,
    pub(super) ending: Ending,
}

/// How a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// As lines do.
    Whole,
    /// With the file.
    File,
    /// With damage, which is told next.
    Damage,
}

/// The lines of one file.
#[derive(Debug)]
pub(super) struct Lines {
    text: Text,
    /// Text that was read and not passed yet is at `start..end`.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Up to here, no line ends.
    searched: usize,
    /// The passage that was read last, and where it begins in the buffer.
    passage: (Passage, usize),
    /// Where the line at `start` begins in the file; absent where that is in the passage read last.
    begun_at: Option<u64>,
    /// Ends of lines that were passed; absent where some may be missing.
    passed: Option<u64>,
    /// The line at `start` is too long, and its beginning was dropped.
    is_skipping: bool,
    /// What comes after the text that was read, where that is no more text.
    then: Option<Then>,
}

#[derive(Debug)]
enum Then {
    Damage { at_byte: u64, why: String },
    End,
}

impl Lines {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Self {
        Self {
            text: Text::new(input),
            buffer: vec![0; LONGEST_LINE + CHUNK].into(),
            start: 0,
            end: 0,
            searched: 0,
            passage: (Passage { length: 0, at_byte: 0, is_plain: true }, 0),
            begun_at: None,
            passed: Some(0),
            is_skipping: false,
            then: None,
        }
    }

    /// How many bytes were read from the file.
    pub(super) fn read_bytes(&self) -> u64 {
        self.text.read_bytes()
    }

    pub(super) fn next(&mut self) -> Piece<'_> {
        loop {
            if let Some(found) = memchr(b'\n', &self.buffer[self.searched..self.end]) {
                let end = self.searched + found;
                if let Some((at_byte, number, line)) = self.pass(end, end + 1) {
                    let ending = Ending::Whole;
                    return Piece::Line(Line { text: &self.buffer[line], at_byte, number, ending });
                }
                continue;
            }
            self.searched = self.end;
            if let Some(damage) = self.skip_too_long() {
                return damage;
            }
            match self.then.take() {
                None => self.read(),
                Some(then) if self.start < self.end => {
                    let ending = match then {
                        Then::Damage { .. } => Ending::Damage,
                        Then::End => Ending::File,
                    };
                    self.then = Some(then);
                    if let Some((at_byte, number, line)) = self.pass(self.end, self.end) {
                        return Piece::Line(Line { text: &self.buffer[line], at_byte, number, ending });
                    }
                }
                Some(Then::Damage { at_byte, why }) => {
                    self.passed = None;
                    self.is_skipping = false;
                    return Piece::Damage { at_byte, line: None, why };
                }
                Some(Then::End) => {
                    self.then = Some(Then::End);
                    return Piece::End;
                }
            }
        }
    }

    /// Goes on after the line that ends at `end`; its place, number and content, unless it has none.
    fn pass(&mut self, end: usize, next: usize) -> Option<(u64, Option<u64>, Range<usize>)> {
        let at_byte = self.place();
        let begin = std::mem::replace(&mut self.start, next);
        self.searched = next;
        self.begun_at = None;
        let is_first = self.passed == Some(0);
        self.passed = self.passed.map(|passed| passed + 1);
        let text = &self.buffer[begin..end];
        let text = if is_first { text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text) } else { text };
        let begin = end - text.trim_ascii_start().len();
        let end = begin + text.trim_ascii().len();
        let is_wanted = !std::mem::take(&mut self.is_skipping) && begin < end;
        is_wanted.then_some((at_byte, self.passed, begin..end))
    }

    /// Where the line at `start` begins in the file, or the frame in which it does.
    fn place(&self) -> u64 {
        let (passage, begins_at) = self.passage;
        let before = if passage.is_plain { self.start.saturating_sub(begins_at) as u64 } else { 0 };
        self.begun_at.unwrap_or(passage.at_byte + before)
    }

    /// Drops what there is of a line that is too long, and tells of it once.
    fn skip_too_long(&mut self) -> Option<Piece<'static>> {
        let is_too_long = self.end - self.start > LONGEST_LINE;
        let damage = (is_too_long && !self.is_skipping).then(|| Piece::Damage {
            at_byte: self.place(),
            line: self.passed.map(|passed| passed + 1),
            why: "is longer than a record can be".to_owned(),
        });
        self.is_skipping |= is_too_long;
        if self.is_skipping {
            self.start = self.end;
        }
        damage
    }

    /// Reads more text behind what there is.
    fn read(&mut self) {
        self.begun_at = (self.start < self.end).then(|| self.place());
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        (self.start, self.searched) = (0, self.end);
        match self.text.read(&mut self.buffer[self.end..self.end + CHUNK]) {
            More::Text(passage) => {
                self.passage = (passage, self.end);
                self.end += passage.length;
            }
            More::Damage { at_byte, why } => self.then = Some(Then::Damage { at_byte, why }),
            More::End => self.then = Some(Then::End),
        }
    }
}
