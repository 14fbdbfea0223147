//! The names that records are written with: states, errors, causes, identities.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A socket's identity: the kernel's cookie, unique until the next boot, never reused. Opaque to readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

impl fmt::Display for SocketId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:x}", self.0)
    }
}

impl Serialize for SocketId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SocketId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

/// The address family of the socket's addresses as written (IPv4 seen through an IPv6 socket is `Ipv4`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// A TCP state, with the kernel's number.
///
/// Source: `include/net/tcp_states.h`. A number that this build does not know stays that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State(pub u8);

/// The kernel's names without `TCP_`, by number.
const STATE_NAMES: [&str; 14] = [
    "",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
    "BOUND_INACTIVE",
];

#[expect(missing_docs, reason = "the names are the kernel's and say it all")]
impl State {
    pub const ESTABLISHED: Self = Self(1);
    pub const SYN_SENT: Self = Self(2);
    pub const SYN_RECV: Self = Self(3);
    pub const FIN_WAIT1: Self = Self(4);
    pub const FIN_WAIT2: Self = Self(5);
    pub const TIME_WAIT: Self = Self(6);
    pub const CLOSE: Self = Self(7);
    pub const CLOSE_WAIT: Self = Self(8);
    pub const LAST_ACK: Self = Self(9);
    pub const LISTEN: Self = Self(10);
    pub const CLOSING: Self = Self(11);
    pub const NEW_SYN_RECV: Self = Self(12);
}

impl State {
    /// The state of this name, in any case, with or without `TCP_`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("TCP_").unwrap_or(&name);
        let number = STATE_NAMES.iter().position(|known| !known.is_empty() && *known == name)?;
        u8::try_from(number).ok().map(Self)
    }

    /// The state that is written so. Names that are known when this is compiled are quick to compare.
    pub(crate) fn from_exact_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"ESTABLISHED" => Self::ESTABLISHED,
            b"SYN_SENT" => Self::SYN_SENT,
            b"SYN_RECV" => Self::SYN_RECV,
            b"FIN_WAIT1" => Self::FIN_WAIT1,
            b"FIN_WAIT2" => Self::FIN_WAIT2,
            b"CLOSE" => Self::CLOSE,
            b"CLOSE_WAIT" => Self::CLOSE_WAIT,
            b"LAST_ACK" => Self::LAST_ACK,
            b"LISTEN" => Self::LISTEN,
            b"CLOSING" => Self::CLOSING,
            // The others are rare.
            name => {
                return Self::from_name(str::from_utf8(name).ok()?)
                    .filter(|it| it.to_string().as_bytes() == name);
            }
        })
    }

    /// Whether our FIN is queued or in flight: it takes a sequence number that is no payload.
    #[must_use]
    pub fn is_closing(self) -> bool {
        matches!(self, Self::FIN_WAIT1 | Self::CLOSING | Self::LAST_ACK)
    }

    /// Its name, where this build knows it.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        STATE_NAMES.get(usize::from(self.0)).copied().filter(|name| !name.is_empty())
    }

    /// Whether it has a name.
    #[must_use]
    pub fn is_known(self) -> bool {
        self.name().is_some()
    }

    /// Every name, for help and errors.
    pub fn names() -> impl Iterator<Item = &'static str> {
        STATE_NAMES.into_iter().filter(|name| !name.is_empty())
    }
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => out.pad(name),
            None => write!(out, "state({})", self.0),
        }
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let numbered = || text.strip_prefix("state(")?.strip_suffix(')')?.parse().ok().map(Self);
        Self::from_name(&text)
            .or_else(numbered)
            .ok_or_else(|| serde::de::Error::custom(format_args!("unknown TCP state {text:?}")))
    }
}

/// An error of the kernel by its name, `ETIMEDOUT`; a number without a name is written `errno(530)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errno(Cow<'static, str>);

impl Errno {
    /// The name of error number `number` (positive).
    #[must_use]
    pub fn from_number(number: i32) -> Self {
        let known = nix::errno::Errno::from_raw(number);
        let is_known = known != nix::errno::Errno::UnknownErrno;
        Self(Cow::Owned(if is_known { format!("{known:?}") } else { format!("errno({number})") }))
    }

