//! From a row of the census to the record of a socket.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use zsock_common::wire::{CensusRecord, Endpoints};

use super::{Counted, Holders};
use crate::detect::{Thresholds, at_a_glance};
use crate::kernel_rules::Discovery;
use crate::record::{
    AcceptQueue, ArmedTimer, Event, Found, Noticed, Sample, Socket, SocketId, State, Tcp, TimerKind, What,
};
use crate::source::assemble::facts::{Ends, Units, bytes_received, is_orphan};
use crate::source::clock::Clock;
use crate::time::{Time, milliseconds};

/// A queue whose oldest connection has waited for so long is not drained: one look tells it from a busy listener's.
const DRAINED_WITHIN: Duration = Duration::from_secs(1);

/// Marks an id that is not the kernel's: where programs may make no cookies and nobody has asked for the socket's.
pub(super) const NUMBERED: u64 = 1 << 63;

/// What a process adds to the record of its sockets.
#[derive(Clone, Debug, Default)]
struct Owner {
    comm: Option<Arc<str>>,
    comm_hex: Option<Arc<str>>,
    cgroup: Option<Arc<str>>,
    container: Option<Arc<str>>,
}

/// Makes records of rows.
pub(super) struct Finder<'a> {
    units: Units,
    clock: Clock,
    thresholds: &'a Thresholds,
    holders: Holders,
    /// By number of the process.
    owners: HashMap<usize, Owner>,
    numbered: u64,
}

impl<'a> Finder<'a> {
    pub(super) fn new(units: Units, clock: Clock, thresholds: &'a Thresholds, holders: Holders) -> Self {
        Self { units, clock, thresholds, holders, owners: HashMap::new(), numbered: 0 }
    }

    /// The socket of a row.
    pub(super) fn find(&mut self, row: &CensusRecord) -> Counted {
        let at = self.clock.at(row.head.time_ns);
        let state = State(row.tcp.state);
        let is_full = row.is_full != 0;
        let held = (row.head.cookie != 0).then(|| self.holders.of(row.head.cookie)).flatten();
        let mut socket = self.socket(row, is_full);
        let holder = held.map(|(number, holder)| {
            let process = &holder.process;
            let owner = self.owners.entry(number).or_insert_with(|| {
                let of = process.as_record();
                Owner { comm: of.comm, comm_hex: of.comm_hex, cgroup: of.cgroup, container: of.container }
            });
            socket.pid = Some(process.pid);
            socket.comm.clone_from(&owner.comm);
            socket.comm_hex.clone_from(&owner.comm_hex);
            socket.cgroup.clone_from(&owner.cgroup);
            socket.container.clone_from(&owner.container);
            holder
        });
        let found = if is_full { self.full(at, row, socket, state) } else { self.small(row, socket, state) };
        Counted { at, found, holder }
    }

    fn socket(&mut self, row: &CensusRecord, is_full: bool) -> Socket {
        let known = &self.units.known;
        let Endpoints { netns, uid, .. } = row.endpoints;
        let Ends { family, v4mapped, local, remote } = Ends::of(&row.endpoints, known);
        let id = if row.head.cookie == 0 {
            self.numbered += 1;
            NUMBERED | self.numbered
        } else {
            row.head.cookie
        };
        // What waits for its time to run out has forgotten its user, whether the peer has closed yet or not.
        let is_waiting = !is_full && [State::TIME_WAIT, State::FIN_WAIT2].contains(&State(row.tcp.state));
        let has_uid = known.uid && !is_waiting;
        Socket {
            id: SocketId(id),
            family,
            local,
            remote,
            v4mapped,
            netns: known.netns.then_some(netns).filter(|inode| *inode != 0),
            pid: None,
            comm: None,
            comm_hex: None,
            uid: has_uid.then_some(uid),
            inode: known.inode.then_some(row.tcp.inode).filter(|inode| *inode != 0),
            cgroup: None,
            container: None,
            // No process can hold the rest that the kernel keeps of a connection in FIN_WAIT2.
            orphan: if is_full { is_orphan(&row.tcp) } else { row.tcp.state == State::FIN_WAIT2.0 },
            owner_exited: None,
            listener: None,
        }
    }

    /// What is no full socket: `TIME_WAIT`, or a handshake that its listener has not finished.
    fn small(&self, row: &CensusRecord, socket: Socket, state: State) -> Found {
        let is_handshake = state == State::NEW_SYN_RECV;
        let has_timer = self.units.known.forecast && row.expires != 0;
        let jiffies = self.units.jiffies;
        let fires_in = || jiffies.until_fired(row.head.jiffies, row.expires, row.expires_flags);
        let kind = if is_handshake { TimerKind::Retransmission } else { TimerKind::TimeWait };
        let timer = has_timer.then(|| ArmedTimer { kind, in_ms: milliseconds(fires_in()) });
        // To everyone but the kernel itself a handshake is in SYN_RECV.
        let state = if is_handshake { State::SYN_RECV } else { state };
        let tcp = Tcp { state: Some(state), ..Tcp::default() };
        bare(socket, tcp, timer)
    }

