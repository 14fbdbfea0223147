//! What goes out, and what does not where there is no room.

use std::sync::mpsc;

use super::*;
use crate::record::Shed;

fn output_to(writer: Writer) -> Output {
    let facts = Facts { kernel: "6.18.0".into(), max_memory_bytes: 1 << 30, max_cpu_percent: Some(1) };
    Output {
        host: "web-1".into(),
        engine: Engine::new(Thresholds::default()),
        renderer: Renderer::Ndjson(Ndjson::default()),
        batch: Batch::default(),
        writer,
        is_full: false,
        loss: "output",
        taker: "the reader of stdout",
        failure: String::new(),
        selectors: Selectors::default(),
        events: Events::All,
        counted: End::default(),
        untold: Vec::new(),
        blocked: BlockedThreads::new(),
        metrics: Metrics::new(facts),
    }
}

fn event(at_ns: u64) -> Record {
    let event = crate::detect::story::resent(1);
    Record::new(Time::from_unix_ns(at_ns), &"web-1".into(), Body::Event(Box::new(event)))
}

/// Gives out what is pushed to a writer whose queue has room for so many bytes, as it is written.
fn output_with_room(bytes: usize) -> (Output, mpsc::Receiver<Vec<u8>>) {
    let (written, lines) = mpsc::channel();
    let work = move |intake: &crate::sink::writer::Intake| {
        let mut records = Vec::new();
        while intake.next(Duration::ZERO, &mut records) {
            intake.written(records.len());
            written.send(std::mem::take(&mut records)).map_err(std::io::Error::other)?;
        }
        Ok(())
    };
    let writer = Writer::spawn("zsock-test", bytes, 1, work).expect("a thread can be started");
    (output_to(writer), lines)
}

/// The records that were written.
fn told(lines: &mpsc::Receiver<Vec<u8>>) -> Vec<Record> {
    let written = lines.iter().collect::<Vec<_>>().concat();
    let written = written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    written.map(|line| serde_json::from_slice(line).expect("a record")).collect()
}

#[test]
fn that_zsock_does_without_something_is_told_where_there_is_no_room_for_anything() {
    let (mut output, lines) = output_with_room(0);
    let at = Time::from_unix_ns(1);
    let told = |body| Record::new(at, &"web-1".into(), body);
    let shed = told(Body::Shed(Box::new(Shed { what: "timers".into(), ..Shed::default() })));
    output.push(&told(Body::Tick(Box::default())));
    output.push(&shed);
    output.hand_over();
    assert_eq!(output.writer.take_dropped(), Some(Dropped { count: 1, since: at }), "the tick");
    drop(output.writer.finish(END_PATIENCE));
    let written: Vec<Record> = lines.iter().map(|line| serde_json::from_slice(&line).unwrap()).collect();
    assert_eq!(written, [shed]);
}

#[test]
fn events_are_not_even_rendered_while_there_is_no_room_and_are_again_once_there_is() {
    let (mut output, _lines) = output_with_room(0);
    output.push(&event(1));
    assert!(!output.batch.is_empty(), "nobody knows yet that there is no room");
    output.hand_over();
    output.push(&event(2));
    assert!(output.batch.is_empty());
    assert_eq!(output.counted.events, 2, "it is judged and counted all the same");
    assert_eq!(output.writer.dropped(), 2);
    // Nothing waits for the reader any more.
    output.tell_losses(Time::from_unix_ns(3));
    output.push(&event(4));
    assert!(!output.batch.is_empty());
}

/// Else a verdict in between would speak of a loss that is told after it.
#[test]
fn a_loss_is_told_before_whatever_is_judged_after_it() {
    let (mut output, lines) = output_with_room(1 << 20);
    output.push(&event(1));
    output.note_kernel_loss("hook", 3, Time::from_unix_ns(2), Time::from_unix_ns(4));
    output.push(&event(3));
    output.hand_over();
    drop(output.writer.finish(END_PATIENCE));
    let lost = Lost { count: 3, since: Time::from_unix_ns(2), place: "hook".into() };
    let lost = Record::new(Time::from_unix_ns(4), &"web-1".into(), Body::Lost(lost));
    assert_eq!(told(&lines), [event(1), lost, event(3)]);
}

#[test]
fn a_loss_that_found_no_room_is_told_before_the_next_verdict() {
    let (mut output, lines) = output_with_room(1 << 20);
    let lost = Lost { count: 3, since: Time::from_unix_ns(2), place: "kernel".into() };
    output.untold.push(lost.clone());
    let at = Time::from_unix_ns(4);
    let stuck = Body::Event(Box::new(crate::detect::story::resent(4)));
    output.push(&Record::new(at, &"web-1".into(), stuck));
    output.hand_over();
    drop(output.writer.finish(END_PATIENCE));
    let told = told(&lines);
    assert_eq!(told[1], Record::new(at, &"web-1".into(), Body::Lost(lost)));
    assert!(matches!(told[2].body, Body::Verdict(_)), "{told:#?}");
}

/// Verdicts find room there, which may speak of the loss.
#[test]
fn a_loss_is_told_where_a_verdict_finds_room_and_waits_where_none_does() {
    const CAPACITY_BYTES: usize = 16 << 10;
    let (stop, stopped) = mpsc::channel::<()>();
    // A reader that takes nothing.
    let work = move |_: &crate::sink::writer::Intake| {
        let _ = stopped.recv();
        Ok(())
    };
    let writer = Writer::spawn("zsock-test", CAPACITY_BYTES, 1, work).expect("a thread can be started");
    let mut output = output_to(writer);
    let at = Time::from_unix_ns(1);
    while output.writer.has_room() {
        output.push(&event(1));
        output.hand_over();
    }
    output.note_kernel_loss("kernel", 3, at, at);
    assert_eq!((output.untold.len(), output.counted.lost_events), (0, 3));
    while output.writer.has_room_for_verdicts() {
        output.print_past_limit(&event(1));
    }
    output.note_kernel_loss("kernel", 4, at, at);
    assert_eq!((output.untold.len(), output.counted.lost_events), (1, 3));
    drop(stop);
}

/// Else nothing would be tried, and nobody would learn that a disk has room again.
#[test]
fn what_fails_is_tried_again_with_the_next_event_once_the_queue_has_room() {
    let (failed, failures) = mpsc::channel();
    let work = move |intake: &crate::sink::writer::Intake| {
        let mut records = Vec::new();
        while intake.next(Duration::ZERO, &mut records) {
            intake.fails(1, Time::from_unix_ns(1));
            intake.written(records.len());
            failed.send(()).map_err(std::io::Error::other)?;
        }
        Ok(())
    };
    let mut output =
        output_to(Writer::spawn("zsock-test", 1 << 20, 1, work).expect("a thread can be started"));
    output.push(&event(1));
    output.hand_over();
    failures.recv().expect("it was tried");
    output.is_full = true;
    output.tell_losses(Time::from_unix_ns(2));
    output.push(&event(3));
    assert!(!output.batch.is_empty());
    output.hand_over();
    failures.recv().expect("it was tried again");
}

#[test]
fn losses_that_cannot_be_told_yet_add_up_by_their_place() {
    let lost = |place: &str, count, since_ns| Lost {
        count,
        since: Time::from_unix_ns(since_ns),
        place: Arc::from(place),
    };
    let mut untold = Vec::new();
    for one in [lost("kernel", 3, 10), lost("hook", 1, 20), lost("kernel", 4, 30)] {
        add(&mut untold, one);
    }
    assert_eq!(untold, [lost("kernel", 7, 10), lost("hook", 1, 20)]);
}
