use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A directory for one test, removed after it.
struct Room(PathBuf);

impl Room {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("zsock-segments-{}-{test}", std::process::id()));
        Self(path)
    }

    fn open(&self, bounds: Bounds, now: Time) -> Segments {
        Segments::open(&self.0, bounds, now).unwrap()
    }

    /// Names of all that is in it, in order.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Each segment's lines.
    fn lines(&self) -> Vec<Vec<String>> {
        let lines = |name: &String| {
            let text = zstd::decode_all(File::open(self.0.join(name)).unwrap()).unwrap();
            String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
        };
        self.names().iter().filter(|name| name.ends_with(SUFFIX)).map(lines).collect()
    }

    /// What all files take on disk, in blocks of 4 KiB.
    fn bytes(&self) -> u64 {
        let bytes = |name: &String| fs::metadata(self.0.join(name)).unwrap().len().next_multiple_of(4096);
        self.names().iter().map(bytes).sum()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // What is left of a failed test is in nobody's way.
        let _ = fs::remove_dir_all(&self.0);
    }
}

const MUCH: Bounds = Bounds { size_bytes: 1 << 30, age: None };

/// 2023-11-14T22:13:20Z and so many seconds.
fn at(seconds: u64) -> Time {
    Time::from_unix_ns((1_700_000_000 + seconds) * 1_000_000_000)
}

/// Bytes that zstd makes no smaller, without a line end among them.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b' ' + (state % 90) as u8
    };
    (0..bytes - 1).map(|_| next()).chain([b'\n']).collect()
}

#[test]
fn records_are_kept_in_order_and_can_be_read_before_the_segment_is_full() {
    let room = Room::new("order");
    let mut segments = room.open(MUCH, at(0));
    assert_eq!(room.names(), Vec::<String>::new(), "a segment begins with its first record");
    segments.append(b"start\none\n", at(0)).unwrap();
    segments.append(b"two\n", at(1)).unwrap();
    assert_eq!(room.names(), ["20231114T221320.000000Z.ndjson.zst"]);
    assert_eq!(room.lines(), [["start", "one", "two"]]);
}

#[test]
fn whoever_may_read_a_recording_is_the_owner_and_a_group() {
    let room = Room::new("modes");
    room.open(MUCH, at(0)).append(b"start\n", at(0)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&room.0) & 0o027, 0);
    assert_eq!(mode(&room.0.join(&room.names()[0])) & 0o037, 0);
}

#[test]
fn each_segment_begins_with_what_the_run_does_without_by_then() {
    let room = Room::new("shed");
    let mut segments = room.open(Bounds { size_bytes: 160_000, age: None }, at(0));
    segments.append(b"start\n", at(0)).unwrap();
    let shed = r#"{"schema":1,"type":"shed","what":"timers"}"#;
    let other = r#"{"comm":"\"type\":\"shed\""}"#;
    segments.append(format!("{other}\n{shed}\n{other}\n").as_bytes(), at(1)).unwrap();
    for number in 0..20 {
        segments.append(&noise(number, 4_000), at(number + 2)).unwrap();
    }
    let lines = room.lines();
    assert_eq!(lines[0][..5], ["start", other, shed, other, &lines[0][4]]);
    assert!(lines.len() > 2, "{} segments", lines.len());
    for segment in &lines[1..] {
        assert_eq!(segment[..2], ["start", shed]);
        assert!(!segment[2..].iter().any(|line| line == shed), "once");
    }
}

