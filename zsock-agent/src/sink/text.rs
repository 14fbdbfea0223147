//! Text for a person: one line an event, a block a verdict.
//!
//! Whatever an untrusted process chose passes through [`printable`].

use anstyle::Style;

use super::Palette;
use super::palette::paint;
use super::quantity::{count, duration, milliseconds, named, plain};
use crate::engine::{Standing, Timeline, TimelineEntry};
use crate::record::{
    Body, DestinationSample, End, Event, Lost, Outcome, Phase, ProcessSample, Record, Severity, Start,
    Subject, Verdict, What, printable,
};
use crate::time::Time;

mod words;

/// Renders records as text. Remembers the day of the last one, to say when another begins.
#[derive(Debug)]
pub struct Text {
    palette: Palette,
    day: String,
}

impl Text {
    /// Text in these colours.
    #[must_use]
    pub const fn new(palette: Palette) -> Self {
        Self { palette, day: String::new() }
    }

    /// The lines of a record.
    pub fn render(&mut self, record: &Record, timeline: Option<&Timeline>) -> String {
        let day = day_and_time(record.at).0;
        let mut text = String::new();
        if day != self.day {
            text = line(&paint(self.palette.faint, &format!("── {day}, UTC ──")));
            self.day = day;
        }
        text + &match &record.body {
            Body::Start(start) => self.start(record.at, &record.host, start),
            Body::End(end) => self.end(record.at, end),
            Body::Lost(lost) => self.lost(record.at, lost),
            Body::Event(event) => self.event(record.at, event),
            Body::Verdict(verdict) => self.verdict(record.at, verdict, timeline),
            Body::Process(sample) => self.process(record.at, sample),
            Body::Destination(sample) => self.destination(record.at, sample),
        }
    }

    fn start(&self, at: Time, host: &str, start: &Start) -> String {
        let (version, kernel) = (printable(&start.version), printable(&start.kernel));
        let (host, sockets) = (printable(host), count(start.sockets, "TCP socket"));
        let title =
            format!("zsock {version} on {host}, Linux {kernel}, {sockets} at the start; times are UTC");
        let hooks = start.hooks.iter().map(|(hook, how)| format!("{} {}", printable(hook), printable(how)));
        let settings =
            start.settings.iter().map(|(name, value)| format!("{} {}", printable(name), plain(value)));
        let sysctl = start.sysctl.iter().map(|(name, value)| format!("{} {value}", printable(name)));
        self.headed(at, &title)
            + &self.labelled("hooks", hooks)
            + &self.labelled("settings", settings)
            + &self.labelled("sysctl", sysctl)
    }

