//! What a table has to know of a socket, in few bytes: there may be a row for each socket of a large host.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::record::{Found, KeepaliveSettings, Noticed, State, TimerKind, VerdictName};

/// A process as rows name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its id.
    pub pid: Option<u32>,
    /// Its name.
    pub comm: Option<Arc<str>>,
}

/// What is set on a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Keepalive, where it is known.
    pub keepalive: Option<KeepaliveSettings>,
    /// `TCP_USER_TIMEOUT`, where it is set.
    pub user_timeout_ms: Option<u64>,
}

/// What many rows have in common, kept once.
#[derive(Debug, Default)]
pub struct Shared {
    owners: Once<Owner>,
    settings: Once<Settings>,
}

/// Values by number.
#[derive(Debug)]
struct Once<T> {
    values: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Once<T> {
    /// The number of a value. There are no more of them than sockets, whose addresses alone would fill a memory before 32 bits did.
    fn number(&mut self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        number
    }
}

/// A duration in four bytes: milliseconds, and beyond 24 days whole seconds. May be unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(u32);

impl Span {
    const UNKNOWN: u32 = u32::MAX;
    const IN_SECONDS: u32 = 1 << 31;

    /// Of so many milliseconds.
    #[must_use]
    pub fn of(ms: Option<u64>) -> Self {
        let Some(ms) = ms else { return Self(Self::UNKNOWN) };
        match u32::try_from(ms) {
            Ok(ms) if ms < Self::IN_SECONDS => Self(ms),
            _ => Self(
                Self::IN_SECONDS | u32::try_from(ms / 1000).unwrap_or(u32::MAX).min(Self::IN_SECONDS - 2),
            ),
        }
    }

    /// In milliseconds.
    #[must_use]
    pub fn ms(self) -> Option<u64> {
        match self.0 {
            Self::UNKNOWN => None,
            ms if ms < Self::IN_SECONDS => Some(ms.into()),
            seconds => Some(u64::from(seconds - Self::IN_SECONDS) * 1000),
        }
    }
}

/// What waits in a socket's queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// Of a connection.
    Bytes {
        /// Sent and not acknowledged.
        unacked: Size,
        /// Not sent.
        unsent: Size,
        /// Received and not read.
        unread: Size,
    },
    /// Of a listener.
    Connections {
        /// Waiting to be accepted.
        waiting: u32,
        /// The listener's backlog.
        backlog: u32,
    },
}

/// A number of bytes in four of them, as the kernel counts a queue. May be unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u32);

impl Size {
    /// So many bytes.
    #[must_use]
    pub fn of(bytes: Option<u64>) -> Self {
        Self(bytes.map_or(u32::MAX, |bytes| u32::try_from(bytes).unwrap_or(u32::MAX).min(u32::MAX - 1)))
    }

    /// How many.
    #[must_use]
    pub fn bytes(self) -> Option<u64> {
        (self.0 != u32::MAX).then_some(self.0.into())
    }
}

/// An address and a port; port 0 where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    address: [u8; 16],
    port: u16,
}

impl End {
    fn of(end: Option<SocketAddr>) -> Self {
        let address = end.map_or(Ipv6Addr::UNSPECIFIED, |end| match end.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        });
        Self { address: address.octets(), port: end.map_or(0, |end| end.port()) }
    }

    fn address(self) -> Option<SocketAddr> {
        let address = Ipv6Addr::from(self.address).to_canonical();
        (self.port != 0).then(|| SocketAddr::new(address, self.port))
    }
}

/// A socket of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    local: End,
    remote: End,
    owner: u32,
    settings: u32,
    /// Since the last segment in either direction.
    pub idle: Span,
    /// Since payload was last sent.
    pub sent: Span,
    /// Since the last segment came.
    pub received: Span,
    /// Until a silent death would be noticed.
    pub noticed_in: Span,
    /// What waits.
    pub queued: Queued,
    /// What for a timer is armed, and until it fires.
    pub timer: Option<(TimerKind, Span)>,
    /// Its state.
    pub state: Option<State>,
    /// What its facts alone say.
    pub verdict: Option<VerdictName>,
    /// How long a silent death would go unnoticed.
    pub noticed: Option<Noticed>,
    /// No process holds it any more.
    pub is_orphan: bool,
    /// Both of its ends are on this host.
    pub is_on_loopback: bool,
}

