//! Judges a recording again: its verdicts follow from its other records.

use serde_json::Value;
use zsock_agent::detect::Thresholds;
use zsock_agent::engine::Engine;
use zsock_agent::record::{Body, Record, Verdict};

use crate::story::Line;

/// Checks that the verdicts among `lines` are those that an engine gives which is told all the others.
pub(crate) fn assert_judged_alike(lines: &[Line]) {
    let records: Vec<Record> = lines.iter().map(record).collect();
    let mut engine = Engine::new(thresholds(&records));
    let is_verdict = |record: &&Record| matches!(record.body, Body::Verdict(_));
    let live: Vec<String> = records.iter().filter(is_verdict).filter_map(told).collect();
    let happened = records.iter().filter(|record| !is_verdict(record));
    let again = happened.flat_map(|record| engine.push(record)).map(|finding| finding.record);
    let again: Vec<String> = again.filter_map(|record| told(&record)).collect();
    assert_eq!(live, again, "live, and judged again");
}

fn record(line: &Line) -> Record {
    serde_json::from_value(line.record.clone())
        .unwrap_or_else(|error| panic!("{error}: zsock does not read {}", line.record))
}

/// The thresholds in force, as `start` tells them.
fn thresholds(records: &[Record]) -> Thresholds {
    let Body::Start(start) = &records[0].body else { panic!("no start but {:?}", records[0].body) };
    Thresholds::of_settings(&start.settings)
}

/// A verdict without what only a look at the live process gives.
fn told(record: &Record) -> Option<String> {
    let Body::Verdict(verdict) = &record.body else { return None };
    let mut verdict: Verdict = (**verdict).clone();
    for live in ["blocked_threads", "blocked_in"] {
        verdict.evidence.remove(live);
    }
    let told: Value = serde_json::to_value(&verdict).expect("a record can be written");
    Some(format!("{} {told}", record.at))
}
