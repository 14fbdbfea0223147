//! Reports as they are read.

use std::sync::Arc;

use super::{ReportText, clocks, json};
use crate::detect::Thresholds;
use crate::detect::story::at;
use crate::record::{Body, Lost, Record, Tick, printable};
use crate::recording::read::{Damage, Next};
use crate::report::tests::ends::{client, server};
use crate::report::tests::{death, in_order, lines, record, report, report_with, start};
use crate::report::{Builder, ClockOffset, Options, Report};
use crate::sink::Palette;

fn text_with(report: &Report, limit: Option<usize>, palette: Palette) -> String {
    let mut said = String::new();
    let text = ReportText { palette, columns: Some(80), limit, is_selective: false };
    text.tell(report, &mut |piece| said.push_str(piece));
    said
}

fn text(report: &Report) -> String {
    text_with(report, None, Palette::PLAIN)
}

fn as_json(report: &Report, limit: Option<usize>) -> String {
    let mut said = Vec::new();
    json::tell(report, "laptop", limit, &mut |line| said.extend_from_slice(line));
    String::from_utf8(said).unwrap()
}

/// Three connections that die one after another, in a recording that lacks much.
fn patchy() -> Report {
    let mut builder = Builder::new(Options::default());
    let tick = |ms| record(ms, Body::Tick(Box::new(Tick { every_ms: 10_000, ..Tick::default() })));
    let lost = Lost { count: 7, since: at(300_000), place: "kernel".into() };
    let deaths = (1..=3).map(|number| death(number, 400_000 + u64::from(number) * 300, 360_000));
    let mut again = start(&Thresholds::default());
    again.at = at(500_000);
    let records = [
        vec![start(&Thresholds::default())],
        in_order(deaths.chain([vec![tick(10_000), record(390_000, Body::Lost(lost))]])),
        vec![again],
    ];
    records.concat().into_iter().for_each(|record| builder.push(Next::Record(record)));
    let why = "is no record: expected value".to_owned();
    builder.push(Next::Damage(Damage { input: "a.ndjson".into(), at_byte: 812, line: Some(7), why }));
    let mut report = builder.finish();
    (report.stories_dropped, report.sockets_dropped) = (12, 1);
    report
}

#[test]
fn a_death_is_told_with_what_led_to_it() {
    insta::assert_snapshot!("forgotten_by_nat_text", text(&report(lines())));
}

#[test]
fn every_record_says_of_which_schema_time_and_host_it_is() {
    for line in as_json(&patchy(), None).lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let is_there = |name| record.get(name).is_some_and(|value: &serde_json::Value| !value.is_null());
        assert!(["schema", "type", "ts", "host"].into_iter().all(is_there), "{line}");
    }
}

#[test]
fn what_may_be_missing_stands_before_what_was_found() {
    insta::assert_snapshot!("patchy_text", text(&patchy()));
}

#[test]
fn both_ends_are_told_in_one_timeline() {
    let both = report([client(1), server(1)].concat());
    insta::assert_snapshot!("both_ends_text", text(&both));
    let said = as_json(&both, None);
    let summary =
        r#""summary":"the server (db-1) gave up at 22:15:00, the client (web-1) learnt of it at 22:20:20""#;
    assert_eq!(said.matches(&format!(r#""other_end":{{"host":"db-1","id":"3e9",{summary}}}"#)).count(), 1);
    assert!(
        said.contains(
            r#""type":"clock","reference":"web-1","ahead_us":90000000,"uncertainty_us":5000,"changes":1"#
        ),
        "{said}"
    );
}

#[test]
fn a_report_as_records() {
    insta::assert_snapshot!("patchy_json", as_json(&patchy(), Some(1)));
}

#[test]
fn verdicts_as_records_are_those_that_were_given() {
    let report = report(lines());
    let said = as_json(&report, None);
    let given: Vec<Record> = said
        .lines()
        .filter(|line| line.contains(r#""type":"verdict""#))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(given.iter().collect::<Vec<_>>(), report.stories[0].verdicts.iter().collect::<Vec<_>>());
}

#[test]
fn no_trouble_is_said_in_one_sentence() {
    let quiet = report([start(&Thresholds::default())]);
    assert!(text(&quiet).ends_with("\n\nNo trouble: no verdict in 1 record.\n"), "{}", text(&quiet));
}

#[test]
fn the_limit_is_of_each_incident_and_says_how_to_see_more() {
    let deaths: Vec<_> = (1..=6).map(|number| death(number, 400_000, 360_000)).collect();
    let report = report(in_order(deaths));
    let shown = |limit| {
        let said = text_with(&report, limit, Palette::PLAIN);
        (
            said.matches("from verdict").count(),
            said.lines().rfind(|line| line.contains("more:")).map(str::to_owned),
        )
    };
    let more = "  5 more: --socket 2, --socket 3, --socket 4 and so on; all with --limit 6";
    assert_eq!(shown(None), (1, Some(more.to_owned())));
    assert_eq!(shown(Some(0)).0, 0);
    assert_eq!(shown(Some(6)), (6, None));
    let timelines = |limit| as_json(&report, limit).matches(r#""type":"timeline""#).count();
    assert_eq!([timelines(None), timelines(Some(2))], [6, 2]);
}

/// Whatever a process or a recording calls itself.
#[test]
fn names_cannot_move_the_cursor() {
    let hostile = "\u{1b}[2J\n\u{202e}x";
    let mut records = death(1, 400_000, 360_000);
    for record in &mut records {
        record.host = Arc::from(hostile);
        if let Body::Event(event) = &mut record.body {
            event.socket_mut().comm = Some(hostile.into());
            event.socket_mut().cgroup = Some(hostile.into());
        }
    }
    let report = report_with(Options::default(), records);
    for line in text(&report).lines().chain(as_json(&report, None).lines()) {
        assert_eq!(printable(line), line);
    }
    assert!(text(&report).contains("\\u{1b}[2J"));
}

#[test]
fn colours_change_nothing_but_the_colours() {
    let report = report(lines());
    let coloured = text_with(&report, None, Palette::COLOURED);
    assert!(coloured.contains('\u{1b}'));
    assert_eq!(without_colours(&coloured), text(&report));
}

/// The text without its colours.
fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, escaped)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = escaped.split_once('m').map_or("", |(_, after)| after);
    }
    plain + rest
}

#[test]
fn clocks_that_differ_by_less_than_can_be_told_agree() {
    let clock = |ahead_ns| ClockOffset {
        host: "db-1".into(),
        reference: "web-1".into(),
        ahead_ns,
        uncertainty_ns: 64_000,
        changes: 5,
    };
    let agree = "the clocks of db-1 and web-1 agree within 64 µs (by 5 state changes that both saw)";
    assert_eq!(clocks(&clock(-3_000)), agree);
    assert!(clocks(&clock(-90_000)).starts_with("the clock of db-1 is 90 µs behind that of web-1"));
}

#[test]
fn no_line_is_wider_than_eighty_columns() {
    for report in [report(lines()), patchy()] {
        for line in text(&report).lines() {
            assert!(unicode_width::UnicodeWidthStr::width(line) <= 80, "{line}");
        }
    }
}
