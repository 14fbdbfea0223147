//! A report for a person: what was read, the incidents in order of harm, and of each what to do and how it went.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::record::{Record, Severity, Shed, SocketId, Subject, printable};
use crate::report::{ClockOffset, Incident, Report, Run, Story, corrected, mark};
use crate::time::Time;

use super::palette::{Palette, paint};
use super::quantity::{count, duration};
use super::text::{self, Text, day_and_time};

pub mod json;
#[cfg(test)]
mod tests;
mod timeline;

use timeline::End;

/// Narrower ones would have a word a line.
const LEAST_COLUMNS: usize = 60;

/// So many of one kind of trouble with the recording are named each.
const NAMED: usize = 5;

/// So many sockets are named that are not shown.
const IDS: usize = 3;

/// How a report is shown as text.
#[derive(Debug)]
pub struct ReportText {
    /// The colours.
    pub palette: Palette,
    /// Columns of the terminal; absent where lines may be of any length.
    pub columns: Option<usize>,
    /// So many stories of each incident are shown; one unless told otherwise.
    pub limit: Option<usize>,
    /// Only verdicts that were selected are shown.
    pub is_selective: bool,
}

impl ReportText {
    /// Gives out the text, piece by piece.
    pub fn tell(&self, report: &Report, emit: &mut dyn FnMut(&str)) {
        let page = Page {
            text: Text::new(self.palette),
            palette: self.palette,
            columns: self.columns.unwrap_or(usize::MAX).max(LEAST_COLUMNS),
            report,
        };
        page.head(emit);
        if report.stories.is_empty() {
            let records = count(report.runs.iter().map(|run| run.records).sum(), "record");
            // What was not asked for may well be in trouble, and so may what got its verdict before --since.
            let said = if self.is_selective {
                format!("No verdict was given on what was selected, in {records}.")
            } else {
                format!("No trouble: no verdict in {records}.")
            };
            emit(&format!("\n{said}\n"));
        }
        let mut told = BTreeSet::new();
        for incident in &report.incidents {
            page.incident(incident, self.limit.unwrap_or(1), &mut told, emit);
        }
        let without: Vec<_> = without_verdict(report).collect();
        if !without.is_empty() {
            emit("\nWithout a verdict\n");
            for place in without {
                page.story(place, None, &mut told, emit);
            }
        }
    }
}

/// The stories whose timelines are told: so many of each incident, the other ends of their connections, and those that have no verdict.
pub(super) fn listed(report: &Report, limit: Option<usize>) -> Vec<usize> {
    let limit = limit.unwrap_or(usize::MAX);
    let of_incidents = report.incidents.iter().flat_map(|incident| incident.stories.iter().take(limit));
    let with_others = of_incidents.flat_map(|place| [Some(*place), report.stories[*place].other_end]);
    let mut known = BTreeSet::new();
    let all = with_others.flatten().chain(without_verdict(report));
    all.filter(|place| known.insert(*place)).collect()
}

/// The stories that have no verdict, but for the other ends of those that have one: they are told together.
fn without_verdict(report: &Report) -> impl Iterator<Item = usize> {
    let has_verdict = |story: &Story| !story.verdicts.is_empty();
    let is_told = move |story: &Story| {
        has_verdict(story) || story.other_end.is_some_and(|other| has_verdict(&report.stories[other]))
    };
    report.stories.iter().enumerate().filter(move |(_, story)| !is_told(story)).map(|(place, _)| place)
}

struct Page<'a> {
    text: Text,
    palette: Palette,
    columns: usize,
    report: &'a Report,
}

