//! Sockets without a verdict that may be the other ends of those that have one.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::Story;
use super::runs::Runs;
use super::stories::ends;
use crate::engine::{Ends, Timeline};
use crate::record::{Event, Socket, SocketId, Subject, Tcp};
use crate::time::Time;

/// What is kept of connections that ended may take so much.
const ROOM_BYTES: usize = 16 << 20;

/// Connections that ended in health, the latest of them: whether the other end has a verdict may be told later.
#[derive(Debug, Default)]
pub(super) struct Others {
    ended: VecDeque<Story>,
    bytes: usize,
}

impl Others {
    /// Keeps how a connection went that ends with `event`; `timeline` is what happened before.
    pub(super) fn keep(&mut self, run: usize, at: Time, event: &Event, mut timeline: Timeline) {
        timeline.add(at, event);
        let story = story(run, &event.socket, &event.tcp, timeline);
        self.bytes += bytes(&story);
        self.ended.push_back(story);
        while self.bytes > ROOM_BYTES {
            let Some(oldest) = self.ended.pop_front() else { return };
            self.bytes -= bytes(&oldest);
        }
    }

    /// Adds those to the stories that have the ends of one of them the other way round: of the connections that ended, and of those that go
    /// on without a word.
    pub(super) fn join(self, runs: &Runs, stories: &mut Vec<Story>) {
        let mut known: BTreeSet<(usize, SocketId)> = BTreeSet::new();
        let mut wanted: BTreeSet<Ends> = BTreeSet::new();
        for story in &*stories {
            let Subject::Socket { socket, .. } = &story.subject else { continue };
            known.insert((story.run, socket.id));
            if let Some((local, remote)) = ends(socket) {
                wanted.insert((remote, local));
            }
        }
        let is_wanted = |story: &Story| match &story.subject {
            Subject::Socket { socket, .. } => ends(socket).is_some_and(|ends| wanted.contains(&ends)),
            Subject::Process { .. } | Subject::Destination { .. } => false,
        };
        stories.extend(self.ended.into_iter().filter(is_wanted));
        for (run, engine) in runs.engines() {
            let living = wanted.iter().flat_map(|ends| engine.sockets_at(*ends));
            let unknown = living.filter(|(socket, _, _)| !known.contains(&(run, socket.id)));
            stories.extend(unknown.map(|(socket, tcp, timeline)| story(run, socket, tcp, timeline.clone())));
        }
    }
}

fn story(run: usize, socket: &Arc<Socket>, tcp: &Tcp, timeline: Timeline) -> Story {
    let (first, _, last) = timeline.parts();
    let begun = first.first().map_or(Time::from_unix_ns(0), |entry| entry.at);
    let ended = last.last().or(first.last()).map_or(begun, |entry| entry.at);
    Story {
        run,
        subject: Subject::Socket { socket: Arc::clone(socket), tcp: Box::new(tcp.clone()) },
        verdicts: Vec::new(),
        order: Vec::new(),
        timeline,
        span: (begun, ended),
        other_end: None,
    }
}

fn bytes(story: &Story) -> usize {
    size_of::<Story>() + size_of::<Socket>() + size_of::<Tcp>() + story.timeline.bytes()
}
