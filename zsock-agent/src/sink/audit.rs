//! Text of an audit for a person: the sums first, then the groups and sockets that are worst off, then what to change.

use std::time::Duration;

use anstyle::Style;

use super::Palette;
use super::palette::paint;
use super::quantity::{count, milliseconds};
use crate::audit::{Row, Shared, Sort, advice};
use crate::record::{Noticed, Severity, Summary, printable};
use crate::time::Time;

mod groups;
mod sockets;
mod table;
#[cfg(test)]
mod tests;

/// Words for how long it goes unnoticed, the worst first.
const CLASSES: [(Noticed, &str); 4] = [
    (Noticed::Never, "for ever"),
    (Noticed::Hours, "for hours"),
    (Noticed::Minutes, "for minutes"),
    (Noticed::Seconds, "for less than a minute"),
];

/// What is told of an audit, beside the sockets.
#[derive(Debug)]
pub struct Report<'a> {
    /// The colours.
    pub palette: Palette,
    /// Columns of the terminal; absent where lines may be of any length.
    pub columns: Option<usize>,
    /// When it was done.
    pub at: Time,
    /// On which host.
    pub host: &'a str,
    /// They are of some sockets only.
    pub is_selective: bool,
    /// The sums.
    pub summary: &'a Summary,
    /// After how long without a segment the path is assumed to forget a connection.
    pub forgets_after: Duration,
    /// In which order sockets are listed.
    pub sort: Sort,
}

impl Report<'_> {
    /// Gives out the text, piece by piece, with these sockets in it.
    pub fn tell<'r>(
        &self,
        rows: impl ExactSizeIterator<Item = &'r Row> + Clone,
        shared: &Shared,
        emit: &mut dyn FnMut(&str),
    ) {
        emit(&self.sums());
        emit(&self.noticed());
        groups::tell(self, emit);
        self.title_sockets(rows.len(), emit);
        sockets::tell(self, rows, shared, emit);
        for (number, text) in advice(self.summary, self.forgets_after).iter().enumerate() {
            let (before, label) = if number == 0 { ("\n", "advice") } else { ("", "") };
            let label = paint(self.palette.faint, &format!("{label:<10}"));
            emit(&format!("{before}    {label}{}\n", printable(text)));
        }
    }

    fn sums(&self) -> String {
        let summary = self.summary;
        let (day, time) = super::text::day_and_time(self.at);
        let time = time.split('.').next().unwrap_or_default();
        let mut text = format!(
            "{} on {} in {}, {day} {time} UTC, looked at within {}\n",
            count(summary.sockets, if self.is_selective { "selected TCP socket" } else { "TCP socket" }),
            printable(self.host),
            count(summary.namespaces, "network namespace"),
            milliseconds(summary.duration_ms),
        );
        let mut states: Vec<_> = summary.states.iter().collect();
        states.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
        let states = states.into_iter().map(|(name, count)| format!("{count} {}", printable(name)));
        let verdicts = summary.verdicts.iter().map(|(name, count)| format!("{count} {}", printable(name)));
        let unheld = [
            (summary.orphans, "held by no process any more"),
            (summary.unaccepted, "waiting to be accepted"),
        ];
        let unheld = unheld.into_iter().filter(|(count, _)| *count > 0);
        let unheld = unheld.map(|(count, what)| format!("{count} {what}"));
        let not_seen = (summary.namespaces_not_seen > 0)
            .then(|| format!("{}: see stderr", count(summary.namespaces_not_seen, "network namespace")));
        text += &self.labelled("states", states);
        text += &self.labelled("of them", unheld);
        text += &self.labelled("verdicts", verdicts);
        text += &self.warned("not seen", not_seen);
        for (number, fact) in summary.not_told.iter().enumerate() {
            let label = if number == 0 { "not told" } else { "" };
            text += &self.warned(label, [format!("by {}: {}", printable(&summary.source), printable(fact))]);
        }
        text
    }

    /// How many connections would hang for how long.
    fn noticed(&self) -> String {
        let summary = self.summary;
        let all: u64 = summary.noticed.values().sum::<u64>() + summary.noticed_unknown;
        if all == 0 {
            return "\nNo connections among them.\n".to_owned();
        }
        let mut text = format!(
            "\nA death of the peer without a word, from now on, would go unnoticed by {}\n",
            count(all, "connection")
        );
        for (noticed, words) in CLASSES {
            let number = summary.noticed.get(&noticed).copied().unwrap_or(0);
            let on_loopback = summary.noticed_on_loopback.get(&noticed).copied().unwrap_or(0);
            let beside = match on_loopback {
                0 => String::new(),
                _ => format!("  {on_loopback} on loopback, where only a peer that hangs goes unnoticed"),
            };
            let style = if number > on_loopback { self.style(noticed) } else { Style::new() };
            text += &self.class(words, number, all, style, &beside);
        }
        if summary.noticed_unknown > 0 {
            text += &self.class("not known", summary.noticed_unknown, all, Style::new(), "");
        }
        text
    }

    fn class(&self, words: &str, number: u64, all: u64, style: Style, beside: &str) -> String {
        // Half a percent is not nothing, and all but one are not all.
        let percent = match number * 100 / all {
            0 if number > 0 => "<1 %".to_owned(),
            percent => format!("{percent} %"),
        };
        let line = paint(style, &format!("{words:<24}{number:>10}{percent:>7}"));
        format!("    {line}{}\n", paint(self.palette.faint, beside))
    }

    fn title_sockets(&self, listed: usize, emit: &mut dyn FnMut(&str)) {
        let order = match self.sort {
            Sort::Harm => "the worst first",
            Sort::Noticed => "by when a death would be noticed, the latest first",
            Sort::Idle => "the longest idle first",
            Sort::Queue => "the fullest queues first",
            Sort::Process => "by process",
            Sort::Local => "by our end",
            Sort::Remote => "by the peer's end",
        };
        let all = count(self.summary.sockets, "socket");
        if listed as u64 == self.summary.sockets && listed > 0 {
            emit(&format!("\n{all}, {order}\n"));
        } else if listed > 0 {
            emit(&format!("\n{listed} of {all}, {order}; --all lists every one\n"));
        }
    }

    /// The colour of connections whose peer's death would go unnoticed for so long.
    const fn style(&self, noticed: Noticed) -> Style {
        match noticed {
            Noticed::Never => self.palette.of(Severity::Critical),
            Noticed::Hours => self.palette.of(Severity::Warning),
            Noticed::Minutes | Noticed::Seconds => Style::new(),
        }
    }

    fn labelled(&self, label: &str, phrases: impl IntoIterator<Item = String>) -> String {
        labelled(self.palette.faint, label, phrases)
    }

    fn warned(&self, label: &str, phrases: impl IntoIterator<Item = String>) -> String {
        labelled(self.palette.of(Severity::Warning), label, phrases)
    }
}

/// A label and what belongs to it; nothing where that is nothing.
fn labelled(style: Style, label: &str, phrases: impl IntoIterator<Item = String>) -> String {
    let phrases: Vec<_> = phrases.into_iter().collect();
    if phrases.is_empty() {
        return String::new();
    }
    format!("    {}{}\n", paint(style, &format!("{label:<10}")), phrases.join(", "))
}
