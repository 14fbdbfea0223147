//! How many sockets are in which TCP state, as the kernel side counts them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use aya::maps::{MapData, PerCpuArray};
use aya::{Ebpf, Pod};
use zsock_common::wire::{STATES, States};

use super::{Kernel, Plain, take_map};
use crate::record::State;

// SAFETY: `repr(C)`, integers only, no padding.
unsafe impl Pod for Plain<States> {}

/// The kernel side's counts, and what the last pass found.
pub(super) struct Count {
    map: PerCpuArray<MapData, Plain<States>>,
    /// As they stood when the pass began that is under way.
    before: States,
    /// The sockets of namespaces that it left out.
    left_out: [u64; STATES],
    found: Option<BTreeMap<State, u64>>,
}

impl Count {
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self> {
        let map = PerCpuArray::try_from(take_map(ebpf, "STATES")?)?;
        Ok(Self { map, before: States::default(), left_out: [0; STATES], found: None })
    }

    /// Notes where the counts stand before a pass.
    pub(super) fn begin(&mut self) -> Result<()> {
        self.before = self.read()?;
        self.left_out = [0; STATES];
        Ok(())
    }

    /// Counts the sockets of a namespace that the pass leaves out.
    pub(super) fn leave_out(&mut self, found: &[u64; STATES]) {
        add(&mut self.left_out, found);
    }

    /// The sockets that passes found since the start, by state.
    pub(super) fn found(&self) -> Result<[u64; STATES]> {
        Ok(self.read()?.found)
    }

    /// Summed over all CPUs.
    fn read(&self) -> Result<States> {
        let per_cpu = self.map.get(&0, 0).context("read how many sockets are in which state")?;
        let mut sum = States::default();
        for Plain(one) in per_cpu.iter() {
            add(&mut sum.found, &one.found);
            add(&mut sum.entered, &one.entered);
        }
        Ok(sum)
    }
}

/// By how much these counts have grown.
pub(super) fn grown(before: &[u64; STATES], now: &[u64; STATES]) -> [u64; STATES] {
    std::array::from_fn(|state| now[state].saturating_sub(before[state]))
}

fn add(sum: &mut [u64], more: &[u64]) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// Changes of state since the start, of the sockets that selectors of addresses, ports and network namespaces let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Connections that came to ESTABLISHED, at either end.
    pub established: u64,
    /// Sockets that came to CLOSE from another state: connections that ended, attempts that failed, listeners that were closed.
    pub closed: u64,
}

impl Kernel {
    /// Notes that the pass is over that [`Kernel::begin_pass`] began: from here on its counts are those of the last pass.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn end_pass(&mut self) -> Result<()> {
        let mut found = grown(&self.states.before.found, &self.states.found()?);
        add(&mut found, &self.states.left_out);
        self.states.found = Some((0..).map(State).zip(found).collect());
        Ok(())
    }

    /// How many sockets the last pass over all of them found in each state that this build knows, and in others where there were any;
    /// `None` before the first one was over. Selectors of addresses, ports and network namespaces apply.
    #[must_use]
    pub fn sockets_by_state(&self) -> Option<BTreeMap<State, u64>> {
        let is_told = |(state, count): &(State, u64)| state.is_known() || *count > 0;
        self.states.found.as_ref().map(|found| found.iter().map(|(k, v)| (*k, *v)).filter(is_told).collect())
    }

    /// How many connections came about and ended since the start.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn connections(&self) -> Result<Connections> {
        let entered = self.states.read()?.entered;
        let of = |state: State| entered.get(usize::from(state.0)).copied().unwrap_or_default();
        Ok(Connections { established: of(State::ESTABLISHED), closed: of(State::CLOSE) })
    }
}
