//! Follows live sockets: from the ring buffer to where records go, in one loop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpSocket;
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use zsock_common::wire::{Counters, Kind, SocketRecord};

use crate::budget::READ_BYTES;
use crate::cli::{Events, FollowArgs};
use crate::detect::Thresholds;
use crate::kernel_rules::{Jiffies, hz_among, hz_from};
use crate::privileges;
use crate::record::{Body, Record, What};
use crate::run::beside::Beside;
use crate::run::metrics::Listener;
use crate::run::output::{Outlet, Output};
use crate::run::pass::Schedule;
use crate::run::signals::Signals;
use crate::run::{facts, filter};
use crate::source::accepts::Caller;
use crate::source::assemble::Assembler;
use crate::source::assemble::facts::Units;
use crate::source::clock::Clock;
use crate::source::decode::{Boxes, Raw};
use crate::source::kernel::looks::Limits;
use crate::source::kernel::runs::Runs;
use crate::source::kernel::{Kernel, Options};
use crate::source::namespaces;
use crate::source::order::{HOLD_BACK, Order};
use crate::time::nanoseconds;

use thrift::Thrift;

mod cost;
mod limit;
mod owners;
mod passes;
mod standing;
mod start;
mod thrift;

/// The ring buffer is read at least this often, so that a reader sees a record within 100 ms.
const POLL: Duration = Duration::from_millis(40);

/// How often the slower chores are done, so that what they find is out within a second.
const CHORES: Duration = Duration::from_millis(850);

/// Two readings of the kernel's clocks this far apart tell its tick where one does not.
const CLOCKS_APART: Duration = Duration::from_millis(600);
/// Where a virtual machine is not let run for some ticks the two tell nothing, and others are taken, so many times.
const CLOCK_TRIES: u32 = 8;

/// The ring buffer is read again after so many records of a batch, some milliseconds: it may be full before thousands of them are told, where
/// each brings or ends a verdict.
const READ_EVERY: usize = 256;

/// Everything between the kernel and stdout.
struct Trace {
    host: Arc<str>,
    kernel: Kernel,
    clock: Clock,
    boxes: Boxes,
    order: Order,
    assembler: Assembler,
    output: Output,
    schedule: Schedule,
    /// The network namespaces that are selected; empty for all.
    netns: Vec<u32>,
    beside: Beside,
    /// How often a tick is told, and when the last one was.
    ticks_every: Option<Duration>,
    ticked_ns: u64,
    /// When the last look ended, and how long it took; CLOCK_MONOTONIC nanoseconds.
    looked_ns: u64,
    look_took_ns: u64,
    /// So many records wait for their turn; with more none waits for anything.
    max_waiting: usize,
    /// It was said that memory is short.
    has_said_full: bool,
    /// Records that the kernel side could not hand over, as of the last count.
    lost: u64,
    /// What the kernel has counted of the programs, as of the last second, and how many of their runs it skipped.
    runs: Runs,
    skipped: u64,
    skips_counted_ns: u64,
    counted_ns: u64,
    undecoded: u64,
    /// Absent without `--max-cpu`.
    thrift: Option<Thrift>,
}

