//! The segment files of a recording: a directory of them that never grows beyond what it may.
//!
//! A segment is zstd frames one after the other, each of whole records and written by one call. A frame that was not finished, because the
//! machine lost its power, is mended when the directory is opened again: then `zstdcat` reads on where `report` does anyhow. The frames of
//! one second each compress badly, so a segment that is full is written anew, in large ones.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use memchr::memmem;
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, find_frame_compressed_size};

use crate::time::Time;

#[cfg(test)]
mod tests;

/// What the names of segments end in.
const SUFFIX: &str = ".ndjson.zst";

/// So many segments share the room, so that one of them going takes little of the past with it.
const SEGMENTS: u64 = 32;

/// None is larger, for writing it anew must not keep what comes in waiting.
const SEGMENT_BYTES: u64 = 8 << 20;

/// The frames of a segment that is full have so much before compression: a damaged one costs no more.
const LARGE_FRAME_BYTES: usize = 1 << 20;

/// The block of most file systems.
const BLOCK_BYTES: u64 = 4096;

/// By this a record is known that tells what the run does without: in no string is a quote without a backslash before it.
const SHED: &[u8] = br#""type":"shed""#;

/// Files that are there for a moment only.
const PASSING: [&str; 2] = [TRIAL, ANEW];
const TRIAL: &str = ".zsock-writes-here";
const ANEW: &str = ".zsock-writes-anew";

/// The compression of frames: zstd's own default.
const LEVEL: i32 = 3;

/// Whoever may read the directory: its owner, and the group to which an administrator gives it. Names of processes and addresses are
/// nobody else's business.
const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

/// How much may be kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of all segments together.
    pub size_bytes: u64,
    /// A segment goes once all in it is older; absent where only size counts.
    pub age: Option<Duration>,
}

/// The directory, and the segment that is being written.
pub struct Segments {
    directory: PathBuf,
    bounds: Bounds,
    /// The directory as it was entered, locked; absent once it is gone.
    entered: Option<File>,
    /// Those that are complete, oldest first.
    complete: VecDeque<Segment>,
    open: Option<Open>,
    /// What each segment begins with: the run's first record, and what the run does without by now.
    header: Vec<u8>,
    compressor: Compressor<'static>,
    /// The name given last: the next one comes after it, even where the clock went back.
    named: Option<Time>,
}

/// A segment on disk.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    bytes: u64,
    /// When something was last written to it.
    until: Time,
}

/// The segment that is being written.
struct Open {
    segment: Segment,
    file: File,
    since: Time,
}

impl Segments {
    /// Opens the directory, makes it where it is missing, and removes of an earlier recording what goes beyond `bounds`.
    ///
    /// # Errors
    /// Where segments cannot be written there, or another zsock writes them already.
    pub fn open(directory: &Path, bounds: Bounds, now: Time) -> Result<Self> {
        let compressor = compressor().context("set up zstd")?;
        let mut segments = Self {
            directory: directory.to_owned(),
            bounds,
            entered: None,
            complete: VecDeque::new(),
            open: None,
            header: Vec::new(),
            compressor,
            named: None,
        };
        segments.enter()?;
        segments.try_to_write()?;
        if let Some(mut last) = segments.complete.pop_back() {
            if let Err(error) = mend(&mut last) {
                log::warn!("mend {}: {error:#}; it stays as it is", last.path.display());
            }
            segments.complete(last, now)?;
        }
        segments.make_room(0, now).context("remove what is too old or too much")?;
        Ok(segments)
    }

    /// Writes whole records as one frame; a segment that is full or old makes way for a new one first.
    ///
    /// # Errors
    /// What the file system says. Nothing of the records is left then, and the next attempt may go well.
    pub fn append(&mut self, records: &[u8], now: Time) -> Result<()> {
        if self.header.is_empty() {
            let end = records.iter().position(|byte| *byte == b'\n').map_or(records.len(), |end| end + 1);
            self.header = records[..end].to_vec();
        }
        let header_bytes = self.header.len();
        self.add_to_header(records);
        let written = self.append_after(header_bytes, records, now);
        if written.is_err() && self.header.len() > header_bytes {
            // What was not written here stands at the head of the next segment.
            self.complete.extend(self.open.take().map(|open| open.segment));
        }
        written
    }

    /// Writes a frame, after so much of the header where it begins a segment.
    fn append_after(&mut self, header_bytes: usize, records: &[u8], now: Time) -> Result<()> {
        if !self.is_there() {
            // What was in it went with it.
            (self.entered, self.open, self.complete) = (None, None, VecDeque::new());
            self.enter()?;
        }
        if self.open.as_ref().is_some_and(|open| self.is_full(open, now))
            && let Some(Open { segment, .. }) = self.open.take()
        {
            self.complete(segment, now)?;
        }
        let is_new = self.open.is_none();
        let header = &self.header[..header_bytes];
        let repeats_header = is_new && !records.starts_with(header);
        let text = if repeats_header { [header, records].concat() } else { records.to_vec() };
        let frame = self.compressor.compress(&text).context("compress records")?;
        self.make_room(frame.len() as u64, now)?;
        let written = self.write(&frame, now);
        if written.is_err() && is_new {
            // An empty file would be no segment.
            self.open.take().map(|open| fs::remove_file(open.segment.path));
        }
        written
    }

