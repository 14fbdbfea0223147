//! Text for a person: one line an event, a block a verdict.
//!
//! Whatever an untrusted process chose passes through [`printable`].

use anstyle::Style;

use super::Palette;
use super::palette::{append_painted, paint};
use super::quantity::{count, duration, milliseconds, named, plain};
use crate::engine::{Standing, Timeline, TimelineEntry};
use crate::record::{
    Body, DestinationSample, End, Event, Lost, Outcome, Phase, ProcessSample, Record, Severity, Start,
    Subject, Verdict, VerdictName, What, printable,
};
use crate::time::Time;

mod details;
mod fold;
#[cfg(test)]
pub(super) mod tests;
pub(super) mod words;

use details::append_details;
pub(super) use details::details;
use fold::{Admission, Crowd, Fold, Group};
use words::{append_ends, append_owner};
pub(super) use words::{ends, owner, subject};

/// Renders records as text. Those of a batch wait for its end, for many verdicts alike become one line.
#[derive(Debug)]
pub struct Text {
    palette: Palette,
    days: Days,
    fold: Fold,
}

/// The day of the last record that was told, to say when another begins.
#[derive(Debug)]
struct Days(Option<u64>);

impl Days {
    /// Gives out a text, under a new day where one begins.
    fn tell(&mut self, at: Time, text: &str, palette: Palette, emit: &mut dyn FnMut(&str)) {
        let day = at.day();
        if self.0.replace(day) == Some(day) {
            emit(text);
        } else {
            let heading = line(&paint(palette.faint, &format!("── {}, UTC ──", day_and_time(at).0)));
            emit(&(heading + text));
        }
    }
}

impl Text {
    /// Text in these colours.
    #[must_use]
    pub const fn new(palette: Palette) -> Self {
        Self { palette, days: Days(None), fold: Fold::new() }
    }

    /// Takes in a record of the batch that goes on, and gives out what waits for the batch to end only where that gets too
    /// much. What tells of the trace itself waits for nothing.
    pub fn render(&mut self, record: &Record, timeline: Option<&Timeline>, emit: &mut dyn FnMut(&str)) {
        let at = record.at;
        match &record.body {
            Body::Start(start) => {
                let text = self.start(at, &record.host, start);
                self.tell_at_once(at, &text, emit);
            }
            Body::End(end) => {
                // No second of theirs will end.
                self.flush(Time::from_unix_ns(u64::MAX), emit);
                let text = self.end(at, end);
                self.tell_at_once(at, &text, emit);
            }
            Body::Lost(lost) => {
                let text = self.lost(at, lost);
                self.tell_at_once(at, &text, emit);
            }
            Body::Shed(shed) => {
                let text = self.headed(at, &paint(self.palette.of(Severity::Warning), &words::shed(shed)));
                self.tell_at_once(at, &text, emit);
            }
            Body::Event(event) => {
                let Self { palette, fold, .. } = self;
                fold.push_event(at, event, |text| append_event(text, *palette, at, event));
            }
            Body::Verdict(verdict) => {
                if let Admission::Shown(group) = self.fold.admit(at, verdict, timeline) {
                    let text = self.verdict(at, verdict, timeline);
                    self.fold.push_verdict(at, verdict, group, &text);
                }
            }
            Body::Process(sample) => {
                let text = self.process(at, sample);
                self.fold.push(at, &text);
            }
            Body::Destination(sample) => {
                let text = self.destination(at, sample);
                self.fold.push(at, &text);
            }
            Body::Tick(tick) => {
                let text = self.headed(at, &format!("{:<18}  {}", "tick", words::tick(tick)));
                self.fold.push(at, &text);
            }
        }
        if self.fold.is_full() {
            self.tell_waiting(emit);
        }
    }

    /// Ends the batch at `now`: gives out what waited for that, with one line for each group of verdicts that are too many.
    pub fn flush(&mut self, now: Time, emit: &mut dyn FnMut(&str)) {
        self.tell_waiting(emit);
        for (group, crowd) in self.fold.crowds(now) {
            let text = self.crowd(&group, &crowd);
            self.tell(crowd.at, &text, emit);
        }
    }

