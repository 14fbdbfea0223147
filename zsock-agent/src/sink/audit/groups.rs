//! The groups that are worst off, as a table.

use super::Report;
use super::table::{Cell, Column, Fit, Table};
use crate::record::{Group, Noticed, printable};
use crate::sink::quantity::{UNKNOWN, count, known};

const COLUMNS: [Column; 7] = [
    Column::number("for ever", Fit::Whole),
    Column::number("hours", Fit::Whole),
    Column::number("minutes", Fit::Whole),
    Column::number("seconds", Fit::LeaveOut(2)),
    Column::number("not known", Fit::LeaveOut(1)),
    Column::text("process", Fit::CutAfter(12)),
    Column::text("destination", Fit::CutBefore(24)),
];

pub(super) fn tell(report: &Report<'_>, emit: &mut dyn FnMut(&str)) {
    let groups = &report.summary.groups;
    if groups.is_empty() {
        return;
    }
    let lines = || groups.iter().map(|group| line(report, group));
    let table = Table::of(&COLUMNS, lines()).without_empty().fitted(report.columns);
    emit("\nConnections that belong together, the worst first\n");
    emit(&table.heading(report.palette.faint));
    lines().for_each(|cells| emit(&table.line(&cells)));
    if report.summary.other_groups > 0 {
        emit(&format!("    and {}\n", count(report.summary.other_groups, "group")));
    }
}

fn line(report: &Report<'_>, group: &Group) -> [Cell; 7] {
    let of = |noticed| group.noticed.get(&noticed).copied().unwrap_or(0);
    let number = |count: u64| Cell::plain(count.to_string());
    let classed = |noticed| {
        let is_harmless = of(noticed) == 0 || is_on_loopback(group);
        let style = if is_harmless { anstyle::Style::new() } else { report.style(noticed) };
        Cell { style, ..number(of(noticed)) }
    };
    let process = group.process.as_ref().map(|process| {
        format!("{}[{}]", known(process.comm.as_deref(), |comm| printable(comm).into_owned()), process.pid)
    });
    let destination = match (group.destination, group.accepted_on) {
        (Some(destination), _) => format!("→ {destination}"),
        (None, Some(local)) => format!("accepted on {local}"),
        (None, None) => UNKNOWN.to_owned(),
    };
    [
        classed(Noticed::Never),
        classed(Noticed::Hours),
        classed(Noticed::Minutes),
        classed(Noticed::Seconds),
        number(group.sockets.saturating_sub(group.noticed.values().sum())),
        Cell::plain(process.unwrap_or_else(|| UNKNOWN.to_owned())),
        Cell::plain(destination),
    ]
}

fn is_on_loopback(group: &Group) -> bool {
    group.destination.or(group.accepted_on).is_some_and(|end| end.ip().is_loopback())
}
