//! `zsock audit`: one look at every socket, to stdout.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::audit::{Offenders, Row, Shared, Tally, Worst};
use crate::cli::{AuditArgs, Output};
use crate::detect::Thresholds;
use crate::record::{Found, Summary};
use crate::run::out::Out;
use crate::run::{facts, filter};
use crate::sink::Palette;
use crate::sink::audit::Report;
use crate::sink::stdout;
use crate::source::census::{self, Counted, Coverage, Wanted};
use crate::source::clock::Clock;
use crate::time::Time;

/// So many sockets are listed unless told otherwise,
const SOCKETS: usize = 20;
/// and so many groups.
const GROUPS: usize = 10;

/// Looks once at every socket and tells of those that are selected.
pub(super) fn run(arguments: &AuditArgs) -> Result<()> {
    let selectors = arguments.selectors.clone().resolve()?;
    let thresholds = Thresholds::assigned(&arguments.thresholds, arguments.assume_idle_timeout)?;
    // The status of a check has to be right whoever reads the text.
    if stdout::was_closed() && arguments.fail_on.is_none() {
        return Ok(());
    }
    let clock = Clock::start()?;
    let began_ns = clock.monotonic_ns();
    let wanted = Wanted { filter: filter::of(&selectors), thresholds };
    let mut tally = Tally::new(arguments.group);
    let mut offenders = arguments.fail_on.map(Offenders::new);
    let mut list = List::open(arguments, facts::host())?;
    let coverage = census::take(&wanted, |Counted { at, found, .. }| {
        if selectors.matches_found(&found) {
            tally.add(&found);
            if let Some(offenders) = &mut offenders {
                offenders.add(&found);
            }
            list.take(at, found);
        }
    })?;
    let ended_ns = clock.monotonic_ns();
    warn_of_gaps(&coverage, arguments, tally.unknown());
    let took = Duration::from_nanos(ended_ns.saturating_sub(began_ns));
    let summary = tally.summary(arguments.limit.unwrap_or(GROUPS), &coverage, took);
    list.end(clock.at(ended_ns), &summary, arguments)?;
    offenders.and_then(Offenders::error).map_or(Ok(()), Err)
}

/// What was not seen may be worse than what was.
fn warn_of_gaps(coverage: &Coverage, arguments: &AuditArgs, unknown: u64) {
    if let Some((netns, why)) = coverage.failed.first() {
        log::warn!(
            "the sockets of {} network namespaces are not among them, {netns} being one: {why}",
            coverage.failed.len()
        );
    }
    // Text says it beside the sums.
    if arguments.output == Output::Json {
        for what in &coverage.not_told {
            log::warn!("not told by {}: {what}", coverage.source);
        }
    }
    if arguments.fail_on.is_some() && unknown > 0 {
        log::warn!(
            "of {unknown} connections it cannot be told how long a death would go unnoticed; --fail-on does not count them"
        );
    }
}

/// The sockets that are told of, on their way out.
struct List {
    host: Arc<str>,
    out: Out,
    kind: Kind,
}

enum Kind {
    /// Each as a line of JSON as it is found.
    Streamed,
    /// As lines of JSON in order at the end.
    Sorted(Worst<(Time, Found)>),
    /// As a table at the end.
    Table {
        worst: Worst<Row>,
        shared: Shared,
        /// Those as well that have no peer to lose.
        has_all: bool,
    },
}

impl List {
    fn open(arguments: &AuditArgs, host: Arc<str>) -> Result<Self> {
        let sort = arguments.sort.unwrap_or_default();
        let limit = arguments.limit.or((!arguments.all).then_some(SOCKETS));
        let kind = match arguments.output {
            Output::Json if arguments.sort.is_none() && arguments.limit.is_none() => Kind::Streamed,
            Output::Json => Kind::Sorted(Worst::new(sort, arguments.limit)),
            Output::Text => Kind::Table {
                worst: Worst::new(sort, limit),
                shared: Shared::default(),
                has_all: arguments.all || !arguments.selectors.states.is_empty(),
            },
        };
        Ok(Self { host, out: Out::open()?, kind })
    }

    fn take(&mut self, at: Time, found: Found) {
        match &mut self.kind {
            Kind::Streamed => self.out.line(at, &self.host, &found),
            Kind::Sorted(worst) => {
                let key = worst.place(&found);
                worst.admit(key, || (at, found));
            }
            Kind::Table { worst, shared, has_all } => {
                if *has_all || found.has_peer() || found.verdict.is_some() {
                    worst.admit(worst.place(&found), || Row::of(&found, shared));
                }
            }
        }
    }

    fn end(mut self, at: Time, summary: &Summary, arguments: &AuditArgs) -> Result<()> {
        let Self { host, out, kind } = &mut self;
        match kind {
            Kind::Streamed => out.line(at, host, summary),
            Kind::Sorted(worst) => {
                worst.sorted().for_each(|(at, found)| out.line(*at, host, found));
                out.line(at, host, summary);
            }
            Kind::Table { worst, shared, .. } => {
                let stdout = out.stdout();
                let is_coloured =
                    arguments.color.applies(stdout.is_terminal(), |name| std::env::var_os(name));
                let report = Report {
                    palette: if is_coloured { Palette::COLOURED } else { Palette::PLAIN },
                    columns: stdout.columns(),
                    at,
                    host,
                    is_selective: !arguments.selectors.is_empty(),
                    summary,
                    forgets_after: arguments.assume_idle_timeout,
                    sort: arguments.sort.unwrap_or_default(),
                };
                report.tell(worst.sorted(), shared, &mut |text| out.write(text.as_bytes()));
            }
        }
        self.out.finish()
    }
}
