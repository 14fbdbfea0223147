//! Reports of stories: what is judged again, what is told together, what is said to be missing.

use std::sync::Arc;

use serde_json::json;

use super::stories::{Key, Stories};
use super::{Builder, Options, Place, Report};
use crate::detect::Thresholds;
use crate::detect::story::{at, connecting, established, event, resent, state, timed_out, with};
use crate::engine::Engine;
use crate::record::{
    Body, Errno, Errored, Event, Lost, Process, ProcessSample, Record, Severity, SocketId, Start, State,
    Tick, VerdictName, What,
};
use crate::recording::read::Next;
use crate::select::Selectors;

pub(crate) mod ends;
mod runs;
mod sentences;
mod shed;
mod torn;
mod words;

const RUN: &str = include_str!("../../tests/data/forgotten_by_nat.ndjson");

fn host() -> Arc<str> {
    Arc::from("web-1")
}

pub(crate) fn record(ms: u64, body: Body) -> Record {
    Record::new(at(ms), &host(), body)
}

pub(crate) fn happened(ms: u64, event: Event) -> Record {
    record(ms, Body::Event(Box::new(event)))
}

/// The event on another of curl's connections to the same service.
pub(crate) fn on(number: u16, mut event: Event) -> Event {
    event.socket_mut().id = SocketId(u64::from(number));
    event.socket_mut().inode = Some(u64::from(number));
    event.socket_mut().local = Some(format!("10.0.0.2:{}", 50_000 + number).parse().unwrap());
    event
}

/// After so long without traffic, a connection stalls from `ms` on.
fn idle_and_resent(attempt: u32, idle_ms: u64, stalled_ms: u64) -> Event {
    with(resent(attempt), |tcp| {
        tcp.last_received_ms = Some(idle_ms + stalled_ms);
        tcp.stalled_ms = Some(stalled_ms);
    })
}

/// A connection that stalls at `ms` after `idle_ms` of idling, and dies 20 s later.
pub(crate) fn death(number: u16, ms: u64, idle_ms: u64) -> Vec<Record> {
    let mut records = vec![happened(0, on(number, connecting())), happened(1, on(number, established()))];
    for (attempt, stalled_ms) in [(1, 200), (2, 600), (3, 1_400), (4, 3_000), (5, 6_200)] {
        let event = on(number, idle_and_resent(attempt, idle_ms, stalled_ms));
        records.push(happened(ms + stalled_ms, event));
    }
    let end = with(timed_out(), |tcp| {
        tcp.unacked_bytes = Some(24);
        tcp.last_received_ms = Some(idle_ms + 20_000);
        tcp.stalled_ms = Some(20_000);
    });
    records.push(happened(ms + 20_000, on(number, end)));
    records
}

pub(crate) fn in_order(stories: impl IntoIterator<Item = Vec<Record>>) -> Vec<Record> {
    let mut records: Vec<Record> = stories.into_iter().flatten().collect();
    records.sort_by_key(|record| record.at);
    records
}

pub(crate) fn start(settings: &Thresholds) -> Record {
    let start = Start {
        version: "0.1.0".into(),
        kernel: "6.18.44".into(),
        boot_id: Some("b".into()),
        hooks: std::collections::BTreeMap::default(),
        missing_fields: Vec::new(),
        sockets: 0,
        settings: settings.settings(),
        sysctl: std::collections::BTreeMap::default(),
        metrics: None,
    };
    record(0, Body::Start(Box::new(start)))
}

pub(crate) fn report_with(options: Options, records: impl IntoIterator<Item = Record>) -> Report {
    let mut builder = Builder::new(options);
    records.into_iter().for_each(|record| builder.push(Next::Record(record)));
    builder.finish()
}

pub(crate) fn report(records: impl IntoIterator<Item = Record>) -> Report {
    report_with(Options::default(), records)
}