    fn tell_at_once(&mut self, at: Time, text: &str, emit: &mut dyn FnMut(&str)) {
        self.tell_waiting(emit);
        self.tell(at, text, emit);
    }

    fn tell_waiting(&mut self, emit: &mut dyn FnMut(&str)) {
        let Self { palette, days, fold } = self;
        for (at, text) in fold.waiting() {
            days.tell(at, text, *palette, emit);
        }
        fold.forget_waiting();
    }

    fn tell(&mut self, at: Time, text: &str, emit: &mut dyn FnMut(&str)) {
        self.days.tell(at, text, self.palette, emit);
    }

    fn start(&self, at: Time, host: &str, start: &Start) -> String {
        let (version, kernel) = (printable(&start.version), printable(&start.kernel));
        let (host, sockets) = (printable(host), count(start.sockets, "TCP socket"));
        let title =
            format!("zsock {version} on {host}, Linux {kernel}, {sockets} at the start; times are UTC");
        let hooks = start.hooks.iter().map(|(hook, how)| format!("{} {}", printable(hook), printable(how)));
        let missing = start.missing_fields.iter().map(|field| printable(field).to_string());
        let settings =
            start.settings.iter().map(|(name, value)| format!("{} {}", printable(name), plain(value)));
        let sysctl = start.sysctl.iter().map(|(name, value)| format!("{} {value}", printable(name)));
        self.headed(at, &title)
            + &self.labelled("hooks", hooks)
            + &self.labelled("lacks", missing)
            + &self.labelled("settings", settings)
            + &self.labelled("sysctl", sysctl)
    }

    fn end(&self, at: Time, end: &End) -> String {
        let ran = milliseconds(end.duration_ms);
        let (events, sockets) = (count(end.events, "event"), count(end.sockets_seen, "socket"));
        let (lost, verdicts, open) = (end.lost_events, count(end.verdicts, "verdict"), end.open_verdicts);
        let let_go = match end.sockets_dropped.saturating_add(end.sockets_forgotten) {
            0 => String::new(),
            some => format!("; for want of memory {some} let go, see --max-memory"),
        };
        let text = format!(
            "end after {ran}: {events} ({lost} lost) of {sockets}, {verdicts} ({open} still open){let_go}"
        );
        self.headed(at, &text) + &self.labelled("cost", words::cost(end))
    }

    fn lost(&self, at: Time, lost: &Lost) -> String {
        let reason = match &*lost.place {
            "kernel" => "the ring buffer was full, see --buffer-size".to_owned(),
            "hook" => "a hook was reached while its own program was running on that CPU".to_owned(),
            "output" => "the reader of stdout was too slow".to_owned(),
            other => printable(other).into_owned(),
        };
        let (records, since) = (count(lost.count, "record"), full_unless_today(lost.since, at));
        let text = format!("{records} lost since {since}: {reason}; what follows may be incomplete");
        self.headed(at, &paint(self.palette.of(Severity::Warning), &text))
    }

    fn process(&self, at: Time, sample: &ProcessSample) -> String {
        self.headed(at, &format!("{:<18}  {}", "sample", words::process_sample(sample)))
    }

    fn destination(&self, at: Time, sample: &DestinationSample) -> String {
        let survived = milliseconds(sample.survived_ms);
        self.headed(
            at,
            &format!("{:<18}  → {}  answered after idling for {survived}", "sample", sample.destination),
        )
    }

