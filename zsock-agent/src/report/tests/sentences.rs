//! The sentences of incidents of every kind, from recordings that hold verdicts alone.

use serde_json::Value;

use super::*;

/// A verdict as a line of a recording tells it, `second` after the beginning, on curl's connection of this number, with this evidence.
fn given(second: u64, number: u16, verdict: &str, told: (&str, Option<&str>), evidence: &Value) -> Record {
    let socket = on(number, established()).socket;
    let (phase, outcome) = told;
    let mut record = json!({
        "schema": 1, "ts": at(second * 1_000), "host": "web-1", "type": "verdict", "verdict": verdict, "phase": phase,
        "severity": "warning", "socket": socket, "tcp": {}, "since": at(0), "evidence": evidence, "summary": "", "advice": [],
    });
    if let Some(outcome) = outcome {
        record["outcome"] = outcome.into();
    }
    serde_json::from_value(record).unwrap()
}

/// The sentence on two connections, the second struck three seconds after the first.
fn sentence(verdict: &str, [first, second]: [(&str, Option<&str>, Value); 2]) -> String {
    let records = [(1, first), (4, second)].map(|(at, (phase, outcome, evidence))| {
        given(at, u16::try_from(at).unwrap(), verdict, (phase, outcome), &evidence)
    });
    let report = report(records);
    assert_eq!(report.incidents.len(), 1, "{:?}", report.incidents);
    report.incidents[0].summary.clone()
}

#[test]
fn what_struck_connections_is_told_with_the_numbers_of_their_verdicts() {
    let opened = |evidence| ("opened", None, evidence);
    let ended = |outcome, evidence| ("closed", Some(outcome), evidence);
    let died = |evidence| ("closed", None, evidence);
    let of_curl = "2 connections of curl (pid 812) to 10.0.1.4:443";
    for (verdict, told, words) in [
        (
            "stale_reset",
            [
                died(json!({"idle_ms": 40_000, "sent_bytes": 5})),
                died(json!({"idle_ms": 62_900, "sent_bytes": 7})),
            ],
            "met a reset within 3 s at 22:13:21 when something was sent after idling 40 to 62 s",
        ),
        (
            "silent_death",
            [
                died(json!({"unnoticed_ms": 900, "unacked_bytes": 1000})),
                died(json!({"unnoticed_ms": 950, "unacked_bytes": 24})),
            ],
            "died within 3 s at 22:13:21, unnoticed for 900 to 950 ms, 1024 bytes never acknowledged",
        ),
        (
            "keepalive_unanswered",
            [opened(json!({"probes": 2, "of": 9})), ended("answered", json!({"probes": 3, "of": 9}))],
            "got no answer to keepalive probes within 3 s at 22:13:21, sent 2 to 3 times; 1 answered, 1 still so at the end",
        ),
        (
            "zero_window_stall",
            [
                opened(json!({"stalled_ms": 20_000, "probes": 4})),
                ended("opened_window", json!({"stalled_ms": 30_000, "probes": 5})),
            ],
            "met a closed window of the peer within 3 s at 22:13:21 for 20 to 30 s, probed 4 to 5 times; 1 saw the window open, 1 still so at the end",
        ),
        (
            "app_silence",
            [opened(json!({"waiting_ms": 30_000, "usual_ms": 12})), opened(json!({"waiting_ms": 31_000}))],
            "waited for an answer within 3 s at 22:13:21 for 30 to 31 s, where it usually took 12 ms (known of 1); 2 still so at the end",
        ),
        (
            "close_wait_leak",
            [ended("closed", json!({"waiting_ms": 60_000})), ended("moved", json!({"waiting_ms": 60_000}))],
            "stayed open after the peer had closed within 3 s at 22:13:21 for 60 s; 1 moved data again, 1 closed",
        ),
        (
            "unguarded_idle",
            [
                opened(json!({"idle_ms": 300_000, "would_be_noticed_ms": 7_000_000})),
                opened(json!({"idle_ms": 300_000})),
            ],
            "idled with nothing to guard against a silent death within 3 s at 22:13:21 for 300 s; \
             a death would be noticed after 1 h 56 min, of 1 of them never; 2 still so at the end",
        ),
    ] {
        assert_eq!(sentence(verdict, told), format!("{of_curl} {words}"));
    }
    let twice = [opened(json!({"attempts": 3})), ended("connected", json!({"attempts": 3}))];
    assert_eq!(
        sentence("connect_blackhole", twice),
        "2 connection attempts of curl (pid 812) to 10.0.1.4:443 got no answer within 3 s at 22:13:21, SYN sent again 3 times; \
         1 connected after all, 1 still so at the end"
    );
    let stuck = [opened(json!({"attempts": 1})), ended("reset", json!({"attempts": 1}))];
    assert_eq!(
        sentence("orphan_stuck", stuck),
        "2 connections of curl (pid 812) to 10.0.1.4:443, held by no process any more, could not finish closing within 3 s at 22:13:21, \
         sent again once; 1 reset, 1 still so at the end"
    );
}

#[test]
fn idle_times_are_told_where_every_stall_came_after_one() {
    let deaths = |idle: [u64; 2]| {
        let numbered = (1..).zip(idle);
        report(in_order(numbered.map(|(number, idle_ms)| death(number, 400_000, idle_ms)))).incidents[0]
            .summary
            .clone()
    };
    assert!(
        deaths([351_000, 352_000]).contains(" after idling 351 to 352 s"),
        "{}",
        deaths([351_000, 352_000])
    );
    assert!(!deaths([351_000, 1_500]).contains("idling"), "{}", deaths([351_000, 1_500]));
}

#[test]
fn what_is_graver_stands_before_what_is_more() {
    let many = (1..=3).map(|number| given(1, number, "unguarded_idle", ("opened", None), &json!({})));
    let mut grave = given(9, 9, "silent_death", ("closed", None), &json!({}));
    if let Body::Verdict(verdict) = &mut grave.body {
        verdict.severity = Severity::Critical;
    }
    let report = report(many.chain([grave]));
    let told: Vec<_> =
        report.incidents.iter().map(|incident| (incident.verdict, incident.stories.len())).collect();
    assert_eq!(told, [(VerdictName::SilentDeath, 1), (VerdictName::UnguardedIdle, 3)]);
}

#[test]
fn what_strikes_another_host_is_another_incident_although_the_owner_has_the_same_name() {
    let here = given(1, 1, "silent_death", ("closed", None), &json!({}));
    let there = Record { host: "web-2".into(), ..given(1, 2, "silent_death", ("closed", None), &json!({})) };
    let report = report([here, there]);
    assert_eq!(
        report.incidents.iter().map(|incident| &*incident.host).collect::<Vec<_>>(),
        ["web-1", "web-2"]
    );
}
