//! From records to stdout: judged, selected, rendered, queued.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cli::{self, Events, TraceArgs};
use crate::detect::Thresholds;
use crate::engine::{Counters, Engine, Timeline};
use crate::record::{Body, End, Lost, Phase, Record};
use crate::select::Selectors;
use crate::sink::writer::{DEFAULT_CAPACITY_BYTES, Dropped, END_PATIENCE, Writer};
use crate::sink::{Palette, Renderer, Text, stdout};
use crate::time::{Time, milliseconds};

/// The way out of a trace.
pub(super) struct Output {
    host: Arc<str>,
    engine: Engine,
    renderer: Renderer,
    writer: Writer,
    selectors: Selectors,
    events: Events,
    /// What was selected so far.
    counted: End,
}

impl Output {
    pub(super) fn open(
        arguments: &TraceArgs,
        host: Arc<str>,
        thresholds: Thresholds,
        selectors: Selectors,
    ) -> Result<Self> {
        use std::io::IsTerminal as _;
        let stdout = stdout::open().context("open stdout")?;
        let is_coloured = arguments.color.applies(stdout.is_terminal(), |name| std::env::var_os(name));
        let renderer = match arguments.output {
            cli::Output::Json => Renderer::Ndjson,
            cli::Output::Text => {
                Renderer::Text(Text::new(if is_coloured { Palette::COLOURED } else { Palette::PLAIN }))
            }
        };
        let writer = Writer::start(stdout, DEFAULT_CAPACITY_BYTES).context("start the output thread")?;
        let engine = Engine::new(thresholds);
        Ok(Self {
            host,
            engine,
            renderer,
            writer,
            selectors,
            events: arguments.events,
            counted: End::default(),
        })
    }

    /// Waits until nobody reads any more.
    pub(super) async fn stopped(&self) {
        self.writer.stopped().await;
    }

    /// What the engine counted.
    pub(super) fn counters(&self) -> Counters {
        self.engine.counters()
    }

    /// Judges a record, then prints it and its verdicts where they are wanted.
    pub(super) fn push(&mut self, record: &Record) {
        let known = self.engine.counters().sockets_seen;
        let findings = self.engine.push(record);
        let is_event = record.event().is_some();
        if self.selectors.matches(record) {
            self.counted.events += u64::from(is_event);
            self.counted.sockets_seen += self.engine.counters().sockets_seen - known;
            if !is_event || self.events != Events::None {
                self.print(record, None);
            }
        }
        for finding in findings {
            if self.selectors.matches(&finding.record) {
                self.count(&finding.record);
                self.print(&finding.record, Some(&finding.timeline));
            }
        }
    }

    /// Tells of records that the kernel side could not hand over between `since` and `at`.
    pub(super) fn tell_kernel_loss(&mut self, place: &str, count: u64, since: Time, at: Time) {
        let lost = self.tell_loss(place, count, since, at);
        self.engine.push(&lost);
    }

    fn tell_loss(&mut self, place: &str, count: u64, since: Time, at: Time) -> Record {
        self.counted.lost_events += count;
        let lost = Lost { count, since, place: Arc::from(place) };
        let record = Record::new(at, &self.host, Body::Lost(lost));
        // What tells of loss must not be lost itself; it is rare.
        self.print_past_limit(&record);
        record
    }

    /// Tells what the reader of stdout was too slow for, once it reads again.
    pub(super) fn tell_drops(&mut self, at: Time) {
        if self.writer.has_room()
            && let Some(Dropped { count, since }) = self.writer.take_dropped()
        {
            self.tell_loss("output", count, since, at);
        }
    }

    /// Prints the counters and waits for the reader to take what is queued, for a while.
    pub(super) fn end(mut self, at: Time, duration: Duration) -> Result<()> {
        if let Some(Dropped { count, since }) = self.writer.take_dropped() {
            self.tell_loss("output", count, since, at);
        }
        let end = End { duration_ms: milliseconds(duration), ..self.counted };
        self.print_past_limit(&Record::new(at, &self.host, Body::End(end)));
        let left = self.writer.finish(END_PATIENCE).context("write to stdout")?;
        if left > 0 {
            log::warn!("the reader of stdout did not take the last {left} records");
        }
        Ok(())
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
        self.writer.push(&self.renderer.render(record, timeline), record.at);
    }

    fn print_past_limit(&mut self, record: &Record) {
        self.writer.push_past_limit(&self.renderer.render(record, None));
    }
}