    fn verdict(&self, at: Time, verdict: &Verdict, timeline: Option<&Timeline>) -> String {
        let Verdict { severity, subject, since, evidence, .. } = verdict;
        let style = self.palette.of(*severity);
        let title = self.title(verdict.verdict, verdict.phase, verdict.outcome, *severity);
        let ago = duration(at.since(*since));
        let mut text = self.headed(at, &format!("{title}  {}", words::subject(subject)));
        text += &labelled(style, severity.name(), [printable(&verdict.summary).into_owned()]);
        text += &self.labelled("since", [format!("{} ({ago} before)", full_unless_today(*since, at))]);
        text += &self.labelled("evidence", evidence.iter().map(|(name, value)| named(name, value)));
        match subject {
            Subject::Socket { socket, tcp } => {
                text += &self.labelled("socket", words::identity(socket));
                text += &self.labelled("tcp", words::standing(tcp));
            }
            Subject::Process { process } => text += &self.labelled("process", words::place(process)),
            Subject::Destination { .. } => {}
        }
        for (number, advice) in verdict.advice.iter().enumerate() {
            let label = if number == 0 { "advice" } else { "" };
            text += &self.labelled(label, [printable(advice).into_owned()]);
        }
        text + &self.timeline(at, timeline)
    }

    /// One line for many verdicts alike.
    fn crowd(&self, group: &Group, crowd: &Crowd) -> String {
        let title = self.title(group.verdict, group.phase, group.outcome, crowd.severity);
        let more = if crowd.is_more { " more" } else { "" };
        let place = group.place.map_or_else(|| "various ends".to_owned(), |place| place.to_string());
        let examples = crowd.examples.join(", ");
        let text = format!(
            "{title}  {}  {}{more} at {place}, such as {examples} (each one in JSON); of one of them: {}",
            group.owner,
            crowd.count,
            printable(&crowd.summary)
        );
        self.headed(crowd.at, &text)
    }

    /// The name of a verdict with its phase, marked by how bad it is.
    pub(super) fn title(
        &self,
        verdict: VerdictName,
        phase: Phase,
        outcome: Option<Outcome>,
        severity: Severity,
    ) -> String {
        let style = self.palette.of(severity);
        let (mark, style) = match (outcome.is_some_and(is_good), severity) {
            (true, _) => ("✔", self.palette.good),
            (false, Severity::Critical) => ("✖", style),
            (false, Severity::Warning) => ("▲", style),
            (false, Severity::Info) => ("●", style),
        };
        // A final verdict is what it is.
        let how = match (phase, outcome) {
            (Phase::Closed, Some(outcome)) => format!(" closed: {outcome}"),
            (Phase::Closed, None) => String::new(),
            (Phase::Opened | Phase::Updated, _) => format!(" {phase}"),
        };
        paint(style, &format!("{mark} {verdict}{how}"))
    }

    /// Each entry with its distance from the verdict and from the entry above.
    fn timeline(&self, at: Time, timeline: Option<&Timeline>) -> String {
        let Some((first, omitted, last)) = timeline.map(Timeline::parts) else { return String::new() };
        if first.is_empty() {
            return String::new();
        }
        let mut text =
            self.labelled("timeline", ["time to the verdict, time from the line above".to_owned()]);
        let mut previous = None;
        text += &self.entries(at, first, &mut previous);
        if omitted > 0 {
            text += &line(&paint(self.palette.faint, &format!("    {:>14} … {omitted} more …", "")));
        }
        text + &self.entries(at, last, &mut previous)
    }

    fn entries(&self, at: Time, entries: &[TimelineEntry], previous: &mut Option<Time>) -> String {
        let mut text = String::new();
        for entry in entries {
            let gap = previous.map_or_else(String::new, |previous| signed(previous, entry.at));
            let times = paint(self.palette.faint, &format!("{:>14} {gap:>14}", signed(at, entry.at)));
            let mut told = String::new();
            let marks = [entry.replayed, entry.inferred];
            append_told(&mut told, self.palette, &entry.what, entry.standing, marks, |_| {});
            text += &line(&format!("    {times}  {told}"));
            *previous = Some(entry.at);
        }
        text
    }

    pub(super) fn style(&self, what: &What) -> Style {
        style(self.palette, what)
    }

    /// A line that begins with the time.
    fn headed(&self, at: Time, text: &str) -> String {
        line(&format!("{}  {text}", paint(self.palette.faint, &day_and_time(at).1)))
    }

    /// A line of a block; none without phrases.
    fn labelled(&self, label: &str, phrases: impl IntoIterator<Item = String>) -> String {
        labelled(self.palette.faint, label, phrases)
    }
}

