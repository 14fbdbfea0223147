//! Recordings as files: stored bytes, whatever they are, and those of a real recording with changes in them.

use std::io::{Cursor, Write as _};

use super::{FEW_SOCKETS, sample_records};
use crate::detect::Thresholds;
use crate::engine::Engine;
use crate::record::Record;
use crate::recording::read::{Next, Recording, event_as_written};
use crate::sink::ndjson;

/// Reads and judges a file of any bytes, and one in which the bytes change a real recording: what is damaged is told with its place, and
/// no more often than is bearable. Reads changed lines both ways, the fast and the slow one, which agree.
///
/// # Panics
/// Where the property does not hold.
pub fn recording_files(bytes: &[u8]) {
    judge(bytes.to_vec());
    let lines: Vec<_> = sample_records().iter().map(ndjson::render).collect();
    let plain = lines.concat();
    judge(edited(plain.clone(), bytes));
    let frames: Vec<_> = plain.chunks(3000).flat_map(frame).collect();
    judge(edited(frames, bytes));
    for change in bytes.chunks_exact(6) {
        let [line, edits @ ..] = change else { return };
        is_read_alike(&reworded(&lines[usize::from(*line) % lines.len()], edits));
    }
}

fn judge(stored: Vec<u8>) {
    let (length, mut damages) = (stored.len() as u64, 0);
    let mut engine = Engine::with_capacity(Thresholds::default(), FEW_SOCKETS);
    for next in Recording::of("-", Cursor::new(stored)) {
        match next {
            Next::Record(record) => drop(engine.push(&record)),
            Next::Damage(damage) => {
                damages += 1;
                assert!(damage.at_byte <= length, "{damage:?} is not within {length} bytes");
            }
        }
    }
    assert!(damages <= 17, "{damages} are too many to read");
}

fn frame(text: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("there is memory");
    encoder.include_checksum(true).expect("a parameter");
    encoder.write_all(text).expect("a Vec takes every byte");
    encoder.finish().expect("a Vec takes every byte")
}

/// Changes, inserts and removes bytes, and cuts the end off.
fn edited(mut stored: Vec<u8>, edits: &[u8]) -> Vec<u8> {
    for edit in edits.chunks_exact(4).take(8) {
        let [how, high, low, value] = edit else { break };
        let at = (usize::from(*high) << 8 | usize::from(*low)) % stored.len().max(1);
        match how % 8 {
            0..4 => stored.iter_mut().skip(at).take(1).for_each(|byte| *byte = *value),
            4 | 5 => stored.insert(at, *value),
            6 => drop(stored.drain(at..(at + usize::from(*value)).min(stored.len()))),
            _ => stored.truncate(at.max(1000)),
        }
    }
    stored
}

/// Changes a line piece by piece, so that most of the time it stays JSON.
fn reworded(line: &[u8], edits: &[u8]) -> Vec<u8> {
    let is_mark = |byte: &u8| matches!(byte, b'{' | b'}' | b',' | b':');
    let mut pieces: Vec<Vec<u8>> =
        line.trim_ascii_end().split_inclusive(is_mark).map(<[u8]>::to_vec).collect();
    let [how, first, second, value, ..] = edits else { return pieces.concat() };
    let (first, second) = (usize::from(*first) % pieces.len(), usize::from(*second) % pieces.len());
    match how % 6 {
        0 => drop(pieces.remove(first)),
        1 => pieces.insert(second, pieces[first].clone()),
        2 => pieces.swap(first, second),
        3 => {
            let field = pieces[first.saturating_sub(1)..=first].concat();
            pieces.insert(second, field);
        }
        4 => pieces[first].iter_mut().take(1).for_each(|byte| *byte = *value),
        _ => {
            let mark = pieces[first].last().copied().filter(is_mark);
            pieces[first] = VALUES[usize::from(*value) % VALUES.len()].as_bytes().to_vec();
            pieces[first].extend(mark);
        }
    }
    pieces.concat()
}

/// Values that a field may not expect, and some that it may.
const VALUES: [&str; 24] = [
    "0",
    "-1",
    "00",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "1.0",
    "1e3",
    "true",
    "null",
    "\"\"",
    "\"ESTABLISHED\"",
    "\"established\"",
    "\"+1f\"",
    "\"00ff\"",
    "\"10.0.1.04:443\"",
    "\"10.0.1.4:0443\"",
    "\"[2001:db8::1]:443\"",
    "\"2024-02-29T23:59:59.999999999Z\"",
    "\"2023-02-29T00:00:00.000000000Z\"",
    "\"2023-11-14T23:59:60.000000000Z\"",
    "\"\\u0041\"",
    "\"\u{e4}\"",
    "{}",
];

/// Where the fast way reads a line at all, it reads what the slow one reads.
fn is_read_alike(line: &[u8]) {
    if let Some(fast) = event_as_written(line) {
        assert_eq!(serde_json::from_slice::<Record>(line).ok(), Some(fast));
    }
}