impl Page<'_> {
    fn head(&self, emit: &mut dyn FnMut(&str)) {
        let report = self.report;
        for run in report.runs.iter().take(NAMED) {
            emit(&self.paragraph("", "  ", &read(run)));
        }
        let more = report.runs.len().saturating_sub(NAMED);
        if more > 0 {
            emit(&format!("and {}\n", count(more as u64, "run")));
        }
        for warning in self.warnings() {
            let mark = paint(self.palette.of(Severity::Warning), "▲");
            emit(&self.paragraph(&format!("{mark} "), "  ", &warning));
        }
    }

    /// Why something may be missing.
    fn warnings(&self) -> Vec<String> {
        let report = self.report;
        let mut said = Vec::new();
        for (number, run) in report.runs.iter().enumerate() {
            let host = printable(&run.host);
            if run.lost > 0 {
                let lost = count(run.lost, "record");
                said.push(format!(
                    "{lost} of {host} lost before they were recorded: verdicts may be missing"
                ));
            }
            if run.is_repeated {
                said.push(format!(
                    "records of {host} were read twice or in the wrong order, and may be counted twice: name each recording once, and \
                     segments in the order of their names"
                ));
            }
            for (since, until) in run.gaps.iter().take(NAMED) {
                said.push(format!(
                    "nobody watched {host} for {}: {}",
                    duration(until.since(*since)),
                    span(*since, *until)
                ));
            }
            let gaps = run.gaps.len().saturating_sub(NAMED);
            if gaps > 0 {
                said.push(format!("nor did anybody watch {host} for {} more", count(gaps as u64, "time")));
            }
            said.extend(run.shed.iter().map(|(at, shed)| self::shed(&run.host, *at, shed)));
            let has_successor = report.runs[number + 1..].iter().any(|later| later.host == run.host);
            if !run.is_ended && run.kernel.is_some() && has_successor {
                let last = run.span.map_or_else(String::new, |(_, last)| format!(" at {}", moment(last)));
                said.push(format!(
                    "the run on {host} stopped{last} without an end: zsock or the host was killed"
                ));
            }
        }
        said.extend(report.clocks.iter().map(clocks));
        said.extend(report.unjoined.iter().cloned());
        for damage in report.damages.iter().take(NAMED) {
            let line = damage.line.map_or_else(String::new, |line| format!(", line {line}"));
            let (input, why) = (printable(&damage.input), printable(&damage.why));
            said.push(format!("not read: {input} at byte {}{line}: {why}", damage.at_byte));
        }
        let damages = (report.damages.len() as u64 + report.damages_dropped).saturating_sub(NAMED as u64);
        let counted = [
            (damages, "passage", "could not be read either"),
            (report.sockets_dropped, "socket", "let go for want of memory, their verdicts may be missing"),
            (
                report.stories_dropped,
                "less harmful story",
                "left out for want of memory; select with --socket, --comm or --remote",
            ),
        ];
        let counted = counted.into_iter().filter(|(number, _, _)| *number > 0);
        said.extend(counted.map(|(number, thing, what)| match thing {
            "less harmful story" => format!("{number} of the less harmful stories {what}"),
            thing => format!("{} {what}", count(number, thing)),
        }));
        said
    }

    fn incident(
        &self,
        incident: &Incident,
        limit: usize,
        told: &mut BTreeSet<usize>,
        emit: &mut dyn FnMut(&str),
    ) {
        let style = self.palette.of(incident.severity);
        let mark = match incident.severity {
            Severity::Critical => "✖",
            Severity::Warning => "▲",
            Severity::Info => "●",
        };
        emit(&format!(
            "\n{}",
            self.paragraph(&format!("{} ", paint(style, mark)), "  ", &printable(&incident.summary))
        ));
        let (day, _) = day_and_time(incident.span.0);
        let whence = format!("{} on {}, {day}, UTC", incident.verdict, printable(&incident.host));
        emit(&format!("  {}\n", paint(self.palette.faint, &whence)));
        for (number, advice) in incident.advice.iter().enumerate() {
            let label = if number == 0 { "advice" } else { "" };
            let label = paint(self.palette.faint, &format!("{label:<8}"));
            emit(&self.paragraph(&format!("  {label}"), "          ", &printable(advice)));
        }
        let (shown, others) = incident.stories.split_at(limit.min(incident.stories.len()));
        for place in shown {
            let records = &self.report.stories[*place].verdicts;
            let struck = records.iter().find(|record| is_of(record, incident)).map(|record| record.at);
            self.story(*place, struck, told, emit);
        }
        self.others(others, incident.stories.len(), emit);
    }

    /// How to see what is not shown.
    fn others(&self, others: &[usize], all: usize, emit: &mut dyn FnMut(&str)) {
        let ids: Vec<SocketId> = others
            .iter()
            .filter_map(|place| match &self.report.stories[*place].subject {
                Subject::Socket { socket, .. } => Some(socket.id),
                Subject::Process { .. } | Subject::Destination { .. } => None,
            })
            .take(IDS)
            .collect();
        if ids.is_empty() {
            return;
        }
        let named: Vec<String> = ids.iter().map(|id| format!("--socket {id}")).collect();
        let more = if others.len() > ids.len() { " and so on" } else { "" };
        let text = format!("{} more: {}{more}; all with --limit {all}", others.len(), named.join(", "));
        emit(&self.paragraph("  ", "    ", &text));
    }

    /// Who, and what happened to it, by its distance from `struck`; with the other end of the connection where that was recorded too.
    fn story(
        &self,
        place: usize,
        struck: Option<Time>,
        told: &mut BTreeSet<usize>,
        emit: &mut dyn FnMut(&str),
    ) {
        let report = self.report;
        let story = &report.stories[place];
        let id = match &story.subject {
            Subject::Socket { socket, .. } => format!("  id {}", socket.id),
            Subject::Process { .. } | Subject::Destination { .. } => String::new(),
        };
        emit(&format!("\n  {}{}\n", text::subject(&story.subject), paint(self.palette.faint, &id)));
        let struck = struck.unwrap_or(story.span.0);
        let Some(join) = report.joins.iter().find(|join| [join.client, join.server].contains(&place)) else {
            timeline::tell(self, &[End { story, mark: "", ahead_ns: 0 }], struck, emit);
            return;
        };
        if !told.insert(join.client) {
            emit("  is told above with its other end\n");
            return;
        }
        let marks = [join.client, join.server].map(|place| mark(&report.runs, &report.stories, place));
        if let Some(summary) = &join.summary {
            emit(&self.paragraph("  ", "  ", summary));
        }
        if join.server_ahead_ns != 0 {
            let said = format!("times of {} are told by the clock of {}", marks[1], marks[0]);
            emit(&self.paragraph("  ", "  ", &said));
        }
        let ends = [
            End { story: &report.stories[join.client], mark: &marks[0], ahead_ns: 0 },
            End { story: &report.stories[join.server], mark: &marks[1], ahead_ns: join.server_ahead_ns },
        ];
        let ahead_ns = if place == join.server { join.server_ahead_ns } else { 0 };
        timeline::tell(self, &ends, corrected(struck, ahead_ns), emit);
    }

    /// A text in lines that fit, the first one after `head`, the others indented.
    fn paragraph(&self, head: &str, indent: &str, text: &str) -> String {
        let room = self.columns.saturating_sub(indent.len()).max(1);
        let lines = wrapped(text, room);
        let mut all = String::new();
        for (number, line) in lines.iter().enumerate() {
            all.push_str(if number == 0 { head } else { indent });
            all.push_str(line);
            all.push('\n');
        }
        all
    }
}