/// Appends the line of an event. There may be many.
fn append_event(text: &mut String, palette: Palette, at: Time, event: &Event) {
    let Event { what, socket, tcp, replayed, inferred } = event;
    append_painted(text, palette.faint, |text| append_time(text, at));
    text.push_str("  ");
    append_told(text, palette, what, Standing::of(tcp), [*replayed, *inferred], |text| {
        append_padded(text, 20, |text| append_owner(text, socket));
        text.push_str("  ");
        append_padded(text, 36, |text| append_ends(text, socket));
        text.push_str("  ");
    });
    text.truncate(text.trim_end().len());
    text.push('\n');
}

/// Appends what happened: its name, whose it is, its numbers, and marks where it was replayed or inferred and not seen as it happened.
fn append_told(
    text: &mut String,
    palette: Palette,
    what: &What,
    standing: Standing,
    marks: [bool; 2],
    append_whose: impl FnOnce(&mut String),
) {
    let append_name = |text: &mut String| text.push_str(what.name());
    append_painted(text, style(palette, what), |text| append_padded(text, 18, append_name));
    text.push_str("  ");
    append_whose(text);
    append_details(text, what, standing);
    for (applies, mark) in marks.into_iter().zip(["  (replayed)", "  (inferred)"]) {
        if applies {
            append_painted(text, palette.faint, |text| text.push_str(mark));
        }
    }
}

/// Appends what `append` does, with spaces after it where it is not that wide.
fn append_padded(text: &mut String, columns: usize, append: impl FnOnce(&mut String)) {
    const SPACES: &str = "                                    ";
    let start = text.len();
    append(text);
    let width = text[start..].chars().count();
    text.push_str(&SPACES[..columns.saturating_sub(width)]);
}

fn style(palette: Palette, what: &What) -> Style {
    match what {
        What::Retransmit(_)
        | What::Keepalive(_)
        | What::ZeroWindowProbe(_)
        | What::AcceptFailed(_)
        | What::Error(_)
        | What::ResetReceived(_)
        | What::ResetSent(_) => palette.trouble,
        What::Progress(_) | What::KeepaliveAnswered(_) => palette.good,
        What::State(_) | What::Closed(_) | What::Sample(_) => Style::new(),
    }
}

fn labelled(style: Style, label: &str, phrases: impl IntoIterator<Item = String>) -> String {
    let phrases: Vec<String> = phrases.into_iter().collect();
    if phrases.is_empty() {
        return String::new();
    }
    line(&format!("    {}{}", paint(style, &format!("{label:<10}")), phrases.join(", ")))
}

fn line(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

/// Whether the connection came out of it alive.
pub(super) const fn is_good(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Connected
        | Outcome::Recovered
        | Outcome::Answered
        | Outcome::OpenedWindow
        | Outcome::Read
        | Outcome::Moved
        | Outcome::Spoke
        | Outcome::Guarded
        | Outcome::Relieved
        | Outcome::Drained => true,
        Outcome::TimedOut
        | Outcome::Refused
        | Outcome::Closed
        | Outcome::SilentDeath
        | Outcome::Reset
        | Outcome::Exited => false,
    }
}

/// `2023-11-14` and `22:13:20.123`.
pub(super) fn day_and_time(at: Time) -> (String, String) {
    let (mut day, mut time) = (at.to_string(), String::new());
    day.truncate("2023-11-14".len());
    append_time(&mut time, at);
    (day, time)
}

/// Appends `22:13:20.123`.
fn append_time(text: &mut String, at: Time) {
    text.push_str(str::from_utf8(&at.text()[11..23]).unwrap_or_default());
}

/// The time of day, with the day where that is not today's.
fn full_unless_today(at: Time, now: Time) -> String {
    let (day, time) = day_and_time(at);
    if day == day_and_time(now).0 { time } else { format!("{day} {time}") }
}

/// How long `at` is after `from` (`+1.6 s`) or before it (`-1.6 s`).
pub(super) fn signed(from: Time, at: Time) -> String {
    if at < from {
        format!("-{}", duration(from.since(at)))
    } else {
        format!("+{}", duration(at.since(from)))
    }
}
