//! Recordings whole, damaged and foreign, and what is told of them.

use std::fs;
use std::io::{self, Read, Write as _};
use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::{Damage, Next, PassedOver, Recording, open};
use crate::record::Record;
use crate::sink::{ndjson, samples};

/// Lines in a frame.
const FRAME: usize = 2;

/// Records of most types, some KB of them.
fn all() -> Vec<Record> {
    ALL.clone()
}

/// They are wanted often.
static ALL: LazyLock<Vec<Record>> = LazyLock::new(|| samples::all().into_iter().step_by(8).collect());

/// A recording of them as its lines.
fn lines() -> Vec<Vec<u8>> {
    all().iter().map(ndjson::render).collect()
}

fn frame(text: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// The same in frames of two lines each.
fn frames() -> Vec<Vec<u8>> {
    lines().chunks(FRAME).map(|lines| frame(&lines.concat())).collect()
}

fn read(bytes: &[u8]) -> (Vec<Record>, Vec<Damage>) {
    let (records, damages, _) = read_and_count(bytes);
    (records, damages)
}

/// The same, and how many records were passed over.
fn read_and_count(bytes: &[u8]) -> (Vec<Record>, Vec<Damage>, u64) {
    let mut recording = Recording::of("a.ndjson", io::Cursor::new(bytes.to_vec()));
    let (mut records, mut damages) = (Vec::new(), Vec::new());
    while let Some(next) = recording.next_record() {
        match next {
            Next::Record(record) => records.push(record),
            Next::Damage(damage) => damages.push(damage),
        }
    }
    assert_eq!(recording.next_record(), None, "the end is the end");
    (records, damages, recording.passed_over().count)
}

fn told(damages: &[Damage]) -> Vec<(u64, Option<u64>, &str)> {
    damages.iter().map(|damage| (damage.at_byte, damage.line, damage.why.as_str())).collect()
}

#[test]
fn what_was_written_is_read_whatever_it_is_stored_as() {
    let plain = lines().concat();
    let bom = [b"\xef\xbb\xbf", &plain[..]].concat();
    let crlf =
        lines().iter().map(|line| [line.trim_ascii_end(), b"\r\n\r\n"].concat()).collect::<Vec<_>>().concat();
    let skippable = b"\x52\x2a\x4d\x18\x03\0\0\0abc";
    let with_skippable =
        frames().iter().map(|frame| [&skippable[..], frame].concat()).collect::<Vec<_>>().concat();
    // A line goes on in the next frame.
    let cut = plain.chunks(1000).map(frame).collect::<Vec<_>>().concat();
    let unended = plain.trim_ascii_end().to_vec();
    for stored in [plain.clone(), bom, crlf, unended, frame(&plain), frames().concat(), with_skippable, cut] {
        assert_eq!(read(&stored), (all(), Vec::new()));
    }
}

/// Gives one byte at a time.
struct Trickle(io::Cursor<Vec<u8>>);

impl Read for Trickle {
    fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
        let length = place.len().min(1);
        self.0.read(&mut place[..length])
    }
}

#[test]
fn a_pipe_may_give_as_little_at_once_as_it_likes() {
    for stored in [lines().concat(), frames().concat()] {
        let recording = Recording::of("-", Trickle(io::Cursor::new(stored)));
        let read: Vec<_> = recording.collect();
        assert_eq!(read, all().into_iter().map(Next::Record).collect::<Vec<_>>());
    }
}

#[test]
fn a_line_that_is_no_record_costs_that_line() {
    let mut stored = lines();
    let third: u64 = stored[..2].iter().map(|line| line.len() as u64).sum();
    stored[2] = b"{\"schema\":1,\"type\":\"st\n".to_vec();
    let (records, damages) = read(&stored.concat());
    let mut rest = all();
    rest.remove(2);
    assert_eq!(records, rest);
    assert_eq!(told(&damages), [(third, Some(3), "is no record: EOF while parsing a string at column 22")]);

    let compressed = [frame(&lines()[..2].concat()), frame(&stored[2..].concat())];
    let (records, damages) = read(&compressed.concat());
    assert_eq!(records, rest);
    assert_eq!(
        (damages[0].at_byte, damages[0].line),
        (compressed[0].len() as u64, Some(3)),
        "the frame's place"
    );
}

