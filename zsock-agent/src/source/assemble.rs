//! Makes records of what the kernel side says: units, owners, the past of a socket that shows its first sign of trouble.
//!
//! What a record says is decided here, what it means in the engine.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use zsock_common::wire::{
    Head, HolderRecord, Kind, LookRecord, PastRecord, Process, SocketRecord, SynAckRecord, flag, past_flag,
};

use crate::record::{Body, Cause, Closed, Event, Record, Retransmit, Socket, SocketId, State, Tcp, What};
use crate::source::assemble::facts::{Ends, Units, is_orphan};
use crate::source::assemble::owner::{Cgroups, Processes};
use crate::source::assemble::past::{Story, tell_inferred, tell_past};
use crate::source::assemble::tracked::{Tracked, is_opening, state_after};
use crate::source::clock::Clock;
use crate::source::decode::Raw;
use crate::time::milliseconds;

pub mod facts;
mod found;
pub mod known;
mod owner;
mod past;
mod stall;
#[cfg(test)]
mod tests;
mod tracked;
mod what;

/// So many sockets in trouble are passed over at most where one has to be forgotten: they are asked about most.
const PASSED_OVER: usize = 64;

/// What happened to a socket that is gone may arrive so much later: where a virtual machine is not let run.
const LATE_NS: u64 = 250_000_000;

/// A socket's holders are looked up again after this long, nanoseconds: descriptors are passed on and inherited.
const HOLDERS_AGE_NS: u64 = 1_000_000_000;

/// Makes records.
pub struct Assembler {
    host: Arc<str>,
    clock: Clock,
    units: Units,
    reset_reasons: BTreeMap<u32, String>,
    /// Boxed, for a table that grows has up to twice the room that it needs.
    sockets: HashMap<SocketId, Box<Tracked>>,
    /// The order in which they were heard of.
    heard: VecDeque<SocketId>,
    /// Sockets that were let go, and when, CLOCK_MONOTONIC nanoseconds.
    gone: VecDeque<(u64, SocketId)>,
    /// Sockets remembered at once. Beyond them one that was heard of early and is not in trouble is forgotten.
    capacity: usize,
    processes: Processes,
    cgroups: Cgroups,
    looks: u64,
    forgotten: u64,
    /// Sockets whose connection is over and whose descriptor is open, with their process.
    dead: HashMap<SocketId, u32>,
}

/// Why the holders of a socket should be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// They never were.
    First,
    /// It is a while ago: descriptors are passed on and inherited.
    Refresh,
}

impl Assembler {
    /// An assembler that knows of no socket yet and remembers `capacity` of them at once.
    #[must_use]
    pub fn new(
        host: Arc<str>,
        clock: Clock,
        units: Units,
        reset_reasons: BTreeMap<u32, String>,
        capacity: usize,
    ) -> Self {
        Self {
            host,
            clock,
            units,
            reset_reasons,
            sockets: HashMap::new(),
            heard: VecDeque::new(),
            gone: VecDeque::new(),
            capacity,
            processes: Processes::new(units.known.owner),
            cgroups: Cgroups::default(),
            looks: 0,
            forgotten: 0,
            dead: HashMap::new(),
        }
    }

    /// Takes in what needs no order: pasts, holders and who closes a socket.
    pub fn learn(&mut self, raw: &Raw) {
        match raw {
            Raw::Past(past) => self.learn_past(past),
            Raw::Holder(holder) => self.learn_holder(holder),
            Raw::Socket(Kind::State, record) => self.learn_closer(record),
            Raw::Socket(..) | Raw::Look(_) | Raw::SynAck(_) | Raw::Clock(_) => {}
        }
    }

    /// Whoever closes a socket held it until then: what happened to it shortly before may have found no other holder.
    fn learn_closer(&mut self, record: &SocketRecord) {
        if record.actor.tgid != 0 && !is_opening(state_after(record)) {
            let closer = self.processes.of(&record.actor);
            self.track(SocketId(record.head.cookie), record).owners.closed_by(closer);
        }
    }

