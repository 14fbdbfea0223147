//! What can be asked of a socket's keepalive: in which order it is set, what it comes to, and which traps lie in it.
//!
//! Does no I/O.

use std::time::Duration;

use crate::record::{KeepaliveSettings, Standing, Tcp};
use crate::sink::duration;
use crate::time::milliseconds;

/// The settings that are asked for; what is `None` is not touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `SO_KEEPALIVE`.
    pub enabled: Option<bool>,
    /// `TCP_KEEPIDLE`.
    pub idle: Option<Duration>,
    /// `TCP_KEEPINTVL`.
    pub interval: Option<Duration>,
    /// `TCP_KEEPCNT`.
    pub probes: Option<u32>,
    /// `TCP_USER_TIMEOUT`; 0 takes it away.
    pub user_timeout_ms: Option<u32>,
}

/// One option with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `SO_KEEPALIVE`.
    Enabled(bool),
    /// `TCP_KEEPIDLE`.
    Idle(Duration),
    /// `TCP_KEEPINTVL`.
    Interval(Duration),
    /// `TCP_KEEPCNT`.
    Probes(u32),
    /// `TCP_USER_TIMEOUT`, milliseconds.
    UserTimeout(u32),
}

impl Asked {
    /// The options in the order in which they are to be set.
    ///
    /// `SO_KEEPALIVE` arms the timer with the idle time that holds then, counted from now; `TCP_KEEPIDLE` arms it anew by the time that the
    /// peer has been silent for already, so it comes after. That may be at once, and the timer goes on by what holds when it fires, so it
    /// comes last.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        [
            self.user_timeout_ms.map(Setting::UserTimeout),
            self.interval.map(Setting::Interval),
            self.probes.map(Setting::Probes),
            self.enabled.map(Setting::Enabled),
            self.idle.map(Setting::Idle),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What a socket that stands so comes to.
    #[must_use]
    pub fn over(&self, before: &Standing) -> Standing {
        let keepalive = before.keepalive.map(|before| KeepaliveSettings {
            enabled: self.enabled.unwrap_or(before.enabled),
            idle_ms: self.idle.map_or(before.idle_ms, milliseconds),
            interval_ms: self.interval.map_or(before.interval_ms, milliseconds),
            probes: self.probes.unwrap_or(before.probes),
        });
        let user_timeout_ms = match self.user_timeout_ms {
            None => before.user_timeout_ms,
            Some(ms) => Some(u64::from(ms)).filter(|ms| *ms > 0),
        };
        Standing { keepalive, user_timeout_ms, ..*before }
    }

