//! The sockets that come first in some order.

use std::net::{IpAddr, SocketAddr};

use super::Sort;
use crate::detect;
use crate::record::{Found, Noticed, Severity, Socket};

/// A socket's place in the order: the smallest comes first.
pub type Key = [u64; 4];

/// No fewer are kept at once, so that sorting out those that do not count is rare.
const LEAST_KEPT: usize = 512;

/// Those of the sockets that come first, at most `limit`.
///
/// Holds up to twice the limit before it lets the rest go, so a socket costs one comparison on average however many there are.
#[derive(Debug)]
pub struct Worst<T> {
    sort: Sort,
    limit: usize,
    kept: Vec<(Key, T)>,
    /// What comes after this one does not count any more.
    last: Option<Key>,
}

impl<T> Worst<T> {
    /// None yet. Without a limit all are kept.
    #[must_use]
    pub const fn new(sort: Sort, limit: Option<usize>) -> Self {
        let limit = match limit {
            Some(limit) => limit,
            None => usize::MAX,
        };
        Self { sort, limit, kept: Vec::new(), last: None }
    }

    /// The place of a socket.
    #[must_use]
    pub fn place(&self, found: &Found) -> Key {
        key(self.sort, found)
    }

    /// Takes in what `keep` makes of the socket that has this place, where it counts.
    pub fn admit(&mut self, key: Key, keep: impl FnOnce() -> T) {
        if self.limit == 0 || self.last.is_some_and(|last| key > last) {
            return;
        }
        self.kept.push((key, keep()));
        if self.kept.len() >= self.limit.max(LEAST_KEPT).saturating_mul(2) {
            let (_, last, _) = self.kept.select_nth_unstable_by_key(self.limit - 1, |(key, _)| *key);
            self.last = Some(last.0);
            self.kept.truncate(self.limit);
        }
    }

    /// What counts, in order.
    pub fn sorted(&mut self) -> impl ExactSizeIterator<Item = &T> + Clone + use<'_, T> {
        self.kept.sort_unstable_by_key(|(key, _)| *key);
        self.kept.truncate(self.limit);
        self.kept.iter().map(|(_, kept)| kept)
    }
}

/// A value of which the largest comes first, and what is not known last.
fn largest_first(value: Option<u64>) -> u64 {
    u64::MAX - value.map_or(0, |value| value.saturating_add(1))
}

/// The place of a socket; its id decides where nothing else does.
fn key(sort: Sort, found: &Found) -> Key {
    let id = found.socket.id.0;
    let idle = largest_first(found.idle_ms);
    let unnoticed = match found.noticed {
        Some(Noticed::Never) => 0,
        Some(Noticed::Hours | Noticed::Minutes | Noticed::Seconds) | None => {
            largest_first(found.noticed_in_ms)
        }
    };
    match sort {
        Sort::Harm => [!harm(found), unnoticed, idle, id],
        Sort::Noticed => [!noticed(found), unnoticed, idle, id],
        Sort::Idle => [idle, !harm(found), unnoticed, id],
        Sort::Queue => [largest_first(queued(found)), !harm(found), idle, id],
        Sort::Process => by_process(&found.socket),
        Sort::Local => by_end(found.socket.local, id),
        Sort::Remote => by_end(found.socket.remote, id),
    }
}

/// How bad it is: a verdict that is at least a warning, a peer that is not on this host, any verdict, how late its death would be noticed.
fn harm(found: &Found) -> u64 {
    let severity = found.verdict.and_then(detect::severity);
    let severe = match severity {
        Some(Severity::Critical) => 2,
        Some(Severity::Warning) => 1,
        Some(Severity::Info) | None => 0,
    };
    let is_off_host = found.has_peer() && !found.is_on_loopback();
    severe << 5 | u64::from(is_off_host) << 4 | u64::from(found.verdict.is_some()) << 3 | noticed(found)
}

fn noticed(found: &Found) -> u64 {
    match found.noticed {
        Some(Noticed::Never) => 5,
        Some(Noticed::Hours) => 4,
        Some(Noticed::Minutes) => 3,
        Some(Noticed::Seconds) => 2,
        None => u64::from(found.has_peer()),
    }
}

fn queued(found: &Found) -> Option<u64> {
    if let Some(queue) = found.accept_queue {
        return Some(queue.queue.into());
    }
    let tcp = &found.tcp;
    [tcp.unacked_bytes, tcp.unsent_bytes, tcp.unread_bytes].into_iter().flatten().reduce(u64::saturating_add)
}

