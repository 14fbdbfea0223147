//! Failed accepts, one record a second for a process and errno: a server without descriptors may fail a million times a second.
//!
//! The kernel side counts every failure and tells of some. What is told here are differences of its count, so nothing is lost with
//! what it did not tell, nor with records that found no room. Reads no clock.

use std::collections::HashMap;
use std::time::Duration;

use zsock_common::wire::SocketRecord;

use crate::record::{Body, Record, What};
use crate::time::Time;

/// No more than one record of a caller in so long.
const INTERVAL: Duration = Duration::from_secs(1);

/// So many callers' counts are kept, twice as many as the kernel side keeps: it forgets one before this does.
const MAX_CALLERS: usize = 8192;

/// Who fails, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The process that called accept.
    pub pid: u32,
    /// The error number, positive.
    pub errno: u32,
}

impl Caller {
    /// The caller of a failed accept, [`zsock_common::wire::Kind::AcceptFailed`].
    #[must_use]
    pub fn of(record: &SocketRecord) -> Self {
        Self { pid: record.actor.tgid, errno: record.detail }
    }
}

/// Brings the failures of each caller down to one record a second.
#[derive(Debug, Default)]
pub struct AcceptFailures {
    /// Callers that were told of within the last second.
    recent: HashMap<Caller, Recent>,
    /// How many failures were told of each caller since the start, low half.
    told: HashMap<Caller, u32>,
}

#[derive(Debug)]
struct Recent {
    told_at: Time,
    /// The last failure.
    record: Record,
    /// The kernel side's count with it, low half.
    total: u32,
}

impl AcceptFailures {
    /// No failure yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a failure of `caller`, as a record of `accept_failed` whose count is filled in here. `total` is the kernel side's
    /// count. Returns the record where it is to be told at once; otherwise [`AcceptFailures::due`] tells it.
    pub fn note(&mut self, caller: Caller, total: u32, record: Record) -> Option<Record> {
        if let Some(recent) = self.recent.get_mut(&caller) {
            // Two CPUs' records may come in either order.
            if is_later(total, recent.total) {
                recent.total = total;
                recent.record = record;
            }
            return None;
        }
        let told_at = record.at;
        let told = self.tell(caller, total, record.clone(), told_at)?;
        self.recent.insert(caller, Recent { told_at, record, total });
        Some(told)
    }

    /// What is to be told by `now`; at the end of the trace (`is_end`) whatever is left. `total` gives the kernel side's count of a
    /// caller, low half, where it still has one.
    pub fn due(&mut self, now: Time, is_end: bool, total: impl Fn(Caller) -> Option<u32>) -> Vec<Record> {
        let is_due = |recent: &Recent| is_end || now.since(recent.told_at) >= INTERVAL;
        let due: Vec<_> = self.recent.extract_if(|_, recent| is_due(recent)).collect();
        let mut records = Vec::new();
        for (caller, Recent { record, total: noted, .. }) in due {
            let total = total(caller).filter(|total| is_later(*total, noted)).unwrap_or(noted);
            if let Some(told) = self.tell(caller, total, record.clone(), now) {
                records.push(told);
                self.recent.insert(caller, Recent { told_at: now, record, total });
            }
        }
        records.sort_by_key(|record| record.event().map(|event| event.socket.id));
        records
    }

    /// The record with the failures that were not told yet; `None` where there are none.
    fn tell(&mut self, caller: Caller, total: u32, mut record: Record, at: Time) -> Option<Record> {
        if self.told.len() >= MAX_CALLERS && !self.told.contains_key(&caller) {
            self.told.retain(|caller, _| self.recent.contains_key(caller));
        }
        let told = self.told.entry(caller).or_default();
        if !is_later(total, *told) {
            return None;
        }
        let count = total.wrapping_sub(*told);
        *told = total;
        record.at = at;
        if let Body::Event(event) = &mut record.body
            && let What::AcceptFailed(failed) = &mut event.what
        {
            failed.count = u64::from(count);
        }
        Some(record)
    }
}

