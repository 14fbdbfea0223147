//! The sockets that the assembler remembers, by identity, bounded.

use std::collections::VecDeque;
use std::collections::hash_map::Entry::{Occupied, Vacant};

use rustc_hash::FxHashMap;

use crate::record::SocketId;
use crate::source::assemble::tracked::Tracked;
use crate::spare::Spare;

/// So many sockets in trouble are passed over at most where one has to be forgotten: they are asked about most.
const PASSED_OVER: usize = 64;

/// What happened to a socket that is gone may arrive so much later: where a virtual machine is not let run.
const LATE_NS: u64 = 250_000_000;

/// So many boxes of forgotten sockets are kept: the one that is forgotten makes room for the next.
const KEPT_BOXES: usize = 1024;

/// What is remembered of sockets. The kernel chose their ids: a hash without a key is good enough for them.
pub(super) struct Sockets {
    /// Boxed, for a table that grows has up to twice the room that it needs.
    tracked: FxHashMap<SocketId, Box<Tracked>>,
    spare: Spare<Tracked>,
    /// The order in which they were heard of.
    heard: VecDeque<SocketId>,
    /// Sockets that were let go, and when, CLOCK_MONOTONIC nanoseconds.
    gone: VecDeque<(u64, SocketId)>,
    /// Remembered at once. Beyond them one that was heard of early and is not in trouble is forgotten.
    capacity: usize,
    /// Sockets that were forgotten because there were too many.
    pub(super) forgotten: u64,
    /// Sockets whose connection is over and whose descriptor is open, with their process.
    dead: FxHashMap<SocketId, u32>,
}

impl Sockets {
    /// None yet, and so many at most.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            tracked: FxHashMap::default(),
            spare: Spare::at_most(KEPT_BOXES),
            heard: VecDeque::new(),
            gone: VecDeque::new(),
            capacity: capacity.max(1),
            forgotten: 0,
            dead: FxHashMap::default(),
        }
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.tracked.len()
    }

    /// What is remembered of one.
    pub(super) fn get(&self, id: SocketId) -> Option<&Tracked> {
        self.tracked.get(&id).map(Box::as_ref)
    }

    /// What is remembered of one, from now on.
    pub(super) fn tracked(&mut self, id: SocketId) -> &mut Tracked {
        while self.tracked.len() >= self.capacity && !self.tracked.contains_key(&id) {
            let Some(least) = self.least_in_trouble() else { break };
            self.forgotten += u64::from(self.tracked.remove(&least).is_some());
            self.dead.remove(&least);
        }
        match self.tracked.entry(id) {
            Occupied(known) => known.into_mut(),
            Vacant(place) => {
                self.heard.push_back(id);
                place.insert(self.spare.put(Tracked::unseen()))
            }
        }
    }

    /// How many of a process's sockets are dead and hold a descriptor.
    pub(super) fn dead_of(&self, pid: u32) -> u64 {
        self.dead.values().filter(|owner| **owner == pid).count() as u64
    }

    /// Notes that a process holds the descriptor of one whose connection is over.
    pub(super) fn died(&mut self, id: SocketId, pid: u32) {
        self.dead.insert(id, pid);
    }

    /// Forgets a socket that is done with, some time after: what happened to it just before may arrive late, and is not to be taken for a
    /// new socket's. One that connects again is kept.
    pub(super) fn let_go(&mut self, id: SocketId, time_ns: u64) {
        if let Some(tracked) = self.tracked.get_mut(&id) {
            tracked.is_gone = true;
        }
        self.note_gone(id, time_ns);
    }

    /// The same of a socket that is marked as gone.
    pub(super) fn note_gone(&mut self, id: SocketId, time_ns: u64) {
        self.dead.remove(&id);
        self.gone.push_back((time_ns, id));
        while let Some((_, id)) =
            self.gone.pop_front_if(|(gone_ns, _)| gone_ns.saturating_add(LATE_NS) <= time_ns)
        {
            self.forget_if_gone(id);
        }
    }

    fn forget_if_gone(&mut self, id: SocketId) {
        let Occupied(known) = self.tracked.entry(id) else { return };
        if !known.get().is_gone {
            return;
        }
        self.spare.take_back(known.remove());
        self.dead.remove(&id);
        // Ids of sockets that are gone are dropped in bulk.
        if self.heard.len() > 2 * self.tracked.len() + 1024 {
            self.heard.retain(|id| self.tracked.contains_key(id));
        }
    }

    /// The next one to be forgotten for want of room: of those that were heard of early one that waits for nothing.
    fn least_in_trouble(&mut self) -> Option<SocketId> {
        for _ in 0..PASSED_OVER {
            let id = self.heard.pop_front()?;
            match self.tracked.get(&id) {
                Some(tracked) if tracked.is_in_trouble() => self.heard.push_back(id),
                Some(_) => return Some(id),
                None => {}
            }
        }
        self.heard.pop_front()
    }
}
