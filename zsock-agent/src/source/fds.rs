//! Processes near their limit of open files, found once a second.
//!
//! A process far from it costs two system calls and no memory. What is told is what changed: a process that comes near its limit or
//! leaves it behind, whose numbers have moved by a point, or that has ended.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::record::{self, ProcessSample};
use crate::source::clock::Clock;
use crate::source::process::{self, Found, Process};
use crate::time::Time;

mod proc;
#[cfg(test)]
mod tests;

#[cfg(any(test, fuzzing))]
pub(crate) use proc::read_any;
use proc::{Counter, Usage};

/// From half of its limit on a process has a history, so that its growth is known when it comes near.
const WATCHED_PERCENT: u64 = 50;

/// Near is what lies less than so many points below the threshold; where a verdict of pressure ends, so does this.
const NEAR_POINTS: u64 = 5;

/// Growth is that of the last half minute: long enough for bursts to even out, short enough to follow a new leak.
const HISTORY: Duration = Duration::from_secs(30);

/// From observations nearer to each other no growth is told.
const LEAST_HISTORY: Duration = Duration::from_secs(1);

/// A process whose accept failed is followed for so long, a second longer than it takes for a verdict to be over.
const FOLLOWED: Duration = Duration::from_secs(11);

/// Who its peers are is looked up no more often than this.
const PEERS_INTERVAL: Duration = Duration::from_secs(10);

/// Looks through the descriptors of small processes, of large ones, and at failed accepts each take no more than a twentieth of the time,
/// and no longer in a row than a twentieth of a second and the last look: meanwhile nobody reads the ring buffer.
const BUDGET_SHARE: i64 = 20;
const MAX_BUDGET_NS: i64 = 50_000_000;

/// A process with more descriptors is a large one: a look through these takes about 8 ms.
const SMALL_FDS: u64 = 2048;

/// How many of a process's sockets are dead but open.
pub type Dead<'a> = &'a dyn Fn(u32) -> u64;

/// Watches the descriptors of every process of the host.
#[derive(Debug)]
pub struct FdWatch {
    threshold_percent: u64,
    budgets: Budgets,
    counter: Counter,
    /// In a PID namespace `/proc` has other ids than the records: nothing is watched there.
    is_active: bool,
    watched: BTreeMap<u32, Watched>,
}

impl FdWatch {
    /// Nothing seen yet. `threshold_percent` is that of `fd_pressure`; `clock` tells what a look costs.
    #[must_use]
    pub fn new(threshold_percent: u32, clock: Clock) -> Self {
        Self {
            threshold_percent: threshold_percent.into(),
            budgets: Budgets::new(clock),
            counter: Counter::new(),
            is_active: process::proc_has_our_ids(),
            watched: BTreeMap::new(),
        }
    }

    /// Looks at every process, and tells what is worth telling.
    pub fn pass(&mut self, at: Time, dead: Dead<'_>) -> Vec<ProcessSample> {
        if !self.is_active {
            return Vec::new();
        }
        let mut before = std::mem::take(&mut self.watched);
        let mut samples = Vec::new();
        for pid in process::pids() {
            let is_watched = before.contains_key(&pid);
            let Some(usage) = self.counter.usage(pid, is_watched) else { continue };
            if !is_watched && !usage.exceeds(WATCHED_PERCENT) {
                continue;
            }
            let Found::Runs(process) = Process::find(pid) else { continue };
            let (known, former) = split(before.remove(&pid), &process);
            samples.extend(former.and_then(Watched::exited));
            let mut watched = known.unwrap_or_else(|| Watched::new(&process));
            if let Some(news) = watched.step(at, usage, dead(pid), self.threshold_percent) {
                let budget = self.budgets.of_pass(usage);
                samples.push(watched.sample(at, news, &process, budget, Peers::Unasked));
            }
            if watched.is_worth_watching() {
                self.watched.insert(pid, watched);
            }
        }
        for (pid, watched) in before {
            // What could not be read this time is no end.
            let (known, former) = match Process::find(pid) {
                Found::Runs(process) => split(Some(watched), &process),
                Found::Gone => (None, Some(watched)),
                Found::Unknown => (Some(watched), None),
            };
            self.watched.extend(known.map(|known| (pid, known)));
            samples.extend(former.and_then(Watched::exited));
        }
        samples
    }

