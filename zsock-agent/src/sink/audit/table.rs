//! A table whose lines fit the terminal.

use std::fmt::Write as _;

use anstyle::Style;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::sink::palette::paint;
use crate::sink::quantity::UNKNOWN;

const INDENT: usize = 4;
const GAP: usize = 2;

/// What happens to a column for which the terminal is too narrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It stays.
    Whole,
    /// The beginning is cut off of what is longer than the first number, which reads well, or where that is not enough, the second.
    CutBefore(usize, usize),
    /// The same of the end.
    CutAfter(usize, usize),
    /// It is left out rather than that a text is cut to less than reads well; the lowest number first.
    LeaveOut(u8),
    /// It is left out where cutting texts is not enough; the lowest number first.
    LeaveOutLate(u8),
}

/// How short texts are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// To what reads well.
    Well,
    /// To what can be read.
    Short,
    /// To half of that.
    Shortest,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) is_number: bool,
    pub(super) fit: Fit,
}

impl Column {
    pub(super) const fn text(title: &'static str, fit: Fit) -> Self {
        Self { title, is_number: false, fit }
    }

    pub(super) const fn number(title: &'static str, fit: Fit) -> Self {
        Self { title, is_number: true, fit }
    }
}

/// What stands in a line's column, printable.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) style: Style,
}

impl Cell {
    pub(super) const fn plain(text: String) -> Self {
        Self { text, style: Style::new() }
    }
}

/// The columns of a table and how wide each is.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    columns: &'static [Column; N],
    widths: [usize; N],
    /// Some line has something to say in it.
    is_told: [bool; N],
    is_left_out: [bool; N],
}

impl<const N: usize> Table<N> {
    /// A table of these lines.
    pub(super) fn of(columns: &'static [Column; N], lines: impl Iterator<Item = [Cell; N]>) -> Self {
        let mut table = Self {
            columns,
            widths: columns.map(|column| column.title.width()),
            is_told: [false; N],
            is_left_out: [false; N],
        };
        for line in lines {
            for (place, cell) in line.iter().enumerate() {
                table.widths[place] = table.widths[place].max(cell.text.width());
                table.is_told[place] |= cell.text != UNKNOWN && cell.text != "0";
            }
        }
        table
    }

    /// Leaves out the columns in which no line has anything to say.
    pub(super) fn without_empty(mut self) -> Self {
        for place in 0..N {
            self.is_left_out[place] |= !self.is_told[place];
        }
        self
    }

    /// Fits the lines into so many columns of the terminal.
    pub(super) fn fitted(mut self, columns: Option<usize>) -> Self {
        let Some(columns) = columns else { return self };
        let droppable = self.droppable();
        for (cut, place) in &droppable {
            self.is_left_out[*place] = self.is_left_out[*place] || self.width(*cut) > columns;
        }
        // One that went first may have room again where a wider one went after it.
        for (cut, place) in droppable.iter().rev().filter(|(_, place)| self.is_told[*place]) {
            self.is_left_out[*place] = false;
            self.is_left_out[*place] = self.width(*cut) > columns;
        }
        let fits = |cut: &Cut| self.width(*cut) <= columns;
        let cut = [Cut::Well, Cut::Short].into_iter().find(fits).unwrap_or(Cut::Shortest);
        let mut room = columns.saturating_sub(self.width(cut));
        for place in (0..N).filter(|place| !self.is_left_out[*place]) {
            let least = self.least(place, cut);
            let width = self.widths[place].min(least + room);
            self.widths[place] = width;
            room -= width - least;
        }
        self
    }

    /// The places of columns that may be left out, in order, and how short texts are cut before: those with nothing to say go before all
    /// others.
    fn droppable(&self) -> Vec<(Cut, usize)> {
        let rank = |place: usize| match self.columns[place].fit {
            Fit::LeaveOut(rank) => Some((self.is_told[place], false, rank)),
            Fit::LeaveOutLate(rank) => Some((self.is_told[place], true, rank)),
            Fit::Whole | Fit::CutBefore(..) | Fit::CutAfter(..) => None,
        };
        let mut ranked: Vec<_> = (0..N).filter_map(|place| Some((rank(place)?, place))).collect();
        ranked.sort_unstable();
        let cut = |(is_told, is_late, _)| if is_told && is_late { Cut::Short } else { Cut::Well };
        ranked.into_iter().map(|(rank, place)| (cut(rank), place)).collect()
    }

    /// The least width of a column where texts are cut so short.
    fn least(&self, place: usize, cut: Cut) -> usize {
        let natural = self.widths[place];
        match self.columns[place].fit {
            Fit::Whole | Fit::LeaveOut(_) | Fit::LeaveOutLate(_) => natural,
            Fit::CutBefore(well, short) | Fit::CutAfter(well, short) => match cut {
                Cut::Well => natural.min(well),
                Cut::Short => natural.min(short),
                Cut::Shortest => natural.min(short / 2),
            },
        }
    }

    /// The width of the lines where texts are cut so short.
    fn width(&self, cut: Cut) -> usize {
        let shown = (0..N).filter(|place| !self.is_left_out[*place]);
        let widths: usize = shown.clone().map(|place| self.least(place, cut)).sum();
        INDENT + widths + GAP * shown.count().saturating_sub(1)
    }

    /// The titles of columns that have something to say and no room.
    pub(super) fn left_out(&self) -> Vec<&'static str> {
        let places = (0..N).filter(|place| self.is_left_out[*place] && self.is_told[*place]);
        places.map(|place| self.columns[place].title).collect()
    }

    /// The line of titles.
    pub(super) fn heading(&self, style: Style) -> String {
        self.line(&self.columns.map(|column| Cell { text: column.title.to_owned(), style }))
    }

    /// A line.
    pub(super) fn line(&self, cells: &[Cell; N]) -> String {
        let mut line = " ".repeat(INDENT);
        let mut owed = 0;
        for (place, cell) in cells.iter().enumerate().filter(|(place, _)| !self.is_left_out[*place]) {
            let (column, width) = (self.columns[place], self.widths[place]);
            let text = shortened(&cell.text, width, column.fit);
            let pad = width.saturating_sub(text.width());
            let (before, after) = if column.is_number { (pad, 0) } else { (0, pad) };
            // Writing to a `String` cannot fail.
            let _ = write!(line, "{:1$}{2}", "", owed + before, paint(cell.style, &text));
            owed = after + GAP;
        }
        line + "\n"
    }
}

/// The text, or as much of it as fits into a width.
fn shortened(text: &str, width: usize, fit: Fit) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let mut fits = |c: &char| {
        let width = c.width().unwrap_or(0);
        let is_in = width <= left;
        left = if is_in { left - width } else { 0 };
        is_in
    };
    if matches!(fit, Fit::CutBefore(..)) {
        let kept: Vec<_> = text.chars().rev().take_while(|c| fits(c)).collect();
        std::iter::once('…').chain(kept.into_iter().rev()).collect()
    } else {
        text.chars().take_while(|c| fits(c)).chain(['…']).collect()
    }
}
