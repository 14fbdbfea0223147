//! What a socket waits for: acknowledgements, answers to probes, an open window. Says when it got them.

use std::time::Duration;

use zsock_common::wire::{Kind, SocketRecord};

use crate::record::{Cause, KeepaliveAnswered, Progress, State, What};
use crate::source::assemble::facts::{Queues, RTO_MIN, Units};
use crate::source::assemble::tracked::state_after;
use crate::time::{Time, milliseconds};

/// What a socket waits for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stall {
    /// Time-outs in a row without progress.
    attempts: u32,
    /// First unacknowledged sequence number at the last of them.
    snd_una: u32,
    /// When what is unacknowledged was first sent; known once something timed out.
    since: Option<Time>,
    /// The same, from a tail loss probe: it comes before the first time-out.
    probed: Option<Time>,
    /// When the kernel counted the last of them.
    timed_out_at: Option<Time>,
    /// The same before the present event, which counted one more.
    counted_after: Option<Time>,
    /// When our FIN was queued.
    fin_at: Option<Time>,
    /// Whether a time-out of this episode of loss was seen; `None` where the episode may have begun unseen.
    timed_out_before: Option<bool>,
    /// Keepalive probes sent since the last answer.
    probes: u32,
    /// Probes of the window that is closed now.
    window_probes: u32,
    /// `snd_una` while it is.
    window_una: u32,
    /// Since when data has waited for that window; known once it was probed.
    window_since: Option<Time>,
}

impl Stall {
    /// The socket was seen from its birth on: no time-out came unseen.
    pub(super) fn begins_seen(&mut self) {
        self.timed_out_before = self.timed_out_before.or(Some(false));
    }

    /// Whether a time-out of this episode of loss was seen.
    #[must_use]
    pub(super) fn timed_out_before(&self) -> Option<bool> {
        self.timed_out_before
    }

    /// Whether something was sent again, or a probe, without progress or an answer since.
    #[must_use]
    pub(super) fn is_waiting(&self) -> bool {
        self.attempts > 0 || self.probes > 0 || self.window_probes > 0
    }

    /// How long what is unacknowledged, or what a closed window keeps from being sent, has waited at `at`.
    #[must_use]
    pub(super) fn duration_at(&self, at: Time) -> Option<Duration> {
        self.since.or(self.window_since).map(|since| at.since(since))
    }

    /// Takes in how the socket stands at an event, and gives what must have happened before it.
    pub(super) fn observe(
        &mut self,
        kind: Kind,
        record: &SocketRecord,
        at: Time,
        units: &Units,
    ) -> Vec<What> {
        let mut happened = Vec::new();
        // The counters of a socket that has come to its end are put back, which is no word from the peer.
        if record.tcp.state == State::CLOSE.0 {
            return happened;
        }
        if let Some(progress) = self.progress(kind, record, at) {
            happened.push(What::Progress(progress));
        }
        if let Some(answer) = self.answer(kind, record) {
            happened.push(What::KeepaliveAnswered(answer));
        }
        if record.tcp.snd_una != self.window_una {
            self.window_probes = 0;
        }
        self.note_window(kind, record, at, units);
        if record.tcp.snd_una != self.snd_una {
            self.probed = None;
        }
        self.probed = self.probed.or_else(|| last_sent_before(record, at, units));
        let retransmits = u32::from(record.tcp.retransmits);
        self.note_timeout(kind, retransmits, at);
        if kind == Kind::State {
            self.note_state(state_after(record), at);
        }
        if retransmits > 0 && kind != Kind::Recovered {
            self.since = self.since.or_else(|| self.beginning(kind, record, at, units));
            self.timed_out_before = Some(true);
        }
        self.attempts = if kind == Kind::Recovered { 0 } else { retransmits };
        self.snd_una = record.tcp.snd_una;
        happened
    }

    /// Notes since when data has waited for a closed window: the timer that probed it was armed with it.
    fn note_window(&mut self, kind: Kind, record: &SocketRecord, at: Time, units: &Units) {
        let (head, tcp) = (&record.head, &record.tcp);
        if tcp.snd_wnd > 0 || tcp.snd_una == tcp.write_seq || !units.known.stalled {
            self.window_since = None;
            return;
        }
        let since_armed = if kind == Kind::Retransmit {
            let first = units.rto(tcp) / 2u32.saturating_pow(tcp.backoff.into());
            units.since_first_retransmission(head, tcp).map(|passed| passed + first)
        } else {
            let first = units.rto(tcp).max(RTO_MIN);
            (tcp.probes_tstamp != 0).then(|| units.jiffies.since(head.jiffies, tcp.probes_tstamp) + first)
        };
        self.window_since = self.window_since.or_else(|| Some(at.before(since_armed?)));
    }

    /// Notes when our FIN was queued.
    pub(super) fn note_state(&mut self, to: State, at: Time) {
        if to == State::FIN_WAIT1 || to == State::LAST_ACK {
            self.fin_at = Some(at);
        }
    }

