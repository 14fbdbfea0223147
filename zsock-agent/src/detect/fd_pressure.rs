//! `fd_pressure`: a process has nearly used up its file descriptors, or could not accept a connection for want of one.
//!
//! A process of whose descriptors fewer than one in ten are sockets is not accused before an accept fails: its files are the
//! trouble, and zsock knows nothing of them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Claim, Evidence, evidence, words};
use crate::record::{Errno, Outcome, PeerSockets, Process, ProcessSample, Severity, printable};
use crate::time::Time;

/// 80 %: what is left still takes a burst, and there is time to act. Servers are run at half of their limit as a rule.
pub(super) const PERCENT: u32 = 80;

/// So many points below the threshold it is over: a process that opens and closes one connection has one verdict.
const RELIEF_POINTS: u64 = 5;

/// It is told again when the use has grown by so many points.
const UPDATE_POINTS: u64 = 10;

/// A full table of the host's files shows in no number of the process: it is over when no accept has failed for so long.
const SETTLED: Duration = Duration::from_secs(10);

/// The least limit worth advising: the kernel's own default.
const LEAST_LIMIT: u64 = 1024;

/// What the kernel lets any process ask for unless told otherwise, `fs.nr_open`.
const USUAL_NR_OPEN: u64 = 1_048_576;

/// How the descriptors of one process stand, as far as it was told.
#[derive(Clone, Debug)]
pub(crate) struct Descriptors {
    pub(crate) process: Process,
    open_fds: Option<u64>,
    limit: Option<u64>,
    socket_fds: Option<u64>,
    dead_fds: Option<u64>,
    growth_per_minute: Option<i64>,
    peers: Vec<PeerSockets>,
    /// The last accept that failed for want of descriptors.
    failed: Option<(Errno, Time)>,
}

const IDLE_ADVICE: &str = "close connections that idle, and bound its pools: a leak fills any limit";

impl Descriptors {
    /// Nothing known but whose they are.
    pub(crate) fn of(process: &Process) -> Self {
        Self {
            process: process.clone(),
            open_fds: None,
            limit: None,
            socket_fds: None,
            dead_fds: None,
            growth_per_minute: None,
            peers: Vec::new(),
            failed: None,
        }
    }

    /// Takes in what was counted. The end of a process leaves the last numbers.
    pub(crate) fn apply(&mut self, sample: &ProcessSample) {
        // A process that is about to end has left its control group.
        let before = std::mem::replace(&mut self.process, sample.process.clone());
        if self.process.cgroup.is_none() {
            self.process.cgroup = before.cgroup;
            self.process.container = before.container;
        }
        if sample.exited {
            return;
        }
        self.open_fds = sample.open_fds;
        self.limit = sample.limit;
        self.socket_fds = sample.socket_fds;
        self.dead_fds = sample.dead_fds;
        self.growth_per_minute = sample.growth_per_minute;
        if !sample.peers.is_empty() {
            self.peers.clone_from(&sample.peers);
        }
    }

    /// Takes in that an accept failed for want of descriptors.
    pub(crate) fn fail(&mut self, at: Time, errno: &Errno) {
        self.failed = Some((errno.clone(), at));
    }

    /// Whether an accept that fails with `errno` fails for want of descriptors.
    pub(crate) fn is_shortage(errno: &Errno) -> bool {
        matches!(errno.name(), "EMFILE" | "ENFILE")
    }

    /// How bad it is, where it is bad enough for the verdict.
    pub(crate) fn severity(&self, threshold_percent: u32) -> Option<Severity> {
        let is_accused =
            self.failed.is_none() && self.has_sockets() && self.reaches(threshold_percent.into());
        self.failed.as_ref().map(|_| Severity::Critical).or(is_accused.then_some(Severity::Warning))
    }

    /// Whether the pressure is over. That no accept fails any more tells nothing where none would be told (`is_blind`).
    pub(crate) fn is_relieved(&self, at: Time, threshold_percent: u32, is_blind: bool) -> bool {
        let below = u64::from(threshold_percent).saturating_sub(RELIEF_POINTS);
        let has_room = self.used().is_some_and(|(open, limit)| open * 100 <= limit * u128::from(below));
        let is_settled = self.failed.as_ref().is_none_or(|(errno, failed_at)| {
            errno.name() != "ENFILE" || !is_blind && at.since(*failed_at) >= SETTLED
        });
        has_room && is_settled
    }

