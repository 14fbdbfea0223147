use std::fs::File;
use std::sync::atomic::AtomicUsize;

use memmap2::{MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{SysconfVar, ftruncate, sysconf};
use proptest::collection::vec;
use proptest::prelude::*;

use super::shared::PIECES;
use super::*;

/// The kernel's end of a ring buffer, in a file that is laid out as the kernel shares it.
struct Writer {
    file: File,
    consumed: MmapRaw,
    produced: MmapRaw,
    size_bytes: usize,
    written: usize,
}

/// Pieces are of 64 KiB then, which is a whole number of pages everywhere.
const SIZE_BYTES: usize = 2 << 20;
const PIECE_BYTES: usize = SIZE_BYTES / PIECES;

impl Writer {
    /// Of a ring buffer in which all is read up to `position`.
    fn at(position: usize) -> Self {
        let page_bytes = usize::try_from(sysconf(SysconfVar::PAGE_SIZE).unwrap().unwrap()).unwrap();
        let file = File::from(memfd_create(c"ring", MFdFlags::MFD_CLOEXEC).unwrap());
        ftruncate(&file, (2 * page_bytes + SIZE_BYTES).try_into().unwrap()).unwrap();
        let map = |offset: usize, length: usize| {
            MmapOptions::new().offset(offset as u64).len(length).map_raw(&file).unwrap()
        };
        let (consumed, produced) = (map(0, page_bytes), map(page_bytes, page_bytes + SIZE_BYTES));
        let mut writer = Self { file, consumed, produced, size_bytes: SIZE_BYTES, written: 0 };
        writer.consumed().store(position, Ordering::Relaxed);
        writer.write_up_to(position);
        writer
    }

    fn ring(&self) -> Ring {
        Ring::map(self.file.try_clone().unwrap().into(), self.size_bytes).unwrap()
    }

    fn consumed(&self) -> &AtomicUsize {
        // SAFETY: a page is mapped, and its first word is used in this way alone.
        unsafe { AtomicUsize::from_ptr(self.consumed.as_mut_ptr().cast()) }
    }

    fn write_up_to(&mut self, position: usize) {
        self.written = position;
        // SAFETY: as above.
        unsafe { AtomicUsize::from_ptr(self.produced.as_mut_ptr().cast()) }
            .store(position, Ordering::Release);
    }

    fn put(&self, position: usize, bytes: &[u8]) {
        let data = self.produced.len() - self.size_bytes;
        let at = position & (self.size_bytes - 1);
        let (first, rest) = bytes.split_at(bytes.len().min(self.size_bytes - at));
        for (at, part) in [(at, first), (0, rest)] {
            // SAFETY: it ends within the mapping, and no reader is at work.
            unsafe {
                part.as_ptr().copy_to_nonoverlapping(self.produced.as_mut_ptr().add(data + at), part.len());
            }
        }
    }

    /// The first word of a record's header.
    fn mark(&self, position: usize, header: u32) {
        self.put(position, &header.to_ne_bytes());
    }

    /// Writes a record where there is room for it. Returns where it begins.
    fn write(&mut self, record: &[u8], flags: u32) -> Option<usize> {
        let begin = self.written;
        let whole_bytes = (record.len() + HEADER_BYTES).next_multiple_of(HEADER_BYTES);
        let taken_bytes = begin.wrapping_sub(self.consumed().load(Ordering::Acquire));
        if whole_bytes > self.size_bytes - taken_bytes {
            return None;
        }
        self.mark(begin, u32::try_from(record.len()).unwrap() | flags);
        self.put(begin.wrapping_add(HEADER_BYTES), record);
        self.write_up_to(begin.wrapping_add(whole_bytes));
        Some(begin)
    }
}

fn read(ring: &mut Ring, most_bytes: usize) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    ring.read(most_bytes, |record| records.push(record.to_vec())).unwrap();
    records
}

fn record(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|number| seed.wrapping_add(number.to_le_bytes()[0])).collect()
}

#[test]
fn records_come_as_they_were_written_and_their_room_is_given_back() {
    let mut writer = Writer::at(0);
    let mut ring = writer.ring();
    assert!(read(&mut ring, SIZE_BYTES).is_empty());
    let records = [record(24, 1), record(0, 0), record(13, 9)];
    for record in &records {
        writer.write(record, 0);
    }
    assert_eq!(read(&mut ring, SIZE_BYTES), records);
    assert_eq!(writer.consumed().load(Ordering::Relaxed), writer.written);
    assert!(read(&mut ring, SIZE_BYTES).is_empty());
}

