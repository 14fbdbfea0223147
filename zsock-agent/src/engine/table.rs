//! The sockets that the engine follows, by identity, bounded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};

use foldhash::fast::RandomState as QuickState;

use super::facts::Facts;
use super::timeline::Timeline;
use crate::detect::{Open, opposite};
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
    /// The socket's place among those that make room; changes with every event.
    turn: Turn,
    /// Where it was queued to make room, if it was: at its turn or before it.
    queued: Option<Turn>,
    /// The hash of both ends of its connection, by which the table finds it.
    ends_hash: Option<u64>,
    /// What it took when it was settled last.
    settled_bytes: usize,
    /// It was under a stall then that the other end may have as well.
    is_stalled: bool,
}

/// What a socket can give up where there is no room, in the order in which that is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Spare {
    /// It has no open verdict and may go.
    #[default]
    All,
    /// It has one; its timeline can do with less.
    Story,
    /// What is left is needed to end its verdict.
    Nothing,
}

/// Whose turn it is to make room: first by what it can spare, then the one longest without an event.
type Turn = (Spare, u64);

/// How much a table may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Sockets.
    pub(crate) sockets: usize,
    /// Bytes that they take.
    pub(crate) bytes: usize,
}

/// What a socket takes beside its [`Entry`]: its places in the tables, and what the allocator keeps for itself.
const TABLES_BYTES: usize = 288;

/// What one more takes, and takes at least.
const ONE_MORE: Room = Room { sockets: 1, bytes: size_of::<Entry>() + size_of::<Socket>() + TABLES_BYTES };

/// The local and the remote address of a connection.
pub(crate) type Ends = (SocketAddr, SocketAddr);

/// Sockets by identity. Where there is no room, the one longest without an event makes way, unless it has an open verdict; where all
/// have one, timelines are shortened, and then no other socket is taken in.
#[derive(Debug)]
pub(crate) struct Table {
    /// Boxed, for a table that grows has up to twice the room that it needs, and moves what it holds. Whoever wrote a recording chose its
    /// ids: the hash has a key that they do not know.
    entries: HashMap<SocketId, Box<Entry>, QuickState>,
    /// Who makes room next. An event moves nobody here, for there is one after the other and seldom a need for room: who had one since
    /// is sent back to its turn when it comes up.
    turns: BTreeMap<Turn, SocketId>,
    /// Those whose addresses are known, by a hash of them. Peers choose theirs, so the hash has a key that they do not know.
    by_ends: BTreeSet<(u64, SocketId)>,
    ends_hasher: RandomState,
    /// How many are under a stall that the other end may have as well.
    stalled: usize,
    next_turn: u64,
    room: Room,
    used_bytes: usize,
    /// Sockets taken in.
    pub(crate) seen: u64,
    /// Sockets let go, and events of sockets not taken in, for want of room.
    pub(crate) dropped: u64,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(room: Room) -> Self {
        Self {
            entries: HashMap::default(),
            turns: BTreeMap::new(),
            by_ends: BTreeSet::new(),
            ends_hasher: RandomState::new(),
            stalled: 0,
            next_turn: 0,
            room,
            used_bytes: 0,
            seen: 0,
            dropped: 0,
        }
    }

    /// The entry of the event's socket, made where there is none; absent where every other socket has an open verdict and there
    /// is no room. `settle` or `remove` must follow. `lost` counts the records lost so far.
    pub(crate) fn take_in(&mut self, event: &Event, lost: u64) -> Option<&mut Entry> {
        let id = event.socket.id;
        if !self.has_room_left(ONE_MORE) && !self.entries.contains_key(&id) {
            self.make_room()?;
        }
        let seen = &mut self.seen;
        let new = || {
            *seen += 1;
            Box::new(Entry {
                facts: Facts::new(event, lost),
                timeline: Timeline::default(),
                open: Vec::new(),
                turn: Turn::default(),
                queued: None,
                ends_hash: None,
                settled_bytes: 0,
                is_stalled: false,
            })
        };
        Some(self.entries.entry(id).or_insert_with(new))
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
    /// loopback it is in the same network namespace. Only one under a stall is of interest: while there is none, nobody is looked for.
    pub(crate) fn peer_of(&self, socket: &Socket) -> Option<SocketId> {
        if self.stalled == 0 {
            return None;
        }
        let (local, remote) = ends(socket)?;
        let in_reach = |there: &&Socket| {
            there.id != socket.id && (!local.ip().is_loopback() || there.netns == socket.netns)
        };
        let mut found = self.at((remote, local)).map(|entry| &*entry.facts.socket).filter(in_reach);
        found.next().filter(|_| found.next().is_none()).map(|there| there.id)
    }

    /// What is known of sockets with these ends.
    pub(crate) fn at(&self, wanted: Ends) -> impl Iterator<Item = &Entry> {
        let hash = hash(&self.ends_hasher, wanted);
        let range = (hash, SocketId(0))..=(hash, SocketId(u64::MAX));
        let entries = self.by_ends.range(range).map(|(_, id)| &*self.entries[id]);
        entries.filter(move |entry| ends(&entry.facts.socket) == Some(wanted))
    }

    /// All that is known.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(Box::as_ref)
    }

