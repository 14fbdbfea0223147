//! The sockets that the engine follows, by identity, bounded.

use std::collections::{BTreeMap, HashMap};

use super::facts::Facts;
use super::timeline::Timeline;
use crate::detect::Open;
use crate::record::{Event, SocketId};

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
}

/// Sockets by identity. Where there is no room, the one longest without an event makes way, unless it has an open verdict.
#[derive(Debug)]
pub(crate) struct Table {
    entries: HashMap<SocketId, Entry>,
    /// Those without an open verdict, longest without an event first.
    may_go: BTreeMap<u64, SocketId>,
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
        Self { entries: HashMap::new(), may_go: BTreeMap::new(), next_turn: 0, capacity, seen: 0, dropped: 0 }
    }

    /// The entry of the event's socket, made where there is none; absent where every other socket has an open verdict and there
    /// is no room. `settle` or `remove` must follow. `lost` counts the records lost so far.
    pub(crate) fn take_in(&mut self, event: &Event, lost: u64) -> Option<&mut Entry> {
        let id = event.socket.id;
        if !self.entries.contains_key(&id) {
            self.make_room()?;
            self.seen += 1;
        }
        let entry = self.entries.entry(id).or_insert_with(|| Entry {
            facts: Facts::new(event, lost),
            timeline: Timeline::default(),
            open: Vec::new(),
            turn: 0,
        });
        self.may_go.remove(&entry.turn);
        Some(entry)
    }

    /// What is known of a socket.
    pub(crate) fn get_mut(&mut self, id: SocketId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    /// All that is known.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Ends the turn of a socket that goes on.
    pub(crate) fn settle(&mut self, id: SocketId) {
        if let Some(entry) = self.entries.get_mut(&id) {
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
        }
    }

    fn make_room(&mut self) -> Option<()> {
        if self.entries.len() < self.capacity {
            return Some(());
        }
        self.dropped += 1;
        let (_, id) = self.may_go.pop_first()?;
        self.entries.remove(&id);
        Some(())
    }
}
