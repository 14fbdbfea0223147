//! The options of `zsock report`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use super::{Color, SelectorArgs, values};
use crate::record::SocketId;
use crate::report::{Moment, Options};
use crate::time::parse_duration;

pub(super) const NOTES: &str = "\
Reads:
  what `zsock record` keeps (directories, or segments of them) and what
  `zsock trace -o json` streamed, plain or compressed with zstd, whole or in part.
  Needs no privileges, and no more memory however much there is to read. Verdicts
  are given again by the records, so they are those that `zsock trace` gave; those
  whose events were not recorded are shown as they were given.

Shows:
  first why something may be missing: records lost, times in which nobody watched,
  passages that could not be read. Then incidents in order of harm: verdicts alike on
  connections of one owner with one place at about the same time. Of each incident,
  what to change, and the timeline of --limit sockets. Times are UTC. A connection
  that has several verdicts counts by the gravest.

JSON:
  the verdicts as they were given live, in order; then `incident`, `timeline`, `clock`,
  `run` and `damage` records; last one `report` record with what was left out.

Examples:
  # What happened?
  zsock report /var/lib/zsock
  # In the ten minutes around the page, of the database's connections
  zsock report /var/lib/zsock --since 02:05 --until 02:15 --remote :5432
  # Of a trace that was streamed, also when it is still going on
  zsock report trace.ndjson
  ssh web-1 cat trace.ndjson.zst | zsock report -
  # All there is to tell of two sockets
  zsock report /var/lib/zsock --socket 1e1d5d --socket 1e1d5e
  # With less patience than the trace had
  zsock report /var/lib/zsock --threshold close_wait_leak=10s
  # How many connections died, by destination
  zsock report /var/lib/zsock -o json |
    jq -r 'select(.type == \"incident\") | [.count, .verdict, .destination] | @tsv'

Exit status:
  0  all of it was read, or nobody reads stdout any more
  1  part of it could not be read, or nothing: the report on what could be is printed,
     one line `error: …` says so, and the places are named
  2  wrong usage";

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportOutput {
    /// For a person
    Text,
    /// One JSON object a line (NDJSON), schema 1
    Json,
    /// One page for a browser, with everything in it
    Html,
}

/// The options of `zsock report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Recordings: files, directories, or - for stdin [default: stdin, unless that is a terminal]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// How the report is written to stdout
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ReportOutput::Text)]
    pub output: ReportOutput,

    /// When to colour text
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub color: Color,

    /// Show no verdicts that were over before: 2026-11-22T02:10:00Z, 2026-11-22, 02:10, or 30m before the end
    ///
    /// Show no verdicts that were over before this moment: a time such as 2026-11-22T02:10:00Z, a date, a time of the day (the last one in the
    /// recording) or a duration before its end, such as 30m; UTC where it does not say. What came before is judged all the same, and the
    /// timeline of what is shown is whole. Trouble that began before and lasted until then is shown.
    #[arg(long, value_name = "TIME")]
    pub since: Option<Moment>,

    /// Show no verdicts that began after, written like --since
    #[arg(long, value_name = "TIME")]
    pub until: Option<Moment>,

    /// Show this socket only, by its id, whether it has a verdict or not; repeatable
    #[arg(long = "socket", value_name = "ID", value_parser = values::socket_id)]
    pub sockets: Vec<SocketId>,

    /// Show the timelines of so many sockets of each incident [default: 1 as text, all as JSON]
    ///
    /// Show the timelines of so many sockets of each incident; 0 for none. Each socket of an incident is counted, whatever the limit.
    /// [default: 1 as text, all as JSON]
    #[arg(long, value_name = "COUNT", value_parser = values::count)]
    pub limit: Option<usize>,

    /// When a verdict is given, in place of what the recording says; repeatable
    ///
    /// When a verdict is given, in place of the threshold that was in force when it was recorded: a count, a duration or a percentage, as in
    /// `zsock trace`. Verdicts that were recorded and would not be given with it are left out, where the events of their socket were recorded
    /// too.
    #[arg(long = "threshold", value_name = "VERDICT=VALUE", value_parser = values::threshold)]
    pub thresholds: Vec<String>,

    /// After how long without a segment something on the path is taken to forget a connection, in place of what the recording says
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub assume_idle_timeout: Option<Duration>,

    /// Say on stderr what zsock itself does; repeat for more
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,

    /// Which sockets and verdicts.
    #[command(flatten)]
    pub selectors: SelectorArgs,
}

impl ReportArgs {
    /// What is judged how, and what of it is shown.
    ///
    /// # Errors
    /// A network namespace that cannot be looked up.
    pub fn options(&self) -> anyhow::Result<Options> {
        Ok(Options {
            selectors: self.selectors.clone().resolve()?,
            sockets: self.sockets.clone(),
            since: self.since,
            until: self.until,
            thresholds: self.thresholds.clone(),
            assumed_idle_timeout: self.assume_idle_timeout,
            keeps_ends: self.paths.len() > 1,
        })
    }

    /// Whether it takes a selection to be shown.
    #[must_use]
    pub const fn is_selective(&self) -> bool {
        !self.selectors.is_empty() || !self.sockets.is_empty() || self.since.is_some() || self.until.is_some()
    }

    /// Why there is nothing to read; `waits_for_a_person` where stdin is a terminal.
    pub(super) fn refusal(&self, waits_for_a_person: bool) -> Option<String> {
        let refusal = "give the recordings to read: a directory of `zsock record`, a file that `zsock trace -o json` wrote, or - for stdin";
        (self.paths.is_empty() && waits_for_a_person).then(|| refusal.to_owned())
    }
}