/// By the first 16 bytes of the name, more than the kernel keeps of most, and by the id.
fn by_process(socket: &Socket) -> Key {
    let pid = socket.pid.map_or(u64::MAX, u64::from);
    let Some(comm) = socket.comm.as_deref() else { return [u64::MAX, u64::MAX, pid, socket.id.0] };
    let mut bytes = [0; 16];
    let length = comm.len().min(bytes.len());
    bytes[..length].copy_from_slice(&comm.as_bytes()[..length]);
    let [first, second] = halves(u128::from_be_bytes(bytes));
    [first, second, pid, socket.id.0]
}

fn by_end(end: Option<SocketAddr>, id: u64) -> Key {
    let Some(end) = end else { return [u64::MAX, u64::MAX, u64::MAX, id] };
    let address = match end.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let [first, second] = halves(address.into());
    [first, second, end.port().into(), id]
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
const fn halves(value: u128) -> [u64; 2] {
    [(value >> 64) as u64, value as u64]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::samples::{
        accepted, all, found, guarded_late, listener, on_loopback, orphan, stranger, stuck, time_wait,
    };

    /// The ids in order.
    fn sorted(sort: Sort, limit: Option<usize>, sockets: &[Found]) -> Vec<u64> {
        let mut worst = Worst::new(sort, limit);
        for found in sockets {
            worst.admit(worst.place(found), || found.socket.id.0);
        }
        worst.sorted().copied().collect()
    }

    #[test]
    fn harm_is_a_warning_then_the_peer_elsewhere_then_how_late_it_would_be_noticed() {
        let idle_for = |id, idle_ms| Found { idle_ms: Some(idle_ms), ..found(id) };
        let sockets = [
            time_wait(1),
            on_loopback(2),
            accepted(3),
            stranger(4),
            Found { verdict: None, ..found(5) },
            guarded_late(6),
            idle_for(7, 1),
            idle_for(8, 2),
            orphan(9),
            stuck(10),
            Found { verdict: Some(crate::record::VerdictName::AcceptQueueFull), ..listener(11) },
            Found { noticed_in_ms: Some(7_476_001), ..guarded_late(12) },
            listener(13),
        ];
        assert_eq!(sorted(Sort::Harm, None, &sockets), [11, 10, 8, 7, 12, 6, 9, 5, 3, 4, 2, 1, 13]);
    }

    #[test]
    fn other_orders_are_by_what_they_say_and_what_is_not_known_comes_last() {
        let order = |sort| sorted(sort, None, &all());
        assert_eq!(order(Sort::Noticed)[..4], [1, 5, 2, 3]);
        assert_eq!(order(Sort::Idle)[..3], [1, 2, 5]);
        assert_eq!(
            order(Sort::Queue)[..3],
            [3, 9, 6],
            "312 B and 20 KiB, the same of the orphan, 3 connections"
        );
        assert_eq!(order(Sort::Process), [8, 1, 2, 3, 5, 6, 9, 4, 7, 10]);
        assert_eq!(order(Sort::Remote), [5, 1, 2, 3, 7, 8, 9, 4, 10, 6]);
        assert_eq!(order(Sort::Local), [5, 6, 4, 10, 1, 2, 3, 7, 9, 8]);
    }

    #[test]
    fn a_limit_keeps_those_that_would_have_come_first_without_it() {
        let idle_for = |id: u64| Found { idle_ms: Some(id * 7_919 % 10_007), ..found(id) };
        let many: Vec<_> = (0..10_000).map(idle_for).collect();
        let all = sorted(Sort::Idle, None, &many);
        assert_eq!(all.len(), 10_000);
        for limit in [0, 1, 20, 600, 9_999, 10_000, 20_000] {
            assert_eq!(sorted(Sort::Idle, Some(limit), &many), all[..limit.min(10_000)], "{limit}");
        }
    }

    #[test]
    fn what_does_not_count_is_not_kept() {
        let mut worst = Worst::new(Sort::Idle, Some(20));
        let mut made = 0;
        for id in 0..100_000 {
            worst.admit(worst.place(&Found { idle_ms: Some(100_000 - id), ..found(id) }), || made += 1);
        }
        assert!(worst.kept.len() <= 2 * LEAST_KEPT && made <= 2 * LEAST_KEPT, "{made}");
    }
}
