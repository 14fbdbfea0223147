//! The page as a browser that runs nothing would read it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::samples::{birth, report};
use super::{SCRIPT, STYLE, TEMPLATE, around_data, write};
use crate::engine::Timeline;
use crate::record::{Event, State, StateChange, Tcp, What};
use crate::report::{Report, Story};
use crate::sink::html::bars::{Bar, bars};
use crate::sink::samples::{about, at, nginx};

fn page(report: &Report) -> String {
    let mut page = Vec::new();
    write(report, &mut page).unwrap();
    String::from_utf8(page).unwrap()
}

/// What a browser takes for the content of the first element that begins with `tag`.
fn content<'a>(page: &'a str, tag: &str, end: &str) -> &'a str {
    page.split_once(tag).unwrap().1.split_once(end).unwrap().0
}

fn data(report: &Report) -> Value {
    serde_json::from_str(content(&page(report), "id=\"data\">", "</script>")).unwrap()
}

/// Replaces places in the table of strings by the strings.
fn spelt(data: &Value, place: &Value) -> Value {
    data["strings"][usize::try_from(place.as_u64().unwrap()).unwrap()].clone()
}

#[test]
fn a_page_is_whole_without_any_other_file() {
    let page = page(&report("checkout"));
    for outside in ["http:", "https:", "src=", "href=", "@import", "url(", "fetch(", "innerHTML", "eval("] {
        assert!(!page.contains(outside), "{outside}");
    }
    for part in [STYLE, SCRIPT] {
        assert!(
            !part.contains("</") && !part.contains("<!--") && !part.contains("@data@"),
            "it would end its element"
        );
    }
    for mark in ["@policy@", "@style@", "@data@", "@script@"] {
        assert_eq!((TEMPLATE.matches(mark).count(), page.matches(mark).count()), (1, 0), "{mark}");
    }
}

