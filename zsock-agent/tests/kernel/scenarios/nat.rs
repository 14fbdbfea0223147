//! A pooled connection behind a NAT gateway that forgets it while it idles.

use std::thread::sleep;
use std::time::Duration;

use super::{
    Client, assert_addresses, assert_foretold, assert_next_foretold, assert_owner, assert_prompt, echo_server,
};
use crate::net::{Forgotten, Ip, Net};
use crate::patience;
use crate::proc::await_timeouts;
use crate::story::assert_near;
use crate::zsock::Zsock;

pub(super) fn a_pooled_client_dies_of_its_user_timeout() {
    dies_of_its_user_timeout(Ip::V4);
}

pub(super) fn a_pooled_client_dies_of_its_user_timeout_over_ipv6() {
    dies_of_its_user_timeout(Ip::V6);
}

pub(super) fn a_pooled_client_dies_of_its_user_timeout_over_mapped_ipv4() {
    dies_of_its_user_timeout(Ip::Mapped);
}

/// A first time-out 0.4 s after the write, then after 0.4, 0.8 and 1.6 s: four of them fit into the user timeout of 4 s,
/// which counts from the first.
fn dies_of_its_user_timeout(ip: Ip) {
    let net = Net::nat(4, Forgotten::Dropped);
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start(&[]);
    let mut client = Client::connect(&net, "pool-client", &ip.server(server_port));
    client.peer.ask("user-timeout 4000").expect("set");
    sleep(Duration::from_secs(7));
    let wrote = client.peer.ask("write 100").at;
    let death = client.await_death();
    assert_near(
        "death after the write",
        death.since(wrote),
        Duration::from_millis(4400),
        Duration::from_millis(300),
    );

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let connection = seen.of_local_port(&net.client, client.port);
    connection.assert_story(&[
        "state CLOSE SYN_SENT replayed",
        "state SYN_SENT ESTABLISHED replayed",
        "retransmit tail_loss_probe",
        "retransmit rto 1",
        "retransmit rto 2",
        "retransmit rto 3",
        "retransmit rto 4",
        "verdict stuck_retransmission opened",
        "state ESTABLISHED CLOSE",
        "closed fd_open",
        "error ETIMEDOUT",
        "verdict silent_death closed",
        "verdict stuck_retransmission closed silent_death",
    ]);
    connection.assert_replayed_first(client.connected);
    assert_addresses(&connection, ip, client.port, server_port);
    assert_owner(&connection, client.peer.pid(), "pool-client");
    let retransmits = connection.of_type("retransmit");
    assert_next_foretold(&retransmits, death);
    let rto = |line: &&super::Line| line.figure("tcp.rto_ms");
    assert!(retransmits[1..].is_sorted_by(|one, next| rto(one) < rto(next)), "{retransmits:#?}");

    let opened = connection.only("verdict stuck_retransmission opened");
    assert_prompt(opened, connection.only("retransmit rto 4"));
    assert_foretold(opened, death);
    assert_eq!(opened.figure("evidence.attempts"), 4);
    assert_eq!(opened.figure("evidence.unacked_bytes"), 100);
    let silent = connection.only("verdict silent_death closed");
    assert_eq!(silent.text("evidence.cause"), Some("user_timeout"));
    assert_eq!(silent.text("evidence.errno"), Some("ETIMEDOUT"));
    assert_eq!(silent.figure("evidence.unacked_bytes"), 100);
    let unnoticed = silent.millis("evidence.unnoticed_ms");
    assert_near("unnoticed", unnoticed, death.since(client.answered), Duration::from_millis(200));
}

pub(super) fn a_hang_that_began_before_zsock_is_told_at_once() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let mut client = Client::connect(&net, "pool-client", &Ip::V4.server(server_port));
    // Where zsock takes long to start, the hang has to last.
    let limit = patience(Duration::from_secs(10));
    client.peer.ask(&format!("user-timeout {}", limit.as_millis())).expect("set");
    net.block();
    let wrote = client.peer.ask("write 100").at;
    await_timeouts(&net.client, client.port, 4);
    let zsock = Zsock::start(&[]);
    let death = client.await_death();
    assert_near(
        "death after the write",
        death.since(wrote),
        limit + Duration::from_millis(400),
        Duration::from_millis(300),
    );

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let mut connection = seen.of_local_port(&net.client, client.port);
    // How many more there are depends on how long zsock took to start; and whether a pass finds it first or one of them, which has
    // overwritten when data was last sent.
    connection.lines.retain(|line| {
        let is_lasting = matches!(line.text("fact"), Some("last_received" | "retransmitting_since"));
        line.text("type") != Some("retransmit") && (line.text("type") != Some("sample") || is_lasting)
    });
    connection.assert_story(&[
        "sample last_received inferred",
        "sample retransmitting_since inferred",
        "verdict stuck_retransmission opened",
        "state ESTABLISHED CLOSE",
        "closed fd_open",
        "error ETIMEDOUT",
        "verdict silent_death closed",
        "verdict stuck_retransmission closed silent_death",
    ]);
    assert_owner(&connection, client.peer.pid(), "pool-client");
    let opened = connection.only("verdict stuck_retransmission opened");
    let start = seen.of_type("start").next().expect("a recording has a start");
    assert_prompt(opened, start);
    assert_foretold(opened, death);
    let stalled = opened.millis("evidence.stalled_ms");
    assert_near("stalled", stalled, opened.ts().since(wrote), Duration::from_millis(500));
    let silent = connection.only("verdict silent_death closed");
    assert_eq!(silent.text("evidence.cause"), Some("user_timeout"));
}

pub(super) fn a_gateway_that_forgot_answers_with_a_reset() {
    let net = Net::nat(2, Forgotten::Reset);
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start(&["--threshold", "stale_reset=2s"]);
    let mut client = Client::connect(&net, "pool-client", &Ip::V4.server(server_port));
    sleep(Duration::from_secs(3));
    let wrote = client.peer.ask("write 100").at;
    assert_eq!(client.peer.ask("read 1").expect("error"), "ECONNRESET");

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let connection = seen.of_local_port(&net.client, client.port);
    connection.assert_story(&[
        "state CLOSE SYN_SENT replayed",
        "state SYN_SENT ESTABLISHED replayed",
        "reset_received",
        "state ESTABLISHED CLOSE",
        "closed reset fd_open",
        "error ECONNRESET",
        "verdict stale_reset closed",
    ]);
    assert_owner(&connection, client.peer.pid(), "pool-client");
    let stale = connection.only("verdict stale_reset closed");
    let idle = stale.millis("evidence.idle_ms");
    assert_near("idle", idle, wrote.since(client.answered), Duration::from_millis(200));
    assert_eq!(stale.figure("evidence.sent_bytes"), 100);
}