    /// When the kernel counted the time-out before the present event.
    #[must_use]
    pub(super) fn previous_timeout(&self) -> Option<Time> {
        self.counted_after.or(self.timed_out_at)
    }

    /// Why a segment was sent again although no ACK came since the time-out before: an ICMP error makes a time-out of its own.
    /// What could not leave the host at a time-out leaves when it can, and that has no name.
    #[must_use]
    pub(super) fn cause_without_ack(&self) -> Option<Cause> {
        self.counted_after.map(|_| Cause::Rto)
    }

    fn note_timeout(&mut self, kind: Kind, retransmits: u32, at: Time) {
        self.counted_after = None;
        if retransmits > self.attempts && matches!(kind, Kind::Retransmit | Kind::RetransmitFailed) {
            self.counted_after = self.timed_out_at.replace(at);
        } else if retransmits == 0 {
            self.timed_out_at = None;
        }
    }

    /// Counts a probe of a closed window. Returns its number since the window closed.
    pub(super) fn probe_window(&mut self, record: &SocketRecord, units: &Units) -> u32 {
        self.window_una = record.tcp.snd_una;
        // Those before zsock came are the kernel's count.
        let unseen = units.window_probes(&record.head, &record.tcp).filter(|_| self.window_probes == 0);
        self.window_probes = unseen.unwrap_or(self.window_probes + 1);
        self.window_probes
    }

    /// Counts a keepalive probe.
    pub(super) fn probe_peer(&mut self, probe: u32) {
        self.probes = probe;
    }

    fn progress(&mut self, kind: Kind, record: &SocketRecord, at: Time) -> Option<Progress> {
        if kind == Kind::Recovered {
            self.timed_out_before = Some(false);
        }
        let moved =
            record.tcp.snd_una != self.snd_una || record.tcp.retransmits == 0 || kind == Kind::Recovered;
        if self.attempts == 0 || !moved {
            return None;
        }
        let (attempts, since) = (std::mem::take(&mut self.attempts), self.since.take());
        // The handshake's progress is its change of state.
        let is_handshake = record.tcp.state == State::SYN_SENT.0 || record.tcp.state == State::SYN_RECV.0;
        let stalled_ms = since.map(|since| milliseconds(at.since(since)));
        (!is_handshake).then_some(Progress { stalled_ms, attempts })
    }

    fn answer(&mut self, kind: Kind, record: &SocketRecord) -> Option<KeepaliveAnswered> {
        let is_answered =
            kind == Kind::KeepaliveAnswered || kind != Kind::Keepalive && record.tcp.probes_out == 0;
        if !is_answered {
            return None;
        }
        let after_probes = std::mem::take(&mut self.probes);
        (after_probes > 1).then_some(KeepaliveAnswered { after_probes })
    }

    /// When what is unacknowledged was first sent: as the first timer saw it, else one time-out before the first
    /// retransmission, or with the connection attempt.
    fn beginning(&self, kind: Kind, record: &SocketRecord, at: Time, units: &Units) -> Option<Time> {
        let (head, tcp) = (&record.head, &record.tcp);
        if !units.known.stalled {
            return None;
        }
        if tcp.state == State::SYN_SENT.0 {
            return units.since_first_retransmission(head, tcp).map(|passed| at.before(passed));
        }
        let is_first = tcp.retransmits == 1 && tcp.pending == 0 && kind == Kind::Retransmit;
        if is_first && is_fin_alone(record) {
            // Until the peer's last word it may have stood behind payload that had to be acknowledged first.
            let heard_at = units.since_received(head, tcp, State(tcp.state)).map(|passed| at.before(passed));
            return self
                .fin_at
                .max(heard_at.filter(|_| self.fin_at.is_some()))
                .or(Some(at.before(units.rto(tcp))));
        }
        if is_first {
            // The kernel's own stamp may be of an episode that an ACK has moved since.
            return self.probed.or_else(|| Some(at.before(units.rto(tcp))));
        }
        let base = units.rto(tcp) / 2u32.saturating_pow(tcp.backoff.into());
        units.since_first_retransmission(head, tcp).map(|passed| at.before(passed + base))
    }
}

/// Whether our FIN is all that is unacknowledged.
fn is_fin_alone(record: &SocketRecord) -> bool {
    let queues = Queues::of(&record.tcp, State(record.tcp.state));
    queues.has_fin && queues.unacked_bytes == 0 && queues.unsent_bytes == 0
}

/// When payload was last sent before the timer fired that sent it again.
fn last_sent_before(record: &SocketRecord, at: Time, units: &Units) -> Option<Time> {
    let is_first = record.tcp.sent_before != 0 && record.tcp.retransmits <= 1;
    is_first.then(|| at.before(units.jiffies.since(record.head.jiffies, record.tcp.sent_before)))
}
