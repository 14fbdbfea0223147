//! Sorts records by time.
//!
//! A record's time is read before its slot in the ring buffer is taken, so two CPUs may hand over in the other order. Records
//! wait here until everything older has surely arrived. What comes later still is passed on at once and counted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::source::decode::Raw;
use crate::time::nanoseconds;

/// How long records wait. A program that is preempted between reading the clock and taking its slot is back by then.
pub const HOLD_BACK: Duration = Duration::from_millis(5);

/// Records that wait for older ones.
#[derive(Debug, Default)]
pub struct Order {
    waiting: BinaryHeap<Reverse<Waiting>>,
    arrivals: u64,
    released_ns: u64,
    late: u64,
}

#[derive(Debug)]
struct Waiting {
    time_ns: u64,
    /// Records of the same time keep the order in which they came.
    arrival: u64,
    raw: Raw,
}

impl Order {
    /// Takes in a record.
    pub fn push(&mut self, raw: Raw) {
        let time_ns = raw.head().time_ns;
        self.late += u64::from(time_ns < self.released_ns);
        self.arrivals += 1;
        self.waiting.push(Reverse(Waiting { time_ns, arrival: self.arrivals, raw }));
    }

    /// Takes back a record that had its turn and waits for something else.
    pub fn put_back(&mut self, raw: Raw) {
        self.arrivals += 1;
        self.waiting.push(Reverse(Waiting { time_ns: raw.head().time_ns, arrival: self.arrivals, raw }));
    }

    /// The oldest record, if it has waited long enough at `now_ns` (CLOCK_MONOTONIC).
    pub fn pop(&mut self, now_ns: u64) -> Option<Raw> {
        let due_ns = now_ns.saturating_sub(nanoseconds(HOLD_BACK));
        if self.waiting.peek()?.0.time_ns > due_ns {
            return None;
        }
        self.pop_now()
    }

    /// Whether a record that `is_wanted` has waited long enough at `now_ns`.
    pub fn has_due(&self, now_ns: u64, is_wanted: impl Fn(&Raw) -> bool) -> bool {
        let due_ns = now_ns.saturating_sub(nanoseconds(HOLD_BACK));
        self.waiting.iter().any(|Reverse(waiting)| waiting.time_ns <= due_ns && is_wanted(&waiting.raw))
    }

    /// The oldest record, however young: for the end.
    pub fn pop_now(&mut self) -> Option<Raw> {
        let Reverse(Waiting { time_ns, arrival: _, raw }) = self.waiting.pop()?;
        self.released_ns = self.released_ns.max(time_ns);
        Some(raw)
    }

    /// How many records wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Records that arrived after a younger one had been passed on.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        (self.time_ns, self.arrival) == (other.time_ns, other.arrival)
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time_ns, self.arrival).cmp(&(other.time_ns, other.arrival))
    }
}

#[cfg(test)]
mod tests {
    use zsock_common::wire::{ClockRecord, Head, Kind};

    use super::*;

    const MS: u64 = 1_000_000;

    fn record(time_ns: u64, cookie: u64) -> Raw {
        let head = Head { time_ns, cookie, kind: Kind::Clock as u16, flags: 0, jiffies: 0 };
        Raw::Clock(ClockRecord { head, jiffies: 0 })
    }

    fn popped(order: &mut Order, now_ns: u64) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| order.pop(now_ns)).map(|raw| (raw.head().time_ns, raw.head().cookie)).collect()
    }

    #[test]
    fn records_come_out_by_time_and_those_of_one_time_as_they_came() {
        let mut order = Order::default();
        for (time_ns, cookie) in [(3, 1), (1, 2), (3, 3), (2, 4)] {
            order.push(record(time_ns, cookie));
        }
        assert_eq!(popped(&mut order, 100 * MS), [(1, 2), (2, 4), (3, 1), (3, 3)]);
    }

    #[test]
    fn a_record_waits_for_older_ones_that_may_still_come() {
        let mut order = Order::default();
        order.push(record(10 * MS, 1));
        assert_eq!(popped(&mut order, 14 * MS), []);
        order.push(record(9 * MS, 2));
        assert_eq!(popped(&mut order, 15 * MS), [(9 * MS, 2), (10 * MS, 1)]);
        assert_eq!(order.late(), 0);
    }

    #[test]
    fn one_that_comes_too_late_is_passed_on_and_counted() {
        let mut order = Order::default();
        order.push(record(10 * MS, 1));
        assert_eq!(popped(&mut order, 20 * MS), [(10 * MS, 1)]);
        order.push(record(8 * MS, 2));
        assert_eq!(popped(&mut order, 20 * MS), [(8 * MS, 2)]);
        assert_eq!(order.late(), 1);
    }
}
