//! Network namespaces at rest, which passes leave out.
//!
//! To walk a namespace takes the time to look through the one table in which the kernel has the sockets of all namespaces, some milliseconds on a
//! large host, though there be none in it. To read how many segments it has sent and received takes some 40 µs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::time::Duration;

use zsock_common::wire::{Rest, STATES, walk};

use crate::time::nanoseconds;

/// A namespace is left out for no longer: listeners come and go without a segment, and are counted.
const LONGEST: Duration = Duration::from_mins(1);

/// What is known of namespaces, by inode number.
#[derive(Debug, Default)]
pub(super) struct Rests {
    known: BTreeMap<u64, Known>,
}

#[derive(Debug)]
struct Known {
    /// What the kernel has counted of TCP there, as it stood before the last pass.
    counters: Vec<u8>,
    /// The next pass may find something from then on, CLOCK_MONOTONIC nanoseconds; 0 where it may at once.
    rests_until_ns: u64,
    was_left_out: bool,
    /// The sockets that the last walk found, by state.
    found: [u64; STATES],
}

/// What a pass does about a namespace.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is walked; a [`walk`] value.
    Walk(u32),
    /// It is left out, and has these sockets, by state.
    LeftOut([u64; STATES]),
}

impl Rests {
    /// What the pass that begins at `now_ns` does about this namespace; `counters` are those of TCP there, `None` where they cannot be read.
    pub(super) fn turn(&mut self, namespace: u64, counters: Option<Vec<u8>>, now_ns: u64) -> Turn {
        let Some(counters) = counters else {
            self.known.remove(&namespace);
            return Turn::Walk(walk::BUSY);
        };
        match self.known.get_mut(&namespace) {
            Some(known) if known.counters == counters => known.turn(now_ns),
            _ => {
                let known = Known { counters, rests_until_ns: 0, was_left_out: false, found: [0; STATES] };
                self.known.insert(namespace, known);
                Turn::Walk(walk::BUSY)
            }
        }
    }

    /// Takes over what the walk that began at `began_ns` found of a namespace in which nothing had been sent or received: whether it is at rest, and
    /// its sockets by state.
    pub(super) fn note(
        &mut self,
        namespace: u64,
        began_ns: u64,
        rest: Rest,
        tick_ns: u32,
        found: [u64; STATES],
    ) {
        if let Some(known) = self.known.get_mut(&namespace)
            && rest.restless == 0
        {
            let rests_ns = (u64::from(rest.ticks) * u64::from(tick_ns)).min(nanoseconds(LONGEST));
            // Those that came to rest at once are not all walked again at once.
            let earlier_ns = rests_ns / 16 * (namespace % 8);
            known.rests_until_ns = began_ns.saturating_add(rests_ns - earlier_ns);
            known.found = found;
        }
    }

    /// Forgets those that are gone.
    pub(super) fn keep(&mut self, namespaces: &BTreeMap<u64, File>) {
        self.known.retain(|namespace, _| namespaces.contains_key(namespace));
    }
}

impl Known {
    fn turn(&mut self, now_ns: u64) -> Turn {
        if now_ns < self.rests_until_ns {
            self.was_left_out = true;
            return Turn::LeftOut(self.found);
        }
        self.rests_until_ns = 0;
        Turn::Walk(if std::mem::take(&mut self.was_left_out) { walk::RARE } else { walk::QUIET })
    }
}

/// What the kernel has counted of TCP in this thread's network namespace: segments of every kind, connections. Only whether it is the same as before
/// counts. `None` where it does not say.
///
/// Source: `/proc/net/snmp`.
pub(super) fn counters() -> Option<Vec<u8>> {
    of_tcp(&fs::read("/proc/thread-self/net/snmp").ok()?)
}

