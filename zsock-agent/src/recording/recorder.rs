//! The thread that records: what waits in the queue becomes a frame of a segment, at least once a second.
//!
//! What cannot be written is counted and told once writing goes well again; whoever makes records is never held up by it.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::segments::{Bounds, Segments, whole_lines};
use crate::privileges;
use crate::record::{Body, Record};
use crate::sink::writer::{Intake, Writer};
use crate::time::Time;

/// A frame is closed so long after its first record: with the time that records take through the agent, and to the disk, a second is not
/// exceeded.
const FRAME_EVERY: Duration = Duration::from_millis(250);

/// A frame has no more than these, before compression, or this part of all that may be kept.
const FRAME_BYTES: usize = 1 << 20;
const FRAME_SHARE: u64 = 8;

/// Starts recording to `directory`. `capacity_bytes` of records wait for the disk at most; `now` reads the wall clock.
///
/// To be called before the process gives up its privileges: the thread keeps the right to write files, which the others lose.
///
/// # Errors
/// Where the directory cannot be written, or the thread cannot be started.
pub fn start(
    directory: &Path,
    bounds: Bounds,
    capacity_bytes: usize,
    now: impl Fn() -> Time + Send + 'static,
) -> Result<Writer> {
    let segments = Segments::open(directory, bounds, now())?;
    let writable = writable(directory)?;
    let share = usize::try_from(bounds.size_bytes / FRAME_SHARE).unwrap_or(usize::MAX);
    let frame_bytes = FRAME_BYTES.min(share);
    let work = move |intake: &Intake| {
        privileges::give_up_but_writing(&writable);
        record_all(segments, frame_bytes, intake, &now)
    };
    Writer::spawn("zsock-recorder", capacity_bytes, frame_bytes, work).context("start the recorder's thread")
}

/// Below what the thread may write: the directory's parent, so that it can make the directory again where somebody removes it. Where that
/// is the root of all, only the directory.
fn writable(directory: &Path) -> Result<std::path::PathBuf> {
    let whole = directory.canonicalize().with_context(|| format!("find {}", directory.display()))?;
    Ok(whole.parent().filter(|parent| parent.parent().is_some()).unwrap_or(&whole).to_owned())
}

fn record_all(
    mut segments: Segments,
    frame_bytes: usize,
    intake: &Intake,
    now: &impl Fn() -> Time,
) -> io::Result<()> {
    let mut failed: Option<(String, String)> = None;
    let mut waiting = Vec::new();
    while intake.next(FRAME_EVERY, &mut waiting) {
        // After a disk that was slow, more waits than a frame may have.
        for records in pieces(&waiting, frame_bytes) {
            match segments.append(records, now()) {
                Ok(()) => {
                    intake.works();
                    if failed.take().is_some() {
                        log::warn!("records are written again; a `lost` record counts those that were not");
                    }
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    intake.fails(records_in(records), now());
                    let cause = cause(&error);
                    if failed.as_ref().is_none_or(|(said, _)| *said != cause) {
                        log::warn!("records are lost until it can be done: {why}");
                    }
                    failed = Some((cause, why));
                }
            }
            intake.written(records.len());
        }
    }
    failed.map_or(Ok(()), |(_, why)| Err(io::Error::other(why)))
}

/// What stands in the way, to be said once: each attempt has another name for the segment.
fn cause(error: &anyhow::Error) -> String {
    error.root_cause().to_string()
}

/// Whole lines, in pieces that are no larger than `most` unless one line is.
fn pieces(mut lines: &[u8], most: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let whole = if lines.len() <= most { lines.len() } else { whole_lines(&lines[..most]) };
        let first = || memchr::memchr(b'\n', lines).map_or(lines.len(), |end| end + 1);
        let (piece, rest) = lines.split_at(if whole == 0 { first() } else { whole });
        lines = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// How many records are lost with these lines: one that tells of a loss stands for those that it counts.
fn records_in(lines: &[u8]) -> u64 {
    let told = |line: &[u8]| match serde_json::from_slice::<Record>(line).map(|record| record.body) {
        Ok(Body::Lost(lost)) => lost.count,
        _ => 1,
    };
    lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(told).sum()
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;
    use crate::record::Lost;
    use crate::sink::ndjson;

    #[test]
    fn a_loss_that_is_lost_itself_stands_for_all_that_it_counts() {
        let lost = |count| Body::Lost(Lost { count, since: Time::from_unix_ns(0), place: "kernel".into() });
        let line = |body| ndjson::render(&Record::new(Time::from_unix_ns(0), &"web-1".into(), body));
        let lines = [line(lost(5)), line(Body::End(Box::default())), line(lost(2))].concat();
        assert_eq!(records_in(&lines), 5 + 1 + 2);
    }

    #[test]
    fn a_full_disk_is_one_trouble_whatever_the_segment_is_called() {
        let failed = |errno: Errno, name: &str| {
            let error = Err::<(), _>(io::Error::from(errno));
            cause(&error.with_context(|| format!("write to {name}")).unwrap_err())
        };
        assert_eq!(failed(Errno::ENOSPC, "1.ndjson.zst"), failed(Errno::ENOSPC, "2.ndjson.zst"));
        assert_ne!(failed(Errno::ENOSPC, "1.ndjson.zst"), failed(Errno::EROFS, "1.ndjson.zst"));
    }

    #[test]
    fn however_much_waits_a_frame_has_whole_lines_and_no_more_than_it_may() {
        for (lines, most, parts) in [
            (&b""[..], 4, &[][..]),
            (b"a\nb\n", 9, &[&b"a\nb\n"[..]]),
            (b"a\nb\nc\n", 4, &[b"a\nb\n", b"c\n"]),
            (b"a\nb\nc\n", 5, &[b"a\nb\n", b"c\n"]),
            (b"longer\nb\n", 3, &[b"longer\n", b"b\n"]),
        ] {
            assert_eq!(pieces(lines, most).collect::<Vec<_>>(), parts);
        }
    }
}
