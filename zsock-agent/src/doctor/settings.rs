//! What a network namespace's settings do to its zombies, by the kernel's own rules.
//!
//! How long timers take is what [`kernel_rules`](crate::kernel_rules) says of a connection to a host near by: none is given up sooner,
//! since the kernel waits for 200 ms at least, and one over a longer way later.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::detect::Thresholds;
use crate::detect::words::half_in_seconds;
use crate::kernel_rules::{Jiffies, Moment, Pending, Timers, forecast};
use crate::record::{SettingCheck, State};
use crate::sink::quantity::{count, duration};
use crate::source::sysctl::Settings;
use crate::time::milliseconds;

/// The rate at which most kernels tick. It matters little: a timer fires up to an eighth late at any.
const HZ: NonZeroU32 = NonZeroU32::new(250).expect("it is not zero");

/// The retransmission time-out towards a host near by: the least that the kernel takes, and a tick.
const RTO: Duration = Duration::from_millis(204);

/// `TCP_TIMEOUT_INIT`: the first time-out of a connection attempt.
const SYN_TIMEOUT: Duration = Duration::from_secs(1);

/// `TCP_RTO_MAX` in milliseconds, where there is no setting for it.
const RTO_MAX_MS: u32 = 120_000;

/// The kernel waits for the peer's FIN for at least 3.5 retransmission time-outs (`tcp_fin_time`).
const LEAST_FIN_WAIT: Duration = Duration::from_millis(714);

/// What takes longer than this to be noticed hangs.
const PATIENCE: Duration = Duration::from_mins(2);

/// What RFC 1122 wants a connection to bear (its R2).
const RFC_1122: Duration = Duration::from_secs(100);

/// The kernel keeps numbers of retries in a byte.
const MAX_RETRIES: u32 = 255;

/// By the kernel's default a connection attempt takes two minutes and seven seconds at most.
const LONG_ATTEMPT: Duration = Duration::from_secs(150);

/// So long keepalive may go on to ask a peer that was silent at the first time.
const ASKING: u32 = 60;

/// With fewer probes a little loss on the way ends connections whose peer is alive.
const FEW_PROBES: u32 = 3;

/// A listener of a busy server is full with less; the other is the kernel's default from 5.4 on.
const SMALL_QUEUE: u32 = 1024;
const USUAL_QUEUE: u32 = 4096;

/// What follows from a setting.
#[derive(Default)]
struct Judgement {
    consequence: Option<String>,
    after: Option<Duration>,
    /// The value that it had better have.
    better: Option<u32>,
}

