//! What an event is, in the records' words.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use zsock_common::wire::{self, DROPPED_HERE, Kind, LookRecord, SocketRecord};

use crate::kernel_rules::{Forecast, Moment, Pending, SegmentFacts, retransmission_cause};
use crate::record::{
    AcceptFailed, Cause, Closed, Errno, Errored, Keepalive, Reset, Retransmit, Sample, State, StateChange,
    Tcp, What, ZeroWindowProbe,
};
use crate::source::assemble::facts::{Queues, Units, bytes_received, bytes_sent, has_peers_fin};
use crate::source::assemble::found;
use crate::source::assemble::stall::Stall;
use crate::source::assemble::tracked::Tracked;
use crate::source::process::Process;
use crate::time::{Time, milliseconds};

const FIN: u32 = 1;

/// One event and what is needed to read it.
pub(super) struct Scene<'a> {
    pub(super) kind: Kind,
    pub(super) record: &'a SocketRecord,
    /// The process that holds the socket.
    pub(super) owner: Option<u32>,
    /// All that the look found, where it is one.
    pub(super) look: Option<&'a LookRecord>,
    pub(super) at: Time,
    /// The state that the kernel's counters are of: the last one before CLOSE.
    pub(super) live_state: State,
    pub(super) units: &'a Units,
    pub(super) reset_reasons: &'a BTreeMap<u32, String>,
    /// What the timers will do, once that was asked for: to tell it takes longer than most of the rest.
    pub(super) forecast: OnceCell<Forecast>,
}

