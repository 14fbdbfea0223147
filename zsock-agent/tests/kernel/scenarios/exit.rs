//! How a trace ends, and what it does when nobody reads it.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Client, echo_server};
use crate::net::{Ip, Net};
use crate::peer::Peer;
use crate::proc::await_timeouts;
use crate::story::{Connection, assert_near};
use crate::zsock::{Zsock, exit_after_closed_stdout};

pub(super) fn sigint_and_sigterm_end_it_in_order() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let zsock = Zsock::start(&[]);
        // That there is an `end` record in the last place is checked of every recording.
        let Some(seen) = zsock.stop_with(signal) else { return };
        seen.complete();
    }
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
    assert_eq!(complaints, "");
    assert!(took <= Duration::from_secs(3), "noticed only after {took:?}");
}

/// Some 80 MB of records that nobody reads: far more than zsock may keep.
pub(super) fn a_blocked_stdout_loses_records_and_says_so() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start_with_all_events(&net);
    zsock.pause();
    let mut client = Peer::start(&net.client, "churn");
    let address = Ip::V4.server(server_port);
    client.ask(&format!("churn {address} 20000")).expect("churned");
    zsock.resume();

    let Some(seen) = zsock.stop() else { return };
    let told: u64 = seen.of_type("lost").map(|line| line.figure("count")).sum();
    assert!(told > 0, "nothing lost in {}", seen.end().record);
    assert_eq!(seen.end().figure("lost_events"), told);
}
