//! Idle connections with keepalive whose peer falls silent: a probe a second, three of them.

use std::time::Duration;

use zsock_agent::time::Time;

use super::{Client, assert_addresses, assert_foretold, assert_owner, assert_prompt, echo_server};
use crate::net::{Ip, Net};
use crate::proc::{await_gone, await_probes};
use crate::story::{Connection, assert_near};
use crate::zsock::Zsock;

pub(super) fn a_vanished_peer_is_given_up_after_three_probes() {
    is_given_up(Ip::V4);
}

pub(super) fn a_vanished_peer_is_given_up_after_three_probes_over_ipv6() {
    is_given_up(Ip::V6);
}

pub(super) fn a_vanished_peer_is_given_up_after_three_probes_over_mapped_ipv4() {
    is_given_up(Ip::Mapped);
}

fn is_given_up(ip: Ip) {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start(&[]);
    let mut client = idle_behind_a_block(&net, &ip.server(server_port));
    let death = client.await_death();
    assert_near("death", death.since(client.answered), Duration::from_secs(4), Duration::from_millis(300));

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let connection = seen.of_local_port(&net.client, client.port);
    connection.assert_story(&[
        "state CLOSE SYN_SENT replayed",
        "state SYN_SENT ESTABLISHED replayed",
        "keepalive 2 3",
        "verdict keepalive_unanswered opened",
        "keepalive 3 3",
        "reset_sent",
        "state ESTABLISHED CLOSE",
        "closed reset fd_open",
        "error ETIMEDOUT",
        "verdict keepalive_unanswered closed silent_death",
        "verdict silent_death closed",
    ]);
    connection.assert_replayed_first(client.connected);
    assert_addresses(&connection, ip, client.port, server_port);
    assert_owner(&connection, client.peer.pid(), "idle-client");
    assert_verdicts(&connection, &client, death);
}

pub(super) fn every_probe_is_told_on_demand() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start_with_all_events(&net);
    let mut client = idle_behind_a_block(&net, &Ip::V4.server(server_port));
    let death = client.await_death();

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let connection = seen.of_local_port(&net.client, client.port);
    connection.assert_story(&[
        "state CLOSE SYN_SENT",
        "state SYN_SENT ESTABLISHED",
        "keepalive 1 3",
        "keepalive 2 3",
        "verdict keepalive_unanswered opened",
        "keepalive 3 3",
        "reset_sent",
        "state ESTABLISHED CLOSE",
        "closed reset fd_open",
        "error ETIMEDOUT",
        "verdict keepalive_unanswered closed silent_death",
        "verdict silent_death closed",
    ]);
    for (seconds, probe) in (1..).zip(connection.of_type("keepalive")) {
        let sent = probe.ts().since(client.answered);
        assert_near("time of a probe", sent, Duration::from_secs(seconds), Duration::from_millis(200));
        // The timer wheel rounds a second up by some ticks.
        assert_near("next", probe.millis("next_ms"), Duration::from_millis(1_020), Duration::from_millis(20));
    }
    assert_verdicts(&connection, &client, death);
}

pub(super) fn a_peer_that_comes_back_answers() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start(&[]);
    let mut client = idle_behind_a_block(&net, &Ip::V4.server(server_port));
    await_probes(&net.client, client.port, 2);
    net.unblock();
    await_probes(&net.client, client.port, 0);
    zsock.wait_for("the verdict's end", |line| {
        line.text("outcome") == Some("answered") && line.number("socket.netns") == Some(net.client.inode())
    });
    client.peer.ask("close").expect("closed");
    await_gone(&net.client, client.port);

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let connection = seen.of_local_port(&net.client, client.port);
    // Two races are left out: whether another probe goes out, to be answered, before the client closes, and whether the
    // server's FIN comes before the socket becomes a TIME_WAIT.
    let story = connection.story();
    let alive = story.iter().take_while(|told| *told != "state ESTABLISHED FIN_WAIT1");
    let alive = alive.filter(|told| *told != "keepalive 1 3");
    assert_eq!(
        alive.collect::<Vec<_>>(),
        [
            "state CLOSE SYN_SENT replayed",
            "state SYN_SENT ESTABLISHED replayed",
            "keepalive 2 3",
            "verdict keepalive_unanswered opened",
            "keepalive 3 3",
            "keepalive_answered 3",
            "verdict keepalive_unanswered closed answered",
        ]
    );
    let verdicts = connection.of_type("verdict");
    assert_eq!(verdicts.len(), 2, "{story:#?}");
}

/// A client that idles, its last answer just received, with the way to the server already cut: the first probe is unanswered.
fn idle_behind_a_block(net: &Net, address: &str) -> Client {
    let mut client = Client::connect(net, "idle-client", address);
    net.block();
    client.peer.ask("keepalive 1 1 3").expect("set");
    client
}

fn assert_verdicts(connection: &Connection<'_>, client: &Client, death: Time) {
    let opened = connection.only("verdict keepalive_unanswered opened");
    assert_prompt(opened, connection.only("keepalive 2 3"));
    assert_foretold(opened, death);
    assert_eq!((opened.figure("evidence.probes"), opened.figure("evidence.of")), (2, 3));
    let silent = connection.only("verdict silent_death closed");
    assert_eq!(silent.text("evidence.cause"), Some("keepalive_timeout"));
    assert_eq!(silent.text("evidence.errno"), Some("ETIMEDOUT"));
    let unnoticed = silent.millis("evidence.unnoticed_ms");
    assert_near("unnoticed", unnoticed, death.since(client.answered), Duration::from_millis(200));
}