    /// What whoever asks for this of a socket may not have thought of, by how it then stands and stood with TCP before.
    #[must_use]
    pub fn traps(&self, after: &Standing, tcp: &Tcp) -> Vec<String> {
        let enabled = after.keepalive.filter(|keepalive| keepalive.enabled);
        let overridden = enabled.zip(after.user_timeout_ms);
        let asked_timeout = self.user_timeout_ms.filter(|ms| *ms > 0).map(u64::from);
        let is_in_flight = [tcp.unacked_bytes, tcp.unsent_bytes].iter().flatten().any(|bytes| *bytes > 0);
        [
            overridden.and_then(|(keepalive, user_timeout_ms)| override_of(keepalive, user_timeout_ms)),
            asked_timeout.map(closed_window),
            (enabled.is_some() && is_in_flight).then(|| in_flight(after.user_timeout_ms, tcp)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// A user timeout takes the place of the number of probes, in either direction. It is looked at when a probe is due and at least one went
/// unanswered.
fn override_of(keepalive: KeepaliveSettings, user_timeout_ms: u64) -> Option<String> {
    let KeepaliveSettings { idle_ms, interval_ms, probes, .. } = keepalive;
    let budget_ms = idle_ms.saturating_add(interval_ms.saturating_mul(probes.into()));
    let rounds = user_timeout_ms.saturating_sub(idle_ms).div_ceil(interval_ms.max(1)).max(1);
    let noticed_ms = idle_ms.saturating_add(interval_ms.saturating_mul(rounds));
    let is_below = user_timeout_ms < budget_ms;
    if !is_below && noticed_ms == budget_ms {
        return None;
    }
    let (timeout, idle) = (say(user_timeout_ms), say(idle_ms));
    let (than, interval) = (if is_below { "below" } else { "above" }, say(interval_ms));
    Some(format!(
        "the user timeout of {timeout} is {than} the {} of keepalive (idle {idle}, then {probes} probes every {interval}) and overrides the \
         number of probes: a silent peer is given up after {}",
        say(budget_ms),
        say(noticed_ms)
    ))
}

fn closed_window(user_timeout_ms: u64) -> String {
    format!(
        "the user timeout also ends a connection whose peer is alive and answers, but keeps its window closed for {}",
        say(user_timeout_ms)
    )
}

fn in_flight(user_timeout_ms: Option<u64>, tcp: &Tcp) -> String {
    let end = match user_timeout_ms {
        None if tcp.send_window_bytes == Some(0) => {
            "nothing ends the connection as long as the peer answers and keeps its window closed; --user-timeout bounds that".to_owned()
        }
        Some(ms) => format!("the user timeout of {} ends the connection", say(ms)),
        None => "retransmissions end the connection, by the kernel's defaults after 15 minutes; --user-timeout shortens that".to_owned(),
    };
    format!(
        "data is in flight or waits to be sent: until it is acknowledged keepalive does nothing, and {end}"
    )
}

/// What the kernel kept in place of what was asked for.
#[must_use]
pub fn kept_otherwise(expected: &Standing, after: &Standing) -> Vec<String> {
    fn differing<T: PartialEq>(
        name: &str,
        asked: Option<T>,
        kept: Option<T>,
        say: fn(T) -> String,
    ) -> Option<String> {
        if asked == kept {
            return None;
        }
        let [asked, kept] = [asked, kept].map(|value| value.map_or_else(|| "none".to_owned(), say));
        Some(format!("{name} {asked} was asked for, and the kernel kept {kept}"))
    }
    fn both<T>(standings: [&Standing; 2], value: fn(KeepaliveSettings) -> T) -> [Option<T>; 2] {
        standings.map(|standing| standing.keepalive.map(value))
    }
    let standings = [expected, after];
    let [asked_on, kept_on] = both(standings, |it| it.enabled);
    let [asked_idle, kept_idle] = both(standings, |it| it.idle_ms);
    let [asked_interval, kept_interval] = both(standings, |it| it.interval_ms);
    let [asked_probes, kept_probes] = both(standings, |it| it.probes);
    [
        differing("keepalive", asked_on, kept_on, |on| if on { "on" } else { "off" }.to_owned()),
        differing("idle", asked_idle, kept_idle, say),
        differing("interval", asked_interval, kept_interval, say),
        differing("probes", asked_probes, kept_probes, |probes| probes.to_string()),
        differing("user timeout", expected.user_timeout_ms, after.user_timeout_ms, say),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn say(ms: u64) -> String {
    duration(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn standing(enabled: bool, idle_s: u64, interval_s: u64, probes: u32, user_timeout_ms: u64) -> Standing {
        let keepalive =
            KeepaliveSettings { enabled, idle_ms: idle_s * 1000, interval_ms: interval_s * 1000, probes };
        Standing {
            state: None,
            keepalive: Some(keepalive),
            user_timeout_ms: Some(user_timeout_ms).filter(|ms| *ms > 0),
        }
    }

    #[test]
    fn keepalive_is_turned_on_before_its_idle_time_is_set_and_that_comes_last() {
        let all = Asked {
            enabled: Some(true),
            idle: Some(seconds(60)),
            interval: Some(seconds(10)),
            probes: Some(6),
            user_timeout_ms: Some(30_000),
        };
        let expected = [
            Setting::UserTimeout(30_000),
            Setting::Interval(seconds(10)),
            Setting::Probes(6),
            Setting::Enabled(true),
            Setting::Idle(seconds(60)),
        ];
        assert_eq!(all.settings(), expected);
        let off = Asked { enabled: Some(false), ..Asked::default() };
        assert_eq!(off.settings(), [Setting::Enabled(false)]);
        assert_eq!(Asked::default().settings(), []);
    }

    #[test]
    fn what_is_not_asked_for_stays() {
        let before = standing(false, 7200, 75, 9, 500);
        let asked = Asked { enabled: Some(true), probes: Some(3), ..Asked::default() };
        assert_eq!(asked.over(&before), standing(true, 7200, 75, 3, 500));
        assert_eq!(
            Asked { user_timeout_ms: Some(0), ..Asked::default() }.over(&before),
            standing(false, 7200, 75, 9, 0)
        );
        assert_eq!(Asked { idle: Some(seconds(1)), ..asked }.over(&Standing::default()), Standing::default());
    }

    /// What is warned of when this socket was asked to be as it is.
    fn traps(after: &Standing, asked_timeout: bool, unacked_bytes: u64) -> Vec<String> {
        let user_timeout_ms =
            after.user_timeout_ms.filter(|_| asked_timeout).and_then(|ms| u32::try_from(ms).ok());
        let tcp = Tcp { unacked_bytes: Some(unacked_bytes), unsent_bytes: Some(0), ..Tcp::default() };
        Asked { enabled: Some(true), user_timeout_ms, ..Asked::default() }.traps(after, &tcp)
    }

    #[test]
    fn a_user_timeout_overrides_the_probes_in_either_direction() {
        let overridden = |user_timeout_ms| traps(&standing(true, 60, 10, 6, user_timeout_ms), false, 0);
        assert_eq!(
            overridden(30_000),
            [
                "the user timeout of 30 s is below the 2 min of keepalive (idle 1 min, then 6 probes every 10 s) and overrides the number of \
              probes: a silent peer is given up after 1 min 10 s"
            ]
        );
        assert!(overridden(95_000)[0].ends_with("a silent peer is given up after 1 min 40 s"));
        assert!(
            overridden(300_000)[0].starts_with("the user timeout of 5 min is above the 2 min of keepalive")
        );
        assert!(overridden(300_000)[0].ends_with("a silent peer is given up after 5 min"));
        assert_eq!(overridden(120_000), Vec::<String>::new());
        assert_eq!(traps(&standing(false, 60, 10, 6, 30_000), false, 0), Vec::<String>::new());
    }

    #[test]
    fn a_user_timeout_that_is_asked_for_ends_connections_with_a_closed_window() {
        let expected = "the user timeout also ends a connection whose peer is alive and answers, but keeps its window closed for 2 min";
        assert_eq!(traps(&standing(true, 60, 10, 6, 120_000), true, 0), [expected]);
    }

    #[test]
    fn while_data_is_in_flight_keepalive_does_nothing() {
        let warned = traps(&standing(true, 60, 10, 6, 0), false, 1);
        assert!(warned.len() == 1 && warned[0].contains("retransmissions end the connection"), "{warned:?}");
        let closed = Tcp { unsent_bytes: Some(1), send_window_bytes: Some(0), ..Tcp::default() };
        let warned = Asked::default().traps(&standing(true, 60, 10, 6, 0), &closed);
        assert!(
            warned.len() == 1
                && warned[0].contains("nothing ends the connection as long as the peer answers")
        );
        let warned = Asked::default().traps(&standing(true, 60, 10, 6, 300_000), &closed);
        assert!(warned[1].contains("the user timeout of 5 min ends the connection"), "{warned:?}");
        assert_eq!(traps(&standing(true, 60, 10, 6, 0), false, 0), Vec::<String>::new());
        assert_eq!(traps(&standing(false, 60, 10, 6, 0), false, 1), Vec::<String>::new());
    }

    #[test]
    fn what_the_kernel_kept_in_its_place_is_told() {
        let expected = standing(true, 60, 10, 6, 30_000);
        assert_eq!(kept_otherwise(&expected, &expected), Vec::<String>::new());
        assert_eq!(
            kept_otherwise(&expected, &standing(true, 61, 10, 6, 0)),
            [
                "idle 1 min was asked for, and the kernel kept 1 min 1 s",
                "user timeout 30 s was asked for, and the kernel kept none"
            ]
        );
    }
}
