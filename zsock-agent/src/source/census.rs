//! One look at every TCP socket of the host, with its owner, its settings and what its timers will do.
//!
//! Who holds what is looked up first; then each socket is handed on as it is found, so that nothing is kept of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rustc_hash::FxHashMap;
use tokio::net::TcpSocket;
use zsock_common::settings::Filter;
use zsock_common::wire::CensusHolder;

use crate::detect::Thresholds;
use crate::kernel_rules::{Jiffies, hz_among, hz_from};
use crate::record::Found;
use crate::source::assemble::facts::Units;
use crate::source::assemble::known;
use crate::source::clock::Clock;
use crate::source::diag;
use crate::source::kernel::census::Census;
use crate::source::namespaces;
use crate::source::process::Process;
use crate::time::Time;

pub mod by_diag;
mod found;

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What the kernel side lets through; at least what is selected.
    pub filter: Filter,
    /// By which verdicts are given.
    pub thresholds: Thresholds,
}

impl Wanted {
    /// The network namespaces to look into: to walk one takes time, whether or not any of its sockets is wanted.
    fn namespaces(&self) -> BTreeMap<u64, File> {
        let mut found = namespaces::all();
        let count = usize::try_from(self.filter.netns_count).unwrap_or(0);
        let named = self.filter.netns.get(..count).unwrap_or_default();
        if !named.is_empty() {
            found.retain(|inode, _| named.iter().any(|named| u64::from(*named) == *inode));
        }
        if found.is_empty() {
            log::warn!(
                "no process is in the network namespace that is selected, and it is mounted nowhere: its sockets cannot be found"
            );
        }
        found
    }
}

/// Through which descriptor of which process a socket is held.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The process, of several the one that started first: the others inherited it.
    pub process: Arc<Process>,
    /// Its descriptor.
    pub fd: u32,
}

/// A socket and its holder; an orphan, one in the accept queue and one whose holder cannot be told have none.
#[derive(Clone, Debug)]
pub struct Counted {
    /// When it was looked at.
    pub at: Time,
    /// What was found.
    pub found: Found,
    /// Who holds it.
    pub holder: Option<Holder>,
}

impl Counted {
    /// Whether its id is the kernel's cookie, by which it can be told from every other; else it is a number for this look.
    #[must_use]
    pub fn has_cookie(&self) -> bool {
        self.found.socket.id.0 & found::NUMBERED == 0
    }
}

/// What a look covered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Network namespaces looked into.
    pub namespaces: u64,
    /// Those that could not be looked into, and why.
    pub failed: Vec<(u64, String)>,
    /// How: `iterators` or `sock_diag`.
    pub source: &'static str,
    /// What cannot be told of sockets found in this way, in words.
    pub not_told: Vec<String>,
}

/// Looks at every socket once and hands each to `each`, in no order, as it is found. Where the programs cannot be loaded, `sock_diag` tells
/// of the sockets, and a warning says why.
///
/// # Errors
/// When not even the sockets of the own network namespace can be listed, with what to do about it.
pub fn take(wanted: &Wanted, each: impl FnMut(Counted)) -> Result<Coverage> {
    Looks::load(wanted.clone()).take(each)
}

/// What it takes to look, for whoever looks more than once.
pub struct Looks {
    wanted: Wanted,
    /// Absent where the programs cannot be loaded.
    census: Option<Census>,
}

impl Looks {
    /// Loads it.
    #[must_use]
    pub fn load(wanted: Wanted) -> Self {
        let census = Census::load(wanted.filter);
        if let Err(error) = &census {
            log::warn!("the kernel lists its sockets by sock_diag, which tells less: {error:#}");
        }
        Self { wanted, census: census.ok() }
    }

    /// One look, as [`take`] does it.
    ///
    /// # Errors
    /// When not even the sockets of the own network namespace can be listed, with what to do about it.
    pub fn take(&mut self, each: impl FnMut(Counted)) -> Result<Coverage> {
        match &mut self.census {
            Some(census) => take_by_iterators(census, &self.wanted, each),
            None => by_diag::take(&self.wanted, each),
        }
    }
}

/// Facts that only a trace tells.
const OF_EVENTS: [&str; 15] = [
    "late_port",
    "cgroup_by_id",
    "sent",
    "received",
    "survivals",
    "requests",
    "window_probe",
    "fin",
    "cause",
    "recovered",
    "stalled",
    "syn_ack_attempt",
    "syn_ack_next",
    "timers",
    "accept_failed",
];