/// `the clock of db-1 is 1 min 30 s ahead of that of web-1, give or take 1 ms (by 3 state changes that both saw)`.
pub(super) fn clocks(clock: &ClockOffset) -> String {
    let [ahead, uncertainty] =
        [clock.ahead_ns.unsigned_abs(), clock.uncertainty_ns].map(|ns| duration(Duration::from_nanos(ns)));
    let (host, reference) = (printable(&clock.host), printable(&clock.reference));
    let changes = count(clock.changes, "state change");
    if clock.ahead_ns.unsigned_abs() <= clock.uncertainty_ns {
        return format!(
            "the clocks of {host} and {reference} agree within {uncertainty} (by {changes} that both saw)"
        );
    }
    let which = if clock.ahead_ns < 0 { "behind" } else { "ahead of" };
    format!(
        "the clock of {host} is {ahead} {which} that of {reference}, give or take {uncertainty} (by {changes} that both saw)"
    )
}

/// `from 2026-11-22 11:12:03 UTC on zsock on web-1 did without timers, to use less of a processor: … may be missing or late`.
pub(super) fn shed(host: &str, at: Time, shed: &Shed) -> String {
    let poorer: Vec<_> = shed.poorer.iter().map(|name| printable(name)).collect();
    let poorer = if poorer.is_empty() {
        String::new()
    } else {
        format!("; {} may be missing or late", poorer.join(", "))
    };
    let (from, host, lost) = (moment(at), printable(host), printable(&shed.lost));
    let limit = shed.max_cpu_percent;
    if &*shed.what == "nothing" {
        return format!("from {from} UTC on zsock on {host} used more than --max-cpu {limit}: {lost}");
    }
    let what = printable(&shed.what);
    format!(
        "from {from} UTC on zsock on {host} did without {what}, to keep within --max-cpu {limit}: {lost}{poorer}"
    )
}

fn is_of(record: &Record, incident: &Incident) -> bool {
    matches!(&record.body, crate::record::Body::Verdict(verdict) if verdict.verdict == incident.verdict)
}

/// `26 records of web-1 (Linux 6.18.44), 2026-11-22 11:11:58 to 11:32:38 UTC`.
fn read(run: &Run) -> String {
    let kernel =
        run.kernel.as_deref().map_or_else(String::new, |kernel| format!(" (Linux {})", printable(kernel)));
    let span = run.span.map_or_else(String::new, |(from, until)| format!(", {}", span(from, until)));
    format!("{} of {}{kernel}{span}", count(run.records, "record"), printable(&run.host))
}

/// `2026-11-22 11:11:58 to 11:32:38 UTC`.
fn span(from: Time, until: Time) -> String {
    let until = if day_and_time(from).0 == day_and_time(until).0 { clock(until) } else { moment(until) };
    format!("{} to {until} UTC", moment(from))
}

fn moment(at: Time) -> String {
    format!("{} {}", day_and_time(at).0, clock(at))
}

/// The time of the day in whole seconds.
fn clock(at: Time) -> String {
    day_and_time(at).1.chars().take("11:11:58".len()).collect()
}

fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let options = textwrap::Options::new(columns).word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::wrap(text, options).into_iter().map(std::borrow::Cow::into_owned).collect()
}