/// The verdict records of a report, in the order in which they were given.
fn given(report: &Report) -> Vec<Record> {
    let mut given: Vec<_> =
        report.stories.iter().flat_map(|story| story.order.iter().zip(&story.verdicts)).collect();
    given.sort_by_key(|(order, _)| **order);
    given.into_iter().map(|(_, record)| record.clone()).collect()
}

/// What an engine gives that is told the same.
fn live(thresholds: Thresholds, records: &[Record]) -> Vec<Record> {
    let mut engine = Engine::new(thresholds);
    records.iter().flat_map(|record| engine.push(record)).map(|finding| finding.record).collect()
}

/// The records with each verdict after what brought it, as `trace` writes them.
fn traced(thresholds: Thresholds, records: &[Record]) -> Vec<Record> {
    let mut engine = Engine::new(thresholds);
    let with_verdicts = |record: &Record| {
        let verdicts = engine.push(record).into_iter().map(|finding| finding.record);
        [record.clone()].into_iter().chain(verdicts).collect::<Vec<_>>()
    };
    records.iter().flat_map(with_verdicts).collect()
}

fn names(records: &[Record]) -> Vec<(VerdictName, String)> {
    let name = |record: &Record| {
        let Body::Verdict(verdict) = &record.body else { return None };
        Some((verdict.verdict, verdict.phase.to_string()))
    };
    records.iter().filter_map(name).collect()
}

