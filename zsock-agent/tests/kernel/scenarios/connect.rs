//! A SYN into a black hole: sent again after one, two and three seconds (and four, `tcp_syn_linear_timeouts`).

use std::time::Duration;

use super::{assert_foretold, assert_owner, assert_prompt, echo_server};
use crate::net::{Ip, Net};
use crate::peer::Peer;
use crate::proc::await_timeouts;
use crate::story::assert_near;
use crate::zsock::Zsock;

pub(super) fn a_connection_that_comes_about_after_all() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start(&[]);
    let (mut client, port) = start_connect(&net, server_port);
    await_timeouts(&net.client, port, 3);
    net.unblock();
    client.ask("finish-connect").expect("connected");
    zsock.wait_for("the verdict's end", |line| {
        line.text("outcome") == Some("connected") && line.number("socket.netns") == Some(net.client.inode())
    });

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let connection = seen.of_local_port(&net.client, port);
    assert_eq!(
        connection.story(),
        [
            "state CLOSE SYN_SENT replayed",
            "retransmit syn 1",
            "retransmit syn 2",
            "retransmit syn 3",
            "verdict connect_blackhole opened",
            "retransmit syn 4",
            "state SYN_SENT ESTABLISHED",
            "verdict connect_blackhole closed connected",
        ]
    );
    assert_owner(&connection, client.pid(), "dialler");
    let opened = connection.only("verdict connect_blackhole opened");
    assert_prompt(opened, connection.only("retransmit syn 3"));
    assert_eq!(opened.figure("evidence.attempts"), 3);
    let stalled = opened.millis("evidence.stalled_ms");
    assert_near("stalled", stalled, Duration::from_secs(3), Duration::from_millis(500));
}

pub(super) fn a_connection_that_times_out() {
    let net = Net::routed();
    net.client.sysctl("net/ipv4/tcp_syn_retries", 2);
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start(&[]);
    let (mut client, port) = start_connect(&net, server_port);
    let end = client.ask("finish-connect");
    assert_eq!(end.expect("error"), "ETIMEDOUT");

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let connection = seen.of_local_port(&net.client, port);
    let mut expected = vec!["state CLOSE SYN_SENT replayed".to_owned()];
    let attempts = connection.of_type("retransmit").len();
    expected.extend((1..=3).map(|attempt| format!("retransmit syn {attempt}")));
    expected.push("verdict connect_blackhole opened".to_owned());
    expected.extend((4..=attempts).map(|attempt| format!("retransmit syn {attempt}")));
    expected.extend(
        [
            "state SYN_SENT CLOSE",
            "closed fd_open",
            "error ETIMEDOUT",
            "verdict connect_blackhole closed timed_out",
        ]
        .map(str::to_owned),
    );
    assert_eq!(connection.story(), expected);
    assert_owner(&connection, client.pid(), "dialler");
    let opened = connection.only("verdict connect_blackhole opened");
    assert_prompt(opened, connection.only("retransmit syn 3"));
    assert_foretold(opened, end.at);
}

pub(super) fn a_connection_that_its_application_abandons() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start(&[]);
    let (mut client, port) = start_connect(&net, server_port);
    await_timeouts(&net.client, port, 3);
    client.ask("close").expect("closed");

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let connection = seen.of_local_port(&net.client, port);
    assert_eq!(
        connection.story(),
        [
            "state CLOSE SYN_SENT replayed",
            "retransmit syn 1",
            "retransmit syn 2",
            "retransmit syn 3",
            "verdict connect_blackhole opened",
            "state SYN_SENT CLOSE",
            "closed",
            "verdict connect_blackhole closed closed",
        ]
    );
    assert_owner(&connection, client.pid(), "dialler");
}

/// A client whose SYN was sent into the void, and its port.
fn start_connect(net: &Net, server_port: u16) -> (Peer, u16) {
    net.block();
    let mut client = Peer::start(&net.client, "dialler");
    let address = net.server_address(Ip::V4, server_port);
    let port = client.ask(&format!("start-connect {address}")).expect("connecting").parse();
    (client, port.expect("a peer tells its port"))
}
