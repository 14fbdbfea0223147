//! The thresholds of the verdicts and how they are written: `stuck_retransmission=5`, `stale_reset=2s`.
//!
//! Each default stands, with its reason, in its verdict's own file.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::{
    app_silence, close_wait_leak, connect_blackhole, fd_pressure, idle_timeout_inferred,
    keepalive_unanswered, orphan_stuck, receiver_stall, stale_reset, stuck_retransmission, unguarded_idle,
    zero_window_stall,
};
use crate::record::VerdictName;
use crate::time::{milliseconds, parse_duration};

/// From where on each verdict holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// SYNs sent again without an answer.
    pub connect_blackhole: u32,
    /// Time-outs in a row without ACK progress.
    pub stuck_retransmission: u32,
    /// Keepalive probes sent without an answer, the last one included.
    pub keepalive_unanswered: u32,
    /// Without a segment from the peer before what was answered by a reset was sent.
    pub stale_reset: Duration,
    /// Time-outs, or probes of an open window, in a row without ACK progress.
    pub orphan_stuck: u32,
    /// Persist probes, or time-outs under a closed window, in a row.
    pub zero_window_stall: u32,
    /// Data stays unread.
    pub receiver_stall: Duration,
    /// A request stays without an answer.
    pub app_silence: Duration,
    /// In `CLOSE_WAIT` without data sent or read.
    pub close_wait_leak: Duration,
    /// Without a segment in either direction.
    pub unguarded_idle: Duration,
    /// Share of its descriptors that a process uses, percent.
    pub fd_pressure_percent: u32,
    /// Deaths after idling towards one destination.
    pub idle_timeout_inferred: u32,
    /// After how long without a segment something on the path is assumed to forget a connection; a first keepalive probe before
    /// that guards it. No verdict's threshold: `--assume-idle-timeout`.
    pub assumed_idle_timeout: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            connect_blackhole: connect_blackhole::SYNS,
            stuck_retransmission: stuck_retransmission::TIMEOUTS,
            keepalive_unanswered: keepalive_unanswered::PROBES,
            stale_reset: stale_reset::IDLE,
            orphan_stuck: orphan_stuck::ATTEMPTS,
            zero_window_stall: zero_window_stall::PROBES,
            receiver_stall: receiver_stall::UNREAD,
            app_silence: app_silence::WAITING,
            close_wait_leak: close_wait_leak::HALF_CLOSED,
            unguarded_idle: unguarded_idle::IDLE,
            fd_pressure_percent: fd_pressure::PERCENT,
            idle_timeout_inferred: idle_timeout_inferred::DEATHS,
            assumed_idle_timeout: unguarded_idle::ASSUMED_IDLE_TIMEOUT,
        }
    }
}

/// Why a threshold cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// There is no `=` in it.
    #[error("threshold {0:?} is not of the form VERDICT=VALUE; write, for instance, stuck_retransmission=5")]
    Shape(String),
    /// No verdict has this name.
    #[error("no verdict is called {name:?}; those with a threshold are {known}")]
    Unknown {
        /// As it was written.
        name: String,
        /// Those that exist, comma-separated.
        known: String,
    },
    /// The verdict has none to set.
    #[error("{0} has no threshold: {1}")]
    None(VerdictName, &'static str),
    /// The value is no percentage from 1 to 100.
    #[error("{verdict} takes a percentage from 1% to 100%; {value:?} is none")]
    Percent {
        /// Whose threshold.
        verdict: VerdictName,
        /// As it was written.
        value: String,
    },
    /// The value is no count, or one below the least that makes sense.
    #[error("{verdict} takes a count, a whole number of at least {least}; {value:?} is none")]
    Count {
        /// Whose threshold.
        verdict: VerdictName,
        /// As it was written.
        value: String,
        /// The least that makes sense.
        least: u32,
    },
    /// The value is no duration, or zero.
    #[error("{verdict} takes a duration; {value:?} is none: {rule}")]
    Duration {
        /// Whose threshold.
        verdict: VerdictName,
        /// As it was written.
        value: String,
        /// What a duration is.
        rule: &'static str,
    },
}

