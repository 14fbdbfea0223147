//! From records to stdout: judged, selected, rendered, queued.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::budget::Budget;
use crate::cli::{self, Events, FollowArgs, RecordArgs, TraceArgs};
use crate::detect::Thresholds;
use crate::engine::{Counters, Engine, Timeline};
use crate::record::{Body, Destination, End, Lost, Phase, Record, State, Tick};
use crate::recording::recorder;
use crate::run::facts;
use crate::select::Selectors;
use crate::sink::metrics::{Facts, Metrics, Standing};
use crate::sink::writer::{BATCH_BYTES, Dropped, END_PATIENCE, Writer};
use crate::sink::{Batch, Ndjson, Palette, Renderer, Text, stdout};
use crate::source::blocked::{Blocked, BlockedThreads};
use crate::source::clock::Clock;
use crate::time::{Time, milliseconds};

/// Where records go.
pub(super) enum Outlet<'a> {
    /// To whoever reads stdout.
    Stdout(&'a TraceArgs),
    /// To the files of a recording.
    Directory(&'a RecordArgs),
}

impl Outlet<'_> {
    /// Starts to record, where that is what it is for: before the privileges go that it takes.
    pub(super) fn start_recording(&self, budget: &Budget, clock: Clock) -> Result<Option<Writer>> {
        let Self::Directory(arguments) = self else { return Ok(None) };
        let now = move || clock.at(clock.monotonic_ns());
        recorder::start(&arguments.directory, arguments.bounds(), budget.queue_bytes, now).map(Some)
    }

    /// Whether nobody is left who would read what is written.
    pub(super) fn is_abandoned(&self) -> bool {
        matches!(self, Self::Stdout(_)) && (stdout::was_closed() || stdout::is_abandoned(std::io::stdout()))
    }

    /// How often a tick says that zsock is there.
    pub(super) fn ticks_every(&self) -> Option<Duration> {
        matches!(self, Self::Directory(_)).then_some(TICK_EVERY)
    }
}

/// A recording has a tick each time: so long may nobody have watched without that being known.
const TICK_EVERY: Duration = Duration::from_secs(10);

/// The way out of a trace or a recording.
pub(super) struct Output {
    host: Arc<str>,
    engine: Engine,
    renderer: Renderer,
    /// What is printed and not handed over yet.
    batch: Batch,
    writer: Writer,
    /// The writer had no room: until it has some again, events are not even rendered, so that nobody pays for a reader that is slow.
    is_full: bool,
    /// Where records are lost that the writer does not take, who it is that takes them, and what failed then.
    loss: &'static str,
    taker: &'static str,
    failure: String,
    selectors: Selectors,
    events: Events,
    /// What was selected so far.
    counted: End,
    /// Losses that are to be told, one for each place.
    untold: Vec<Lost>,
    blocked: BlockedThreads,
    metrics: Metrics,
}

impl Output {
    /// Opens the outlet; `recording` is what [`Outlet::start_recording`] started.
    pub(super) fn open(
        outlet: &Outlet<'_>,
        recording: Option<Writer>,
        (follow, budget): (&FollowArgs, &Budget),
        host: Arc<str>,
        thresholds: Thresholds,
        selectors: Selectors,
    ) -> Result<Self> {
        let (renderer, writer) = match (outlet, recording) {
            (Outlet::Stdout(arguments), None) => to_stdout(arguments, budget)?,
            (_, recording) => (
                Renderer::Ndjson(Ndjson::default()),
                recording.context("records go to stdout or to a recording")?,
            ),
        };
        let (loss, taker, failure) = match outlet {
            Outlet::Stdout(_) => ("output", "the reader of stdout", stdout::UNWRITTEN.to_owned()),
            Outlet::Directory(arguments) => {
                let failure = format!("write all of the recording to {}", arguments.directory.display());
                ("recording", "the recorder's disk", failure)
            }
        };
        let engine = Engine::with_memory(thresholds, budget.engine_bytes);
        let engine = if renderer.shows_timelines() { engine } else { engine.without_timelines() };
        let facts = Facts {
            kernel: facts::kernel_release()?,
            max_memory_bytes: follow.max_memory_bytes,
            max_cpu_percent: follow.max_cpu_percent,
        };
        Ok(Self {
            host,
            engine,
            renderer,
            batch: Batch::default(),
            writer,
            is_full: false,
            loss,
            taker,
            failure,
            selectors,
            events: follow.events,
            counted: End::default(),
            untold: Vec::new(),
            blocked: BlockedThreads::new(),
            metrics: Metrics::new(facts),
        })
    }

