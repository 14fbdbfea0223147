//! `zsock report`: recordings in, what happened out.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::{ReportArgs, ReportOutput};
use crate::recording::read::{PassedOver, Recording, open};
use crate::report::{Builder, Options, Report};
use crate::run::facts;
use crate::run::out::Out;
use crate::sink::report::{ReportText, json};
use crate::sink::stdout;
use crate::sink::{Palette, html, quantity};

/// Who waits for longer wants to see that it goes on.
const PATIENCE: Duration = Duration::from_secs(2);

/// Progress is looked at once in so many records.
const RECORDS_BETWEEN: u64 = 16_384;

/// Reads the recordings and tells what they say. What could not be read is an error in the end, after the report on the rest.
pub(super) fn run(arguments: &ReportArgs) -> Result<()> {
    let options = arguments.options()?;
    if stdout::was_closed() {
        return Ok(());
    }
    let stdin = [PathBuf::from("-")];
    let paths = if arguments.paths.is_empty() { &stdin[..] } else { &arguments.paths };
    let (recordings, mut unread) = open_all(paths);
    if recordings.is_empty() {
        return Err(first_of(unread).unwrap_or_else(|| anyhow!("there is nothing to read")));
    }
    let mut builder = Builder::new(options.clone());
    let PassedOver { count, written_by } = read(recordings, &mut builder);
    let report = builder.finish();
    if report.repeated > 0 {
        let records = quantity::count(report.repeated, "record");
        log::warn!("given twice, as in a copy of a file, and counted once: {records}");
    }
    for damage in &report.damages {
        let line = damage.line.map_or_else(String::new, |line| format!(", line {line}"));
        unread.push(anyhow!("{} at byte {}{line}: {}", damage.input, damage.at_byte, damage.why));
    }
    if report.runs.is_empty() {
        let why = first_of(unread).unwrap_or_else(|| match written_by {
            Some(command) => anyhow!(
                "what is there was written by `{command}`: give what `zsock record` or `zsock trace -o json` wrote"
            ),
            None => anyhow!("all that is there was written by a newer zsock: read it with that one"),
        });
        return Err(why.context("no record could be read"));
    }
    if count > 0 {
        let of = written_by
            .map_or("types that this zsock does not know".to_owned(), |command| format!("`{command}`"));
        let records = quantity::count(count, "record");
        log::warn!("passed over, as they stand in no recording: {records} of {of}");
    }
    check_window(&options, &report)?;
    tell(arguments, &report)?;
    partly(unread, report.damages_dropped)
}

/// What can be opened, and why the rest cannot.
fn open_all(paths: &[PathBuf]) -> (Vec<Recording>, Vec<anyhow::Error>) {
    let (mut recordings, mut failed) = (Vec::new(), Vec::new());
    let mut known = HashSet::new();
    for path in paths {
        let file = fs::metadata(path).map(|facts| (facts.dev(), facts.ino()));
        if file.is_ok_and(|file| !known.insert(file)) {
            log::warn!("{} is named twice: it is read once", path.display());
            continue;
        }
        match open(std::slice::from_ref(path)) {
            Ok(opened) => recordings.extend(opened),
            Err(error) => failed.push(error),
        }
    }
    (recordings, failed)
}

/// Reads them one after another, and gives which records were passed over.
fn read(recordings: Vec<Recording>, builder: &mut Builder) -> PassedOver {
    let progress = Progress::new(recordings.iter().map(Recording::stored_bytes).sum());
    let (mut read_before, mut passed_over, mut records) = (0, PassedOver::default(), 0_u64);
    for mut recording in recordings {
        while let Some(next) = recording.next_record() {
            builder.push(next);
            records += 1;
            if records.is_multiple_of(RECORDS_BETWEEN) {
                progress.show(read_before + recording.read_bytes());
            }
        }
        read_before += recording.read_bytes();
        passed_over = passed_over.and(recording.passed_over());
    }
    progress.bar.finish_and_clear();
    passed_over
}

/// Nothing found where nothing can be is no good news: a window that is empty is refused, and of one in which nothing was recorded it is
/// said.
fn check_window(options: &Options, report: &Report) -> Result<()> {
    let spans = || report.runs.iter().filter_map(|run| run.span);
    let (Some(first), Some(last)) = (spans().map(|span| span.0).min(), spans().map(|span| span.1).max())
    else {
        return Ok(());
    };
    let (since, until) = options.window(last);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        bail!("nothing is shown: --since is {since} here and --until {until}, which comes before it");
    }
    let is_beyond = since.is_some_and(|since| since > last) || until.is_some_and(|until| until < first);
    if is_beyond {
        log::warn!("--since and --until leave nothing to show: what was read reaches from {first} to {last}");
    }
    Ok(())
}

/// How far the reading is, on stderr where that is a terminal, once it takes longer.
struct Progress {
    bar: ProgressBar,
    total: Option<u64>,
}

impl Progress {
    fn new(total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let template = if total.is_some() {
            "read {bytes} of {total_bytes} {wide_bar} {eta} left"
        } else {
            "read {bytes} in {elapsed}"
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        Self { bar, total }
    }

    fn show(&self, bytes: u64) {
        if self.bar.is_hidden() && self.bar.elapsed() > PATIENCE {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(self.total.map_or(bytes, |total| bytes.min(total)));
    }
}

fn tell(arguments: &ReportArgs, report: &Report) -> Result<()> {
    let mut out = Out::open()?;
    match arguments.output {
        ReportOutput::Text => {
            let stdout = out.stdout();
            let is_coloured = arguments.color.applies(stdout.is_terminal(), |name| std::env::var_os(name));
            let text = ReportText {
                palette: if is_coloured { Palette::COLOURED } else { Palette::PLAIN },
                columns: stdout.columns(),
                limit: arguments.limit,
                is_selective: arguments.is_selective(),
            };
            text.tell(report, &mut |text| out.write(text.as_bytes()));
        }
        ReportOutput::Json => {
            json::tell(report, &facts::host(), arguments.limit, &mut |line| out.write(line));
        }
        ReportOutput::Html => out.write_by(|buffer| html::write(report, buffer)),
    }
    out.finish()
}

/// The first error that kept something from being read; the others are named beside it.
fn first_of(errors: Vec<anyhow::Error>) -> Option<anyhow::Error> {
    let mut errors = errors.into_iter();
    let first = errors.next()?;
    errors.for_each(|error| log::warn!("{error:#}"));
    Some(first)
}

/// Fails where part of it could not be read.
fn partly(unread: Vec<anyhow::Error>, more: u64) -> Result<()> {
    let number = unread.len() as u64 + more;
    let Some(first) = first_of(unread) else { return Ok(()) };
    let what = match number {
        1 => "part of it could not be read; the report is on the rest".to_owned(),
        number => format!("{number} parts of it could not be read; the report is on the rest"),
    };
    Err(first.context(what))
}