#[test]
fn the_policy_allows_the_script_and_the_style_that_are_in_the_page_and_nothing_else() {
    let page = page(&report("checkout"));
    let policy = content(&page, "Content-Security-Policy\" content=\"", "\"");
    let hash = |tag, end| super::hash(content(&page, tag, end));
    let (style, script) = (hash("<style>", "</style>"), hash("<script type=\"module\">", "</script>"));
    assert_eq!(
        policy,
        format!(
            "default-src 'none'; base-uri 'none'; form-action 'none'; style-src '{style}'; script-src '{script}'"
        )
    );
    // That of nothing is known from elsewhere: what is compared are SHA-256 in base64.
    assert_eq!(super::hash(""), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
}

#[test]
fn a_hostile_name_ends_no_element_and_stays_the_name() {
    let name = "</script><script>alert(1)</script><!-- & \"'";
    let [before, after] = around_data();
    let page = page(&report(name));
    let data = page.strip_prefix(&before).and_then(|rest| rest.strip_suffix(&after)).unwrap();
    assert!(!data.contains(['<', '>', '&']), "{data}");
    assert!(data.contains(r"\u003c/script\u003e\u003cscript\u003ealert(1)"));
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(spelt(&data, &data["runs"][0]["host"]), name);
    assert_eq!(spelt(&data, &data["stories"][0]["process"]), name);
    assert_eq!(spelt(&data, &data["incidents"][0]["summary"]), name);
}

#[test]
fn what_is_not_to_be_seen_is_written_out() {
    let page = page(&report("\u{202e}gnp\u{2028}\u{1b}[2J\u{200b}"));
    assert!(page.contains(r"\\u{202e}gnp\\u{2028}\\u{1b}[2J\\u{200b}"));
    assert!(!page.contains(['\u{202e}', '\u{2028}', '\u{1b}', '\u{200b}']));
}

#[test]
fn the_data_of_a_report_in_full() {
    let data = data(&report("checkout"));
    let lines = data.as_object().unwrap().iter().flat_map(|(name, value)| {
        let items = value.as_array().map(|items| items.iter().enumerate());
        let of_items = items.map(|items| items.map(|(at, item)| format!("{name}[{at}]: {item}\n")).collect());
        of_items.unwrap_or_else(|| vec![format!("{name}: {value}\n")])
    });
    insta::assert_snapshot!("data", lines.collect::<String>());
}

#[test]
fn nothing_at_all_is_a_page_too() {
    let data = data(&Report::default());
    assert_eq!((&data["base_ms"], &data["stories"], &data["strings"]), (&json!(0), &json!([]), &json!([])));
}

#[test]
fn times_count_from_the_earliest_one() {
    let data = data(&report("checkout"));
    assert_eq!(data["base_ms"], birth().as_unix_ns() / 1_000_000);
    assert_eq!(data["stories"][0]["entries"][0][0], 0);
    let since_birth = at(20_000).since(birth()).as_micros();
    assert_eq!(data["stories"][0]["verdicts"][0]["opened"], json!(u64::try_from(since_birth).unwrap()));
}

#[test]
fn what_is_open_has_no_end_and_what_is_final_was_never_open() {
    let data = data(&report("checkout"));
    let spans = |story: usize| {
        let verdicts = data["stories"][story]["verdicts"].as_array().unwrap().iter();
        let is = |verdict: &Value, field: &str| !verdict[field].is_null();
        verdicts
            .map(|verdict| {
                (
                    is(verdict, "opened"),
                    is(verdict, "closed"),
                    verdict["is_good"] == true,
                    verdict["told"].as_array().unwrap().len(),
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(spans(0), [(true, true, false, 3), (false, true, false, 1)]);
    assert_eq!(spans(1), [(true, true, true, 2), (true, false, false, 1)]);
}

/// A socket's bars, in milliseconds, of what is told of it from 0 to 1,000 ms.
fn drawn(events: &[(u64, What, Option<State>)]) -> Vec<(u64, u64, State)> {
    let mut timeline = Timeline::default();
    for (ms, what, state) in events {
        let tcp = Tcp { state: *state, ..Tcp::default() };
        let event =
            Event { what: what.clone(), socket: Arc::new(nginx()), tcp, replayed: false, inferred: false };
        timeline.add(at(*ms), &event);
    }
    let subject = about(nginx(), Tcp::default());
    let span = (at(0), at(1_000));
    let story =
        Story { run: 0, subject, verdicts: Vec::new(), order: Vec::new(), timeline, span, other_end: None };
    let ms = |time: crate::time::Time| u64::try_from(time.since(at(0)).as_millis()).unwrap();
    bars(&story).into_iter().map(|Bar { from, until, state }| (ms(from), ms(until), state)).collect()
}

const fn change(from: State, to: State) -> What {
    What::State(StateChange { from, to })
}

fn look() -> What {
    What::Sample(Box::default())
}

#[test]
fn a_state_lasts_from_its_change_to_the_next_one() {
    let life = [
        (100, change(State::CLOSE, State::SYN_SENT), None),
        (200, change(State::SYN_SENT, State::ESTABLISHED), None),
        (700, change(State::ESTABLISHED, State::CLOSE), Some(State::CLOSE)),
    ];
    assert_eq!(drawn(&life), [(100, 200, State::SYN_SENT), (200, 700, State::ESTABLISHED)]);
    assert_eq!(drawn(&life[..2]), [(100, 200, State::SYN_SENT), (200, 1_000, State::ESTABLISHED)]);
    assert_eq!(
        drawn(&life[1..2]),
        [(0, 200, State::SYN_SENT), (200, 1_000, State::ESTABLISHED)],
        "its first change tells what it was before"
    );
}

#[test]
fn what_nobody_saw_of_a_state_is_not_drawn() {
    assert_eq!(drawn(&[]), []);
    assert_eq!(
        drawn(&[(300, look(), Some(State::ESTABLISHED)), (600, look(), Some(State::CLOSE_WAIT))]),
        [(600, 1_000, State::CLOSE_WAIT)],
        "it was seen once in the first"
    );
    let missed = [
        (100, change(State::CLOSE, State::ESTABLISHED), None),
        (400, look(), Some(State::ESTABLISHED)),
        (800, change(State::CLOSE_WAIT, State::LAST_ACK), None),
    ];
    assert_eq!(drawn(&missed), [(100, 400, State::ESTABLISHED), (800, 1_000, State::LAST_ACK)]);
}

#[test]
fn a_missing_middle_is_no_state_where_its_two_sides_disagree() {
    let mut events = vec![(0, change(State::CLOSE, State::ESTABLISHED), None)];
    events.extend((1..16).map(|ms| (ms, look(), Some(State::ESTABLISHED))));
    // These are the ones for which there is no room.
    events.extend((100..110).map(|ms| (ms, look(), Some(State::ESTABLISHED))));
    events.extend((500..548).map(|ms| (ms, look(), Some(State::CLOSE_WAIT))));
    assert_eq!(drawn(&events), [(0, 15, State::ESTABLISHED), (500, 1_000, State::CLOSE_WAIT)]);
}