/// Goes on until `--duration`, a signal or a closed stdout ends it.
pub(super) async fn run(follow: &FollowArgs, outlet: Outlet<'_>) -> Result<()> {
    let selectors = follow.selectors.clone().resolve()?;
    let thresholds = Thresholds::assigned(&follow.thresholds, follow.assume_idle_timeout)?;
    if outlet.is_abandoned() {
        return Ok(());
    }
    let budget = follow.budget().map_err(anyhow::Error::msg)?;
    let listener = match follow.metrics {
        Some(address) => Some(Listener::bind(address).await?),
        None => None,
    };
    let mut signals = Signals::listen()?;
    let host = facts::host();
    let clock = Clock::start()?;
    let recording = outlet.start_recording(&budget, clock)?;
    let options = Options {
        all_events: follow.events == Events::All,
        buffer_bytes: budget.buffer_bytes,
        stored_sockets: budget.stored_sockets,
        count_states: follow.metrics.is_some() || outlet.ticks_every().is_some(),
        filter: filter::of(&selectors),
        has_log: follow.verbose >= 2,
        hooks: follow.hooks.clone(),
    };
    let attached_ns = clock.monotonic_ns();
    let mut kernel = Kernel::attach(&options)?;
    let (jiffies, arrived) = seed(&mut kernel).await?;
    let units = Units::new(jiffies, kernel.offsets());
    let start = start::body(&kernel, &thresholds, listener.as_ref().map(|listener| listener.address))?;
    kernel.set_limits(Limits::new(&thresholds, jiffies))?;
    let beside = Beside::new(thresholds.fd_pressure_percent, clock, units);
    let reset_reasons = kernel.reset_reasons().clone();
    let netns = selectors.netns.clone();
    let assembler = Assembler::new(Arc::clone(&host), clock, units, reset_reasons, budget.tracked_sockets);
    privileges::give_up(|| kernel.can_look())?;
    let output =
        Output::open(&outlet, recording, (follow, &budget), Arc::clone(&host), thresholds, selectors)?;
    let began_ns = clock.monotonic_ns();
    let mut trace = Trace {
        host: Arc::clone(&host),
        kernel,
        clock,
        boxes: Boxes::default(),
        order: Order::default(),
        assembler,
        output,
        schedule: Schedule::every(follow.scan_interval),
        netns,
        beside,
        ticks_every: outlet.ticks_every(),
        ticked_ns: began_ns,
        looked_ns: 0,
        look_took_ns: 0,
        max_waiting: budget.buffer_bytes.min(READ_BYTES) as usize / 2 / size_of::<SocketRecord>(),
        has_said_full: false,
        lost: 0,
        runs: Runs::new(),
        skipped: 0,
        skips_counted_ns: attached_ns,
        counted_ns: attached_ns,
        undecoded: 0,
        thrift: None,
    };
    trace.output.push(&Record::new(clock.at(began_ns), &host, start));
    trace.tell_standing();
    trace.limit_to(follow.max_cpu_percent, began_ns);
    if let Some(listener) = listener {
        listener.serve(trace.output.metrics().clone());
    }
    for raw in arrived {
        trace.sort_in(raw);
    }
    start::give_back_memory();

    let deadline = follow.duration.map(|duration| Instant::now() + duration);
    let mut poll = interval(POLL);
    let mut chores = interval(CHORES);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    chores.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !trace.kernel.is_broken() {
        tokio::select! {
            biased;
            () = signals.received() => break,
            () = trace.output.stopped() => break,
            () = at(deadline) => break,
            _ = chores.tick() => {
                if outlet.is_abandoned() {
                    break;
                }
                trace.do_chores();
            }
            _ = poll.tick() => trace.kernel.flush_log(),
            // Before what the kernel side has to say, which under load is always something: it is read after each step of a pass.
            () = trace.schedule.due() => trace.pass(),
            ready = trace.kernel.readable() => ready?,
            () = sleep(HOLD_BACK), if !trace.order.is_empty() => {}
        }
        trace.advance(false);
        // Whoever asks for metrics has a turn, also while one step of a pass follows the other.
        yield_now().await;
    }
    trace.end(began_ns)
}

/// Names every socket that exists, remembers who holds it and learns how fast the kernel's clock ticks. Returns what arrived
/// meanwhile.
async fn seed(kernel: &mut Kernel) -> Result<(Jiffies, Vec<Raw>)> {
    // Every TCP socket's timers have the same functions; one socket must exist to show them.
    let _example = TcpSocket::new_v4().or_else(|_| TcpSocket::new_v6()).context("make a socket")?;
    let mut arrived = Vec::new();
    kernel.seed_holders()?;
    kernel.drain(|bytes| arrived.extend(Raw::decode(bytes)));
    let mut hz = clocks(&arrived).first().and_then(|(jiffies, ns)| hz_from(*jiffies, *ns));
    for _ in 0..CLOCK_TRIES {
        if hz.is_some() {
            break;
        }
        sleep(CLOCKS_APART).await;
        kernel.seed_holders()?;
        kernel.drain(|bytes| arrived.extend(Raw::decode(bytes)));
        hz = hz_among(&clocks(&arrived));
    }
    let hz = hz.context("tell how fast the kernel's clock ticks (CONFIG_HZ): its jiffies fit no known rate; please report this")?;
    for (netns, error) in kernel.seed_sockets(&namespaces::all())? {
        // The first pass warns of those that stay closed.
        log::debug!("look at the sockets of network namespace {netns}: {error:#}");
    }
    kernel.drain(|bytes| arrived.extend(Raw::decode(bytes)));
    Ok((Jiffies::new(hz), arrived))
}

