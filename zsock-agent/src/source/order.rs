//! Sorts records by time.
//!
//! A record's time is read before its slot in the ring buffer is taken, so two CPUs may hand over in the other order. Records
//! wait here until everything older has surely arrived. What comes later still is passed on at once and counted.

use std::collections::VecDeque;
use std::time::Duration;

use crate::source::decode::Raw;
use crate::time::nanoseconds;

/// How long records wait. A program that is preempted between reading the clock and taking its slot is back by then.
pub const HOLD_BACK: Duration = Duration::from_millis(5);

/// Records that wait for older ones.
#[derive(Debug, Default)]
pub struct Order {
    /// By time, those of the same time as they came. Nearly all come in their order, at the end.
    waiting: VecDeque<Waiting>,
    released_ns: u64,
    late: u64,
}

#[derive(Debug)]
struct Waiting {
    time_ns: u64,
    raw: Raw,
}

impl Order {
    /// Takes in a record.
    pub fn push(&mut self, raw: Raw) {
        let time_ns = raw.head().time_ns;
        self.late += u64::from(time_ns < self.released_ns);
        let is_latest = self.waiting.back().is_none_or(|last| last.time_ns <= time_ns);
        let earlier = |waiting: &VecDeque<Waiting>| waiting.partition_point(|it| it.time_ns <= time_ns);
        let place = if is_latest { self.waiting.len() } else { earlier(&self.waiting) };
        self.waiting.insert(place, Waiting { time_ns, raw });
    }

    /// Takes back records that had their turn, in the order in which they had it, and wait for something else.
    pub fn put_back(&mut self, raws: Vec<Raw>) {
        for raw in raws.into_iter().rev() {
            let time_ns = raw.head().time_ns;
            let place = self.waiting.partition_point(|earlier| earlier.time_ns < time_ns);
            self.waiting.insert(place, Waiting { time_ns, raw });
        }
    }

    /// The oldest record, if it has waited long enough at `now_ns` (CLOCK_MONOTONIC).
    pub fn pop(&mut self, now_ns: u64) -> Option<Raw> {
        let due_ns = now_ns.saturating_sub(nanoseconds(HOLD_BACK));
        if self.waiting.front()?.time_ns > due_ns {
            return None;
        }
        self.pop_now()
    }

    /// Whether a record that `is_wanted` has waited long enough at `now_ns`.
    pub fn has_due(&self, now_ns: u64, is_wanted: impl Fn(&Raw) -> bool) -> bool {
        let due_ns = now_ns.saturating_sub(nanoseconds(HOLD_BACK));
        self.waiting
            .iter()
            .take_while(|waiting| waiting.time_ns <= due_ns)
            .any(|waiting| is_wanted(&waiting.raw))
    }

    /// The oldest record, however young: for the end.
    pub fn pop_now(&mut self) -> Option<Raw> {
        let Waiting { time_ns, raw } = self.waiting.pop_front()?;
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

#[cfg(test)]
mod tests {
    use zsock_common::wire::{ClockRecord, Head, Kind};

    use super::*;

    const MS: u64 = 1_000_000;

    fn record(time_ns: u64, cookie: u64) -> Raw {
        let head = Head { time_ns, cookie, kind: Kind::Clock as u16, flags: 0, jiffies: 0 };
        Raw::Clock(Box::new(ClockRecord { head, jiffies: 0 }))
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
    fn those_that_are_taken_back_come_before_all_others_again_in_their_order() {
        let mut order = Order::default();
        for (time_ns, cookie) in [(1, 1), (2, 2), (2, 3), (3, 4)] {
            order.push(record(time_ns, cookie));
        }
        let taken = [order.pop_now(), order.pop_now()];
        order.put_back(taken.into_iter().flatten().collect());
        assert_eq!(popped(&mut order, 100 * MS), [(1, 1), (2, 2), (2, 3), (3, 4)]);
        assert_eq!(order.late(), 0);
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