    /// How badly the holders of this event's socket should be looked up before a record is made of it; `None` for not at all.
    #[must_use]
    pub fn needs_look(&self, raw: &Raw) -> Option<Need> {
        let (kind, record) = raw.socket()?;
        let is_held = record.tcp.has_socket != 0 && !is_orphan(&record.tcp);
        let names_owner = record.actor.tgid != 0 && kind != Kind::AcceptFailed;
        if !is_held || kind == Kind::Destroyed || names_owner || !self.units.known.owner {
            return None;
        }
        let Some(tracked) = self.sockets.get(&SocketId(record.head.cookie)) else { return Some(Need::First) };
        let Some(looked_ns) = tracked.looked_ns else {
            return (tracked.is_announced || !tracked.owners.is_known()).then_some(Need::First);
        };
        let is_old = record.head.time_ns.saturating_sub(looked_ns) >= HOLDERS_AGE_NS;
        (is_old && (tracked.is_announced || !tracked.owners.is_known())).then_some(Need::Refresh)
    }

    /// Begins a look at holders for the sockets of `events`.
    pub fn begin_look(&mut self) {
        self.looks += 1;
    }

    /// Ends the look that was made for `raw`: a socket whose holders did not come has none.
    pub fn end_look(&mut self, raw: &Raw) {
        let Some((_, record)) = raw.socket() else { return };
        let look = self.looks;
        let tracked = self.track(SocketId(record.head.cookie), record);
        tracked.looked_ns = Some(record.head.time_ns);
        if tracked.look != look && tracked.is_announced {
            tracked.look = look;
            tracked.owners.begin_look();
        }
    }

    /// How many of a process's sockets are dead and hold a descriptor.
    #[must_use]
    pub fn dead_of(&self, pid: u32) -> u64 {
        self.dead.values().filter(|owner| **owner == pid).count() as u64
    }