pub(crate) fn lines() -> Vec<Record> {
    RUN.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_recording_gives_the_verdicts_that_were_given_live() {
    let recorded = lines();
    let is_verdict = |record: &&Record| matches!(record.body, Body::Verdict(_));
    let was_given: Vec<Record> = recorded.iter().filter(is_verdict).cloned().collect();
    let happened: Vec<Record> = recorded.iter().filter(|record| !is_verdict(record)).cloned().collect();
    let again = given(&report(happened.clone()));
    assert_eq!(again.iter().map(claim).collect::<Vec<_>>(), was_given.iter().map(claim).collect::<Vec<_>>());
    assert_eq!(again, live(Thresholds::default(), &happened));
    // It makes no difference that they were recorded.
    assert_eq!(given(&report(recorded)), again);
    assert_eq!(again.len(), 4);
}

/// What a verdict claims; the words of an older zsock may be others.
fn claim(record: &Record) -> Record {
    let mut record = record.clone();
    if let Body::Verdict(verdict) = &mut record.body {
        verdict.summary = String::new();
        verdict.advice = Vec::new();
    }
    record
}

#[test]
fn connections_that_die_alike_are_one_incident() {
    let deaths = (0..37).map(|number| {
        death(number + 1, 400_000 + u64::from(number) * 70, 351_000 + u64::from(number) * 1_000)
    });
    let report = report(in_order(deaths));
    let told: Vec<_> =
        report.incidents.iter().map(|incident| (incident.verdict, incident.stories.len())).collect();
    assert_eq!(told, [(VerdictName::SilentDeath, 37)]);
    let incident = &report.incidents[0];
    assert_eq!(
        incident.summary,
        "37 connections of curl (pid 812) to 10.0.1.4:443 died within 3 s at 22:20:20 after idling 351 to 387 s, \
         unnoticed for 371 to 407 s, 888 bytes never acknowledged"
    );
    assert_eq!(incident.place, Some(Place::To("10.0.1.4:443".parse().unwrap())));
    // One line for all of them, with the bound that holds for each.
    let keepalive: Vec<_> = incident.advice.iter().filter(|line| line.contains("TCP_KEEPIDLE")).collect();
    assert!(matches!(&keepalive[..], [one] if one.contains("at most 175 s")), "{:?}", incident.advice);
}

#[test]
fn what_comes_later_or_goes_elsewhere_is_another_incident() {
    let mut elsewhere = death(3, 400_000, 360_000);
    for record in &mut elsewhere {
        if let Body::Event(event) = &mut record.body {
            event.socket_mut().remote = Some("10.0.9.9:443".parse().unwrap());
        }
    }
    let deaths = [death(1, 400_000, 360_000), death(2, 411_000, 360_000), elsewhere];
    let report = report(in_order(deaths));
    let deaths = report.incidents.iter().filter(|incident| incident.verdict == VerdictName::SilentDeath);
    assert_eq!(deaths.map(|incident| incident.stories.len()).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn what_recovers_says_so_and_what_nearly_stalls_is_no_trouble() {
    let mut stalled = death(1, 10_000, 1_000);
    stalled.pop();
    let acked = with(
        event(What::Progress(crate::record::Progress { stalled_ms: Some(7_000), attempts: 5 })),
        |tcp| {
            tcp.retransmits = Some(0);
        },
    );
    stalled.push(happened(17_000, on(1, acked)));
    let nearly: Vec<Record> = death(2, 10_000, 1_000).into_iter().take(5).collect();
    let report = report(in_order([stalled, nearly]));
    assert_eq!(report.stories.len(), 1);
    let summaries: Vec<_> = report.incidents.iter().map(|incident| incident.summary.as_str()).collect();
    assert_eq!(
        summaries,
        [
            "1 connection of curl (pid 812) to 10.0.1.4:443 got no acknowledgement any more at 22:13:33, for 7 s, sent again 5 times; \
          recovered"
        ]
    );
}

#[test]
fn the_thresholds_are_those_of_the_run_unless_others_are_asked_for() {
    let mut patient = Thresholds::default();
    patient.set("stuck_retransmission=5").unwrap();
    let records = [vec![start(&patient)], death(1, 400_000, 360_000)].concat();
    assert_eq!(given(&report(records.clone())), live(patient.clone(), &records));
    let options = Options { thresholds: vec!["stuck_retransmission=2".to_owned()], ..Options::default() };
    let mut hasty = patient.clone();
    hasty.set("stuck_retransmission=2").unwrap();
    let judged_anew = live(hasty, &records);
    assert_ne!(judged_anew, live(patient.clone(), &records));
    // What was given live is overruled.
    let traced = traced(patient, &records);
    assert_eq!(given(&report_with(options, traced)), judged_anew);
}

#[test]
fn verdicts_without_their_events_are_shown_as_they_were_given() {
    let records = in_order([death(1, 400_000, 360_000), death(2, 400_100, 361_000)]);
    let verdicts = live(Thresholds::default(), &records);
    let report = report(verdicts.clone());
    assert_eq!(given(&report), verdicts);
    assert_eq!(report.incidents[0].stories.len(), 2);
    // Also where other thresholds are asked for: nothing is there to judge by.
    let options = Options { thresholds: vec!["stuck_retransmission=9".to_owned()], ..Options::default() };
    assert_eq!(given(&report_with(options, verdicts.clone())), verdicts);
}

#[test]
fn what_only_a_look_at_the_process_gave_is_taken_over() {
    let mut traced = traced(Thresholds::default(), &death(1, 400_000, 360_000));
    let opened = traced
        .iter_mut()
        .find_map(|record| if let Body::Verdict(verdict) = &mut record.body { Some(verdict) } else { None });
    let evidence = &mut opened.unwrap().evidence;
    evidence.insert("blocked_threads".to_owned(), json!(3));
    evidence.insert("blocked_in".to_owned(), json!(["read"]));
    // Whatever else it says, the engine knows better.
    evidence.insert("attempts".to_owned(), json!(99));
    let report = report(traced);
    let Body::Verdict(verdict) = &given(&report)[0].body else { panic!("it is a verdict") };
    let facts = ["blocked_threads", "blocked_in", "attempts"].map(|name| verdict.evidence[name].clone());
    assert_eq!(facts, [json!(3), json!(["read"]), json!(4)]);
}

#[test]
fn loss_in_the_midst_is_counted_and_stands_in_the_evidence() {
    let mut records = death(1, 400_000, 360_000);
    let lost = Lost { count: 7, since: at(300_000), place: "kernel".into() };
    records.insert(2, record(390_000, Body::Lost(lost)));
    let report = report(records.clone());
    assert_eq!(report.runs[0].lost, 7);
    let given = given(&report);
    assert_eq!(given, live(Thresholds::default(), &records));
    let Body::Verdict(verdict) = &given[0].body else { panic!("it is a verdict") };
    assert_eq!(verdict.evidence["lost_before"], json!(7));
}

#[test]
fn a_start_that_is_there_again_goes_on_and_another_begins_a_run() {
    let begun = start(&Thresholds::default());
    let tick = |ms| record(ms, Body::Tick(Box::new(Tick { every_ms: 10_000, ..Tick::default() })));
    let mut again = begun.clone();
    again.at = at(500_000);
    let records = [
        vec![begun.clone(), tick(10_000), tick(20_000), begun],
        // Three ticks are missing.
        vec![tick(60_000), tick(70_000)],
        vec![again, record(510_000, Body::End(Box::default()))],
    ];
    let report = report(records.concat());
    let told: Vec<_> = report.runs.iter().map(|run| (run.records, run.gaps.clone(), run.is_ended)).collect();
    assert_eq!(
        told,
        [(6, vec![(at(20_000), at(60_000))], false), (2, vec![(at(70_000), at(500_000))], true),]
    );
}

#[test]
fn hosts_have_runs_of_their_own_even_without_a_start() {
    let here = death(1, 400_000, 360_000);
    let there = here.iter().cloned().map(|record| Record { host: "db-1".into(), ..record });
    let both = in_order([here.clone(), there.collect()]);
    let report = report(both);
    assert_eq!(report.runs.iter().map(|run| &*run.host).collect::<Vec<_>>(), ["web-1", "db-1"]);
    assert_eq!(report.incidents.len(), 2);
    assert_eq!(report.runs[1].records, here.len() as u64);
}

#[test]
fn what_is_shown_can_be_narrowed_and_is_judged_by_its_past() {
    let records = in_order([death(1, 400_000, 360_000), death(2, 460_000, 420_000)]);
    let all = given(&report(records.clone()));
    let shown = |since: Option<&str>, until: Option<&str>| {
        let moment = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        let options = Options { since: moment(since), until: moment(until), ..Options::default() };
        given(&report_with(options, records.clone()))
    };
    let after: Vec<Record> = all.iter().filter(|record| record.at >= at(463_000)).cloned().collect();
    assert!(!after.is_empty() && after.len() < all.len());
    for since in ["17s", "22:21:03", "2023-11-14T22:21:03Z", "2023-11-14 22:21:03"] {
        assert_eq!(shown(Some(since), None), after, "{since}");
    }
    assert_eq!(shown(None, Some("22:13")), []);
    assert_eq!(shown(Some("2023-11-14"), Some("2023-11-15")), all);
    // The first hangs from 22:20:03 to its death at 22:20:20: whoever asks for a moment between them is shown it.
    assert_eq!(shown(Some("22:20:10"), None), all);
    let hang = shown(Some("22:20:10"), Some("22:20:12"));
    assert!(hang.len() >= 2 && hang.iter().all(|record| record.at < at(421_000)), "{hang:#?}");
    assert!(names(&hang).iter().all(|(name, _)| *name == VerdictName::StuckRetransmission), "{hang:#?}");
    assert_eq!(shown(Some("22:20:21"), Some("22:21:02")), []);
    let selectors = Selectors { verdicts: vec![VerdictName::SilentDeath], ..Selectors::default() };
    let deaths = report_with(Options { selectors, ..Options::default() }, records.clone());
    assert_eq!(names(&given(&deaths)), vec![(VerdictName::SilentDeath, "closed".to_owned()); 2]);
}

#[test]
fn a_socket_can_be_asked_for_that_has_no_verdict() {
    let healthy = [
        happened(0, on(9, connecting())),
        happened(1, on(9, established())),
        happened(5, on(9, state(State::ESTABLISHED, State::FIN_WAIT1))),
    ];
    let records = in_order([healthy.to_vec(), death(1, 400_000, 360_000)]);
    let options = Options { sockets: vec![SocketId(9)], ..Options::default() };
    let report = report_with(options, records);
    assert_eq!((report.stories.len(), report.incidents.len()), (1, 0));
    assert_eq!(report.stories[0].timeline.parts().0.len(), 3);
}

#[test]
fn the_story_goes_on_after_its_last_verdict() {
    let mut records = death(1, 400_000, 360_000);
    let error = What::Error(Errored { errno: Errno::named("ETIMEDOUT") });
    records.push(happened(420_001, with(on(1, event(error)), |tcp| tcp.state = Some(State::CLOSE))));
    let report = report(records);
    let story = &report.stories[0];
    assert_eq!(story.timeline.parts().0.last().map(|entry| entry.at), Some(at(420_001)));
    assert_eq!(story.span, (at(0), at(420_001)));
}

#[test]
fn a_process_that_runs_short_of_descriptors_is_an_incident_without_a_place() {
    let process = Process { pid: 7, comm: Some("api".into()), comm_hex: None, cgroup: None, container: None };
    let sample = ProcessSample {
        process,
        open_fds: Some(990),
        limit: Some(1024),
        socket_fds: Some(900),
        dead_fds: None,
        growth_per_minute: None,
        peers: Vec::new(),
        exited: false,
    };
    let report = report([record(0, Body::Process(Box::new(sample)))]);
    assert_eq!(
        report.incidents[0].summary,
        "api (pid 7) ran short of file descriptors at 22:13:20, 990 of 1024 open; still so at the end"
    );
    assert_eq!(report.incidents[0].place, None);
}

#[test]
fn without_room_the_least_harmful_make_way_and_then_the_newest() {
    let verdicts = |number: u16| {
        let given = live(Thresholds::default(), &death(number, 400_000 + u64::from(number), 360_000));
        given.into_iter().filter(|record| matches!(&record.body, Body::Verdict(it) if it.socket().is_some()))
    };
    let mut stories = Stories::within(40_000);
    for (order, record) in (0..).zip((1..=100).flat_map(verdicts)) {
        stories.tell(0, record, order, None);
    }
    let (kept, dropped) = stories.finish();
    assert!(kept.len() > 3 && kept.len() as u64 + dropped == 100, "{} kept, {dropped} dropped", kept.len());
    let keys: Vec<_> = kept.iter().map(|story| Key::of(&story.subject)).collect();
    let oldest = (1..=kept.len() as u64).map(|id| Key::Socket(SocketId(id)));
    assert_eq!(keys, oldest.collect::<Vec<_>>());
}

#[test]
fn a_graver_story_takes_the_place_of_the_newest_of_the_less_harmful() {
    let mut stories = Stories::within(40_000);
    let given = |number: u16| live(Thresholds::default(), &death(number, 400_000, 360_000));
    // Of each the first verdict, a warning, until no more are taken in.
    let mut number = 0;
    let full = loop {
        number += 1;
        if stories.tell(0, given(number).remove(0), number.into(), None).is_none() {
            break number;
        }
    };
    let is_critical = |record: &Record| matches!(&record.body, Body::Verdict(verdict) if verdict.severity == Severity::Critical);
    let gravest = given(full + 1).into_iter().find(is_critical).expect("it died");
    assert!(stories.tell(0, gravest, 1_000, None).is_some());
    let (kept, dropped) = stories.finish();
    let keys: Vec<_> = kept.iter().map(|story| Key::of(&story.subject)).collect();
    let key = |number: u16| Key::Socket(SocketId(number.into()));
    assert!(
        keys.contains(&key(1)) && keys.contains(&key(full + 1)) && !keys.contains(&key(full - 1)),
        "{keys:?}"
    );
    assert_eq!(kept.len() as u64 + dropped, u64::from(full) + 1);
}
