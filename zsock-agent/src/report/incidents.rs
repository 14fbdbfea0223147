//! Verdicts alike, put together: what struck whom, where and when.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Incident, Place, Run, Story, advice, words};
use crate::detect::is_final;
use crate::record::{
    Body, Destination, Phase, Process, Record, Severity, State, StateChange, Subject, Verdict, VerdictName,
    What,
};
use crate::time::Time;

/// What comes after more time than this is another incident. Verdicts on what grows with time come with the passes over all sockets, a
/// second apart unless told otherwise, and a pool that one cause strikes meets it as its connections are used: seconds apart. The
/// retransmissions of one connection, and the probes of keepalive's usual settings, are further apart than this from the fifth on: those
/// are told within one story.
const PAUSE: Duration = Duration::from_secs(10);

/// What the stories of an incident have in common, beside the time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    host: Arc<str>,
    owner: Owner,
    place: Option<Place>,
    verdict: VerdictName,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Owner {
    /// Processes of one name.
    Named(Arc<str>),
    /// A process without a name.
    Process(u32),
    Unknown,
}

/// A story with what puts it into a group.
struct Struck {
    story: usize,
    at: Time,
    severity: Severity,
}

/// The incidents that the stories make, in order of harm: severity, how many, time.
pub(super) fn of(runs: &[Run], stories: &[Story]) -> Vec<Incident> {
    let shared = SharedEnds::of(runs, stories);
    let mut groups: BTreeMap<Group, Vec<Struck>> = BTreeMap::new();
    for (number, story) in stories.iter().enumerate() {
        let Some(gravest) = gravest(story) else { continue };
        let host = Arc::clone(&runs[story.run].host);
        let owner = owner(&story.subject);
        let place = place(story, &shared, &host, &owner);
        let group = Group { host, owner, place, verdict: gravest.verdict };
        let at = struck_at(story, gravest.verdict);
        groups.entry(group).or_default().push(Struck { story: number, at, severity: gravest.severity });
    }
    let mut incidents: Vec<Incident> = groups
        .into_iter()
        .flat_map(|(group, mut struck)| {
            struck.sort_by_key(|struck| (struck.at, struck.story));
            let parts = struck.chunk_by(|one, next| next.at.since(one.at) <= PAUSE);
            parts.map(|part| incident(&group, part, stories)).collect::<Vec<_>>()
        })
        .collect();
    incidents.sort_by_key(|incident| {
        (Reverse(incident.severity), Reverse(incident.stories.len()), incident.span, incident.verdict)
    });
    incidents
}

fn incident(group: &Group, struck: &[Struck], stories: &[Story]) -> Incident {
    let places: Vec<usize> = struck.iter().map(|struck| struck.story).collect();
    let members: Vec<&Story> = places.iter().map(|place| &stories[*place]).collect();
    let span = (struck[0].at, struck[struck.len() - 1].at);
    let severity = struck.iter().map(|struck| struck.severity).max().unwrap_or(Severity::Info);
    Incident {
        verdict: group.verdict,
        severity,
        host: Arc::clone(&group.host),
        process: members.iter().find_map(|story| process(&story.subject)),
        place: group.place,
        span,
        stories: places,
        summary: words::summary(group.verdict, group.place, &members, span),
        advice: advice::merged(members.iter().filter_map(|story| latest_advice(story, group.verdict))),
    }
}

/// The verdict that a story is counted by. A final one tells how it ended, which the others only led to.
pub(super) fn gravest(story: &Story) -> Option<&Verdict> {
    let rank = |verdict: &&Verdict| (is_final(verdict.verdict), verdict.severity, Reverse(verdict.verdict));
    verdicts(story).map(|(_, verdict)| verdict).max_by_key(rank)
}

/// The verdicts of a story with their times.
pub(super) fn verdicts(story: &Story) -> impl DoubleEndedIterator<Item = (Time, &Verdict)> {
    story.verdicts.iter().filter_map(|record: &Record| {
        if let Body::Verdict(verdict) = &record.body { Some((record.at, &**verdict)) } else { None }
    })
}

/// When the verdict was first given.
pub(super) fn struck_at(story: &Story, name: VerdictName) -> Time {
    let of_name = verdicts(story).find(|(_, verdict)| verdict.verdict == name);
    of_name.map_or(story.span.0, |(at, _)| at)
}

/// What the verdict advised last; its end has less to say.
fn latest_advice(story: &Story, name: VerdictName) -> Option<&[String]> {
    let of_name = verdicts(story).rev().map(|(_, verdict)| verdict).filter(|verdict| verdict.verdict == name);
    let mut given = of_name.filter(|verdict| !verdict.advice.is_empty());
    let last = given.next()?;
    let while_open = if last.phase == Phase::Closed { given.next() } else { None };
    Some(&while_open.unwrap_or(last).advice)
}

