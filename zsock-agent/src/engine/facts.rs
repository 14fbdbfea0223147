//! What the records so far say of one socket.

use std::sync::Arc;
use std::time::Duration;

use super::window::WindowProbes;
use crate::record::{Event, Fact, Keepalive, Socket, State, StateChange, Tcp, What};
use crate::time::Time;

/// What the detectors judge from. Replayed events and inferred facts have no part in `tcp`: their times are of the past.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Facts {
    /// Who it is; owner facts once known are kept.
    pub(crate) socket: Arc<Socket>,
    /// That was told anew since the table last looked for it by its ends.
    pub(crate) is_renamed: bool,
    /// How TCP stood when it was last told.
    pub(crate) tcp: Tcp,
    /// When that was.
    pub(crate) tcp_at: Time,
    /// State after the last event; absent while none told it.
    pub(crate) state: Option<State>,
    /// When the attempt to connect began; absent where that was not told.
    pub(crate) connecting_since: Option<Time>,
    /// Time-outs in a row without progress, as last told.
    pub(crate) timeouts: Option<u32>,
    /// The event just applied showed that an ACK moved a stalled connection.
    pub(crate) moved: bool,
    /// The last sign of life from the peer.
    pub(crate) last_received_at: Option<Time>,
    /// The first retransmission since that.
    pub(crate) retransmitting_since: Option<Time>,
    /// The first unanswered keepalive probe.
    pub(crate) probing_since: Option<Time>,
    /// Probes of the peer's window.
    pub(crate) window_probes: WindowProbes,
    /// The reset that came in.
    pub(crate) reset_received: Option<Box<ResetReceived>>,
    /// We sent a reset.
    pub(crate) reset_sent: bool,
    /// This host did not open the connection; false where its beginning was not told.
    pub(crate) was_accepted: bool,
    /// When that state was told.
    state_told_at: Option<Time>,
    /// Records lost before the socket's birth was told; they are none of its own.
    lost_before_birth: u64,
    /// Records lost so far.
    lost: u64,
}

/// How things stood when a reset came in.
#[derive(Debug)]
pub(crate) struct ResetReceived {
    /// When.
    pub(crate) at: Time,
    /// The state that it ended.
    pub(crate) state: Option<State>,
    /// How TCP stood with what was still unacknowledged.
    pub(crate) tcp: Tcp,
}

impl Facts {
    /// Nothing yet but who it is. `lost` counts the records lost so far.
    pub(crate) fn new(event: &Event, lost: u64) -> Self {
        Self {
            socket: Arc::clone(&event.socket),
            is_renamed: true,
            tcp: Tcp::default(),
            tcp_at: Time::from_unix_ns(0),
            state: None,
            connecting_since: None,
            timeouts: None,
            moved: false,
            last_received_at: None,
            retransmitting_since: None,
            probing_since: None,
            window_probes: WindowProbes::default(),
            reset_received: None,
            reset_sent: false,
            was_accepted: false,
            state_told_at: None,
            lost_before_birth: 0,
            lost,
        }
    }

    /// Takes in an event. `lost` counts the records lost so far.
    pub(crate) fn apply(&mut self, at: Time, event: &Event, lost: u64) {
        self.moved = false;
        self.note_loss(lost);
        self.note_socket(&event.socket);
        if let What::State(change) = &event.what {
            self.note_state(at, *change);
        }
        if event.replayed {
            return;
        }
        if let What::Sample(sample) = &event.what
            && let Some(fact) = sample.fact
        {
            self.note_past(at, fact);
            return;
        }
        if let What::ResetReceived(_) = event.what {
            let state = event.tcp.state.or(self.state);
            self.reset_received = Some(Box::new(ResetReceived { at, state, tcp: event.tcp.clone() }));
        }
        self.reset_sent |= matches!(event.what, What::ResetSent(_));
        self.note_tcp(at, event);
        self.note_retransmissions(at, event);
        self.note_probes(at, event);
    }

    /// Records lost in this socket's life; zero where its birth was told after the last loss.
    pub(crate) fn lost_in_its_life(&self) -> u64 {
        self.lost - self.lost_before_birth
    }

    /// The memory that they take beside their own size.
    pub(crate) fn bytes_elsewhere(&self) -> usize {
        size_of_val(&*self.socket) + self.reset_received.as_ref().map_or(0, |reset| size_of_val(&**reset))
    }