    /// How a process stands at the moment at which an accept of its own failed, with its peers; that it has ended where it is there no
    /// more. It is followed for a while from here on. `None` where it cannot be told.
    pub fn sample_of(
        &mut self,
        process: &record::Process,
        at: Time,
        dead: Dead<'_>,
    ) -> Option<ProcessSample> {
        if !self.is_active {
            return None;
        }
        let pid = process.pid;
        let found = match Process::find(pid) {
            Found::Runs(found) => found,
            Found::Gone => {
                self.watched.remove(&pid);
                return Some(end_of(process.clone()));
            }
            Found::Unknown => return None,
        };
        let usage = self.counter.usage(pid, true)?;
        let (known, _) = split(self.watched.remove(&pid), &found);
        let mut watched = known.unwrap_or_else(|| Watched::new(&found));
        let news = watched.fail(at, usage, dead(pid), self.threshold_percent);
        let sample = watched.sample(at, news, &found, &mut self.budgets.failed, Peers::Asked);
        self.watched.insert(pid, watched);
        Some(sample)
    }
}

/// The time that looks may take, by what they are for: a large process must not use up what a small one needs.
#[derive(Debug)]
struct Budgets {
    small: Budget,
    large: Budget,
    failed: Budget,
}

impl Budgets {
    fn new(clock: Clock) -> Self {
        let full = || Budget { clock, left_ns: MAX_BUDGET_NS, filled_at: None };
        Self { small: full(), large: full(), failed: full() }
    }

    fn of_pass(&mut self, usage: Usage) -> &mut Budget {
        if usage.open_fds <= SMALL_FDS { &mut self.small } else { &mut self.large }
    }
}

/// The time that looks of one kind may take.
#[derive(Debug)]
struct Budget {
    clock: Clock,
    /// Below zero after a look that took more than was left.
    left_ns: i64,
    filled_at: Option<Time>,
}

impl Budget {
    /// Does a look and takes what it cost from the budget; `None` while nothing is left.
    fn spend<T>(&mut self, at: Time, look: impl FnOnce() -> T) -> Option<T> {
        let filled_at = self.filled_at.replace(at).unwrap_or(at);
        self.add(in_ns(at.since(filled_at)) / BUDGET_SHARE);
        if self.left_ns <= 0 {
            return None;
        }
        let began_ns = self.clock.monotonic_ns();
        let seen = look();
        let took = Duration::from_nanos(self.clock.monotonic_ns().saturating_sub(began_ns));
        self.add(-in_ns(took));
        Some(seen)
    }

    fn add(&mut self, ns: i64) {
        self.left_ns = self.left_ns.saturating_add(ns).min(MAX_BUDGET_NS);
    }
}

fn in_ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// What is watched, as of `process` or of a former one that had its id.
fn split(watched: Option<Watched>, process: &Process) -> (Option<Watched>, Option<Watched>) {
    match watched {
        Some(watched) if watched.start_ns == process.start_ns => (Some(watched), None),
        other => (None, other),
    }
}

/// Whether a sample should name the peers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peers {
    Asked,
    Unasked,
}

/// How near a process is to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nearness {
    Away,
    Near,
    Over,
}

impl Nearness {
    fn of(usage: Usage, threshold_percent: u64) -> Self {
        if usage.reaches(threshold_percent) {
            Self::Over
        } else if usage.exceeds(threshold_percent.saturating_sub(NEAR_POINTS)) {
            Self::Near
        } else {
            Self::Away
        }
    }
}

/// The numbers of a moment.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    usage: Usage,
    dead_fds: u64,
    threshold_percent: u64,
}

/// One process.
#[derive(Debug)]
struct Watched {
    /// Tells it from a later one of the same id.
    start_ns: u64,
    /// Open descriptors over time, oldest first.
    history: VecDeque<(Time, u64)>,
    now: Option<Numbers>,
    /// As it was told last; absent while it is away from its limit.
    told: Option<Numbers>,
    /// As whom it was told.
    told_as: Option<record::Process>,
    /// When an accept of its own last failed, while it is followed for that.
    failed_at: Option<Time>,
    /// When its peers were looked up last.
    peers_at: Option<Time>,
}

impl Watched {
    fn new(process: &Process) -> Self {
        Self {
            start_ns: process.start_ns,
            history: VecDeque::new(),
            now: None,
            told: None,
            told_as: None,
            failed_at: None,
            peers_at: None,
        }
    }