#[test]
fn a_record_in_two_pieces_comes_whole() {
    for end in [PIECE_BYTES, SIZE_BYTES] {
        for before in [HEADER_BYTES, 16, 104] {
            let mut writer = Writer::at(end - before);
            let mut ring = writer.ring();
            let records = [record(200, 7), record(5, 1)];
            for record in &records {
                writer.write(record, 0);
            }
            assert_eq!(read(&mut ring, SIZE_BYTES), records, "{before} bytes before {end}");
        }
    }
}

#[test]
fn a_record_of_many_pieces_comes_whole() {
    let mut writer = Writer::at(3 * PIECE_BYTES - 24);
    let mut ring = writer.ring();
    let records = [record(SIZE_BYTES - 64, 3), record(40, 1)];
    for record in &records {
        writer.write(record, 0).unwrap();
    }
    assert_eq!(read(&mut ring, SIZE_BYTES), records);
}

#[test]
fn what_is_not_being_read_is_unmapped_once_records_come_slowly() {
    let mut writer = Writer::at(0);
    let mut ring = writer.ring();
    assert_eq!(ring.shared.mapped_bytes(), PIECE_BYTES);
    for _ in 0..SIZE_BYTES / 1_024 {
        writer.write(&record(1_016, 1), 0).unwrap();
    }
    read(&mut ring, SIZE_BYTES / 2);
    ring.unmap_spare();
    assert_eq!(ring.shared.mapped_bytes(), SIZE_BYTES / 2, "half of it was just read");
    assert_eq!(read(&mut ring, PIECE_BYTES / 2).len(), PIECE_BYTES / 2_048);
    ring.unmap_spare();
    assert_eq!(ring.shared.mapped_bytes(), PIECE_BYTES);
    assert_eq!(read(&mut ring, SIZE_BYTES).len(), (SIZE_BYTES - PIECE_BYTES) / 2_048);
}

#[test]
fn what_cannot_be_mapped_is_read_once_it_can_be() {
    let mut writer = Writer::at(0);
    let mut ring = writer.ring();
    let records = [1, 2, 3, 4].map(|seed| record(PIECE_BYTES / 2, seed));
    for record in &records {
        writer.write(record, 0).unwrap();
    }
    let fd = ring.shared.replace_fd(File::open("/dev/null").unwrap().into());
    let mut seen = Vec::new();
    for _ in 0..2 {
        let broken = ring.read(SIZE_BYTES, |record| seen.push(record.to_vec())).unwrap_err();
        assert!(matches!(broken, Broken::Map(_)), "{broken}");
    }
    assert_eq!(seen, records[..1], "the next one goes on in a piece that is not mapped");
    ring.shared.replace_fd(fd);
    seen.extend(read(&mut ring, SIZE_BYTES));
    assert_eq!(seen, records);
}

#[test]
fn a_record_that_was_thrown_away_is_passed_over() {
    let mut writer = Writer::at(SIZE_BYTES - 16);
    let mut ring = writer.ring();
    writer.write(&record(40, 3), DISCARDED);
    writer.write(&record(8, 4), 0);
    writer.write(&record(8, 5), DISCARDED);
    assert_eq!(read(&mut ring, SIZE_BYTES), [record(8, 4)]);
    assert_eq!(writer.consumed().load(Ordering::Relaxed), writer.written);
}

#[test]
fn what_follows_a_record_that_is_being_written_waits_for_it() {
    let mut writer = Writer::at(0);
    let mut ring = writer.ring();
    writer.write(&record(8, 1), 0);
    let begin = writer.write(&record(16, 2), BUSY).unwrap();
    writer.write(&record(8, 3), 0);
    assert_eq!(read(&mut ring, SIZE_BYTES), [record(8, 1)]);
    assert!(read(&mut ring, SIZE_BYTES).is_empty());
    assert_eq!(writer.consumed().load(Ordering::Relaxed), begin);
    writer.mark(begin, 16);
    assert_eq!(read(&mut ring, SIZE_BYTES), [record(16, 2), record(8, 3)]);
}

#[test]
fn no_more_is_read_at_once_than_was_asked_for() {
    let mut writer = Writer::at(0);
    let mut ring = writer.ring();
    for seed in 0..5 {
        writer.write(&record(24, seed), 0);
    }
    assert_eq!(read(&mut ring, 33), [record(24, 0), record(24, 1)]);
    assert_eq!(read(&mut ring, 64), [record(24, 2), record(24, 3)]);
    assert_eq!(read(&mut ring, SIZE_BYTES), [record(24, 4)]);
}

#[test]
fn while_many_are_read_the_kernel_gets_their_room_back() {
    let mut writer = Writer::at(0);
    let mut ring = writer.ring();
    while writer.write(&record(248, 1), 0).is_some() {}
    assert_eq!(writer.written, SIZE_BYTES);
    let (mut read_bytes, mut most_kept) = (0, 0);
    ring.read(SIZE_BYTES, |_| {
        most_kept = most_kept.max(read_bytes - writer.consumed().load(Ordering::Relaxed));
        read_bytes += 256;
    })
    .unwrap();
    assert_eq!(read_bytes, SIZE_BYTES);
    assert!(most_kept < GIVE_BACK_BYTES, "{most_kept}");
}

