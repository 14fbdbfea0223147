//! Reports of runs: how much of them is there, and what was lost.

use super::super::tests::{death, in_order, record, report, start};
use crate::detect::Thresholds;
use crate::detect::story::at;
use crate::record::{Body, End, Lost, Record, Tick};

fn tick(ms: u64, lost_events: u64) -> Record {
    record(ms, Body::Tick(Box::new(Tick { every_ms: 10_000, lost_events, ..Tick::default() })))
}

fn lost(ms: u64, count: u64) -> Record {
    record(ms, Body::Lost(Lost { count, since: at(ms - 1), place: "kernel".into() }))
}

fn end(ms: u64, lost_events: u64) -> Record {
    record(ms, Body::End(Box::new(End { lost_events, ..End::default() })))
}

#[test]
fn a_run_whose_oldest_segments_are_gone_begins_with_what_is_there() {
    let begun = start(&Thresholds::default());
    let rest = [begun.clone(), tick(900_000, 0), tick(910_000, 0)];
    assert_eq!(report(rest).runs[0].span, Some((at(900_000), at(910_000))));
    // From its beginning on it is whole.
    let whole = [begun.clone(), tick(10_000, 0), tick(20_000, 0)];
    assert_eq!(report(whole).runs[0].span, Some((at(0), at(20_000))));
    // Nothing happened for long: a trace has no ticks.
    let quiet = [begun, end(900_000, 0)];
    assert_eq!(report(quiet).runs[0].span, Some((at(0), at(900_000))));
}

#[test]
fn what_was_lost_is_known_although_the_records_that_told_of_it_are_gone() {
    let begun = start(&Thresholds::default());
    let lost_of = |records: &[Record]| report(records.to_vec()).runs[0].lost;
    assert_eq!(lost_of(&[begun.clone(), end(20_000, 826_189)]), 826_189);
    assert_eq!(lost_of(&[begun.clone(), tick(10_000, 0), tick(20_000, 5), end(25_000, 9)]), 9);
    // Told by a record and counted: once.
    assert_eq!(
        lost_of(&[begun.clone(), lost(5_000, 3), tick(10_000, 3), lost(15_000, 2), end(20_000, 5)]),
        5
    );
    // Lost weeks before what is there: none of it.
    assert_eq!(lost_of(&[begun, tick(900_000, 7), lost(905_000, 2), tick(910_000, 9), end(911_000, 9)]), 2);
    // Without ticks, as in a trace.
    let died = [death(1, 400_000, 360_000), vec![end(430_000, 0)]].concat();
    assert_eq!(lost_of(&died), 0);
}

#[test]
fn segments_in_the_wrong_order_are_noticed_and_those_in_order_or_given_twice_are_not() {
    let begun = start(&Thresholds::default());
    let events = in_order([death(1, 400_000, 360_000), death(2, 401_500, 360_000)]);
    let (older, newer) = events.split_at(events.len() / 2);
    let is_repeated = |parts: &[&[Record]]| {
        let records = parts.iter().flat_map(|part| [std::slice::from_ref(&begun), *part].concat());
        report(records).runs[0].is_repeated
    };
    assert!(!is_repeated(&[&events]));
    assert!(!is_repeated(&[older, newer]));
    // Each record counts once.
    assert!(!is_repeated(&[&events, &events]));
    assert!(is_repeated(&[newer, older]));
}
