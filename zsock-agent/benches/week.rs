//! What a week of `zsock record` takes on disk, simulated: an average node with 50 connections a second, one in a thousand of which gets in
//! trouble.
//!
//! `cargo bench --bench week [DAYS]` writes to `ZSOCK_BENCH_DIRECTORY` (`/dev/shm` unless told otherwise), by the recorder's own code and
//! at its own pace in the records' time: a frame for every quarter of a second in which there is something to keep. Half of those in trouble send
//! again once and recover; the other half are the connection of README.md's example, which hangs for a quarter of an hour and dies.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use zsock_agent::recording::segments::{Bounds, Segments};
use zsock_agent::time::Time;

const RUN: &str = include_str!("../tests/data/forgotten_by_nat.ndjson");
const DAYS: u64 = 7;
const SECOND_NS: u64 = 1_000_000_000;
/// One in a thousand of 50 a second.
const TROUBLE_EVERY_NS: u64 = 20 * SECOND_NS;
const TICK_EVERY_NS: u64 = 10 * SECOND_NS;
const FRAME_NS: u64 = SECOND_NS / 4;
/// Some Wednesday.
const BEGAN_NS: u64 = 1_795_000_000 * SECOND_NS;

fn main() -> Result<()> {
    let days = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(DAYS);
    let parent =
        env::var_os("ZSOCK_BENCH_DIRECTORY").map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from);
    let directory = parent.join(format!("zsock-week-{}", std::process::id()));
    let written = write(&directory, days * 24 * 3_600 * SECOND_NS);
    let took = Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?);
    let stored = bytes_in(&directory);
    fs::remove_dir_all(&directory).context("remove the recording")?;
    let Written { records, frames, text_bytes } = written?;
    let stored = stored?;
    let a_day = stored / days;
    println!(
        "{days} days: {records} records in {frames} frames, {} MiB of JSON, {} MiB on disk, {} KiB a day; {took:.0?} of processor time",
        text_bytes >> 20,
        stored >> 20,
        a_day >> 10,
    );
    println!("256 MiB hold {} days", (256 << 20) / a_day.max(1));
    Ok(())
}

struct Written {
    records: u64,
    frames: u64,
    text_bytes: u64,
}

fn write(directory: &Path, length_ns: u64) -> Result<Written> {
    let bounds = Bounds { size_bytes: 1 << 40, age: None };
    let mut segments = Segments::open(directory, bounds, Time::from_unix_ns(BEGAN_NS))?;
    let run: Vec<Value> = RUN.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let stories = [recovers(&run)?, hangs(&run)?];
    // Lines by the moment at which they are told.
    let mut waiting: BTreeMap<(u64, u64), Value> = BTreeMap::from([((0, 0), run[0].clone())]);
    let mut written = Written { records: 0, frames: 0, text_bytes: 0 };
    let (mut connections, mut told) = (0, 0);
    for frame in 0..length_ns / FRAME_NS {
        let now_ns = frame * FRAME_NS;
        if now_ns.is_multiple_of(TICK_EVERY_NS) {
            told += 1;
            waiting.insert((now_ns, told), tick(now_ns));
        }
        if now_ns.is_multiple_of(TROUBLE_EVERY_NS) {
            connections += 1;
            for (told_after_ns, happened_after_ns, record) in
                &stories[usize::from(u64::is_multiple_of(connections, 2))]
            {
                told += 1;
                let record =
                    of_connection(record, connections, now_ns.saturating_add_signed(*happened_after_ns));
                waiting.insert((now_ns + told_after_ns, told), record);
            }
        }
        let later = waiting.split_off(&(now_ns + FRAME_NS, 0));
        let due = std::mem::replace(&mut waiting, later);
        if due.is_empty() {
            continue;
        }
        let text: Vec<u8> = due.values().flat_map(|record| format!("{record}\n").into_bytes()).collect();
        segments.append(&text, Time::from_unix_ns(BEGAN_NS + now_ns))?;
        written.records += due.len() as u64;
        written.frames += 1;
        written.text_bytes += text.len() as u64;
    }
    Ok(written)
}

/// The records of a connection: how long after its first sign of trouble each is told, how long after it the thing happened, and the record.
type Story = Vec<(u64, i64, Value)>;

/// The whole of README.md's example.
fn hangs(run: &[Value]) -> Result<Story> {
    let records = &run[1..run.len() - 1];
    let trouble = records.iter().find(|record| record["type"] == "retransmit").context("it retransmits")?;
    let trouble_ns = time_ns(trouble)?;
    let mut story = Story::new();
    for record in records {
        let after_ns = time_ns(record)?.cast_signed() - trouble_ns.cast_signed();
        story.push((u64::try_from(after_ns).unwrap_or(0), after_ns, record.clone()));
    }
    Ok(story)
}

/// Its beginning, and then the answer.
fn recovers(run: &[Value]) -> Result<Story> {
    let mut story = hangs(run)?;
    let place = |story: &Story, kind: &str| story.iter().position(|(.., record)| record["type"] == kind);
    let closed = place(&story, "closed").map(|place| story[place].2.clone()).context("it closes")?;
    let first = place(&story, "retransmit").context("it retransmits")?;
    story.truncate(first + 2);
    let (told_ns, happened_ns, last) = story[first + 1].clone();
    let mut progress = last;
    progress["type"] = json!("progress");
    progress["stalled_ms"] = json!(412);
    progress["attempts"] = json!(1);
    for (record, after_ns) in [(progress, 200_000_000), (closed, SECOND_NS)] {
        story.push((told_ns + after_ns, happened_ns + after_ns.cast_signed(), record));
    }
    Ok(story)
}

fn time_ns(record: &Value) -> Result<u64> {
    let time: Time = serde_json::from_value(record["ts"].clone())?;
    Ok(time.as_unix_ns())
}

/// The record as of another connection, with the numbers that differ.
fn of_connection(record: &Value, number: u64, at_ns: u64) -> Value {
    let mut record = record.clone();
    record["ts"] = json!(Time::from_unix_ns(BEGAN_NS + at_ns));
    let port = 32_768 + number * 7_919 % 28_000;
    let socket = &mut record["socket"];
    socket["id"] = json!(format!("{:x}", 0x1e_0000 + number * 1_000));
    socket["local"] = json!(format!("10.0.1.4:{port}"));
    socket["pid"] = json!(1_000 + number % 40);
    socket["inode"] = json!(3_500_000 + number * 1_003);
    record
}

fn tick(at_ns: u64) -> Value {
    let seconds = at_ns / SECOND_NS;
    json!({
        "schema": 1, "ts": Time::from_unix_ns(BEGAN_NS + at_ns), "host": "web-1", "type": "tick", "every_ms": 10_000,
        "sockets": {"ESTABLISHED": 400 + seconds * 31 % 97, "LISTEN": 24, "TIME_WAIT": 3_000 + seconds * 17 % 211},
        "established": seconds * 50, "closed": seconds * 50 - seconds % 13, "events": seconds, "lost_events": 0,
        "open_verdicts": seconds % 23,
    })
}

fn bytes_in(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}