#[test]
fn each_thing_that_is_wrong_has_its_words() {
    let first = lines().remove(0);
    let after_a_record = |line: &[u8]| {
        let (records, damages) = read(&[&first, line].concat());
        assert_eq!((records.len(), damages.len()), (1, 1));
        assert_eq!((damages[0].at_byte, damages[0].line), (first.len() as u64, Some(2)));
        damages.into_iter().next().unwrap().why
    };
    assert_eq!(after_a_record(b"{\"a\":1}\n"), "is JSON but no record of zsock: it has no schema");
    assert_eq!(
        after_a_record(b"{\"schema\":2,\"type\":\"x\"}\n"),
        "is a record of schema 2; this zsock reads schema 1"
    );
    let second = String::from_utf8(lines().remove(1)).unwrap().replace("\"schema\":1", "\"schema\":3");
    assert_eq!(after_a_record(second.as_bytes()), "is a record of schema 3; this zsock reads schema 1");
    assert_eq!(
        after_a_record(b"{\"schema\":1,\"type\":\"state\"}\n"),
        "is no whole record: missing field `ts` at column 27"
    );
    assert_eq!(after_a_record(&lines()[1][..100]), "ends in the midst of a record");
    assert_eq!(after_a_record(&vec![b'x'; 3 << 20]), "is longer than a record can be");
    let hostile = after_a_record(b"{\"schema\":\"\x1b[2J\\u202e\",\"type\":\"x\"}\n");
    assert!(hostile.starts_with("is no record: control character"), "{hostile}");
    let hostile = after_a_record("{\"schema\":\"\u{202e}\"}\n".as_bytes());
    assert_eq!(hostile, "is a record of schema \"\\u{202e}\"; this zsock reads schema 1");
    let long = format!("{{\"schema\":\"{}\"}}\n", "x".repeat(100_000));
    assert_eq!(after_a_record(long.as_bytes()).len(), 200);
}

#[test]
fn records_of_types_that_come_later_are_passed_over_and_counted() {
    let later =
        b"{\"schema\":1,\"ts\":\"2023-11-14T22:13:20Z\",\"host\":\"a\",\"type\":\"teleport\",\"to\":[1]}\n";
    let stored = lines().iter().flat_map(|line| [line.as_slice(), later].concat()).collect::<Vec<_>>();
    let mut recording = Recording::of("-", io::Cursor::new(stored));
    assert_eq!(recording.by_ref().filter(|next| matches!(next, Next::Record(_))).count(), lines().len());
    assert_eq!(recording.passed_over(), PassedOver { count: lines().len() as u64, written_by: None });
}

#[test]
fn records_of_other_commands_are_told_by_the_command_that_writes_them() {
    for (kind, command) in [
        ("socket", "zsock audit"),
        ("summary", "zsock audit"),
        ("action", "zsock keepalive` or `zsock kill"),
        ("sysctl", "zsock doctor"),
        ("incident", "zsock report"),
    ] {
        let line =
            format!("{{\"schema\":1,\"ts\":\"2023-11-14T22:13:20Z\",\"host\":\"a\",\"type\":\"{kind}\"}}\n");
        let mut recording = Recording::of("-", io::Cursor::new(line.repeat(3)));
        assert_eq!(recording.next_record(), None);
        assert_eq!(recording.passed_over(), PassedOver { count: 3, written_by: Some(command) });
    }
}

#[test]
fn a_file_that_is_no_recording_is_told_in_one_sentence() {
    let one = |stored: &[u8]| {
        let (records, damages) = read(stored);
        assert_eq!((records, damages.len()), (Vec::new(), 1), "{damages:?}");
        damages.into_iter().next().unwrap()
    };
    let Damage { input, at_byte, line, why } = one(&b"GET / HTTP/1.1\n".repeat(10_000));
    assert_eq!((&*input, at_byte, line), ("a.ndjson", 0, Some(1)));
    assert_eq!(
        why,
        "holds no record of zsock; the first of 10000 passages that are none: is no record: it does not begin with {"
    );
    let foreign = |stored: &[u8]| one(stored).why;
    assert_eq!(foreign(b"[1]\n"), "holds no record of zsock: is no record: it does not begin with {");
    assert_eq!(foreign(b"\x7fELF\x02\x01\n\n\n"), "holds no record of zsock: is a program or a library");
    assert_eq!(
        foreign(b"\x1f\x8b\x08\0"),
        "holds no record of zsock: is compressed by gzip; give it through `zcat`"
    );
    assert_eq!(foreign(&frames()[0][..20]), "holds no record of zsock: ends in the midst of a zstd frame");
    assert_eq!(foreign(b""), "is empty");
}

