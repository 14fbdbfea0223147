//! Values of options: text in, value out, or a sentence that states the rule.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::detect::Thresholds;
use crate::record::{SocketId, printable};
use crate::time::parse_duration;

/// Bytes of a process name that the kernel keeps: `TASK_COMM_LEN` without the final zero.
const COMM_MAX_BYTES: usize = 15;

const MIN_SCAN_INTERVAL: Duration = Duration::from_millis(100);

const BUFFER_MIN_BYTES: u32 = 64 << 10;
const BUFFER_MAX_BYTES: u32 = 1 << 30;

/// The size of a ring buffer in bytes: a power of two with a unit, `512KiB` or `8MiB`.
///
/// The kernel wants a power of two of whole pages; 64 KiB are whole pages on every kernel.
///
/// # Errors
/// Anything else, with a sentence that states the rule.
pub fn buffer_size_bytes(text: &str) -> Result<u32, String> {
    match u32::try_from(size_bytes(text)?) {
        Ok(bytes) if (BUFFER_MIN_BYTES..=BUFFER_MAX_BYTES).contains(&bytes) && bytes.is_power_of_two() => {
            Ok(bytes)
        }
        _ => Err("the kernel's ring buffer wants a power of two, from 64KiB to 1GiB".to_owned()),
    }
}

/// A size in bytes: a number with a unit, `512MiB` or `2GiB`.
///
/// # Errors
/// Anything else, with a sentence that states the rule.
pub(super) fn size_bytes(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let bytes = units.iter().find_map(|(unit, shift)| {
        let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(1 << shift)
    });
    bytes.ok_or_else(|| "a size is a number and one of KiB, MiB, GiB, such as 8MiB".to_owned())
}

/// How much a recording may take. With less than 1 MiB a segment would hold next to nothing.
pub(super) fn recording_bytes(text: &str) -> Result<u64, String> {
    match size_bytes(text)? {
        bytes if bytes < 1 << 20 => Err("a recording takes 1MiB at least".to_owned()),
        bytes => Ok(bytes),
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
    let kept = printable(&kept);
    Err(format!("the kernel keeps {COMM_MAX_BYTES} bytes of a process name; give what it keeps, `{kept}`"))
}

/// Time between two passes over all sockets.
pub(super) fn scan_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < MIN_SCAN_INTERVAL {
        return Err("a pass over all sockets more often than every 100ms would not be light".to_owned());
    }
    Ok(interval)
}

/// A share of one processor.
pub(super) fn cpu_percent(text: &str) -> Result<u32, String> {
    match text.strip_suffix('%').unwrap_or(text).parse() {
        Ok(percent) if (1..=100).contains(&percent) => Ok(percent),
        _ => Err("a share of one processor is a whole number of percent from 1 to 100, such as 5".to_owned()),
    }
}

/// A number of things, which may be none.
pub(super) fn count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "a count is a whole number, such as 20; 0 is none".to_owned())
}

/// A process id.
pub(super) fn pid(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err("a process id is a number from 1 up; --comm selects by name".to_owned()),
    }
}

/// The id of a socket, as records write it.
pub(super) fn socket_id(text: &str) -> Result<SocketId, String> {
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let id = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    id.map(SocketId)
        .ok_or_else(|| "the id of a socket is what `socket.id` of a record says, such as 1e1d5d".to_owned())
}

/// Where to listen: a port of the loopback address, unless an address stands before it.
pub(super) fn listening_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let address = if is_port { format!("{}:{port}", Ipv4Addr::LOCALHOST) } else { text.to_owned() };
    address.parse().map_err(|_| {
        "a port, alone or after an address of this host, such as 9464, 127.0.0.1:9464 or [::1]:9464; 0 is any free port"
            .to_owned()
    })
}

/// One `--threshold`, as it was written once it is known to be one.
pub(super) fn threshold(text: &str) -> Result<String, String> {
    Thresholds::default().set(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn to_listen_is_for_this_host_alone_unless_an_address_says_otherwise() {
        let good = [
            ("9464", "127.0.0.1:9464"),
            (":9464", "127.0.0.1:9464"),
            ("127.0.0.1:9464", "127.0.0.1:9464"),
            ("[::1]:9464", "[::1]:9464"),
            ("0.0.0.0:9464", "0.0.0.0:9464"),
            ("0", "127.0.0.1:0"),
        ];
        for (text, expected) in good {
            assert_eq!(listening_address(text).map(|address| address.to_string()), Ok(expected.to_owned()));
        }
        for text in [
            "",
            ":",
            "65536",
            "+1",
            "localhost:9464",
            "10.0.0.1",
            "::1:9464",
            "::",
            "1.2.3.4:",
            "::9464",
            "-1",
        ] {
            assert!(listening_address(text).is_err(), "{text} is taken");
        }
    }

    #[test]
    fn a_threshold_that_cannot_be_set_is_refused_with_the_rule() {
        assert_eq!(threshold("stuck_retransmission=5"), Ok("stuck_retransmission=5".to_owned()));
        for text in ["stuck_retransmission", "=2s", "stale_reset=", "nonsense=5", "stale_reset=90%"] {
            let rule = Thresholds::default().set(text).unwrap_err().to_string();
            assert_eq!(threshold(text), Err(rule), "{text}");
        }
    }
}
