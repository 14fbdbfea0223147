//! The one notion of time: nanoseconds since the Unix epoch, taken once from the kernel's monotonic clock.
//!
//! The kernel stamps events with CLOCK_MONOTONIC. The agent adds one offset, read at its start, so that a stepped wall clock
//! neither reorders records nor lengthens a stall. Reads no clock itself.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use jiff::tz::Offset;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// In a second.
const NANOSECONDS: u64 = 1_000_000_000;

/// A moment, in nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The moment `nanoseconds` after the Unix epoch.
    #[must_use]
    pub const fn from_unix_ns(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn as_unix_ns(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero where `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `duration` before this one.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanoseconds(duration)))
    }

    /// The moment `duration` after this one.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(duration)))
    }

    /// Days since the Unix epoch.
    #[must_use]
    pub const fn day(self) -> u64 {
        self.0 / (86_400 * NANOSECONDS)
    }

    /// RFC 3339 in UTC with nine digits, the form of `ts`: `2023-11-14T22:13:20.123456789Z`.
    #[must_use]
    pub fn text(self) -> [u8; 30] {
        let (second, nanoseconds) = (self.0 / NANOSECONDS, self.0 % NANOSECONDS);
        let (cached, mut text) = LAST_SECOND.get();
        if second != cached {
            text = text_of_second(second);
            LAST_SECOND.set((second, text));
        }
        write_digits(&mut text[20..29], nanoseconds);
        text
    }
}

thread_local! {
    /// The second that was written last, and how: nearly always the next time is of the same one.
    static LAST_SECOND: Cell<(u64, [u8; 30])> = const { Cell::new((0, *b"1970-01-01T00:00:00.000000000Z")) };
}

fn text_of_second(second: u64) -> [u8; 30] {
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    // A u64 of nanoseconds ends in the year 2554, well inside what jiff can say.
    let timestamp = i64::try_from(second).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
    let moment = Offset::UTC.to_datetime(timestamp.unwrap_or(jiff::Timestamp::MAX));
    write_digits(&mut text[0..4], moment.year().unsigned_abs().into());
    for (at, number) in [
        (5, moment.month()),
        (8, moment.day()),
        (11, moment.hour()),
        (14, moment.minute()),
        (17, moment.second()),
    ] {
        write_digits(&mut text[at..at + 2], number.unsigned_abs().into());
    }
    text
}

/// Writes the last digits of a number, as many as there is room for.
#[inline]
fn write_digits(room: &mut [u8], mut number: u64) {
    for digit in room.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// A duration in nanoseconds, saturating after 584 years.
#[must_use]
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration in whole milliseconds, saturating.
#[must_use]
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Nobody waits for longer; clocks and their sums have room for more.
const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

/// A duration longer than zero as people write it, a number and a unit: `500ms`, `30s`, `1.5m`, `2h` or `1h30m`.
///
/// # Errors
/// Anything else, with a sentence that states the rule.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|signed| Duration::try_from(signed).ok());
    match parsed {
        None => Err("a duration is a number and a unit, such as 500ms, 30s, 5m or 2h"),
        Some(Duration::ZERO) => Err("a duration has to be longer than zero"),
        Some(duration) if duration > LONGEST => Err("a duration may be ten years at most"),
        Some(duration) => Ok(duration),
    }
}

/// As [`Time::text`].
impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let timestamp: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        u64::try_from(timestamp.as_nanosecond())
            .map(Self)
            .map_err(|_| serde::de::Error::custom(format_args!("{text} is before 1970")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_with_nanoseconds_and_read_back_whole() {
        let time = Time::from_unix_ns(1_700_000_000_000_000_007);
        let text = serde_json::to_string(&time).unwrap();
        assert_eq!(text, "\"2023-11-14T22:13:20.000000007Z\"");
        assert_eq!(serde_json::from_str::<Time>(&text).unwrap(), time);
    }

    #[test]
    fn a_time_is_written_as_jiff_writes_it() {
        let day = 86_400 * NANOSECONDS;
        let days = (0..213_503).step_by(5).map(|number| number * day + number * 404_401_505_606 % day);
        for nanoseconds in days.chain([0, NANOSECONDS - 1, u64::MAX]) {
            let by_jiff = jiff::Timestamp::from_nanosecond(nanoseconds.into()).unwrap();
            assert_eq!(Time::from_unix_ns(nanoseconds).to_string(), format!("{by_jiff:.9}"));
        }
    }

    #[test]
    fn durations_never_go_below_zero() {
        let (early, late) = (Time::from_unix_ns(5), Time::from_unix_ns(9));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.since(early), Duration::from_nanos(4));
    }

    #[test]
    fn durations_need_a_unit_and_are_longer_than_zero() {
        let good = [
            ("500ms", 500),
            ("30s", 30_000),
            ("1.5s", 1_500),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1h30m", 5_400_000),
        ];
        for (text, expected) in good {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(expected)), "{text}");
        }
        let rule = "a duration is a number and a unit, such as 500ms, 30s, 5m or 2h";
        for text in ["", "30", "s", "-5s", "5x", "1e3s", "999999999999999999h"] {
            assert_eq!(parse_duration(text), Err(rule), "{text}");
        }
        for text in ["87601h", "2562047788015215h"] {
            assert_eq!(parse_duration(text), Err("a duration may be ten years at most"), "{text}");
        }
        assert_eq!(parse_duration("87600h"), Ok(LONGEST));
        for text in ["0s", "0ms"] {
            assert_eq!(parse_duration(text), Err("a duration has to be longer than zero"), "{text}");
        }
    }
}