#[test]
fn of_much_damage_some_is_told_and_the_rest_is_counted() {
    let mut stored = lines()[0].clone();
    stored.extend_from_slice(&b"?\n".repeat(1000));
    let (records, damages) = read(&stored);
    assert_eq!((records.len(), damages.len()), (1, 17));
    let at_byte = lines()[0].len() as u64 + 32;
    assert_eq!(
        told(&damages[16..]),
        [(at_byte, Some(18), "984 more passages from here on could not be read")]
    );
}

#[test]
fn a_frame_that_is_damaged_costs_that_frame() {
    let frames = frames();
    let (all, begin) = (all(), frames[0].len());
    let mut harmful = 0;
    for at in 0..frames[1].len() {
        let mut stored = frames.concat();
        stored[begin + at] ^= 0x40;
        let (records, damages) = read(&stored);
        if records == all {
            // Such as a larger window than it needs.
            continue;
        }
        harmful += 1;
        assert_eq!(damages.len(), 1, "byte {at}: {damages:?}");
        assert_eq!((damages[0].at_byte, damages[0].line), (begin as u64, None), "byte {at}");
        assert_eq!(records, [&all[..FRAME], &all[2 * FRAME..]].concat(), "byte {at}");
    }
    assert!(harmful * 10 > frames[1].len() * 9, "nearly every byte matters");
}

#[test]
fn a_frame_that_is_not_whole_gives_the_lines_that_it_has() {
    // Blocks that are done with one by one, as of a writer that flushes.
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    for line in lines() {
        encoder.write_all(&line).unwrap();
        encoder.flush().unwrap();
    }
    let begun = encoder.get_ref().len();
    let stored = encoder.finish().unwrap();
    let (records, damages) = read(&stored[..begun]);
    assert_eq!(records, all());
    assert_eq!(told(&damages), [(0, None, "ends in the midst of a zstd frame")]);
}

#[test]
fn a_frame_that_wants_too_much_memory_is_refused() {
    // A window of 2 GB, and a block that is never reached.
    let bomb = b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00";
    let (records, damages) = read(&[&frames()[0], &bomb[..], &frames()[1]].concat());
    assert_eq!(records, all()[..2 * FRAME]);
    assert_eq!(damages.len(), 1);
    assert_eq!(damages[0].at_byte, frames()[0].len() as u64);
    assert_eq!(damages[0].why, "a zstd frame cannot be read: Frame requires too much memory for decoding");
}

/// What must hold of any recording that is no longer as it was written: the damage is within it, and all before it was read.
fn is_honest(stored: &[u8], whole: &[u8], first_change: usize, records_before: usize) {
    let all = &*ALL;
    let (records, damages, passed_over) = read_and_count(stored);
    assert!(records.starts_with(&all[..records_before]), "what stands before byte {first_change} was read");
    assert!(damages.iter().all(|damage| damage.at_byte <= stored.len() as u64));
    if records.len() < all.len() {
        let at_a_seam = stored.len() < whole.len() && records == all[..records.len()];
        assert!(
            !damages.is_empty() || passed_over > 0 || at_a_seam,
            "byte {first_change}: what is missing is told"
        );
    }
}

/// How many records are whole before each byte.
fn records_before(pieces: &[Vec<u8>], each: usize) -> Vec<usize> {
    let total = all().len();
    let mut before = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        before.extend(vec![(number * each).min(total); piece.len()]);
    }
    before.push(total);
    before
}