type Rule = fn(u32, &Values<'_>) -> Judgement;

/// The rule for each setting.
const RULES: [(&str, Rule); 11] = [
    ("net.ipv4.tcp_keepalive_time", keepalive_time),
    ("net.ipv4.tcp_keepalive_intvl", keepalive_interval),
    ("net.ipv4.tcp_keepalive_probes", keepalive_probes),
    ("net.ipv4.tcp_retries2", retries2),
    ("net.ipv4.tcp_retries1", retries1),
    ("net.ipv4.tcp_rto_max_ms", rto_max),
    ("net.ipv4.tcp_orphan_retries", orphan_retries),
    ("net.ipv4.tcp_fin_timeout", fin_timeout),
    ("net.ipv4.tcp_syn_retries", syn_retries),
    ("net.ipv4.tcp_syn_linear_timeouts", syn_linear_timeouts),
    ("net.core.somaxconn", somaxconn),
];

/// Judges every setting whose value is known.
#[must_use]
pub fn judge(settings: &Settings) -> Vec<SettingCheck> {
    let values = Values(settings);
    let check = |(name, rule): &(&'static str, Rule)| {
        let value = values.get(name)?;
        let Judgement { consequence, after, better } = rule(value, &values);
        let change = better.map(|better| format!("sysctl -w {name}={better}"));
        Some(SettingCheck { name, value, consequence, after_ms: after.map(milliseconds), change })
    };
    RULES.iter().filter_map(check).collect()
}

fn keepalive_time(value: u32, values: &Values<'_>) -> Judgement {
    let idle = seconds(value);
    let budget = values.keepalive_budget();
    let told = |(budget, probes)| match probes {
        0 => format!("a socket with keepalive is given up after {} of silence, unasked", duration(idle)),
        _ => format!(
            "a socket with keepalive asks its silent peer for the first time after {}, and notices after {} that it is dead",
            duration(idle),
            duration(idle + budget)
        ),
    };
    let forgets = Thresholds::default().assumed_idle_timeout;
    Judgement {
        consequence: budget.map(told),
        after: budget.map(|(budget, _)| idle + budget),
        better: (idle > forgets).then(|| u32::try_from(half_in_seconds(forgets)).unwrap_or(u32::MAX)),
    }
}

fn keepalive_interval(value: u32, values: &Values<'_>) -> Judgement {
    let budget = values.keepalive_budget().filter(|(_, probes)| *probes > 0);
    let told = |(budget, _)| {
        format!(
            "a peer that does not answer keepalive is asked again every {}, and given up {} after the first time",
            duration(seconds(value)),
            duration(budget)
        )
    };
    Judgement {
        consequence: budget.map(told),
        after: budget.map(|(budget, _)| budget),
        better: budget
            .filter(|(budget, _)| *budget > PATIENCE)
            .map(|(_, probes)| (ASKING / probes).max(1))
            .filter(|better| *better < value),
    }
}

fn keepalive_probes(value: u32, _: &Values<'_>) -> Judgement {
    let consequence = match value {
        0 => "keepalive asks nobody: it ends connections that are merely idle".to_owned(),
        1..FEW_PROBES => format!(
            "a connection ends after {} without an answer: a little loss on the way ends one whose peer is alive",
            count(value.into(), "keepalive probe")
        ),
        _ => format!("a connection ends after {value} keepalive probes in a row without an answer"),
    };
    // The kernel's default.
    Judgement { consequence: Some(consequence), after: None, better: (value < FEW_PROBES).then_some(9) }
}

fn retries2(value: u32, values: &Values<'_>) -> Judgement {
    let hangs = values.request(value);
    let told = |hangs| {
        let short = if hangs < RFC_1122 {
            "; RFC 1122 asks for 100 s, so that a short outage ends no connection"
        } else {
            ""
        };
        format!("a request written to a dead peer hangs for about {}{short}", duration(hangs))
    };
    Judgement {
        consequence: hangs.map(told),
        after: hangs,
        better: hangs
            .filter(|hangs| *hangs > PATIENCE)
            .and_then(|_| values.least_retries())
            .filter(|better| *better < value),
    }
}

/// The kernel models this limit as it does that of `tcp_retries2`.
fn retries1(value: u32, values: &Values<'_>) -> Judgement {
    let tries = values.request(value);
    let told = |tries| {
        format!(
            "the kernel looks for another route after about {} without an acknowledgement",
            duration(tries)
        )
    };
    Judgement { consequence: tries.map(told), after: tries, better: None }
}

fn rto_max(value: u32, _: &Values<'_>) -> Judgement {
    let apart = Duration::from_millis(value.into());
    let consequence =
        format!("what a silent peer does not acknowledge is sent again every {} at least", duration(apart));
    Judgement { consequence: Some(consequence), after: Some(apart), better: None }
}

fn orphan_retries(value: u32, values: &Values<'_>) -> Judgement {
    let stays = values.in_flight(|timers| {
        timers.state = State::FIN_WAIT1;
        timers.orphan = true;
        timers.orphan_retries = value;
    });
    let told = |stays| {
        let default = if value == 0 { " (the kernel takes 0 for 8)" } else { "" };
        format!("a connection closed while its peer is dead stays for about {}{default}", duration(stays))
    };
    Judgement {
        consequence: stays.map(told),
        after: stays,
        better: stays.filter(|stays| value > 0 && *stays > PATIENCE).map(|_| 0),
    }
}

fn fin_timeout(value: u32, _: &Values<'_>) -> Judgement {
    let stays = seconds(value).max(LEAST_FIN_WAIT);
    let consequence = format!(
        "a closed connection whose peer never closes its end stays in FIN_WAIT2 for {}",
        duration(stays)
    );
    // The kernel's default.
    Judgement { consequence: Some(consequence), after: Some(stays), better: (value > 60).then_some(60) }
}

fn syn_retries(value: u32, values: &Values<'_>) -> Judgement {
    let linear = values.get_or("net.ipv4.tcp_syn_linear_timeouts", 0);
    let fails = linear.and_then(|linear| {
        values.in_flight(|timers| {
            timers.state = State::SYN_SENT;
            timers.rto = SYN_TIMEOUT;
            timers.since_first_retransmission = Some(Duration::ZERO);
            timers.syn_retries = value;
            timers.syn_linear_timeouts = linear;
        })
    });
    let told = |fails| {
        format!("a connection attempt to a host that is silent fails after about {}", duration(fails))
    };
    Judgement {
        consequence: fails.map(told),
        after: fails,
        // The kernel's default.
        better: fails.filter(|fails| *fails > LONG_ATTEMPT).map(|_| 6).filter(|better| *better < value),
    }
}

fn syn_linear_timeouts(value: u32, _: &Values<'_>) -> Judgement {
    let consequence = match value {
        0 => "the waits between a connection attempt's SYNs double from the first on".to_owned(),
        _ => format!(
            "the first {} of a connection attempt come a second apart",
            count(value.into(), "repetition")
        ),
    };
    Judgement { consequence: Some(consequence), ..Judgement::default() }
}

fn somaxconn(value: u32, _: &Values<'_>) -> Judgement {
    let consequence = format!(
        "a listener's backlog is {value} at most, whatever its process asks for; when full, it drops SYNs"
    );
    let better = (value < SMALL_QUEUE).then_some(USUAL_QUEUE);
    Judgement { consequence: Some(consequence), after: None, better }
}

fn seconds(value: u32) -> Duration {
    Duration::from_secs(value.into())
}

/// The values that are known.
struct Values<'a>(&'a Settings);

