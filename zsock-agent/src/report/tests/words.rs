//! Sentences whose numbers are of the awkward kind.

use serde_json::{Value, json};

use super::super::tests::report;
use crate::record::Record;

/// The sentence on one verdict with this evidence, as the reader of a recording has it.
fn sentence(verdict: &str, subject: (&str, Value), evidence: &Value) -> String {
    let mut record = json!({
        "schema": 1, "type": "verdict", "ts": "2026-11-22T12:00:00Z", "host": "web-1", "verdict": verdict, "phase": "opened",
        "severity": "warning", "since": "2026-11-22T12:00:00Z", "evidence": evidence, "summary": "", "advice": [],
    });
    record[subject.0] = subject.1;
    let record: Record = serde_json::from_value(record).unwrap();
    report([record]).incidents[0].summary.clone()
}

#[test]
fn one_zombie_is_one() {
    let process = || ("process", json!({"pid": 812, "comm": "nginx"}));
    let evidence = |zombies| json!({"open_fds": 820, "limit": 1024, "zombie_fds": zombies});
    let one = sentence("fd_pressure", process(), &evidence(1));
    assert!(one.contains(", 820 of 1024 open, 1 of them a zombie;"), "{one}");
    let two = sentence("fd_pressure", process(), &evidence(2));
    assert!(two.contains(", 2 of them zombies;"), "{two}");
}

#[test]
fn what_was_learnt_of_a_destination_does_not_end() {
    let evidence = json!({"died_after_ms": 351_000, "deaths": 2, "how": "reset"});
    let said = sentence("idle_timeout_inferred", ("destination", json!("10.0.5.7:5432")), &evidence);
    assert_eq!(
        said,
        "connections to 10.0.5.7:5432 die of idling, as seen at 12:00:00: after 5 min 51 s or more, 2 deaths"
    );
}
