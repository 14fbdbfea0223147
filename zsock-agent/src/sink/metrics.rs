//! Numbers for Prometheus: counts of what was told, and how zsock itself stands.
//!
//! Every label has few values, which are known beforehand, and every count is there from the start, with 0: so the first one of its kind is an
//! increase. What is not known is absent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;

use crate::record::{Body, Cause, Phase, ProgramRuns, Record, Shed, State, VerdictName, What};
use crate::source::own::Usage;

mod exposition;
#[cfg(test)]
mod tests;

/// The media type of what [`Metrics::render`] gives.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Causes of retransmissions, and what stands for none.
const CAUSES: [Option<Cause>; 7] = [
    Some(Cause::Syn),
    Some(Cause::SynAck),
    Some(Cause::Rto),
    Some(Cause::Fast),
    Some(Cause::TailLossProbe),
    Some(Cause::SlowStart),
    None,
];

/// Where records are lost, in the order of their way.
const PLACES: [&str; 4] = ["kernel", "hook", "output", "recording"];

/// A place that has no series of its own.
const ELSEWHERE: &str = "other";

/// Counts by the value of a label.
type Counts = BTreeMap<&'static str, u64>;

/// What does not change while zsock runs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The kernel's release.
    pub kernel: Arc<str>,
    /// What `--max-memory` allows.
    pub max_memory_bytes: u64,
    /// What `--max-cpu` allows, where that is said.
    pub max_cpu_percent: Option<u32>,
}

/// How it all stands, as it was last looked at.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Sockets by state as the last pass counted them; absent before the first one was over.
    pub sockets: Option<BTreeMap<State, u64>>,
    /// Connections that came to ESTABLISHED.
    pub established: Option<u64>,
    /// Sockets that came to CLOSE.
    pub closed: Option<u64>,
    /// Records that the kernel side handed over.
    pub kernel_records: Option<u64>,
    /// Looks and events that found no room in the kernel for what has to be remembered of their socket.
    pub unstored: Option<u64>,
    /// Sockets whose owner and past are remembered.
    pub remembered: u64,
    /// Sockets whose owner and past were forgotten for want of memory.
    pub forgotten: u64,
    /// Sockets that the engine let go for want of memory.
    pub dropped: u64,
    /// Passes over all sockets.
    pub passes: Passes,
    /// Runs of zsock's programs, by name; empty where the kernel does not count them.
    pub programs: BTreeMap<Arc<str>, ProgramRuns>,
}

/// What passes over all sockets cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passes {
    /// How many are over.
    pub count: u64,
    /// Processor time of all of them.
    pub cpu: Duration,
    /// From the beginning of the last one to that of the next one; absent before the first one was over.
    pub interval: Option<Duration>,
    /// Network namespaces that the last one could not look into; absent as above.
    pub unseen_namespaces: Option<u64>,
}

/// The numbers. A clone shows and counts the same ones.
#[derive(Clone, Debug)]
pub struct Metrics {
    happened: Arc<Happened>,
    numbers: Arc<Mutex<Numbers>>,
}

/// Counts of events, of which there may be very many: no lock is taken for one, and no name looked for.
#[derive(Debug, Default)]
struct Happened {
    /// By the number of their type.
    events: [AtomicU64; What::TYPES.len()],
    /// By the place of the cause among the [`CAUSES`].
    retransmits: [AtomicU64; CAUSES.len()],
}

#[derive(Clone, Debug)]
struct Numbers {
    opened: Counts,
    open: Counts,
    lost: Counts,
    shed: Counts,
    facts: Facts,
    standing: Standing,
}

