//! The runs of which a recording has records, told apart and judged, each by an engine of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Run;
use super::parts::Parts;
use crate::detect::Thresholds;
use crate::engine::Engine;
use crate::record::{Body, Record, Shed, Start};
use crate::time::Time;

/// What the engines of all runs may take together,
const ENGINES_BYTES: usize = 64 << 20;
/// and how many there may be.
const ENGINES: usize = 64;

/// After so many records of one run it is looked again whether they still keep within their room.
const RECORDS_BETWEEN: u64 = 4096;

/// More than these are no runs of anybody: further ones are taken for the last.
const MAX_RUNS: usize = 65_536;
/// The same of the gaps of one run.
const MAX_GAPS: usize = 65_536;

/// No run gives up so many things.
const MAX_SHED: usize = 64;

/// What one segment ends with and the next one begins with is not further from its order than this.
const DISORDER: Duration = Duration::from_secs(2);

/// Where so many ticks are missing in a row, it was not a busy host that delayed one.
const MISSED_TICKS: u32 = 3;

/// What is judged by in place of a run's own thresholds.
#[derive(Clone, Debug, Default)]
pub(super) struct Overrides {
    /// As the command line has them.
    pub(super) thresholds: Vec<String>,
    pub(super) assumed_idle_timeout: Option<Duration>,
}

impl Overrides {
    pub(super) const fn are_there(&self) -> bool {
        !self.thresholds.is_empty() || self.assumed_idle_timeout.is_some()
    }

    fn apply(&self, mut thresholds: Thresholds) -> Thresholds {
        for assignment in &self.thresholds {
            // The command line has let those through that can be set.
            let _ = thresholds.set(assignment);
        }
        thresholds.assumed_idle_timeout =
            self.assumed_idle_timeout.unwrap_or(thresholds.assumed_idle_timeout);
        thresholds
    }
}

/// A run and what its records said so far.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) run: Run,
    thresholds: Thresholds,
    /// Absent before its first record; it knows of no socket once it was let go for want of room.
    engine: Option<Engine>,
    /// Time between two ticks; absent before the first.
    every: Option<Duration>,
    /// What was read of it, so that nothing is read twice.
    pub(super) parts: Parts,
    /// When the run began, and the first record after that, until a tick tells whether anything is missing between them.
    beginning: Option<(Time, Option<Time>)>,
    /// What had been lost before the first record that is there, by the run's own count; absent before it counts.
    lost_before: Option<u64>,
    /// The time of the last event.
    last_event: Option<Time>,
    /// The run's start stood there again, and no event after it.
    goes_on: bool,
    /// Something happened to a socket, as far as is recorded.
    pub(super) has_events: bool,
    /// Nothing that happened was left out on purpose.
    pub(super) has_all_events: bool,
    /// The time of the last record that is no verdict.
    pub(super) happened_at: Option<Time>,
    /// What engines before this one had to let go.
    dropped_before: u64,
}

/// What tells one `start` from another: its host, time and boot.
type Beginning = (Arc<str>, Time, Option<Arc<str>>);

/// The runs in the order of their beginnings.
#[derive(Debug, Default)]
pub(super) struct Runs {
    all: Vec<Watched>,
    current: usize,
    overrides: Overrides,
    by_start: HashMap<Beginning, usize>,
    /// The last one of each host.
    by_host: HashMap<Arc<str>, usize>,
    /// Those that have an engine, the one last that has had a record last.
    judged: Vec<usize>,
}

impl Runs {
    pub(super) fn new(overrides: Overrides) -> Self {
        Self { overrides, ..Self::default() }
    }

    pub(super) const fn are_judged_anew(&self) -> bool {
        self.overrides.are_there()
    }

    /// The run that a record belongs to: one that is there, or a new one.
    pub(super) fn of(&mut self, record: &Record) -> usize {
        let before = (!self.all.is_empty()).then_some(self.current);
        if let Body::Start(start) = &record.body {
            self.current = self.begun_by(record, start);
        } else if self.all.get(self.current).is_none_or(|watched| watched.run.host != record.host) {
            let known = self.by_host.get(&record.host).copied();
            self.current = known.unwrap_or_else(|| self.add(&record.host, None));
        }
        if before != Some(self.current) {
            self.judged.retain(|run| *run != self.current);
            self.judged.push(self.current);
            self.make_room();
        } else if self.all[self.current].run.records.is_multiple_of(RECORDS_BETWEEN) {
            self.make_room();
        }
        self.current
    }

    pub(super) fn get_mut(&mut self, run: usize) -> &mut Watched {
        &mut self.all[run]
    }

    /// The runs that are judged still, with their engines.
    pub(super) fn engines(&self) -> impl Iterator<Item = (usize, &Engine)> {
        self.judged.iter().filter_map(|run| Some((*run, self.all[*run].engine.as_ref()?)))
    }

    /// When the last record was made.
    pub(super) fn end(&self) -> Option<Time> {
        self.all.iter().filter_map(|watched| watched.run.span).map(|(_, last)| last).max()
    }

    /// The runs, and how many sockets their engines had to let go.
    pub(super) fn finish(self) -> (Vec<Run>, u64) {
        let dropped = self.all.iter().map(Watched::sockets_dropped).sum();
        (self.all.into_iter().map(|watched| watched.run).collect(), dropped)
    }

    fn begun_by(&mut self, record: &Record, start: &Start) -> usize {
        let beginning = (Arc::clone(&record.host), record.at, start.boot_id.clone());
        if let Some(same) = self.by_start.get(&beginning) {
            self.all[*same].goes_on = true;
            return *same;
        }
        let run = self.add(&record.host, Some((record.at, start)));
        self.by_start.insert(beginning, run);
        run
    }