#[test]
fn what_a_run_does_without_is_known_although_the_record_of_it_could_not_be_written() {
    let room = Room::new("unwritten");
    let mut segments = room.open(MUCH, at(0));
    let shed = |what| format!(r#"{{"schema":1,"type":"shed","what":"{what}"}}"#);
    let (timers, passes) = (shed("timers"), shed("passes"));
    segments.append(b"start\n", at(0)).unwrap();
    let open = segments.open.as_mut().unwrap();
    open.file = File::open(&open.segment.path).unwrap();
    segments.append(format!("{timers}\n").as_bytes(), at(1)).unwrap_err();
    segments.append(b"one\n", at(2)).unwrap();
    assert_eq!(room.lines(), [&["start"][..], &["start", &timers, "one"]]);
    fs::remove_dir_all(&room.0).unwrap();
    fs::write(&room.0, "a file").unwrap();
    segments.append(format!("{passes}\n").as_bytes(), at(3)).unwrap_err();
    fs::remove_file(&room.0).unwrap();
    segments.append(b"two\n", at(4)).unwrap();
    assert_eq!(room.lines(), [["start", &timers, &passes, "two"]]);
}

#[test]
fn what_is_too_much_goes_oldest_first_and_each_segment_begins_with_the_start() {
    let room = Room::new("size");
    let bounds = Bounds { size_bytes: 160_000, age: None };
    let mut segments = room.open(bounds, at(0));
    segments.append(b"start\n", at(0)).unwrap();
    for number in 0..100 {
        segments.append(&noise(number, 4_000), at(number)).unwrap();
        assert!(room.bytes() <= bounds.size_bytes, "{} bytes after frame {number}", room.bytes());
    }
    let lines = room.lines();
    assert!(lines.iter().all(|segment| segment[0] == "start"), "{lines:?}");
    let kept: Vec<u8> =
        lines.iter().flat_map(|segment| &segment[1..]).flat_map(|line| line.bytes()).collect();
    let latest: Vec<u8> =
        (0..100).flat_map(|number| noise(number, 4_000)).filter(|byte| *byte != b'\n').collect();
    assert!(latest.ends_with(&kept), "what is kept is the latest, without a gap");
    assert!(kept.len() > 130_000, "{} bytes are kept of 160,000", kept.len());
}

#[test]
fn a_segment_goes_once_all_in_it_is_too_old_and_not_before() {
    let room = Room::new("age");
    let bounds = Bounds { age: Some(Duration::from_secs(160)), ..MUCH };
    let mut segments = room.open(bounds, at(0));
    for second in 0..500 {
        segments.append(format!("{second}\n").as_bytes(), at(second)).unwrap();
        let lines = room.lines();
        let oldest: u64 = lines[0].last().unwrap().parse().unwrap();
        assert!(oldest + 160 >= second, "{oldest} is kept at {second}");
        let first: u64 = lines[0][usize::from(lines[0].len() > 1)].parse().unwrap();
        assert!(second < 160 || first + 160 - 11 <= second, "{first} is the oldest at {second}");
    }
}

#[test]
fn a_segment_that_is_full_is_written_anew_and_smaller() {
    let room = Room::new("anew");
    let mut segments = room.open(Bounds { size_bytes: 320_000, age: None }, at(0));
    let record = |number: u64| {
        format!("{{\"ts\":{number},\"type\":\"tick\",\"host\":\"web-1\",\"every_ms\":10000}}\n")
    };
    let mut number = 0;
    while room.names().len() < 2 {
        segments.append(record(number).as_bytes(), at(number)).unwrap();
        number += 1;
    }
    let first = room.0.join(&room.names()[0]);
    let stored = fs::metadata(&first).unwrap();
    assert!(stored.len() * 5 < 10_000, "{} bytes of {number} records", stored.len());
    assert_eq!(stored.permissions().mode() & 0o777, FILE_MODE);
    let lines: Vec<String> = room.lines().concat();
    let expected: Vec<String> =
        (0..number - 1).chain([0, number - 1]).map(|number| record(number).trim_end().to_owned()).collect();
    assert_eq!(lines, expected, "and the second begins with the first record");
    assert_eq!(room.names().len(), 2, "{:?}", room.names());
}

#[test]
fn a_segment_that_is_written_anew_is_as_old_as_it_was() {
    let room = Room::new("as-old");
    let mut segments = room.open(MUCH, at(0));
    for number in 0..200_u32 {
        segments.append(format!("{number}\n").as_bytes(), at(0)).unwrap();
    }
    drop(segments);
    let path = room.0.join(&room.names()[0]);
    let of_old = std::time::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    File::options().write(true).open(&path).unwrap().set_modified(of_old).unwrap();
    let bytes = fs::metadata(&path).unwrap().len();
    room.open(MUCH, at(1));
    let anew = fs::metadata(&path).unwrap();
    assert!(anew.len() < bytes, "{} bytes of {bytes}", anew.len());
    assert_eq!(anew.modified().unwrap(), of_old);
}

#[test]
fn no_flipped_bit_is_read_as_another_record() {
    let room = Room::new("flipped");
    let text = noise(7, 300);
    room.open(MUCH, at(0)).append(&text, at(0)).unwrap();
    let stored = fs::read(room.0.join(&room.names()[0])).unwrap();
    for bit in 0..stored.len() * 8 {
        let mut flipped = stored.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let read = zstd::decode_all(flipped.as_slice());
        assert!(read.is_err() || read.is_ok_and(|read| read == text || read.is_empty()), "bit {bit}");
    }
}

#[test]
fn what_a_zsock_that_was_killed_left_half_done_is_tidied_up() {
    let room = Room::new("passing");
    room.open(MUCH, at(0)).append(b"start\none\n", at(0)).unwrap();
    for passing in PASSING {
        fs::write(room.0.join(passing), "half").unwrap();
    }
    room.open(MUCH, at(1));
    assert_eq!(room.names(), ["20231114T221320.000000Z.ndjson.zst"]);
    assert_eq!(room.lines(), [["start", "one"]]);
}

#[test]
fn another_recording_goes_on_in_a_segment_of_its_own_and_keeps_to_the_bounds() {
    let room = Room::new("again");
    room.open(MUCH, at(0)).append(b"start 1\none\n", at(0)).unwrap();
    let mut segments = room.open(MUCH, at(5));
    segments.append(b"start 2\ntwo\n", at(5)).unwrap();
    assert_eq!(room.lines(), [["start 1", "one"], ["start 2", "two"]]);
    drop(segments);
    room.open(Bounds { size_bytes: room.bytes() - 1, age: None }, at(6));
    assert_eq!(room.lines(), [["start 2", "two"]]);
}

#[test]
fn a_clock_that_went_back_disturbs_no_order() {
    let room = Room::new("clock");
    let mut segments = room.open(Bounds { size_bytes: 32_000, age: None }, at(100));
    for (second, number) in [(100, 1), (40, 2), (40, 3), (20, 4)] {
        segments.append(&noise(number, 4_000), at(second)).unwrap();
    }
    let last: Vec<String> = room.lines().iter().map(|segment| segment.last().unwrap().clone()).collect();
    let expected =
        (1..=4).map(|number| String::from_utf8(noise(number, 4_000)).unwrap().trim_end().to_owned());
    assert_eq!(last, expected.collect::<Vec<_>>());
}

#[test]
fn only_one_zsock_records_to_a_directory() {
    let room = Room::new("lock");
    let _first = room.open(MUCH, at(0));
    let refused = Segments::open(&room.0, MUCH, at(0)).err().unwrap().to_string();
    assert!(refused.starts_with("another zsock records to "), "{refused}");
}

#[test]
fn files_of_others_are_left_alone() {
    let room = Room::new("others");
    fs::create_dir_all(room.0.join("20231114T000000.000000Z.ndjson.zst")).unwrap();
    let foreign = ["notes.txt", "20231114T221320Z.ndjson.zst", "x0231114T221320.000000Z.ndjson.zst"];
    for name in foreign {
        fs::write(room.0.join(name), noise(1, 40_000)).unwrap();
    }
    let mut segments = room.open(Bounds { size_bytes: 20_000, age: Some(Duration::from_secs(1)) }, at(0));
    for number in 0..20 {
        segments.append(&noise(number, 4_000), at(number * 10)).unwrap();
    }
    let names = room.names();
    assert!(foreign.iter().all(|name| names.contains(&(*name).to_owned())), "{names:?}");
}

#[test]
fn a_frame_that_was_not_finished_is_mended_and_its_whole_records_are_kept() {
    let room = Room::new("torn");
    // Of more than one block, so that some of it can be read without its end.
    let last: Vec<u8> = (0..100).flat_map(|number| noise(number, 4_000)).collect();
    let mut segments = room.open(MUCH, at(0));
    segments.append(b"start\none\n", at(0)).unwrap();
    let path = room.0.join(&room.names()[0]);
    let whole_bytes = fs::metadata(&path).unwrap().len();
    segments.append(&last, at(1)).unwrap();
    drop(segments);
    let stored = fs::read(&path).unwrap();
    let mut kept_some = 0;
    for cut in [whole_bytes + 1, whole_bytes + 200_000, stored.len() as u64 - 1] {
        fs::write(&path, &stored[..usize::try_from(cut).unwrap()]).unwrap();
        drop(room.open(MUCH, at(2)));
        let text = zstd::decode_all(File::open(&path).unwrap()).unwrap();
        let expected = [b"start\none\n".as_slice(), &last].concat();
        assert!(text.ends_with(b"\n") && expected.starts_with(&text), "cut at {cut}");
        assert!(text.len() >= b"start\none\n".len(), "cut at {cut}");
        kept_some += u32::from(text.len() > b"start\none\n".len());
    }
    assert_eq!(kept_some, 2, "what can be read of an unfinished frame is kept");
}

#[test]
fn a_directory_that_is_removed_is_made_again() {
    let room = Room::new("removed");
    let mut segments = room.open(MUCH, at(0));
    segments.append(b"start\none\n", at(0)).unwrap();
    fs::remove_dir_all(&room.0).unwrap();
    segments.append(b"two\n", at(1)).unwrap();
    assert_eq!(room.lines(), [["start", "two"]]);
    let name = &room.names()[0];
    fs::remove_file(room.0.join(name)).unwrap();
    segments.append(b"three\n", at(2)).unwrap();
    assert_eq!(room.lines(), [["start", "three"]], "what is written to a file without a name is lost");
}

#[test]
fn what_cannot_be_a_directory_is_refused_at_the_start() {
    let room = Room::new("refused");
    fs::write(&room.0, "a file").unwrap();
    let refused = |path: &Path| format!("{:#}", Segments::open(path, MUCH, at(0)).err().unwrap());
    let said =
        format!("{} is no directory: give one, or a path at which there is nothing yet", room.0.display());
    assert_eq!(refused(&room.0), said);
    fs::remove_file(&room.0).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", &room.0).unwrap();
    assert_eq!(refused(&room.0), said, "a link that leads nowhere");
    assert!(refused(Path::new("/proc/zsock")).starts_with("make the directory /proc/zsock: give one that"));
    assert!(
        refused(Path::new("/sys/kernel")).starts_with("write to the directory /sys/kernel: give one that")
    );
    fs::remove_file(&room.0).unwrap();
}

#[test]
fn a_segment_counts_although_the_oldest_could_not_be_removed_in_time() {
    let room = Room::new("stuck");
    let bounds = Bounds { size_bytes: 64 << 10, age: None };
    let mut segments = room.open(bounds, at(0));
    for second in 0..12 {
        segments.append(&noise(second, 8 << 10), at(second)).unwrap();
    }
    // What is in the way of its removal is no file any more.
    let oldest = room.0.join(&room.names()[0]);
    fs::remove_file(&oldest).unwrap();
    fs::create_dir(&oldest).unwrap();
    for second in 12..20 {
        let failed = segments.append(&noise(second, 8 << 10), at(second)).unwrap_err();
        assert!(format!("{failed:#}").starts_with("remove "), "{failed:#}");
    }
    fs::remove_dir(&oldest).unwrap();
    for second in 20..40 {
        segments.append(&noise(second, 8 << 10), at(second)).unwrap();
        assert!(room.bytes() <= bounds.size_bytes, "{} in {:?}", room.bytes(), room.names());
    }
}
