//! The retransmission timer: in charge while anything is in flight.
//!
//! Source: `tcp_retransmit_timer`, `tcp_write_timeout`, `retransmits_timed_out`, `tcp_model_timeout`,
//! `tcp_clamp_rto_to_user_timeout` and `tcp_rtx_probe0_timed_out` in `net/ipv4/tcp_timer.c`.

use std::time::Duration;

use super::{Clock, Forecast, MAX_FIRINGS, Moment, Peer, Pending, RTO_MIN, Stopwatch, Timers};
use crate::record::State;
use crate::time::nanoseconds;

/// `TCP_TIMEOUT_INIT`: the first timeout of a handshake.
const SYN_TIMEOUT: Duration = Duration::from_secs(1);

/// `TCP_THIN_LINEAR_RETRIES`: a thin stream backs off after this many timeouts.
const THIN_LINEAR_RETRIES: u32 = 6;

pub(super) fn forecast(timers: &Timers, peer: Peer) -> Forecast {
    let Some((next, mut episode)) = Episode::at_first_firing(timers) else { return Forecast::default() };
    let answers = peer == Peer::AsBefore && peer_answers(timers);
    if answers && episode.probes_closed_window() && timers.user_timeout().is_none() {
        return Forecast { next: Some(next), gives_up_in: None };
    }
    for _ in 0..MAX_FIRINGS {
        if episode.is_over() {
            return Forecast { next: Some(next), gives_up_in: Some(episode.clock.elapsed()) };
        }
        episode.retransmit();
    }
    Forecast { next: Some(next), gives_up_in: None }
}

/// Whether something came from the peer since the last time-out, or since the one before where the last is just now.
fn peer_answers(timers: &Timers) -> bool {
    let until_next = if timers.moment == Moment::AtRest { timers.timer_in } else { None };
    // An RTO is the time from one time-out to the next, and the one before took half of it: an answer is at most one RTO
    // old, a silence at least one and a half. Between them lies what the timer wheel adds.
    timers.since_received.is_some_and(|since| {
        since.saturating_add(until_next.unwrap_or_default()) <= timers.rto.saturating_mul(5) / 4
    })
}

/// A stall, from one firing of the retransmission timer to the next.
struct Episode<'a> {
    timers: &'a Timers,
    clock: Clock,
    retransmits: u32,
    rto: u64,
    rto_max: u64,
    rto_without_backoff: u64,
    /// How long the kernel goes on where no user timeout says it; of an orphan that changes from firing to firing.
    limit: Option<Duration>,
    since_first_retransmission: Option<Stopwatch>,
}

impl<'a> Episode<'a> {
    /// The stall when the retransmission timer next fires, and until when a timer next acts, which can be another one.
    fn at_first_firing(timers: &'a Timers) -> Option<(Duration, Self)> {
        let clock = Clock::start(timers);
        let rto = timers.jiffies.ticks(timers.rto).max(1);
        let rto_max = timers.jiffies.ticks(timers.rto_max).max(1);
        let longest = timers.jiffies.duration(rto_max);
        let mut episode = Self {
            timers,
            clock,
            retransmits: timers.retransmits,
            rto,
            rto_max,
            rto_without_backoff: rto.checked_shr(timers.backoff).unwrap_or(0).max(1),
            limit: if timers.state == State::SYN_SENT {
                Some(model(timers.syn_retries, SYN_TIMEOUT, longest))
            } else {
                (!timers.orphan).then(|| model(timers.retries2, RTO_MIN, longest))
            },
            since_first_retransmission: timers
                .since_first_retransmission
                .map(|since| Stopwatch::started(&clock, since)),
        };
        let mut next = None;
        match (timers.moment, timers.pending) {
            (Moment::InRetransmissionTimeout, _) => episode.rearm(),
            (Moment::InTailLossProbe, _) => episode.clock.arm(rto),
            (Moment::InHeadRetransmission, _) => {
                episode.note_retransmission();
                episode.clock.arm(rto);
            }
            (Moment::AtRest, Some(Pending::Retransmit)) => episode.clock.wait(timers.timer_in?),
            // Once the loss probe is out, the kernel arms the RTO at its full length.
            (Moment::AtRest, Some(Pending::LossProbe)) => {
                episode.clock.wait(timers.timer_in?);
                next = Some(episode.clock.elapsed());
                episode.clock.arm(rto);
            }
            // What was held back for reordering is taken for lost and resent, the first segment among it.
            (Moment::AtRest, Some(Pending::ReorderTimeout)) => {
                episode.clock.wait(timers.timer_in?);
                next = Some(episode.clock.elapsed());
                episode.note_retransmission();
                episode.clock.arm(rto);
            }
            (Moment::AtRest, Some(Pending::Probe) | None) => return None,
        }
        Some((next.unwrap_or_else(|| episode.clock.elapsed()), episode))
    }

