//! What is kept of sockets, processes and destinations that had a verdict, within bounds.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::fast::RandomState;
use serde_json::Value;

use super::Story;
use super::incidents::verdicts;
use crate::engine::{Ends, Timeline};
use crate::record::{
    Body, Destination, Event, Phase, Record, Severity, Socket, SocketId, Subject, Tcp, Verdict, What,
};
use crate::time::Time;

/// What all stories may take.
const STORIES_BYTES: usize = 96 << 20;

/// So many that found no room are known by name, so that none is counted twice.
const DROPPED_KNOWN: usize = 1 << 20;

/// The other ends of so many are looked for.
const WANTED: usize = 1 << 18;

/// Whom a story is about, in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Socket(SocketId),
    Process(u32),
    Destination(Destination),
}

impl Key {
    pub(super) fn of(subject: &Subject) -> Self {
        match subject {
            Subject::Socket { socket, .. } => Self::Socket(socket.id),
            Subject::Process { process } => Self::Process(process.pid),
            Subject::Destination { destination } => Self::Destination(*destination),
        }
    }
}

/// Whose turn it is to make room: the least harmful, and of those the newest.
type Turn = (Severity, Reverse<u64>, usize);

/// The stories so far. One that finds no room is dropped and counted.
#[derive(Debug)]
pub(super) struct Stories {
    kept: Vec<Option<Kept>>,
    /// Whoever wrote the recordings chose the keys: the hash has a key that they do not know.
    by_key: HashMap<(usize, Key), usize, RandomState>,
    turns: BTreeSet<Turn>,
    bytes: usize,
    room: usize,
    began: u64,
    /// The ends of sockets that may be the other ends of those with a verdict.
    wanted: HashSet<Ends, RandomState>,
    /// Hashes of the keys of those that found no room.
    dropped_keys: HashSet<u64, RandomState>,
    dropped: u64,
}

#[derive(Debug)]
struct Kept {
    story: Story,
    turn: Turn,
    /// What its verdicts take.
    verdict_bytes: usize,
    /// What it took when it was last looked at.
    settled_bytes: usize,
}

impl Default for Stories {
    fn default() -> Self {
        Self::within(STORIES_BYTES)
    }
}

impl Stories {
    pub(super) fn within(room: usize) -> Self {
        Self {
            kept: Vec::new(),
            by_key: HashMap::default(),
            turns: BTreeSet::new(),
            bytes: 0,
            room,
            began: 0,
            wanted: HashSet::default(),
            dropped_keys: HashSet::default(),
            dropped: 0,
        }
    }

    /// The story of a socket, where there is one.
    pub(super) fn of_socket(&self, run: usize, id: SocketId) -> Option<usize> {
        if self.by_key.is_empty() {
            return None;
        }
        self.by_key.get(&(run, Key::Socket(id))).copied()
    }

    /// Goes on with a story by what happened to its socket.
    pub(super) fn go_on(&mut self, story: usize, at: Time, event: &Event) {
        let Some(kept) = self.kept.get_mut(story).and_then(Option::as_mut) else { return };
        kept.story.timeline.add(at, event);
        kept.story.span = (kept.story.span.0.min(at), kept.story.span.1.max(at));
        if let Subject::Socket { socket, tcp } = &mut kept.story.subject {
            note_socket(socket, tcp, event);
        }
        self.settle(story);
    }

    /// Whether a socket may be the other end of one that has a verdict.
    pub(super) fn want(&self, socket: &Socket) -> bool {
        !self.wanted.is_empty() && ends(socket).is_some_and(|ends| self.wanted.contains(&ends))
    }

    /// Begins the story of a socket that has no verdict; `timeline` is what happened to it before.
    pub(super) fn begin(&mut self, run: usize, at: Time, event: &Event, timeline: Timeline) {
        let subject = Subject::Socket { socket: Arc::clone(&event.socket), tcp: Box::new(event.tcp.clone()) };
        let Some(story) = self.admit(run, &subject, at, Severity::Info) else { return };
        if let Some(kept) = self.kept.get_mut(story).and_then(Option::as_mut) {
            kept.story.span.0 = first_of(&timeline).map_or(at, |first| first.min(at));
            kept.story.timeline = timeline;
        }
    }

    /// Whether what an engine gives goes on from what was told before. It does not where the recording has lost what brought a verdict, and
    /// the verdict alone was recorded: then the engine comes to the same later, or to its end once more.
    pub(super) fn fits(&self, run: usize, verdict: &Verdict) -> bool {
        let story =
            self.by_key.get(&(run, Key::of(&verdict.subject))).and_then(|place| self.kept[*place].as_ref());
        let Some(Kept { story, .. }) = story else { return true };
        let mut of_name = verdicts(story).map(|(_, told)| told).rev();
        let is_open =
            of_name.find(|told| told.verdict == verdict.verdict).map(|told| told.phase != Phase::Closed);
        match (verdict.phase, verdict.outcome) {
            (Phase::Opened, _) => is_open != Some(true),
            (Phase::Updated, _) | (Phase::Closed, Some(_)) => is_open != Some(false),
            // A final one is given by one event.
            (Phase::Closed, None) => true,
        }
    }