fn of_tcp(snmp: &[u8]) -> Option<Vec<u8>> {
    let lines = snmp.split(|byte| *byte == b'\n');
    let lines: Vec<u8> = lines.filter(|line| line.starts_with(b"Tcp: ")).flatten().copied().collect();
    // Of a kernel that does not count them it would say nothing.
    let says_segments = lines.windows(9).any(|word| word == b" OutSegs ");
    says_segments.then_some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_NS: u32 = 4_000_000;
    const RESTS: Rest = Rest { restless: 0, ticks: 250 };

    fn second(seconds: u64) -> u64 {
        nanoseconds(Duration::from_secs(seconds))
    }

    fn turns(rests: &mut Rests, counters: &[u8], seconds: impl IntoIterator<Item = u64>) -> Vec<Turn> {
        let turn = |at| rests.turn(8, Some(counters.to_vec()), second(at));
        seconds.into_iter().map(turn).collect()
    }

    #[test]
    fn a_namespace_is_left_out_as_long_as_it_rests_and_nothing_is_sent_there() {
        let mut rests = Rests::default();
        assert_eq!(turns(&mut rests, b"1", [1, 2]), [Turn::Walk(walk::BUSY), Turn::Walk(walk::QUIET)]);
        let found = [3; STATES];
        rests.note(8, second(2), Rest { ticks: 1000, ..RESTS }, TICK_NS, found);
        let after = turns(&mut rests, b"1", 3..=7);
        let out = || Turn::LeftOut(found);
        assert_eq!(after, [out(), out(), out(), Turn::Walk(walk::RARE), Turn::Walk(walk::QUIET)]);
        rests.note(8, second(7), RESTS, TICK_NS, found);
        assert_eq!(turns(&mut rests, b"2", [7, 8]), [Turn::Walk(walk::BUSY), Turn::Walk(walk::QUIET)]);
    }

    #[test]
    fn one_that_is_restless_or_does_not_tell_its_counters_is_walked_each_time() {
        let mut rests = Rests::default();
        turns(&mut rests, b"1", [1, 2]);
        rests.note(8, second(2), Rest { restless: 1, ticks: u32::MAX }, TICK_NS, [0; STATES]);
        assert_eq!(turns(&mut rests, b"1", [3]), [Turn::Walk(walk::QUIET)]);
        rests.note(8, second(3), RESTS, TICK_NS, [0; STATES]);
        assert_eq!(rests.turn(8, None, second(3)), Turn::Walk(walk::BUSY));
        assert_eq!(turns(&mut rests, b"1", [3]), [Turn::Walk(walk::BUSY)]);
    }

    #[test]
    fn no_rest_is_for_ever() {
        let mut rests = Rests::default();
        turns(&mut rests, b"1", [1, 2]);
        rests.note(8, second(2), Rest { restless: 0, ticks: u32::MAX }, TICK_NS, [0; STATES]);
        assert_eq!(turns(&mut rests, b"1", [61, 62]), [Turn::LeftOut([0; STATES]), Turn::Walk(walk::RARE)]);
    }

    #[test]
    fn namespaces_that_came_to_rest_at_once_are_not_walked_again_at_once() {
        let mut rests = Rests::default();
        for namespace in 0..8 {
            for at in [1, 2] {
                rests.turn(namespace, Some(Vec::new()), second(at));
            }
            rests.note(namespace, second(2), Rest { ticks: 2000, ..RESTS }, TICK_NS, [0; STATES]);
        }
        let mut walked = |at| {
            let turn = |namespace: &u64| {
                rests.turn(*namespace, Some(Vec::new()), second(at)) != Turn::LeftOut([0; STATES])
            };
            (0..8).filter(turn).collect::<Vec<_>>()
        };
        assert_eq!(
            [6, 7, 8, 9].map(&mut walked),
            [vec![], vec![6, 7], vec![4, 5, 6, 7], vec![2, 3, 4, 5, 6, 7]]
        );
    }

    #[test]
    fn one_that_is_gone_is_forgotten() {
        let mut rests = Rests::default();
        turns(&mut rests, b"1", [1, 2]);
        rests.note(8, second(2), RESTS, TICK_NS, [0; STATES]);
        rests.keep(&BTreeMap::new());
        assert_eq!(turns(&mut rests, b"1", [2]), [Turn::Walk(walk::BUSY)]);
    }

    #[test]
    fn what_the_kernel_counts_of_tcp_is_found_among_the_rest() {
        let snmp = b"Ip: InReceives\nIp: 5\nTcp: InSegs OutSegs RetransSegs\nTcp: 1 2 3\nUdp: In\nUdp: 9\n";
        assert_eq!(of_tcp(snmp).unwrap(), b"Tcp: InSegs OutSegs RetransSegsTcp: 1 2 3");
        assert_eq!(of_tcp(b"Ip: InReceives\nIp: 5\nTcp: InSegs\nTcp: 1\n"), None);
        assert_eq!(of_tcp(b""), None);
    }
}