impl Metrics {
    /// Numbers of nothing yet.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        let verdicts = || zeros(VerdictName::ALL.iter().map(|name| name.name()));
        let numbers = Numbers {
            opened: verdicts(),
            open: verdicts(),
            lost: zeros(PLACES),
            shed: zeros(Shed::WHAT),
            facts,
            standing: Standing::default(),
        };
        Self { happened: Arc::default(), numbers: Arc::new(Mutex::new(numbers)) }
    }

    /// Counts a record that is told.
    pub fn note(&self, record: &Record) {
        match &record.body {
            Body::Event(event) => self.happened.note(&event.what),
            Body::Verdict(verdict) => {
                let mut numbers = self.lock();
                let name = verdict.verdict.name();
                match (verdict.phase, verdict.outcome) {
                    (Phase::Opened, _) => {
                        add(&mut numbers.opened, name, 1);
                        add(&mut numbers.open, name, 1);
                    }
                    // A final one opens and closes at once.
                    (Phase::Closed, None) => add(&mut numbers.opened, name, 1),
                    (Phase::Closed, Some(_)) => {
                        // It may have opened where a selector did not let it through.
                        let open = numbers.open.entry(name).or_default();
                        *open = open.saturating_sub(1);
                    }
                    (Phase::Updated, _) => {}
                }
            }
            Body::Lost(lost) => add(&mut self.lock().lost, place_name(&lost.place), lost.count),
            Body::Shed(shed) => add(&mut self.lock().shed, spare_name(&shed.what), 1),
            Body::Start(_) | Body::End(_) | Body::Process(_) | Body::Destination(_) | Body::Tick(_) => {}
        }
    }

    /// Counts what was dropped on the way out, all since the start: a record tells of it when the reader keeps up again or the disk works, which
    /// may be never.
    pub fn note_dropped(&self, place: &str, total: u64) {
        self.lock().lost.insert(place_name(place), total);
    }

    /// Takes over how it all stands.
    pub fn stand(&self, standing: Standing) {
        self.lock().standing = standing;
    }

    /// How it all stood last.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.lock().standing.clone()
    }

    /// All numbers in the text format of Prometheus, with what zsock itself takes.
    #[must_use]
    pub fn render(&self, usage: Usage) -> String {
        let mut registry = Registry::default();
        let Happened { events, retransmits } = &*self.happened;
        let page = exposition::Page {
            events: counts(What::TYPES, events),
            retransmits: counts(CAUSES.map(cause_name), retransmits),
            numbers: self.lock().clone(),
            usage,
        };
        registry.register_collector(Box::new(page));
        let mut text = String::new();
        match prometheus_text::encode(&mut text, &registry) {
            Ok(()) => text,
            // A string takes all that is written to it.
            Err(std::fmt::Error) => String::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        // Nothing under this lock panics half-way through a change.
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Happened {
    fn note(&self, what: &What) {
        self.events[what.number()].fetch_add(1, Ordering::Relaxed);
        if let What::Retransmit(retransmit) = what {
            let counts = CAUSES.iter().zip(&self.retransmits);
            counts.filter(|(cause, _)| **cause == retransmit.cause).for_each(|(_, count)| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
    }
}

fn counts<const N: usize>(names: [&'static str; N], counts: &[AtomicU64; N]) -> Counts {
    names.into_iter().zip(counts).map(|(name, count)| (name, count.load(Ordering::Relaxed))).collect()
}

fn zeros(names: impl IntoIterator<Item = &'static str>) -> Counts {
    names.into_iter().map(|name| (name, 0)).collect()
}

fn add(counts: &mut Counts, name: &'static str, count: u64) {
    let sum = counts.entry(name).or_default();
    *sum = sum.saturating_add(count);
}

fn place_name(place: &str) -> &'static str {
    PLACES.into_iter().find(|known| *known == place).unwrap_or(ELSEWHERE)
}

fn spare_name(what: &str) -> &'static str {
    Shed::WHAT.into_iter().find(|known| *known == what).unwrap_or(ELSEWHERE)
}

fn cause_name(cause: Option<Cause>) -> &'static str {
    cause.map_or("unknown", Cause::name)
}
