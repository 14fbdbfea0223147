//! What happened to a socket, line by line, with its verdicts among the events.

use std::iter::Peekable;

use super::{Page, clock, wrapped};
use crate::engine::TimelineEntry;
use crate::record::{Body, Record, Verdict};
use crate::report::Story;
use crate::sink::palette::paint;
use crate::sink::text::{self, day_and_time, signed};
use crate::time::Time;

/// The columns of the three times before what happened, with the spaces around them.
const TIMES: usize = 2 + 8 + 1 + 12 + 1 + 12 + 2;

/// Gives out the lines of a story, each with its time, its distance from `struck` and from the line above.
pub(super) fn tell(page: &Page<'_>, story: &Story, struck: Time, emit: &mut dyn FnMut(&str)) {
    let mut lines = Lines { page, struck, day: String::new(), previous: None };
    let mut verdicts = story.verdicts.iter().peekable();
    let (first, omitted, last) = story.timeline.parts();
    let heading = format!("  {:<8} {:>12} {:>12}", "UTC", "from verdict", "from above");
    emit(&format!("{}\n", paint(page.palette.faint, heading.trim_end())));
    lines.entries(first, &mut verdicts, emit);
    if omitted > 0 {
        let text = format!("{:TIMES$}… {omitted} more …", "");
        emit(&format!("{}\n", paint(page.palette.faint, &text)));
    }
    lines.entries(last, &mut verdicts, emit);
    verdicts.for_each(|verdict| lines.verdict(verdict, emit));
}

struct Lines<'a> {
    page: &'a Page<'a>,
    struck: Time,
    /// The day of the line above.
    day: String,
    previous: Option<Time>,
}

impl Lines<'_> {
    /// The entries, with those verdicts among them that were given before the next one.
    fn entries<'r>(
        &mut self,
        entries: &[TimelineEntry],
        verdicts: &mut Peekable<impl Iterator<Item = &'r Record>>,
        emit: &mut dyn FnMut(&str),
    ) {
        for entry in entries {
            while let Some(verdict) = verdicts.next_if(|verdict| verdict.at < entry.at) {
                self.verdict(verdict, emit);
            }
            self.entry(entry, emit);
        }
    }

    fn entry(&mut self, entry: &TimelineEntry, emit: &mut dyn FnMut(&str)) {
        let TimelineEntry { at, what, standing, replayed, inferred } = entry;
        let name = text::name(what);
        let marks = [(*replayed, " (replayed)"), (*inferred, " (inferred)")];
        let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
        let details = text::details(what, *standing);
        let painted = paint(self.page.text.style(what), name);
        self.line(*at, name, &painted, &format!("{details}{marks}"), emit);
    }

    fn verdict(&mut self, record: &Record, emit: &mut dyn FnMut(&str)) {
        let Body::Verdict(verdict) = &record.body else { return };
        let Verdict { verdict: name, phase, outcome, severity, .. } = &**verdict;
        let title = self.page.text.title(*name, *phase, *outcome, *severity);
        let plain = text::Text::new(crate::sink::Palette::PLAIN).title(*name, *phase, *outcome, *severity);
        self.line(record.at, &plain, &title, "", emit);
    }

    /// A line, and as many more as its text takes. `painted` is `name` in its style.
    fn line(&mut self, at: Time, name: &str, painted: &str, text: &str, emit: &mut dyn FnMut(&str)) {
        let (day, _) = day_and_time(at);
        if !self.day.is_empty() && day != self.day {
            emit(&format!("  {}\n", paint(self.page.palette.faint, &format!("── {day} ──"))));
        }
        self.day = day;
        let gap = self.previous.map_or_else(String::new, |previous| signed(previous, at));
        self.previous = Some(at);
        let times = format!("{:<8} {:>12} {gap:>12}", clock(at), signed(self.struck, at));
        let room = self.page.columns.saturating_sub(TIMES).max(1);
        let all = format!("{name}  {text}");
        for (number, line) in wrapped(all.trim_end(), room).into_iter().enumerate() {
            if number > 0 {
                emit(&format!("{:TIMES$}{line}\n", ""));
                continue;
            }
            // A name that found no room in one line stays as it is.
            let line = line.strip_prefix(name).map_or(line.clone(), |rest| format!("{painted}{rest}"));
            emit(&format!("  {}  {line}\n", paint(self.page.palette.faint, &times)));
        }
    }
}