impl Row {
    /// The row of a socket.
    #[must_use]
    pub fn of(found: &Found, shared: &mut Shared) -> Self {
        let (socket, tcp) = (&found.socket, &found.tcp);
        let settings = Settings { keepalive: tcp.keepalive, user_timeout_ms: tcp.user_timeout_ms };
        let bytes = Queued::Bytes {
            unacked: Size::of(tcp.unacked_bytes),
            unsent: Size::of(tcp.unsent_bytes),
            unread: Size::of(tcp.unread_bytes),
        };
        Self {
            local: End::of(socket.local),
            remote: End::of(socket.remote),
            owner: shared.owners.number(Owner { pid: socket.pid, comm: socket.comm.clone() }),
            settings: shared.settings.number(settings),
            idle: Span::of(found.idle_ms),
            sent: Span::of(tcp.last_sent_ms),
            received: Span::of(tcp.last_received_ms),
            noticed_in: Span::of(found.noticed_in_ms),
            queued: found
                .accept_queue
                .map_or(bytes, |queue| Queued::Connections { waiting: queue.queue, backlog: queue.backlog }),
            timer: found.timer.map(|timer| (timer.kind, Span::of(Some(timer.in_ms)))),
            state: tcp.state,
            verdict: found.verdict,
            noticed: found.noticed,
            is_orphan: socket.orphan,
            is_on_loopback: found.is_on_loopback(),
        }
    }

    /// Our end.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        self.local.address()
    }

    /// The peer's end.
    #[must_use]
    pub fn remote(&self) -> Option<SocketAddr> {
        self.remote.address()
    }
}

impl Shared {
    /// The process of a row.
    ///
    /// # Panics
    /// On a row that was made with another `Shared`.
    #[must_use]
    pub fn owner(&self, row: &Row) -> &Owner {
        &self.owners.values[row.owner as usize]
    }

    /// The settings of a row.
    ///
    /// # Panics
    /// On a row that was made with another `Shared`.
    #[must_use]
    pub fn settings(&self, row: &Row) -> &Settings {
        &self.settings.values[row.settings as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Key;
    use crate::audit::samples::{self, found};

    #[test]
    fn a_row_with_its_place_takes_130_bytes_at_most() {
        assert!(size_of::<(Key, Row)>() <= 130, "{}", size_of::<(Key, Row)>());
    }

    #[test]
    fn a_row_says_what_was_found() {
        let mut shared = Shared::default();
        for found in samples::all() {
            let row = Row::of(&found, &mut shared);
            assert_eq!((row.local(), row.remote()), (found.socket.local, found.socket.remote));
            let owner = Owner { pid: found.socket.pid, comm: found.socket.comm };
            assert_eq!(*shared.owner(&row), owner);
            let Settings { keepalive, user_timeout_ms } = shared.settings(&row).clone();
            assert_eq!((keepalive, user_timeout_ms), (found.tcp.keepalive, found.tcp.user_timeout_ms));
            assert_eq!((row.idle.ms(), row.noticed_in.ms()), (found.idle_ms, found.noticed_in_ms));
        }
    }

    #[test]
    fn what_rows_have_in_common_is_kept_once() {
        let mut shared = Shared::default();
        let rows: Vec<_> = (0..9).map(|id| Row::of(&found(id), &mut shared)).collect();
        assert!(rows.iter().all(|row| row.owner == 0 && row.settings == 0));
        assert_eq!((shared.owners.values.len(), shared.settings.values.len()), (1, 1));
    }

    #[test]
    fn durations_of_months_lose_their_milliseconds_and_unknown_stays_unknown() {
        let kept = |ms| Span::of(Some(ms)).ms();
        assert_eq!(kept(0), Some(0));
        assert_eq!(kept(2_147_483_647), Some(2_147_483_647));
        assert_eq!(kept(2_147_483_648), Some(2_147_483_000));
        assert_eq!(kept(10_000_000_999), Some(10_000_000_000));
        assert!(kept(u64::MAX).is_some(), "the longest is no unknown one");
        assert_eq!(Span::of(None).ms(), None);
        assert_eq!(
            [Some(0), Some(u64::MAX), None].map(|size| Size::of(size).bytes()),
            [Some(0), Some(u64::from(u32::MAX) - 1), None]
        );
    }
}
