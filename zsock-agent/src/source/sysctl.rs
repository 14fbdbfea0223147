//! The network settings that decide how long zombies live, in each network namespace.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;

use super::namespaces;

/// The settings, those first that decide the most.
pub const NAMES: [&str; 11] = [
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_retries2",
    "net.ipv4.tcp_retries1",
    "net.ipv4.tcp_rto_max_ms",
    "net.ipv4.tcp_orphan_retries",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_syn_retries",
    "net.ipv4.tcp_syn_linear_timeouts",
    "net.core.somaxconn",
];

/// The settings of a network namespace. What the kernel does not have is not among them; of what cannot be read there is the reason.
pub type Settings = BTreeMap<&'static str, Result<u32, String>>;

/// Reads the settings of each of `namespaces`; of those that cannot be entered, the error.
#[must_use]
pub fn of_each(namespaces: &BTreeMap<u64, File>) -> Vec<(u64, Result<Settings, nix::Error>)> {
    namespaces::in_each(namespaces, |_| of_this_thread())
}

/// `/proc/sys/net` shows those of the thread that reads it.
fn of_this_thread() -> Settings {
    let read = |name: &'static str| {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        match fs::read(&path) {
            Ok(bytes) => Some((name, value_in(&bytes).map_err(|what| format!("{path} says {what}")))),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && fs::exists("/proc/sys/net").unwrap_or(false) =>
            {
                None
            }
            Err(error) => Some((name, Err(format!("read {path}: {error}")))),
        }
    };
    NAMES.into_iter().filter_map(read).collect()
}

/// The value in such a file, which the kernel keeps in an `int`; what it says instead where that is none, or below zero.
fn value_in(bytes: &[u8]) -> Result<u32, String> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    text.parse::<i32>().ok().and_then(|value| u32::try_from(value).ok()).ok_or_else(|| {
        let begins: String = text.chars().take(20).collect();
        format!("{begins:?}, which is no setting")
    })
}

/// Any bytes in the place of a setting.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    let _ = value_in(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_a_whole_number_that_an_int_holds() {
        let read = [&b"7200\n"[..], b"0\n", b"2147483647", b" 9\t\n"].map(|bytes| value_in(bytes).unwrap());
        assert_eq!(read, [7200, 0, 2_147_483_647, 9]);
    }

    #[test]
    fn whatever_else_a_file_says_is_repeated_in_characters_that_show() {
        let said = [&b""[..], b"-1\n", b"4294967296", b"7200 75\n", b"\xff\x1b[2J", &[b'9'; 4096]];
        assert_eq!(
            said.map(|bytes| value_in(bytes).unwrap_err()),
            [
                "\"\", which is no setting",
                "\"-1\", which is no setting",
                "\"4294967296\", which is no setting",
                "\"7200 75\", which is no setting",
                "\"\u{fffd}\\u{1b}[2J\", which is no setting",
                "\"99999999999999999999\", which is no setting",
            ]
        );
    }

    #[test]
    fn the_settings_of_the_own_namespace_are_read() {
        let all = of_each(&namespaces::all());
        let own = fs::read_to_string("/proc/sys/net/ipv4/tcp_keepalive_time").unwrap();
        let read = all.iter().find_map(|(_, settings)| settings.as_ref().ok()).unwrap();
        assert_eq!(read["net.ipv4.tcp_keepalive_time"].as_ref().unwrap().to_string(), own.trim());
        assert!(read.len() >= 9, "{read:?}");
    }
}
