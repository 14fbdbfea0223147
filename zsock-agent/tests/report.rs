//! `zsock report` on a recording, as it is called.

use std::process::{Command, Output};

const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/forgotten_by_nat.ndjson");

fn report(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zsock"))
        .args(["report", RUN])
        .args(arguments)
        .env_remove("COLUMNS")
        .output()
        .expect("zsock runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("zsock writes UTF-8")
}

#[test]
fn in_a_file_a_sentence_is_one_line() {
    let output = report(&[]);
    let told = text(&output.stdout);
    let sentence = told.lines().find(|line| line.starts_with('✖')).expect("it died");
    assert!(sentence.ends_with("312 bytes never acknowledged"), "{sentence}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_recording_that_is_named_twice_is_read_once() {
    let output = report(&[RUN]);
    assert!(text(&output.stdout).starts_with("27 records of web-1"), "{output:?}");
    assert!(text(&output.stderr).contains("is named twice: it is read once"), "{output:?}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_time_that_ends_before_it_begins_is_no_good_news() {
    let output = report(&["--since", "5m", "--until", "10m"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()));
    assert!(text(&output.stderr).starts_with("error: nothing is shown: --since is 2026-11-22T11:27:40"));
}

#[test]
fn a_time_of_which_nothing_was_read_is_said() {
    let beyond = "leave nothing to show: what was read reaches from 2026-11-22T11:11:58";
    for (window, is_beyond) in [
        (["--since", "2026-11-23"], true),
        (["--until", "2026-11-22"], true),
        (["--since", "2026-11-22"], false),
        (["--until", "11:20"], false),
    ] {
        let output = report(&window);
        assert_eq!(output.status.code(), Some(0), "{window:?}");
        assert_eq!(text(&output.stderr).contains(beyond), is_beyond, "{window:?}: {output:?}");
    }
}

#[test]
fn what_was_not_selected_is_not_called_healthy() {
    for selection in [["--since", "11:13"], ["--port", "1"]] {
        let arguments = [&selection[..], &["--until", "11:16"]].concat();
        let told = text(&report(&arguments).stdout);
        assert!(told.ends_with("\n\nNo verdict was given on what was selected, in 27 records.\n"), "{told}");
    }
}