    /// The numbers for Prometheus.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Destinations of which it is wanted how long connections idle and live on.
    pub(super) fn suspects(&self) -> impl Iterator<Item = Destination> {
        self.engine.suspects()
    }

    /// Waits until nobody reads any more.
    pub(super) async fn stopped(&self) {
        self.writer.stopped().await;
    }

    /// What the engine counted.
    pub(super) fn counters(&self) -> Counters {
        self.engine.counters()
    }

    /// Whether events of healthy sockets are told.
    pub(super) fn tells_every_event(&self) -> bool {
        self.events == Events::All
    }

    /// From here on events are judged and counted, and not told.
    pub(super) fn tell_verdicts_alone(&mut self) {
        self.events = Events::None;
    }

    /// Judges a record, then prints it and its verdicts where they are wanted.
    pub(super) fn push(&mut self, record: &Record) {
        let known = self.engine.counters().sockets_seen;
        let findings = self.engine.push(record);
        let is_event = record.event().is_some();
        if self.selectors.matches(record) {
            self.metrics.note(record);
            self.counted.events += u64::from(is_event);
            self.counted.sockets_seen += self.engine.counters().sockets_seen - known;
            if let Body::Shed(_) = record.body {
                // Without it whoever reads on would take what is not told any more for what did not happen.
                self.flush(record.at);
                self.print_past_limit(record);
            } else if !is_event || self.events != Events::None {
                self.print(record, None);
            }
        }
        for mut finding in findings {
            if self.selectors.matches(&finding.record) {
                self.tell_kernel_losses(record.at);
                note_blocked(&mut finding.record, &mut self.blocked);
                self.count(&finding.record);
                self.metrics.note(&finding.record);
                self.print(&finding.record, Some(&finding.timeline));
            }
        }
    }

    /// Judges by what the kernel side could not hand over between `since` and `at`, and tells it before a verdict can speak of it, so that
    /// whoever reads the records judges as is judged here.
    pub(super) fn note_kernel_loss(&mut self, place: &str, count: u64, since: Time, at: Time) {
        let lost = Lost { count, since, place: Arc::from(place) };
        let record = Record::new(at, &self.host, Body::Lost(lost.clone()));
        self.engine.push(&record);
        self.metrics.note(&record);
        add(&mut self.untold, lost);
        self.tell_kernel_losses(at);
    }

    /// Tells what the kernel side could not hand over wherever there is room for the verdicts that speak of it.
    fn tell_kernel_losses(&mut self, at: Time) {
        if self.untold.is_empty() || !self.writer.has_room_for_verdicts() || self.writer.is_failing() {
            return;
        }
        self.flush(at);
        for lost in std::mem::take(&mut self.untold) {
            self.tell_loss(at, lost);
        }
    }

    fn tell_loss(&mut self, at: Time, lost: Lost) {
        self.counted.lost_events += lost.count;
        // What tells of loss must not be lost itself.
        self.print_past_limit(&Record::new(at, &self.host, Body::Lost(lost)));
    }

    /// Has written what was printed so far and waits for nothing else.
    pub(super) fn hand_over(&mut self) {
        if !self.batch.is_empty() {
            self.is_full |= !self.writer.push(&mut self.batch);
        }
    }

    /// Ends a batch: prints what waited for that. Then tells what was lost, before the reader of stdout or because of it, once that
    /// reader keeps up: while it does not, losses add up and take no room.
    pub(super) fn tell_losses(&mut self, at: Time) {
        self.flush(at);
        self.metrics.note_dropped(self.loss, self.writer.dropped());
        if self.writer.has_room() {
            // What fails is tried again with the next event.
            self.is_full = false;
            if !self.writer.is_failing() {
                self.tell_all_losses(at);
            }
        }
    }

    fn tell_all_losses(&mut self, at: Time) {
        let dropped = self.writer.take_dropped();
        let by_reader =
            dropped.map(|Dropped { count, since }| Lost { count, since, place: Arc::from(self.loss) });
        for lost in std::mem::take(&mut self.untold).into_iter().chain(by_reader) {
            self.tell_loss(at, lost);
        }
    }

