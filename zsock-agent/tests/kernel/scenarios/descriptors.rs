//! A server with 40 file descriptors and more clients than these.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use super::assert_owner;
use crate::net::{Ip, Net};
use crate::now;
use crate::peer::Peer;
use crate::story::{Connection, Line, Recording};
use crate::zsock::Zsock;

const LIMIT: usize = 40;

/// Three clients leave and are not let go, which makes three zombies among the connections that fill the table.
pub(super) fn a_server_with_fifty_clients() {
    const CLIENTS: usize = 50;
    const GONE: usize = 3;
    let net = Net::routed();
    let zsock = Zsock::start(&["--threshold", "close_wait_leak=1s"]);
    let (mut server, port) = server(&net, "full-server");
    let mut early = Peer::start(&net.client, "early");
    dial(&mut early, port, GONE);
    assert_eq!(server.ask("accept-all").expect("accepted"), GONE.to_string());
    early.exit();
    zsock.wait_for("the zombies", leaks(&net, GONE));

    let mut clients = Peer::start(&net.client, "clients");
    dial(&mut clients, port, CLIENTS - GONE);
    assert_eq!(server.ask("accept-all").expect("error"), "EMFILE");
    let failed = now();
    for _ in 0..4 {
        assert_eq!(server.ask("accept").expect("error"), "EMFILE");
    }
    let (open, sockets) = descriptors(&server);
    assert_eq!(open, LIMIT);
    zsock.wait_for("all failures", all_failures(&net, 5));
    zsock.wait_for("pressure", |line| of_server(line, &server) && line.text("phase") == Some("opened"));
    server.ask("let-go 12").expect("let-go");
    zsock.wait_for("relief", |line| of_server(line, &server) && line.text("outcome") == Some("relieved"));

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let listener = seen.of_listener(&net.server, port);
    assert_failures(&Connection { lines: listener.of_type("accept_failed") }, &server, 5);
    let pressure = seen.of_process(server.pid()).of_verdict("fd_pressure");
    pressure.assert_story(&["verdict fd_pressure opened", "verdict fd_pressure closed relieved"]);
    // Where a pass came in between, the failure raised what that had opened.
    let held = pressure.lines.iter().rfind(|line| line.text("phase") != Some("closed")).expect("it opened");
    assert_pressure(held, "full-server");
    assert!(held.arrived.since(failed) <= Duration::from_millis(1500), "{failed:?} in {}", held.record);
    assert_eq!(held.text("severity"), Some("critical"));
    let found = ["open_fds", "limit", "socket_fds", "zombie_fds"]
        .map(|name| held.figure(&format!("evidence.{name}")));
    assert_eq!(found, [LIMIT as u64, LIMIT as u64, sockets as u64, GONE as u64], "in {}", held.record);
    let peers = held.get("evidence.peers").map(ToString::to_string).unwrap_or_default();
    assert!(peers.contains("10.77.1.2") && !peers.contains("::ffff"), "peers in {}", held.record);
}

/// One server dies with nine in ten of its descriptors in use; another has seven in ten and lives on.
pub(super) fn a_server_that_exits_under_pressure_and_one_with_room() {
    let net = Net::routed();
    let zsock = Zsock::start(&[]);
    let (mut pressed, pressed_port) = server(&net, "pressed");
    let (mut roomy, roomy_port) = server(&net, "roomy");
    let mut clients = Peer::start(&net.client, "clients");
    for (server, port, percent) in [(&mut pressed, pressed_port, 90), (&mut roomy, roomy_port, 70)] {
        let count = LIMIT * percent / 100 - descriptors(server).0;
        dial(&mut clients, port, count);
        assert_eq!(server.ask("accept-all").expect("accepted"), count.to_string());
        assert_eq!(descriptors(server).0, LIMIT * percent / 100);
    }
    zsock.wait_for("pressure", |line| of_server(line, &pressed) && line.text("phase") == Some("opened"));
    // Another pass looks at the one with room.
    sleep(Duration::from_millis(1500));
    let (_, sockets) = descriptors(&pressed);
    pressed.exit();
    zsock.wait_for("the exit", |line| of_server(line, &pressed) && line.text("outcome") == Some("exited"));

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let pressure = seen.of_process(pressed.pid()).of_verdict("fd_pressure");
    pressure.assert_story(&["verdict fd_pressure opened", "verdict fd_pressure closed exited"]);
    let opened = pressure.only("verdict fd_pressure opened");
    assert_pressure(opened, "pressed");
    assert_eq!(opened.text("severity"), Some("warning"));
    let found = ["open_fds", "limit", "socket_fds", "zombie_fds"]
        .map(|name| opened.figure(&format!("evidence.{name}")));
    assert_eq!(found, [36, 40, sockets as u64, 0], "in {}", opened.record);
    seen.of_process(roomy.pid()).of_verdict("fd_pressure").assert_story(&[""; 0]);
    assert_no_failures(&seen, &net);
}

