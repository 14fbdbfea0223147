//! What the page is given: a report in few bytes. Times are microseconds since [`Page::base_ms`], and a string that stands in many
//! places is a number there: its place in [`Page::strings`]. Every one of them is printable.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use serde::Serialize;

use super::{bars, spans};
use crate::engine::{Timeline, TimelineEntry};
use crate::record::{Process, Subject, Verdict, printable};
use crate::recording::read::Damage;
use crate::report::{Incident, Join, Place, Report, Run, Story};
use crate::sink::quantity::named;
use crate::sink::report::{clocks, shed};
use crate::sink::text::{self, ends, is_good, owner, words};
use crate::time::Time;

/// Microseconds after the page's base.
type Moment = u64;
/// A place in the page's strings.
type Text = usize;

/// All of it.
#[derive(Serialize)]
pub(super) struct Page {
    version: &'static str,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    base_ms: u64,
    runs: Vec<RunRow>,
    clocks: Vec<Text>,
    shed: Vec<Text>,
    damages: Vec<Text>,
    damages_dropped: u64,
    stories_dropped: u64,
    sockets_dropped: u64,
    unjoined: Vec<Text>,
    joins: Vec<JoinRow>,
    incidents: Vec<IncidentRow>,
    stories: Vec<StoryRow>,
    strings: Vec<String>,
}

#[derive(Serialize)]
struct RunRow {
    host: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_id: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span: Option<[Moment; 2]>,
    records: u64,
    lost: u64,
    gaps: Vec<[Moment; 2]>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_repeated: bool,
    is_ended: bool,
}

#[derive(Serialize)]
struct JoinRow {
    client: usize,
    server: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<Text>,
    /// By so many microseconds the clock of the server's host is ahead of the client's.
    server_ahead: i64,
}

#[derive(Serialize)]
struct IncidentRow {
    verdict: Text,
    severity: Text,
    host: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Text>,
    span: [Moment; 2],
    stories: Vec<usize>,
    summary: Text,
    advice: Vec<Text>,
}

#[derive(Serialize)]
struct StoryRow {
    run: usize,
    /// Whose it is: a process and its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Text>,
    /// The same without the number, to choose by.
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<Text>,
    /// Its two ends, or where it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends: Option<Text>,
    /// Where it goes, to choose by.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Text>,
    facts: Vec<Text>,
    tcp: Vec<Text>,
    span: [Moment; 2],
    /// From when until when in which state.
    bars: Vec<(Moment, Moment, Text)>,
    /// When, what, its numbers, and 1 for replayed, 2 for inferred.
    entries: Vec<(Moment, Text, Text, u8)>,
    /// So many entries are missing ...
    omitted: u64,
    /// ... before this one.
    omitted_at: usize,
    verdicts: Vec<VerdictRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    other_end: Option<usize>,
}

#[derive(Serialize)]
struct VerdictRow {
    name: Text,
    severity: Text,
    since: Moment,
    #[serde(skip_serializing_if = "Option::is_none")]
    opened: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Text>,
    /// The connection came out of it alive.
    is_good: bool,
    /// When, phase, sentence.
    told: Vec<(Moment, Text, Text)>,
    evidence: Vec<Text>,
    advice: Vec<Text>,
}

/// A report as the page wants it.
pub(super) fn page(report: &Report) -> Page {
    let mut table = Table { base: base(report), ..Table::default() };
    let runs = report.runs.iter().map(|run| table.run(run)).collect();
    let clock_sentences = report.clocks.iter().map(|clock| table.text(&clocks(clock))).collect();
    let sheds = report.runs.iter().flat_map(|run| run.shed.iter().map(|(at, it)| shed(&run.host, *at, it)));
    let sheds = table.texts(sheds);
    let damages = report.damages.iter().map(|damage| table.text(&damage_sentence(damage))).collect();
    let unjoined = table.texts(report.unjoined.iter().cloned());
    let joins = report.joins.iter().map(|join| table.join(join)).collect();
    let incidents = report.incidents.iter().map(|incident| table.incident(incident)).collect();
    let mut places = vec![None; report.stories.len()];
    for incident in &report.incidents {
        for story in &incident.stories {
            if let Some(place) = places.get_mut(*story) {
                *place = place.or(incident.place);
            }
        }
    }
    let stories = report.stories.iter().zip(places).map(|(story, place)| table.story(story, place)).collect();
    Page {
        version: env!("CARGO_PKG_VERSION"),
        base_ms: table.base / 1_000_000,
        runs,
        clocks: clock_sentences,
        shed: sheds,
        damages,
        damages_dropped: report.damages_dropped,
        stories_dropped: report.stories_dropped,
        sockets_dropped: report.sockets_dropped,
        unjoined,
        joins,
        incidents,
        stories,
        strings: table.strings,
    }
}