/// Whether `total` is the later one of two counts that may have wrapped around.
fn is_later(total: u32, before: u32) -> bool {
    (1..1 << 31).contains(&total.wrapping_sub(before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::story::{at, event, on};
    use crate::record::{AcceptFailed, Errno};

    const SERVER: Caller = Caller { pid: 812, errno: 24 };
    const OTHER: Caller = Caller { pid: 900, errno: 24 };

    fn failed(ms: u64) -> Record {
        let what = AcceptFailed { errno: Errno::named("EMFILE"), count: 0, process: None };
        on(ms, event(What::AcceptFailed(what)))
    }

    fn counts(records: &[Record]) -> Vec<(Time, u64)> {
        let count = |record: &Record| {
            let What::AcceptFailed(failed) = &record.event()?.what else { return None };
            Some((record.at, failed.count))
        };
        records.iter().filter_map(count).collect()
    }

    /// Tells failures of the server as the kernel side does, and asks every 40 ms of the first 3 s what is due.
    fn told(failures: &mut AcceptFailures, noted: &[(u64, u32)], total: u32) -> Vec<(Time, u64)> {
        let mut records = Vec::new();
        let mut noted = noted.iter().peekable();
        for ms in (0..3_000).step_by(40) {
            while let Some((noted_ms, total)) = noted.next_if(|(noted_ms, _)| *noted_ms <= ms) {
                records.extend(failures.note(SERVER, *total, failed(*noted_ms)));
            }
            records.extend(failures.due(at(ms), false, |_| Some(total)));
        }
        counts(&records)
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_of_its_second_at_its_end() {
        let mut failures = AcceptFailures::new();
        assert_eq!(
            told(&mut failures, &[(100, 1), (110, 2), (700, 3), (1_500, 4)], 0),
            [(at(100), 1), (at(1_120), 2), (at(2_120), 1)]
        );
    }

    #[test]
    fn one_that_fails_once_is_told_once_and_told_at_once_again_later() {
        let mut failures = AcceptFailures::new();
        assert_eq!(told(&mut failures, &[(100, 1), (2_000, 2)], 0), [(at(100), 1), (at(2_000), 1)]);
        assert!(failures.recent.contains_key(&SERVER), "still within its second");
    }

    #[test]
    fn what_the_kernel_side_only_counted_is_told_as_well() {
        let mut failures = AcceptFailures::new();
        assert_eq!(
            told(&mut failures, &[(100, 1), (100, 16)], 500_000),
            [(at(100), 1), (at(1_120), 499_999)]
        );
    }

    #[test]
    fn nothing_is_lost_at_the_end() {
        let mut failures = AcceptFailures::new();
        let first = failures.note(SERVER, 1, failed(0));
        assert_eq!(failures.note(SERVER, 2, failed(5)), None);
        let rest = failures.due(at(10), true, |_| Some(9));
        assert_eq!((counts(&Vec::from_iter(first)), counts(&rest)), (vec![(at(0), 1)], vec![(at(10), 8)]));
    }

    #[test]
    fn records_in_disorder_or_lost_on_the_way_change_no_count() {
        let mut failures = AcceptFailures::new();
        let first = failures.note(SERVER, 2, failed(2));
        assert_eq!(failures.note(SERVER, 1, failed(1)), None);
        let rest = failures.due(at(1_002), false, |_| None);
        assert_eq!((counts(&Vec::from_iter(first)), counts(&rest)), (vec![(at(2), 2)], vec![]));
        assert_eq!(failures.note(SERVER, 1, failed(1_003)), None, "it is among those that were told");
    }

    #[test]
    fn callers_are_told_apart_and_counts_wrap_around() {
        let mut failures = AcceptFailures::new();
        failures.told.insert(SERVER, u32::MAX);
        let told = [failures.note(SERVER, 1, failed(0)), failures.note(OTHER, 7, failed(1))];
        assert_eq!(counts(&told.map(Option::unwrap)), [(at(0), 2), (at(1), 7)]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut failures = AcceptFailures::new();
        for pid in 0..20_000 {
            failures.note(Caller { pid, errno: 24 }, 1, failed(u64::from(pid)));
            failures.due(at(u64::from(pid)), false, |_| None);
        }
        assert!(failures.told.len() <= MAX_CALLERS && failures.recent.len() <= 1_001);
    }
}
