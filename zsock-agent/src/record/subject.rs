//! What a verdict can be about beside a socket: a process or a destination. And what the periodic pass finds of them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Not;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Socket, Tcp};

/// What a verdict is about. Its fields are flattened into the record: `socket` and `tcp`, or `process`, or `destination`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Subject {
    /// A socket.
    Socket {
        /// Which.
        socket: Arc<Socket>,
        /// How TCP stood with it.
        #[serde(default)]
        tcp: Box<Tcp>,
    },
    /// A process.
    Process {
        /// Which.
        process: Process,
    },
    /// Where connections go.
    Destination {
        /// Which.
        destination: Destination,
    },
}

/// A process (thread group).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id in the initial PID namespace.
    pub pid: u32,
    /// Its name. Bytes that are not UTF-8 are U+FFFD here and whole in `comm_hex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<Arc<str>>,
    /// All bytes of the name in hexadecimal; only where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm_hex: Option<Arc<str>>,
    /// Path of its control group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Arc<str>>,
    /// Id of the container that the control group names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Arc<str>>,
}

/// A port at an address, or at every address of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// The addresses.
    pub net: IpNet,
    /// The port.
    pub port: u16,
}

impl Destination {
    /// One address and port.
    #[must_use]
    pub fn of(address: SocketAddr) -> Self {
        Self { net: IpNet::from(address.ip()), port: address.port() }
    }

    /// The /24 or /64 around it, with the port.
    #[must_use]
    pub fn neighbourhood(self) -> Self {
        let length = if self.net.addr().is_ipv4() { 24 } else { 64 };
        let net = IpNet::new(self.net.addr(), length).unwrap_or(self.net).trunc();
        Self { net, port: self.port }
    }
}

/// `10.0.5.7:5432`, `10.0.5.0/24:5432`, `[2001:db8::1]:443`, `[2001:db8::]/64:443`.
impl fmt::Display for Destination {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.net.addr() {
            IpAddr::V4(address) => write!(out, "{address}")?,
            IpAddr::V6(address) => write!(out, "[{address}]")?,
        }
        if self.net.prefix_len() < self.net.max_prefix_len() {
            write!(out, "/{}", self.net.prefix_len())?;
        }
        write!(out, ":{}", self.port)
    }
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no destination, such as 10.0.5.0/24:5432");
        let (prefix, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let (address, length) =
            prefix.split_once('/').map_or((prefix, None), |(address, length)| (address, Some(length)));
        let address =
            address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let net = match length {
            Some(length) => IpNet::new(address, length.parse().map_err(|_| wrong())?).map_err(|_| wrong())?,
            None => IpNet::from(address),
        };
        Ok(Self { net, port: port.parse().map_err(|_| wrong())? })
    }
}

impl Serialize for Destination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A `sample` of a process: how its file descriptors stand. `process` takes the place of `socket`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "sample")]
pub struct ProcessSample {
    /// Which.
    pub process: Process,
    /// Open file descriptors; absent once the process has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_fds: Option<u64>,
    /// Its soft `RLIMIT_NOFILE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// How many of the descriptors are sockets, of any kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket_fds: Option<u64>,
    /// How many of them are TCP sockets whose connection is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_fds: Option<u64>,
    /// By how much the number of open descriptors grew, a minute; negative where it shrank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth_per_minute: Option<i64>,
    /// The peers with which it has most TCP sockets, most first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerSockets>,
    /// The process has ended.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub exited: bool,
}

/// How many sockets a process has with one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSockets {
    /// The peer's address.
    pub remote: IpAddr,
    /// How many.
    pub sockets: u64,
}

/// A `sample` of a destination: how long a connection to it idled and lived on. `destination` takes the place of `socket`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "sample")]
pub struct DestinationSample {
    /// Which.
    pub destination: Destination,
    /// The longest time without a segment after which something that was sent was answered.
    pub survived_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_written_as_addresses_are() {
        for text in ["10.0.5.7:5432", "10.0.5.0/24:5432", "[2001:db8::1]:443", "[2001:db8::]/64:443"] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
        for text in ["", "10.0.5.7", "10.0.5.7/33:1", "x:1", "10.0.5.7:70000", "10.0.5.7/:1"] {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
        let around = |text: &str| Destination::of(text.parse().unwrap()).neighbourhood().to_string();
        assert_eq!(around("10.0.5.7:5432"), "10.0.5.0/24:5432");
        assert_eq!(around("[2001:db8::1]:443"), "[2001:db8::]/64:443");
    }
}
