//! From records to verdicts.
//!
//! Reads no clock and does no I/O: its only time is the records' own, so a recording is judged as the live stream was.
//! Its memory is bounded by the number of sockets that it follows.

use serde_json::Value;

use crate::detect::{CONDITIONS, Claim, FINALS, Open, Scene, Thresholds};
use crate::record::{
    Body, Cause, Event, Outcome, Phase, Record, Sample, Severity, State, Subject, Verdict, VerdictName, What,
};

mod facts;
mod processes;
#[cfg(test)]
mod properties;
mod table;
#[cfg(test)]
mod tests;
mod timeline;

pub(crate) use facts::{Facts, ResetReceived};
pub use timeline::{Standing, Timeline, TimelineEntry};

use facts::is_birth;
use processes::Processes;
use table::{Entry, Table};

/// Sockets followed at once, unless told otherwise.
pub const MAX_SOCKETS: usize = 262_144;

/// Judges records one after another.
#[derive(Debug)]
pub struct Engine {
    thresholds: Thresholds,
    table: Table,
    processes: Processes,
    lost: u64,
    verdicts: u64,
    open_verdicts: u64,
}

/// A verdict and the story of its socket so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The verdict, as a record of the time of the event that brought it.
    pub record: Record,
    /// What happened to the socket, that event included.
    pub timeline: Timeline,
}

/// What the engine has counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Verdicts opened, final ones included.
    pub verdicts: u64,
    /// Verdicts still open.
    pub open_verdicts: u64,
    /// Sockets that an event was seen of; one that connects anew counts again.
    pub sockets_seen: u64,
    /// Sockets let go for want of room, and events of sockets that were not taken in because each one followed had an open verdict.
    pub sockets_dropped: u64,
}

impl Engine {
    /// An engine that knows of no socket yet.
    #[must_use]
    pub fn new(thresholds: Thresholds) -> Self {
        Self::with_capacity(thresholds, MAX_SOCKETS)
    }

    /// An engine that follows no more than so many sockets.
    #[must_use]
    pub fn with_capacity(thresholds: Thresholds, sockets: usize) -> Self {
        Self {
            thresholds,
            table: Table::new(sockets),
            processes: Processes::default(),
            lost: 0,
            verdicts: 0,
            open_verdicts: 0,
        }
    }

    /// Takes in the next record and gives the verdicts that it brings, in order. Records of one socket must come in the order in
    /// which things happened, replayed ones apart.
    pub fn push(&mut self, record: &Record) -> Vec<Finding> {
        match &record.body {
            Body::Event(event) if concerns_a_socket(event) => {
                let mut findings = self.end_predecessor(record, event);
                findings.extend(self.push_event(record, event));
                findings.extend(self.push_to_processes(record));
                self.count(&findings);
                findings
            }
            Body::Process(_) => {
                let findings = Vec::from_iter(self.push_to_processes(record));
                self.count(&findings);
                findings
            }
            Body::Lost(lost) => {
                self.lost = self.lost.saturating_add(lost.count);
                Vec::new()
            }
            Body::Event(_) | Body::Start(_) | Body::End(_) | Body::Verdict(_) | Body::Destination(_) => {
                Vec::new()
            }
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            verdicts: self.verdicts,
            open_verdicts: self.open_verdicts,
            sockets_seen: self.table.seen,
            sockets_dropped: self.table.dropped,
        }
    }

    fn push_event(&mut self, record: &Record, event: &Event) -> Vec<Finding> {
        let id = event.socket.id;
        if comes_after_the_end(event) && self.table.get_mut(id).is_none() {
            return Vec::new();
        }
        let Some(entry) = self.table.take_in(event, self.lost) else { return Vec::new() };
        entry.facts.apply(record.at, event, self.lost);
        entry.timeline.add(record.at, event);
        if tells_the_past(event) {
            self.table.settle(id);
            return Vec::new();
        }
        let findings = judge(record, event, entry, &self.thresholds);
        if let What::Closed(_) = event.what {
            self.table.remove(id);
        } else {
            self.table.settle(id);
        }
        findings
    }

    fn push_to_processes(&mut self, record: &Record) -> Option<Finding> {
        let Self { table, processes, thresholds, lost, .. } = self;
        processes.push(&processes::Scene { record, table, thresholds, lost: *lost })
    }