    fn is_over(&self) -> bool {
        if self.probes_closed_window() {
            return self.closed_window_timed_out();
        }
        let timers = self.timers;
        let tries = timers.syn_retries.saturating_add(timers.syn_linear_timeouts);
        if timers.state == State::SYN_SENT && self.retransmits >= tries {
            return true;
        }
        let limit = timers.user_timeout().or(self.limit).unwrap_or_else(|| {
            let retries = timers.orphan_limit(self.rto < self.rto_max);
            model(retries, RTO_MIN, timers.jiffies.duration(self.rto_max))
        });
        let has_passed = match self.since_first_retransmission {
            Some(stopwatch) => stopwatch.has_reached(limit, &self.clock),
            None => limit.is_zero(),
        };
        self.retransmits > 0 && has_passed
    }

    fn retransmit(&mut self) {
        if !self.probes_closed_window() {
            self.retransmits += 1;
        }
        self.note_retransmission();
        self.rearm();
    }

    /// Backs off and arms the timer again, after a retransmission by time-out.
    fn rearm(&mut self) {
        let timers = self.timers;
        self.note_retransmission();
        let thin = timers.thin_linear && self.retransmits <= THIN_LINEAR_RETRIES;
        if timers.state == State::ESTABLISHED && thin {
            self.rto = self.rto_without_backoff.min(self.rto_max);
        } else if timers.state != State::SYN_SENT || self.retransmits > timers.syn_linear_timeouts {
            self.rto = (self.rto * 2).min(self.rto_max);
        }
        // The user timeout draws the next time-out near, so that it is met to a tick.
        let delay = timers.user_timeout().map_or(self.rto, |timeout| {
            let left = timeout.saturating_sub(self.retransmitting_for());
            self.rto.min(timers.jiffies.ticks_up(left)).max(1)
        });
        self.clock.arm(delay);
    }

    /// Data in flight meets a closed window: retransmissions serve as probes and are not counted.
    fn probes_closed_window(&self) -> bool {
        self.timers.window_closed && !self.timers.orphan && self.timers.state != State::SYN_SENT
    }

    fn closed_window_timed_out(&self) -> bool {
        let timers = self.timers;
        // Before the first retransmission the kernel counts from when the segment was sent, which is an RTO ago.
        let retransmitting = match self.since_first_retransmission {
            Some(stopwatch) => stopwatch.elapsed(&self.clock),
            None => timers.jiffies.duration(self.rto),
        };
        let user_timeout = timers.user_timeout();
        if user_timeout.is_some_and(|timeout| retransmitting > timeout) {
            return true;
        }
        let longest = timers.jiffies.duration(self.rto_max.saturating_mul(2));
        let limit = user_timeout.map_or(longest, |timeout| longest.min(timeout));
        let silent = timers.since_received.map(|since| since.saturating_add(self.clock.elapsed()));
        silent.is_some_and(|silent| silent > limit) && retransmitting > limit
    }

    fn note_retransmission(&mut self) {
        let clock = &self.clock;
        self.since_first_retransmission.get_or_insert_with(|| Stopwatch::started(clock, Duration::ZERO));
    }

    fn retransmitting_for(&self) -> Duration {
        self.since_first_retransmission.map_or(Duration::ZERO, |stopwatch| stopwatch.elapsed(&self.clock))
    }
}

/// How long `retries` retransmissions take that back off from `base` to `rto_max`: the kernel's limits are times, not counts.
fn model(retries: u32, base: Duration, rto_max: Duration) -> Duration {
    let doublings = (nanoseconds(rto_max) / nanoseconds(base)).checked_ilog2().unwrap_or(0);
    let backing_off = base.saturating_mul((2 << retries.min(doublings)) - 1);
    backing_off.saturating_add(rto_max.saturating_mul(retries.saturating_sub(doublings)))
}
