//! What zsock itself costs: its processor time and memory, the runs of its programs, and what was lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use zsock_common::wire::Counters;

use super::Trace;
use crate::record::{End, ProgramRuns};
use crate::source::kernel::runs::Runs;
use crate::source::own::Usage;
use crate::time::milliseconds;

impl Trace {
    /// Notes how often programs ran, and which runs the kernel skipped since the last count.
    pub(super) fn count_runs(&mut self, now_ns: u64) {
        let Some(runs) = self.kernel.runs() else { return };
        let skipped: u64 = runs.values().map(|counted| counted.skipped).sum();
        self.runs = runs;
        let count = skipped.saturating_sub(std::mem::replace(&mut self.skipped, skipped));
        self.note_loss("hook", count, self.skips_counted_ns, now_ns);
        self.skips_counted_ns = now_ns;
    }

    /// The runs of each program as of the last count; empty where the kernel does not count them.
    pub(super) fn program_runs(&self) -> BTreeMap<Arc<str>, ProgramRuns> {
        told(&self.runs, self.kernel.counts_runs())
    }

    /// What `end` says of zsock, and of what the kernel side did.
    pub(super) fn account(&self) -> Result<End> {
        let Counters { produced, lost, forgotten, .. } = self.kernel.counters()?;
        let usage = Usage::read();
        Ok(End {
            kernel_records: produced,
            kernel_lost: lost,
            read_records: self.kernel.drained(),
            sockets_forgotten: self.assembler.forgotten(),
            sockets_unstored: forgotten,
            cpu_ms: usage.cpu.map(milliseconds),
            peak_resident_bytes: usage.peak_resident_bytes,
            programs: self.program_runs(),
            shed: self.shed(),
            ..End::default()
        })
    }
}

/// That nothing ran is a fact only where runs are counted.
fn told(runs: &Runs, are_counted: bool) -> BTreeMap<Arc<str>, ProgramRuns> {
    let is_known = are_counted || runs.values().any(|counted| counted.runs > 0);
    let told = runs.iter().filter(|_| is_known);
    told.map(|(name, counted)| (Arc::clone(name), ProgramRuns { runs: counted.runs, run_ns: counted.run_ns }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kernel::runs::Counted;

    #[test]
    fn runs_that_nobody_counted_are_not_told_as_none() {
        let runs = |runs| {
            let counted = Counted { runs, run_ns: runs * 100, skipped: 0, is_hook: true };
            Runs::from([("state".into(), counted), ("error".into(), Counted::default())])
        };
        let none = || BTreeMap::from([("state", 0), ("error", 0)]);
        let numbers = |runs: &Runs, are_counted| -> BTreeMap<String, u64> {
            told(runs, are_counted).into_iter().map(|(name, told)| (name.to_string(), told.runs)).collect()
        };
        let named = |numbers: BTreeMap<&str, u64>| -> BTreeMap<String, u64> {
            numbers.into_iter().map(|(name, runs)| (name.to_owned(), runs)).collect()
        };
        assert_eq!(numbers(&runs(0), false), BTreeMap::new());
        assert_eq!(numbers(&runs(0), true), named(none()));
        // Somebody had them on for a while.
        assert_eq!(numbers(&runs(7), false), named(BTreeMap::from([("state", 7), ("error", 0)])));
    }
}
