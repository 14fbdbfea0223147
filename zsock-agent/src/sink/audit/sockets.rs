//! Sockets as a table.

use std::borrow::Cow;

use anstyle::Style;

use super::Report;
use super::table::{Cell, Column, Fit, Table};
use crate::audit::{Owner, Queued, Row, Settings, Shared, Size, Span};
use crate::detect;
use crate::record::{KeepaliveSettings, Noticed, TimerKind, printable};
use crate::sink::palette::paint;
use crate::sink::quantity::{UNKNOWN, bytes, known, milliseconds};

const COLUMNS: [Column; 12] = [
    Column::text("noticed in", Fit::Whole),
    Column::text("process", Fit::CutAfter(12)),
    Column::text("local → remote", Fit::CutBefore(24)),
    Column::text("state", Fit::Whole),
    Column::text("idle", Fit::LeaveOut(7)),
    Column::text("verdict", Fit::LeaveOut(8)),
    Column::text("queued", Fit::LeaveOut(6)),
    Column::text("keepalive", Fit::LeaveOut(5)),
    Column::text("user timeout", Fit::LeaveOut(4)),
    Column::text("sent", Fit::LeaveOut(2)),
    Column::text("heard", Fit::LeaveOut(3)),
    Column::text("timer", Fit::LeaveOut(1)),
];

pub(super) fn tell<'r>(
    report: &Report<'_>,
    rows: impl ExactSizeIterator<Item = &'r Row> + Clone,
    shared: &Shared,
    emit: &mut dyn FnMut(&str),
) {
    if rows.len() == 0 {
        return;
    }
    let lines = rows.map(|row| line(report, row, shared));
    let table = Table::of(&COLUMNS, lines.clone()).fitted(report.columns);
    emit(&table.heading(report.palette.faint));
    lines.for_each(|cells| emit(&table.line(&cells)));
    let left_out = table.left_out();
    if !left_out.is_empty() {
        let text = format!("    no room for {}", left_out.join(", "));
        emit(&format!("{}\n", paint(report.palette.faint, &text)));
    }
}

fn line(report: &Report<'_>, row: &Row, shared: &Shared) -> [Cell; 12] {
    let settings = shared.settings(row);
    let severity = row.verdict.and_then(detect::severity);
    [
        Cell { text: noticed(row), style: style(report, row) },
        Cell::plain(process(shared.owner(row), row.is_orphan)),
        Cell::plain(ends(row)),
        Cell::plain(known(row.state, |state| state.to_string())),
        Cell::plain(span(row.idle)),
        Cell {
            text: known(row.verdict, |verdict| verdict.name().to_owned()),
            style: severity.map_or_else(Style::new, |severity| report.palette.of(severity)),
        },
        Cell::plain(queued(row.queued)),
        Cell::plain(known(settings.keepalive, keepalive)),
        Cell::plain(user_timeout(settings)),
        Cell::plain(span(row.sent)),
        Cell::plain(span(row.received)),
        Cell::plain(known(row.timer, timer)),
    ]
}

fn style(report: &Report<'_>, row: &Row) -> Style {
    let noticed = row.noticed.filter(|_| !row.is_on_loopback);
    noticed.map_or_else(Style::new, |noticed| report.style(noticed))
}

fn noticed(row: &Row) -> String {
    match (row.noticed, row.noticed_in.ms()) {
        (Some(Noticed::Never), _) => "never".to_owned(),
        (_, Some(ms)) => milliseconds(ms),
        (Some(noticed), None) => noticed.name().to_owned(),
        (None, None) => UNKNOWN.to_owned(),
    }
}

fn process(owner: &Owner, is_orphan: bool) -> String {
    let comm = known(owner.comm.as_deref().map(printable), Cow::into_owned);
    let owner = owner.pid.map_or_else(|| comm.clone(), |pid| format!("{comm}[{pid}]"));
    if is_orphan { format!("{owner}, orphan") } else { owner }
}

fn ends(row: &Row) -> String {
    match (row.local(), row.remote()) {
        (Some(local), None) => local.to_string(),
        (local, remote) => {
            format!("{} → {}", known(local, |end| end.to_string()), known(remote, |end| end.to_string()))
        }
    }
}

fn span(span: Span) -> String {
    known(span.ms(), milliseconds)
}

/// What there is of what can wait; a zero where it is known that nothing does.
fn queued(queued: Queued) -> String {
    let (unacked, unsent, unread) = match queued {
        Queued::Bytes { unacked, unsent, unread } => (unacked, unsent, unread),
        Queued::Connections { waiting, backlog } => return format!("{waiting} waiting of {backlog}"),
    };
    let named = [(unacked, "unacked"), (unsent, "unsent"), (unread, "unread")];
    let some = |(size, name): (Size, &str)| Some((size.bytes().filter(|size| *size > 0)?, name.to_owned()));
    let some: Vec<_> = named.into_iter().filter_map(some).collect();
    if some.is_empty() {
        let is_known = named.iter().all(|(size, _)| size.bytes().is_some());
        return if is_known { "0" } else { UNKNOWN }.to_owned();
    }
    some.iter().map(|(size, name)| format!("{} {name}", bytes(*size))).collect::<Vec<_>>().join(", ")
}

/// `60 s + 6×10 s`, or `off`.
fn keepalive(settings: KeepaliveSettings) -> String {
    let KeepaliveSettings { enabled, idle_ms, interval_ms, probes } = settings;
    if enabled {
        format!("{} + {probes}×{}", setting(idle_ms), setting(interval_ms))
    } else {
        "off".to_owned()
    }
}

/// In seconds, as it was set, as long as they are easily read.
fn setting(ms: u64) -> String {
    match (ms / 1000, ms % 1000) {
        (seconds @ 1..600, 0) => format!("{seconds} s"),
        _ => milliseconds(ms),
    }
}

fn user_timeout(settings: &Settings) -> String {
    known(settings.user_timeout_ms, setting)
}

fn timer((kind, left): (TimerKind, Span)) -> String {
    let kind = match kind {
        TimerKind::Retransmission => "retransmission",
        TimerKind::Persist => "window probe",
        TimerKind::Keepalive => "keepalive",
        TimerKind::TimeWait => "time wait",
    };
    format!("{kind} in {}", span(left))
}
