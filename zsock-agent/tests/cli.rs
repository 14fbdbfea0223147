//! The command line as a user meets it: help, version, wrong usage, and what is said about each.
//!
//! What `--help`, README and the contract promise of exit statuses, signals and arguments, and which test holds it to that. Those of
//! `kernel` are end to end, in `tests/kernel/scenarios`.
//!
//! | promise | test |
//! |---|---|
//! | status 0: done, ended by `--duration` | `kernel exit::it_ends_when_its_time_is_up` |
//! | SIGINT and SIGTERM end a trace in order: pending records, an `end` record, status 0 | `kernel exit::sigint_and_sigterm_end_it_in_order` |
//! | the same before `start`, of more signals than one, of SIGHUP; SIGPIPE ends nothing | `kernel exit::whatever_the_signals_it_ends_once_and_in_order` |
//! | a closed stdout ends it quietly, status 0, within a second even when there is nothing to print | `kernel exit::a_closed_stdout_ends_it_quietly`, from the start on `without_a_stdout_there_is_nothing_to_trace_for` |
//! | a verdict still open is not closed by the end | `kernel exit::an_open_verdict_stays_open` |
//! | status 1: failed, one line `error: …` that says what to do, the causes below | `a_network_namespace_that_does_not_exist_is_a_failure_with_its_cause`, `what_cannot_be_written_is_a_failure`, `too_few_files_are_a_failure_that_says_what_to_do`, `kernel exit::a_full_disk_is_a_failure_that_says_what_to_do`, `kernel exit::without_privileges_it_says_what_to_do` |
//! | status 2: wrong usage | `wrong_usage_ends_with_status_2_and_the_rule_that_it_broke`, `nothing_at_all_is_no_value`, `arguments_of_any_bytes_are_refused_in_words` |
//! | an unknown threshold or a value of the wrong kind is wrong usage | `wrong_usage_ends_with_status_2_and_the_rule_that_it_broke` |
//! | selectors, repeatable, OR-ed and AND-ed | `kernel selectors::each_kind_selects_by_what_it_names`, the tests of `select` |
//! | records go to stdout, everything else to stderr; that may be closed | `kernel exit::a_closed_stderr_changes_nothing`, `kernel hostile` |
//! | text is coloured only on a terminal; `NO_COLOR` and `--color` are honoured | `kernel exit::colour_is_for_terminals_or_on_demand`, `usage_errors_are_coloured_only_where_that_is_asked_for`, the tests of `cli` |
//! | strings that an untrusted process chose are escaped | `kernel hostile`, `arguments_of_any_bytes_are_refused_in_words` |
//! | `report`: 0 all was read; 1 part of it could not be, and the report is on the rest; or nothing could be | `what_cannot_be_read_is_named_and_the_rest_is_told`, `where_nothing_can_be_read_nothing_is_told` |
//! | a slow reader never holds zsock up; what is lost is told | `kernel exit::a_blocked_stdout_loses_records_and_says_so` |

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::ffi::OsStringExt as _;
use std::process::{Command, Output, Stdio};

use zsock_agent::cli::options_with_values;

/// Runs `zsock` away from any terminal and whatever the environment says about one.
fn zsock(arguments: &str) -> Output {
    zsock_with(arguments.split_whitespace())
}

