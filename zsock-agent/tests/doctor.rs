//! `zsock doctor` as whoever has no rights runs it, and how it ends.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The user nobody, and its group.
const NOBODY: u32 = 65_534;

/// A command that runs `zsock doctor` as nobody, where the test may become so, and else as whoever it is. The file is what is run: keep it open.
fn unprivileged(arguments: &[&str]) -> (Command, File) {
    // Nobody may not be able to find the way to it.
    let binary = File::open(env!("CARGO_BIN_EXE_zsock")).expect("zsock was built with this test");
    let mut command = Command::new(format!("/proc/self/fd/{}", binary.as_raw_fd()));
    command.arg("doctor").args(arguments).stdin(Stdio::null()).env_remove("COLUMNS");
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    (command, binary)
}

fn run_unprivileged(arguments: &[&str]) -> Output {
    let (mut command, _binary) = unprivileged(arguments);
    command.output().expect("zsock starts")
}

/// What it says to a pipeline.
fn records() -> Vec<Value> {
    let Output { status, stdout, stderr } = run_unprivileged(&["-o", "json"]);
    assert_eq!((status.code(), &*String::from_utf8_lossy(&stderr)), (Some(0), ""));
    let text = String::from_utf8(stdout).expect("JSON is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn text<'a>(record: &'a Value, field: &str) -> Option<&'a str> {
    record.get(field)?.as_str()
}

fn of_type<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| text(record, "type") == Some(kind)).collect()
}

#[test]
fn without_rights_every_answer_is_one_of_three_and_none_is_made_up() {
    let records = records();
    let kinds: BTreeSet<_> = records.iter().filter_map(|record| text(record, "type")).collect();
    assert_eq!(kinds, ["check", "doctor", "hook", "sysctl"].into());
    for record in &records {
        assert_eq!(record["schema"], 1, "{record}");
        for field in ["ts", "host"] {
            assert!(text(record, field).is_some(), "no {field} in {record}");
        }
    }
    for record in of_type(&records, "check").into_iter().chain(of_type(&records, "hook")) {
        let answer = text(record, "answer");
        assert!(matches!(answer, Some("yes" | "no" | "unknown")), "{record}");
        assert_eq!(text(record, "why").is_some(), answer != Some("yes"), "{record}");
    }
    let hooks = of_type(&records, "hook");
    assert!(hooks.len() >= 14, "{hooks:#?}");
    for hook in hooks {
        assert_ne!(text(hook, "answer"), Some("yes"), "{hook}");
        assert!(text(hook, "lost").is_some(), "{hook}");
        if text(hook, "answer") == Some("unknown") {
            assert_eq!(text(hook, "why"), Some("CAP_BPF and CAP_PERFMON are missing"), "{hook}");
        }
    }
    let trace = records.iter().find(|record| text(record, "name") == Some("trace")).expect("a check");
    assert_eq!(text(trace, "answer"), Some("no"), "{trace}");
}

#[test]
fn without_rights_the_settings_of_the_own_network_namespace_are_told() {
    let records = records();
    let own = fs::metadata("/proc/self/ns/net").expect("every process has one").ino();
    let settings = of_type(&records, "sysctl");
    let settings: Vec<_> = settings.into_iter().filter(|setting| setting["netns"] == own).collect();
    assert!(settings.len() >= 9, "{settings:#?}");
    for setting in settings {
        let name = text(setting, "name").expect("a setting has a name");
        let file = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).expect("it is there");
        assert_eq!(setting["value"].to_string(), file.trim(), "{name}");
        assert!(text(setting, "consequence").is_some_and(|words| !words.is_empty()), "{setting}");
    }
}

#[test]
fn a_person_is_told_the_same() {
    let Output { status, stdout, stderr } = run_unprivileged(&[]);
    assert_eq!((status.code(), &*String::from_utf8_lossy(&stderr)), (Some(0), ""));
    let page = String::from_utf8(stdout).expect("zsock writes UTF-8");
    let said = |answer: &str, name: &str| {
        let head = format!("  {answer:<14} {name}");
        page.lines()
            .any(|line| line.strip_prefix(&head).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')))
    };
    for record in records() {
        let answer = match text(&record, "answer") {
            Some("unknown") => "could not tell",
            Some(answer) => answer,
            None => continue,
        };
        // Of a network namespace is told by its group.
        let name = text(&record, "name").expect("an answer has a name");
        assert!(record.get("netns").is_some() || said(answer, name), "{answer} {name} in\n{page}");
    }
    assert!(!page.contains('\u{1b}'), "{page}");
    let coloured = run_unprivileged(&["--color", "always"]).stdout;
    assert!(coloured.contains(&0x1b));
}

#[test]
fn lines_are_as_wide_as_columns_says() {
    let (mut command, _binary) = unprivileged(&[]);
    let page = command.env("COLUMNS", "90").output().expect("zsock starts").stdout;
    let page = String::from_utf8(page).expect("zsock writes UTF-8");
    let long: Vec<&str> = page.lines().filter(|line| line.chars().count() > 90).collect();
    assert!(page.lines().count() > 60 && long.is_empty(), "{long:#?}");
}

#[test]
fn a_reader_who_has_seen_enough_ends_it_quietly() {
    let (mut command, _binary) = unprivileged(&["-o", "json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("zsock starts");
    drop(child.stdout.take());
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("it is piped");
    stderr.read_to_string(&mut said).expect("zsock writes UTF-8");
    let status = child.wait().expect("a child can be waited for");
    assert_eq!((status.code(), &*said), (Some(0), ""));
}

#[test]
fn what_cannot_be_written_is_a_failure() {
    let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
    let (mut command, _binary) = unprivileged(&[]);
    let Output { status, stderr, .. } = command.stdout(full).output().expect("zsock starts");
    let expected = "error: write to stdout: make room where it goes, or send it elsewhere\n  \
                    because: No space left on device (os error 28)\n";
    assert_eq!((status.code(), &*String::from_utf8_lossy(&stderr)), (Some(1), expected));
}
