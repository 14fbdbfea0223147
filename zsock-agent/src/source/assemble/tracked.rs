//! What is remembered of a socket between its events.

use std::sync::Arc;

use zsock_common::wire::{Endpoints, Kind, PastRecord, SocketRecord, flag};

use crate::record::{Family, Socket, SocketId, State};
use crate::source::assemble::facts::{Ends, is_orphan};
use crate::source::assemble::known::Known;
use crate::source::assemble::owner::{Cgroups, Owners};
use crate::source::assemble::stall::Stall;
use crate::source::assemble::what::Ending;
use crate::source::process::Process;
use crate::time::Time;

/// What is remembered of a socket between its events.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Tracked {
    /// Who it is, as records name it; absent before the first of them.
    socket: Option<Arc<Socket>>,
    /// Between whom it is, as the kernel side said last; absent where more is to be learnt from the same words.
    endpoints: Option<Endpoints>,
    pub(super) inode: Option<u64>,
    pub(super) birth: Option<Time>,
    /// The last state before CLOSE: it says whether a sequence number is of a SYN or FIN.
    pub(super) last_state: Option<State>,
    /// What its own memory held, until it is told.
    pub(super) past: Option<Box<PastRecord>>,
    pub(super) has_told_past: bool,
    pub(super) is_announced: bool,
    pub(super) owners: Owners,
    pub(super) stall: Stall,
    pub(super) was_reset: bool,
    /// Segments failed to leave this host.
    pub(super) has_failed_sends: bool,
    pub(super) was_orphan: bool,
    pub(super) is_closed: bool,
    /// It is about to be forgotten.
    pub(super) is_gone: bool,
    /// When its holders were last looked up, CLOCK_MONOTONIC nanoseconds.
    pub(super) looked_ns: Option<u64>,
    /// The look that found its holders.
    pub(super) look: u64,
}

impl Tracked {
    pub(super) fn unseen() -> Self {
        Self {
            socket: None,
            endpoints: None,
            inode: None,
            birth: None,
            last_state: None,
            past: None,
            has_told_past: false,
            is_announced: false,
            owners: Owners::default(),
            stall: Stall::default(),
            was_reset: false,
            has_failed_sends: false,
            was_orphan: false,
            is_closed: false,
            is_gone: false,
            looked_ns: None,
            look: 0,
        }
    }

    /// Whether it waits for its peer, so that more is to be told of it.
    pub(super) fn is_in_trouble(&self) -> bool {
        !self.is_closed && self.stall.is_waiting()
    }

    /// Takes in between whom it is. What was known once stays: a socket at its end has forgotten, its address before its port.
    pub(super) fn identify(&mut self, record: &SocketRecord, known: &Known) {
        if record.tcp.inode != 0 {
            self.inode = Some(record.tcp.inode);
        }
        let is_bound = record.head.flags & flag::UNBOUND == 0;
        let endpoints = is_bound.then_some(record.endpoints);
        let socket = self.socket.get_or_insert_with(|| Arc::new(bare_socket(SocketId(record.head.cookie))));
        // Most events tell nothing new.
        if is_bound && endpoints == self.endpoints && socket.inode == self.inode {
            return;
        }
        self.endpoints = endpoints;
        let Ends { family, v4mapped, local, remote } = Ends::of(&record.endpoints, known);
        let local = match (local.filter(|_| is_bound), socket.local) {
            (Some(now), Some(before)) if now.ip().is_unspecified() && now.port() == before.port() => {
                Some(before)
            }
            (now, before) => now.or(before),
        };
        let given = |number: u32| (number != 0).then_some(number);
        let netns = given(record.endpoints.netns).or(socket.netns);
        let uid = known.uid.then_some(record.endpoints.uid);
        let ends = (family, v4mapped, local, remote.or(socket.remote));
        let rest = (netns, uid, self.inode);
        if ends != (socket.family, socket.v4mapped, socket.local, socket.remote)
            || rest != (socket.netns, socket.uid, socket.inode)
        {
            let socket = Arc::make_mut(socket);
            (socket.family, socket.v4mapped, socket.local, socket.remote) = ends;
            (socket.netns, socket.uid, socket.inode) = rest;
        }
    }