    /// Until the kernel gives up, counted from `at`; absent where it never will or it cannot be told.
    pub(crate) fn gives_up_in(&self, at: Time) -> Option<Duration> {
        let told = Duration::from_millis(self.tcp.gives_up_in_ms?);
        let left = told.checked_sub(at.since(self.tcp_at))?;
        Some(left)
    }

    fn note_loss(&mut self, lost: u64) {
        if lost > self.lost {
            self.window_probes.note_loss();
            self.lost = lost;
        }
    }

    fn note_socket(&mut self, socket: &Arc<Socket>) {
        // Most events tell nothing new of it.
        if *socket == self.socket {
            return;
        }
        let before = std::mem::replace(&mut self.socket, Arc::clone(socket));
        let (local, remote) = (socket.local.or(before.local), socket.remote.or(before.remote));
        self.is_renamed |= (local, remote) != (before.local, before.remote);
        if (local, remote) != (socket.local, socket.remote) {
            let now = Arc::make_mut(&mut self.socket);
            (now.local, now.remote) = (local, remote);
        }
        if socket.pid.is_none() && socket.comm.is_none() {
            let now = Arc::make_mut(&mut self.socket);
            now.pid = before.pid;
            now.comm.clone_from(&before.comm);
            now.comm_hex.clone_from(&before.comm_hex);
            now.cgroup = now.cgroup.take().or_else(|| before.cgroup.clone());
            now.container = now.container.take().or_else(|| before.container.clone());
        }
    }

    fn note_state(&mut self, at: Time, change: StateChange) {
        if self.state_told_at.is_none_or(|told_at| told_at <= at) {
            self.set_state(at, change.to);
        }
        if change.to == State::SYN_SENT {
            self.connecting_since = Some(at);
        }
        self.was_accepted |= change.to == State::SYN_RECV;
        if is_birth(change) {
            self.lost_before_birth = self.lost;
        }
    }

    fn set_state(&mut self, at: Time, state: State) {
        self.state = Some(state);
        self.state_told_at = Some(at);
    }

    fn note_past(&mut self, at: Time, fact: Fact) {
        match fact {
            Fact::LastReceived => self.last_received_at = self.last_received_at.max(Some(at)),
            Fact::RetransmittingSince => self.retransmitting_since = Some(at),
            Fact::ProbingSince => self.probing_since = Some(at),
            Fact::LastSent => {}
        }
    }

    fn note_tcp(&mut self, at: Time, event: &Event) {
        if event.tcp == Tcp::default() {
            return;
        }
        self.tcp = event.tcp.clone();
        self.tcp_at = at;
        if let Some(state) = event.tcp.state {
            self.set_state(at, state);
        }
        if let Some(ms) = event.tcp.last_received_ms {
            self.last_received_at = self.last_received_at.max(Some(at.before(Duration::from_millis(ms))));
        }
    }

    fn note_retransmissions(&mut self, at: Time, event: &Event) {
        if let What::Retransmit(_) = event.what
            && self.retransmitting_since.is_none_or(|since| Some(since) < self.last_received_at)
        {
            self.retransmitting_since = Some(at);
        }
        let timeouts = timeouts(event);
        // The counters of a socket that has come to its end tell of no acknowledgement.
        let ends = self.reset_received.is_some() || self.state == Some(State::CLOSE);
        let fell = self.timeouts > Some(0) && timeouts == Some(0) && !ends;
        self.moved = matches!(event.what, What::Progress(_)) || fell;
        self.timeouts = if self.moved { Some(0) } else { timeouts.or(self.timeouts) };
    }

    fn note_probes(&mut self, at: Time, event: &Event) {
        // Probes sent before the last word were answered by it.
        self.probing_since = self.probing_since.filter(|since| Some(*since) >= self.last_received_at);
        if let What::Keepalive(Keepalive { probe: 1, .. }) = event.what {
            self.probing_since = Some(at);
        }
        self.window_probes.note(at, event, self.last_received_at);
        if self.moved {
            self.window_probes.note_progress();
        }
    }
}

/// Time-outs in a row without progress, as the event tells them.
fn timeouts(event: &Event) -> Option<u32> {
    let counted = if let What::Retransmit(retransmit) = &event.what { retransmit.attempt } else { None };
    counted.or(event.tcp.retransmits)
}

/// Whether a connection or a listener begins here.
pub(crate) fn is_birth(change: StateChange) -> bool {
    change.from == State::CLOSE || (change.from == State::LISTEN && change.to == State::SYN_RECV)
}
