//! Numbers for people: durations and sizes with their units, and a dash for what is not known.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use crate::append;
use crate::record::printable;

/// What stands for a value that is not known.
pub(super) const UNKNOWN: &str = "–";

/// A duration in its two largest units, cut off and never rounded up, a zero left out:
/// `250 µs`, `800 ms`, `1.6 s`, `15 min 24 s`, `2 h`, `3 d 4 h`.
pub(crate) fn duration(duration: Duration) -> String {
    text_of(duration, append_duration)
}

/// Appends a [`duration`].
pub(super) fn append_duration(text: &mut String, duration: Duration) {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let mut both = |large: u64, unit: &str, small: u64, small_unit: &str| {
        append::number(text, large);
        text.push_str(unit);
        if small > 0 {
            text.push(' ');
            append::number(text, small);
            text.push_str(small_unit);
        }
    };
    if days > 0 {
        both(days, " d", hours % 24, " h");
    } else if hours > 0 {
        both(hours, " h", minutes % 60, " min");
    } else if minutes > 0 {
        both(minutes, " min", seconds % 60, " s");
    } else if seconds > 0 {
        append::number(text, seconds);
        let tenths = duration.subsec_millis() / 100;
        if tenths > 0 {
            text.push('.');
            append::number(text, tenths);
        }
        text.push_str(" s");
    } else if duration.subsec_millis() > 0 || duration.is_zero() {
        append::number(text, duration.subsec_millis());
        text.push_str(" ms");
    } else {
        append::number(text, duration.subsec_micros());
        text.push_str(" µs");
    }
}

/// [`duration`] of milliseconds.
pub(super) fn milliseconds(value: u64) -> String {
    text_of(value, append_milliseconds)
}

pub(super) fn append_milliseconds(text: &mut String, value: u64) {
    append_duration(text, Duration::from_millis(value));
}

/// A size: bytes as long as they are easily read, then the next larger unit with one digit, cut off.
pub(crate) fn bytes(value: u64) -> String {
    text_of(value, append_bytes)
}

pub(super) fn append_bytes(text: &mut String, value: u64) {
    if value < 10_000 {
        return append_count(text, value, "byte");
    }
    let (mut tenths, mut unit) = (u128::from(value) * 10 / 1_024, "KiB");
    for larger in ["MiB", "GiB", "TiB", "PiB", "EiB"] {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1_024, larger);
    }
    write!(text, "{}.{} {unit}", tenths / 10, tenths % 10).expect("a String takes every text");
}

/// A number of things: `1 probe`, `2 probes`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    text_of(number, |text, number| append_count(text, number, thing))
}

pub(super) fn append_count(text: &mut String, number: u64, thing: &str) {
    append::number(text, number);
    text.push(' ');
    text.push_str(thing);
    if number != 1 {
        text.push('s');
    }
}

/// What `append` appends for a value.
fn text_of<T>(value: T, append: impl FnOnce(&mut String, T)) -> String {
    let mut text = String::new();
    append(&mut text, value);
    text
}

/// What `show` makes of a value, or the dash.
pub(super) fn known<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), show)
}

/// A named value as a phrase: `"stalled_ms": 3200` reads `stalled 3.2 s`.
pub(super) fn named(name: &str, value: &Value) -> String {
    let measured =
        |suffix: &str, show: fn(u64) -> String| Some((name.strip_suffix(suffix)?, show(value.as_u64()?)));
    let microseconds = |value| duration(Duration::from_micros(value));
    let (name, value) = measured("_ms", milliseconds)
        .or_else(|| measured("_us", microseconds))
        .or_else(|| measured("_bytes", bytes))
        .unwrap_or_else(|| (name, plain(value)));
    format!("{} {value}", printable(&name.replace('_', " ")))
}

/// A value without a unit.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => UNKNOWN.to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => printable(text).into_owned(),
        Value::Number(number) => number.to_string(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(" and "),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| named(name, value)).collect::<Vec<_>>().join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_cut_off_to_two_units() {
        let written = [
            (Duration::ZERO, "0 ms"),
            (Duration::from_micros(250), "250 µs"),
            (Duration::from_millis(999), "999 ms"),
            (Duration::from_millis(1_699), "1.6 s"),
            (Duration::from_millis(59_999), "59.9 s"),
            (Duration::from_millis(3_099), "3 s"),
            (Duration::from_secs(924), "15 min 24 s"),
            (Duration::from_hours(1), "1 h"),
            (Duration::from_secs(86_399), "23 h 59 min"),
            (Duration::from_hours(76), "3 d 4 h"),
        ];
        for (value, expected) in written {
            assert_eq!(duration(value), expected);
        }
    }

    #[test]
    fn sizes_are_bytes_as_long_as_these_are_easily_read() {
        let written = [
            (0, "0 bytes"),
            (1, "1 byte"),
            (9_999, "9999 bytes"),
            (10_240, "10.0 KiB"),
            (1_048_575, "1023.9 KiB"),
            (1_048_576, "1.0 MiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (value, expected) in written {
            assert_eq!(bytes(value), expected);
        }
    }

    #[test]
    fn a_named_value_reads_as_a_phrase_and_unknown_is_a_dash() {
        let written = [
            ("gives_up_in_ms", json!(924_000), "gives up in 15 min 24 s"),
            ("srtt_us", json!(12_500), "srtt 12 ms"),
            ("unacked_bytes", json!(24), "unacked 24 bytes"),
            ("attempts", json!(4), "attempts 4"),
            ("errno", json!("ETIMEDOUT"), "errno ETIMEDOUT"),
            ("owner_exited", json!(false), "owner exited no"),
            ("next_ms", Value::Null, "next ms –"),
            ("how", json!("\u{1b}[2J"), "how \\u{1b}[2J"),
            ("blocked_in", json!(["read", "a\u{7}"]), "blocked in read and a\\u{7}"),
            ("peers", json!([{"remote": "::1", "sockets": 3}]), "peers remote ::1 sockets 3"),
        ];
        for (name, value, expected) in written {
            assert_eq!(named(name, &value), expected);
        }
    }
}
