//! `zsock report` on recordings of real connections.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::sethostname;

use super::Pair;
use crate::net::Net;
use crate::once::Once;
use crate::peer::Peer;
use crate::recorder::{Directory, Recorder};
use crate::story::{Line, assert_at};
use crate::zsock::program;

/// A recorder on a host of this name, for the sockets of one network namespace.
fn record_as(host: &'static str, directory: &Directory, netns: u64) -> Option<Recorder> {
    let mut command = Command::new(program());
    let rename = move || {
        unshare(CloneFlags::CLONE_NEWUTS)?;
        Ok(sethostname(host)?)
    };
    // SAFETY: between fork and exec, two system calls.
    unsafe { command.pre_exec(rename) };
    Recorder::start_by(command, directory, &["--events", "all", "--netns", &netns.to_string()])
}

/// A path that loses everything: the server's keepalive finds it first, the client's user timeout later. Each end is recorded on a host of
/// its own.
pub(super) fn both_ends_of_a_black_hole_are_one_timeline() {
    let net = Net::routed();
    let [of_client, of_server] = ["client", "server"].map(|end| Directory::new(&format!("both-{end}")));
    let recorders = [
        record_as("app-1", &of_client, net.client.inode()),
        record_as("db-1", &of_server, net.server.inode()),
    ];
    let mut pair = Pair::connect(&net, "app", "database");
    let exchange = |from: &mut Peer, to: &mut Peer| {
        from.ask("write 100").expect("wrote");
        to.ask("read 100").expect("read");
    };
    exchange(&mut pair.client, &mut pair.server);
    exchange(&mut pair.server, &mut pair.client);
    pair.client.ask("user-timeout 6000").expect("set");
    net.block();
    pair.server.ask("keepalive 1 1 2").expect("set");
    let server_gave_up = pair.server.ask("read 1");
    assert_eq!(server_gave_up.expect("error"), "ETIMEDOUT");
    pair.client.ask("write 100").expect("wrote");
    let client_learnt = pair.client.ask("read 1");
    assert_eq!(client_learnt.expect("error"), "ETIMEDOUT");
    sleep(Duration::from_millis(200));

    let [Some(client), Some(server)] = recorders else { return };
    for recorder in [client, server] {
        let (status, said) = recorder.stop();
        assert!(status.success(), "{status}: {said}");
    }
    let paths = [&of_client, &of_server].map(|directory| directory.path().to_str().expect("a plain name"));
    let Some(report) = Once::run(&["report", "-o", "json", paths[0], paths[1]]) else { return };
    assert!(report.status.success(), "{report:#?}");
    let of_type =
        |kind: &str| report.lines.iter().filter(|line| line.text("type") == Some(kind)).collect::<Vec<_>>();
    let mut verdicts = of_type("verdict");
    verdicts.sort_by_key(|line| line.ts());
    let deaths: Vec<(&str, &str)> = verdicts
        .into_iter()
        .filter(|line| line.text("verdict") == Some("silent_death"))
        .filter_map(|line| line.text("host").zip(line.text("evidence.cause")))
        .collect();
    assert_eq!(deaths, [("db-1", "keepalive_timeout"), ("app-1", "user_timeout")]);
    let timelines = of_type("timeline");
    assert_eq!(timelines.len(), 2, "{timelines:#?}");
    for (line, other) in timelines.iter().zip(timelines.iter().rev()) {
        assert_eq!(line.text("other_end.host"), other.text("host"), "{}", line.record);
        assert_eq!(line.text("other_end.id"), other.text("socket.id"), "{}", line.record);
    }
    let summary = timelines[0].text("other_end.summary").unwrap_or_default();
    assert!(summary.starts_with("the server (db-1) gave up at "), "{summary}");
    assert!(summary.contains(", the client (app-1) learnt of it at "), "{summary}");
    let ended = |host: &str| -> &Line {
        let is_end =
            |line: &&&Line| line.text("host") == Some(host) && line.text("verdict") == Some("silent_death");
        of_type("verdict").iter().find(is_end).copied().expect("each end died")
    };
    assert_at("the server's end", ended("db-1").ts(), server_gave_up.at, Duration::from_millis(200));
    assert_at("the client's end", ended("app-1").ts(), client_learnt.at, Duration::from_millis(200));
    // One kernel has one clock.
    let clocks = of_type("clock");
    assert_eq!(clocks.len(), 1, "{clocks:#?}");
    let ahead_us = clocks[0].get("ahead_us").and_then(serde_json::Value::as_i64).expect("a number");
    let uncertainty_us = clocks[0].figure("uncertainty_us");
    assert!(ahead_us.unsigned_abs() <= uncertainty_us + 20_000, "{}", clocks[0].record);

    let text = Command::new(program()).args(["report", paths[0], paths[1]]).output().expect("it was built");
    let text = String::from_utf8(text.stdout).expect("zsock writes UTF-8");
    // Where lines end is another matter.
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(summary), "{summary} is not in\n{text}");
}
