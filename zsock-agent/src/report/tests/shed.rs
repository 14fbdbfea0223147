//! Reports of runs that did without something to use less of a processor.

use super::super::tests::{death, given, happened, names, record, report, start};
use crate::detect::Thresholds;
use crate::detect::story::{at, established, timed_out, with};
use crate::record::{Body, ProcessSample, Record, Shed, Tick, VerdictName};

fn shed(ms: u64, what: &str) -> Record {
    record(ms, Body::Shed(Box::new(Shed { what: what.into(), ..Shed::default() })))
}

/// What the first run did without, and since when.
fn told(records: Vec<Record>) -> Vec<(crate::time::Time, String)> {
    report(records).runs[0].shed.iter().map(|(at, shed)| (*at, shed.what.to_string())).collect()
}

#[test]
fn what_a_run_did_without_is_told_once_and_parts_that_repeat_it_are_no_copies() {
    let begun = start(&Thresholds::default());
    let (first, second) = (death(1, 400_000, 360_000), death(2, 500_000, 360_000));
    let head = [begun.clone(), shed(10_000, "timers")];
    let parts = [&[begun][..], &head[1..], &first, &head, &second].concat();
    assert_eq!(told(parts.clone()), [(at(10_000), "timers".to_owned())]);
    let whole = report(parts);
    assert_eq!(whole.repeated, 0, "nothing was read twice");
    let given_twice = [&head[..], &second, &head, &second].concat();
    let again = report(given_twice);
    assert_eq!(again.repeated, second.len() as u64);
}

#[test]
fn a_run_whose_oldest_segments_are_gone_begins_no_earlier_for_what_it_did_without() {
    let tick = |ms| {
        let tick = Tick { every_ms: 10_000, ..Default::default() };
        record(ms, Body::Tick(Box::new(tick)))
    };
    let records = [start(&Thresholds::default()), shed(10_000, "passes"), tick(900_000), tick(910_000)];
    assert_eq!(report(records).runs[0].span, Some((at(900_000), at(910_000))));
}

/// What was judged live of the sockets of a process stays: their events are not there to judge it by.
#[test]
fn where_events_are_told_no_longer_the_numbers_of_a_process_are_those_that_were_told_live() {
    let process: ProcessSample = serde_json::from_str(
        r#"{"type":"sample","process":{"pid":812,"comm":"nginx"},"open_fds":950,"limit":1000,"socket_fds":900,"dead_fds":0}"#,
    )
    .unwrap();
    let sample = record(20_000, Body::Process(Box::new(process)));
    let mut engine = crate::engine::Engine::new(Thresholds::default());
    let mut verdict = engine.push(&sample).remove(0).record;
    let Body::Verdict(told) = &mut verdict.body else { panic!("it is a verdict") };
    told.evidence.insert("zombie_fds".to_owned(), 77.into());
    let (begun, happened) = ([start(&Thresholds::default())], death(1, 10_000, 0));
    let zombies = |shed: &[Record]| {
        let told = [sample.clone(), verdict.clone()];
        let records = [&begun[..], &happened[..1], shed, &told];
        let report = report(records.concat());
        let given = report.stories.iter().flat_map(|story| &story.verdicts);
        let mut zombies = given.filter_map(|record| match &record.body {
            Body::Verdict(verdict) => verdict.evidence.get("zombie_fds").cloned(),
            Body::Start(_)
            | Body::End(_)
            | Body::Lost(_)
            | Body::Shed(_)
            | Body::Process(_)
            | Body::Destination(_)
            | Body::Tick(_)
            | Body::Event(_) => None,
        });
        zombies.next().unwrap()
    };
    assert_eq!(zombies(&[]), 0, "judged again by what is there");
    assert_eq!(zombies(&[shed(15_000, "events")]), 77);
}

/// Of so many hosts that the engine of one was let go meanwhile.
#[test]
fn what_a_run_did_without_is_known_where_its_sockets_had_to_be_forgotten() {
    let others = (0..64).map(|number| {
        let host = format!("other-{number}").into();
        Record::new(at(20_000), &host, Body::Tick(Box::default()))
    });
    let others: Vec<_> = others.collect();
    let end = with(timed_out(), |tcp| {
        (tcp.send_window_bytes, tcp.unsent_bytes) = (Some(0), Some(100));
        (tcp.unacked_bytes, tcp.probes_out) = (Some(0), Some(1));
    });
    let shed = |hook: &str| {
        let shed = Shed { what: "timers".into(), hooks: vec![hook.into()], ..Shed::default() };
        record(10_000, Body::Shed(Box::new(shed)))
    };
    let verdicts = |hook| {
        let before = [start(&Thresholds::default()), happened(0, established()), shed(hook)];
        let records = [&before[..], &others, &[happened(60_000, end.clone())]].concat();
        names(&given(&report(records)))
    };
    assert_eq!(verdicts("recovery"), [(VerdictName::SilentDeath, "closed".to_owned())]);
    assert_eq!(verdicts("persist"), []);
}
