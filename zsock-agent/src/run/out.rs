//! The way out of commands that answer and end.

use std::io::{self, BufWriter, ErrorKind, Write as _};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::record::Line;
use crate::sink::ndjson;
use crate::sink::stdout::{self, Stdout};
use crate::time::Time;

/// Stdout, behind a buffer. What comes after an error is dropped, and the error told at the end.
pub(super) struct Out {
    buffer: BufWriter<Stdout>,
    failed: Option<io::Error>,
}

impl Out {
    pub(super) fn open() -> Result<Self> {
        let stdout = stdout::open().context("open stdout")?;
        Ok(Self { buffer: BufWriter::with_capacity(64 << 10, stdout), failed: None })
    }

    pub(super) fn stdout(&self) -> &Stdout {
        self.buffer.get_ref()
    }

    pub(super) fn line(&mut self, at: Time, host: &str, body: &impl Serialize) {
        if self.failed.is_none() {
            self.write(&ndjson::render(&Line::new(at, host, body)));
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.write_by(|buffer| buffer.write_all(bytes));
    }

    pub(super) fn write_by(&mut self, write: impl FnOnce(&mut BufWriter<Stdout>) -> io::Result<()>) {
        if self.failed.is_none() {
            self.failed = write(&mut self.buffer).err();
        }
    }

    /// A reader who has seen enough is no failure.
    pub(super) fn finish(mut self) -> Result<()> {
        let written = match self.failed.take() {
            Some(error) => Err(error),
            None => self.buffer.flush(),
        };
        // What is still in the buffer would be tried again.
        drop(self.buffer.into_parts());
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => written.context(stdout::UNWRITTEN),
        }
    }
}
