//! Keeps zsock within `--max-cpu`: does without one thing after the other, and says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Trace;
use super::limit::{Excess, Judgement, Limit, Used, WINDOW};
use crate::record::{Body, Record, Shed, VerdictName};
use crate::sink::duration;
use crate::source::clock;
use crate::source::kernel::optional::Optional;
use crate::time::{milliseconds, nanoseconds};

/// So often passes are made twice as rare: where they came every second they then come every 16 s, and verdicts that time alone reveals
/// still come within the half minute in which people look for them.
const PASS_STEPS: u32 = 4;

/// Where nothing was left to do without, it is looked again after so long: something else may cost by then.
const SPENT_FOR: Duration = Duration::from_mins(1);

/// The verdicts that come with a pass.
const OF_PASSES: [VerdictName; 5] = [
    VerdictName::UnguardedIdle,
    VerdictName::AppSilence,
    VerdictName::ReceiverStall,
    VerdictName::CloseWaitLeak,
    VerdictName::AcceptQueueFull,
];

/// What zsock can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spare {
    Hooks(&'static Optional),
    /// Half of the passes.
    Passes,
    /// The telling of events, with `--events all`.
    Events,
}

/// The limit, and what zsock does without to keep it.
pub(super) struct Thrift {
    limit: Limit<Spare>,
    /// How often each thing was given up.
    shed: BTreeMap<Arc<str>, u64>,
    pass_steps: u32,
    /// When nothing was left that would have brought anything.
    spent_ns: Option<u64>,
}

impl Trace {
    /// Begins to keep within so many percent of a processor, where there is such a limit.
    pub(super) fn limit_to(&mut self, max_percent: Option<u32>, now_ns: u64) {
        self.thrift = max_percent.map(|max_percent| Thrift {
            limit: Limit::new(max_percent, self.used(now_ns, 0)),
            shed: BTreeMap::new(),
            pass_steps: 0,
            spent_ns: None,
        });
    }

    /// Does without something more where too much was used for a while.
    pub(super) fn keep_within_limit(&mut self, now_ns: u64) {
        let Some(pass_steps) = self.thrift.as_ref().map(|thrift| thrift.pass_steps) else { return };
        let used = self.used(now_ns, pass_steps);
        let Some(thrift) = &mut self.thrift else { return };
        let max_cpu_percent = thrift.limit.max_percent();
        let Excess { tenths, shed } = match thrift.limit.judge(used) {
            Judgement::Early => return,
            Judgement::Kept => return self.kernel.cease_to_count(),
            Judgement::Exceeded(excess) => excess,
        };
        let was_spent = thrift.spent_ns;
        if was_spent.is_some_and(|spent_ns| now_ns.saturating_sub(spent_ns) < nanoseconds(SPENT_FOR)) {
            return;
        }
        // What things cost is worth a window before one of them goes for good.
        if shed.is_some() && !self.kernel.counts_runs() && self.kernel.begin_to_count() {
            let used = self.used(now_ns, pass_steps);
            if let Some(thrift) = &mut self.thrift {
                thrift.limit.begin_anew(used);
            }
            return;
        }
        if shed.is_none() {
            self.kernel.cease_to_count();
            thrift.spent_ns = Some(now_ns);
            if was_spent.is_some() {
                return;
            }
        }
        let given_up = shed.map_or_else(spent, |spare| self.give_up(spare));
        let shed = Shed { cpu_percent: f64::from(tenths) / 10.0, max_cpu_percent, ..given_up };
        if let Some(thrift) = &mut self.thrift {
            *thrift.shed.entry(Arc::clone(&shed.what)).or_default() += 1;
        }
        let Shed { what, cpu_percent, lost, .. } = &shed;
        log::warn!(
            "zsock used {cpu_percent} % of a processor over {WINDOW:?}, and --max-cpu allows {max_cpu_percent} %; shed {what}: {lost}{}",
            poorer(&shed)
        );
        self.output.push(&Record::new(self.clock.at(now_ns), &self.host, Body::Shed(Box::new(shed))));
    }

    /// `shed` of the `end` record.
    pub(super) fn shed(&self) -> BTreeMap<Arc<str>, u64> {
        self.thrift.as_ref().map(|thrift| thrift.shed.clone()).unwrap_or_default()
    }

    fn used(&self, now_ns: u64, pass_steps: u32) -> Used<Spare> {
        let are_counted = self.kernel.counts_runs();
        let hooks = self.runs.values().filter(|counted| counted.is_hook).map(|counted| counted.run_ns).sum();
        let of_hooks = |optional: &'static Optional| {
            (Spare::Hooks(optional), are_counted.then(|| self.kernel.time_of(optional, &self.runs)))
        };
        let hooks_to_spare =
            self.kernel.optional().into_iter().filter(|optional| are_counted || !optional.is_rare);
        let mut spare: Vec<_> = hooks_to_spare.map(of_hooks).collect();
        if pass_steps < PASS_STEPS {
            // A step spares half of them.
            spare.push((Spare::Passes, Some(self.schedule.passes().cpu / 2)));
        }
        if self.output.tells_every_event() {
            spare.push((Spare::Events, None));
        }
        Used {
            at: Duration::from_nanos(now_ns),
            agent: clock::process_cpu().unwrap_or_default(),
            hooks: are_counted.then(|| Duration::from_nanos(hooks)),
            spare,
        }
    }

    fn give_up(&mut self, spare: Spare) -> Shed {
        match spare {
            Spare::Hooks(optional) => {
                self.kernel.take_off(optional);
                Shed {
                    hooks: optional.hooks.iter().copied().map(Arc::from).collect(),
                    ..given_up(optional.name, optional.poorer, optional.lost)
                }
            }
            Spare::Passes => {
                if let Some(thrift) = &mut self.thrift {
                    thrift.pass_steps += 1;
                }
                let interval = self.schedule.halve();
                let lost = format!(
                    "passes come every {} unless they become quicker or slower, and what they find comes later",
                    duration(interval)
                );
                Shed { interval_ms: Some(milliseconds(interval)), ..given_up("passes", &OF_PASSES, &lost) }
            }
            Spare::Events => {
                self.output.tell_verdicts_alone();
                given_up("events", &[], "events are told no longer, what they bring is judged as before")
            }
        }
    }
}

/// That nothing is left to do without.
fn spent() -> Shed {
    given_up(
        "nothing",
        &[],
        "nothing is left that would bring enough, and the limit is not kept: select fewer sockets, or allow more",
    )
}

fn given_up(what: &str, poorer: &[VerdictName], lost: &str) -> Shed {
    let poorer = poorer.iter().map(|name| Arc::from(name.name())).collect();
    Shed { what: Arc::from(what), poorer, lost: Arc::from(lost), ..Shed::default() }
}

fn poorer(shed: &Shed) -> String {
    if shed.poorer.is_empty() {
        return String::new();
    }
    format!("; from here on poorer: {}", shed.poorer.join(", "))
}
