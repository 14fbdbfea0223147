//! What a recording holds, record by record; what cannot be read of it is told with its place, and the rest is read on.

use std::sync::Arc;

use crate::record::Record;

/// What comes next in a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// A record.
    Record(Box<Record>),
    /// Something that is none.
    Damage(Damage),
}

/// A passage of a recording that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, or `-` for stdin, as a terminal may be sent it.
    pub input: Arc<str>,
    /// Where the passage begins: bytes from the start of the file as it is stored.
    pub at_byte: u64,
    /// The line, from 1 on, where it is one of text that could be told from others.
    pub line: Option<u64>,
    /// What is wrong with it.
    pub why: String,
}
