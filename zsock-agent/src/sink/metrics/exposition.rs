//! Which metrics there are, under which names.

use std::fmt::{Error, Result};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;

use super::{Numbers, Standing};
use crate::source::own::Usage;

/// All numbers of one moment.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) events: super::Counts,
    pub(super) retransmits: super::Counts,
    pub(super) numbers: Numbers,
    pub(super) usage: Usage,
}

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result {
        let mut out = Out(encoder);
        self.of_sockets(&mut out)?;
        self.of_verdicts(&mut out)?;
        self.of_losses(&mut out)?;
        of_looks(&mut out, &self.numbers.standing)?;
        of_programs(&mut out, &self.numbers.standing)?;
        self.of_zsock(&mut out)?;
        of_the_process(&mut out, &self.usage)
    }
}

impl Page {
    fn of_sockets(&self, out: &mut Out<'_>) -> Result {
        let standing = &self.numbers.standing;
        if let Some(sockets) = &standing.sockets {
            let help = "TCP sockets by state, as the last pass over all of them counted.";
            let states = sockets.iter().map(|(state, count)| (state.to_string(), *count));
            out.by("zsock_sockets", help, MetricType::Gauge, "state", states)?;
        }
        let help = "Connections that came to ESTABLISHED, at either end.";
        out.counter("zsock_connections_established", help, standing.established)?;
        let help = "Sockets that came to CLOSE: connections that ended, attempts that failed, listeners that were closed.";
        out.counter("zsock_sockets_closed", help, standing.closed)?;
        let help = "Socket events by type.";
        out.counters("zsock_events", help, "type", &self.events)?;
        let help = "Segments sent again, by cause.";
        out.counters("zsock_retransmits", help, "cause", &self.retransmits)
    }

    fn of_verdicts(&self, out: &mut Out<'_>) -> Result {
        let help = "Verdicts opened, final ones included.";
        out.counters("zsock_verdicts_opened", help, "verdict", &self.numbers.opened)?;
        let open = self.numbers.open.iter().map(|(name, count)| (*name, *count));
        out.by("zsock_verdicts_open", "Verdicts that are open.", MetricType::Gauge, "verdict", open)
    }

    fn of_losses(&self, out: &mut Out<'_>) -> Result {
        let Standing { kernel_records, unstored, forgotten, dropped, .. } = self.numbers.standing;
        let help = "Records that could not be handed over, by where: the ring buffer was full (kernel), the kernel skipped a program that was \
                    running already (hook), the reader of stdout was too slow (output), the disk was slow, full or gone (recording).";
        out.counters("zsock_lost_records", help, "where", &self.numbers.lost)?;
        let help = "Records that the kernel side handed over.";
        out.counter("zsock_kernel_records", help, kernel_records)?;
        let help = "Sockets of which something was let go or not taken in for want of memory: what the kernel side remembers of them, their owner and past, \
                    their story.";
        let let_go = [("kernel", unstored), ("past", Some(forgotten)), ("story", Some(dropped))];
        let let_go = let_go.into_iter().filter_map(|(what, count)| Some((what, count?)));
        out.by("zsock_sockets_let_go", help, MetricType::Counter, "what", let_go)
    }

    fn of_zsock(&self, out: &mut Out<'_>) -> Result {
        let facts = &self.numbers.facts;
        let labels =
            vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("kernel", facts.kernel.to_string())];
        let help = "Always 1: which zsock runs on which kernel.";
        let encoder = out.0.encode_descriptor("zsock_build_info", help, None, MetricType::Gauge)?;
        Info::new(labels).encode(encoder)?;
        let help = "The most memory that zsock takes, the kernel's share included.";
        out.gauge("zsock_memory_limit_bytes", help, Some(facts.max_memory_bytes))?;
        let help = "The share of one processor that zsock is to keep within, --max-cpu.";
        let ratio = facts.max_cpu_percent.map(|percent| f64::from(percent) / 100.0);
        out.gauge("zsock_cpu_limit_ratio", help, ratio)?;
        let help = "How often zsock did without something more to keep within --max-cpu, by what.";
        out.counters("zsock_shed", help, "what", &self.numbers.shed)
    }
}