/// The earliest moment on the page, in whole milliseconds: nanoseconds since 1970-01-01T00:00:00Z.
fn base(report: &Report) -> u64 {
    let of_runs = report.runs.iter().flat_map(|run| run.span.iter().chain(&run.gaps)).map(|span| span.0);
    let of_incidents = report.incidents.iter().map(|incident| incident.span.0);
    let of_stories = report.stories.iter().flat_map(|story| {
        let (first, _, last) = Timeline::parts(&story.timeline);
        let entries = first.iter().chain(last).map(|entry| entry.at);
        let verdicts = spans::spans(story).into_iter().flat_map(|span| span.told);
        let told = verdicts.flat_map(|(at, verdict)| [at, verdict.since]);
        [story.span.0].into_iter().chain(entries).chain(told).collect::<Vec<_>>()
    });
    let earliest = of_runs.chain(of_incidents).chain(of_stories).min();
    earliest.map_or(0, |earliest| earliest.as_unix_ns() / 1_000_000 * 1_000_000)
}

/// Where the strings of the page go.
#[derive(Default)]
struct Table {
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    base: u64,
    strings: Vec<String>,
    /// Others chose them: the hash has a key that they do not know.
    places: HashMap<String, Text, RandomState>,
}

impl Table {
    fn text(&mut self, text: &str) -> Text {
        let text = printable(text);
        if let Some(place) = self.places.get(&*text) {
            return *place;
        }
        let place = self.strings.len();
        self.strings.push(text.clone().into_owned());
        self.places.insert(text.into_owned(), place);
        place
    }

    fn texts(&mut self, texts: impl IntoIterator<Item = String>) -> Vec<Text> {
        texts.into_iter().map(|text| self.text(&text)).collect()
    }

    fn moment(&self, at: Time) -> Moment {
        at.as_unix_ns().saturating_sub(self.base) / 1_000
    }

    fn span(&self, (from, until): (Time, Time)) -> [Moment; 2] {
        [self.moment(from), self.moment(until)]
    }

    fn run(&mut self, run: &Run) -> RunRow {
        RunRow {
            host: self.text(&run.host),
            boot_id: run.boot_id.as_deref().map(|id| self.text(id)),
            kernel: run.kernel.as_deref().map(|kernel| self.text(kernel)),
            span: run.span.map(|span| self.span(span)),
            records: run.records,
            lost: run.lost,
            gaps: run.gaps.iter().map(|gap| self.span(*gap)).collect(),
            is_repeated: run.is_repeated,
            is_ended: run.is_ended,
        }
    }

    fn join(&mut self, join: &Join) -> JoinRow {
        let Join { client, server, summary, server_ahead_ns } = join;
        let summary = summary.as_deref().map(|summary| self.text(summary));
        JoinRow { client: *client, server: *server, summary, server_ahead: server_ahead_ns / 1_000 }
    }

    fn incident(&mut self, incident: &Incident) -> IncidentRow {
        IncidentRow {
            verdict: self.text(incident.verdict.name()),
            severity: self.text(incident.severity.name()),
            host: self.text(&incident.host),
            process: incident.process.as_ref().map(|process| self.text(&process_name(process))),
            place: incident.place.map(|place| self.text(&place_name(place))),
            span: self.span(incident.span),
            stories: incident.stories.clone(),
            summary: self.text(&incident.summary),
            advice: self.texts(incident.advice.iter().cloned()),
        }
    }

