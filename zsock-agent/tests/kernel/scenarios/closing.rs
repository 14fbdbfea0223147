//! A process that exits while its FIN cannot get through.

use std::thread;
use std::time::Duration;

use super::{Client, assert_foretold, assert_owner, assert_prompt, echo_server};
use crate::net::{Ip, Net};
use crate::now;
use crate::proc::await_gone;
use crate::story::assert_near;
use crate::zsock::Zsock;

/// Three orphan retries are a limit of 3 s from the first time-out, looked at when the timer fires. With a retransmission time-out between
/// 0.3 and 0.5 s that is the fourth time, after 15 times as long and a tail loss probe, however slow the machine.
pub(super) fn an_orphan_that_cannot_say_goodbye() {
    let net = Net::routed();
    net.client.sysctl("net/ipv4/tcp_orphan_retries", 3);
    net.client.raise_rto_min("300ms");
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start(&[]);
    let mut client = Client::connect(&net, "leaver", &Ip::V4.server(server_port));
    // The connection's last payload is long past when its FIN goes out.
    thread::sleep(Duration::from_secs(2));
    net.block();
    client.peer.exit();
    let left = now();
    await_gone(&net.client, client.port);
    let death = now();
    assert_near(
        "death of the orphan",
        death.since(left),
        Duration::from_millis(5100),
        Duration::from_millis(600),
    );

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let connection = seen.of_local_port(&net.client, client.port);
    connection.assert_story(&[
        "state CLOSE SYN_SENT replayed",
        "state SYN_SENT ESTABLISHED replayed",
        "state ESTABLISHED FIN_WAIT1 replayed",
        "retransmit tail_loss_probe fin",
        "retransmit rto fin 1",
        "retransmit rto fin 2",
        "retransmit rto fin 3",
        "verdict orphan_stuck opened",
        "state FIN_WAIT1 CLOSE",
        "closed",
        "verdict orphan_stuck closed silent_death",
        "verdict silent_death closed",
    ]);
    connection.assert_replayed_first(client.connected);
    assert_owner(&connection, client.peer.pid(), "leaver");
    let opened = connection.only("verdict orphan_stuck opened");
    assert_prompt(opened, connection.only("retransmit rto fin 3"));
    assert_foretold(opened, death);
    let orphan = |path| opened.get(path).and_then(serde_json::Value::as_bool);
    assert_eq!((orphan("socket.orphan"), orphan("evidence.owner_exited")), (Some(true), Some(true)));
    assert_eq!(opened.figure("evidence.attempts"), 3);
    let stalled = opened.millis("evidence.stalled_ms");
    assert_near("stalled", stalled, opened.ts().since(left), Duration::from_millis(100));
    let silent = connection.only("verdict silent_death closed");
    assert_eq!(silent.text("evidence.cause"), Some("retransmission_timeout"));
}