impl Thresholds {
    /// The defaults, but for these assignments, as the command line has them.
    ///
    /// # Errors
    /// Where one of them is wrong, as of [`Thresholds::set`].
    pub fn assigned(assignments: &[String], assumed_idle_timeout: Duration) -> Result<Self, ThresholdError> {
        let mut thresholds = Self { assumed_idle_timeout, ..Self::default() };
        assignments.iter().try_for_each(|assignment| thresholds.set(assignment))?;
        Ok(thresholds)
    }

    /// Sets one threshold from `VERDICT=VALUE`.
    ///
    /// # Errors
    /// Where the form, the name or the kind of the value is wrong; the error states the rule. Nothing is changed then.
    pub fn set(&mut self, assignment: &str) -> Result<(), ThresholdError> {
        let (name, value) =
            assignment.split_once('=').ok_or_else(|| ThresholdError::Shape(assignment.to_owned()))?;
        let verdict = VerdictName::from_name(name).ok_or_else(|| ThresholdError::Unknown {
            name: name.to_owned(),
            known: self.names().join(", "),
        })?;
        match self.knob(verdict).ok_or_else(|| ThresholdError::None(verdict, why_none(verdict)))? {
            Knob::Count { set, least } => {
                *set = value
                    .parse()
                    .ok()
                    .filter(|count| *count >= least)
                    .ok_or_else(|| ThresholdError::Count { verdict, value: value.to_owned(), least })?;
            }
            Knob::Percent(set) => {
                let percent = value.strip_suffix('%').and_then(|number| number.parse().ok());
                *set = percent
                    .filter(|percent| (1..=100).contains(percent))
                    .ok_or_else(|| ThresholdError::Percent { verdict, value: value.to_owned() })?;
            }
            Knob::Duration(set) => {
                *set = parse_duration(value).map_err(|rule| ThresholdError::Duration {
                    verdict,
                    value: value.to_owned(),
                    rule,
                })?;
            }
        }
        Ok(())
    }

    /// The thresholds in force as `start` tells them: counts by the verdict's name, durations by the name with `_ms`.
    #[must_use]
    pub fn settings(&self) -> BTreeMap<String, Value> {
        let mut copy = self.clone();
        let setting = |&verdict: &VerdictName| {
            Some(match copy.knob(verdict)? {
                Knob::Count { set, .. } => (verdict.to_string(), Value::from(*set)),
                Knob::Duration(set) => (format!("{verdict}_ms"), Value::from(milliseconds(*set))),
                Knob::Percent(set) => (format!("{verdict}_percent"), Value::from(*set)),
            })
        };
        let assumed = milliseconds(self.assumed_idle_timeout);
        VerdictName::ALL
            .iter()
            .filter_map(setting)
            .chain([("assume_idle_timeout_ms".to_owned(), Value::from(assumed))])
            .collect()
    }

    /// The thresholds that `start` told as [`Thresholds::settings`] does. What it did not tell, or what no value can be that is told, is as by
    /// default: other versions of zsock have other verdicts.
    #[must_use]
    pub fn of_settings(settings: &BTreeMap<String, Value>) -> Self {
        let mut thresholds = Self::default();
        for (name, value) in settings {
            let Some(number) = value.as_u64() else { continue };
            let duration = parse_duration(&format!("{number}ms"));
            if name == "assume_idle_timeout_ms" {
                thresholds.assumed_idle_timeout = duration.unwrap_or(thresholds.assumed_idle_timeout);
                continue;
            }
            let assignment = if let Some(verdict) = name.strip_suffix("_ms") {
                format!("{verdict}={number}ms")
            } else if let Some(verdict) = name.strip_suffix("_percent") {
                format!("{verdict}={number}%")
            } else {
                format!("{name}={number}")
            };
            // A refusal changes nothing.
            let _ = thresholds.set(&assignment);
        }
        thresholds
    }