#[test]
fn every_prefix_gives_all_the_records_in_it_and_says_where_it_is_torn() {
    for (pieces, each) in [(lines(), 1), (frames(), FRAME)] {
        let whole = pieces.concat();
        let before = records_before(&pieces, each);
        for length in 1..whole.len() {
            let (records, damages) = read(&whole[..length]);
            is_honest(&whole[..length], &whole, length, before[length]);
            let is_at_a_seam = before[length] > before[length - 1];
            // Only the end of its line is missing.
            let ends_a_record = each == 1 && records.len() > before[length];
            assert_eq!(damages.is_empty(), is_at_a_seam || ends_a_record, "{length} bytes: {damages:?}");
        }
    }
}

#[test]
fn every_flipped_byte_is_told_or_does_no_harm() {
    for (pieces, each) in [(lines(), 1), (frames(), FRAME)] {
        let whole = pieces.concat();
        let before = records_before(&pieces, each);
        for at in 0..whole.len() {
            let mut stored = whole.clone();
            stored[at] ^= 1 << (at % 8);
            is_honest(&stored, &whole, at, before[at]);
        }
    }
}

#[test]
fn what_a_frames_checksum_guards_is_never_read_changed() {
    let whole = frames().concat();
    for at in 0..whole.len() {
        let mut stored = whole.clone();
        stored[at] ^= 1 << (at % 8);
        let (records, damages) = read(&stored);
        assert!(!damages.is_empty() || records == *ALL, "byte {at}");
        let mut all = ALL.iter();
        assert!(records.iter().all(|record| all.any(|known| known == record)), "byte {at}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_their_end(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
        is_compressed in any::<bool>(),
    ) {
        let stored = if is_compressed { frame(&bytes) } else { bytes };
        let (_, damages) = read(&stored);
        prop_assert!(damages.len() <= 18);
        prop_assert!(damages.iter().all(|damage| damage.at_byte <= stored.len() as u64));
    }
}

fn directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("zsock-read-{name}-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    directory
}

#[test]
fn the_segments_of_a_directory_are_one_recording_in_the_order_of_their_names() {
    let directory = directory("segments");
    let frames = frames();
    for (number, frame) in frames.iter().enumerate().rev() {
        fs::write(directory.join(format!("20251125T22422{number}.123456Z.ndjson.zst")), frame).unwrap();
    }
    fs::write(directory.join("notes.txt"), "none of zsock's").unwrap();
    let mut recordings = open(std::slice::from_ref(&directory)).unwrap();
    assert_eq!(recordings.len(), 1);
    let recording = &mut recordings[0];
    assert_eq!(&**recording.name(), directory.to_str().unwrap());
    let stored = frames.concat().len() as u64;
    assert_eq!((recording.stored_bytes(), recording.read_bytes()), (Some(stored), 0));
    let read: Vec<_> = recording.by_ref().collect();
    assert_eq!(read, all().into_iter().map(Next::Record).collect::<Vec<_>>());
    assert_eq!(recording.read_bytes(), stored);

    // One that is gone by the time it is read costs itself.
    let mut recordings = open(std::slice::from_ref(&directory)).unwrap();
    fs::remove_file(directory.join("20251125T224221.123456Z.ndjson.zst")).unwrap();
    let mut damages = recordings[0]
        .by_ref()
        .filter_map(|next| if let Next::Damage(damage) = next { Some(damage) } else { None });
    let damage = damages.next().unwrap();
    assert!(damage.input.ends_with("20251125T224221.123456Z.ndjson.zst"));
    assert_eq!(damage.why, "cannot be opened: No such file or directory (os error 2)");
    assert_eq!(damages.next(), None);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn where_there_is_nothing_to_read_the_error_says_what_to_give() {
    let directory = directory("nothing");
    let error = |path: PathBuf| format!("{:#}", open(&[path]).unwrap_err());
    let shown = directory.display();
    assert_eq!(
        error(directory.clone()),
        format!(
            "{shown} holds no recording: no file whose name ends in .zst, .ndjson, .jsonl or .json; give the directory that `zsock record` wrote to"
        )
    );
    assert_eq!(
        error(directory.join("a\u{1b}b")),
        format!(
            "cannot read {shown}/a\\u{{1b}}b; give a recording, a directory of recordings, or - for stdin: No such file or directory (os error 2)"
        )
    );
    fs::remove_dir_all(&directory).unwrap();
}
