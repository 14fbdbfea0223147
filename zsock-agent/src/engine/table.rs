//! The sockets that the engine follows, by identity, bounded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use super::facts::Facts;
use super::timeline::Timeline;
use crate::detect::Open;
use crate::record::{Event, Socket, SocketId};

/// All that is known of one socket.
#[derive(Debug)]
pub(crate) struct Entry {
    /// What the detectors judge from.
    pub(crate) facts: Facts,
    /// What a reader is shown.
    pub(crate) timeline: Timeline,
    /// Its open verdicts.
    pub(crate) open: Vec<Open>,
    /// The socket's place among those that may be let go; changes with every event.
    turn: u64,
    /// Both ends of its connection, as the table finds it by them.
    ends: Option<Ends>,
}

/// The local and the remote address of a connection.
type Ends = (SocketAddr, SocketAddr);

/// Sockets by identity. Where there is no room, the one longest without an event makes way, unless it has an open verdict.
#[derive(Debug)]
pub(crate) struct Table {
    /// Boxed, for a table that grows has up to twice the room that it needs, and moves what it holds.
    entries: HashMap<SocketId, Box<Entry>>,
    /// Those without an open verdict, longest without an event first.
    may_go: BTreeMap<u64, SocketId>,
    /// Those whose addresses are known.
    by_ends: BTreeSet<(Ends, SocketId)>,
    next_turn: u64,
    capacity: usize,
    /// Sockets taken in.
    pub(crate) seen: u64,
    /// Sockets let go, and events of sockets not taken in, for want of room.
    pub(crate) dropped: u64,
}

impl Table {
    /// An empty table for so many sockets.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            entries: HashMap::new(),
            may_go: BTreeMap::new(),
            by_ends: BTreeSet::new(),
            next_turn: 0,
            capacity,
            seen: 0,
            dropped: 0,
        }
    }

    /// The entry of the event's socket, made where there is none; absent where every other socket has an open verdict and there
    /// is no room. `settle` or `remove` must follow. `lost` counts the records lost so far.
    pub(crate) fn take_in(&mut self, event: &Event, lost: u64) -> Option<&mut Entry> {
        let id = event.socket.id;
        if !self.entries.contains_key(&id) {
            self.make_room()?;
            self.seen += 1;
        }
        let entry = self.entries.entry(id).or_insert_with(|| {
            Box::new(Entry {
                facts: Facts::new(event, lost),
                timeline: Timeline::default(),
                open: Vec::new(),
                turn: 0,
                ends: None,
            })
        });
        self.may_go.remove(&entry.turn);
        Some(entry)
    }

    /// What is known of a socket.
    pub(crate) fn get(&self, id: SocketId) -> Option<&Entry> {
        self.entries.get(&id).map(Box::as_ref)
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, id: SocketId) -> Option<&mut Entry> {
        self.entries.get_mut(&id).map(Box::as_mut)
    }

    /// The socket at the other end of the connection, where it is the only one known that has these addresses the other way round. On
    /// loopback it is in the same network namespace.
    pub(crate) fn peer_of(&self, socket: &Socket) -> Option<SocketId> {
        let (local, remote) = ends(socket)?;
        let mirrored = (remote, local);
        let in_reach = |id: &SocketId| {
            let there = &self.entries[id].facts.socket;
            *id != socket.id && (!local.ip().is_loopback() || there.netns == socket.netns)
        };
        let range = (mirrored, SocketId(0))..=(mirrored, SocketId(u64::MAX));
        let mut found = self.by_ends.range(range).map(|(_, id)| *id).filter(in_reach);
        found.next().filter(|_| found.next().is_none())
    }

    /// All that is known.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(Box::as_ref)
    }

    /// Ends the turn of a socket that goes on.
    pub(crate) fn settle(&mut self, id: SocketId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            let ends = ends(&entry.facts.socket);
            if entry.ends != ends {
                entry.ends.map(|before| self.by_ends.remove(&(before, id)));
                ends.map(|ends| self.by_ends.insert((ends, id)));
                entry.ends = ends;
            }
            self.next_turn += 1;
            entry.turn = self.next_turn;
            if entry.open.is_empty() {
                self.may_go.insert(entry.turn, id);
            }
        }
    }

    /// Forgets a socket that has ended.
    pub(crate) fn remove(&mut self, id: SocketId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.may_go.remove(&entry.turn);
            entry.ends.map(|ends| self.by_ends.remove(&(ends, id)));
        }
    }

    fn make_room(&mut self) -> Option<()> {
        if self.entries.len() < self.capacity {
            return Some(());
        }
        self.dropped += 1;
        let id = *self.may_go.first_entry()?.get();
        self.remove(id);
        Some(())
    }
}

fn ends(socket: &Socket) -> Option<Ends> {
    socket.local.zip(socket.remote)
}