    /// What a run does without has to be known of whatever is left of it.
    fn add_to_header(&mut self, records: &[u8]) {
        for place in memmem::find_iter(records, SHED) {
            let begin = memchr::memrchr(b'\n', &records[..place]).map_or(0, |end| end + 1);
            let end = memchr::memchr(b'\n', &records[place..]).map_or(records.len(), |end| place + end + 1);
            self.header.extend_from_slice(&records[begin..end]);
        }
    }

    /// Takes the directory, which may have to be made, for this zsock alone, and finds what is in it.
    fn enter(&mut self) -> Result<()> {
        let Self { directory, .. } = self;
        let shown = directory.display();
        // A link that leads nowhere is there as well, and no directory can be made in its place.
        if fs::symlink_metadata(&*directory).is_ok() && !directory.is_dir() {
            bail!("{shown} is no directory: give one, or a path at which there is nothing yet");
        }
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(DIRECTORY_MODE).create(&*directory).with_context(|| {
            format!("make the directory {shown}: give one that exists, or whose parent can be written")
        })?;
        let opened = File::open(&*directory).with_context(|| format!("open the directory {shown}"))?;
        match opened.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another zsock records to {shown} already: end it, or give a directory of its own")
            }
            // Some network file systems have no locks.
            Err(TryLockError::Error(error)) => log::info!("lock {shown}: {error}"),
        }
        for passing in PASSING {
            // One that was left by a zsock that was killed; mostly there is none.
            let _ = fs::remove_file(directory.join(passing));
        }
        self.complete = found_in(directory).with_context(|| format!("list the segments in {shown}"))?;
        self.entered = Some(opened);
        Ok(())
    }

    /// Whether the directory is still the one that was entered.
    fn is_there(&self) -> bool {
        let entered = self.entered.as_ref().and_then(|entered| entered.metadata().ok());
        let named = fs::metadata(&self.directory).ok();
        let is_same = |(entered, named): (fs::Metadata, fs::Metadata)| {
            (entered.dev(), entered.ino()) == (named.dev(), named.ino())
        };
        let is_open_there = self.open.as_ref().is_none_or(|open| open.segment.path.exists());
        entered.zip(named).is_some_and(is_same) && is_open_there
    }

    /// Makes a file and removes it: what is wrong with the directory is to be known at the start.
    fn try_to_write(&self) -> Result<()> {
        let path = self.directory.join(TRIAL);
        let tried =
            create(&path).and_then(|mut file| file.write_all(b"zsock")).and_then(|()| fs::remove_file(&path));
        tried.with_context(|| {
            format!("write to the directory {}: give one that can be written", self.directory.display())
        })
    }

    fn is_full(&self, open: &Open, now: Time) -> bool {
        let is_old =
            |age: Duration| now.since(open.since) >= age / u32::try_from(SEGMENTS).unwrap_or(u32::MAX);
        open.segment.bytes >= SEGMENT_BYTES.min(self.bounds.size_bytes / SEGMENTS)
            || self.bounds.age.is_some_and(is_old)
    }

    /// Takes a segment for complete, and writes it anew where that makes it smaller.
    fn complete(&mut self, mut segment: Segment, now: Time) -> Result<()> {
        if let Err(error) = self.make_room(2 * on_disk(segment.bytes), now) {
            // It counts all the same.
            self.complete.push_back(segment);
            return Err(error);
        }
        if let Err(error) = self.write_anew(&mut segment) {
            log::info!("write {} anew in large frames: {error:#}; it stays as it is", segment.path.display());
            // It may not have come so far.
            let _ = fs::remove_file(self.directory.join(ANEW));
        }
        self.complete.push_back(segment);
        Ok(())
    }

    fn write_anew(&mut self, segment: &mut Segment) -> Result<()> {
        let stored = File::open(&segment.path)?;
        let modified = stored.metadata()?.modified()?;
        let mut text = zstd::stream::read::Decoder::new(stored)?;
        let path = self.directory.join(ANEW);
        let mut anew = create(&path)?;
        let mut chunk = Vec::with_capacity(LARGE_FRAME_BYTES);
        let mut bytes = 0;
        loop {
            let read =
                text.by_ref().take((LARGE_FRAME_BYTES - chunk.len()) as u64).read_to_end(&mut chunk)?;
            let whole = if read == 0 { chunk.len() } else { whole_lines(&chunk) };
            if whole == 0 {
                break;
            }
            let frame = self.compressor.compress(&chunk[..whole])?;
            anew.write_all(&frame)?;
            bytes += frame.len() as u64;
            chunk.drain(..whole);
        }
        if bytes >= segment.bytes {
            return fs::remove_file(&path).context("remove what is no smaller");
        }
        anew.set_modified(modified)?;
        anew.sync_all()?;
        fs::rename(&path, &segment.path)?;
        segment.bytes = bytes;
        Ok(())
    }

    /// Removes the oldest segments until there is room for so much more, and those that are too old.
    fn make_room(&mut self, more_bytes: u64, now: Time) -> Result<()> {
        let is_old = |segment: &Segment, age: Duration| now.since(segment.until) > age;
        loop {
            let segments = self.complete.iter().chain(self.open.as_ref().map(|open| &open.segment));
            let bytes: u64 = segments.map(|segment| on_disk(segment.bytes)).sum();
            let is_too_much = bytes + on_disk(more_bytes) > self.bounds.size_bytes;
            let goes =
                |oldest: &Segment| is_too_much || self.bounds.age.is_some_and(|age| is_old(oldest, age));
            match self.complete.front() {
                Some(oldest) if goes(oldest) => {
                    match fs::remove_file(&oldest.path) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(error).with_context(|| format!("remove {}", oldest.path.display()));
                        }
                        _ => self.complete.pop_front(),
                    };
                }
                // The bound holds for the segment that is being written as well.
                None if is_too_much && self.open.is_some() => {
                    self.complete.extend(self.open.take().map(|open| open.segment));
                }
                _ => return Ok(()),
            }
        }
    }

    fn write(&mut self, frame: &[u8], now: Time) -> Result<()> {
        let is_new = self.open.is_none();
        if is_new {
            let since = self.named.map_or(now, |named| now.max(named.after(Duration::from_micros(1))));
            let path = self.directory.join(name(since));
            let file = create(&path).with_context(|| format!("create {}", path.display()))?;
            self.named = Some(since);
            self.open = Some(Open { segment: Segment { path, bytes: 0, until: now }, file, since: now });
        }
        let Some(Open { segment, file, .. }) = &mut self.open else { return Ok(()) };
        let written = file.write_all(frame).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // Half a frame would stand in the way of the next one.
            let _ = file.set_len(segment.bytes);
            return Err(error).with_context(|| format!("write to {}", segment.path.display()));
        }
        segment.bytes += frame.len() as u64;
        segment.until = now;
        if is_new && let Some(directory) = &self.entered {
            directory
                .sync_all()
                .with_context(|| format!("sync the directory {}", self.directory.display()))?;
        }
        Ok(())
    }
}