    /// An error by a name that is known to be right.
    #[must_use]
    pub const fn named(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// An error by the name that a record has for it.
    pub(crate) fn from_name(name: &str) -> Self {
        Self(Cow::Owned(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.0)
    }
}

impl Serialize for Errno {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Errno {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Cow::Owned(String::deserialize(deserializer)?)))
    }
}

/// Why a segment was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A SYN: the connection attempt was not answered.
    Syn,
    /// A SYN-ACK: the client did not complete the handshake.
    SynAck,
    /// The retransmission timer fired.
    Rto,
    /// Duplicate or selective ACKs said that it was lost.
    Fast,
    /// The tail loss probe's timer fired.
    TailLossProbe,
    /// Resent by an ACK while recovering from a time-out.
    SlowStart,
}

impl Cause {
    /// The name that records have for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syn => "syn",
            Self::SynAck => "syn_ack",
            Self::Rto => "rto",
            Self::Fast => "fast",
            Self::TailLossProbe => "tail_loss_probe",
            Self::SlowStart => "slow_start",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

/// A string that an untrusted process chose, fit for a terminal: what moves a cursor, starts a line, turns the direction of writing
/// or is not to be seen becomes an escape such as `\u{1b}`.
///
/// These are the control characters (ASCII's and C1, U+0080 to U+009F), the separators of lines and paragraphs, and all that Unicode
/// has programs ignore when they draw (`Default_Ignorable_Code_Point`), which takes in the bidirectional controls.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let hides = |c: char| c.is_control() || !c.is_ascii() && is_not_drawn(c);
    let is_plain_ascii = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_plain_ascii || !text.chars().any(hides) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.chars()
            .flat_map(|c| {
                let escaped = hides(c).then(|| c.escape_unicode());
                let plain = escaped.is_none().then_some(c);
                escaped.into_iter().flatten().chain(plain)
            })
            .collect(),
    )
}

/// Unicode's `Default_Ignorable_Code_Point`, the separators of lines and paragraphs, and the marks of annotations.
fn is_not_drawn(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_kernels_names_and_unknown_ones_their_number() {
        assert_eq!(State::CLOSE_WAIT.to_string(), "CLOSE_WAIT");
        assert_eq!(State(77).to_string(), "state(77)");
        assert_eq!(State::from_name("tcp_close_wait"), Some(State::CLOSE_WAIT));
        assert_eq!(State::from_name(""), None);
        for number in 0..=u8::MAX {
            let name = State(number).to_string();
            let is_name = State(number).is_known();
            assert_eq!(State::from_exact_name(name.as_bytes()), is_name.then_some(State(number)), "{name}");
        }
        for other in ["tcp_CLOSE", "close_wait", "TCP_TIME_WAIT", "time_wait", ""] {
            assert_eq!(State::from_exact_name(other.as_bytes()), None, "{other}");
        }
        for state in [State::LISTEN, State(77)] {
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        }
    }

    #[test]
    fn errors_have_names() {
        assert_eq!(Errno::from_number(110).name(), "ETIMEDOUT");
        assert_eq!(Errno::from_number(530).name(), "errno(530)");
    }

    #[test]
    fn nothing_that_moves_a_cursor_or_hides_text_is_printable() {
        assert_eq!(printable("nginx: worker"), "nginx: worker");
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\u{a}");
        assert_eq!(printable("x\u{202e}y"), "x\\u{202e}y");
        let c1 = '\u{80}'..='\u{9f}';
        let bidirectional =
            "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
        let lines = "\n\r\u{b}\u{c}\u{85}\u{2028}\u{2029}";
        for c in c1
            .chain(bidirectional.chars())
            .chain(lines.chars())
            .chain("\u{0}\u{7f}\u{ad}\u{200b}\u{3164}".chars())
        {
            assert_eq!(printable(&c.to_string()), c.escape_unicode().to_string());
        }
        for shown in ["<script>alert('x')</script>", "\"a\\b", "Zoë 日本 \u{fffd} →"] {
            assert_eq!(printable(shown), shown, "no terminal minds it");
        }
    }
}