    /// Takes in the numbers of a pass, and gives them back where they are worth telling.
    fn step(&mut self, at: Time, usage: Usage, dead_fds: u64, threshold_percent: u64) -> Option<Numbers> {
        while self.history.front().is_some_and(|(then, _)| at.since(*then) > HISTORY) {
            self.history.pop_front();
        }
        self.history.push_back((at, usage.open_fds));
        let has_settled = self.failed_at.is_some_and(|failed_at| at.since(failed_at) >= FOLLOWED);
        if has_settled {
            self.failed_at = None;
        }
        let now = Numbers { usage, dead_fds, threshold_percent };
        self.now = Some(now);
        let is_away = now.nearness() == Nearness::Away;
        let is_news = match self.told {
            Some(told) => now.differ_from(told) || has_settled && is_away,
            None => !is_away,
        };
        is_news.then_some(now)
    }

    /// Notes that these numbers are told.
    fn tell(&mut self, now: Numbers) {
        let is_followed = self.failed_at.is_some();
        self.told = Some(now).filter(|now| now.nearness() != Nearness::Away || is_followed);
    }

    /// Takes in the numbers at the moment at which an accept failed.
    fn fail(&mut self, at: Time, usage: Usage, dead_fds: u64, threshold_percent: u64) -> Numbers {
        self.failed_at = Some(at);
        *self.now.insert(Numbers { usage, dead_fds, threshold_percent })
    }

    fn is_worth_watching(&self) -> bool {
        self.told.is_some() || self.now.is_some_and(|now| now.usage.exceeds(WATCHED_PERCENT))
    }

    /// The record of these numbers, with what its descriptors are.
    fn sample(
        &mut self,
        at: Time,
        mut news: Numbers,
        process: &Process,
        budget: &mut Budget,
        peers: Peers,
    ) -> ProcessSample {
        let pid = process.pid;
        let looked = budget.spend(at, || proc::look_through(pid, news.usage.open_fds)).flatten();
        // It may have opened more since it was counted; of what are sockets there cannot be more than there are.
        let open_fds = looked.as_ref().map_or(0, |looked| looked.open_fds);
        news.usage.open_fds = news.usage.open_fds.max(open_fds);
        self.tell(news);
        let sockets = looked.map(|looked| looked.sockets);
        let is_due = self.peers_at.is_none_or(|then| at.since(then) >= PEERS_INTERVAL);
        let asked = sockets.as_ref().filter(|_| peers == Peers::Asked && is_due);
        let peers = asked.and_then(|sockets| budget.spend(at, || proc::peers(pid, sockets)));
        self.peers_at = peers.as_ref().map(|_| at).or(self.peers_at);
        let process = process.as_record();
        self.told_as = Some(process.clone());
        ProcessSample {
            process,
            open_fds: Some(news.usage.open_fds),
            limit: Some(news.usage.limit),
            socket_fds: sockets.map(|sockets| sockets.len() as u64),
            dead_fds: Some(news.dead_fds),
            growth_per_minute: self.growth_per_minute(),
            peers: peers.unwrap_or_default(),
            exited: false,
        }
    }

    /// The record of its end; none where nobody has heard of it.
    fn exited(self) -> Option<ProcessSample> {
        self.told.and(self.told_as).map(end_of)
    }

    fn growth_per_minute(&self) -> Option<i64> {
        let (first_at, first) = self.history.front()?;
        let (last_at, last) = self.history.back()?;
        let over = last_at.since(*first_at);
        let grown = i128::from(*last) - i128::from(*first);
        let per_minute = grown * 60_000 / i128::try_from(over.as_millis().max(1)).ok()?;
        (over >= LEAST_HISTORY).then(|| i64::try_from(per_minute).ok()).flatten()
    }
}

impl Numbers {
    fn nearness(self) -> Nearness {
        Nearness::of(self.usage, self.threshold_percent)
    }

    /// Whether they tell something else than `told`: a point more or less, or another nearness.
    fn differ_from(self, told: Self) -> bool {
        let is_a_point =
            |before: u64, now: u64| u128::from(before.abs_diff(now)) * 100 >= u128::from(told.usage.limit);
        self.nearness() != told.nearness()
            || self.usage.limit != told.usage.limit
            || (self.usage.open_fds, self.dead_fds) != (told.usage.open_fds, told.dead_fds)
                && (is_a_point(told.usage.open_fds, self.usage.open_fds)
                    || is_a_point(told.dead_fds, self.dead_fds))
    }
}

/// The record of the end of a process.
fn end_of(process: record::Process) -> ProcessSample {
    ProcessSample {
        process,
        open_fds: None,
        limit: None,
        socket_fds: None,
        dead_fds: None,
        growth_per_minute: None,
        peers: Vec::new(),
        exited: true,
    }
}
