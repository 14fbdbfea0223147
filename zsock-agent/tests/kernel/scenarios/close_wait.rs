//! The peer has closed; what the server does about it, or does not.

use std::thread::sleep;
use std::time::Duration;

use zsock_agent::time::Time;

use super::{Pair, assert_claim, assert_owner};
use crate::net::Net;
use crate::proc::{await_only_listener, await_state};
use crate::story::{Connection, Line, assert_near};
use crate::zsock::Zsock;

/// The kernel's number of the state.
const CLOSE_WAIT: u8 = 8;
const LEAK: Duration = Duration::from_secs(1);

pub(super) fn a_connection_that_is_never_closed() {
    let net = Net::routed();
    let zsock = Zsock::start_in(&net, &["close_wait_leak=1s"], &[]);
    let mut pair = Pair::connect(&net, "leaver", "keeper");
    let left = pair.client.ask("close").at;
    await_state(&net.server, pair.server_port, CLOSE_WAIT);
    zsock.wait_for_verdict(&net.server, pair.port, "close_wait_leak", "opened");
    pair.server.ask("close").expect("closed");
    await_only_listener(&net.server, pair.server_port);
    zsock.wait_for_verdict(&net.server, pair.port, "close_wait_leak", "closed");

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    pair.client_end(&seen, &net).assert_story(&[""; 0]);
    let server = pair.server_end(&seen, &net);
    server.until("verdict close_wait_leak closed closed").assert_story(&[
        "state LISTEN SYN_RECV replayed",
        "state SYN_RECV ESTABLISHED replayed",
        "state ESTABLISHED CLOSE_WAIT replayed",
        "sample half_closed",
        "verdict close_wait_leak opened",
        "state CLOSE_WAIT LAST_ACK",
        "verdict close_wait_leak closed closed",
    ]);
    server.assert_replayed_first(pair.connected);
    let opened = server.only("verdict close_wait_leak opened");
    assert_leak(opened, &pair, "keeper", left);
}

pub(super) fn a_server_that_speaks_after_all() {
    let net = Net::routed();
    let zsock = Zsock::start_in(&net, &["close_wait_leak=1s"], &[]);
    let mut pair = Pair::connect(&net, "listener", "late-speaker");
    let left = pair.client.ask("shutdown").at;
    await_state(&net.server, pair.server_port, CLOSE_WAIT);
    zsock.wait_for_verdict(&net.server, pair.port, "close_wait_leak", "opened");
    pair.server.ask("write 100").expect("wrote");
    pair.client.ask("read 100").expect("read");
    zsock.wait_for_verdict(&net.server, pair.port, "close_wait_leak", "moved");

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let server = pair.server_end(&seen, &net);
    server.until("verdict close_wait_leak closed moved").assert_story(&[
        "state LISTEN SYN_RECV replayed",
        "state SYN_RECV ESTABLISHED replayed",
        "state ESTABLISHED CLOSE_WAIT replayed",
        "sample half_closed",
        "verdict close_wait_leak opened",
        "sample half_closed",
        "verdict close_wait_leak closed moved",
    ]);
    let opened = server.only("verdict close_wait_leak opened");
    assert_leak(opened, &pair, "late-speaker", left);
}

/// One end of the connection is closed and the other is in use: the server sends, or reads what had come before.
pub(super) fn a_half_closed_connection_in_use_is_left_alone() {
    let net = Net::routed();
    let zsock = Zsock::start_in(&net, &["close_wait_leak=1s"], &[]);
    let mut sending = Pair::connect(&net, "listener", "sender");
    let mut reading = Pair::connect(&net, "uploader", "slow-reader");
    sending.client.ask("shutdown").expect("shut");
    reading.client.ask("write 40000").expect("wrote");
    reading.client.ask("shutdown").expect("shut");
    await_state(&net.server, sending.server_port, CLOSE_WAIT);
    await_state(&net.server, reading.server_port, CLOSE_WAIT);
    reading.server.tell("sip 3000 13");
    for _ in 0..10 {
        sending.server.ask("write 100").expect("wrote");
        sleep(Duration::from_millis(250));
    }
    reading.server.reply().expect("sipped");
    for server in [&mut sending.server, &mut reading.server] {
        server.ask("close").expect("closed");
    }

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    for pair in [&sending, &reading] {
        let verdicts = pair.server_end(&seen, &net).of_type("verdict");
        assert!(verdicts.is_empty(), "{verdicts:#?}");
    }
}

/// A network that zsock did not find when it began.
pub(super) fn a_namespace_younger_than_zsock_is_looked_at() {
    let zsock = Zsock::start(&["--threshold", "close_wait_leak=1s"]);
    drop(Net::routed());
    let net = Net::routed();
    let mut pair = Pair::connect(&net, "leaver", "keeper");
    let left = pair.client.ask("close").at;
    await_state(&net.server, pair.server_port, CLOSE_WAIT);
    zsock.wait_for_verdict(&net.server, pair.port, "close_wait_leak", "opened");

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let server = pair.server_end(&seen, &net);
    server.assert_story(&[
        "state LISTEN SYN_RECV replayed",
        "state SYN_RECV ESTABLISHED replayed",
        "state ESTABLISHED CLOSE_WAIT replayed",
        "sample half_closed",
        "verdict close_wait_leak opened",
    ]);
    assert_leak(server.only("verdict close_wait_leak opened"), &pair, "keeper", left);
}

#[track_caller]
fn assert_leak(opened: &Line, pair: &Pair, comm: &str, left: Time) {
    assert_claim(opened, left, left.after(LEAK));
    assert_owner(&Connection { lines: vec![opened] }, pair.server.pid(), comm);
    let waiting = opened.millis("evidence.waiting_ms");
    assert_near("waiting", waiting, opened.ts().since(left), Duration::from_millis(100));
    assert_eq!(opened.number("evidence.unread_bytes"), Some(0), "in {}", opened.record);
}
