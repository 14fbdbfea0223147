//! How a trace ends, and what it does when nobody reads it.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use super::{Client, echo_server};
use crate::bytes::Bytes;
use crate::net::{Ip, Net};
use crate::peer::Peer;
use crate::proc::await_timeouts;
use crate::story::{Connection, Line, assert_near};
use crate::zsock::{Zsock, exit_after_closed_stdout, is_left_out, program};
use crate::{kernel, now, patience, slowness};

pub(super) fn sigint_and_sigterm_end_it_in_order() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let zsock = Zsock::start(&[]);
        // That there is an `end` record in the last place is checked of every recording.
        let Some(seen) = zsock.stop_with(signal) else { return };
        seen.complete();
    }
}

/// Some come before the trace has begun.
pub(super) fn whatever_the_signals_it_ends_once_and_in_order() {
    use Signal::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};
    let cases: [(bool, &[Signal]); 5] = [
        (true, &[SIGHUP]),
        (true, &[SIGINT, SIGINT, SIGTERM]),
        (true, &[SIGPIPE, SIGTERM]),
        (false, &[SIGINT]),
        (false, &[SIGTERM, SIGTERM]),
    ];
    for (has_begun, signals) in cases {
        let arguments = ["-o", "json"];
        let zsock = if has_begun { Bytes::start(&arguments) } else { Bytes::spawn(&arguments) };
        let Some(zsock) = zsock else { return };
        if !has_begun {
            zsock.wait_until_it_listens();
        }
        let left = zsock.stop_with(signals);
        left.assert_in_order();
        assert_eq!(kernel::beside_lacks(&String::from_utf8_lossy(&left.stderr)), "");
        let told = String::from_utf8(left.stdout).expect("JSON is UTF-8");
        let kinds: Vec<_> = told.lines().map(|line| Line::new(line, now())).collect();
        let kinds: Vec<_> =
            [kinds.first(), kinds.last()].map(|line| line.and_then(|it| it.text("type"))).into();
        assert_eq!(kinds, [Some("start"), Some("end")], "after {signals:?}: {told}");
        assert_eq!(told.matches("\"type\":\"end\"").count(), 1, "after {signals:?}: {told}");
    }
}

pub(super) fn a_full_disk_is_a_failure_that_says_what_to_do() {
    let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
    let Some(ended) = run(Command::new(program()).args(["trace", "--duration", "10s"]).stdout(full)) else {
        return;
    };
    let expected = "error: write to stdout: make room where it goes, or send it elsewhere\n  \
                    because: No space left on device (os error 28)\n";
    let said = kernel::beside_lacks(&String::from_utf8_lossy(&ended.stderr));
    assert_eq!((ended.status.code(), &*said), (Some(1), expected));
}

/// In a user namespace of its own root has no power over the kernel.
pub(super) fn without_privileges_it_says_what_to_do() {
    let mut command = Command::new(program());
    command.args(["trace", "--duration", "1s"]);
    let leave = || unshare(CloneFlags::CLONE_NEWUSER).map_err(std::io::Error::from);
    // SAFETY: between fork and exec it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(leave) };
    let Some(ended) = run(&mut command) else { return };
    let said = String::from_utf8(ended.stderr).expect("zsock writes UTF-8");
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(1), 0), "{said}");
    let lines: Vec<_> = said.lines().collect();
    let [error, causes @ ..] = &lines[..] else { panic!("it says nothing") };
    assert!(error.starts_with("error: ") && error.contains("root"), "{said}");
    assert!(!causes.is_empty() && causes.iter().all(|line| line.starts_with("  because: ")), "{said}");
}

pub(super) fn a_closed_stderr_changes_nothing() {
    let script = format!("exec {} trace -vv -o json --duration 500ms 2>&-", program().display());
    let Some(ended) = run(Command::new("sh").args(["-c", &script])) else { return };
    let told = String::from_utf8(ended.stdout).expect("JSON is UTF-8");
    assert_eq!(ended.status.code(), Some(0), "{told}");
    let records = told.lines().map(|line| Line::new(line, now()));
    assert!(records.map(|line| line.record.is_object()).eq(told.lines().map(|_| true)), "{told}");
    assert!(told.contains("\"type\":\"end\""), "{told}");
}

pub(super) fn colour_is_for_terminals_or_on_demand() {
    let cases = [
        (&["trace", "--duration", "1ms"][..], "", false),
        (&["trace", "--duration", "1ms", "--color", "always"], "1", true),
        (&["trace", "--duration", "1ms", "--color", "never"], "", false),
        (&["trace", "--duration", "1ms", "--color", "always", "-o", "json"], "", false),
    ];
    for (arguments, no_color, is_coloured) in cases {
        let Some(ended) = run(Command::new(program()).args(arguments).env("NO_COLOR", no_color)) else {
            return;
        };
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}");
        assert_eq!(ended.stdout.contains(&0x1b), is_coloured, "{arguments:?}");
    }
}

/// What a command gives that ends by itself; `None` in a dry run.
fn run(command: &mut Command) -> Option<Output> {
    (!is_left_out()).then(|| command.stdin(Stdio::null()).stderr(Stdio::piped()).output().expect("it starts"))
}

pub(super) fn an_open_verdict_stays_open() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start(&["--threshold", "stuck_retransmission=2"]);
    let mut client = Client::connect(&net, "stuck", &Ip::V4.server(server_port));
    net.block();
    client.peer.ask("write 100").expect("wrote");
    await_timeouts(&net.client, client.port, 2);
    zsock.wait_for("the verdict", |line| {
        line.text("phase") == Some("opened") && line.number("socket.netns") == Some(net.client.inode())
    });

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let verdicts = Connection { lines: seen.of_local_port(&net.client, client.port).of_type("verdict") };
    verdicts.assert_story(&["verdict stuck_retransmission opened"]);
    let end = seen.end();
    assert!(end.figure("open_verdicts") >= 1 && end.figure("verdicts") >= 1, "{}", end.record);
}

pub(super) fn it_ends_when_its_time_is_up() {
    let Some(seen) = Zsock::start(&["--duration", "2s"]).finish() else { return };
    let seen = seen.complete();
    let ran = seen.end().millis("duration_ms");
    assert_near("duration", ran, Duration::from_secs(2), Duration::from_millis(500));
}

pub(super) fn a_closed_stdout_ends_it_quietly() {
    let Some((status, took, complaints)) = exit_after_closed_stdout(&["--events", "none"]) else { return };
    assert!(status.success(), "ended with {status}");
    assert_eq!(kernel::beside_lacks(&complaints), "");
    assert!(took <= patience(Duration::from_secs(3)), "noticed only after {took:?}");
}

/// Some 80 MB of records that nobody reads: far more than zsock may keep.
pub(super) fn a_blocked_stdout_loses_records_and_says_so() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start_with_all_events(&net);
    zsock.pause();
    let mut client = Peer::start(&net.client, "churn");
    let address = Ip::V4.server(server_port);
    client.ask(&format!("churn {address} {}", 20_000 / slowness())).expect("churned");
    zsock.resume();

    let Some(seen) = zsock.stop() else { return };
    let told: u64 = seen.of_type("lost").map(|line| line.figure("count")).sum();
    assert!(told > 0, "nothing lost in {}", seen.end().record);
    assert_eq!(seen.end().figure("lost_events"), told);
}