impl Values<'_> {
    fn get(&self, name: &str) -> Option<u32> {
        self.0.get(name)?.as_ref().ok().copied()
    }

    /// The value, or what kernels do that have no such setting.
    fn get_or(&self, name: &str, without: u32) -> Option<u32> {
        self.0.get(name).map_or(Some(without), |value| value.as_ref().ok().copied())
    }

    /// How long keepalive goes on to ask after the first time, and how often it asks.
    fn keepalive_budget(&self) -> Option<(Duration, u32)> {
        let interval = seconds(self.get("net.ipv4.tcp_keepalive_intvl")?);
        let probes = self.get("net.ipv4.tcp_keepalive_probes")?;
        Some((interval.saturating_mul(probes), probes))
    }

    /// How long after it was sent the kernel gives up on what nobody acknowledges, on a connection that `set` describes.
    fn in_flight(&self, set: impl FnOnce(&mut Timers)) -> Option<Duration> {
        let rto_max_ms = self.get_or("net.ipv4.tcp_rto_max_ms", RTO_MAX_MS)?;
        let mut timers = just_sent(Duration::from_millis(rto_max_ms.into()));
        set(&mut timers);
        let ticks = timers.jiffies.at_least(timers.rto);
        timers.timer_in = Some(timers.jiffies.until_armed_fires(timers.now, ticks));
        forecast(&timers).gives_up_in
    }

    /// The same of a request on an established connection with so many retries. What the kernel sends first, after as long as the time-out, is a
    /// loss probe.
    fn request(&self, retries: u32) -> Option<Duration> {
        self.in_flight(|timers| {
            timers.pending = Some(Pending::LossProbe);
            timers.retries2 = retries;
        })
    }

    /// The least retries with which the kernel waits for a request's acknowledgement as long as RFC 1122 wants: 8 by its default bound of
    /// the time-out, more where that is lower.
    fn least_retries(&self) -> Option<u32> {
        (1..=MAX_RETRIES).find(|retries| self.request(*retries).is_some_and(|hangs| hangs >= RFC_1122))
    }
}

/// A connection whose peer dies just as something is sent to it.
fn just_sent(rto_max: Duration) -> Timers {
    Timers {
        jiffies: Jiffies::new(HZ),
        now: 0,
        moment: Moment::AtRest,
        state: State::ESTABLISHED,
        orphan: false,
        in_flight: true,
        unsent: false,
        window_closed: false,
        retransmits: 0,
        backoff: 0,
        probes_out: 0,
        rto: RTO,
        rto_max,
        pending: Some(Pending::Retransmit),
        timer_in: None,
        keepalive_timer_in: None,
        since_first_retransmission: None,
        since_first_probe: None,
        since_received: Some(Duration::ZERO),
        keepalive_enabled: false,
        keepalive_idle: Duration::ZERO,
        keepalive_interval: Duration::ZERO,
        keepalive_probes: 0,
        user_timeout: None,
        retries2: 0,
        orphan_retries: 0,
        syn_retries: 0,
        syn_linear_timeouts: 0,
        soft_error: false,
        thin_linear: false,
    }
}

#[cfg(test)]
mod tests;