    /// The names that can be set.
    fn names(&mut self) -> Vec<&'static str> {
        let settable = VerdictName::ALL.iter().filter(|&&verdict| self.knob(verdict).is_some());
        settable.map(|verdict| verdict.name()).collect()
    }

    fn knob(&mut self, verdict: VerdictName) -> Option<Knob<'_>> {
        Some(match verdict {
            VerdictName::ConnectBlackhole => Knob::Count { set: &mut self.connect_blackhole, least: 1 },
            VerdictName::StuckRetransmission => Knob::Count { set: &mut self.stuck_retransmission, least: 1 },
            // One probe is what every healthy idle connection sends.
            VerdictName::KeepaliveUnanswered => Knob::Count { set: &mut self.keepalive_unanswered, least: 2 },
            VerdictName::StaleReset => Knob::Duration(&mut self.stale_reset),
            VerdictName::OrphanStuck => Knob::Count { set: &mut self.orphan_stuck, least: 1 },
            VerdictName::ZeroWindowStall => Knob::Count { set: &mut self.zero_window_stall, least: 1 },
            VerdictName::ReceiverStall => Knob::Duration(&mut self.receiver_stall),
            VerdictName::AppSilence => Knob::Duration(&mut self.app_silence),
            VerdictName::CloseWaitLeak => Knob::Duration(&mut self.close_wait_leak),
            VerdictName::UnguardedIdle => Knob::Duration(&mut self.unguarded_idle),
            VerdictName::FdPressure => Knob::Percent(&mut self.fd_pressure_percent),
            // One death may have any reason.
            VerdictName::IdleTimeoutInferred => {
                Knob::Count { set: &mut self.idle_timeout_inferred, least: 2 }
            }
            VerdictName::SilentDeath | VerdictName::AcceptQueueFull => return None,
        })
    }
}

/// Why a verdict has no threshold.
const fn why_none(verdict: VerdictName) -> &'static str {
    if matches!(verdict, VerdictName::AcceptQueueFull) {
        "the kernel's own rule says when the queue is full"
    } else {
        "it is final, given when the connection has ended"
    }
}

