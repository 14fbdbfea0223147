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
    /// The beginning of what is longer than this is cut off.
    CutBefore(usize),
    /// The end of what is longer than this is cut off.
    CutAfter(usize),
    /// It is left out, the lowest number first.
    LeaveOut(u8),
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

    /// Fits the lines into so many columns of the terminal. Long texts are cut before anything is left out, and more is cut of them where
    /// nothing is left that could be.
    pub(super) fn fitted(mut self, columns: Option<usize>) -> Self {
        let Some(columns) = columns else { return self };
        let mut rest = self.droppable();
        while self.width_with(1) > columns
            && let Some(place) = rest.pop()
        {
            self.is_left_out[place] = true;
        }
        let part = if self.width_with(1) > columns { 2 } else { 1 };
        let mut room = columns.saturating_sub(self.width_with(part));
        for place in 0..N {
            let least = self.least(place, part);
            let width = self.widths[place].min(least + room);
            if !self.is_left_out[place] {
                room -= width - least;
            }
            self.widths[place] = width;
        }
        self
    }

    /// The places of columns that may be left out, the last to go first: those with nothing to say go before all others.
    fn droppable(&self) -> Vec<usize> {
        let rank = |place: usize| match self.columns[place].fit {
            Fit::LeaveOut(rank) => Some((self.is_told[place], rank)),
            Fit::Whole | Fit::CutBefore(_) | Fit::CutAfter(_) => None,
        };
        let mut places: Vec<_> = (0..N).filter(|place| rank(*place).is_some()).collect();
        places.sort_by_key(|place| std::cmp::Reverse(rank(*place)));
        places
    }

    /// The least width of a column, where texts may be cut to a `part` of what reads well.
    fn least(&self, place: usize, part: usize) -> usize {
        match self.columns[place].fit {
            Fit::Whole | Fit::LeaveOut(_) => self.widths[place],
            Fit::CutBefore(least) | Fit::CutAfter(least) => self.widths[place].min(least / part),
        }
    }

    fn width_with(&self, part: usize) -> usize {
        let shown = (0..N).filter(|place| !self.is_left_out[*place]);
        let widths: usize = shown.clone().map(|place| self.least(place, part)).sum();
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
            let text = cut(&cell.text, width, column.fit);
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
fn cut(text: &str, width: usize, fit: Fit) -> String {
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
    if matches!(fit, Fit::CutBefore(_)) {
        let kept: Vec<_> = text.chars().rev().take_while(|c| fits(c)).collect();
        std::iter::once('…').chain(kept.into_iter().rev()).collect()
    } else {
        text.chars().take_while(|c| fits(c)).chain(['…']).collect()
    }
}
