//! The persist timer: in charge while data waits to be sent and nothing is in flight, most often for a closed window.
//!
//! Source: `tcp_probe_timer` and `tcp_clamp_probe0_to_user_timeout` in `net/ipv4/tcp_timer.c`, `tcp_send_probe0` in
//! `net/ipv4/tcp_output.c`, `tcp_probe0_when` in `include/net/tcp.h`.

use std::time::Duration;

use super::{Clock, Forecast, MAX_FIRINGS, Moment, Peer, Pending, RTO_MIN, Stopwatch, Timers};

/// A peer answers no sooner than this after its last answer (`tcp_invalid_ratelimit`), and the first probes come faster.
const ANSWERS_APART: Duration = Duration::from_millis(500);

/// The interval doubles no more than this often: `ilog2(TCP_RTO_MAX / TCP_RTO_MIN) + 1`.
const MAX_DOUBLINGS: u32 = 10;

/// `TCP_TIMEOUT_MIN`, the shortest that a probe is put off, in ticks.
const SHORTEST_DELAY: u64 = 2;

pub(super) fn forecast(timers: &Timers, peer: Peer) -> Forecast {
    let (Moment::AtRest, Some(Pending::Probe), Some(timer_in)) =
        (timers.moment, timers.pending, timers.timer_in)
    else {
        return Forecast::default();
    };
    let mut probing = Probing::new(timers);
    probing.is_answered &= peer == Peer::AsBefore;
    probing.clock.wait(timer_in);
    let next = Some(probing.clock.elapsed());
    if probing.is_answered && !timers.orphan && timers.user_timeout().is_none() {
        return Forecast { next, gives_up_in: None };
    }
    for _ in 0..MAX_FIRINGS {
        if probing.is_over() {
            return Forecast { next, gives_up_in: Some(probing.clock.elapsed()) };
        }
        probing.probe();
    }
    Forecast { next, gives_up_in: None }
}

/// A run of probes, from one firing of the persist timer to the next.
struct Probing<'a> {
    timers: &'a Timers,
    clock: Clock,
    probes_out: u32,
    backoff: u32,
    rto: u64,
    rto_max: u64,
    is_answered: bool,
    since_first_probe: Option<Stopwatch>,
}

impl<'a> Probing<'a> {
    fn new(timers: &'a Timers) -> Self {
        let clock = Clock::start(timers);
        let mut probing = Self {
            timers,
            clock,
            probes_out: timers.probes_out,
            backoff: timers.backoff,
            rto: timers.jiffies.ticks(timers.rto).max(1),
            rto_max: timers.jiffies.ticks(timers.rto_max).max(1),
            is_answered: false,
            since_first_probe: timers.since_first_probe.map(|since| Stopwatch::started(&clock, since)),
        };
        // The back-off counts every probe, an answer takes back the count of those that went without one. The last one
        // may have gone out just now, and the one before it be unanswered for having come too fast after its predecessor.
        let apart = timers.jiffies.duration(probing.interval(timers.backoff.saturating_sub(2)));
        let by_the_living = if apart > ANSWERS_APART { 1 } else { 2 };
        probing.is_answered = timers.probes_out <= by_the_living && timers.backoff > timers.probes_out;
        probing
    }

    /// Notes the time of the first probe, as the kernel does before it looks at its limits.
    fn is_over(&mut self) -> bool {
        let timers = self.timers;
        if let Some(stopwatch) = self.since_first_probe {
            let probing = stopwatch.elapsed(&self.clock);
            if timers.user_timeout().is_some_and(|timeout| probing >= timeout) {
                return true;
            }
        } else {
            self.since_first_probe = Some(Stopwatch::started(&self.clock, Duration::ZERO));
        }
        if !timers.orphan {
            return self.probes_out >= timers.retries2;
        }
        let alive = doubled(self.rto, self.backoff) < self.rto_max;
        let limit = timers.orphan_limit(alive);
        self.probes_out >= limit || (!alive && self.backoff >= limit)
    }

    fn probe(&mut self) {
        let timers = self.timers;
        if !self.is_answered {
            self.probes_out += 1;
        }
        if self.backoff < timers.retries2 {
            self.backoff += 1;
        }
        let delay = self.interval(self.backoff);
        let delay = match (timers.user_timeout(), self.since_first_probe) {
            (Some(timeout), Some(stopwatch)) => {
                let left = timeout.saturating_sub(stopwatch.elapsed(&self.clock));
                delay.min(timers.jiffies.ticks_up(left).max(SHORTEST_DELAY))
            }
            _ => delay,
        };
        self.clock.arm(delay);
    }

    fn interval(&self, backoff: u32) -> u64 {
        let base = self.rto.max(self.timers.jiffies.ticks(RTO_MIN));
        doubled(base, backoff.min(MAX_DOUBLINGS)).min(self.rto_max)
    }
}

fn doubled(ticks: u64, times: u32) -> u64 {
    // Ticks are below 2³², so that no more doublings than this fit.
    ticks << times.min(31)
}