    /// Prints the counters and waits for the reader to take what is queued, for a while.
    /// `beyond` has what others counted.
    pub(super) fn end(mut self, at: Time, duration: Duration, beyond: End) -> Result<()> {
        self.flush(at);
        self.tell_all_losses(at);
        let End { events, lost_events, verdicts, open_verdicts, sockets_seen, records, .. } = self.counted;
        let sockets_dropped = self.engine.counters().sockets_dropped;
        let duration_ms = milliseconds(duration);
        let end = End {
            events,
            lost_events,
            verdicts,
            open_verdicts,
            sockets_seen,
            // This one is the last.
            records: records + 1,
            sockets_dropped,
            duration_ms,
            ..beyond
        };
        self.print_past_limit(&Record::new(at, &self.host, Body::End(Box::new(end))));
        let left = self.writer.finish(END_PATIENCE).context(self.failure)?;
        if left > 0 {
            log::warn!("{} did not take the last {left} records", self.taker);
        }
        Ok(())
    }

    /// Says that zsock is there, and what it counted so far.
    pub(super) fn tick(&mut self, at: Time, every: Duration) {
        let End { events, lost_events, open_verdicts, .. } = self.counted;
        let every_ms = milliseconds(every);
        let Standing { sockets, established, closed, .. } = self.metrics.standing();
        let sockets = sockets.unwrap_or_default().into_iter().filter(|(_, count)| *count > 0);
        let sockets = sockets.map(|(state, count)| (Arc::from(state.to_string()), count)).collect();
        let tick = Tick { every_ms, sockets, established, closed, events, lost_events, open_verdicts };
        self.print(&Record::new(at, &self.host, Body::Tick(Box::new(tick))), None);
    }

    /// Counts a verdict: those that describe a condition open and close, a final one does both at once.
    fn count(&mut self, record: &Record) {
        let Body::Verdict(verdict) = &record.body else { return };
        match (verdict.phase, verdict.outcome) {
            (Phase::Opened, _) => {
                self.counted.verdicts += 1;
                self.counted.open_verdicts += 1;
            }
            (Phase::Closed, None) => self.counted.verdicts += 1,
            (Phase::Closed, Some(_)) => {
                self.counted.open_verdicts = self.counted.open_verdicts.saturating_sub(1);
            }
            (Phase::Updated, _) => {}
        }
    }

    fn print(&mut self, record: &Record, timeline: Option<&Timeline>) {
        self.counted.records += 1;
        if self.is_full && record.event().is_some() {
            return self.writer.pass_over(record.at);
        }
        self.renderer.render(record, timeline, &mut self.batch);
        if self.batch.as_bytes().len() >= BATCH_BYTES {
            self.hand_over();
        }
    }

    fn print_past_limit(&mut self, record: &Record) {
        self.counted.records += 1;
        self.hand_over();
        self.renderer.render(record, None, &mut self.batch);
        self.writer.push_past_limit(&mut self.batch);
    }

    fn flush(&mut self, at: Time) {
        self.blocked.forget();
        self.renderer.flush(at, &mut self.batch);
        self.hand_over();
    }
}

fn to_stdout(arguments: &TraceArgs, budget: &Budget) -> Result<(Renderer, Writer)> {
    let stdout = stdout::open().context("open stdout")?;
    let is_coloured = arguments.color.applies(stdout.is_terminal(), |name| std::env::var_os(name));
    let renderer = match arguments.output {
        cli::Output::Json => Renderer::Ndjson(Ndjson::default()),
        cli::Output::Text => {
            Renderer::Text(Text::new(if is_coloured { Palette::COLOURED } else { Palette::PLAIN }))
        }
    };
    Ok((renderer, Writer::start(stdout, budget.queue_bytes).context("start the output thread")?))
}

/// Puts the threads that sit in a call on the socket into the evidence of a verdict that opens on one that somebody holds.
fn note_blocked(record: &mut Record, blocked: &mut BlockedThreads) {
    let Body::Verdict(verdict) = &mut record.body else { return };
    let Some((socket, tcp)) = verdict.socket() else { return };
    let is_held = !socket.orphan && tcp.state != Some(State::CLOSE);
    let (Some(pid), Some(inode), true) = (socket.pid, socket.inode, is_held) else { return };
    if verdict.phase != Phase::Opened {
        return;
    }
    if let Some(Blocked { threads, calls }) = blocked.of(pid, inode) {
        verdict.evidence.insert("blocked_threads".to_owned(), threads.into());
        if !calls.is_empty() {
            verdict.evidence.insert("blocked_in".to_owned(), calls.into_iter().collect());
        }
    }
}

/// Adds a loss to those of the same place.
fn add(untold: &mut Vec<Lost>, lost: Lost) {
    match untold.iter_mut().find(|earlier| earlier.place == lost.place) {
        Some(earlier) => earlier.count += lost.count,
        None => untold.push(lost),
    }
}

#[cfg(test)]
mod tests;
