//! What happened to a socket, line by line, with its verdicts among the events; of both ends where both were recorded.

use super::{Page, clock, wrapped};
use crate::engine::TimelineEntry;
use crate::record::{Body, Record, Verdict};
use crate::report::{Story, corrected};
use crate::sink::palette::{Palette, paint};
use crate::sink::text::{self, Text, day_and_time, signed};
use crate::time::Time;

/// The columns of the three times before what happened, with the spaces around them.
const TIMES: usize = 2 + 8 + 1 + 12 + 1 + 12 + 2;

/// One end of a connection, as its lines are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'a> {
    pub(super) story: &'a Story,
    /// What each of its lines is marked with; empty where there is but one end.
    pub(super) mark: &'a str,
    /// By so much its clock is ahead of the one that the lines are told by.
    pub(super) ahead_ns: i64,
}

/// A line to be.
struct Row<'a> {
    at: Time,
    mark: &'a str,
    what: Told<'a>,
}

enum Told<'a> {
    Entry(&'a TimelineEntry),
    Verdict(&'a Verdict),
    Omitted(u64),
}

/// Gives out the lines of the ends, each with its time, its distance from `struck` and from the line above.
pub(super) fn tell(page: &Page<'_>, ends: &[End<'_>], struck: Time, emit: &mut dyn FnMut(&str)) {
    let heading = format!("  {:<8} {:>12} {:>12}", "UTC", "from verdict", "from above");
    emit(&format!("{}\n", paint(page.palette.faint, &heading)));
    let mut rows: Vec<Row<'_>> = ends.iter().flat_map(rows).collect();
    // What one end tells of one moment stays in its order.
    rows.sort_by_key(|row| row.at);
    let mut lines = Lines { page, struck, day: String::new(), previous: None };
    for row in &rows {
        lines.row(row, emit);
    }
}

/// The lines of one end, in order.
fn rows<'a>(end: &End<'a>) -> Vec<Row<'a>> {
    let End { story, mark, ahead_ns } = *end;
    let (first, omitted, last) = story.timeline.parts();
    let row = |at: Time, what| Row { at: corrected(at, ahead_ns), mark, what };
    let mut rows: Vec<Row<'_>> = first.iter().map(|entry| row(entry.at, Told::Entry(entry))).collect();
    let after_omitted = last.first().filter(|_| omitted > 0);
    rows.extend(after_omitted.map(|entry| row(entry.at, Told::Omitted(omitted))));
    rows.extend(last.iter().map(|entry| row(entry.at, Told::Entry(entry))));
    rows.extend(story.verdicts.iter().filter_map(|record: &Record| match &record.body {
        Body::Verdict(verdict) => Some(row(record.at, Told::Verdict(verdict))),
        Body::Start(_)
        | Body::End(_)
        | Body::Lost(_)
        | Body::Shed(_)
        | Body::Process(_)
        | Body::Destination(_)
        | Body::Tick(_)
        | Body::Event(_) => None,
    }));
    rows
}

struct Lines<'a> {
    page: &'a Page<'a>,
    struck: Time,
    /// The day of the line above.
    day: String,
    previous: Option<Time>,
}

impl Lines<'_> {
    fn row(&mut self, row: &Row<'_>, emit: &mut dyn FnMut(&str)) {
        let mark = if row.mark.is_empty() { String::new() } else { format!("[{}] ", row.mark) };
        match &row.what {
            Told::Entry(entry) => {
                let name = entry.what.name();
                let painted = paint(self.page.text.style(&entry.what), name);
                let notes = [(entry.replayed, " (replayed)"), (entry.inferred, " (inferred)")];
                let notes: String = notes.iter().filter(|(is, _)| *is).map(|(_, note)| *note).collect();
                let details = text::details(&entry.what, entry.standing);
                let plain = format!("{mark}{name}");
                self.line(row.at, (&plain, &format!("{mark}{painted}")), &format!("{details}{notes}"), emit);
            }
            Told::Verdict(verdict) => {
                let title = |text: &Text| {
                    let Verdict { verdict, phase, outcome, severity, .. } = verdict;
                    format!("{mark}{}", text.title(*verdict, *phase, *outcome, *severity))
                };
                let plain = title(&Text::new(Palette::PLAIN));
                self.line(row.at, (&plain, &title(&self.page.text)), "", emit);
            }
            Told::Omitted(omitted) => {
                let text = format!("{:TIMES$}{mark}… {omitted} more …", "");
                emit(&format!("{}\n", paint(self.page.palette.faint, &text)));
            }
        }
    }

    /// A line, and as many more as its text takes; its head is given plain and painted.
    fn line(&mut self, at: Time, (plain, painted): (&str, &str), text: &str, emit: &mut dyn FnMut(&str)) {
        let (day, _) = day_and_time(at);
        if !self.day.is_empty() && day != self.day {
            emit(&format!("  {}\n", paint(self.page.palette.faint, &format!("── {day} ──"))));
        }
        self.day = day;
        let gap = self.previous.map_or_else(String::new, |previous| signed(previous, at));
        self.previous = Some(at);
        let times = format!("{:<8} {:>12} {gap:>12}", clock(at), signed(self.struck, at));
        let room = self.page.columns.saturating_sub(TIMES).max(1);
        let all = format!("{plain}  {text}");
        for (number, line) in wrapped(all.trim_end(), room).into_iter().enumerate() {
            if number > 0 {
                emit(&format!("{:TIMES$}{line}\n", ""));
                continue;
            }
            // A head that found no room in one line stays as it is.
            let line = line.strip_prefix(plain).map_or(line.clone(), |rest| format!("{painted}{rest}"));
            emit(&format!("  {}  {line}\n", paint(self.page.palette.faint, &times)));
        }
    }
}
