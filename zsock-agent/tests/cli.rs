//! The command line as a user meets it: help, version, wrong usage, and what is said about each.

use std::fmt::Write as _;
use std::process::{Command, Output, Stdio};

/// Runs `zsock` away from any terminal and whatever the environment says about one.
fn zsock(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zsock"));
    for variable in ["COLUMNS", "LINES", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    command.args(arguments.split_whitespace()).stdin(Stdio::null()).output().expect("zsock starts")
}

/// What a terminal would show of a run, and how it ended.
fn transcript(arguments: &str) -> String {
    let Output { status, stdout, stderr } = zsock(arguments);
    let mut text = format!("$ zsock {arguments}\n");
    for (name, bytes) in [("stdout", stdout), ("stderr", stderr)] {
        if !bytes.is_empty() {
            let content = String::from_utf8(bytes).expect("zsock writes UTF-8");
            write!(text, "[{name}]\n{content}").expect("a String takes all");
        }
    }
    text + &format!("[{status}]\n")
}

#[test]
fn help_says_what_each_command_and_option_does() {
    insta::assert_snapshot!("help", transcript("--help"));
    insta::assert_snapshot!("trace_help_short", transcript("trace -h"));
    insta::assert_snapshot!("trace_help", transcript("trace --help"));
}

#[test]
fn nothing_to_do_is_wrong_usage_and_shows_the_help() {
    insta::assert_snapshot!("no_arguments", transcript(""));
}

#[test]
fn the_version_is_the_packages() {
    let expected =
        format!("$ zsock --version\n[stdout]\nzsock {}\n[exit status: 0]\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(transcript("--version"), expected);
}

#[test]
fn wrong_usage_ends_with_status_2_and_the_rule_that_it_broke() {
    let wrong = [
        "unknown",
        "trace --unknown",
        "trace extra",
        "trace --events some",
        "trace --output html",
        "trace --color sometimes",
        "trace --threshold",
        "trace --threshold stuck_retransmission",
        "trace --threshold stuck_retransmission=",
        "trace --threshold nonsense=5",
        "trace --threshold silent_death=1",
        "trace --threshold stale_reset=90%",
        "trace --duration 0s",
        "trace --duration 30",
        "trace --duration -5s",
        "trace --duration 5x",
        "trace --buffer-size 3MiB",
        "trace --buffer-size 8MB",
        "trace --buffer-size 2GiB",
        "trace --max-memory 16",
        "trace --max-memory 64MiB",
        "trace --max-memory 1GiB --buffer-size 1GiB",
        "trace --pid 0",
        "trace --pid nginx",
        "trace --comm a-name-of-17-byte",
        "trace --port 0",
        "trace --port 70000",
        "trace --port http",
        "trace --local 10.0.0.0/40",
        "trace --local 2001:db8::/129",
        "trace --local 10.0.0.1:0",
        "trace --local 10.0.0.1:70000",
        "trace --local 2001:db8::/32:443",
        "trace --remote example.org:443",
        "trace --remote [2001:db8::1",
        "trace --netns 0",
        "trace --cgroup system.slice",
        "trace --state ESTABLISH",
        "trace --verdict silent_deth",
    ];
    let transcripts: Vec<String> = wrong.into_iter().map(transcript).collect();
    let otherwise: Vec<&String> = transcripts
        .iter()
        .filter(|text| text.contains("[stdout]") || !text.ends_with("[exit status: 2]\n"))
        .collect();
    assert_eq!(otherwise, Vec::<&String>::new());
    insta::assert_snapshot!("wrong_usage", transcripts.join("\n"));
}

#[test]
fn a_network_namespace_that_does_not_exist_is_a_failure_with_its_cause() {
    let expected = "$ zsock trace --netns /run/netns/no-such-name\n\
                    [stderr]\n\
                    error: cannot look up network namespace /run/netns/no-such-name; `ip netns` and `lsns -t net` list \
                    those that exist\n  \
                    because: No such file or directory (os error 2)\n\
                    [exit status: 1]\n";
    assert_eq!(transcript("trace --netns /run/netns/no-such-name"), expected);
}

#[test]
fn without_a_stdout_there_is_nothing_to_trace_for() {
    let command = concat!("exec ", env!("CARGO_BIN_EXE_zsock"), " trace >&-");
    let ended = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).output().expect("a shell");
    assert_eq!((ended.status.code(), ended.stderr), (Some(0), Vec::new()));
}

#[test]
fn usage_errors_are_coloured_only_where_that_is_asked_for() {
    let coloured = |arguments: &str| zsock(arguments).stderr.contains(&0x1b);
    assert!(!coloured("trace --pid 0"));
    assert!(!coloured("trace --pid 0 --color never"));
    assert!(coloured("trace --pid 0 --color always"));
}
