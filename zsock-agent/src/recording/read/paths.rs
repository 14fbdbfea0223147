//! Where recordings are: files, directories of segments, stdin.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use super::Recording;
use crate::record::printable;

/// What the names of a directory's recordings end in.
const ENDINGS: [&str; 4] = ["zst", "ndjson", "jsonl", "json"];

/// One input, not opened yet.
#[derive(Debug)]
pub(super) enum Place {
    Stdin,
    File(PathBuf),
}

impl Place {
    /// As a terminal may be sent it.
    pub(super) fn name(&self) -> Arc<str> {
        match self {
            Self::Stdin => "-".into(),
            Self::File(path) => printable(&path.to_string_lossy()).into(),
        }
    }

    pub(super) fn open(self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Stdin => Box::new(io::stdin()),
            Self::File(path) => Box::new(File::open(path)?),
        })
    }
}

/// Finds what a path names. Files are opened one after another as they are read: there may be thousands.
pub(super) fn open(path: &Path) -> Result<Recording> {
    let name = path.to_string_lossy();
    if name == "-" {
        return Ok(Recording::at("-", [Place::Stdin].into(), None));
    }
    let shown = printable(&name);
    let metadata = fs::metadata(path).with_context(|| {
        format!("cannot read {shown}; give a recording, a directory of recordings, or - for stdin")
    })?;
    if metadata.is_dir() {
        return open_directory(path);
    }
    // Not a pipe: it would lose its writer.
    if metadata.is_file() {
        File::open(path).with_context(|| format!("cannot read {shown}; may this user?"))?;
    }
    let stored_bytes = metadata.is_file().then_some(metadata.len());
    Ok(Recording::at(&name, [Place::File(path.to_owned())].into(), stored_bytes))
}

fn open_directory(directory: &Path) -> Result<Recording> {
    let name = directory.to_string_lossy();
    let shown = printable(&name);
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.with_context(|| format!("cannot list {shown}; may this user?"))?;
    let mut files: Vec<PathBuf> =
        entries.into_iter().map(|entry| entry.path()).filter(|path| is_recording(path)).collect();
    if files.is_empty() {
        bail!(
            "{shown} holds no recording: no file whose name ends in .zst, .ndjson, .jsonl or .json; give the directory that `zsock record` wrote to"
        );
    }
    files.sort();
    let sizes =
        files.iter().map(|file| fs::metadata(file).ok().filter(fs::Metadata::is_file).map(|file| file.len()));
    let stored_bytes = sizes.sum();
    let places = files.into_iter().map(Place::File).collect::<VecDeque<_>>();
    Ok(Recording::at(&name, places, stored_bytes))
}

fn is_recording(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.contains(&ending)) && !path.is_dir()
}
