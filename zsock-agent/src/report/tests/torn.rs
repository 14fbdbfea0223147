//! Recordings with holes: what is missing invents no verdict, and doubles none.

use super::*;

fn is_verdict(record: &Record) -> bool {
    matches!(record.body, Body::Verdict(_))
}

/// What is told of each verdict, in order.
fn told(records: &[Record]) -> Vec<(u64, VerdictName, String)> {
    let mut told: Vec<_> = records
        .iter()
        .filter_map(|record| {
            let Body::Verdict(verdict) = &record.body else { return None };
            Some((record.at.as_unix_ns(), verdict.verdict, verdict.phase.to_string()))
        })
        .collect();
    told.sort();
    told
}

/// A connection that stalls and recovers, and one that dies.
fn recording() -> Vec<Record> {
    let mut stalled = death(1, 10_000, 1_000);
    let end = stalled.pop();
    let acked = with(
        event(What::Progress(crate::record::Progress { stalled_ms: Some(7_000), attempts: 5 })),
        |tcp| {
            tcp.retransmits = Some(0);
        },
    );
    stalled.push(happened(17_000, on(1, acked)));
    stalled.extend(end.map(|end| Record { at: at(90_000), ..end }));
    let records = in_order([vec![start(&Thresholds::default())], stalled, death(2, 400_000, 360_000)]);
    traced(Thresholds::default(), &records)
}

#[test]
fn the_loss_of_any_event_doubles_no_verdict() {
    let whole = recording();
    assert!(told(&whole).len() >= 5, "{:?}", told(&whole));
    for lost in (0..whole.len()).filter(|place| !is_verdict(&whole[*place])) {
        let mut torn = whole.clone();
        let event = torn.remove(lost);
        assert_eq!(told(&given(&report(torn.clone()))), told(&torn), "without {event:?}");
    }
}

#[test]
fn a_recording_whose_beginning_was_removed_doubles_no_verdict() {
    let whole = recording();
    for begin in 1..whole.len() {
        let torn = [&whole[..1], &whole[begin..]].concat();
        let shown = told(&given(&report(torn.clone())));
        let recorded = told(&torn);
        assert!(
            recorded.iter().all(|verdict| shown.contains(verdict)),
            "from {begin}: {shown:?}, not {recorded:?}"
        );
        for (_, name, phase) in &shown {
            let times = |all: &[(u64, VerdictName, String)]| {
                all.iter().filter(|(_, other, in_phase)| other == name && in_phase == phase).count()
            };
            assert!(times(&shown) <= times(&told(&whole)), "from {begin}: {shown:?}");
        }
    }
}

#[test]
fn the_same_recording_given_twice_says_the_same_once() {
    let whole = recording();
    let once = report(whole.clone());
    let twice = report([whole.clone(), whole].concat());
    assert_eq!(told(&given(&twice)), told(&given(&once)));
}