fn zsock_with(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zsock"));
    for variable in ["COLUMNS", "LINES", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    command.args(arguments).stdin(Stdio::null()).output().expect("zsock starts")
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
    insta::assert_snapshot!("audit_help_short", transcript("audit -h"));
    insta::assert_snapshot!("audit_help", transcript("audit --help"));
    insta::assert_snapshot!("doctor_help_short", transcript("doctor -h"));
    insta::assert_snapshot!("doctor_help", transcript("doctor --help"));
    insta::assert_snapshot!("keepalive_help", transcript("keepalive --help"));
    insta::assert_snapshot!("kill_help", transcript("kill --help"));
    insta::assert_snapshot!("report_help_short", transcript("report -h"));
    insta::assert_snapshot!("report_help", transcript("report --help"));
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

/// What no command takes.
const WRONG: &[&str] = &[
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
    "trace --threshold stuck_retransmission=0",
    "trace --threshold stuck_retransmission=2s",
    "trace --threshold keepalive_unanswered=1",
    "trace --threshold fd_pressure=101%",
    "trace --threshold accept_queue_full=1",
    "trace --threshold close_wait_leak=0s",
    "trace --duration 0s",
    "trace --duration 30",
    "trace --duration -5s",
    "trace --duration 5x",
    "trace --duration 1e3s",
    "trace --duration 2562047788015215h",
    "trace --scan-interval 10ms",
    "trace --assume-idle-timeout 0s",
    "trace --buffer-size 3MiB",
    "trace --buffer-size 8MB",
    "trace --buffer-size 2GiB",
    "trace --metrics localhost:9464",
    "trace --metrics 65536",
    "trace --metrics 10.0.0.1",
    "trace --max-cpu 0",
    "trace --max-cpu 101",
    "trace --max-cpu abc",
    "trace --max-memory 16",
    "trace --max-memory 64MiB",
    "trace --max-memory 1GiB --buffer-size 1GiB",
    "trace --pid 0",
    "trace --pid nginx",
    "trace --comm a-name-of-17-byte",
    "trace --port 0",
    "trace --port 65536",
    "trace --port -1",
    "trace --port http",
    "trace --local 10.0.0.0/40",
    "trace --local 2001:db8::/129",
    "trace --local 10.0.0.1:0",
    "trace --local 10.0.0.1:70000",
    "trace --local 2001:db8::/32:443",
    "trace --remote example.org:443",
    "trace --remote [2001:db8::1",
    "trace --netns 0",
    "trace --netns 4294967296",
    "trace --cgroup system.slice",
    "trace --state ESTABLISH",
    "trace --verdict silent_deth",
    "record",
    "record one two",
    "record DIR --max-size 100KiB",
    "record DIR --max-size 256",
    "record DIR --max-age 0s",
    "record DIR --events some",
    "record DIR --output json",
    "record DIR --max-memory 16MiB",
    "audit extra",
    "audit --group destinations",
    "audit --sort harmless",
    "audit --limit -1",
    "audit --limit many",
    "audit --all --limit 5",
    "audit --fail-on ever",
    "audit --fail-on",
    "audit --threshold unguarded_idle=2",
    "audit --assume-idle-timeout 0s",
    "audit --duration 5s",
    "audit --state ESTABLISH",
    "doctor extra",
    "doctor --output html",
    "doctor --color sometimes",
    "doctor --pid 1",
    "keepalive",
    "keepalive --comm nginx",
    "keepalive --idle 60s",
    "keepalive --idle 60s --yes --max 5 --threshold stale_reset=2s",
    "keepalive --comm nginx --idle 60s extra",
    "keepalive --comm nginx --idle 1500ms",
    "keepalive --comm nginx --idle 0s",
    "keepalive --comm nginx --idle 60",
    "keepalive --comm nginx --idle 32768s",
    "keepalive --comm nginx --interval 500ms",
    "keepalive --comm nginx --interval 10h",
    "keepalive --comm nginx --probes 0",
    "keepalive --comm nginx --probes 128",
    "keepalive --comm nginx --user-timeout 0s",
    "keepalive --comm nginx --user-timeout 1500us",
    "keepalive --comm nginx --user-timeout 25h25h",
    "keepalive --comm nginx --user-timeout 2147483648ms",
    "keepalive --comm nginx --user-timeout never",
    "keepalive --comm nginx --off --idle 60s",
    "keepalive --comm nginx --off --probes 3",
    "keepalive --comm nginx --off --max 0",
    "keepalive --comm nginx --off --duration 5s",
    "kill",
    "kill --yes",
    "kill --yes --max 1000 --assume-idle-timeout 4m -o json",
    "kill --comm nginx --max 0",
    "kill --comm nginx --max many",
    "kill --comm nginx --follow",
    "kill --comm nginx --output html",
    "kill --comm nginx --threshold nonsense=5",
    "kill --pid 0",
    "kill --verdict silent_death",
    "report --output pdf",
    "report --color sometimes",
    "report --since yesterday",
    "report --until 25:00",
    "report --socket xyz",
    "report --socket -1",
    "report --limit -1",
    "report --threshold nonsense=5",
    "report --assume-idle-timeout 0s",
    "report --pid 0",
    "report --duration 5s",
];

#[test]
fn wrong_usage_ends_with_status_2_and_the_rule_that_it_broke() {
    let transcripts: Vec<String> = WRONG.iter().copied().map(transcript).collect();
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

/// Whatever else is asked for, and before anything is looked at.
#[test]
fn to_act_on_every_socket_is_refused() {
    for arguments in ["kill", "kill --yes -v", "keepalive --off", "keepalive --idle 60s --yes --follow"] {
        let Output { status, stdout, stderr } = zsock(arguments);
        let said = String::from_utf8(stderr).expect("zsock writes UTF-8");
        assert_eq!((status.code(), stdout.len()), (Some(2), 0), "{arguments}: {said}");
        assert!(said.starts_with("error: without a selector this would act on every socket"), "{said}");
    }
}

#[test]
fn nothing_at_all_is_no_value() {
    for command in ["trace", "record", "audit", "doctor", "keepalive", "kill", "report"] {
        // A process may have no name, and be selected by that.
        let options = options_with_values(command).into_iter().filter(|option| option != "--comm");
        for option in options {
            let Output { status, stdout, stderr } = zsock_with([command, &*option, ""]);
            let said = String::from_utf8(stderr).expect("zsock writes UTF-8");
            assert_eq!((status.code(), stdout.len()), (Some(2), 0), "{command} {option}: {said}");
            assert!(said.starts_with("error: ") && said.contains(&*option), "{command} {option}: {said}");
        }
    }
}

/// A pipe is no terminal, and yet may lead to one.
#[test]
fn arguments_of_any_bytes_are_refused_in_words() {
    let hostile = [&b"\x1b[2J\x07\n"[..], b"\xff\xfe", "\u{85}\u{9b}2J\u{202e}\u{2028}".as_bytes()];
    let forms = [
        "",
        "--",
        "-",
        "--local=",
        "--remote=[",
        "--port=",
        "--pid=",
        "--cgroup=",
        "--netns=/run/netns/",
        "--state=",
        "--verdict=",
        "--threshold=",
        "--threshold=stale_reset=",
        "--duration=",
        "--buffer-size=",
        "--metrics=",
        "--color=",
    ];
    for (form, bytes) in forms.iter().flat_map(|form| hostile.map(|bytes| (form, bytes))) {
        let argument = OsString::from_vec([form.as_bytes(), bytes].concat());
        let Output { status, stdout, stderr } = zsock_with([OsStr::new("trace"), &argument]);
        let expected = if form.starts_with("--netns") { 1 } else { 2 };
        assert_eq!((status.code(), stdout.len()), (Some(expected), 0), "{argument:?}");
        let said = String::from_utf8(stderr).expect("zsock writes UTF-8");
        assert!(said.starts_with("error: "), "{said:?}");
        for line in said.lines() {
            assert_eq!(zsock_agent::record::printable(line), line);
        }
    }
}

/// Wherever it runs out of them.
#[test]
fn too_few_files_are_a_failure_that_says_what_to_do() {
    // What whoever runs the tests left open is closed.
    const LIMITED: &str = "ulimit -n \"$0\"; exec \"$@\" 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-";
    let expected = "error: open 128 files: allow zsock more (`ulimit -n 1024`, or LimitNOFILE=1024 in its unit)\n  \
                    because: Too many open files (os error 24)\n";
    for limit in ["4", "6", "9", "12", "30", "60", "100", "130"] {
        let mut shell = Command::new("sh");
        shell.args(["-c", LIMITED, limit, env!("CARGO_BIN_EXE_zsock"), "trace", "--duration", "1s"]);
        let Output { status, stderr, .. } = shell.stdin(Stdio::null()).output().expect("every Linux has it");
        let said = String::from_utf8_lossy(&stderr);
        assert_eq!((status.code(), &*said), (Some(1), expected), "with {limit}");
    }
}

#[test]
fn what_cannot_be_written_is_a_failure() {
    for arguments in ["--help", "--version", "trace --help"] {
        let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
        let ended = Command::new(env!("CARGO_BIN_EXE_zsock"))
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .expect("zsock starts");
        let expected = "error: write to stdout: make room where it goes, or send it elsewhere\n  \
                        because: No space left on device (os error 28)\n";
        assert_eq!((ended.status.code(), &*String::from_utf8_lossy(&ended.stderr)), (Some(1), expected));
    }
}

/// Before anything is attached, which takes rights that this needs none of.
#[test]
fn an_address_that_cannot_be_listened_on_is_a_failure_that_says_what_to_do() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback device is up");
    let taken = taken.local_addr().expect("it is bound").to_string();
    let in_use =
        "another program has this port, perhaps another zsock: give another one, or 0 for any that is free";
    // TEST-NET-1 is nobody's.
    let nowhere = "192.0.2.1:9464".to_owned();
    let no_address = "this host has no such address: give one of its own, or 0.0.0.0 for all";
    for (address, advice, cause) in [
        (&taken, in_use, "Address already in use (os error 98)"),
        (&nowhere, no_address, "Cannot assign requested address (os error 99)"),
    ] {
        let expected = format!(
            "[stderr]\nerror: listen on {address} for --metrics: {advice}\n  because: {cause}\n[exit status: 1]\n"
        );
        let told = transcript(&format!("trace --metrics {address} --duration 1s"));
        assert!(told.ends_with(&expected), "{told}");
    }
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

/// Runs `zsock report` with these arguments on what stdin gives.
fn report(arguments: &str, stdin: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zsock"));
    command.arg("report").args(arguments.split_whitespace()).env_remove("COLUMNS");
    let (output, mut input) = std::io::pipe().expect("a pipe");
    let child =
        command.stdin(output).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("zsock starts");
    drop(command);
    // Who has seen enough may leave before all is written.
    let _ = input.write_all(stdin);
    drop(input);
    child.wait_with_output().expect("it ends")
}

const RUN: &str = include_str!("data/forgotten_by_nat.ndjson");

#[test]
fn a_recording_is_read_from_a_file_or_from_stdin() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/forgotten_by_nat.ndjson");
    let from_file = report(path, b"");
    assert_eq!((from_file.status.code(), &*from_file.stderr), (Some(0), &b""[..]));
    let said = String::from_utf8(from_file.stdout.clone()).expect("zsock writes UTF-8");
    assert!(
        said.contains("1 connection of checkout (pid 18851) to 10.0.5.7:5432 died at 11:32:38"),
        "{said}"
    );
    for arguments in ["", "-"] {
        let from_stdin = report(arguments, RUN.as_bytes());
        assert_eq!((from_stdin.status.code(), from_stdin.stdout), (Some(0), from_file.stdout.clone()));
    }
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_told() {
    let (half, _) = RUN.split_at(RUN.len() / 2);
    let Output { status, stdout, stderr } = report("-", half.as_bytes());
    let (told, said) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert_eq!(status.code(), Some(1));
    assert!(told.contains("sent again 8 times") && told.contains("not read: - at byte"), "{told}");
    assert!(
        said.starts_with(
            "error: part of it could not be read; the report is on the rest\n  because: - at byte"
        ),
        "{said}"
    );
    let Output { status, stdout, stderr } = report("- /no/such/file", RUN.as_bytes());
    let (told, said) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert_eq!(status.code(), Some(1));
    assert!(told.contains("died at") && said.contains("/no/such/file"), "{told}{said}");
}

const AUDITED: &[u8] = br#"{"schema":1,"type":"socket","ts":"2026-11-22T02:10:04.000000000Z","host":"a"}"#;

#[test]
fn where_nothing_can_be_read_nothing_is_told() {
    for (arguments, stdin, why) in [
        ("-", &b""[..], "- at byte 0: is empty"),
        ("-", b"no record\n", "- at byte 0, line 1"),
        ("/no/such/file", b"", "/no/such/file"),
        ("-", AUDITED, "what is there was written by `zsock audit`"),
    ] {
        let Output { status, stdout, stderr } = report(arguments, stdin);
        let said = String::from_utf8_lossy(&stderr);
        assert_eq!((status.code(), stdout.len()), (Some(1), 0), "{said}");
        assert!(said.starts_with("error: ") && said.contains(why), "{said}");
    }
}

#[test]
fn a_reader_of_a_report_who_has_seen_enough_is_no_failure() {
    let command =
        concat!("\"$0\" report -o json ", env!("CARGO_MANIFEST_DIR"), "/tests/data/forgotten_by_nat.ndjson");
    let command = format!("{command} | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}");
    let ended =
        Command::new("bash").args(["-c", &command, env!("CARGO_BIN_EXE_zsock")]).output().expect("a shell");
    assert_eq!((ended.status.code(), &*ended.stderr), (Some(0), &b""[..]));
}