/// Whose it is, where that is known.
pub(super) fn process(subject: &Subject) -> Option<Process> {
    match subject {
        Subject::Socket { socket, .. } => socket.owner(),
        Subject::Process { process } => Some(process.clone()),
        Subject::Destination { .. } => None,
    }
}

fn owner(subject: &Subject) -> Owner {
    let known = |comm: &Option<Arc<str>>, pid: Option<u32>| match (comm, pid) {
        (Some(comm), _) => Owner::Named(Arc::clone(comm)),
        (None, Some(pid)) => Owner::Process(pid),
        (None, None) => Owner::Unknown,
    };
    match subject {
        Subject::Socket { socket, .. } => known(&socket.comm, socket.pid),
        Subject::Process { process } => known(&process.comm, Some(process.pid)),
        Subject::Destination { .. } => Owner::Unknown,
    }
}

/// How many stories of an owner have an end, as far as it cannot be told which side made their connections.
struct SharedEnds {
    counts: HashMap<(Arc<str>, Owner, Place), usize>,
}

impl SharedEnds {
    fn of(runs: &[Run], stories: &[Story]) -> Self {
        let mut counts = HashMap::new();
        for story in stories {
            let Subject::Socket { socket, .. } = &story.subject else { continue };
            let ends = [socket.remote.map(to), socket.local.map(on)];
            for end in ends.into_iter().flatten() {
                let key = (Arc::clone(&runs[story.run].host), owner(&story.subject), end);
                *counts.entry(key).or_insert(0) += 1;
            }
        }
        Self { counts }
    }

    fn count(&self, host: &Arc<str>, owner: &Owner, place: Place) -> usize {
        self.counts.get(&(Arc::clone(host), owner.clone(), place)).copied().unwrap_or(0)
    }
}

fn to(remote: SocketAddr) -> Place {
    Place::To(Destination::of(remote))
}

fn on(local: SocketAddr) -> Place {
    Place::On(Destination::of(local))
}

/// The end that connections of one service have in common: the peer's of those that our side made, ours of those that it accepted.
fn place(story: &Story, shared: &SharedEnds, host: &Arc<str>, owner: &Owner) -> Option<Place> {
    match &story.subject {
        Subject::Process { .. } => None,
        Subject::Destination { destination } => Some(Place::To(*destination)),
        Subject::Socket { socket, .. } => match (socket.remote, socket.local, was_accepted(story)) {
            (Some(remote), None, _) | (Some(remote), Some(_), Some(false)) => Some(to(remote)),
            (None, Some(local), _) | (Some(_), Some(local), Some(true)) => Some(on(local)),
            (Some(remote), Some(local), None) => {
                let many_on = shared.count(host, owner, on(local));
                let many_to = shared.count(host, owner, to(remote));
                Some(if many_on > many_to { on(local) } else { to(remote) })
            }
            (None, None, _) => None,
        },
    }
}

/// Whether the peer made the connection; absent where its birth was not recorded and no verdict tells.
pub(super) fn was_accepted(story: &Story) -> Option<bool> {
    let (first, _, last) = story.timeline.parts();
    let by_birth = first.iter().chain(last).find_map(|entry| match &entry.what {
        What::State(StateChange { from, to }) if [*from, *to].contains(&State::SYN_SENT) => Some(false),
        What::State(StateChange { from, to }) if [*from, *to].contains(&State::SYN_RECV) => Some(true),
        What::State(_)
        | What::Retransmit(_)
        | What::Keepalive(_)
        | What::KeepaliveAnswered(_)
        | What::ZeroWindowProbe(_)
        | What::Progress(_)
        | What::Error(_)
        | What::ResetReceived(_)
        | What::ResetSent(_)
        | What::AcceptFailed(_)
        | What::Closed(_)
        | What::Sample(_) => None,
    });
    let by_verdict = || {
        verdicts(story).find_map(|(_, verdict)| match verdict.verdict {
            VerdictName::ConnectBlackhole => Some(false),
            VerdictName::ReceiverStall => Some(true),
            VerdictName::StuckRetransmission
            | VerdictName::KeepaliveUnanswered
            | VerdictName::SilentDeath
            | VerdictName::StaleReset
            | VerdictName::OrphanStuck
            | VerdictName::ZeroWindowStall
            | VerdictName::AppSilence
            | VerdictName::CloseWaitLeak
            | VerdictName::UnguardedIdle
            | VerdictName::FdPressure
            | VerdictName::AcceptQueueFull
            | VerdictName::IdleTimeoutInferred => None,
        })
    };
    by_birth.or_else(by_verdict)
}