fn take_by_iterators(
    census: &mut Census,
    wanted: &Wanted,
    mut each: impl FnMut(Counted),
) -> Result<Coverage> {
    let clock = Clock::start()?;
    let namespaces = wanted.namespaces();
    if !census.makes_cookies {
        name_all(&namespaces);
    }
    let (holders, hz) = holders(census)?;
    let offsets = *census.offsets();
    let units = Units::new(Jiffies::new(hz), &offsets);
    let mut finder = found::Finder::new(units, clock, &wanted.thresholds, holders);
    let failed = census.sockets(&namespaces, |record| each(finder.find(&record)))?;
    let losses = known::losses(&offsets, census.missing_fields());
    Ok(Coverage {
        namespaces: (namespaces.len() - failed.len()) as u64,
        failed: failed.into_iter().map(|(namespace, error)| (namespace, format!("{error:#}"))).collect(),
        source: "iterators",
        not_told: losses
            .iter()
            .filter(|loss| !OF_EVENTS.contains(&loss.name))
            .map(ToString::to_string)
            .collect(),
    })
}

/// Has every socket get its cookie where the programs cannot make it: to be listed by `sock_diag` does.
fn name_all(namespaces: &BTreeMap<u64, File>) {
    for (namespace, named) in namespaces::in_each(namespaces, |_| diag::name_all()) {
        let error = match named {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => anyhow!(error),
            Err(errno) => anyhow!(errno).context("enter the network namespace"),
        };
        log::warn!(
            "sockets of network namespace {namespace} that nobody has asked the kernel for have no owner and an id for this look only: {error:#}"
        );
    }
}

/// Who holds which socket.
struct Holders {
    processes: Vec<Arc<Process>>,
    /// By cookie: number of the process, and the descriptor.
    by_cookie: FxHashMap<u64, (u32, u32)>,
}

/// Two readings of the kernel's clocks this far apart tell its tick where one does not.
const CLOCKS_APART: Duration = Duration::from_millis(600);
/// Where a virtual machine is not let run for some ticks the two tell nothing, and others are taken, so many times.
const CLOCK_TRIES: u32 = 8;

/// Looks up who holds what, and learns from the rows how fast the kernel's clock ticks.
fn holders(census: &mut Census) -> Result<(Holders, NonZeroU32)> {
    // One socket must exist to tell the clock by.
    let _example = TcpSocket::new_v4().or_else(|_| TcpSocket::new_v6()).context("make a socket")?;
    let mut readings = Vec::new();
    for _ in 0..CLOCK_TRIES {
        let mut holders = Holders { processes: Vec::new(), by_cookie: FxHashMap::default() };
        let mut last: Option<(u64, u64)> = None;
        census.holders(|holder| {
            last = Some((holder.jiffies, holder.time_ns));
            holders.note(&holder);
        })?;
        let reading = last.context("no socket is held by any process")?;
        readings.push(reading);
        if let Some(hz) = hz_from(reading.0, reading.1).or_else(|| hz_among(&readings)) {
            return Ok((holders, hz));
        }
        sleep(CLOCKS_APART);
    }
    bail!(
        "tell how fast the kernel's clock ticks (CONFIG_HZ): its jiffies fit no known rate; please report this"
    )
}

impl Holders {
    fn note(&mut self, row: &CensusHolder) {
        let is_last = |process: &Arc<Process>| {
            process.pid == row.process.tgid && process.start_ns == row.process.start_ns
        };
        // The iterator goes from process to process.
        if !self.processes.last().is_some_and(is_last) {
            let Some(process) = Process::from_wire(&row.process) else { return };
            self.processes.push(Arc::new(process));
        }
        if row.cookie == 0 {
            return;
        }
        let Ok(number) = u32::try_from(self.processes.len() - 1) else { return };
        let held = (number, row.fd);
        let processes = &self.processes;
        let start = |number: u32| processes[number as usize].start_ns;
        let known = self.by_cookie.entry(row.cookie).or_insert(held);
        if start(number) < start(known.0) {
            *known = held;
        }
    }

    fn of(&self, cookie: u64) -> Option<(usize, Holder)> {
        let (number, fd) = *self.by_cookie.get(&cookie)?;
        let process = self.processes.get(number as usize)?;
        Some((number as usize, Holder { process: Arc::clone(process), fd }))
    }
}

#[cfg(test)]
mod tests;