    /// Sockets that were forgotten because there were too many.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// How many sockets are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.sockets.len()
    }

    /// The records of one event, in the order of time.
    pub fn assemble(&mut self, raw: &Raw) -> Vec<Record> {
        match raw {
            Raw::Socket(Kind::Destroyed, record) => {
                self.let_go(SocketId(record.head.cookie), record.head.time_ns);
                Vec::new()
            }
            Raw::Socket(kind, record) => {
                let mut told = Vec::new();
                if record.head.flags & flag::ACCEPTED != 0 {
                    told = self.event(Kind::State, &acceptance(record), None);
                }
                told.extend(self.event(*kind, record, None));
                if is_after_the_end(*kind, record) {
                    self.let_go(SocketId(record.head.cookie), record.head.time_ns);
                }
                told
            }
            Raw::Look(look) => self.event(Kind::Look, &look.event, Some(look)),
            Raw::SynAck(record) => vec![self.syn_ack(record)],
            Raw::Past(_) | Raw::Holder(_) | Raw::Clock(_) => Vec::new(),
        }
    }

    fn learn_past(&mut self, record: &PastRecord) {
        let clock = self.clock;
        let id = SocketId(record.head.cookie);
        let past = &record.past;
        let (opener, closer) = (self.processes.of(&past.opener), self.processes.of(&past.closer));
        let tracked = self.tracked(id, Tracked::unseen);
        tracked.owners.learn(opener, closer);
        tracked.is_announced = true;
        tracked.birth = tracked.birth.or_else(|| (past.birth_ns != 0).then(|| clock.at(past.birth_ns)));
        if !tracked.has_told_past {
            if past.birth_ns != 0 && past.flags & past_flag::OPENER_FOUND == 0 {
                tracked.stall.begins_seen();
            }
            tracked.past = Some(Box::new(*record));
        }
    }

    fn learn_holder(&mut self, record: &HolderRecord) {
        let look = self.looks;
        let holder = self.processes.of(&record.holder);
        let tracked = self.tracked(SocketId(record.head.cookie), Tracked::unseen);
        if tracked.look != look {
            tracked.look = look;
            tracked.owners.begin_look();
        }
        tracked.owners.held_by(holder);
        if record.inode != 0 {
            tracked.inode = Some(record.inode);
        }
    }

    fn event(&mut self, kind: Kind, record: &SocketRecord, look: Option<&LookRecord>) -> Vec<Record> {
        let id = SocketId(record.head.cookie);
        let at = self.clock.at(record.head.time_ns);
        let units = self.units;
        let actor = self.processes.of(&record.actor);
        self.track(id, record).apply(kind, record, actor, at);
        let socket = self.socket(id, record);
        let mut story = Story { host: Arc::clone(&self.host), socket, records: Vec::new() };
        let Some(tracked) = self.sockets.get_mut(&id) else { return Vec::new() };
        // A timer's hook cannot reach the past; it may come later, with a look.
        let knows_past = tracked.past.is_some() || record.head.flags & flag::PAST_ELSEWHERE == 0;
        let is_first = knows_past && !std::mem::replace(&mut tracked.has_told_past, true);
        if is_first {
            tell_past(&mut story, tracked, kind, record, &units, self.clock);
            if tracked.birth.is_none() {
                tell_inferred(&mut story, kind, record, at, &units);
            }
            story.records.sort_by_key(|record| record.at);
        }
        let before = tracked.stall.observe(kind, record, at, &units);
        let live_state = tracked.last_state.unwrap_or(State::CLOSE);
        let reset_reasons = &self.reset_reasons;
        let scene = what::Scene {
            kind,
            record,
            owner: story.socket.pid,
            look,
            at,
            live_state,
            units: &units,
            reset_reasons,
        };
        let tcp = scene.tcp(&tracked.stall);
        for happened in before {
            story.tell(at, happened, tcp.clone());
        }
        let orphaned =
            is_orphan(&record.tcp) && !std::mem::replace(&mut tracked.was_orphan, is_orphan(&record.tcp));
        if let Some(what) = scene.what(&mut tracked.stall, is_first || orphaned) {
            story.tell(at, what, tcp.clone());
        }
        if scene.is_end() && !std::mem::replace(&mut tracked.is_closed, true) {
            let closed = scene.closed(tracked);
            if let (What::Closed(Closed { fd_open: true, .. }), Some(pid)) = (&closed, story.socket.pid) {
                self.dead.insert(id, pid);
            }
            story.tell(at, closed, tcp);
        }
        if tracked.is_closed && !tracked.is_announced {
            self.let_go(id, record.head.time_ns);
        }
        story.records
    }

    /// A SYN-ACK has no socket yet: the handshake is known by its ends.
    fn syn_ack(&self, record: &SynAckRecord) -> Record {
        let ends = Ends::of(&record.endpoints, &self.units.known);
        let known = &self.units.known;
        let attempt = record.num_timeout.saturating_add(1);
        let delay = record.timeout.saturating_mul(2u32.saturating_pow(attempt));
        let next = self.units.jiffies.until_armed_fires(record.head.jiffies, delay);
        let what = Retransmit {
            cause: Some(Cause::SynAck),
            fin: false,
            attempt: known.syn_ack_attempt.then_some(attempt),
            next_ms: (known.syn_ack_attempt && record.timeout != 0).then(|| milliseconds(next)),
            failed: false,
            errno: None,
        };
        let mut socket = bare_socket(handshake_id(record), &ends);
        socket.netns = (record.endpoints.netns != 0).then_some(record.endpoints.netns);
        socket.listener = Some(SocketId(record.head.cookie));
        let tcp = Tcp { state: Some(State::NEW_SYN_RECV), ..Tcp::default() };
        let event = Event { what: What::Retransmit(what), socket, tcp, replayed: false, inferred: false };
        Record::new(self.clock.at(record.head.time_ns), &self.host, Body::Event(Box::new(event)))
    }

    fn track(&mut self, id: SocketId, record: &SocketRecord) -> &mut Tracked {
        let known = self.units.known;
        let tracked = self.tracked(id, Tracked::unseen);
        tracked.identify(record, &known);
        tracked
    }

    fn tracked(&mut self, id: SocketId, new: impl FnOnce() -> Tracked) -> &mut Tracked {
        if !self.sockets.contains_key(&id) {
            while self.sockets.len() >= self.capacity.max(1) {
                let Some(least) = self.least_in_trouble() else { break };
                self.forgotten += u64::from(self.sockets.remove(&least).is_some());
                self.dead.remove(&least);
            }
            self.heard.push_back(id);
        }
        self.sockets.entry(id).or_insert_with(|| Box::new(new()))
    }

    /// The next one to be forgotten for want of room: of those that were heard of early one that waits for nothing.
    fn least_in_trouble(&mut self) -> Option<SocketId> {
        for _ in 0..PASSED_OVER {
            let id = self.heard.pop_front()?;
            match self.sockets.get(&id) {
                Some(tracked) if tracked.is_in_trouble() => self.heard.push_back(id),
                Some(_) => return Some(id),
                None => {}
            }
        }
        self.heard.pop_front()
    }

    /// Forgets a socket that is done with, some time after: what happened to it just before may arrive late, and is not to be taken for a
    /// new socket's. One that connects again is kept.
    fn let_go(&mut self, id: SocketId, time_ns: u64) {
        self.dead.remove(&id);
        if let Some(tracked) = self.sockets.get_mut(&id) {
            tracked.is_gone = true;
        }
        self.gone.push_back((time_ns, id));
        while let Some((_, id)) =
            self.gone.pop_front_if(|(gone_ns, _)| gone_ns.saturating_add(LATE_NS) <= time_ns)
        {
            if self.sockets.get(&id).is_some_and(|tracked| tracked.is_gone) {
                self.forget(id);
            }
        }
    }

    fn forget(&mut self, id: SocketId) {
        self.dead.remove(&id);
        self.sockets.remove(&id);
        // Ids of sockets that are gone are dropped in bulk.
        if self.heard.len() > 2 * self.sockets.len() + 1024 {
            self.heard.retain(|id| self.sockets.contains_key(id));
        }
    }

    fn socket(&mut self, id: SocketId, record: &SocketRecord) -> Socket {
        let orphan = is_orphan(&record.tcp);
        let Some(tracked) = self.sockets.get_mut(&id) else {
            return bare_socket(id, &Ends::of(&record.endpoints, &self.units.known));
        };
        let mut socket = bare_socket(id, &tracked.ends);
        socket.netns = tracked.netns;
        socket.uid = tracked.uid;
        socket.inode = tracked.inode;
        socket.orphan = orphan;
        if let Some(owner) = tracked.owners.decide(orphan, record.tcp.has_socket != 0) {
            let cgroup = self.cgroups.of(owner);
            socket.pid = Some(owner.pid);
            socket.comm = Some(Arc::clone(&owner.comm));
            socket.comm_hex.clone_from(&owner.comm_hex);
            socket.cgroup = cgroup.as_ref().map(|cgroup| Arc::clone(&cgroup.path));
            socket.container = cgroup.and_then(|cgroup| cgroup.container);
            // To ask costs more than all the rest of a record: only of an orphan that lingers.
            let lingers = orphan && (record.tcp.retransmits > 0 || record.tcp.probes_out > 0);
            socket.owner_exited = if lingers { owner.has_exited() } else { None };
        }
        socket
    }
}

