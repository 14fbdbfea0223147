//! Makes records of what the kernel side says: units, owners, the past of a socket that shows its first sign of trouble.
//!
//! What a record says is decided here, what it means in the engine.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use zsock_common::wire::{
    Head, HolderRecord, Kind, LookRecord, PastRecord, Process, SocketRecord, SynAckRecord, flag, past_flag,
};

use crate::record::{Body, Cause, Event, Record, Retransmit, Socket, SocketId, State, Tcp, What};
use crate::source::assemble::facts::{Ends, Units, is_orphan};
use crate::source::assemble::owner::{Cgroups, Processes};
use crate::source::assemble::past::{Story, tell_inferred, tell_past};
use crate::source::assemble::sockets::Sockets;
use crate::source::assemble::tracked::{bare_socket, is_opening, state_after};
use crate::source::clock::Clock;
use crate::source::decode::Raw;
use crate::time::milliseconds;

pub mod facts;
mod found;
pub mod known;
mod owner;
mod past;
mod sockets;
mod stall;
#[cfg(test)]
mod tests;
mod tracked;
mod what;

/// A socket's holders are looked up again after this long, nanoseconds: descriptors are passed on and inherited.
const HOLDERS_AGE_NS: u64 = 1_000_000_000;

/// Makes records.
pub struct Assembler {
    host: Arc<str>,
    clock: Clock,
    units: Units,
    reset_reasons: BTreeMap<u32, String>,
    sockets: Sockets,
    processes: Processes,
    cgroups: Cgroups,
    looks: u64,
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
            sockets: Sockets::new(capacity),
            processes: Processes::new(units.known.owner),
            cgroups: Cgroups::default(),
            looks: 0,
        }
    }

    /// Takes in what needs no order: pasts, holders and who closes a socket.
    pub fn learn(&mut self, raw: &Raw) {
        match raw {
            Raw::Past(past) => self.learn_past(past),
            Raw::Holder(holder) => self.learn_holder(holder),
            Raw::Socket(Kind::State, record) => self.learn_closer(record),
            Raw::Socket(..) | Raw::Look(_) | Raw::SynAck(_) | Raw::Destroyed(_) | Raw::Clock(_) => {}
        }
    }

    /// Whoever closes a socket held it until then: what happened to it shortly before may have found no other holder.
    fn learn_closer(&mut self, record: &SocketRecord) {
        if record.actor.tgid != 0 && !is_opening(state_after(record)) {
            let closer = self.processes.of(&record.actor);
            self.sockets.tracked(SocketId(record.head.cookie)).owners.closed_by(closer);
        }
    }

    /// How badly the holders of this event's socket should be looked up before a record is made of it; `None` for not at all.
    #[must_use]
    pub fn needs_look(&self, raw: &Raw) -> Option<Need> {
        let (kind, record) = raw.socket()?;
        let is_held = record.tcp.has_socket != 0 && !is_orphan(&record.tcp);
        let names_owner = record.actor.tgid != 0 && kind != Kind::AcceptFailed;
        if !is_held || names_owner || !self.units.known.owner {
            return None;
        }
        let Some(tracked) = self.sockets.get(SocketId(record.head.cookie)) else { return Some(Need::First) };
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
        // The record's turn to say between whom the socket is comes after those before it.
        let tracked = self.sockets.tracked(SocketId(record.head.cookie));
        tracked.looked_ns = Some(record.head.time_ns);
        if tracked.look != look && tracked.is_announced {
            tracked.look = look;
            tracked.owners.begin_look();
        }
    }

    /// How many of a process's sockets are dead and hold a descriptor.
    #[must_use]
    pub fn dead_of(&self, pid: u32) -> u64 {
        self.sockets.dead_of(pid)
    }

    /// Sockets that were forgotten because there were too many.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.sockets.forgotten
    }

    /// How many sockets are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.sockets.len()
    }

    /// Adds the records of one event, in the order of time.
    pub fn assemble(&mut self, raw: &Raw, told: &mut Vec<Record>) {
        match raw {
            Raw::Destroyed(head) => {
                self.sockets.let_go(SocketId(head.cookie), head.time_ns);
            }
            Raw::Socket(kind, record) => {
                if record.head.flags & flag::ACCEPTED != 0 {
                    self.event(Kind::State, &acceptance(record), None, told);
                }
                self.event(*kind, record, None, told);
                if is_after_the_end(*kind, record) {
                    self.sockets.let_go(SocketId(record.head.cookie), record.head.time_ns);
                }
            }
            Raw::Look(look) => self.event(Kind::Look, &look.event, Some(look), told),
            Raw::SynAck(record) => told.push(self.syn_ack(record)),
            Raw::Past(_) | Raw::Holder(_) | Raw::Clock(_) => {}
        }
    }

    fn learn_past(&mut self, record: &PastRecord) {
        let clock = self.clock;
        let id = SocketId(record.head.cookie);
        let past = &record.past;
        let tracked = self.sockets.tracked(id);
        tracked.owners.opened_by(self.processes.of(&past.opener));
        tracked.owners.closed_by(self.processes.of(&past.closer));
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
        let tracked = self.sockets.tracked(SocketId(record.head.cookie));
        if tracked.look != look {
            tracked.look = look;
            tracked.owners.begin_look();
        }
        tracked.owners.held_by(holder);
        if record.inode != 0 {
            tracked.inode = Some(record.inode);
        }
    }

    fn event(
        &mut self,
        kind: Kind,
        record: &SocketRecord,
        look: Option<&LookRecord>,
        told: &mut Vec<Record>,
    ) {
        let id = SocketId(record.head.cookie);
        let at = self.clock.at(record.head.time_ns);
        let Self { host, units, sockets, processes, cgroups, reset_reasons, .. } = self;
        // Who happens to run while something else is told need not have to do with it.
        let actor = if kind == Kind::State { processes.of(&record.actor) } else { None };
        let tracked = sockets.tracked(id);
        tracked.forget_former_life(kind, record);
        tracked.identify(record, &units.known);
        tracked.apply(kind, record, actor, at);
        let Some(socket) = tracked.name(record, cgroups) else { return };
        let first = told.len();
        let mut story = Story { host, socket, records: told };
        // A timer's hook cannot reach the past; it may come later, with a look.
        let knows_past = tracked.past.is_some() || record.head.flags & flag::PAST_ELSEWHERE == 0;
        let is_first = knows_past && !std::mem::replace(&mut tracked.has_told_past, true);
        if is_first {
            tell_past(&mut story, tracked, kind, record, units, self.clock);
            if tracked.birth.is_none() {
                tell_inferred(&mut story, kind, record, at, units);
            }
            story.records[first..].sort_by_key(|record| record.at);
        }
        let before = tracked.stall.observe(kind, record, at, units);
        let live_state = tracked.last_state.unwrap_or(State::CLOSE);
        let owner = story.socket.pid;
        let forecast = OnceCell::new();
        let scene = what::Scene { kind, record, owner, look, at, live_state, units, reset_reasons, forecast };
        let tcp = scene.tcp(&tracked.stall);
        for happened in before {
            story.tell(at, happened, tcp.clone());
        }
        let orphaned =
            is_orphan(&record.tcp) && !std::mem::replace(&mut tracked.was_orphan, is_orphan(&record.tcp));
        let what = scene.what(&mut tracked.stall, is_first || orphaned);
        let ends = scene.is_end() && !std::mem::replace(&mut tracked.is_closed, true);
        let closed = ends.then(|| scene.closed(tracked));
        let is_done_with = tracked.is_closed && !tracked.is_announced;
        tracked.is_gone |= is_done_with;
        if let (Some(What::Closed(closed)), Some(pid)) = (&closed, story.socket.pid)
            && closed.fd_open
        {
            sockets.died(id, pid);
        }
        if is_done_with {
            sockets.note_gone(id, record.head.time_ns);
        }
        let last = match (what, closed) {
            (Some(what), Some(closed)) => {
                story.tell(at, what, tcp.clone());
                Some(closed)
            }
            (what, closed) => what.or(closed),
        };
        if let Some(last) = last {
            story.end(at, last, tcp);
        }
    }

    /// A SYN-ACK has no socket yet: the handshake is known by its ends.
    fn syn_ack(&self, record: &SynAckRecord) -> Record {
        let Ends { family, v4mapped, local, remote } = Ends::of(&record.endpoints, &self.units.known);
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
        let socket = Socket {
            family,
            v4mapped,
            local,
            remote,
            netns: (record.endpoints.netns != 0).then_some(record.endpoints.netns),
            listener: Some(SocketId(record.head.cookie)),
            ..bare_socket(handshake_id(record))
        };
        let tcp = Tcp { state: Some(State::NEW_SYN_RECV), ..Tcp::default() };
        let event = Event {
            what: What::Retransmit(what),
            socket: Arc::new(socket),
            tcp,
            replayed: false,
            inferred: false,
        };
        Record::new(self.clock.at(record.head.time_ns), &self.host, Body::Event(Box::new(event)))
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
