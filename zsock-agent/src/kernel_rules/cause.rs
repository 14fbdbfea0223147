//! Why a segment was sent again, from what the socket shows at the tracepoint `tcp_retransmit_skb`.

use crate::record::{Cause, State};

/// Congestion states, `enum tcp_ca_state`.
const CA_RECOVERY: u8 = 3;
const CA_LOSS: u8 = 4;

/// Timers, `ICSK_TIME_*`; none is pending while the retransmission timer's own handler runs.
const NOTHING_PENDING: u8 = 0;
const LOSS_PROBE_PENDING: u8 = 5;

/// What a socket shows while it sends a segment again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// The socket's state.
    pub state: State,
    /// `icsk_ca_state`.
    pub ca_state: u8,
    /// `icsk_pending`.
    pub pending: u8,
    /// Time-outs in a row without progress, `icsk_retransmits`, this one included.
    pub retransmits: u32,
    /// The peer's window is closed, `snd_wnd == 0`.
    pub window_closed: bool,
    /// Whether a time-out of this episode of loss was seen; `None` where the episode began unseen.
    pub timed_out_before: Option<bool>,
}

/// Why the segment is sent again; `None` where it cannot be told.
#[must_use]
pub fn retransmission_cause(facts: &SegmentFacts) -> Option<Cause> {
    if facts.state == State::SYN_SENT {
        return Some(Cause::Syn);
    }
    if facts.state == State::SYN_RECV || facts.state == State::NEW_SYN_RECV {
        return Some(Cause::SynAck);
    }
    match (facts.ca_state, facts.pending) {
        // A time-out against a closed window is not counted as one.
        (CA_LOSS, NOTHING_PENDING) if facts.retransmits > 0 || facts.window_closed => Some(Cause::Rto),
        // Loss without a time-out is the discovery of a smaller path MTU, for which there is no name.
        (CA_LOSS, pending) if pending != NOTHING_PENDING => {
            let timed_out = facts.retransmits > 0 || facts.timed_out_before == Some(true);
            timed_out.then_some(Cause::SlowStart)
        }
        // The loss probe's timer may be pending here: the congestion state is looked at first.
        (CA_RECOVERY, _) => Some(Cause::Fast),
        (0..CA_RECOVERY, LOSS_PROBE_PENDING) => Some(Cause::TailLossProbe),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An established socket in congestion state `ca_state` with timer `pending`.
    fn cause(ca_state: u8, pending: u8, retransmits: u32) -> Option<Cause> {
        retransmission_cause(&established(ca_state, pending, retransmits))
    }

    fn established(ca_state: u8, pending: u8, retransmits: u32) -> SegmentFacts {
        let state = State::ESTABLISHED;
        SegmentFacts { state, ca_state, pending, retransmits, window_closed: false, timed_out_before: None }
    }

    #[test]
    fn what_a_handshake_sends_again_is_named_by_what_it_is() {
        let in_state = |state| retransmission_cause(&SegmentFacts { state, ..established(4, 0, 1) });
        assert_eq!(in_state(State::SYN_SENT), Some(Cause::Syn));
        assert_eq!(in_state(State::SYN_RECV), Some(Cause::SynAck));
        assert_eq!(in_state(State::NEW_SYN_RECV), Some(Cause::SynAck));
        assert_eq!(in_state(State::FIN_WAIT1), Some(Cause::Rto));
    }

    #[test]
    fn in_the_retransmission_timers_handler_nothing_is_pending() {
        assert_eq!(cause(4, 0, 1), Some(Cause::Rto));
        assert_eq!(cause(4, 0, 9), Some(Cause::Rto));
    }

    #[test]
    fn a_time_out_against_a_closed_window_is_one_although_it_is_not_counted() {
        let closed = SegmentFacts { window_closed: true, ..established(4, 0, 0) };
        assert_eq!(retransmission_cause(&closed), Some(Cause::Rto));
        assert_eq!(cause(4, 0, 0), None);
    }

    #[test]
    fn after_a_time_out_an_ack_resends_in_slow_start_and_without_one_it_cannot_be_told() {
        let after = |timed_out_before| {
            retransmission_cause(&SegmentFacts { timed_out_before, ..established(4, 1, 0) })
        };
        assert_eq!(cause(4, 1, 2), Some(Cause::SlowStart));
        assert_eq!(
            [after(Some(true)), after(Some(false)), after(None)],
            [Some(Cause::SlowStart), None, None]
        );
    }

    #[test]
    fn fast_recovery_is_told_by_its_state_whatever_timer_waits() {
        assert_eq!([1, 5, 6].map(|pending| cause(3, pending, 0)), [Some(Cause::Fast); 3]);
    }

    #[test]
    fn a_tail_loss_probe_is_sent_outside_of_any_recovery() {
        assert_eq!([0, 1, 2].map(|ca_state| cause(ca_state, 5, 0)), [Some(Cause::TailLossProbe); 3]);
        assert_eq!([cause(0, 1, 0), cause(1, 0, 0), cause(9, 5, 0)], [None; 3]);
    }
}
