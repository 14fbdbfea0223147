//! From records to verdicts.
//!
//! Reads no clock and does no I/O: its only time is the records' own, so a recording is judged as the live stream was.
//! Its memory is bounded, by the number of sockets that it follows or by what they take.

use std::sync::Arc;

use crate::detect::{Peer, Scene, Thresholds, is_final, opposite};
use crate::record::{
    Body, Cause, Destination, Event, Outcome, Phase, Record, Socket, SocketId, State, Tcp, VerdictName, What,
};

mod destinations;
mod facts;
mod judge;
mod processes;
#[cfg(test)]
mod properties;
mod table;
#[cfg(test)]
mod tests;
mod timeline;
mod window;

pub(crate) use destinations::{Bound, How};
pub(crate) use facts::{Facts, ResetReceived};
pub(crate) use table::Ends;
pub use timeline::{Standing, Timeline, TimelineEntry};

use destinations::Destinations;
use facts::is_birth;
use judge::{close, finding, judge, opened};
use processes::Processes;
use table::{Entry, Room, Table};

/// Sockets followed at once, unless told otherwise.
const MAX_SOCKETS: usize = 262_144;

/// Judges records one after another.
#[derive(Debug)]
pub struct Engine {
    thresholds: Thresholds,
    table: Table,
    destinations: Destinations,
    processes: Processes,
    lost: u64,
    /// Somebody is shown what happened to a socket.
    keeps_timelines: bool,
    /// The probes of closed windows are told.
    sees_window_probes: bool,
    verdicts: u64,
    open_verdicts: u64,
}