    fn end(&self, at: Time, end: &End) -> String {
        let ran = milliseconds(end.duration_ms);
        let (events, sockets) = (count(end.events, "event"), count(end.sockets_seen, "socket"));
        let (lost, verdicts, open) = (end.lost_events, count(end.verdicts, "verdict"), end.open_verdicts);
        let text =
            format!("end after {ran}: {events} ({lost} lost) of {sockets}, {verdicts} ({open} still open)");
        self.headed(at, &text)
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

    fn event(&self, at: Time, event: &Event) -> String {
        let Event { what, socket, tcp, replayed, inferred } = event;
        let (owner, ends) = (words::owner(socket), words::ends(socket));
        let told =
            self.told(what, Standing::of(tcp), *replayed, *inferred, &format!("{owner:<20}  {ends:<36}  "));
        self.headed(at, &told)
    }

    fn process(&self, at: Time, sample: &ProcessSample) -> String {
        self.headed(at, &format!("{:<18}  {}", "sample", words::process_sample(sample)))
    }

    fn destination(&self, at: Time, sample: &DestinationSample) -> String {
        let survived = milliseconds(sample.survived_ms);
        self.headed(
            at,
            &format!("{:<18}  to {}: idled for {survived} and lived on", "sample", sample.destination),
        )
    }

    fn verdict(&self, at: Time, verdict: &Verdict, timeline: Option<&Timeline>) -> String {
        let Verdict { severity, subject, since, evidence, .. } = verdict;
        let style = self.palette.of(*severity);
        let (mark, mark_style) = match (verdict.outcome.is_some_and(is_good), severity) {
            (true, _) => ("✔", self.palette.good),
            (false, Severity::Critical) => ("✖", style),
            (false, Severity::Warning) => ("▲", style),
            (false, Severity::Info) => ("●", style),
        };
        let title = paint(mark_style, &format!("{mark} {}{}", verdict.verdict, phase(verdict)));
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

    /// Each entry with its distance from the verdict and from the entry above.
    fn timeline(&self, at: Time, timeline: Option<&Timeline>) -> String {
        let Some((first, omitted, last)) = timeline.map(Timeline::parts) else { return String::new() };
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
            let told = self.told(&entry.what, entry.standing, entry.replayed, entry.inferred, "");
            text += &line(&format!("    {times}  {told}"));
            *previous = Some(entry.at);
        }
        text
    }

    /// What happened: its name, `whose`, its numbers, and a mark where it was not seen as it happened.
    fn told(&self, what: &What, standing: Standing, replayed: bool, inferred: bool, whose: &str) -> String {
        let name = paint(self.style(what), &format!("{:<18}", words::name(what)));
        let mut text = format!("{name}  {whose}{}", words::details(what, standing));
        for (applies, mark) in [(replayed, "  (replayed)"), (inferred, "  (inferred)")] {
            if applies {
                text += &paint(self.palette.faint, mark);
            }
        }
        text
    }

    fn style(&self, what: &What) -> Style {
        match what {
            What::Retransmit(_)
            | What::Keepalive(_)
            | What::ZeroWindowProbe(_)
            | What::AcceptFailed(_)
            | What::Error(_)
            | What::ResetReceived(_)
            | What::ResetSent(_) => self.palette.trouble,
            What::Progress(_) | What::KeepaliveAnswered(_) => self.palette.good,
            What::State(_) | What::Closed(_) | What::Sample(_) => Style::new(),
        }
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

/// How a verdict stands, to follow its name; nothing for a final one.
fn phase(verdict: &Verdict) -> String {
    match (verdict.phase, verdict.outcome) {
        (Phase::Closed, Some(outcome)) => format!(" closed: {outcome}"),
        (Phase::Closed, None) => String::new(),
        (Phase::Opened | Phase::Updated, _) => format!(" {}", verdict.phase),
    }
}

/// Whether the connection came out of it alive.
const fn is_good(outcome: Outcome) -> bool {
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

/// `2023-11-14` and `22:13:20.123`, from the form that [`Time`] is written in.
fn day_and_time(at: Time) -> (String, String) {
    let text = at.to_string();
    let (day, time) = text.split_once('T').unwrap_or((&text, ""));
    (day.to_owned(), time.chars().take("22:13:20.123".len()).collect())
}

/// The time of day, with the day where that is not today's.
fn full_unless_today(at: Time, now: Time) -> String {
    let (day, time) = day_and_time(at);
    if day == day_and_time(now).0 { time } else { format!("{day} {time}") }
}

/// How long `at` is after `from` (`+1.6 s`) or before it (`-1.6 s`).
fn signed(from: Time, at: Time) -> String {
    if at < from {
        format!("-{}", duration(from.since(at)))
    } else {
        format!("+{}", duration(at.since(from)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn rendered(palette: Palette) -> String {
        let mut text = Text::new(palette);
        let timeline = samples::timeline();
        let of = |record: &Record| matches!(record.body, Body::Verdict(_)).then_some(&timeline);
        samples::all().iter().map(|record| text.render(record, of(record))).collect()
    }

    #[test]
    fn every_record_is_told_to_a_person() {
        insta::assert_snapshot!(rendered(Palette::PLAIN));
    }

    #[test]
    fn colours_are_all_that_a_terminal_is_told() {
        let coloured = rendered(Palette::COLOURED);
        insta::assert_snapshot!(coloured.escape_debug().to_string().replace("\\n", "\n"));
        assert_eq!(uncoloured(&coloured), rendered(Palette::PLAIN));
    }

    /// `text` without its colours; any other control character stays.
    fn uncoloured(text: &str) -> String {
        let mut parts = text.split("\u{1b}[");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |plain, part| {
            let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
            plain + rest.strip_prefix('m').unwrap_or(part)
        })
    }

    #[test]
    fn hostile_names_neither_move_the_cursor_nor_hide_text() {
        let plain = rendered(Palette::PLAIN);
        assert!(plain.contains("\\u{1b}[2J\\u{a}\\u{202e}"), "the sample with the hostile name is rendered");
        assert_eq!(plain.chars().filter(|&c| c != '\n' && (c.is_control() || c == '\u{202e}')).count(), 0);
    }

    #[test]
    fn a_day_is_said_when_it_begins_and_with_a_time_of_another_day() {
        let day = |days: u64| Time::from_unix_ns(days * 86_400 * 1_000_000_000);
        let mut text = Text::new(Palette::PLAIN);
        let host = std::sync::Arc::from("web-1");
        let mut lines = |at| text.render(&Record::new(at, &host, Body::End(End::default())), None);
        let end = "00:00:00.000  end after 0 ms: 0 events (0 lost) of 0 sockets, 0 verdicts (0 still open)\n";
        assert_eq!(lines(day(1)), format!("── 1970-01-02, UTC ──\n{end}"));
        assert_eq!(lines(day(1)), end);
        assert_eq!(lines(day(2)), format!("── 1970-01-03, UTC ──\n{end}"));
        assert_eq!(full_unless_today(day(1), day(1)), "00:00:00.000");
        assert_eq!(full_unless_today(day(1), day(2)), "1970-01-02 00:00:00.000");
    }

    #[test]
    fn distances_have_a_direction() {
        let at = Time::from_unix_ns;
        assert_eq!(signed(at(5_000_000_000), at(3_400_000_000)), "-1.6 s");
        assert_eq!(signed(at(3_000_000_000), at(5_000_000_000)), "+2 s");
    }
}
