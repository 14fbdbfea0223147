//! A report with all that a page can show, hostile strings in every place of them.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Timeline;
use crate::record::{
    Body, Event, Outcome, Phase, Process, Record, Severity, Shed, Socket, Subject, Tcp, Verdict, VerdictName,
    What,
};
use crate::recording::read::Damage;
use crate::report::{ClockOffset, Incident, Join, Place, Report, Run, Story};
use crate::sink::samples::{about, at, nginx, timeline, verdict};
use crate::time::Time;

/// Two runs, three stories, two incidents; every string of a recording is `hostile`.
pub(crate) fn report(hostile: &str) -> Report {
    let text: Arc<str> = Arc::from(hostile);
    let run = Run {
        host: Arc::clone(&text),
        boot_id: Some(Arc::clone(&text)),
        kernel: Some(Arc::clone(&text)),
        span: Some((at(0), at(60_000))),
        records: 4_000_000_000_000,
        lost: 3,
        gaps: vec![(at(30_000), at(40_000))],
        shed: vec![(
            at(20_000),
            Shed {
                what: Arc::clone(&text),
                hooks: vec![Arc::clone(&text)],
                poorer: vec![Arc::clone(&text)],
                lost: Arc::clone(&text),
                ..Shed::default()
            },
        )],
        is_repeated: false,
        is_ended: false,
    };
    let other = Run { host: "db-1".into(), is_ended: true, ..Run::default() };
    let process = Process {
        pid: 812,
        comm: Some(Arc::clone(&text)),
        comm_hex: None,
        cgroup: Some(Arc::clone(&text)),
        container: Some(Arc::clone(&text)),
    };
    let socket = Socket { comm: Some(Arc::clone(&text)), cgroup: Some(Arc::clone(&text)), ..nginx() };
    let incident = |severity, place, stories| Incident {
        verdict: VerdictName::SilentDeath,
        severity,
        host: Arc::clone(&text),
        process: Some(process.clone()),
        place,
        span: (at(18_000), at(21_000)),
        stories,
        summary: hostile.to_owned(),
        advice: vec![hostile.to_owned()],
    };
    let destination = "10.0.5.0/24:5432".parse().ok();
    let stories = vec![
        story(about(socket, Tcp::default()), died(hostile), timeline(), Some(1)),
        story(Subject::Process { process: process.clone() }, open(hostile), Timeline::default(), Some(0)),
        story(about(nginx(), Tcp::default()), open(hostile), long(), None),
    ];
    Report {
        runs: vec![run, other],
        stories,
        incidents: vec![
            incident(Severity::Critical, destination.map(Place::To), vec![0, 2]),
            incident(Severity::Warning, None, vec![1]),
        ],
        clocks: vec![ClockOffset {
            reference: Arc::clone(&text),
            host: "db-1".into(),
            ahead_ns: -12_000_000,
            uncertainty_ns: 400_000,
            changes: 6,
        }],
        damages: vec![Damage { input: text, at_byte: 4_711, line: Some(12), why: hostile.to_owned() }],
        stories_dropped: 2,
        joins: vec![Join {
            client: 0,
            server: 1,
            summary: Some(hostile.to_owned()),
            server_ahead_ns: -12_000_000,
        }],
        unjoined: vec![hostile.to_owned()],
        damages_dropped: 5,
        sockets_dropped: 7,
        repeated: 0,
    }
}

fn story(subject: Subject, verdicts: Vec<Record>, timeline: Timeline, other_end: Option<usize>) -> Story {
    Story {
        run: 0,
        subject,
        order: (0..verdicts.len() as u64).collect(),
        verdicts,
        timeline,
        span: (at(0), at(60_000)),
        other_end,
    }
}

fn told(ms: u64, verdict: Verdict) -> Record {
    Record::new(at(ms), &Arc::from("web-1"), Body::Verdict(Box::new(verdict)))
}

fn said(name: VerdictName, phase: Phase, outcome: Option<Outcome>, words: &str) -> Verdict {
    let mut verdict = verdict(name, phase, outcome, Severity::Warning);
    verdict.evidence.insert(words.to_owned(), words.into());
    Verdict { summary: words.to_owned(), advice: vec![words.to_owned()], ..verdict }
}

/// Stuck, then dead.
fn died(words: &str) -> Vec<Record> {
    let stuck = VerdictName::StuckRetransmission;
    let death = said(VerdictName::SilentDeath, Phase::Closed, None, words);
    vec![
        told(20_000, said(stuck, Phase::Opened, None, words)),
        told(25_000, said(stuck, Phase::Updated, None, words)),
        told(50_000, said(stuck, Phase::Closed, Some(Outcome::SilentDeath), words)),
        told(50_000, Verdict { severity: Severity::Critical, ..death }),
    ]
}

/// Recovered once, and in trouble again at the end.
fn open(words: &str) -> Vec<Record> {
    let stuck = VerdictName::StuckRetransmission;
    vec![
        told(20_000, said(stuck, Phase::Opened, None, words)),
        told(25_000, said(stuck, Phase::Closed, Some(Outcome::Recovered), words)),
        told(30_000, said(stuck, Phase::Opened, None, words)),
    ]
}

/// More than a timeline keeps, so that its middle is missing.
fn long() -> Timeline {
    let mut timeline = timeline();
    for ms in 0..100 {
        let what = What::Sample(Box::default());
        let event =
            Event { what, socket: Arc::new(nginx()), tcp: Tcp::default(), replayed: false, inferred: false };
        timeline.add(at(40_000 + ms), &event);
    }
    timeline
}

/// 2023-11-14T22:13:20Z less two hours, when the socket of [`timeline`] was born.
pub(super) fn birth() -> Time {
    at(17_000).before(Duration::from_secs(7_203))
}
