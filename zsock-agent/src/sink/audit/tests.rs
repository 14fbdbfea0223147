use super::table::{Cell, Column, Fit, Table};
use super::*;
use crate::audit::samples::{self, accepted, all, found, guarded_late, listener, stuck};
use crate::audit::{Grouping, Tally, Worst};
use crate::record::Found;
use crate::sink::samples::at;
use crate::source::census::Coverage;
use unicode_width::UnicodeWidthStr as _;

fn coverage() -> Coverage {
    Coverage { namespaces: 1, source: "iterators", ..Coverage::default() }
}

fn told(
    sockets: &[Found],
    coverage: &Coverage,
    limit: Option<usize>,
    columns: Option<usize>,
    palette: Palette,
) -> String {
    let (mut tally, mut shared) = (Tally::new(Grouping::Both), Shared::default());
    let mut worst = Worst::new(Sort::Harm, limit);
    for found in sockets {
        tally.add(found);
        worst.admit(worst.place(found), || Row::of(found, &mut shared));
    }
    let summary = tally.summary(10, coverage, Duration::from_millis(12));
    let report = report(palette, columns, &summary);
    let mut text = String::new();
    report.tell(worst.sorted(), &shared, &mut |piece| text.push_str(piece));
    text
}

fn report(palette: Palette, columns: Option<usize>, summary: &Summary) -> Report<'_> {
    Report {
        palette,
        columns,
        at: at(0),
        host: "web-1",
        is_selective: false,
        summary,
        forgets_after: Duration::from_secs(350),
        sort: Sort::Harm,
    }
}

fn plain(sockets: &[Found], columns: Option<usize>) -> String {
    told(sockets, &coverage(), None, columns, Palette::PLAIN)
}

#[test]
fn everything_is_told_where_lines_may_be_long() {
    insta::assert_snapshot!(plain(&all(), None));
}

#[test]
fn on_80_columns_what_matters_most_is_told() {
    let text = plain(&all(), Some(80));
    insta::assert_snapshot!(text);
    for line in text.lines().filter(|line| line.contains('→')) {
        assert!(line.width() <= 80, "{line}");
    }
}

#[test]
fn sockets_that_were_selected_are_not_taken_for_all_of_the_host() {
    let none = Tally::new(Grouping::Both).summary(10, &coverage(), Duration::ZERO);
    let report = Report { is_selective: true, ..report(Palette::PLAIN, None, &none) };
    let text = report.sums();
    assert!(text.starts_with("0 selected TCP sockets on web-1 in 1 network namespace, "), "{text}");
}

#[test]
fn what_could_not_be_seen_or_told_is_said() {
    let coverage = Coverage {
        namespaces: 1,
        failed: vec![(4_026_532_001, "permission denied".to_owned())],
        source: "sock_diag",
        not_told: vec!["keepalive settings".to_owned(), "user time-outs".to_owned()],
    };
    insta::assert_snapshot!(told(
        &[samples::stranger(1), listener(2)],
        &coverage,
        None,
        None,
        Palette::PLAIN
    ));
}

#[test]
fn no_sockets_are_said_to_be_none() {
    assert_eq!(
        plain(&[], Some(80)),
        "0 TCP sockets on web-1 in 1 network namespace, 2023-11-14 22:13:20 UTC, looked at within 12 ms\n\
         \n\
         No connections among them.\n"
    );
}

#[test]
fn a_list_that_is_not_all_says_so_and_a_healthy_host_gets_no_advice() {
    let sockets: Vec<_> = (0..30).map(accepted).collect();
    let text = told(&sockets, &coverage(), Some(2), None, Palette::PLAIN);
    assert!(text.contains("\n2 of 30 sockets, the worst first; --all lists every one\n"), "{text}");
    assert!(text.contains("30 connections\n") && !text.contains("advice"), "{text}");
    assert_eq!(
        text.lines().filter(|line| line.contains("ESTABLISHED")).count(),
        3,
        "the sum and two sockets"
    );
}

