use std::fs::OpenOptions;
use std::io::{PipeWriter, Read as _, pipe};
use std::sync::mpsc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::*;

/// 64 bytes, so that records fill a pipe without a rest.
fn record(number: u32) -> Vec<u8> {
    format!("{number:>63}\n").into_bytes()
}

fn records(numbers: impl IntoIterator<Item = u32>) -> String {
    String::from_utf8(numbers.into_iter().flat_map(record).collect()).unwrap()
}

fn at(second: u32) -> Time {
    Time::from_unix_ns(u64::from(second) * 1_000_000_000)
}

fn batch(numbers: impl IntoIterator<Item = u32>, is_verdict: bool) -> Batch {
    let mut batch = Batch::default();
    for number in numbers {
        batch.add(at(number), is_verdict, |bytes| bytes.extend(record(number)));
    }
    batch
}

/// Hands over one event.
fn push(writer: &Writer, number: u32) {
    let _ = writer.push(&mut batch([number], false));
}

/// Makes the pipe hold 64 KiB, whatever the system's default is: 1,024 records.
fn hold_64_kib(pipe: &PipeWriter) {
    assert_eq!(fcntl(pipe, FcntlArg::F_SETPIPE_SZ(64 << 10)).unwrap(), 64 << 10);
}

fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

#[test]
fn a_record_reaches_the_reader_without_others_behind_it() {
    let (mut reader, pipe) = pipe().unwrap();
    let writer = Writer::start(pipe, 1 << 20).unwrap();
    push(&writer, 1);
    let mut seen = [0; 64];
    reader.read_exact(&mut seen).unwrap();
    assert_eq!(seen.as_slice(), record(1));
    assert_eq!(writer.finish(END_PATIENCE).unwrap(), 0);
}

#[test]
fn a_slow_reader_gets_every_record_whole_and_in_order() {
    let (mut reader, pipe) = pipe().unwrap();
    let writer = Writer::start(pipe, 1 << 20).unwrap();
    let slow = thread::spawn(move || {
        let (mut all, mut bite) = (Vec::new(), [0; 100]);
        while let Ok(bytes @ 1..) = reader.read(&mut bite) {
            all.extend_from_slice(&bite[..bytes]);
            thread::yield_now();
        }
        String::from_utf8(all).unwrap()
    });
    for number in 0..10_000 {
        push(&writer, number);
    }
    assert_eq!(writer.take_dropped(), None);
    assert_eq!(writer.finish(END_PATIENCE).unwrap(), 0);
    assert_eq!(slow.join().unwrap(), records(0..10_000));
}

#[test]
fn records_that_find_the_queue_full_are_dropped_and_counted_events_before_verdicts() {
    let (mut reader, pipe) = pipe().unwrap();
    hold_64_kib(&pipe);
    let writer = Writer::start(pipe, 128 << 10).unwrap();
    // 1,024 records fill the pipe and 1,536 the part of the queue that is not kept for verdicts.
    for number in 0..1_024 {
        push(&writer, number);
    }
    wait_until(|| writer.shared.lock().unwritten_bytes == 0);
    for number in 1_024..5_000 {
        push(&writer, number);
    }
    assert!(!writer.has_room());
    assert_eq!(writer.take_dropped(), Some(Dropped { count: 5_000 - 2_560, since: at(2_560) }));
    for number in 5_000..6_000 {
        writer.push(&mut batch([number], true));
    }
    assert_eq!(writer.take_dropped(), Some(Dropped { count: 1_000 - 512, since: at(5_512) }));
    assert_eq!(writer.take_dropped(), None);

    // The reader wakes up: there is room, and the trace goes on.
    let mut seen = vec![0; 3_072 * 64];
    reader.read_exact(&mut seen).unwrap();
    assert_eq!(String::from_utf8(seen).unwrap(), records((0..2_560).chain(5_000..5_512)));
    wait_until(|| writer.has_room());
    push(&writer, 6_000);
    assert_eq!(writer.take_dropped(), None);
    assert_eq!(writer.finish(END_PATIENCE).unwrap(), 0);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, records([6_000]));
}