    /// The same, to change it.
    pub(crate) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.values_mut().map(Box::as_mut)
    }

    /// Ends the turn of a socket that goes on.
    pub(crate) fn settle(&mut self, id: SocketId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            if std::mem::take(&mut entry.facts.is_renamed) {
                let now = ends(&entry.facts.socket).map(|ends| hash(&self.ends_hasher, ends));
                let before = std::mem::replace(&mut entry.ends_hash, now);
                if before != now {
                    before.map(|before| self.by_ends.remove(&(before, id)));
                    now.map(|now| self.by_ends.insert((now, id)));
                }
            }
            let is_stalled = entry.open.iter().any(|open| opposite(open.condition.name).is_some());
            self.stalled -= usize::from(std::mem::replace(&mut entry.is_stalled, is_stalled));
            self.stalled += usize::from(is_stalled);
            self.next_turn += 1;
            entry.turn = (entry.spare(), self.next_turn);
            // It is looked for no later than at its turn.
            if entry.queued.is_none_or(|queued| entry.turn < queued) {
                entry.queued.map(|queued| self.turns.remove(&queued));
                entry.queue(&mut self.turns, id);
            }
            self.used_bytes -= entry.settled_bytes;
            entry.settled_bytes = entry.bytes();
            self.used_bytes += entry.settled_bytes;
        }
        self.has_room_for(Room { sockets: 0, bytes: 0 });
    }

    /// Forgets a socket that has ended.
    pub(crate) fn remove(&mut self, id: SocketId) {
        if let Some(entry) = self.entries.remove(&id) {
            entry.queued.map(|queued| self.turns.remove(&queued));
            entry.ends_hash.map(|hash| self.by_ends.remove(&(hash, id)));
            self.stalled -= usize::from(entry.is_stalled);
            self.used_bytes -= entry.settled_bytes;
        }
    }

    /// How much it may hold.
    pub(crate) const fn room(&self) -> Room {
        self.room
    }

    /// What the sockets take together.
    pub(crate) const fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Makes room for one more socket; `None`, counted, where there is none.
    fn make_room(&mut self) -> Option<()> {
        let has_room = self.has_room_for(ONE_MORE);
        self.dropped += u64::from(!has_room);
        has_room.then_some(())
    }

    /// Whether there is room for so much more as things are.
    fn has_room_left(&self, more: Room) -> bool {
        self.entries.len() + more.sockets <= self.room.sockets
            && self.used_bytes + more.bytes <= self.room.bytes
    }

    /// Whether there is room for so much more, once those whose turn it is have given up what they can.
    fn has_room_for(&mut self, more: Room) -> bool {
        while !self.has_room_left(more) {
            let Some((id, spare)) = self.next() else { return false };
            match spare {
                Spare::All => {
                    self.dropped += 1;
                    self.remove(id);
                }
                Spare::Story if self.entries.len() + more.sockets <= self.room.sockets => {
                    self.shorten(id);
                }
                Spare::Story | Spare::Nothing => return false,
            }
        }
        true
    }

    /// Whose turn it is to make room, and what it can spare.
    fn next(&mut self) -> Option<(SocketId, Spare)> {
        loop {
            let (queued, id) = self.turns.first_key_value().map(|(queued, id)| (*queued, *id))?;
            let entry = self.entries.get_mut(&id)?;
            if entry.turn == queued {
                return Some((id, queued.0));
            }
            self.turns.remove(&queued);
            entry.queue(&mut self.turns, id);
        }
    }

    /// Shortens the timeline of a socket whose turn it is.
    fn shorten(&mut self, id: SocketId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.timeline.shorten();
            self.turns.remove(&entry.turn);
            entry.turn.0 = Spare::Nothing;
            entry.queue(&mut self.turns, id);
            self.used_bytes -= entry.settled_bytes;
            entry.settled_bytes = entry.bytes();
            self.used_bytes += entry.settled_bytes;
        }
    }
}

impl Entry {
    /// Queues it at its turn.
    fn queue(&mut self, turns: &mut BTreeMap<Turn, SocketId>, id: SocketId) {
        turns.insert(self.turn, id);
        self.queued = Some(self.turn);
    }

    /// What it can give up.
    fn spare(&self) -> Spare {
        if self.open.is_empty() {
            Spare::All
        } else if self.timeline.can_be_shorter() {
            Spare::Story
        } else {
            Spare::Nothing
        }
    }

    /// The memory that it takes, rather more than less: of 200,000 sockets under a verdict each took 1.6 to 2 KB with what the assembler
    /// keeps of it.
    fn bytes(&self) -> usize {
        let open: usize = self.open.iter().map(Open::bytes).sum();
        size_of::<Self>() + TABLES_BYTES + self.facts.bytes_elsewhere() + self.timeline.bytes() + open
    }
}

/// Of all bytes at once, which takes a fraction of what it takes field by field.
fn hash(hasher: &RandomState, (local, remote): Ends) -> u64 {
    let mut bytes = [0; 36];
    for (bytes, end) in bytes.chunks_exact_mut(18).zip([local, remote]) {
        let address = match end.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        bytes[..16].copy_from_slice(&address.octets());
        bytes[16..].copy_from_slice(&end.port().to_ne_bytes());
    }
    let mut hasher = hasher.build_hasher();
    hasher.write(&bytes);
    hasher.finish()
}

fn ends(socket: &Socket) -> Option<Ends> {
    socket.local.zip(socket.remote)
}