fn bare_socket(id: SocketId, ends: &Ends) -> Socket {
    Socket {
        id,
        family: ends.family,
        local: ends.local,
        remote: ends.remote,
        v4mapped: ends.v4mapped,
        netns: None,
        pid: None,
        comm: None,
        comm_hex: None,
        uid: None,
        inode: None,
        cgroup: None,
        container: None,
        orphan: false,
        owner_exited: None,
        listener: None,
    }
}

/// Whether it happened to a socket that may have been freed already: to data for one the kernel answers with a reset. Nothing more comes of it.
fn is_after_the_end(kind: Kind, record: &SocketRecord) -> bool {
    kind == Kind::ResetSent && State(record.tcp.state) == State::CLOSE && is_orphan(&record.tcp)
}

/// The change by which a listener made the socket, just before the one in `record`.
fn acceptance(record: &SocketRecord) -> SocketRecord {
    let head = Head { flags: record.head.flags & !flag::ACCEPTED, ..record.head };
    let [detail, detail2] = [State::LISTEN, State::SYN_RECV].map(|state| u32::from(state.0));
    SocketRecord { head, detail, detail2, actor: Process::NONE, ..*record }
}

/// An id that is the same for every SYN-ACK of a handshake and that no cookie has.
fn handshake_id(record: &SynAckRecord) -> SocketId {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let ends = &record.endpoints;
    let mut hasher = DefaultHasher::new();
    (ends.local, ends.remote, ends.local_port, ends.remote_port, ends.netns).hash(&mut hasher);
    SocketId(hasher.finish() | 1 << 63)
}