/// A process that listens and may have [`LIMIT`] descriptors, and its port.
fn server(net: &Net, name: &str) -> (Peer, u16) {
    let mut server = Peer::start(&net.server, name);
    server.ask(&format!("nofile {LIMIT}")).expect("set");
    let port = server.listen();
    (server, port)
}

fn dial(client: &mut Peer, port: u16, count: usize) {
    client.ask(&format!("dial {} {count}", Ip::V4.server(port))).expect("dialled");
}

/// How many descriptors the process has open, and how many of them are sockets.
fn descriptors(peer: &Peer) -> (usize, usize) {
    let entries = fs::read_dir(format!("/proc/{}/fd", peer.pid())).expect("the process lives");
    let targets: Vec<_> = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    let sockets = targets.iter().filter(|target| target.to_string_lossy().starts_with("socket:")).count();
    (targets.len(), sockets)
}

/// Whether so many leaks were told of.
fn leaks(net: &Net, count: usize) -> impl FnMut(&Line) -> bool {
    let netns = net.server.inode();
    let mut sockets = Vec::new();
    move |line| {
        if line.text("verdict") == Some("close_wait_leak") && line.number("socket.netns") == Some(netns) {
            sockets.extend(line.text("socket.id").map(str::to_owned));
            sockets.sort();
            sockets.dedup();
        }
        sockets.len() >= count
    }
}

/// Whether so many failures were told of; asked of all lines from the first one each time.
fn all_failures(net: &Net, count: u64) -> impl FnMut(&Line) -> bool {
    let netns = net.server.inode();
    let mut told = 0;
    move |line| {
        if line.text("type") == Some("start") {
            told = 0;
        }
        if line.text("type") == Some("accept_failed") && line.number("socket.netns") == Some(netns) {
            told += line.figure("count");
        }
        told >= count
    }
}

fn of_server(line: &Line, server: &Peer) -> bool {
    line.text("verdict") == Some("fd_pressure") && line.number("process.pid") == Some(u64::from(server.pid()))
}

#[track_caller]
fn assert_pressure(verdict: &Line, comm: &str) {
    assert_eq!(verdict.text("process.comm"), Some(comm), "in {}", verdict.record);
    assert_eq!(verdict.get("socket"), None, "in {}", verdict.record);
    for field in ["summary", "advice"] {
        let empty = verdict.get(field).map(ToString::to_string);
        assert!(empty.is_some_and(|text| text.len() > 4), "{field} of {}", verdict.record);
    }
}

/// Checks that each failure was told of, once a second at most, as one of this server's.
#[track_caller]
fn assert_failures(failures: &Connection<'_>, server: &Peer, count: u64) {
    assert_owner(failures, server.pid(), "full-server");
    assert!(failures.lines.iter().all(|line| line.text("errno") == Some("EMFILE")), "{:#?}", failures.lines);
    assert_eq!(failures.lines.iter().map(|line| line.figure("count")).sum::<u64>(), count);
    for pair in failures.lines.windows(2) {
        let apart = pair[1].ts().since(pair[0].ts());
        assert!(apart >= Duration::from_millis(990), "{apart:?} apart: {:#?}", failures.lines);
    }
}

#[track_caller]
fn assert_no_failures(seen: &Recording, net: &Net) {
    let failures = seen.of_namespace(&net.server).of_type("accept_failed");
    assert!(failures.is_empty(), "{failures:#?}");
}
