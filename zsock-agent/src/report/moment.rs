//! From when on, or until when, somebody wants to see a recording.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{self, DateTime};
use jiff::tz::TimeZone;

use crate::time::{Time, parse_duration};

const DAY: Duration = Duration::from_hours(24);

/// What may be written for a moment.
const RULE: &str = "a moment is a time such as 2026-11-22T02:10:00Z, 2026-11-22 or 02:10, in UTC where it does not say, or a duration before \
                    the end of the recording, such as 30m";

/// A moment, as it can be told from a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// This one.
    At(Time),
    /// So long after midnight.
    OfDay(Duration),
    /// So long before the end of the recording.
    BeforeEnd(Duration),
}

impl Moment {
    /// The moment, where it does not take the end of the recording to tell.
    pub(super) const fn known(self) -> Option<Time> {
        match self {
            Self::At(time) => Some(time),
            Self::OfDay(_) | Self::BeforeEnd(_) => None,
        }
    }

    /// The beginning that it means in a recording that ends at `end`: a time of the day is the last one of that name.
    pub(super) fn as_beginning(self, end: Time) -> Time {
        match self {
            Self::At(time) => time,
            Self::BeforeEnd(duration) => end.before(duration),
            Self::OfDay(of_day) => {
                let today = midnight(end).after(of_day);
                if today > end { today.before(DAY) } else { today }
            }
        }
    }

    /// The end that it means: a time of the day is the first of that name after `beginning`, or else that of the last day.
    pub(super) fn as_end(self, beginning: Option<Time>, end: Time) -> Time {
        match self {
            Self::At(time) => time,
            Self::BeforeEnd(duration) => end.before(duration),
            Self::OfDay(of_day) => {
                let on_day_of = |time| midnight(time).after(of_day);
                let Some(beginning) = beginning else { return on_day_of(end) };
                let first = on_day_of(beginning);
                if first < beginning { first.after(DAY) } else { first }
            }
        }
    }
}

fn midnight(time: Time) -> Time {
    let day_ns = 24 * 3600 * 1_000_000_000;
    Time::from_unix_ns(time.as_unix_ns() / day_ns * day_ns)
}

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = |timestamp: Timestamp| {
            let ns = u64::try_from(timestamp.as_nanosecond()).map_err(|_| RULE)?;
            Ok(Self::At(Time::from_unix_ns(ns)))
        };
        if let Ok(timestamp) = text.parse::<Timestamp>() {
            return at(timestamp);
        }
        if let Ok(zoned) = text.parse::<DateTime>().and_then(|civil| civil.to_zoned(TimeZone::UTC)) {
            return at(zoned.timestamp());
        }
        if let Ok(time) = text.parse::<civil::Time>() {
            let since_midnight = time.duration_since(civil::Time::midnight());
            return Duration::try_from(since_midnight).map(Self::OfDay).map_err(|_| RULE);
        }
        parse_duration(text).map(Self::BeforeEnd).map_err(|_| RULE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Time {
        let timestamp: Timestamp = text.parse().unwrap();
        Time::from_unix_ns(timestamp.as_nanosecond().try_into().unwrap())
    }

    #[test]
    fn a_moment_is_a_time_a_day_a_time_of_the_day_or_a_duration() {
        let good = [
            ("2026-11-22T02:10:00Z", Moment::At(time("2026-11-22T02:10:00Z"))),
            ("2026-11-22T02:10:00.5+02:00", Moment::At(time("2026-11-22T00:10:00.5Z"))),
            ("2026-11-22T02:10:00", Moment::At(time("2026-11-22T02:10:00Z"))),
            ("2026-11-22 02:10", Moment::At(time("2026-11-22T02:10:00Z"))),
            ("2026-11-22", Moment::At(time("2026-11-22T00:00:00Z"))),
            ("02:10", Moment::OfDay(Duration::from_mins(130))),
            ("02:10:04", Moment::OfDay(Duration::from_secs(7804))),
            ("30m", Moment::BeforeEnd(Duration::from_mins(30))),
        ];
        for (text, moment) in good {
            assert_eq!(text.parse(), Ok(moment), "{text}");
        }
        for text in ["", "now", "25:00", "2026-13-01", "0s", "-5m", "1969-12-31", "5"] {
            assert_eq!(text.parse::<Moment>(), Err(RULE), "{text}");
        }
    }

    #[test]
    fn a_time_of_the_day_is_the_one_that_the_recording_has() {
        let end = time("2026-11-22T08:00:00Z");
        let moment = |text: &str| text.parse::<Moment>().unwrap();
        assert_eq!(moment("02:10").as_beginning(end), time("2026-11-22T02:10:00Z"));
        assert_eq!(moment("23:50").as_beginning(end), time("2026-11-21T23:50:00Z"));
        assert_eq!(moment("1h").as_beginning(end), time("2026-11-22T07:00:00Z"));
        assert_eq!(moment("10:00").as_end(None, end), time("2026-11-22T10:00:00Z"));
        let beginning = Some(time("2026-11-21T23:50:00Z"));
        assert_eq!(moment("00:10").as_end(beginning, end), time("2026-11-22T00:10:00Z"));
        assert_eq!(moment("30m").as_end(beginning, end), time("2026-11-22T07:30:00Z"));
    }
}
