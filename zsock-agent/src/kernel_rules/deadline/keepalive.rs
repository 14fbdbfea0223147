//! The keepalive timer: in charge while nothing is in flight and nothing waits to be sent.
//!
//! Source: `tcp_keepalive_timer` in `net/ipv4/tcp_timer.c`.

use super::{Clock, Forecast, MAX_FIRINGS, Timers};
use crate::record::State;

pub(super) fn forecast(timers: &Timers) -> Forecast {
    let (true, Some(timer_in)) = (timers.keepalive_enabled, timers.keepalive_timer_in) else {
        return Forecast::default();
    };
    let Some(since_received) = timers.since_received else { return Forecast::default() };
    if timers.state == State::SYN_SENT {
        return Forecast::default();
    }
    let jiffies = timers.jiffies;
    let idle = jiffies.ticks(timers.keepalive_idle);
    let interval = jiffies.ticks(timers.keepalive_interval).max(1);
    let mut clock = Clock::start(timers);
    let silent_before = jiffies.ticks(since_received);
    let mut probes_out = timers.probes_out;
    let mut next = None;
    clock.wait(timer_in);
    for _ in 0..MAX_FIRINGS {
        let silent = silent_before + (clock.at - clock.start);
        if silent < idle {
            clock.arm(idle - silent);
            continue;
        }
        next = next.or(Some(clock.elapsed()));
        // With a user timeout the number of probes no longer matters, in either direction.
        let is_over = match timers.user_timeout() {
            Some(timeout) => probes_out > 0 && silent >= jiffies.ticks_up(timeout),
            None => probes_out >= timers.keepalive_probes,
        };
        if is_over {
            return Forecast { next, gives_up_in: Some(clock.elapsed()) };
        }
        probes_out += 1;
        clock.arm(interval);
    }
    Forecast { next, gives_up_in: None }
}
