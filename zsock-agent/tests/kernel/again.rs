//! Judges a recording again: its verdicts follow from its other records, and `zsock report` finds them in it.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;
use zsock_agent::detect::Thresholds;
use zsock_agent::engine::Engine;
use zsock_agent::record::{Body, Record, Verdict};

use crate::story::Line;
use crate::zsock::program;

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

/// Checks that `zsock report` finds in what a trace streamed the verdicts that the trace gave: the same records, in the same order.
pub(crate) fn assert_reported_alike(lines: &[Line]) {
    let mut command = Command::new(program());
    let streamed: Vec<String> = lines.iter().map(|line| line.record.to_string()).collect();
    let report =
        command.args(["report", "-o", "json", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut report = report.expect("zsock was built with this test");
    let mut stdin = report.stdin.take().expect("stdin is piped");
    let fed = thread::spawn(move || stdin.write_all((streamed.join("\n") + "\n").as_bytes()));
    let output = report.wait_with_output().expect("a child can be waited for");
    fed.join().expect("the feeder does not panic").expect("zsock reads to the end");
    assert!(output.status.success(), "zsock report ended with {}", output.status);
    let reported = String::from_utf8(output.stdout).expect("zsock writes UTF-8");
    let reported = reported.lines().map(|line| serde_json::from_str(line).expect("zsock writes JSON"));
    let is_verdict = |record: &Value| record["type"] == "verdict";
    let reported: Vec<Value> = reported.filter(is_verdict).collect();
    let live: Vec<Value> = lines.iter().map(|line| line.record.clone()).filter(is_verdict).collect();
    assert!(live == reported, "live {live:#?}\nand reported {reported:#?}");
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
