//! Values of options: text in, value out, or a sentence that states the rule.

use std::time::Duration;

use jiff::SignedDuration;

/// Bytes of a process name that the kernel keeps: `TASK_COMM_LEN` without the final zero.
const COMM_MAX_BYTES: usize = 15;

const BUFFER_MIN_BYTES: u32 = 64 << 10;
const BUFFER_MAX_BYTES: u32 = 1 << 30;

/// A duration longer than zero: a number and a unit, `500ms`, `30s`, `1.5m`, `2h` or `1h30m`.
///
/// # Errors
/// Anything else, with a sentence that states the rule.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|signed| Duration::try_from(signed).ok());
    match parsed {
        None => Err("a duration is a number and a unit, such as 500ms, 30s, 5m or 2h".to_owned()),
        Some(Duration::ZERO) => Err("a duration has to be longer than zero".to_owned()),
        Some(duration) => Ok(duration),
    }
}

/// The size of a ring buffer in bytes: a power of two with a unit, `512KiB` or `8MiB`.
///
/// The kernel wants a power of two of whole pages; 64 KiB are whole pages on every kernel.
///
/// # Errors
/// Anything else, with a sentence that states the rule.
pub fn buffer_size_bytes(text: &str) -> Result<u32, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let bytes = units.iter().find_map(|(unit, shift)| {
        let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(1 << shift)
    });
    let Some(bytes) = bytes else {
        return Err("a size is a number and one of KiB, MiB, GiB, such as 8MiB".to_owned());
    };
    match u32::try_from(bytes) {
        Ok(bytes) if (BUFFER_MIN_BYTES..=BUFFER_MAX_BYTES).contains(&bytes) && bytes.is_power_of_two() => {
            Ok(bytes)
        }
        _ => Err("the kernel's ring buffer wants a power of two, from 64KiB to 1GiB".to_owned()),
    }
}

/// The name of a process as the kernel keeps it.
///
/// # Errors
/// A name that no process can have because it is too long: nothing would ever be selected.
pub fn comm(text: &str) -> Result<String, String> {
    // U+FFFD is printed for a byte that is not UTF-8, and counts as one.
    let bytes = |c: char| if c == char::REPLACEMENT_CHARACTER { 1 } else { c.len_utf8() };
    let mut length = 0;
    let kept: String = text
        .chars()
        .take_while(|&c| {
            length += bytes(c);
            length <= COMM_MAX_BYTES
        })
        .collect();
    if kept == text {
        return Ok(kept);
    }
    Err(format!("the kernel keeps {COMM_MAX_BYTES} bytes of a process name; give what it keeps, `{kept}`"))
}

/// A process id.
pub(super) fn pid(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err("a process id is a number from 1 up; --comm selects by name".to_owned()),
    }
}

/// One `--threshold`, checked as far as its text goes.
pub(super) fn threshold(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok(text.to_owned()),
        _ => Err("a threshold is VERDICT=VALUE, such as stuck_retransmission=5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(duration(text), Ok(Duration::from_millis(expected)), "{text}");
        }
        let rule = "a duration is a number and a unit, such as 500ms, 30s, 5m or 2h";
        for text in ["", "30", "s", "-5s", "5x", "1e3s", "999999999999999999h"] {
            assert_eq!(duration(text), Err(rule.to_owned()), "{text}");
        }
        for text in ["0s", "0ms"] {
            assert_eq!(duration(text), Err("a duration has to be longer than zero".to_owned()), "{text}");
        }
    }

    #[test]
    fn ring_buffers_are_powers_of_two_within_bounds() {
        let good = [("64KiB", 65_536), ("8MiB", 8_388_608), ("1GiB", 1_073_741_824)];
        for (text, expected) in good {
            assert_eq!(buffer_size_bytes(text), Ok(expected), "{text}");
        }
        for text in ["8", "8MB", "MiB", "-8MiB", "8.5MiB", "99999999999999999GiB"] {
            let rule = "a size is a number and one of KiB, MiB, GiB, such as 8MiB";
            assert_eq!(buffer_size_bytes(text), Err(rule.to_owned()), "{text}");
        }
        for text in ["3MiB", "32KiB", "2GiB", "4GiB", "0MiB"] {
            let rule = "the kernel's ring buffer wants a power of two, from 64KiB to 1GiB";
            assert_eq!(buffer_size_bytes(text), Err(rule.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_process_name_that_cannot_exist_is_refused_with_what_the_kernel_keeps() {
        assert_eq!(comm("exactly15bytes!"), Ok("exactly15bytes!".to_owned()));
        assert_eq!(comm(""), Ok(String::new()));
        let fifteen_bytes_not_utf8 = "\u{fffd}".repeat(15);
        assert_eq!(comm(&fifteen_bytes_not_utf8), Ok(fifteen_bytes_not_utf8));
        let rule = "the kernel keeps 15 bytes of a process name; give what it keeps, `systemd-resolve`";
        assert_eq!(comm("systemd-resolved"), Err(rule.to_owned()));
    }

    #[test]
    fn a_threshold_has_a_name_and_a_value() {
        assert_eq!(threshold("close_wait_leak=2s"), Ok("close_wait_leak=2s".to_owned()));
        for text in ["close_wait_leak", "=2s", "close_wait_leak="] {
            assert!(threshold(text).is_err(), "{text}");
        }
    }
}