fn of_looks(out: &mut Out<'_>, standing: &Standing) -> Result {
    let passes = standing.passes;
    let help = "Sockets whose owner and past are remembered: those that showed trouble.";
    out.gauge("zsock_sockets_remembered", help, Some(standing.remembered))?;
    out.counter("zsock_passes", "Passes over all sockets.", Some(passes.count))?;
    let help = "Processor time of the passes over all sockets.";
    out.counter_seconds("zsock_pass_cpu_seconds", help, Some(passes.cpu))?;
    let help = "From one pass over all sockets to the next.";
    out.gauge("zsock_pass_interval_seconds", help, passes.interval.map(|interval| interval.as_secs_f64()))?;
    let help = "Network namespaces that the last pass could not look into.";
    out.gauge("zsock_unseen_network_namespaces", help, passes.unseen_namespaces)
}

/// What the kernel's statistics say, while they are on.
fn of_programs(out: &mut Out<'_>, standing: &Standing) -> Result {
    if standing.programs.is_empty() {
        return Ok(());
    }
    let help = "Runs of zsock's eBPF programs, while the kernel's statistics are on.";
    let runs = standing.programs.iter().map(|(name, told)| (name, told.runs));
    out.by("zsock_program_runs", help, MetricType::Counter, "program", runs)?;
    let help = "How long these runs took; the statistics themselves are part of it.";
    let mut encoder =
        out.0.encode_descriptor("zsock_program_run_seconds", help, None, MetricType::Counter)?;
    for (name, told) in &standing.programs {
        let seconds = Duration::from_nanos(told.run_ns).as_secs_f64();
        ConstCounter::new(seconds).encode(encoder.encode_family(&[("program", &**name)])?)?;
    }
    Ok(())
}

/// What every Prometheus client library tells of its process, under the names that all of them use.
fn of_the_process(out: &mut Out<'_>, usage: &Usage) -> Result {
    let Usage { cpu, resident_bytes, virtual_bytes, started, open_fds, max_fds, .. } = *usage;
    let help = "Total user and system CPU time spent in seconds.";
    out.counter_seconds("process_cpu_seconds", help, cpu)?;
    out.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", resident_bytes)?;
    out.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", virtual_bytes)?;
    let help = "Start time of the process since unix epoch in seconds.";
    let started = started.map(|started| Duration::from_nanos(started.as_unix_ns()).as_secs_f64());
    out.gauge("process_start_time_seconds", help, started)?;
    out.gauge("process_open_fds", "Number of open file descriptors.", open_fds)?;
    out.gauge("process_max_fds", "Maximum number of open file descriptors.", max_fds)
}

/// Writes metrics, those without a value not at all. The names of counters get `_total` on the way.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn counter(&mut self, name: &str, help: &str, value: Option<u64>) -> Result {
        let Some(value) = value else { return Ok(()) };
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    fn counter_seconds(&mut self, name: &str, help: &str, value: Option<Duration>) -> Result {
        let Some(value) = value else { return Ok(()) };
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value.as_secs_f64()).encode(encoder)
    }

    fn gauge(&mut self, name: &str, help: &str, value: Option<impl EncodeGaugeValue>) -> Result {
        let Some(value) = value else { return Ok(()) };
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn counters(&mut self, name: &str, help: &str, label: &'static str, counts: &super::Counts) -> Result {
        let counts = counts.iter().map(|(value, count)| (*value, *count));
        self.by(name, help, MetricType::Counter, label, counts)
    }

    fn by<'v>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        label: &'static str,
        counts: impl IntoIterator<Item = (impl AsRef<str> + 'v, u64)>,
    ) -> Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, kind)?;
        for (value, count) in counts {
            let labels = [(label, value.as_ref())];
            let one: MetricEncoder<'_> = encoder.encode_family(&labels)?;
            match kind {
                MetricType::Counter => ConstCounter::new(count).encode(one)?,
                MetricType::Gauge => ConstGauge::new(count).encode(one)?,
                MetricType::Histogram | MetricType::Info | MetricType::Unknown => return Err(Error),
            }
        }
        Ok(())
    }
}