    /// Ends the connection that the socket had before, where its end was lost and the event begins another.
    fn end_predecessor(&mut self, record: &Record, event: &Event) -> Vec<Finding> {
        let begins = matches!(&event.what, What::State(change) if is_birth(*change)) && !event.replayed;
        let predecessor =
            self.table.get_mut(event.socket.id).filter(|entry| begins && entry.facts.state.is_some());
        let Some(Entry { facts, timeline, open, .. }) = predecessor else { return Vec::new() };
        let scene = Scene { at: record.at, event, facts, thresholds: &self.thresholds };
        let findings: Vec<_> =
            open.drain(..).map(|open| close(record, &scene, timeline, open, Outcome::Closed)).collect();
        self.table.remove(event.socket.id);
        findings
    }

    fn count(&mut self, findings: &[Finding]) {
        for finding in findings {
            let Body::Verdict(verdict) = &finding.record.body else { continue };
            let is_final = FINALS.iter().any(|known| known.name == verdict.verdict);
            match verdict.phase {
                Phase::Opened => {
                    self.verdicts += 1;
                    self.open_verdicts += 1;
                }
                Phase::Updated => {}
                Phase::Closed if is_final => self.verdicts += 1,
                Phase::Closed => self.open_verdicts -= 1,
            }
        }
    }
}

/// A SYN-ACK sent again has no socket yet.
fn concerns_a_socket(event: &Event) -> bool {
    !matches!(&event.what, What::Retransmit(it) if it.cause == Some(Cause::SynAck))
}

/// The kernel reports an error, and sends a reset that the application asked for, after it is done with the socket.
fn comes_after_the_end(event: &Event) -> bool {
    let late = matches!(event.what, What::Error(_) | What::ResetSent(_));
    late && event.tcp.state.is_none_or(|state| state == State::CLOSE)
}

/// Whether the event is of the past: it belongs into the timeline, what it says holds no longer.
fn tells_the_past(event: &Event) -> bool {
    event.replayed || matches!(event.what, What::Sample(Sample { fact: Some(_), .. }))
}

/// The verdicts that an event brings: conditions first, then what is said of a connection that has ended.
fn judge(record: &Record, event: &Event, entry: &mut Entry, thresholds: &Thresholds) -> Vec<Finding> {
    let Entry { facts, timeline, open, .. } = entry;
    let scene = Scene { at: record.at, event, facts, thresholds };
    let mut findings = Vec::new();
    for condition in CONDITIONS {
        let tell = |phase, claim| {
            finding(record, &scene, timeline, (condition.name, condition.severity), (phase, None), claim)
        };
        let held = (condition.holds)(&scene).filter(|_| !event.inferred);
        let place = open.iter().position(|open| open.condition.name == condition.name).or_else(|| {
            open.push(Open::new(condition, &scene, held?));
            let place = open.len() - 1;
            findings.push(tell(Phase::Opened, open[place].claim()));
            Some(place)
        });
        let Some(place) = place else { continue };
        let ended = scene.closed().map(|_| Outcome::Closed);
        if let Some(outcome) = (condition.ends)(&scene).or(ended) {
            findings.push(close(record, &scene, timeline, open.swap_remove(place), outcome));
        } else if let Some(renewed) = held.and_then(|count| open[place].update(&scene, count)) {
            findings.push(tell(Phase::Updated, renewed));
        }
    }
    for verdict in FINALS {
        if let Some(claim) = (verdict.judge)(&scene).filter(|_| !event.inferred) {
            let name = (verdict.name, verdict.severity);
            findings.push(finding(record, &scene, timeline, name, (Phase::Closed, None), claim));
        }
    }
    findings
}

fn close(record: &Record, scene: &Scene<'_>, timeline: &Timeline, open: Open, outcome: Outcome) -> Finding {
    let name = (open.condition.name, open.condition.severity);
    let phase = (Phase::Closed, Some(outcome));
    finding(record, scene, timeline, name, phase, open.close(scene, outcome))
}

fn finding(
    record: &Record,
    scene: &Scene<'_>,
    timeline: &Timeline,
    (verdict, severity): (VerdictName, Severity),
    (phase, outcome): (Phase, Option<Outcome>),
    claim: Claim,
) -> Finding {
    let Claim { since, mut evidence, summary, advice } = claim;
    let lost = scene.facts.lost_in_its_life();
    if lost > 0 {
        evidence.insert("lost_before".to_owned(), Value::from(lost));
    }
    let verdict = Verdict {
        verdict,
        phase,
        outcome,
        severity,
        subject: Subject::Socket {
            socket: Box::new(scene.facts.socket.clone()),
            tcp: Box::new(scene.event.tcp.clone()),
        },
        since,
        evidence,
        summary,
        advice,
    };
    let body = Body::Verdict(Box::new(verdict));
    Finding { record: Record::new(record.at, &record.host, body), timeline: timeline.clone() }
}
