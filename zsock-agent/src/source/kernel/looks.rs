//! Looks at what exists: sockets by `iter/tcp`, the files of all processes by `iter/task_file`. What they find arrives through the
//! ring buffer.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use aya::programs::Iter;
use zsock_common::wire::{Control, Remote, Rest, STATES, look, walk};

use super::hooks::Attachment;
use super::rest::{self, Turn};
use super::states::grown;
use super::{Kernel, Plain};
use crate::detect::Thresholds;
use crate::kernel_rules::Jiffies;
use crate::source::namespaces;

/// The iterator over sockets fills a buffer of this size before it pauses: by 4 bytes with each socket that it hands over and 64
/// with each 256 that it walks past. A thousand records, or some 10 ms.
const STEP_BYTES: usize = 4096;

/// Room in the ring buffer that a socket handed over may take, with its past.
const HANDED_OVER_BYTES: usize = 1024;

/// Sockets whose holders are looked up at once, at most: half of what the kernel side's map has room for, since it evicts before it is full.
const MAX_WANTED: usize = 8192;

/// Data that comes after so long, and after ten times what is usual, may come unasked.
const LATE: Duration = Duration::from_millis(250);

/// Without a segment for so long a connection is at rest between two exchanges.
const REST: Duration = Duration::from_millis(12);

/// An acknowledgement that comes alone within so long is of what was sent: later ones may answer keepalive probes, which come a second
/// after it at the earliest.
const ACKNOWLEDGED: Duration = Duration::from_millis(500);

/// To idle for less says nothing of an idle time-out.
const SURVIVAL: Duration = Duration::from_secs(1);

/// From where on a pass hands a socket over, in the kernel's units.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits(Control);

impl Limits {
    /// The limits of these thresholds.
    #[must_use]
    pub fn new(thresholds: &Thresholds, jiffies: Jiffies) -> Self {
        // One tick more: what is told holds by the clock of the records, too, which is finer.
        let ticks = |duration| jiffies.at_least(duration).saturating_add(1);
        Self(Control {
            began_ns: 0,
            previous_ns: 0,
            look: look::PASS,
            timers: 0,
            pass: 0,
            tick_ns: u32::try_from(jiffies.until(0, 1).as_nanos()).unwrap_or(u32::MAX),
            idle: ticks(thresholds.unguarded_idle),
            guarded: ticks(thresholds.assumed_idle_timeout),
            unread: ticks(thresholds.receiver_stall),
            silence: ticks(thresholds.app_silence),
            close_wait: ticks(thresholds.close_wait_leak),
            rest: ticks(REST),
            acknowledged: ticks(ACKNOWLEDGED),
            late: ticks(LATE),
            survival: ticks(SURVIVAL),
            unwatched_probes: 0,
            walk: walk::BUSY,
            reserved: 0,
        })
    }
}

/// A pass over the sockets of all network namespaces, step by step.
#[derive(Debug)]
pub struct Pass {
    walks: VecDeque<Walk>,
    step_bytes: usize,
    /// How many network namespaces it walks.
    pub walked: usize,
    /// The network namespaces that could not be looked into, and why.
    pub failed: Vec<(u64, anyhow::Error)>,
}

/// A walk over the sockets of one of them.
#[derive(Debug)]
struct Walk {
    namespace: u64,
    file: File,
    /// What is known of it, a [`walk`] value.
    known: u32,
    /// What passes had found when it began.
    found_before: Option<[u64; STATES]>,
}

impl Kernel {
    /// Names every TCP socket of `namespaces` and counts them, and notes what has been sent and received there. Returns the namespaces that could not be looked at, with the reason.
    ///
    /// # Errors
    /// When the kernel side cannot be told what to look for.
    pub fn seed_sockets(&mut self, namespaces: &BTreeMap<u64, File>) -> Result<Vec<(u64, anyhow::Error)>> {
        self.announce(Control { look: look::SEED, ..Control::default() })?;
        let mut rests = std::mem::take(&mut self.rests);
        let pass = self.walks("look_at_sockets", namespaces, |namespace| {
            rests.turn(namespace, rest::counters(), 0);
            Some(walk::BUSY)
        });
        self.rests = rests;
        let mut pass = pass?;
        while self.step(&mut pass) {}
        Ok(pass.failed)
    }