#[test]
fn of_a_batch_that_does_not_fit_each_record_is_queued_or_dropped_for_itself() {
    let (mut reader, pipe) = pipe().unwrap();
    let (order, orders) = mpsc::channel();
    let work = move |intake: &Intake| {
        orders.recv().unwrap();
        write_all(pipe, intake)
    };
    // Room for 24 events, and for 8 verdicts more.
    let writer = Writer::spawn("zsock-test", 32 * 64, PIECE_BYTES, work).unwrap();
    let mut mixed = batch(0..20, false);
    assert!(writer.push(&mut mixed));
    assert!(mixed.is_empty());
    assert_eq!(writer.take_dropped(), None);
    for (numbers, is_verdict) in [(20..30, false), (30..40, true), (40..50, false)] {
        for number in numbers {
            mixed.add(at(number), is_verdict, |bytes| bytes.extend(record(number)));
        }
    }
    assert!(!writer.push(&mut mixed));
    assert!(mixed.is_empty());
    assert_eq!(writer.take_dropped(), Some(Dropped { count: 6 + 2 + 10, since: at(24) }));
    order.send(()).unwrap();
    assert_eq!(writer.finish(END_PATIENCE).unwrap(), 0);
    let mut all = String::new();
    reader.read_to_string(&mut all).unwrap();
    assert_eq!(all, records((0..24).chain(30..38)));
}

#[test]
fn the_last_words_are_queued_even_where_the_queue_is_full() {
    let (mut reader, pipe) = pipe().unwrap();
    let writer = Writer::start(pipe, 64).unwrap();
    writer.push_past_limit(&mut batch([1], false));
    writer.push_past_limit(&mut batch([2], false));
    assert_eq!(writer.finish(END_PATIENCE).unwrap(), 0);
    let mut all = String::new();
    reader.read_to_string(&mut all).unwrap();
    assert_eq!(all, records([1, 2]));
}

#[test]
fn the_end_gives_up_on_a_reader_that_takes_nothing_and_says_how_much_it_missed() {
    let (reader, pipe) = pipe().unwrap();
    hold_64_kib(&pipe);
    let writer = Writer::start(pipe, 1 << 20).unwrap();
    for number in 0..1_024 {
        push(&writer, number);
    }
    wait_until(|| writer.shared.lock().unwritten_bytes == 0);
    for number in 0..300 {
        push(&writer, number);
    }
    assert_eq!(writer.finish(Duration::from_millis(50)).unwrap(), 300);
    drop(reader);
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_writing_quietly() {
    let (reader, pipe) = pipe().unwrap();
    let writer = Writer::start(pipe, 1 << 20).unwrap();
    assert!(!writer.is_stopped());
    drop(reader);
    push(&writer, 1);
    writer.stopped().await;
    assert!(writer.is_stopped());
    push(&writer, 2);
    assert_eq!(writer.take_dropped(), None);
    assert_eq!(writer.finish(END_PATIENCE).unwrap(), 0);
}

#[tokio::test]
async fn a_full_disk_is_an_error() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let writer = Writer::start(full, 1 << 20).unwrap();
    push(&writer, 1);
    writer.stopped().await;
    assert_eq!(writer.finish(END_PATIENCE).unwrap_err().kind(), ErrorKind::StorageFull);
}

#[test]
fn a_pipe_in_non_blocking_mode_loses_nothing() {
    let (mut reader, pipe) = pipe().unwrap();
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let writer = Writer::start(pipe, 1 << 20).unwrap();
    for number in 0..5_000 {
        push(&writer, number);
    }
    let all = thread::spawn(move || io::read_to_string(&mut reader).unwrap());
    assert_eq!(writer.finish(END_PATIENCE).unwrap(), 0);
    assert_eq!(all.join().unwrap(), records(0..5_000));
}

#[test]
fn what_cannot_be_stored_is_counted_and_the_time_to_tell_is_when_it_works_again() {
    let (order, orders) = mpsc::channel();
    let (tell, done) = mpsc::channel();
    let work = move |intake: &Intake| {
        let mut records = Vec::new();
        while intake.next(Duration::ZERO, &mut records) {
            if orders.recv().unwrap() {
                intake.works();
            } else {
                intake.fails(3, at(7));
            }
            intake.written(records.len());
            tell.send(()).unwrap();
        }
        Ok(())
    };
    let writer = Writer::spawn("zsock-test", 1 << 20, PIECE_BYTES, work).unwrap();
    for (works, dropped) in [(true, None), (false, Some(Dropped { count: 3, since: at(7) })), (true, None)] {
        push(&writer, 1);
        order.send(works).unwrap();
        done.recv().unwrap();
        assert_eq!(writer.is_failing(), !works);
        assert_eq!(writer.take_dropped(), dropped);
    }
    assert_eq!(writer.finish(END_PATIENCE).unwrap(), 0);
}