    fn add(&mut self, host: &Arc<str>, begun: Option<(Time, &Start)>) -> usize {
        if self.all.len() >= MAX_RUNS {
            return self.all.len() - 1;
        }
        let mut run = Run { host: Arc::clone(host), ..Run::default() };
        let mut thresholds = Thresholds::default();
        if let Some((at, start)) = begun {
            run.boot_id.clone_from(&start.boot_id);
            run.kernel = Some(Arc::clone(&start.kernel));
            thresholds = Thresholds::of_settings(&start.settings);
            // Between two runs nobody watched.
            let earlier = self.by_host.get(host).and_then(|earlier| self.all[*earlier].run.span);
            run.gaps.extend(earlier.map(|(_, last)| (last, at)).filter(|(last, at)| last < at));
        }
        self.all.push(Watched {
            run,
            thresholds: self.overrides.apply(thresholds),
            engine: None,
            every: None,
            parts: Parts::default(),
            beginning: begun.map(|(at, _)| (at, None)),
            lost_before: None,
            last_event: None,
            goes_on: false,
            has_events: false,
            has_all_events: true,
            happened_at: None,
            dropped_before: 0,
        });
        self.by_host.insert(Arc::clone(host), self.all.len() - 1);
        self.all.len() - 1
    }

    /// Lets engines go, the one first that was not needed for longest, until those left keep within their room.
    fn make_room(&mut self) {
        let bytes = |runs: &[Watched], judged: &[usize]| {
            judged.iter().map(|run| runs[*run].engine.as_ref().map_or(0, Engine::used_bytes)).sum::<usize>()
        };
        while self.judged.len() > 1
            && (self.judged.len() > ENGINES || bytes(&self.all, &self.judged) > ENGINES_BYTES)
        {
            let idlest = self.judged.remove(0);
            self.all[idlest].let_go();
        }
    }
}

impl Watched {
    pub(super) fn engine(&mut self) -> &mut Engine {
        self.engine.get_or_insert_with(|| Engine::with_memory(self.thresholds.clone(), ENGINES_BYTES))
    }

    /// Takes in what a record says of the run itself.
    pub(super) fn note(&mut self, record: &Record) {
        let at = record.at;
        let run = &mut self.run;
        run.records += 1;
        let tells_the_past = record.event().is_some_and(|event| event.replayed);
        run.span = Some(match run.span {
            None => (at, at),
            Some((first, last)) => {
                let is_gap =
                    self.every.is_some_and(|every| at.since(last) > every.saturating_mul(MISSED_TICKS));
                if is_gap && run.gaps.len() < MAX_GAPS {
                    run.gaps.push((last, at));
                }
                (if tells_the_past { first } else { first.min(at) }, last.max(at))
            }
        });
        if let Some((_, first @ None)) = &mut self.beginning
            && !tells_the_past
            && !matches!(record.body, Body::Start(_) | Body::Shed(_))
        {
            *first = Some(at);
        }
        match &record.body {
            Body::Lost(lost) => run.lost = run.lost.saturating_add(lost.count),
            Body::Shed(shed) => self.note_shed(at, shed),
            Body::End(end) => {
                run.is_ended = true;
                self.lost_in_all(end.lost_events, 0);
            }
            Body::Tick(tick) => {
                let told = run.lost;
                self.every = Some(Duration::from_millis(tick.every_ms)).filter(|every| !every.is_zero());
                self.forget_what_was_removed(at);
                self.lost_in_all(tick.lost_events, tick.lost_events.saturating_sub(told));
            }
            Body::Event(_) => {
                self.has_events = true;
                if !tells_the_past {
                    self.keep_order(at);
                }
            }
            Body::Start(_) | Body::Verdict(_) | Body::Process(_) | Body::Destination(_) => {}
        }
    }

    /// Takes in what zsock did without. Segments repeat it after their start.
    fn note_shed(&mut self, at: Time, shed: &Shed) {
        self.has_all_events &= &*shed.what != "events";
        let is_known = self.run.shed.iter().any(|(known_at, known)| (*known_at, known) == (at, shed));
        if !is_known && self.run.shed.len() < MAX_SHED {
            self.run.shed.push((at, shed.clone()));
        }
    }

    /// Looks whether what follows a repeated start goes on where the run was: a recording that is given twice does not.
    fn keep_order(&mut self, at: Time) {
        let goes_back = self.last_event.is_some_and(|last| last.since(at) > DISORDER);
        self.run.is_repeated |= std::mem::take(&mut self.goes_on) && goes_back;
        self.last_event = self.last_event.max(Some(at));
    }

    /// Takes in the run's own count of what was lost since its beginning: the records that told of it may be gone, removed as the oldest
    /// or lost themselves. `before` is how much of it was lost before what is there, where this is the first such count.
    fn lost_in_all(&mut self, lost: u64, before: u64) {
        let before = *self.lost_before.get_or_insert(before);
        self.run.lost = self.run.lost.max(lost.saturating_sub(before));
    }

    /// Each segment begins with the start of the run, which tells nothing of how much of it is there still: the first tick does.
    fn forget_what_was_removed(&mut self, ticked_at: Time) {
        let (Some((began, first)), Some(every)) = (self.beginning.take(), self.every) else { return };
        if ticked_at.since(began) > every.saturating_mul(MISSED_TICKS)
            && let Some((since, _)) = &mut self.run.span
        {
            *since = first.unwrap_or(ticked_at);
        }
    }

    fn let_go(&mut self) {
        self.dropped_before = self.sockets_dropped();
        self.engine = self.engine.take().map(Engine::anew);
    }

    fn sockets_dropped(&self) -> u64 {
        self.dropped_before + self.engine.as_ref().map_or(0, |engine| engine.counters().sockets_dropped)
    }
}
