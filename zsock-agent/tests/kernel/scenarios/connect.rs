//! A SYN into a black hole: sent again after one, two and three seconds (and four, `tcp_syn_linear_timeouts`).

use std::time::Duration;

use zsock_agent::time::Time;

use super::{assert_foretold, assert_owner, assert_prompt, echo_server};
use crate::kernel;
use crate::net::{Ip, Net};
use crate::peer::Peer;
use crate::proc::await_timeouts;
use crate::story::assert_near;
use crate::zsock::Zsock;

pub(super) fn a_connection_that_comes_about_after_all() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start(&[]);
    let mut client = Dialler::start(&net, server_port);
    await_timeouts(&net.client, client.port, 3);
    net.unblock();
    client.peer.ask("finish-connect").expect("connected");
    zsock.wait_for("the verdict's end", |line| {
        line.text("outcome") == Some("connected") && line.number("socket.netns") == Some(net.client.inode())
    });

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let connection = seen.of_local_port(&net.client, client.port);
    connection.assert_story(&[
        "state CLOSE SYN_SENT replayed",
        "retransmit syn 1",
        "retransmit syn 2",
        "retransmit syn 3",
        "verdict connect_blackhole opened",
        "retransmit syn 4",
        "state SYN_SENT ESTABLISHED",
        "verdict connect_blackhole closed connected",
    ]);
    assert_owner(&connection, client.peer.pid(), "dialler");
    let opened = connection.only("verdict connect_blackhole opened");
    assert_prompt(opened, connection.only("retransmit syn 3"));
    assert_eq!(opened.figure("evidence.attempts"), 3);
    let stalled = opened.millis("evidence.stalled_ms");
    assert_near("stalled", stalled, opened.ts().since(client.began), Duration::from_millis(500));
}

pub(super) fn a_connection_that_times_out() {
    let net = Net::routed();
    // Linux 6.5 and later send the first four again a second apart, and count those beside the limit.
    let linear = std::fs::exists("/proc/sys/net/ipv4/tcp_syn_linear_timeouts").expect("/proc is mounted");
    let (retries, attempts) = if linear { (2, 5) } else { (3, 3) };
    net.client.sysctl("net/ipv4/tcp_syn_retries", retries);
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start(&[]);
    let mut client = Dialler::start(&net, server_port);
    let end = client.peer.ask("finish-connect");
    assert_eq!(end.expect("error"), "ETIMEDOUT");
    // The kernel wakes the process before it reports the error.
    if kernel::tells("error ETIMEDOUT") {
        zsock.wait_for("the error", |line| {
            line.text("type") == Some("error") && line.number("socket.netns") == Some(net.client.inode())
        });
    }

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let connection = seen.of_local_port(&net.client, client.port);
    let mut expected = vec!["state CLOSE SYN_SENT replayed".to_owned()];
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
    connection.assert_story(&expected);
    assert_owner(&connection, client.peer.pid(), "dialler");
    let opened = connection.only("verdict connect_blackhole opened");
    assert_prompt(opened, connection.only("retransmit syn 3"));
    assert_foretold(opened, end.at);
}

pub(super) fn a_connection_that_its_application_abandons() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start(&[]);
    let mut client = Dialler::start(&net, server_port);
    await_timeouts(&net.client, client.port, 3);
    client.peer.ask("close").expect("closed");

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let connection = seen.of_local_port(&net.client, client.port);
    connection.assert_story(&[
        "state CLOSE SYN_SENT replayed",
        "retransmit syn 1",
        "retransmit syn 2",
        "retransmit syn 3",
        "verdict connect_blackhole opened",
        "state SYN_SENT CLOSE",
        "closed",
        "verdict connect_blackhole closed closed",
    ]);
    assert_owner(&connection, client.peer.pid(), "dialler");
}

/// A client whose SYN was sent into the void.
struct Dialler {
    peer: Peer,
    port: u16,
    /// When the SYN had been sent.
    began: Time,
}

impl Dialler {
    fn start(net: &Net, server_port: u16) -> Self {
        net.block();
        let mut peer = Peer::start(&net.client, "dialler");
        let reply = peer.ask(&format!("start-connect {}", Ip::V4.server(server_port)));
        let port = reply.expect("connecting").parse().expect("a peer tells its port");
        Self { peer, port, began: reply.at }
    }
}
