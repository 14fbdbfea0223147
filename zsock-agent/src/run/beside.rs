//! What is found beside the kernel side's events: descriptors of processes, failed accepts, idle times that connections lived through.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use crate::record::{Destination, DestinationSample, ProcessSample, Record, What};
use crate::source::accepts::{AcceptFailures, Caller};
use crate::source::assemble::Assembler;
use crate::source::assemble::facts::Units;
use crate::source::clock::Clock;
use crate::source::fds::FdWatch;
use crate::source::kernel::Kernel;
use crate::time::{Time, milliseconds};

/// To look through all destinations takes some milliseconds: it is done in one round of so many.
const ALL_EVERY: u32 = 12;

/// What is found beside the events.
pub(super) struct Beside {
    fds: FdWatch,
    pub(super) accepts: AcceptFailures,
    survivals: Survivals,
}

impl Beside {
    /// Nothing found yet. `fd_pressure_percent` is the threshold of that verdict.
    pub(super) fn new(fd_pressure_percent: u32, clock: Clock, units: Units) -> Self {
        Self {
            fds: FdWatch::new(fd_pressure_percent, clock),
            accepts: AcceptFailures::new(),
            survivals: Survivals { units, told: HashMap::new(), suspects: BTreeSet::new(), rounds: 0 },
        }
    }

    /// How the descriptors of processes stand that are near their limit.
    pub(super) fn descriptors(&mut self, at: Time, assembler: &Assembler) -> Vec<ProcessSample> {
        self.fds.pass(at, &|pid| assembler.dead_of(pid))
    }

    /// How the process stands whose accept failed; absent where it cannot be told.
    pub(super) fn process_of(&mut self, failure: &Record, assembler: &Assembler) -> Option<ProcessSample> {
        let event = failure.event()?;
        let What::AcceptFailed(failed) = &event.what else { return None };
        let process = failed.process.as_deref().cloned().or_else(|| event.socket.owner())?;
        self.fds.sample_of(&process, failure.at, &|pid| assembler.dead_of(pid))
    }

    /// Failed accepts that are to be told by `now`; with `is_end` all that are left.
    pub(super) fn failures(&mut self, now: Time, is_end: bool, kernel: &Kernel) -> Vec<Record> {
        #[expect(clippy::cast_possible_truncation, reason = "counts are compared by their low half")]
        let total =
            |caller: Caller| kernel.accept_failures(caller.pid, caller.errno).map(|total| total as u32);
        self.accepts.due(now, is_end, total)
    }

    /// The idle times that are news of destinations under suspicion, and of their neighbours.
    pub(super) fn survivals(
        &mut self,
        kernel: &Kernel,
        suspects: impl Iterator<Item = Destination>,
    ) -> Vec<DestinationSample> {
        self.survivals.news(kernel, suspects.collect())
    }
}

/// Idle times that connections lived through, as far as they were told.
struct Survivals {
    units: Units,
    /// The longest told of each destination, in the kernel's ticks.
    told: HashMap<SocketAddr, u32>,
    suspects: BTreeSet<Destination>,
    /// Rounds since all were looked through.
    rounds: u32,
}

impl Survivals {
    fn news(&mut self, kernel: &Kernel, suspects: BTreeSet<Destination>) -> Vec<DestinationSample> {
        if !self.units.known.survivals {
            return Vec::new();
        }
        let has_new = suspects.iter().any(|suspect| !self.suspects.contains(suspect));
        self.suspects = suspects;
        self.rounds = if has_new { 0 } else { (self.rounds + 1) % ALL_EVERY };
        // Neighbours are looked for with a new one, and now and then; in between those that are known.
        let known: BTreeMap<SocketAddr, u32> = if self.rounds == 0 && !self.suspects.is_empty() {
            let around: BTreeSet<Destination> =
                self.suspects.iter().map(|suspect| suspect.neighbourhood()).collect();
            let is_near = |address: &SocketAddr| around.contains(&Destination::of(*address).neighbourhood());
            kernel.all_survived().filter(|(address, _)| is_near(address)).collect()
        } else {
            let own = self.suspects.iter().map(|suspect| SocketAddr::new(suspect.net.addr(), suspect.port));
            let asked: BTreeSet<SocketAddr> = self.told.keys().copied().chain(own).collect();
            asked.into_iter().filter_map(|address| Some((address, kernel.survived(address)?))).collect()
        };
        self.told.retain(|address, _| known.contains_key(address));
        let mut news = Vec::new();
        for (address, ticks) in known {
            let told = self.told.entry(address).or_default();
            if ticks > *told {
                *told = ticks;
                let survived_ms = milliseconds(self.units.jiffies.until(0, ticks));
                news.push(DestinationSample { destination: Destination::of(address), survived_ms });
            }
        }
        news
    }
}
