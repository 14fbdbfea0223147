//! What is served, as a whole, and how it counts.

use super::*;
use crate::sink::samples;
use crate::time::Time;

fn metrics() -> Metrics {
    Metrics::new(Facts {
        kernel: "6.18.0 \"x\"\n".into(),
        max_memory_bytes: 1 << 30,
        max_cpu_percent: Some(5),
    })
}

fn standing() -> Standing {
    Standing {
        sockets: Some([(State::ESTABLISHED, 40), (State::LISTEN, 2), (State(15), 1)].into()),
        established: Some(9_000),
        closed: Some(8_960),
        kernel_records: Some(1_234),
        unstored: Some(1),
        remembered: 7,
        forgotten: 2,
        dropped: 3,
        passes: Passes {
            count: 12,
            cpu: Duration::from_micros(1_500),
            interval: Some(Duration::from_secs(1)),
            unseen_namespaces: Some(0),
        },
        programs: [("inet_sock_set_state".into(), ProgramRuns { runs: 90_000, run_ns: 11_250_000 })].into(),
    }
}

fn usage() -> Usage {
    Usage {
        cpu: Some(Duration::from_millis(250)),
        resident_bytes: Some(20 << 20),
        peak_resident_bytes: Some(40 << 20),
        virtual_bytes: Some(300 << 20),
        started: Some(Time::from_unix_ns(1_700_000_000_500_000_000)),
        open_fds: Some(80),
        max_fds: Some(1_024),
    }
}

/// The value of a series, as it is written.
fn value(metrics: &Metrics, series: &str) -> Option<String> {
    let text = metrics.render(Usage::default());
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned))
}

/// The series, without their values.
fn series(metrics: &Metrics) -> Vec<String> {
    let text = metrics.render(Usage::default());
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series.to_owned()).collect()
}

#[test]
fn every_metric_has_a_name_a_type_and_words() {
    let metrics = metrics();
    metrics.stand(standing());
    for record in samples::all() {
        metrics.note(&record);
    }
    metrics.note_dropped("output", 5);
    insta::assert_snapshot!(metrics.render(usage()));
}

#[test]
fn what_is_not_known_is_absent_and_what_is_counted_is_there_from_the_start() {
    let fresh = metrics();
    for absent in [
        "zsock_sockets{",
        "zsock_connections",
        "zsock_kernel_records",
        "zsock_pass_interval",
        "zsock_program",
        "process_",
    ] {
        assert!(!series(&fresh).iter().any(|series| series.starts_with(absent)), "{absent}");
    }
    for name in VerdictName::ALL {
        for family in ["zsock_verdicts_open", "zsock_verdicts_opened_total"] {
            let zero = value(&fresh, &format!("{family}{{verdict=\"{name}\"}}"));
            assert_eq!(zero.as_deref(), Some("0"), "{family} {name}");
        }
    }
    let before = series(&fresh);
    for record in samples::all() {
        fresh.note(&record);
    }
    // Of the samples one was lost at a place that no zsock knows.
    let after: Vec<String> =
        series(&fresh).into_iter().filter(|series| !series.contains(ELSEWHERE)).collect();
    assert_eq!(after, before, "a record made a series of its own");
}

#[test]
fn verdicts_open_and_close() {
    let metrics = metrics();
    let told = |name: VerdictName| {
        let of = |family: &str| value(&metrics, &format!("zsock_verdicts_{family}{{verdict=\"{name}\"}}"));
        [of("opened_total"), of("open")].map(|value| value.expect("it is there").parse::<u64>().unwrap())
    };
    let verdict = samples::all().into_iter().find_map(|record| match record.body {
        Body::Verdict(verdict) => Some((record.at, record.host, *verdict)),
        Body::Start(_)
        | Body::End(_)
        | Body::Lost(_)
        | Body::Shed(_)
        | Body::Process(_)
        | Body::Destination(_)
        | Body::Tick(_)
        | Body::Event(_) => None,
    });
    let (at, host, mut verdict) = verdict.unwrap();
    let name = verdict.verdict;
    let closed = Some(crate::record::Outcome::Closed);
    let steps = [
        // One that opened where nobody looked.
        (Phase::Closed, closed, [0, 0]),
        (Phase::Opened, None, [1, 1]),
        (Phase::Updated, None, [1, 1]),
        (Phase::Opened, None, [2, 2]),
        (Phase::Closed, closed, [2, 1]),
        // A final one.
        (Phase::Closed, None, [3, 1]),
    ];
    for (phase, outcome, expected) in steps {
        (verdict.phase, verdict.outcome) = (phase, outcome);
        metrics.note(&Record::new(at, &host, Body::Verdict(Box::new(verdict.clone()))));
        assert_eq!(told(name), expected, "{phase} {outcome:?}");
    }
}

#[test]
fn a_loss_at_a_place_that_is_not_known_is_counted_all_the_same() {
    let metrics = metrics();
    let lost = |place: &str| crate::record::Lost { count: 3, since: samples::at(0), place: place.into() };
    for place in ["kernel", "\"}\n", "somewhere", "kernel"] {
        metrics.note(&Record::new(samples::at(1), &"h".into(), Body::Lost(lost(place))));
    }
    let of = |place: &str| value(&metrics, &format!("zsock_lost_records_total{{where=\"{place}\"}}"));
    assert_eq!(
        ["kernel", "hook", "output", "other"].map(of),
        ["6", "0", "0", "6"].map(|n| Some(n.to_owned()))
    );
}

#[test]
fn every_type_of_event_is_listed_and_no_other() {
    let told: std::collections::BTreeSet<&str> =
        samples::all().iter().filter_map(Record::event).map(|event| event.what.name()).collect();
    assert_eq!(told, What::TYPES.into());
}