impl Scene<'_> {
    /// The state after the event: the hook of a state change comes before it.
    fn state(&self) -> State {
        if self.kind == Kind::State { state_of(self.record.detail2) } else { State(self.record.tcp.state) }
    }

    /// Whether TCP is done with the socket here.
    pub(super) fn is_end(&self) -> bool {
        self.kind == Kind::State && self.state() == State::CLOSE
    }

    /// How TCP stands after the event.
    pub(super) fn tcp(&self, stall: &Stall) -> Tcp {
        let state = self.state();
        let mut tcp = self.units.tcp(&self.record.head, &self.record.tcp, state, self.live_state);
        if self.has_settled_timers() {
            tcp.gives_up_in_ms = self.forecast(stall).gives_up_in.map(milliseconds);
        }
        tcp.stalled_ms = stall.duration_at(self.at).map(milliseconds);
        tcp
    }

    /// The record's subject; `None` for an event that only moved what is known of the socket. `is_news` makes a plain look worth
    /// telling.
    pub(super) fn what(&self, stall: &mut Stall, is_news: bool) -> Option<What> {
        let detail = self.record.detail;
        Some(match self.kind {
            Kind::State if detail == self.record.detail2 => return None,
            Kind::State => {
                What::State(StateChange { from: state_of(detail), to: state_of(self.record.detail2) })
            }
            Kind::Retransmit | Kind::RetransmitFailed => What::Retransmit(self.retransmit(stall)),
            Kind::Keepalive => What::Keepalive(self.keepalive(stall)),
            Kind::WindowProbe if !self.units.known.window_probe => return None,
            Kind::WindowProbe => What::ZeroWindowProbe(self.window_probe(stall)),
            Kind::Error => What::Error(Errored { errno: Errno::from_number(detail.cast_signed()) }),
            Kind::ResetReceived => What::ResetReceived(Reset { reason: None }),
            Kind::ResetSent => What::ResetSent(Reset { reason: self.reset_reason() }),
            Kind::AcceptFailed => What::AcceptFailed(self.accept_failed()),
            Kind::Look if is_news || self.look.is_some_and(found::is_news) => What::Sample(Box::new(
                self.look.map_or_else(Sample::default, |look| found::sample(look, self.units)),
            )),
            Kind::Look
            | Kind::KeepaliveAnswered
            | Kind::Recovered
            | Kind::Destroyed
            | Kind::SynAckRetransmit
            | Kind::Past
            | Kind::Holder
            | Kind::Clock => return None,
        })
    }

    /// The end of the connection. A close that skips the handshake of FINs sends a reset right after.
    pub(super) fn closed(&self, tracked: &Tracked) -> What {
        let from = state_of(self.record.detail);
        let is_by_process = self.record.actor != wire::Process::NONE;
        let is_abortive =
            is_by_process && matches!(from, State::ESTABLISHED | State::CLOSE_WAIT | State::SYN_RECV);
        let ending = tracked.ending(from, self.at, is_by_process);
        closed(self.record, &Ending { reset: ending.reset || is_abortive, ..ending }, self.units)
    }

    /// Whether the socket's timers are as they will stay after the event. At a state change, a reset or an error the kernel is
    /// about to arm or stop them.
    fn has_settled_timers(&self) -> bool {
        let is_settled = matches!(
            self.kind,
            Kind::Retransmit | Kind::Keepalive | Kind::KeepaliveAnswered | Kind::WindowProbe | Kind::Look
        );
        is_settled && self.state() != State::CLOSE && self.state() != State::LISTEN
    }

    /// A failed accept. How often is counted later; who called is told where it is not the owner.
    fn accept_failed(&self) -> AcceptFailed {
        let actor = &self.record.actor;
        let is_news = self.units.known.owner && self.owner != Some(actor.tgid);
        let process = is_news.then(|| Process::from_wire(actor)).flatten();
        let process = process.map(|process| Box::new(process.as_record()));
        AcceptFailed { errno: Errno::from_number(self.record.detail.cast_signed()), count: 0, process }
    }

    fn cause(&self, stall: &Stall) -> Option<Cause> {
        let tcp = &self.record.tcp;
        if !self.units.known.cause {
            return None;
        }
        let facts = SegmentFacts {
            state: State(tcp.state),
            ca_state: tcp.ca_state,
            pending: tcp.pending,
            retransmits: tcp.retransmits.into(),
            window_closed: tcp.snd_wnd == 0,
            timed_out_before: stall.timed_out_before(),
        };
        match retransmission_cause(&facts)? {
            Cause::SlowStart if self.lacks_ack(stall) => stall.cause_without_ack(),
            cause @ (Cause::Syn
            | Cause::SynAck
            | Cause::Rto
            | Cause::Fast
            | Cause::TailLossProbe
            | Cause::SlowStart) => Some(cause),
        }
    }

    /// Whether this is sent again although no ACK came since the time-out before.
    fn lacks_ack(&self, stall: &Stall) -> bool {
        let tick = self.units.jiffies.until(0, 1);
        let heard = self.units.since_received(&self.record.head, &self.record.tcp, self.state());
        let heard_at = heard.map(|heard| self.at.before(heard).after(tick));
        self.kind == Kind::Retransmit && heard_at.is_some() && heard_at < stall.previous_timeout()
    }

    /// What the timers will do. What a probe changes in `stall` between one question and the next has no part in it.
    fn forecast(&self, stall: &Stall) -> Forecast {
        *self.forecast.get_or_init(|| self.foresee(stall))
    }

    fn foresee(&self, stall: &Stall) -> Forecast {
        let (head, tcp) = (&self.record.head, &self.record.tcp);
        // An attempt that failed, or that no timer and no ACK made, is repeated by other rules.
        let is_out_of_turn = tcp.pending != 0 && tcp.retransmits > 0 && self.lacks_ack(stall);
        if is_out_of_turn || self.failure() != 0 || self.kind == Kind::RetransmitFailed {
            return Forecast::default();
        }
        self.units.forecast(head, tcp, self.state(), self.moment(stall))
    }

    fn moment(&self, stall: &Stall) -> Moment {
        if self.kind != Kind::Retransmit {
            return Moment::AtRest;
        }
        let is_head = self.record.detail2 == self.record.tcp.snd_una;
        match self.cause(stall) {
            Some(Cause::Rto | Cause::Syn) if Pending::from_number(self.record.tcp.pending).is_none() => {
                Moment::InRetransmissionTimeout
            }
            Some(Cause::TailLossProbe) => Moment::InTailLossProbe,
            Some(Cause::Fast | Cause::SlowStart) if is_head => Moment::InHeadRetransmission,
            _ => Moment::AtRest,
        }
    }

    fn retransmit(&self, stall: &Stall) -> Retransmit {
        let is_failed = self.kind == Kind::RetransmitFailed;
        let cause = match self.cause(stall) {
            // Only the retransmission timer's handler fails this way, and its own tracepoint was not passed.
            _ if is_failed && self.record.tcp.state == State::SYN_SENT.0 => Some(Cause::Syn),
            _ if is_failed => Some(Cause::Rto),
            cause => cause,
        };
        let is_timed = matches!(cause, Some(Cause::Rto | Cause::Syn));
        let attempt = u32::from(self.record.tcp.retransmits);
        Retransmit {
            cause,
            fin: self.record.detail & FIN != 0,
            attempt: (is_timed && attempt > 0).then_some(attempt),
            next_ms: self.forecast(stall).next.map(milliseconds),
            failed: is_failed || self.failure() != 0,
            errno: self.errno(),
        }
    }

    /// The error of an attempt that did not leave this host, where the kernel says one.
    fn errno(&self) -> Option<Errno> {
        let failure = self.failure();
        (failure != 0 && failure != DROPPED_HERE).then(|| Errno::from_number(failure.cast_signed()))
    }

    /// Why the attempt did not leave this host; 0 where it did.
    fn failure(&self) -> u32 {
        if self.kind == Kind::Retransmit { self.record.detail >> 16 } else { 0 }
    }

    fn keepalive(&self, stall: &mut Stall) -> Keepalive {
        let probe = self.record.detail.saturating_add(1);
        stall.probe_peer(probe);
        let tcp = self.tcp(stall);
        // With a user timeout the number of probes no longer matters.
        let counts = self.units.known.user_timeout && tcp.user_timeout_ms.is_none();
        let of = tcp.keepalive.filter(|_| counts).map(|settings| settings.probes);
        Keepalive { probe, of, next_ms: self.forecast(stall).next.map(milliseconds) }
    }

    fn window_probe(&self, stall: &mut Stall) -> ZeroWindowProbe {
        let probe = stall.probe_window(self.record, self.units);
        // An answer puts the kernel's own count back to zero.
        let answered = (probe > 1).then_some(self.record.detail == 0);
        ZeroWindowProbe { probe, answered, next_ms: self.forecast(stall).next.map(milliseconds) }
    }

    fn reset_reason(&self) -> Option<Arc<str>> {
        let is_known = self.record.detail2 != 0 && self.record.detail != 0;
        let name = self.reset_reasons.get(&self.record.detail).filter(|_| is_known)?;
        Some(Arc::from(name.as_str()))
    }
}

