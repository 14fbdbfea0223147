//! What zsock itself costs, and what it did without so that it costs less.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How often a program ran since the trace began, as long as the kernel's statistics were on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRuns {
    /// How often.
    pub runs: u64,
    /// How long that took in all; the statistics themselves are part of it.
    pub run_ns: u64,
}

/// From here to the end of the run zsock does without something, since it used more of a processor than `--max-cpu` allows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "shed")]
pub struct Shed {
    /// Without what: one of [`Shed::WHAT`].
    pub what: Arc<str>,
    /// The hooks that were taken off, by their names in `start.hooks`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Arc<str>>,
    /// From one pass over all sockets to the next from here on, if they take as long as the last one; only with `passes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// What zsock used of one processor before, in percent, rounded up.
    pub cpu_percent: f64,
    /// What `--max-cpu` allows.
    pub max_cpu_percent: u32,
    /// Verdicts that may be missing or come late from here on. Those that are told are as true as before.
    #[serde(default)]
    pub poorer: Vec<Arc<str>>,
    /// What is lost, in words.
    pub lost: Arc<str>,
}

impl Shed {
    /// What there is to do without: hooks of the kernel side, the pace of passes, the telling of events. `nothing` says that none of it
    /// is left, and that the limit is not kept.
    pub const WHAT: [&'static str; 8] =
        ["timers", "accept_failed", "recovery", "syn_ack", "error", "passes", "events", "nothing"];

    /// Whether this hook was taken off.
    #[must_use]
    pub fn takes_off(&self, hook: &str) -> bool {
        self.hooks.iter().any(|taken_off| &**taken_off == hook)
    }
}
