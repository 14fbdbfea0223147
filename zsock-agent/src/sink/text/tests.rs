use super::*;
use crate::sink::samples;

fn rendered(palette: Palette) -> String {
    let mut text = Text::new(palette);
    let (timeline, empty) = (samples::timeline(), Timeline::default());
    let of = |record: &Record| {
        let Body::Verdict(verdict) = &record.body else { return None };
        Some(if verdict.socket().is_some() { &timeline } else { &empty })
    };
    let mut lines = String::new();
    for record in &samples::all() {
        text.render(record, of(record), &mut |text| lines.push_str(text));
        text.flush(record.at, &mut |text| lines.push_str(text));
    }
    lines
}

#[test]
fn every_record_is_told_to_a_person() {
    insta::assert_snapshot!(rendered(Palette::PLAIN));
}

#[test]
fn colours_are_all_that_a_terminal_is_told() {
    let coloured = rendered(Palette::COLOURED);
    insta::assert_snapshot!(coloured.escape_debug().to_string().replace("\\n", "\n"));
    assert_eq!(uncoloured(&coloured), rendered(Palette::PLAIN));
}

/// `text` without its colours; any other control character stays.
pub(in crate::sink) fn uncoloured(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        plain + rest.strip_prefix('m').unwrap_or(part)
    })
}

#[test]
fn hostile_names_neither_move_the_cursor_nor_hide_text() {
    let plain = rendered(Palette::PLAIN);
    assert!(plain.contains("\\u{1b}[2J\\u{a}\\u{202e}"), "the sample with the hostile name is rendered");
    assert_eq!(plain.chars().filter(|&c| c != '\n' && (c.is_control() || c == '\u{202e}')).count(), 0);
}

#[test]
fn a_day_is_said_when_it_begins_and_with_a_time_of_another_day() {
    let day = |days: u64| Time::from_unix_ns(days * 86_400 * 1_000_000_000);
    let mut text = Text::new(Palette::PLAIN);
    let host = std::sync::Arc::from("web-1");
    let mut lines = |at| {
        let mut lines = String::new();
        let end = Record::new(at, &host, Body::End(Box::default()));
        text.render(&end, None, &mut |text| lines.push_str(text));
        lines
    };
    let end = "00:00:00.000  end after 0 ms: 0 events (0 lost) of 0 sockets, 0 verdicts (0 still open)\n";
    assert_eq!(lines(day(1)), format!("── 1970-01-02, UTC ──\n{end}"));
    assert_eq!(lines(day(1)), end);
    assert_eq!(lines(day(2)), format!("── 1970-01-03, UTC ──\n{end}"));
    assert_eq!(full_unless_today(day(1), day(1)), "00:00:00.000");
    assert_eq!(full_unless_today(day(1), day(2)), "1970-01-02 00:00:00.000");
}

#[test]
fn distances_have_a_direction() {
    let at = Time::from_unix_ns;
    assert_eq!(signed(at(5_000_000_000), at(3_400_000_000)), "-1.6 s");
    assert_eq!(signed(at(3_000_000_000), at(5_000_000_000)), "+2 s");
}