    /// Ends seeding: from here on looks are for what `limits` name.
    ///
    /// # Errors
    /// When the kernel side cannot be told.
    pub fn set_limits(&mut self, limits: Limits) -> Result<()> {
        self.limits = limits;
        self.announce(limits.0)
    }

    /// Whether hooks see keepalive and window probes.
    fn sees_probes(&self) -> bool {
        let is_missing =
            |hook: &Attachment| matches!(hook.hook.name, "keepalive" | "persist") && hook.rung.is_none();
        !self.hooks.iter().any(is_missing)
    }

    /// Begins a pass over the sockets of `namespaces`, which [`Kernel::end_pass`] ends. `now_ns` is CLOCK_MONOTONIC, read before: from then on a
    /// namespace that is left out may have come to interest the next pass.
    ///
    /// # Errors
    /// When there is no iterator over sockets.
    pub fn begin_pass(&mut self, namespaces: &BTreeMap<u64, File>, now_ns: u64) -> Result<Pass> {
        self.limits.0.pass = self.limits.0.pass.wrapping_add(1);
        self.limits.0.unwatched_probes = u32::from(!self.sees_probes());
        self.limits.0.previous_ns = std::mem::replace(&mut self.limits.0.began_ns, now_ns);
        self.announce(self.limits.0)?;
        self.states.begin()?;
        let mut rests = std::mem::take(&mut self.rests);
        rests.keep(namespaces);
        let mut left_out = Vec::new();
        let pass = self.walks("look_at_sockets", namespaces, |namespace| {
            match rests.turn(namespace, rest::counters(), now_ns) {
                Turn::Walk(known) => Some(known),
                Turn::LeftOut(found) => {
                    left_out.push(found);
                    None
                }
            }
        });
        self.rests = rests;
        for found in &left_out {
            self.states.leave_out(found);
        }
        pass
    }

    /// Begins a walk over the same sockets that does nothing: what a pass costs is measured against it.
    ///
    /// # Errors
    /// When there is no iterator over sockets.
    pub fn begin_bare_walk(&mut self, namespaces: &BTreeMap<u64, File>) -> Result<Pass> {
        let iterator = self.iterator("walk_sockets")?;
        if iterator.fd().is_err() {
            iterator.load("tcp", &aya::Btf::from_sys_fs().context("read the kernel's types")?)?;
        }
        self.walks("walk_sockets", namespaces, |_| Some(walk::BUSY))
    }

    /// A walk of each of `namespaces` of which something is `known`, a [`walk`] value; called on a thread in that namespace.
    fn walks(
        &mut self,
        program: &str,
        namespaces: &BTreeMap<u64, File>,
        mut known: impl FnMut(u64) -> Option<u32> + Send,
    ) -> Result<Pass> {
        let step_bytes = (self.buffer_bytes / 2 / HANDED_OVER_BYTES * 4).clamp(4, STEP_BYTES);
        let iterator = self.iterator(program)?;
        // The iterator walks the namespace of the thread that opens it.
        let opened = namespaces::in_each(namespaces, |namespace| {
            known(namespace).map(|known| Ok((known, open(iterator)?))).transpose()
        });
        let mut pass = Pass { walks: VecDeque::new(), step_bytes, walked: 0, failed: Vec::new() };
        for (namespace, result) in opened {
            match result.map_err(|errno| anyhow!(errno).context("enter the network namespace")).flatten() {
                Ok(Some((known, file))) => {
                    pass.walks.push_back(Walk { namespace, file, known, found_before: None });
                }
                Ok(None) => {}
                Err(error) => pass.failed.push((namespace, error)),
            }
        }
        pass.walked = pass.walks.len();
        Ok(pass)
    }

    /// Takes one step of a pass. Returns whether there is more to come.
    pub fn step(&mut self, pass: &mut Pass) -> bool {
        let Some(walk) = pass.walks.front_mut() else { return false };
        match self.step_of(walk, pass.step_bytes) {
            Ok(true) => {}
            Ok(false) => drop(pass.walks.pop_front()),
            Err(error) => {
                pass.failed.push((walk.namespace, error));
                pass.walks.pop_front();
            }
        }
        !pass.walks.is_empty()
    }