/// One threshold and what may be written for it.
enum Knob<'a> {
    Count { set: &'a mut u32, least: u32 },
    Duration(&'a mut Duration),
    Percent(&'a mut u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(assignment: &str) -> Result<BTreeMap<String, Value>, String> {
        let mut thresholds = Thresholds::default();
        thresholds.set(assignment).map(|()| thresholds.settings()).map_err(|error| error.to_string())
    }

    fn settings(json: &str) -> BTreeMap<String, Value> {
        serde_json::from_str(json).unwrap()
    }

    const DEFAULTS: &str = r#"{"connect_blackhole": 3, "stuck_retransmission": 4, "keepalive_unanswered": 2, "stale_reset_ms": 30000,
        "orphan_stuck": 3, "zero_window_stall": 3, "receiver_stall_ms": 30000, "app_silence_ms": 30000, "close_wait_leak_ms": 60000,
        "unguarded_idle_ms": 300000, "fd_pressure_percent": 80, "idle_timeout_inferred": 2, "assume_idle_timeout_ms": 350000}"#;

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        assert_eq!(Thresholds::default().settings(), settings(DEFAULTS));
    }

    #[test]
    fn settings_are_read_back_and_what_cannot_be_is_as_by_default() {
        let mut told = Thresholds { assumed_idle_timeout: Duration::from_mins(4), ..Thresholds::default() };
        for assignment in ["stuck_retransmission=7", "stale_reset=1500ms", "fd_pressure=55%"] {
            told.set(assignment).unwrap();
        }
        assert_eq!(Thresholds::of_settings(&told.settings()), told);
        let odd = r#"{"stuck_retransmission": 0, "stale_reset_ms": 0, "fd_pressure_percent": 101, "connect_blackhole": "3",
            "assume_idle_timeout_ms": 18446744073709551615, "nonsense": 5, "silent_death": 1}"#;
        assert_eq!(Thresholds::of_settings(&settings(odd)), Thresholds::default());
    }

    #[test]
    fn a_threshold_is_a_count_a_duration_or_a_percentage_as_its_verdict_says() {
        let stale_reset =
            |text: &str| set(&format!("stale_reset={text}")).map(|all| all["stale_reset_ms"].clone());
        assert_eq!(
            ["500ms", "2s", "5m", "1h"].map(stale_reset),
            [500, 2_000, 300_000, 3_600_000].map(|ms| Ok(Value::from(ms)))
        );
        let fd_pressure =
            |text: &str| set(&format!("fd_pressure={text}")).map(|all| all["fd_pressure_percent"].clone());
        assert_eq!(
            ["1%", "90%", "100%"].map(fd_pressure),
            [1, 90, 100].map(|percent| Ok(Value::from(percent)))
        );
        let mut expected = settings(DEFAULTS);
        expected.insert("stuck_retransmission".to_owned(), Value::from(5));
        assert_eq!(set("stuck_retransmission=5"), Ok(expected));
    }

    #[test]
    fn a_wrong_threshold_is_told_the_rule() {
        let names = "connect_blackhole, stuck_retransmission, keepalive_unanswered, stale_reset, orphan_stuck, zero_window_stall, \
                     receiver_stall, app_silence, close_wait_leak, unguarded_idle, fd_pressure, idle_timeout_inferred";
        let count = |verdict: &str, least: u32, value: &str| {
            format!("{verdict} takes a count, a whole number of at least {least}; {value:?} is none")
        };
        let duration = |value: &str| {
            let rule = match value {
                "0s" => "a duration has to be longer than zero",
                _ => "a duration is a number and a unit, such as 500ms, 30s, 5m or 2h",
            };
            format!("stale_reset takes a duration; {value:?} is none: {rule}")
        };
        let percent =
            |value: &str| format!("fd_pressure takes a percentage from 1% to 100%; {value:?} is none");
        for (assignment, error) in [
            (
                "stuck_retransmission",
                "threshold \"stuck_retransmission\" is not of the form VERDICT=VALUE; write, for instance, stuck_retransmission=5"
                    .to_owned(),
            ),
            ("stuck=4", format!("no verdict is called \"stuck\"; those with a threshold are {names}")),
            (
                "silent_death=1",
                "silent_death has no threshold: it is final, given when the connection has ended".to_owned(),
            ),
            ("stuck_retransmission=0", count("stuck_retransmission", 1, "0")),
            ("stuck_retransmission=4s", count("stuck_retransmission", 1, "4s")),
            ("connect_blackhole=-1", count("connect_blackhole", 1, "-1")),
            ("keepalive_unanswered=1", count("keepalive_unanswered", 2, "1")),
            ("orphan_stuck=5000000000", count("orphan_stuck", 1, "5000000000")),
            ("stale_reset=30", duration("30")),
            ("stale_reset=0s", duration("0s")),
            ("stale_reset=90%", duration("90%")),
            ("stale_reset=s", duration("s")),
            ("stale_reset=99999999999999999h", duration("99999999999999999h")),
            ("stale_reset=", duration("")),
            ("fd_pressure=90", percent("90")),
            ("fd_pressure=0%", percent("0%")),
            ("fd_pressure=101%", percent("101%")),
            ("fd_pressure=2s", percent("2s")),
            ("idle_timeout_inferred=1", count("idle_timeout_inferred", 2, "1")),
            (
                "accept_queue_full=2",
                "accept_queue_full has no threshold: the kernel's own rule says when the queue is full".to_owned(),
            ),
        ] {
            assert_eq!(set(assignment), Err(error));
        }
    }
}