/// How a connection ended, as far as its last record does not tell.
pub(super) struct Ending {
    /// The state that it was in before.
    pub(super) from: State,
    /// Since its birth.
    pub(super) lifetime: Option<Duration>,
    /// A reset was received or sent.
    pub(super) reset: bool,
    /// A process ended it by closing the socket.
    pub(super) is_by_process: bool,
    /// Segments failed to leave this host: the kernel has counted their payload with each attempt.
    pub(super) has_failed_sends: bool,
}

/// The end of a connection.
pub(super) fn closed(record: &SocketRecord, ending: &Ending, units: &Units) -> What {
    let tcp = &record.tcp;
    let &Ending { from, lifetime, reset, is_by_process, has_failed_sends } = ending;
    let is_listener = from == State::LISTEN;
    What::Closed(Box::new(Closed {
        from,
        errno: (tcp.sk_err != 0).then(|| Errno::from_number(tcp.sk_err)),
        lifetime_ms: lifetime.map(milliseconds),
        bytes_sent: (units.known.sent && !is_listener && !has_failed_sends).then(|| bytes_sent(tcp)),
        bytes_received: (units.known.received && !is_listener).then(|| bytes_received(tcp)),
        peer_closed: has_peers_fin(tcp),
        reset,
        fd_open: tcp.has_socket != 0 && !is_by_process,
        fin_unacked: units.known.sequence && Queues::of(tcp, from).has_fin,
    }))
}

fn state_of(detail: u32) -> State {
    State(u8::try_from(detail).unwrap_or(u8::MAX))
}