#[test]
fn a_record_that_cannot_be_ends_the_reading() {
    let largest = BUSY - 1 - DISCARDED;
    for (length, written) in [(17, 16), (9, 16), (largest, 16), (largest | DISCARDED, SIZE_BYTES), (0, 4)] {
        let mut writer = Writer::at(SIZE_BYTES - 8);
        let mut ring = writer.ring();
        writer.mark(writer.written, length);
        writer.write_up_to(writer.written + written);
        for _ in 0..2 {
            let broken = ring.read(SIZE_BYTES, |_| panic!("a record")).unwrap_err();
            let what = format!("is a record of {} bytes", length & !DISCARDED);
            assert!(broken.to_string().contains(&what), "{broken}");
        }
        assert_eq!(writer.consumed().load(Ordering::Relaxed), SIZE_BYTES - 8);
    }
}

#[test]
fn more_than_the_buffer_holds_cannot_be_written() {
    let mut writer = Writer::at(0);
    let mut ring = writer.ring();
    writer.mark(0, 8);
    writer.write_up_to(SIZE_BYTES + 8);
    let broken = ring.read(SIZE_BYTES, |_| panic!("a record")).unwrap_err();
    let told =
        "at 0 of the ring buffer is a record of 8 bytes, written is all before 2097160; please report this";
    assert_eq!(broken.to_string(), told);
}

#[test]
fn what_is_no_ring_buffer_is_refused() {
    let writer = Writer::at(4);
    let map = |size_bytes| Ring::map(writer.file.try_clone().unwrap().into(), size_bytes).map(|_| ());
    let refused = |size_bytes| format!("{:#}", map(size_bytes).unwrap_err());
    assert_eq!(refused(SIZE_BYTES), "4 is no position in a ring buffer");
    assert!(refused(SIZE_BYTES - 8).starts_with("map the ring buffer: it cannot be of 2097144 bytes"));
    assert!(refused(8).starts_with("map the ring buffer: it cannot be of 8 bytes"));
}

/// Positions that few bytes are left from: to the end of the buffer, of 32 bits and of 64.
fn beginnings() -> impl Strategy<Value = usize> {
    let ends = prop_oneof![
        Just(0),
        Just(PIECE_BYTES),
        Just(SIZE_BYTES),
        Just(1 << 32),
        Just(7 * SIZE_BYTES),
        Just(1 << 31)
    ];
    (ends, 0..64_usize).prop_map(|(end, before)| end.wrapping_sub(before * HEADER_BYTES))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_written_is_read_in_order_once(
        begin in beginnings(),
        steps in vec((prop_oneof![9 => 0..3_000_usize, 1 => 0..4 * PIECE_BYTES], any::<u8>(), prop_oneof![5 => Just(0), 1 => Just(DISCARDED)], 0..9_000_usize), 1..60),
    ) {
        let mut writer = Writer::at(begin);
        let mut ring = writer.ring();
        let (mut written, mut got) = (Vec::new(), Vec::new());
        for (length, seed, flags, most_bytes) in steps {
            let record = record(length, seed);
            if writer.write(&record, flags).is_some() && flags == 0 {
                written.push(record);
            }
            if seed % 2 == 0 {
                got.extend(read(&mut ring, most_bytes));
            }
        }
        got.extend(read(&mut ring, usize::MAX));
        prop_assert_eq!(got, written);
        prop_assert_eq!(writer.consumed().load(Ordering::Relaxed), writer.written);
    }

    /// Whatever the shared memory holds: nothing is read beyond it, and the reading comes to an end.
    #[test]
    fn any_bytes_are_records_or_end_the_reading(
        begin in beginnings(),
        written in prop_oneof![any::<usize>(), 0..2 * SIZE_BYTES],
        words in vec(prop_oneof![3 => 0..64_u32, 1 => any::<u32>(), 1 => Just(DISCARDED | 8), 1 => Just(u32::MAX >> 2)], 200),
    ) {
        let mut writer = Writer::at(begin);
        let mut ring = writer.ring();
        for (number, word) in words.into_iter().enumerate() {
            writer.mark(begin.wrapping_add(number * HEADER_BYTES), word);
        }
        writer.write_up_to(begin.wrapping_add(written));
        let mut read_bytes = 0;
        let _ = ring.read(SIZE_BYTES, |record| read_bytes += HEADER_BYTES + record.len());
        prop_assert!(read_bytes <= 2 * SIZE_BYTES);
    }
}