    /// Takes in a verdict; `timeline` is what happened to its socket until then. Gives its story, unless there is no room for it.
    pub(super) fn tell(
        &mut self,
        run: usize,
        record: Record,
        order: u64,
        timeline: Option<Timeline>,
    ) -> Option<usize> {
        let Body::Verdict(verdict) = &record.body else { return None };
        let known = self.by_key.get(&(run, Key::of(&verdict.subject))).copied();
        let story = known.or_else(|| self.admit(run, &verdict.subject, record.at, verdict.severity))?;
        let kept = self.kept.get_mut(story).and_then(Option::as_mut)?;
        kept.story.subject = verdict.subject.clone();
        if known.is_none() {
            kept.story.timeline = timeline.unwrap_or_default();
            kept.story.span.0 =
                first_of(&kept.story.timeline).map_or(record.at, |first| first.min(record.at));
        }
        kept.story.span.1 = kept.story.span.1.max(record.at);
        if kept.turn.0 < verdict.severity {
            self.turns.remove(&kept.turn);
            kept.turn.0 = verdict.severity;
            self.turns.insert(kept.turn);
        }
        kept.verdict_bytes += bytes_of(verdict);
        if let Some((socket, _)) = verdict.socket()
            && let Some((local, remote)) = ends(socket)
            && self.wanted.len() < WANTED
        {
            self.wanted.insert((remote, local));
        }
        kept.story.verdicts.push(record);
        kept.story.order.push(order);
        self.settle(story);
        self.kept[story].is_some().then_some(story)
    }

    /// Puts what only a look at the live process gave into the evidence of a verdict.
    pub(super) fn complete(&mut self, story: usize, order: u64, facts: &[(&str, &Value)]) {
        let Some(kept) = self.kept.get_mut(story).and_then(Option::as_mut) else { return };
        let place = kept.story.order.iter().rposition(|known| *known == order);
        let Some(Body::Verdict(verdict)) = place.map(|place| &mut kept.story.verdicts[place].body) else {
            return;
        };
        for (name, value) in facts {
            verdict.evidence.insert((*name).to_owned(), (*value).clone());
        }
    }

    /// The stories in the order in which they began, and how many found no room.
    pub(super) fn finish(self) -> (Vec<Story>, u64) {
        (self.kept.into_iter().flatten().map(|kept| kept.story).collect(), self.dropped)
    }

    /// A place for another story, unless it would be the first to make room for others.
    fn admit(&mut self, run: usize, subject: &Subject, at: Time, severity: Severity) -> Option<usize> {
        let key = Key::of(subject);
        let is_least = self.turns.first().is_some_and(|(least, _, _)| severity <= *least);
        if self.bytes >= self.room && is_least {
            self.count_dropped(run, key);
            return None;
        }
        let place = self.kept.len();
        let story = Story {
            run,
            subject: subject.clone(),
            verdicts: Vec::new(),
            order: Vec::new(),
            timeline: Timeline::default(),
            span: (at, at),
            other_end: None,
        };
        self.began += 1;
        let turn = (severity, Reverse(self.began), place);
        self.kept.push(Some(Kept { story, turn, verdict_bytes: 0, settled_bytes: 0 }));
        self.by_key.insert((run, key), place);
        self.turns.insert(turn);
        Some(place)
    }

    /// Counts what a story takes by now, and lets others go where that is too much.
    fn settle(&mut self, story: usize) {
        if let Some(kept) = self.kept.get_mut(story).and_then(Option::as_mut) {
            let bytes =
                size_of::<Option<Kept>>() + SUBJECT_BYTES + kept.verdict_bytes + kept.story.timeline.bytes();
            self.bytes = self.bytes - kept.settled_bytes + bytes;
            kept.settled_bytes = bytes;
        }
        while self.bytes > self.room && self.turns.len() > 1 {
            let Some((_, _, least)) = self.turns.pop_first() else { return };
            let Some(kept) = self.kept.get_mut(least).and_then(Option::take) else { continue };
            self.bytes -= kept.settled_bytes;
            let (run, key) = (kept.story.run, Key::of(&kept.story.subject));
            self.by_key.remove(&(run, key));
            self.count_dropped(run, key);
        }
    }

    fn count_dropped(&mut self, run: usize, key: Key) {
        let is_full = self.dropped_keys.len() >= DROPPED_KNOWN;
        if is_full || self.dropped_keys.insert(self.by_key.hasher().hash_one((run, key))) {
            self.dropped += 1;
        }
    }
}

fn first_of(timeline: &Timeline) -> Option<Time> {
    timeline.parts().0.first().map(|entry| entry.at)
}

/// The local and the remote address of a connection.
pub(super) fn ends(socket: &Socket) -> Option<Ends> {
    socket.local.zip(socket.remote)
}

/// Whom a story is about, and its places in the tables.
const SUBJECT_BYTES: usize = size_of::<Socket>() + size_of::<Tcp>() + 128;

/// What a verdict takes in memory, rather more than less.
fn bytes_of(verdict: &Verdict) -> usize {
    let advice: usize = verdict.advice.iter().map(|line| line.capacity() + size_of::<String>()).sum();
    size_of::<Record>()
        + size_of::<Verdict>()
        + SUBJECT_BYTES
        + verdict.summary.capacity()
        + advice
        + verdict.evidence.len() * EVIDENCE_BYTES
        + size_of::<u64>()
}

/// One named fact in a map.
const EVIDENCE_BYTES: usize = 96;

/// Who a socket is and how it stands, by its latest event. An owner that is known stays known.
fn note_socket(socket: &mut Arc<Socket>, tcp: &mut Tcp, event: &Event) {
    if event.replayed {
        return;
    }
    if event.tcp.state.is_some() {
        *tcp = event.tcp.clone();
    }
    if event.socket.pid.is_some() || socket.pid.is_none() {
        *socket = Arc::clone(&event.socket);
    }
}

/// Whether an event belongs into the story of the socket that it names: a SYN-ACK sent again has no socket yet.
pub(super) fn is_of_socket(event: &Event) -> bool {
    use crate::record::Cause;
    !matches!(&event.what, What::Retransmit(it) if it.cause == Some(Cause::SynAck))
}
