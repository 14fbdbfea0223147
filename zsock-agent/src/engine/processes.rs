//! The processes that are short of file descriptors, and the verdict on each.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::time::Duration;

use super::table::{Entry, Table};
use super::{Finding, Timeline};
use crate::detect::{Claim, Descriptors, Thresholds, by_name};
use crate::record::{
    Body, Event, Outcome, Phase, Process, ProcessSample, Record, Severity, Shed, State, Subject, Verdict,
    VerdictName, What,
};
use crate::time::Time;

/// Processes followed at once. Only those near their limit are told of; more of them than these no host has.
const MAX_PROCESSES: usize = 16_384;

/// A failed accept may be told with those of the second after it: of a process whose pressure ended within so long, no record says that
/// it failed after that.
const TOLD_LATE: Duration = Duration::from_secs(2);

/// Processes by id, for as long as they are near their limit.
#[derive(Debug, Default)]
pub(super) struct Processes {
    followed: HashMap<u32, Followed>,
    /// Whose pressure ended within [`TOLD_LATE`], and when.
    ended: HashMap<u32, Time>,
    /// Accepts that fail are told no longer.
    is_blind: bool,
}

/// A record and what there is to judge it by.
pub(super) struct Scene<'a> {
    pub(super) record: &'a Record,
    /// By how much it changed the number of open verdicts on sockets.
    pub(super) change: i64,
    pub(super) table: &'a Table,
    pub(super) thresholds: &'a Thresholds,
    /// Records lost so far.
    pub(super) lost: u64,
}

#[derive(Debug)]
struct Followed {
    descriptors: Descriptors,
    open: Option<Open>,
    /// By how much the number of its sockets' open verdicts has changed since its own was judged last.
    change: i64,
}

/// An open verdict, as it was told last.
#[derive(Debug)]
struct Open {
    since: Time,
    severity: Severity,
    percent: Option<u64>,
    zombies: Option<u64>,
}

impl Processes {
    /// Takes in the next record and gives the verdict that it brings.
    pub(super) fn push(&mut self, scene: &Scene<'_>) -> Option<Finding> {
        match &scene.record.body {
            Body::Process(sample) => self.sampled(scene, sample),
            Body::Event(event) => self.happened(scene, event),
            Body::Start(_)
            | Body::End(_)
            | Body::Lost(_)
            | Body::Shed(_)
            | Body::Verdict(_)
            | Body::Destination(_)
            | Body::Tick(_) => None,
        }
    }

    /// None yet, in the same run.
    pub(super) fn anew(self) -> Self {
        Self { is_blind: self.is_blind, ..Self::default() }
    }

    /// Takes in that a hook was taken off.
    pub(super) fn note_shed(&mut self, shed: &Shed) {
        self.is_blind |= shed.takes_off("accept_failed");
    }

    fn sampled(&mut self, scene: &Scene<'_>, sample: &ProcessSample) -> Option<Finding> {
        let is_blind = self.is_blind;
        let followed = self.follow(&sample.process)?;
        followed.descriptors.apply(sample);
        let ended = if sample.exited {
            Some(Outcome::Exited)
        } else {
            let threshold = scene.thresholds.fd_pressure_percent;
            let is_relieved = followed.descriptors.is_relieved(scene.record.at, threshold, is_blind);
            is_relieved.then_some(Outcome::Relieved)
        };
        if let Some(outcome) = ended {
            self.ended.retain(|_, ended_at| scene.record.at.since(*ended_at) < TOLD_LATE);
            self.ended.insert(sample.process.pid, scene.record.at);
            let Followed { descriptors, open, .. } = self.followed.remove(&sample.process.pid)?;
            return Some(close(scene, &descriptors, &open?, outcome));
        }
        judge(scene, followed)
    }

    fn happened(&mut self, scene: &Scene<'_>, event: &Event) -> Option<Finding> {
        let What::AcceptFailed(failed) = &event.what else { return self.changed(scene, event) };
        if event.replayed || !Descriptors::is_shortage(&failed.errno) {
            return None;
        }
        let caller = failed.process.as_deref().cloned().or_else(|| event.socket.owner())?;
        let has_ended = self.ended.get(&caller.pid).is_some_and(|at| scene.record.at.since(*at) < TOLD_LATE);
        if has_ended && !self.followed.contains_key(&caller.pid) {
            return None;
        }
        let followed = self.follow(&caller)?;
        followed.descriptors.fail(scene.record.at, &failed.errno);
        judge(scene, followed)
    }

