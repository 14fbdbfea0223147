//! What happened to one socket, in the order of time, bounded.

use crate::record::{Event, State, Tcp, What};
use crate::time::Time;

/// A socket's reader is shown no more entries than these.
const KEPT: usize = 64;

/// The first of them are never dropped: how a connection came about explains more than the middle of a storm.
const KEPT_FIRST: usize = 16;

/// So many more may be there that are not shown any longer: to drop one moves all that came after it, so they are dropped together.
const SURPLUS: usize = 8;

/// So many are left of a timeline that makes room: half of them the first, half the latest.
const KEPT_WITHOUT_ROOM: usize = 4;

/// What happened to a socket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    entries: Vec<TimelineEntry>,
    /// When the last of them happened: to look at the entry itself takes longer than all the rest, for it is out of the cache by then.
    latest: Option<Time>,
    omitted: u64,
    /// It had to make room once, and keeps fewer of the first entries since.
    is_short: bool,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct TimelineEntry {
    /// When.
    pub at: Time,
    /// What.
    pub what: What,
    /// How TCP stood after it; empty for replayed entries.
    pub standing: Standing,
    /// Told after the fact, at its true time.
    pub replayed: bool,
    /// Not seen but concluded from what the kernel still knew.
    pub inferred: bool,
}

/// Of the facts of a [`Tcp`] those that a timeline shows: it keeps many entries.
#[expect(missing_docs, reason = "the fields are those of Tcp")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub state: Option<State>,
    pub rto_ms: Option<u64>,
    pub unacked_bytes: Option<u64>,
    pub unsent_bytes: Option<u64>,
    pub last_received_ms: Option<u64>,
}

impl Standing {
    /// What is shown of `tcp`.
    #[must_use]
    pub const fn of(tcp: &Tcp) -> Self {
        Self {
            state: tcp.state,
            rto_ms: tcp.rto_ms,
            unacked_bytes: tcp.unacked_bytes,
            unsent_bytes: tcp.unsent_bytes,
            last_received_ms: tcp.last_received_ms,
        }
    }
}

impl Timeline {
    /// The first entries, how many are missing after them, and the last ones. Nothing is missing while the last ones are empty.
    #[must_use]
    pub fn parts(&self) -> (&[TimelineEntry], u64, &[TimelineEntry]) {
        let (first, others) = self.entries.split_at(self.entries.len().min(self.kept_first()));
        let surplus = self.surplus();
        (first, self.omitted + surplus as u64, &others[surplus..])
    }

    /// Puts an event in its place, and drops the oldest after the first ones where there are too many.
    pub(crate) fn add(&mut self, at: Time, event: &Event) {
        let entry = TimelineEntry {
            at,
            what: event.what.clone(),
            standing: Standing::of(&event.tcp),
            replayed: event.replayed,
            inferred: event.inferred,
        };
        // Most are told in their order: a look at the last one spares looks at many.
        let is_latest = self.latest.is_none_or(|latest| latest <= at);
        let earlier = |entries: &[TimelineEntry]| entries.partition_point(|earlier| earlier.at <= at);
        let place = if is_latest { self.entries.len() } else { earlier(&self.entries) };
        self.latest = self.latest.max(Some(at));
        // Most sockets have few entries for most of their life, seldom only one, and more of them in quick succession at its end. To make
        // room for more moves all of them: where there are many, it is made for many.
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(if self.entries.is_empty() {
                2
            } else {
                3.max(self.entries.len() / 3)
            });
        }
        self.entries.insert(place, entry);
        if self.surplus() > SURPLUS {
            let first = self.kept_first();
            self.omitted += self.entries.drain(first..first + self.surplus()).len() as u64;
        }
    }

    /// Whether [`Timeline::shorten`] would find something to drop.
    pub(crate) fn can_be_shorter(&self) -> bool {
        self.entries.len() > KEPT_WITHOUT_ROOM
    }

    /// Keeps how it began and what came last, for want of room.
    pub(crate) fn shorten(&mut self) {
        let first = KEPT_WITHOUT_ROOM / 2;
        let surplus = self.entries.len().saturating_sub(KEPT_WITHOUT_ROOM);
        if surplus > 0 {
            self.entries.drain(first..first + surplus);
            self.entries.shrink_to_fit();
            self.omitted += surplus as u64;
            self.is_short = true;
        }
    }

    /// The memory that its entries take.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<TimelineEntry>()
    }

    /// How many of those that come after the first ones are too many.
    fn surplus(&self) -> usize {
        self.entries.len().saturating_sub(KEPT)
    }

    /// How many entries at the beginning are never dropped.
    fn kept_first(&self) -> usize {
        if self.is_short { KEPT_WITHOUT_ROOM / 2 } else { KEPT_FIRST }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::detect::story::{at, resent};

    fn attempts(entries: &[TimelineEntry]) -> Vec<u32> {
        let attempt = |entry: &TimelineEntry| {
            if let What::Retransmit(retransmit) = &entry.what { retransmit.attempt } else { None }
        };
        entries.iter().filter_map(attempt).collect()
    }

    #[test]
    fn the_first_and_the_latest_are_kept_and_the_middle_is_counted() {
        let mut timeline = Timeline::default();
        for attempt in 1..=76 {
            timeline.add(at(u64::from(attempt)), &resent(attempt));
        }
        let (first, omitted, last) = timeline.parts();
        assert_eq!(attempts(first), (1..=16).collect::<Vec<_>>());
        assert_eq!(omitted, 12);
        assert_eq!(attempts(last), (29..=76).collect::<Vec<_>>());
    }

    #[test]
    fn one_that_makes_room_keeps_its_beginning_and_its_end_and_counts_the_rest() {
        let mut timeline = Timeline::default();
        for attempt in 1..=76 {
            timeline.add(at(u64::from(attempt)), &resent(attempt));
        }
        assert!(timeline.can_be_shorter());
        let before = timeline.bytes();
        timeline.shorten();
        assert!(!timeline.can_be_shorter() && timeline.bytes() * 8 < before);
        timeline.add(at(77), &resent(77));
        let (first, omitted, last) = timeline.parts();
        assert_eq!((attempts(first), omitted, attempts(last)), (vec![1, 2], 72, vec![75, 76, 77]));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_what_would_be_if_each_surplus_entry_were_dropped_at_once(times in vec(0_u64..400, 0..200)) {
            let mut timeline = Timeline::default();
            let mut shown: Vec<(u64, u32)> = Vec::new();
            for (ms, attempt) in times.iter().copied().zip(1..) {
                timeline.add(at(ms), &resent(attempt));
                shown.insert(shown.partition_point(|(earlier, _)| *earlier <= ms), (ms, attempt));
                if shown.len() > KEPT {
                    shown.remove(KEPT_FIRST);
                }
                let (first, omitted, last) = timeline.parts();
                let told = [attempts(first), attempts(last)].concat();
                prop_assert_eq!(told, shown.iter().map(|(_, attempt)| *attempt).collect::<Vec<_>>());
                prop_assert_eq!(omitted + shown.len() as u64, u64::from(attempt));
            }
        }
    }

    #[test]
    fn what_is_told_late_stands_where_it_happened() {
        let mut timeline = Timeline::default();
        for (ms, attempt) in [(500, 2), (900, 3), (200, 1), (900, 4)] {
            timeline.add(at(ms), &resent(attempt));
        }
        assert_eq!(attempts(timeline.parts().0), [1, 2, 3, 4]);
    }
}