    /// Takes one step of a walk. Returns whether it goes on.
    fn step_of(&mut self, walk: &mut Walk, step_bytes: usize) -> Result<bool> {
        let notes_rest = walk.known != walk::BUSY;
        if walk.found_before.is_none() {
            if self.limits.0.walk != walk.known {
                self.limits.0.walk = walk.known;
                self.announce(self.limits.0)?;
            }
            if notes_rest {
                let until_told = Rest { restless: 0, ticks: u32::MAX };
                self.rest.set(0, Plain(until_told), 0).context("tell the kernel side to look for rest")?;
            }
            walk.found_before = Some(if notes_rest { self.states.found()? } else { [0; STATES] });
        }
        let mut nothing = [0; STEP_BYTES];
        if walk.file.read(&mut nothing[..step_bytes]).context("walk its sockets")? > 0 {
            return Ok(true);
        }
        if let Some(before) = walk.found_before
            && notes_rest
        {
            let Plain(rest) = self.rest.get(&0, 0).context("read whether a network namespace is at rest")?;
            let found = grown(&before, &self.states.found()?);
            let Control { began_ns, tick_ns, .. } = self.limits.0;
            self.rests.note(walk.namespace, began_ns, rest, tick_ns, found);
        }
        Ok(false)
    }

    /// Looks at every file of every process once, to learn who holds the sockets that exist.
    ///
    /// # Errors
    /// When the iterator cannot be opened or read.
    pub fn seed_holders(&mut self) -> Result<()> {
        self.announce(Control { look: look::SEED, timers: self.timers, ..Control::default() })?;
        self.walk_files(|_| ())
    }

    /// How many sockets' holders [`Kernel::look_at_holders`] takes at once.
    #[must_use]
    pub fn max_wanted(&self) -> usize {
        (self.buffer_bytes / 2 / HANDED_OVER_BYTES).clamp(1, MAX_WANTED)
    }

    /// Looks for the processes that hold the sockets with these cookies, no more than [`Kernel::max_wanted`]. After each step, of some
    /// 4,000 files, it is `between`'s turn.
    ///
    /// # Errors
    /// When the iterator cannot be opened or read.
    pub fn look_at_holders(&mut self, wanted: &[u64], between: impl FnMut(&mut Self)) -> Result<()> {
        for cookie in wanted {
            self.wanted.insert(cookie, 0, 0).context("tell the kernel side whose holders are wanted")?;
        }
        let walked = self.walk_files(between);
        for cookie in wanted {
            // Made for this look; one that is gone already is as good.
            let _ = self.wanted.remove(cookie);
        }
        walked
    }

    fn walk_files(&mut self, mut between: impl FnMut(&mut Self)) -> Result<()> {
        let mut file = open(self.iterator("look_at_holders")?)?;
        let mut nothing = [0; STEP_BYTES];
        while file.read(&mut nothing).context("walk the files of all processes")? > 0 {
            between(self);
        }
        Ok(())
    }

    /// The longest time, in jiffies, that a connection to `remote` idled and lived on.
    #[must_use]
    pub fn survived(&self, remote: SocketAddr) -> Option<u32> {
        self.survived.get(&Plain(key(remote)), 0).ok()
    }

    /// Every destination with the longest time, in jiffies, that a connection to it idled and lived on.
    pub fn all_survived(&self) -> impl Iterator<Item = (SocketAddr, u32)> {
        self.survived.iter().flatten().filter_map(|(Plain(remote), ticks)| Some((address(remote)?, ticks)))
    }

    /// Whether the kernel lets this thread read the kernel side's maps and open its iterators.
    pub fn can_look(&mut self) -> bool {
        let opens = |name| self.iterator(name).and_then(open).is_ok();
        ["look_at_sockets", "look_at_holders"].into_iter().all(opens) && self.announce(self.limits.0).is_ok()
    }

    fn announce(&mut self, control: Control) -> Result<()> {
        self.control.set(0, Plain(control), 0).context("tell the kernel side what to look for")
    }
}

fn key(remote: SocketAddr) -> Remote {
    let address = match remote.ip() {
        std::net::IpAddr::V4(address) => address.to_ipv6_mapped(),
        std::net::IpAddr::V6(address) => address,
    };
    Remote { address: address.octets(), port: remote.port().into() }
}

fn address(remote: Remote) -> Option<SocketAddr> {
    let address = Ipv6Addr::from(remote.address).to_canonical();
    Some(SocketAddr::new(address, u16::try_from(remote.port).ok()?))
}

/// The iterator's file. The link ends with it.
pub(super) fn open(iterator: &mut Iter) -> Result<File> {
    let link = iterator.attach().context("open the iterator")?;
    Ok(iterator.take_link(link)?.into_file()?)
}