    /// Whether the use has grown so far since `said_percent` was said that it is worth saying again; where none was said, any use is.
    pub(crate) fn has_grown(&self, said_percent: Option<u64>) -> bool {
        let percent = self.percent();
        percent.is_some() && percent >= said_percent.map(|said| said + UPDATE_POINTS)
    }

    /// Whether the share of the limit that is dead or stuck has grown by as much. `stuck` as for [`Descriptors::claim`].
    pub(crate) fn has_more_zombies(&self, stuck: u64, said: Option<u64>) -> bool {
        let more = self.zombies(stuck).zip(said).map_or(0, |(now, said)| now.saturating_sub(said));
        self.is_many(i64::try_from(more).unwrap_or(i64::MAX))
    }

    /// Whether so many descriptors are a share of the limit that is worth an update.
    pub(crate) fn is_many(&self, count: i64) -> bool {
        let count = u64::try_from(count).unwrap_or(0);
        self.limit.is_some_and(|limit| limit > 0 && count.saturating_mul(100) / limit >= UPDATE_POINTS)
    }

    /// The share of its descriptors that the process uses, whole percent.
    pub(crate) fn percent(&self) -> Option<u64> {
        let (open, limit) = self.used()?;
        u64::try_from((open * 100).checked_div(limit)?).ok()
    }

    /// The claim that the process is short of descriptors. `stuck` counts its sockets that live and are under an open verdict.
    pub(crate) fn claim(&self, since: Time, stuck: u64) -> Claim {
        let zombies = self.zombies(stuck);
        let mut evidence = self.evidence(zombies);
        if let Some(ms) = self.full_in_ms() {
            evidence.push(("full_in_ms", Value::from(ms)));
        }
        Claim { since, evidence, summary: self.summary(zombies), advice: self.advice(zombies) }
    }

    /// The last word: the numbers of the end, and nothing of what lay ahead.
    pub(crate) fn last_claim(&self, at: Time, since: Time, stuck: u64, outcome: Outcome) -> Claim {
        let zombies = self.zombies(stuck);
        let how = match (outcome, self.used()) {
            (Outcome::Exited, _) => "the process ended".to_owned(),
            (_, Some((open, limit))) => format!("it uses {open} of {limit}"),
            (_, None) => "there is room again".to_owned(),
        };
        let lasted = words::duration(at.since(since));
        let summary =
            format!("the shortage of file descriptors of {} ended after {lasted}: {how}", self.name());
        // Its limit is no longer the matter.
        Claim { since, evidence: self.evidence(zombies), summary, advice: vec![IDLE_ADVICE.to_owned()] }
    }

    /// Open descriptors and their limit. Wide enough for a percentage of any of them.
    fn used(&self) -> Option<(u128, u128)> {
        Some((self.open_fds?.into(), self.limit?.into()))
    }

    fn reaches(&self, percent: u128) -> bool {
        self.used().is_some_and(|(open, limit)| open > 0 && open * 100 >= limit * percent)
    }

    fn has_sockets(&self) -> bool {
        let shares = self.socket_fds.zip(self.open_fds);
        shares.is_none_or(|(sockets, open)| sockets.saturating_mul(10) >= open)
    }

    pub(crate) fn zombies(&self, stuck: u64) -> Option<u64> {
        self.dead_fds.map(|dead| dead.saturating_add(stuck))
    }

    /// Until the last descriptor is taken if it goes on so; absent where the number does not grow, or none is left.
    fn full_in_ms(&self) -> Option<u64> {
        let left = self.limit?.checked_sub(self.open_fds?).filter(|left| *left > 0)?;
        let growth = u64::try_from(self.growth_per_minute?).ok().filter(|growth| *growth > 0)?;
        Some(left.saturating_mul(60_000) / growth)
    }

