//! What is remembered of a socket between its events.

use std::sync::Arc;

use zsock_common::wire::{Kind, PastRecord, SocketRecord, flag};

use crate::record::{Family, State};
use crate::source::assemble::facts::Ends;
use crate::source::assemble::known::Known;
use crate::source::assemble::owner::Owners;
use crate::source::assemble::stall::Stall;
use crate::source::assemble::what::Ending;
use crate::source::process::Process;
use crate::time::Time;

/// What is remembered of a socket between its events.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Tracked {
    pub(super) ends: Ends,
    pub(super) netns: Option<u32>,
    pub(super) uid: Option<u32>,
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
            ends: Ends { family: Family::Ipv4, v4mapped: false, local: None, remote: None },
            netns: None,
            uid: None,
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
        let mut ends = Ends::of(&record.endpoints, known);
        if record.head.flags & flag::UNBOUND != 0 {
            ends.local = None;
        }
        let local = match (ends.local, self.ends.local) {
            (Some(now), Some(before)) if now.ip().is_unspecified() && now.port() == before.port() => {
                Some(before)
            }
            (now, before) => now.or(before),
        };
        self.ends = Ends { local, remote: ends.remote.or(self.ends.remote), ..ends };
        let given = |number: u32| (number != 0).then_some(number);
        self.netns = given(record.endpoints.netns).or(self.netns);
        self.uid = known.uid.then_some(record.endpoints.uid);
        if record.tcp.inode != 0 {
            self.inode = Some(record.tcp.inode);
        }
    }

    /// Takes in what an event says of the socket's life, and who caused it.
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
        if kind == Kind::State && is_birth(state_before(record), state_after(record)) {
            self.begin_life(at);
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

    /// Begins a connection. The socket may have had one before: one that was refused may connect again.
    fn begin_life(&mut self, at: Time) {
        self.is_gone = false;
        if std::mem::take(&mut self.is_closed) {
            // The port of the life before is put back, though the socket still shows it until it gets another.
            self.ends.local = None;
            self.was_reset = false;
            self.has_failed_sends = false;
            self.was_orphan = false;
        }
        self.birth = Some(at);
        self.last_state = None;
        self.stall = Stall::default();
        self.stall.begins_seen();
    }
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