    fn story(&mut self, story: &Story, place: Option<Place>) -> StoryRow {
        let (owner, process, ends, of_subject) = whose(&story.subject);
        let (facts, tcp) = facts(&story.subject);
        let (first, omitted, last) = Timeline::parts(&story.timeline);
        let states = bars::bars(story)
            .into_iter()
            .map(|bar| (self.moment(bar.from), self.moment(bar.until), self.text(&bar.state.to_string())));
        let bars = states.collect();
        StoryRow {
            run: story.run,
            owner: owner.map(|owner| self.text(&owner)),
            process: process.map(|process| self.text(&process)),
            ends: ends.map(|ends| self.text(&ends)),
            place: place.map(place_name).or(of_subject).map(|place| self.text(&place)),
            facts: self.texts(facts),
            tcp: self.texts(tcp),
            span: self.span(story.span),
            bars,
            entries: first.iter().chain(last).map(|entry| self.entry(entry)).collect(),
            omitted,
            omitted_at: first.len(),
            verdicts: spans::spans(story).iter().filter_map(|span| self.verdict(span)).collect(),
            other_end: story.other_end,
        }
    }

    fn entry(&mut self, entry: &TimelineEntry) -> (Moment, Text, Text, u8) {
        let (what, details) = (entry.what.name(), text::details(&entry.what, entry.standing));
        let flags = u8::from(entry.replayed) | u8::from(entry.inferred) << 1;
        (self.moment(entry.at), self.text(what), self.text(&details), flags)
    }

    fn verdict(&mut self, span: &spans::Span<'_>) -> Option<VerdictRow> {
        let (_, last) = span.told.last()?;
        Some(VerdictRow {
            name: self.text(span.name.name()),
            severity: self.text(span.severity.name()),
            since: self.moment(last.since),
            opened: span.opened.map(|at| self.moment(at)),
            closed: span.closed.map(|at| self.moment(at)),
            outcome: span.outcome.map(|outcome| self.text(outcome.name())),
            is_good: span.outcome.is_some_and(is_good),
            told: self.told(&span.told),
            evidence: self.texts(last.evidence.iter().map(|(name, value)| named(name, value))),
            advice: self.texts(last.advice.iter().cloned()),
        })
    }

    fn told(&mut self, told: &[(Time, &Verdict)]) -> Vec<(Moment, Text, Text)> {
        let told = told.iter().map(|(at, verdict)| {
            (self.moment(*at), self.text(verdict.phase.name()), self.text(&verdict.summary))
        });
        told.collect()
    }
}

/// Owner with its number, owner without it, ends, and where it goes.
fn whose(subject: &Subject) -> (Option<String>, Option<String>, Option<String>, Option<String>) {
    match subject {
        Subject::Socket { socket, .. } => {
            let whose = (socket.pid.is_some() || socket.comm.is_some()).then(|| owner(socket));
            let place = socket.remote.map(|remote| format!("→ {remote}"));
            (whose, socket.owner().as_ref().map(process_name), Some(ends(socket)), place)
        }
        Subject::Process { process } => {
            (Some(words::named(process)), Some(process_name(process)), None, None)
        }
        Subject::Destination { destination } => {
            let place = format!("→ {destination}");
            (None, None, Some(place.clone()), Some(place))
        }
    }
}

/// What else is known of it, and how TCP stood with it.
fn facts(subject: &Subject) -> (Vec<String>, Vec<String>) {
    match subject {
        Subject::Socket { socket, tcp } => (words::identity(socket), words::standing(tcp)),
        Subject::Process { process } => (words::place(process), Vec::new()),
        Subject::Destination { .. } => (Vec::new(), Vec::new()),
    }
}

/// Processes of one name are chosen together.
fn process_name(process: &Process) -> String {
    process.comm.as_deref().map_or_else(|| format!("pid {}", process.pid), str::to_owned)
}

fn place_name(place: Place) -> String {
    match place {
        Place::To(destination) => format!("→ {destination}"),
        Place::On(destination) => format!("on {destination}"),
    }
}

fn damage_sentence(damage: &Damage) -> String {
    let line = damage.line.map_or_else(String::new, |line| format!(", line {line}"));
    format!("{}: byte {}{line}: {}", damage.input, damage.at_byte, damage.why)
}
