//! Connections that are well, or whose end was asked for: not a word too many.

use super::echo_server;
use crate::net::{Ip, Net};
use crate::peer::Peer;
use crate::slowness;
use crate::story::Recording;
use crate::zsock::Zsock;

pub(super) fn a_tenth_of_the_packets_lost() {
    const BYTES: u32 = 3_000_000;
    let net = Net::routed();
    let mut server = Peer::start(&net.server, "sink");
    let port = server.listen();
    let zsock = Zsock::start(&[]);
    let mut client = Peer::start(&net.client, "source");
    client.connect(&Ip::V4.server(port));
    server.ask("accept").expect("accepted");
    server.tell(&format!("read {BYTES}"));
    net.lose_a_tenth();
    client.ask(&format!("write {BYTES}")).expect("wrote");
    assert_eq!(server.reply().expect("read"), BYTES.to_string());
    // Single segments: a loss is found by a timer and not by what follows it.
    for _ in 0..50 {
        client.ask("write 100").expect("wrote");
        server.ask("read 100").expect("read");
    }
    net.unblock();
    client.ask("close").expect("closed");
    server.ask("drain").expect("drained");

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let retransmits = seen.of_namespace(&net.client).of_type("retransmit").len();
    assert!(retransmits > 0, "the loss was not seen at all");
    assert_no_verdict(&seen, &net);
}

pub(super) fn orderly_connections_are_not_mentioned() {
    let net = Net::routed();
    let (mut server, port) = echo_server(&net);
    let address = Ip::V4.server(port);
    let zsock = Zsock::start(&[]);
    let mut client = Peer::start(&net.client, "orderly");
    client.ask(&format!("churn {address} {}", 5000 / slowness())).expect("churned");

    // The server is restarted while a client is connected; it notices, closes and comes back.
    client.connect(&address);
    client.exchange();
    server.exit();
    client.ask("read 1").expect("eof");
    client.ask("close").expect("closed");
    let mut server = Peer::start(&net.server, "echo-server");
    server.ask(&format!("listen {port}")).expect("listening");
    server.ask("serve").expect("serving");
    client.connect(&address);
    client.exchange();
    client.ask("close").expect("closed");

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    seen.of_namespace(&net.client).assert_story(&[""; 0]);
    seen.of_namespace(&net.server).assert_story(&[""; 0]);
}

pub(super) fn resets_that_were_asked_for() {
    let net = Net::routed();
    let (_server, port) = echo_server(&net);
    let zsock = Zsock::start(&[]);
    let mut client = Peer::start(&net.client, "abrupt");
    for _ in 0..20 {
        client.connect(&Ip::V4.server(port));
        client.exchange();
        client.ask("reset-on-close").expect("set");
        client.ask("close").expect("closed");
    }

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    assert_eq!(seen.of_namespace(&net.client).of_type("reset_sent").len(), 20, "resets sent");
    let closed = seen.of_namespace(&net.client).of_type("closed");
    assert!(closed.iter().all(|line| line.get("fd_open") == Some(&false.into())), "{closed:#?}");
    assert_eq!(seen.of_namespace(&net.server).of_type("reset_received").len(), 20, "resets received");
    assert_no_verdict(&seen, &net);
}

fn assert_no_verdict(seen: &Recording, net: &Net) {
    for namespace in [&net.client, &net.server] {
        let verdicts = seen.of_namespace(namespace).of_type("verdict");
        assert!(verdicts.is_empty(), "{verdicts:#?}");
    }
}