/// Readings of jiffies and CLOCK_MONOTONIC.
fn clocks(arrived: &[Raw]) -> Vec<(u64, u64)> {
    let reading = |raw: &Raw| match raw {
        Raw::Clock(clock) => Some((clock.jiffies, clock.head.time_ns)),
        Raw::Socket(..)
        | Raw::Look(_)
        | Raw::SynAck(_)
        | Raw::Destroyed(_)
        | Raw::Past(_)
        | Raw::Holder(_) => None,
    };
    arrived.iter().filter_map(reading).collect()
}

/// Waits until `deadline`, for ever where there is none.
pub(super) async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl Trace {
    /// Moves everything that has arrived one step on; at the end (`is_end`) whatever is still held back too.
    fn advance(&mut self, is_end: bool) {
        self.read();
        let now_ns = self.clock.monotonic_ns();
        if !is_end && !self.is_crowded() && self.should_wait_for_look(now_ns) {
            self.output.hand_over();
            return;
        }
        let batch = self.take_batch(now_ns, is_end);
        self.look_up_holders(&batch);
        let mut told = Vec::new();
        for (number, raw) in batch.into_iter().enumerate() {
            if number % READ_EVERY == READ_EVERY - 1 && !self.is_crowded() {
                self.read();
            }
            self.assembler.assemble(&raw, &mut told);
            for record in told.drain(..) {
                self.tell(&raw, record);
            }
            self.boxes.take_back(raw);
        }
        for failure in self.beside.failures(self.clock.at(now_ns), is_end, &self.kernel) {
            self.tell_failure(&failure);
        }
        if now_ns.saturating_sub(self.counted_ns) >= nanoseconds(POLL) {
            self.count_losses(now_ns);
        }
        self.output.tell_losses(self.clock.at(now_ns));
    }

    /// Whether so many records wait that they have to go on, with what is known.
    fn is_crowded(&self) -> bool {
        self.order.len() >= self.max_waiting
    }

    /// Takes the hooks off and passes on all that they had to tell, so that the counts at the end are of one moment.
    fn end(mut self, began_ns: u64) -> Result<()> {
        // To take the hooks off takes a while on a slow machine, and is no part of the trace.
        let duration = Duration::from_nanos(self.clock.monotonic_ns().saturating_sub(began_ns));
        self.kernel.detach();
        // Looks at holders made for the last records write more.
        let mut read = None;
        while read.replace(self.kernel.position()) != Some(self.kernel.position()) {
            self.advance(true);
        }
        let now_ns = self.clock.monotonic_ns();
        self.count_losses(now_ns);
        self.count_runs(now_ns);
        self.report_self();
        let account = self.account()?;
        self.output.end(self.clock.at(now_ns), duration, account)?;
        self.kernel.check()
    }

    /// Says it once when sockets had to be let go.
    fn warn_of_full_memory(&mut self) {
        let dropped = self.output.counters().sockets_dropped + self.assembler.forgotten();
        let unstored = self.kernel.counters().map_or(0, |counters| counters.forgotten);
        if dropped + unstored > 0 && !std::mem::replace(&mut self.has_said_full, true) {
            log::warn!(
                "the memory that --max-memory allows is full: sockets without an open verdict are let go, those that were silent for \
                 the longest first, and new ones may not be followed; the `end` record counts them. Allow more, or select fewer"
            );
        }
    }

    /// Passes a record on; of failed accepts, those whose turn it is.
    fn tell(&mut self, raw: &Raw, record: Record) {
        let failure = match raw {
            Raw::Socket(Kind::AcceptFailed, failure) => record
                .event()
                .is_some_and(|event| matches!(event.what, What::AcceptFailed(_)))
                .then(|| (Caller::of(failure), failure.detail2)),
            Raw::Socket(..)
            | Raw::Look(_)
            | Raw::SynAck(_)
            | Raw::Destroyed(_)
            | Raw::Past(_)
            | Raw::Holder(_)
            | Raw::Clock(_) => None,
        };
        match failure {
            Some((caller, total)) => {
                if let Some(record) = self.beside.accepts.note(caller, total, record) {
                    self.tell_failure(&record);
                }
            }
            None => self.output.push(&record),
        }
    }

    /// Tells of a failed accept after how the process stands that it failed for.
    fn tell_failure(&mut self, failure: &Record) {
        if let Some(sample) = self.beside.process_of(failure, &self.assembler) {
            self.output.push(&Record::new(failure.at, &failure.host, Body::Process(Box::new(sample))));
        }
        self.output.push(failure);
    }

    /// What is looked after about once a second.
    fn do_chores(&mut self) {
        let now_ns = self.clock.monotonic_ns();
        self.count_runs(now_ns);
        self.keep_within_limit(now_ns);
        self.kernel.unmap_spare();
        self.warn_of_full_memory();
        self.tell_standing();
        let now = self.clock.at(now_ns);
        for sample in self.beside.descriptors(now, &self.assembler) {
            self.output.push(&Record::new(now, &self.host, Body::Process(Box::new(sample))));
        }
        for sample in self.beside.survivals(&self.kernel, self.output.suspects()) {
            self.output.push(&Record::new(now, &self.host, Body::Destination(Box::new(sample))));
        }
        if let Some(every) = self.ticks_every
            && now_ns.saturating_sub(self.ticked_ns) >= nanoseconds(every)
        {
            self.ticked_ns = now_ns;
            self.output.tick(now, every);
        }
    }

    /// Takes in what the kernel side has written.
    fn read(&mut self) {
        let Self { kernel, boxes, order, assembler, undecoded, .. } = self;
        take_in(kernel, boxes, order, assembler, undecoded);
    }

    fn sort_in(&mut self, raw: Raw) {
        sort_in(raw, &mut self.order, &mut self.assembler);
    }

    /// Notes what the kernel side could not hand over since the last count.
    fn count_losses(&mut self, now_ns: u64) {
        match self.kernel.counters() {
            Ok(Counters { lost, .. }) => {
                let count = lost.saturating_sub(std::mem::replace(&mut self.lost, lost));
                self.note_loss("kernel", count, self.counted_ns, now_ns);
            }
            Err(error) => log::warn!("{error:#}"),
        }
        self.counted_ns = now_ns;
    }

    fn note_loss(&mut self, place: &str, count: u64, since_ns: u64, now_ns: u64) {
        if count > 0 {
            self.output.note_kernel_loss(place, count, self.clock.at(since_ns), self.clock.at(now_ns));
        }
    }

    /// What zsock has to say of its own doing, for `-v`.
    fn report_self(&self) {
        log::info!(
            "{} records out of order, {} not understood; {} sockets forgotten by the agent, {} not followed by the engine",
            self.order.late(),
            self.undecoded,
            self.assembler.forgotten(),
            self.output.counters().sockets_dropped,
        );
        if let Ok(counters) = self.kernel.counters() {
            log::info!("kernel side: {counters:?}");
        }
    }
}

/// Takes in what the kernel side has written.
fn take_in(
    kernel: &mut Kernel,
    boxes: &mut Boxes,
    order: &mut Order,
    assembler: &mut Assembler,
    undecoded: &mut u64,
) {
    kernel.drain(|bytes| match Raw::decode_into(bytes, boxes) {
        Ok(raw) => sort_in(raw, order, assembler),
        Err(error) => {
            *undecoded += 1;
            log::debug!("{error}");
        }
    });
}

/// What is known besides the events needs no order; events wait for their turn.
fn sort_in(raw: Raw, order: &mut Order, assembler: &mut Assembler) {
    assembler.learn(&raw);
    match raw {
        Raw::Socket(..) | Raw::Look(_) | Raw::SynAck(_) | Raw::Destroyed(_) => order.push(raw),
        Raw::Past(_) | Raw::Holder(_) | Raw::Clock(_) => {}
    }
}