    fn full(&self, at: Time, row: &CensusRecord, socket: Socket, state: State) -> Found {
        let (head, facts, units) = (&row.head, &row.tcp, &self.units);
        let mut tcp = units.tcp(head, facts, state, state);
        if state == State::LISTEN {
            // Accepted connections inherit them.
            tcp.keepalive = units.known.keepalive.then(|| units.keepalive(facts));
            tcp.user_timeout_ms =
                units.known.user_timeout.then_some(u64::from(facts.user_timeout)).filter(|ms| *ms != 0);
        }
        let mut found = bare(socket, tcp, units.armed(head, facts, state));
        let is_connection = state != State::LISTEN && state != State::SYN_SENT;
        found.idle_ms = (is_connection && units.known.idle).then(|| milliseconds(self.idle(row)));
        found.unaccepted = state != State::LISTEN && facts.has_socket == 0 && !found.socket.orphan;
        found.accepted = is_connection && row.backlog != 0;
        found.accept_queue = self.accept_queue(row, state);
        if found.has_peer() {
            let discovery = units.discovery(head, facts, state);
            found.noticed = noticed(discovery);
            found.noticed_in_ms = match discovery {
                Discovery::In(after) => Some(milliseconds(after)),
                Discovery::Never | Discovery::Unknown => None,
            };
        }
        self.judge(at, row, found)
    }

    /// Since the last segment in either direction.
    fn idle(&self, row: &CensusRecord) -> Duration {
        let stamps = [row.tcp.lsndtime, row.tcp.rcv_tstamp, row.tcp.lrcvtime];
        let since = |stamp| self.units.jiffies.since(row.head.jiffies, stamp);
        stamps.into_iter().map(since).min().unwrap_or_default()
    }

    fn accept_queue(&self, row: &CensusRecord, state: State) -> Option<AcceptQueue> {
        if state != State::LISTEN || !self.units.known.accept_queue {
            return None;
        }
        let is_told = row.queue > 0 && row.oldest != 0 && self.units.known.oldest_in_queue;
        let oldest = is_told.then(|| self.units.jiffies.since(row.head.jiffies, row.oldest));
        let is_stuck = row.queue > row.backlog && oldest >= Some(DRAINED_WITHIN);
        Some(AcceptQueue {
            queue: row.queue,
            backlog: row.backlog,
            oldest_ms: oldest.map(milliseconds),
            full_for_ms: is_stuck.then_some(0),
        })
    }

    /// Adds the verdict that the facts alone give.
    fn judge(&self, at: Time, row: &CensusRecord, found: Found) -> Found {
        let (facts, known) = (&row.tcp, &self.units.known);
        let clues = Clues {
            is_held: facts.has_socket != 0 && !found.socket.orphan,
            tells_unread_since: known.unread_since,
            tells_half_closed: known.half_closed,
            bytes_received: bytes_received(facts),
            window_probes: self.units.window_probes(&row.head, facts),
        };
        judge(at, found, &clues, self.thresholds)
    }
}

/// What a verdict goes by and a record does not tell.
pub(super) struct Clues {
    /// A process holds the socket.
    pub(super) is_held: bool,
    /// Since when data is unread can be told, where none of it was read.
    pub(super) tells_unread_since: bool,
    /// Since when a half-closed connection carries nothing can be told.
    pub(super) tells_half_closed: bool,
    /// Payload that ever came.
    pub(super) bytes_received: u64,
    /// Probes of the closed window.
    pub(super) window_probes: Option<u32>,
}

/// Adds the verdict that the facts alone give.
pub(super) fn judge(at: Time, mut found: Found, clues: &Clues, thresholds: &Thresholds) -> Found {
    let state = found.tcp.state;
    let unread = found.tcp.unread_bytes.filter(|_| clues.is_held);
    // What the process did before is known only where there is nothing left to read, or it has never read anything.
    let is_untouched = unread.is_some_and(|unread| unread > 0 && unread == clues.bytes_received);
    let is_half_closed =
        clues.tells_half_closed && state == Some(State::CLOSE_WAIT) && (unread == Some(0) || is_untouched);
    let sample = Sample {
        idle_ms: found.idle_ms.filter(|_| state == Some(State::ESTABLISHED)),
        unread_for_ms: found.tcp.last_data_received_ms.filter(|_| clues.tells_unread_since && is_untouched),
        half_closed_ms: found.idle_ms.filter(|_| is_half_closed),
        window_probes: clues.window_probes,
        accept_queue: found.accept_queue,
        ..Sample::default()
    };
    let Found { socket, tcp, .. } = found;
    let (what, socket) = (What::Sample(Box::new(sample)), Arc::new(socket));
    let event = Event { what, socket, tcp, replayed: false, inferred: false };
    found.verdict = at_a_glance(at, &event, thresholds);
    (found.socket, found.tcp) = (Arc::unwrap_or_clone(event.socket), event.tcp);
    found
}

/// A socket of which nothing more is known.
pub(super) fn bare(socket: Socket, tcp: Tcp, timer: Option<ArmedTimer>) -> Found {
    Found {
        socket,
        tcp,
        idle_ms: None,
        timer,
        unaccepted: false,
        accepted: false,
        accept_queue: None,
        verdict: None,
        noticed: None,
        noticed_in_ms: None,
    }
}

fn noticed(discovery: Discovery) -> Option<Noticed> {
    match discovery {
        Discovery::In(after) => Some(Noticed::after(after)),
        Discovery::Never => Some(Noticed::Never),
        Discovery::Unknown => None,
    }
}