    /// The socket, as the records of one event name it: the same as before, unless something else is known of it. `None` before it was
    /// identified.
    pub(super) fn name(&mut self, record: &SocketRecord, cgroups: &mut Cgroups) -> Option<Arc<Socket>> {
        let socket = self.socket.as_mut()?;
        let orphan = is_orphan(&record.tcp);
        let owner = self.owners.decide(orphan, record.tcp.has_socket != 0);
        // To ask costs more than all the rest of a record: only of an orphan that lingers.
        let lingers = orphan && (record.tcp.retransmits > 0 || record.tcp.probes_out > 0);
        let owner_exited = owner.filter(|_| lingers).and_then(Process::has_exited);
        if let Some(owner) = owner.filter(|owner| !is_named(socket, owner)) {
            let socket = Arc::make_mut(socket);
            socket.pid = Some(owner.pid);
            socket.comm = Some(Arc::clone(&owner.comm));
            socket.comm_hex.clone_from(&owner.comm_hex);
            let cgroup = cgroups.of(owner);
            socket.cgroup = cgroup.map(|cgroup| Arc::clone(&cgroup.path));
            socket.container = cgroup.and_then(|cgroup| cgroup.container.clone());
        }
        if (socket.orphan, socket.owner_exited) != (orphan, owner_exited) {
            let socket = Arc::make_mut(socket);
            (socket.orphan, socket.owner_exited) = (orphan, owner_exited);
        }
        Some(Arc::clone(socket))
    }

    /// Takes in what an event says of the socket's life, and who caused it. [`Tracked::forget_former_life`] and [`Tracked::identify`] come
    /// before.
    pub(super) fn apply(
        &mut self,
        kind: Kind,
        record: &SocketRecord,
        actor: Option<&Arc<Process>>,
        at: Time,
    ) {
        let state = State(record.tcp.state);
        if state != State::CLOSE {
            self.last_state = Some(state);
        }
        if begins_life(kind, record) {
            self.birth = Some(at);
            self.last_state = None;
            self.stall = Stall::default();
            self.stall.begins_seen();
        }
        self.is_announced |= record.head.flags & flag::PAST_ELSEWHERE != 0 || kind == Kind::Look;
        self.was_reset |= kind == Kind::ResetReceived || kind == Kind::ResetSent;
        // Payload that could not be sent under an open window waits for the persist timer.
        self.has_failed_sends |= kind == Kind::RetransmitFailed
            || kind == Kind::Retransmit && record.detail >> 16 != 0
            || kind == Kind::WindowProbe && record.tcp.snd_wnd > 0;
        if kind != Kind::State {
            return;
        }
        let to = state_after(record);
        if is_opening(to) {
            self.owners.opened_by(actor);
        } else {
            self.owners.closed_by(actor);
        }
    }

    /// How the connection ended that came to CLOSE from `from` at `at`.
    pub(super) fn ending(&self, from: State, at: Time, is_by_process: bool) -> Ending {
        Ending {
            from,
            lifetime: self.birth.map(|birth| at.since(birth)),
            reset: self.was_reset,
            is_by_process,
            has_failed_sends: self.has_failed_sends,
        }
    }

    /// Where an event begins a connection forgets what was known of the one before: a socket that was refused may connect again, to another
    /// peer, by another process, or listen.
    pub(super) fn forget_former_life(&mut self, kind: Kind, record: &SocketRecord) {
        if !begins_life(kind, record) {
            return;
        }
        self.is_gone = false;
        if !std::mem::take(&mut self.is_closed) {
            return;
        }
        if let Some(socket) = &mut self.socket {
            let socket = Arc::make_mut(socket);
            *socket = Socket { netns: socket.netns, ..bare_socket(socket.id) };
        }
        self.endpoints = None;
        self.owners = Owners::default();
        self.looked_ns = None;
        self.was_reset = false;
        self.has_failed_sends = false;
        self.was_orphan = false;
    }
}

/// A socket of which only its id is known.
pub(super) fn bare_socket(id: SocketId) -> Socket {
    Socket {
        id,
        family: Family::Ipv4,
        local: None,
        remote: None,
        v4mapped: false,
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

/// Whether a socket names this very process as its owner: each has a name of its own.
fn is_named(socket: &Socket, owner: &Process) -> bool {
    socket.comm.as_ref().is_some_and(|comm| Arc::ptr_eq(comm, &owner.comm))
}

/// Whether a connection, or a listener's life, begins with an event.
fn begins_life(kind: Kind, record: &SocketRecord) -> bool {
    kind == Kind::State && is_birth(state_before(record), state_after(record))
}

/// The state that a state change comes from.
pub(super) fn state_before(change: &SocketRecord) -> State {
    State(u8::try_from(change.detail).unwrap_or(u8::MAX))
}

/// The state that a state change leads to.
pub(super) fn state_after(change: &SocketRecord) -> State {
    State(u8::try_from(change.detail2).unwrap_or(u8::MAX))
}

/// Whether a connection or a listener begins with this state change.
pub(super) fn is_birth(from: State, to: State) -> bool {
    from == State::CLOSE && is_opening(to) || from == State::LISTEN && to == State::SYN_RECV
}

/// The states that `connect` and `listen` lead to, in the task that calls them.
pub(super) fn is_opening(to: State) -> bool {
    to == State::SYN_SENT || to == State::LISTEN
}