    fn evidence(&self, zombies: Option<u64>) -> Evidence {
        let peer = |peer: &PeerSockets| json!({ "remote": peer.remote, "sockets": peer.sockets });
        let peers = (self.failed.is_some() && !self.peers.is_empty())
            .then(|| self.peers.iter().map(peer).collect::<Vec<_>>().into());
        evidence([
            ("open_fds", self.open_fds.map(Value::from)),
            ("limit", self.limit.map(Value::from)),
            ("socket_fds", self.socket_fds.map(Value::from)),
            ("zombie_fds", zombies.map(Value::from)),
            ("growth_per_minute", self.growth_per_minute.map(Value::from)),
            ("errno", self.failed.as_ref().map(|(errno, _)| errno.name().into())),
            ("peers", peers),
        ])
    }

    fn summary(&self, zombies: Option<u64>) -> String {
        let name = self.name();
        let left = self.full_in_ms().map_or_else(String::new, |ms| {
            format!("; at this rate none is left in {}", words::duration(Duration::from_millis(ms)))
        });
        let usage = self.usage(zombies).map(|usage| format!("{usage}{left}"));
        match self.failed.as_ref().map(|(errno, _)| errno.name()) {
            Some("ENFILE") => {
                let own = usage.map_or_else(String::new, |usage| format!(", of which it {usage}"));
                format!(
                    "{name} could not accept a connection (ENFILE): the host's table of open files is full{own}"
                )
            }
            Some(errno) => {
                let own = usage.map_or_else(String::new, |usage| format!(": it {usage}"));
                format!("{name} could not accept a connection ({errno}) for want of a file descriptor{own}")
            }
            None => format!("{name} {}", usage.unwrap_or_else(|| "is short of file descriptors".to_owned())),
        }
    }

    /// `uses 820 of the 1024 file descriptors that it may open (80 %), 790 of them sockets, 12 of these zombies`.
    fn usage(&self, zombies: Option<u64>) -> Option<String> {
        let (open, limit) = self.used()?;
        let percent = self.percent().map_or_else(String::new, |percent| format!(" ({percent} %)"));
        let zombies = zombies.filter(|zombies| *zombies > 0);
        let zombies =
            zombies.map_or_else(String::new, |zombies| format!(", {zombies} of these dead or stuck"));
        let sockets = self
            .socket_fds
            .map_or_else(String::new, |sockets| format!(", {sockets} of them sockets{zombies}"));
        Some(format!("uses {open} of the {limit} file descriptors that it may open{percent}{sockets}"))
    }

    fn advice(&self, zombies: Option<u64>) -> Vec<String> {
        let is_host_full = self.failed.as_ref().is_some_and(|(errno, _)| errno.name() == "ENFILE");
        let raise = if is_host_full {
            Some("raise fs.file-max; `sysctl fs.file-nr` shows how many files the host has open and that maximum".to_owned())
        } else {
            self.raise()
        };
        let close = zombies.filter(|zombies| *zombies > 0).map(|zombies| {
            format!(
                "make {} close the {} that are dead or stuck: its other verdicts and the closed records with fd_open name them",
                self.name(),
                words::plural(zombies, "socket")
            )
        });
        let peers: Vec<_> =
            self.peers.iter().map(|peer| format!("{} ({})", peer.remote, peer.sockets)).collect();
        let most = (!peers.is_empty())
            .then(|| format!("look at the peers that hold most of its sockets: {}", peers.join(", ")));
        raise.into_iter().chain(close).chain(most).chain([IDLE_ADVICE.to_owned()]).collect()
    }

    /// How to give the process room for as much again.
    fn raise(&self) -> Option<String> {
        let limit = self.limit?;
        let wanted = limit.saturating_mul(2).checked_next_power_of_two()?.max(LEAST_LIMIT);
        let first = if wanted > USUAL_NR_OPEN { "raise fs.nr_open, then " } else { "" };
        Some(format!(
            "{first}raise its soft limit of open files from {limit} to {wanted}: at once with `prlimit --pid {} --nofile={wanted}:`, for good with \
             `ulimit -Sn {wanted}` where it is started or LimitNOFILE={wanted}:HARD in its unit, HARD being its hard limit",
            self.process.pid
        ))
    }

    fn name(&self) -> String {
        let pid = self.process.pid;
        match self.process.comm.as_deref().map(printable) {
            Some(comm) => format!("{comm} (pid {pid})"),
            None => format!("process {pid}"),
        }
    }
}

#[cfg(test)]
mod tests;