/// A verdict and the story of its socket so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The verdict, as a record of the time of the event that brought it.
    pub record: Record,
    /// What happened to the socket, that event included; empty from an engine [without timelines](Engine::without_timelines).
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
        Self::with_room(thresholds, Room { sockets, bytes: usize::MAX })
    }

    /// An engine that keeps what it knows of sockets within so many bytes.
    #[must_use]
    pub fn with_memory(thresholds: Thresholds, bytes: usize) -> Self {
        Self::with_room(thresholds, Room { sockets: usize::MAX, bytes })
    }

    /// The same engine, which does not keep what happened to sockets where nobody is shown it: its verdicts come without.
    #[must_use]
    pub fn without_timelines(self) -> Self {
        Self { keeps_timelines: false, ..self }
    }

    fn with_room(thresholds: Thresholds, room: Room) -> Self {
        Self {
            thresholds,
            table: Table::new(room),
            destinations: Destinations::default(),
            processes: Processes::default(),
            lost: 0,
            keeps_timelines: true,
            sees_window_probes: true,
            verdicts: 0,
            open_verdicts: 0,
        }
    }

    /// The same run's engine without all that it knows of sockets and processes: what is told in this run and what is not it still knows.
    pub(crate) fn anew(self) -> Self {
        let Self { thresholds, table, processes, lost, keeps_timelines, sees_window_probes, .. } = self;
        let processes = processes.anew();
        Self {
            processes,
            lost,
            keeps_timelines,
            sees_window_probes,
            ..Self::with_room(thresholds, table.room())
        }
    }

    /// Takes in the next record and gives the verdicts that it brings, in order. Records of one socket must come in the order in
    /// which things happened, replayed ones apart.
    pub fn push(&mut self, record: &Record) -> Vec<Finding> {
        let findings = match &record.body {
            Body::Event(event) if concerns_a_socket(event) => self.happened(record, event),
            Body::Process(_) => Vec::from_iter(self.push_to_processes(record, 0)),
            Body::Lost(lost) => {
                self.lost = self.lost.saturating_add(lost.count);
                Vec::new()
            }
            Body::Destination(sample) => {
                self.destinations.note_survival(record, sample, &self.thresholds, self.lost)
            }
            Body::Shed(shed) => {
                if shed.takes_off("persist") {
                    self.sees_window_probes = false;
                    // What moves from here on shows in no probe.
                    self.table.entries_mut().for_each(|entry| entry.facts.window_probes.note_loss());
                }
                self.processes.note_shed(shed);
                Vec::new()
            }
            Body::Start(start) => {
                let is_missing = |how: &String| how.starts_with("no: ");
                self.sees_window_probes &= !start.hooks.get("persist").is_some_and(is_missing);
                Vec::new()
            }
            Body::Event(_) | Body::End(_) | Body::Verdict(_) | Body::Tick(_) => Vec::new(),
        };
        self.count(&findings);
        findings
    }

    /// The addresses and ports for which [`DestinationSample`](crate::record::DestinationSample)s are wanted, of them and of
    /// their neighbourhoods: towards each of them a connection died after idling.
    pub fn suspects(&self) -> impl Iterator<Item = Destination> {
        self.destinations.suspects()
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

    /// What is kept of sockets takes so many bytes.
    pub(crate) const fn used_bytes(&self) -> usize {
        self.table.used_bytes()
    }

    /// What happened to a socket so far, while it lives and is followed.
    pub(crate) fn timeline_of(&self, id: SocketId) -> Option<&Timeline> {
        self.table.get(id).map(|entry| &entry.timeline)
    }

    /// The sockets that live with these ends, as they were told last, and what happened to them.
    pub(crate) fn sockets_at(&self, ends: Ends) -> impl Iterator<Item = (&Arc<Socket>, &Tcp, &Timeline)> {
        self.table.at(ends).map(|entry| (&entry.facts.socket, &entry.facts.tcp, &entry.timeline))
    }

    fn happened(&mut self, record: &Record, event: &Event) -> Vec<Finding> {
        let mut findings = self.end_predecessor(record, event);
        self.push_event(record, event, &mut findings);
        let change = findings.iter().map(change_of_open).sum();
        if let Some(finding) = self.push_to_processes(record, change) {
            findings.push(finding);
        }
        findings
    }

    fn push_event(&mut self, record: &Record, event: &Event, findings: &mut Vec<Finding>) {
        let id = event.socket.id;
        if comes_after_the_end(event) && self.table.get(id).is_none() {
            return;
        }
        let peer_id = self.table.peer_of(&event.socket);
        let peer = peer_id.and_then(|id| self.table.get(id)).and_then(as_peer);
        let Some(entry) = self.table.take_in(event, self.lost) else { return };
        entry.facts.apply(record.at, event, self.lost);
        if self.keeps_timelines {
            entry.timeline.add(record.at, event);
        }
        if tells_the_past(event) {
            self.table.settle(id);
            return;
        }
        let scene = Scene {
            at: record.at,
            event,
            facts: &entry.facts,
            thresholds: &self.thresholds,
            sees_window_probes: self.sees_window_probes,
            peer: peer.as_ref(),
        };
        judge(record, &scene, &entry.timeline, &mut entry.open, findings);
        let was_accepted = entry.facts.was_accepted;
        if let Some((peer_id, peer)) = peer_id.zip(peer) {
            let stalls = opened(findings).filter_map(opposite).filter(|stall| peer.is_under(*stall));
            let stalls: Vec<_> = stalls.collect();
            if !stalls.is_empty() {
                findings.extend(self.introduce(record, id, peer_id, &stalls));
            }
        }
        if let What::Closed(_) = event.what {
            self.table.remove(id);
        } else {
            self.table.settle(id);
        }
        // Nearly always nothing is found, and there is nothing to be said of it.
        if !findings.is_empty() && !was_accepted {
            let inferred = self.destinations.note_deaths(record, findings, &self.thresholds, self.lost);
            findings.extend(inferred);
        }
    }

    /// Tells again the verdicts on stalls at one end of a connection, now that the other end has its own.
    fn introduce(
        &mut self,
        record: &Record,
        here: SocketId,
        there: SocketId,
        stalls: &[VerdictName],
    ) -> Vec<Finding> {
        let peer = self.table.get(here).and_then(as_peer);
        let Some(Entry { facts, timeline, open, .. }) = self.table.get_mut(there) else { return Vec::new() };
        // How TCP stands there at this moment was not told.
        let tcp = Tcp { state: facts.state, ..Tcp::default() };
        let what = What::Sample(Box::default());
        let event = Event { what, socket: Arc::clone(&facts.socket), tcp, replayed: false, inferred: false };
        let scene = Scene {
            at: record.at,
            event: &event,
            facts,
            thresholds: &self.thresholds,
            sees_window_probes: self.sees_window_probes,
            peer: peer.as_ref(),
        };
        let open = open.iter_mut().filter(|open| stalls.contains(&open.condition.name));
        open.map(|open| {
            let name = (open.condition.name, open.condition.severity);
            let claim = open.say_anew(&scene);
            finding(record, &scene, timeline, name, (Phase::Updated, None), claim)
        })
        .collect()
    }

    fn push_to_processes(&mut self, record: &Record, change: i64) -> Option<Finding> {
        let Self { table, processes, thresholds, lost, .. } = self;
        processes.push(&processes::Scene { record, change, table, thresholds, lost: *lost })
    }

    /// Ends the connection that the socket had before, where its end was lost and the event begins another.
    fn end_predecessor(&mut self, record: &Record, event: &Event) -> Vec<Finding> {
        let begins = matches!(&event.what, What::State(change) if is_birth(*change)) && !event.replayed;
        if !begins {
            return Vec::new();
        }
        let predecessor = self.table.get_mut(event.socket.id).filter(|entry| entry.facts.state.is_some());
        let Some(Entry { facts, timeline, open, .. }) = predecessor else { return Vec::new() };
        let scene = Scene {
            at: record.at,
            event,
            facts,
            thresholds: &self.thresholds,
            sees_window_probes: self.sees_window_probes,
            peer: None,
        };
        let findings: Vec<_> =
            open.drain(..).map(|open| close(record, &scene, timeline, open, Outcome::Closed)).collect();
        self.table.remove(event.socket.id);
        findings
    }

    fn count(&mut self, findings: &[Finding]) {
        for finding in findings {
            let Body::Verdict(verdict) = &finding.record.body else { continue };
            let is_final = is_final(verdict.verdict);
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

/// By how much a finding changes the number of open verdicts.
fn change_of_open(finding: &Finding) -> i64 {
    let Body::Verdict(verdict) = &finding.record.body else { return 0 };
    match (verdict.phase, verdict.outcome) {
        (Phase::Opened, _) => 1,
        (Phase::Closed, Some(_)) => -1,
        (Phase::Closed, None) | (Phase::Updated, _) => 0,
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
    event.replayed || matches!(&event.what, What::Sample(sample) if sample.fact.is_some())
}

/// The socket as the other end of a connection.
fn as_peer(entry: &Entry) -> Option<Peer> {
    Peer::of(&entry.facts.socket, &entry.open)
}
