//! Who holds the sockets that records are about: when that is looked up, and what waits for it.

use std::collections::HashSet;
use std::time::Duration;

use zsock_common::wire::{Kind, flag};

use super::{Trace, take_in};
use crate::source::assemble::Need;
use crate::source::decode::Raw;
use crate::time::nanoseconds;

/// Looks that only refresh what is known take at most a fiftieth of the time: after one that took a millisecond the next
/// waits for fifty. Those that a socket's first trouble asks for come once in its life and wait less.
const REFRESH_WAIT: u64 = 50;
const FIRST_WAIT: u64 = 3;

/// Records wait this long for a look at who holds their socket; later ones go out without.
const LOOK_PATIENCE: Duration = Duration::from_millis(80);

/// What a pass found, and failed accepts, have no hurry, and a verdict without an owner helps nobody: they wait for longer. So does what
/// a timer tells of a socket whose past only a look brings: its history comes first.
const FINDINGS_PATIENCE: Duration = Duration::from_secs(1);

impl Trace {
    /// The records whose time has come, in order. What waits for its owner stays behind, and with it what happens to that socket.
    pub(super) fn take_batch(&mut self, now_ns: u64, is_end: bool) -> Vec<Raw> {
        let mut batch = Vec::new();
        let mut behind = Vec::new();
        let mut waiting = HashSet::new();
        while let Some(raw) = if is_end { self.order.pop_now() } else { self.order.pop(now_ns) } {
            let cookie = raw.head().cookie;
            let may_wait = !is_end && behind.len() < self.max_waiting;
            if may_wait && (waiting.contains(&cookie) || self.waits_for_owner(&raw, now_ns)) {
                waiting.insert(cookie);
                behind.push(raw);
            } else {
                batch.push(raw);
            }
        }
        self.order.put_back(behind);
        batch
    }

    fn waits_for_owner(&self, raw: &Raw, now_ns: u64) -> bool {
        let is_finding = matches!(raw, Raw::Look(_) | Raw::Socket(Kind::AcceptFailed, _));
        let needs_past = raw.head().flags & flag::PAST_ELSEWHERE != 0;
        (is_finding || needs_past)
            && self.assembler.needs_look(raw) == Some(Need::First)
            && self.next_look_ns(Need::First) > now_ns
            && now_ns.saturating_sub(raw.head().time_ns) < nanoseconds(FINDINGS_PATIENCE)
    }

    /// Whether records are due of a socket whose holder must be looked up for the first time, and the next look is near enough to
    /// wait for.
    pub(super) fn should_wait_for_look(&self, now_ns: u64) -> bool {
        let wait_ns = self.next_look_ns(Need::First).saturating_sub(now_ns);
        wait_ns > 0
            && wait_ns <= nanoseconds(LOOK_PATIENCE)
            && self.order.has_due(now_ns, |raw| self.assembler.needs_look(raw) == Some(Need::First))
    }

    /// Finds out who holds the sockets of `batch` where that is not known or known for too long.
    pub(super) fn look_up_holders(&mut self, batch: &[Raw]) {
        let is_allowed = |need| self.next_look_ns(need) <= self.clock.monotonic_ns();
        let wanted: Vec<&Raw> =
            batch.iter().filter(|raw| self.assembler.needs_look(raw).is_some_and(is_allowed)).collect();
        for some in wanted.chunks(self.kernel.max_wanted()) {
            // Each look lets the kernel side's buffer in once more. Those left out are looked up with their next record.
            if self.is_crowded() {
                break;
            }
            self.assembler.begin_look();
            let cookies: Vec<u64> = some.iter().map(|raw| raw.head().cookie).collect();
            self.look(&cookies);
            self.read();
            for raw in some {
                self.assembler.end_look(raw);
            }
        }
    }

    /// When the next look may begin, CLOCK_MONOTONIC nanoseconds.
    fn next_look_ns(&self, need: Need) -> u64 {
        let wait = match need {
            Need::First => FIRST_WAIT,
            Need::Refresh => REFRESH_WAIT,
        };
        self.looked_ns + wait * self.look_took_ns
    }

    /// Does one look and notes what it cost. Where there are many files it takes tens of milliseconds, in which thousands of sockets may fill
    /// the ring buffer: what arrives is taken in between its steps.
    fn look(&mut self, cookies: &[u64]) {
        let Self { kernel, clock, boxes, order, assembler, undecoded, max_waiting, .. } = self;
        let began_ns = clock.monotonic_ns();
        let mut read_ns = 0;
        let looked = kernel.look_at_holders(cookies, |kernel| {
            let began_ns = clock.monotonic_ns();
            if order.len() < *max_waiting {
                take_in(kernel, boxes, order, assembler, undecoded);
            }
            read_ns += clock.monotonic_ns().saturating_sub(began_ns);
        });
        if let Err(error) = looked {
            log::warn!("{error:#}");
        }
        self.looked_ns = self.clock.monotonic_ns();
        self.look_took_ns = self.looked_ns.saturating_sub(began_ns + read_ns);
    }
}