#[test]
fn colours_are_all_that_a_terminal_is_told_and_say_how_bad_it_is() {
    let sockets = [found(1), guarded_late(2), stuck(3)];
    let coloured = told(&sockets, &coverage(), None, None, Palette::COLOURED);
    insta::assert_snapshot!(coloured.escape_debug().to_string().replace("\\n", "\n"));
    assert_eq!(crate::sink::text::tests::uncoloured(&coloured), plain(&sockets, None));
}

#[test]
fn hostile_names_neither_move_the_cursor_nor_hide_text() {
    let text = plain(&all(), None);
    assert!(text.contains("\\u{1b}[2J\\u{a}日本\\u{202e}[812]"), "{text}");
    assert_eq!(text.chars().filter(|&c| c != '\n' && (c.is_control() || c == '\u{202e}')).count(), 0);
}

#[test]
fn shares_are_neither_rounded_up_to_all_nor_down_to_none() {
    let mut sockets: Vec<_> = (0..300).map(found).collect();
    sockets.push(stuck(300));
    let text = plain(&sockets, None);
    assert!(text.contains("    for ever                       300   99 %\n"), "{text}");
    assert!(text.contains("    for minutes                      1   <1 %\n"), "{text}");
    assert!(text.contains("    for hours                        0    0 %\n"), "{text}");
}

const COLUMNS: [Column; 5] = [
    Column::number("n", Fit::Whole),
    Column::text("name", Fit::CutAfter(10, 8)),
    Column::text("path", Fit::CutBefore(10, 8)),
    Column::text("more", Fit::LeaveOut(1)),
    Column::text("late", Fit::LeaveOutLate(1)),
];

fn table(columns: Option<usize>) -> [String; 3] {
    let rows = [["1", "日本日本日本", "/var/lib/thing", "–", "x"], ["10", "short", "–", "moreover", "–"]];
    let cells = rows.map(|row| row.map(|text| Cell::plain(text.to_owned())));
    let table = Table::of(&COLUMNS, cells.iter().cloned()).fitted(columns);
    [table.heading(Style::new()), table.line(&cells[0]), table.line(&cells[1])]
}

#[test]
fn columns_fit_by_cutting_long_texts_then_by_leaving_out_then_by_cutting_more() {
    let whole = [
        "     n  name          path            more      late\n",
        "     1  日本日本日本  /var/lib/thing  –         x\n",
        "    10  short         –               moreover  –\n",
    ];
    assert_eq!(table(None), whole);
    assert_eq!(table(Some(52)), whole);
    assert_eq!(
        table(Some(46)),
        [
            "     n  name        path        more      late\n",
            "     1  日本日本…   …lib/thing  –         x\n",
            "    10  short       –           moreover  –\n",
        ]
    );
    let first = |columns| table(Some(columns))[1].clone();
    assert_eq!(first(45), "     1  日本日本日本  /var/lib/thing  x\n", "there is room again");
    assert_eq!(first(36), "     1  日本日本…   …lib/thing  x\n");
    assert_eq!(first(32), "     1  日本日…   …b/thing  x\n");
    assert_eq!(first(31), "     1  日本日本日…  …lib/thing\n");
    assert_eq!(first(20), "     1  日本…   …ing\n");
    for columns in 18..60 {
        for line in table(Some(columns)) {
            assert!(line.trim_end().width() <= columns, "{columns}: {line}");
        }
    }
}

#[test]
fn columns_with_nothing_to_say_go_first_and_are_not_missed() {
    let left_out = |row: [&str; 5], columns| {
        let cells = row.map(|text| Cell::plain(text.to_owned()));
        Table::of(&COLUMNS, std::iter::once(cells)).fitted(Some(columns)).left_out()
    };
    assert_eq!(left_out(["1", "name", "path", "more", "–"], 26), Vec::<&str>::new());
    assert_eq!(left_out(["1", "name", "path", "more", "late"], 26), ["more"]);
    assert_eq!(left_out(["1", "name", "path", "more", "late"], 20), ["more", "late"]);
    assert_eq!(
        left_out(["1", "name", "path", "m", "much too late"], 28),
        ["late"],
        "there was room for one of the two"
    );
}