/// What a file of so many bytes takes on disk: file systems give whole blocks. What is added to a file may begin one.
const fn on_disk(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES)
}

fn compressor() -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    // A flipped bit is to be found, not read.
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    Ok(compressor)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(path)
}

/// `20251125T224226.123456Z.ndjson.zst`: in the order of names is in the order of time.
fn name(since: Time) -> String {
    let text = since.to_string();
    let micros = text.split_at(text.len().min("2025-11-25T22:42:26.123456".len())).0;
    format!("{}Z{SUFFIX}", micros.replace(['-', ':'], ""))
}

/// Whether zsock gave a file this name: others are none of its business.
fn is_segment(name: &OsStr) -> bool {
    let stem = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
    let shape =
        |stem: &str| stem.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte }).collect();
    let shape: Option<Vec<u8>> = stem.map(shape);
    shape.is_some_and(|shape| shape == b"00000000T000000.000000Z")
}

/// The segments in a directory, oldest first.
fn found_in(directory: &Path) -> io::Result<VecDeque<Segment>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        if is_segment(&entry.file_name()) && facts.is_file() {
            let since_epoch = facts.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let until = Time::from_unix_ns(0).after(since_epoch);
            found.push(Segment { path: entry.path(), bytes: facts.len(), until });
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found.into())
}

/// How much of a text is whole lines.
pub(super) fn whole_lines(text: &[u8]) -> usize {
    memchr::memrchr(b'\n', text).map_or(0, |end| end + 1)
}

/// Puts whole records in the place of a frame that was not finished.
fn mend(segment: &mut Segment) -> Result<()> {
    let stored = fs::read(&segment.path)?;
    let mut whole = 0;
    while whole < stored.len()
        && let Ok(bytes @ 1..) = find_frame_compressed_size(&stored[whole..])
    {
        whole += bytes;
    }
    if whole == stored.len() {
        return Ok(());
    }
    let mut text = Vec::new();
    // What can be told of the frame comes before the error that ends it.
    let _ = zstd::stream::read::Decoder::new(&stored[whole..])?
        .take(stored.len() as u64 * 64)
        .read_to_end(&mut text);
    text.truncate(whole_lines(&text));
    log::warn!(
        "{} ends in the midst of a frame: {} of its {} bytes were not finished, and {} records of them can be read",
        segment.path.display(),
        stored.len() - whole,
        stored.len(),
        memchr::memchr_iter(b'\n', &text).count()
    );
    let frame = if text.is_empty() { Vec::new() } else { compressor()?.compress(&text)? };
    let mut file = OpenOptions::new().append(true).open(&segment.path)?;
    file.set_len(whole as u64)?;
    file.write_all(&frame)?;
    file.sync_data()?;
    segment.bytes = (whole + frame.len()) as u64;
    Ok(())
}