    /// Judges anew where so many of a process's sockets came under a verdict that its own may have to say so. To count them takes a
    /// look at every socket, so it is not done for each.
    fn changed(&mut self, scene: &Scene<'_>, event: &Event) -> Option<Finding> {
        let followed =
            self.followed.get_mut(&event.socket.pid?).filter(|followed| followed.open.is_some())?;
        followed.change += scene.change;
        followed.descriptors.is_many(followed.change).then(|| judge(scene, followed)).flatten()
    }

    /// What is known of a process; `None` where there is no room for another one.
    fn follow(&mut self, process: &Process) -> Option<&mut Followed> {
        let has_room = self.followed.len() < MAX_PROCESSES;
        match self.followed.entry(process.pid) {
            Occupied(known) => Some(known.into_mut()),
            Vacant(place) => has_room.then(|| {
                place.insert(Followed { descriptors: Descriptors::of(process), open: None, change: 0 })
            }),
        }
    }
}

/// Opens the verdict where it holds, or renews it where it is worse than was told.
fn judge(scene: &Scene<'_>, followed: &mut Followed) -> Option<Finding> {
    followed.change = 0;
    let Followed { descriptors, open, .. } = followed;
    let severity = descriptors.severity(scene.thresholds.fd_pressure_percent)?;
    let percent = descriptors.percent();
    let stuck = stuck(scene.table, descriptors.process.pid);
    let phase = match open {
        None => Phase::Opened,
        Some(open)
            if severity > open.severity
                || descriptors.has_grown(open.percent)
                || descriptors.has_more_zombies(stuck, open.zombies) =>
        {
            Phase::Updated
        }
        Some(_) => return None,
    };
    let since = open.as_ref().map_or(scene.record.at, |open| open.since);
    *open = Some(Open { since, severity, percent, zombies: descriptors.zombies(stuck) });
    let claim = descriptors.claim(since, stuck);
    Some(finding(scene, descriptors, severity, (phase, None), claim))
}

fn close(scene: &Scene<'_>, descriptors: &Descriptors, open: &Open, outcome: Outcome) -> Finding {
    let stuck = stuck(scene.table, descriptors.process.pid);
    let claim = descriptors.last_claim(scene.record.at, open.since, stuck, outcome);
    finding(scene, descriptors, open.severity, (Phase::Closed, Some(outcome)), claim)
}

/// Sockets of a process that live and have an open verdict. A dead one has none, so none of them is counted as dead as well; a
/// listener is in trouble, but its descriptor is no waste.
fn stuck(table: &Table, pid: u32) -> u64 {
    let is_stuck = |entry: &&Entry| {
        let lives = !entry.facts.state.is_some_and(|state| [State::CLOSE, State::LISTEN].contains(&state));
        let socket = &entry.facts.socket;
        socket.pid == Some(pid) && !socket.orphan && lives && !entry.open.is_empty()
    };
    table.entries().filter(is_stuck).count() as u64
}

fn finding(
    scene: &Scene<'_>,
    descriptors: &Descriptors,
    severity: Severity,
    (phase, outcome): (Phase, Option<Outcome>),
    claim: Claim,
) -> Finding {
    let Claim { since, mut evidence, summary, advice } = claim;
    if scene.lost > 0 {
        evidence.push(("lost_before", scene.lost.into()));
    }
    let subject = Subject::Process { process: descriptors.process.clone() };
    let verdict = Verdict {
        verdict: VerdictName::FdPressure,
        phase,
        outcome,
        severity,
        subject,
        since,
        evidence: by_name(evidence),
        summary,
        advice,
    };
    let body = Body::Verdict(Box::new(verdict));
    let record = Record::new(scene.record.at, &scene.record.host, body);
    Finding { record, timeline: Timeline::default() }
}
