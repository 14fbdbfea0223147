//! A listener with a backlog of two: full with three that nobody accepts.

use std::thread::sleep;
use std::time::Duration;

use super::{assert_claim, assert_owner};
use crate::net::{Ip, Net};
use crate::now;
use crate::peer::Peer;
use crate::proc::await_accept_queue;
use crate::story::Connection;
use crate::zsock::Zsock;

pub(super) fn a_server_that_accepts_nothing() {
    let net = Net::routed();
    let zsock = Zsock::start_in(&net, &[], &[]);
    let mut server = Peer::start(&net.server, "deaf");
    let port = fill(&net, &mut server);
    let full = now();
    zsock.wait_for_verdict(&net.server, port, "accept_queue_full", "opened");
    assert_eq!(server.ask("accept-all").expect("accepted"), "3");
    zsock.wait_for_verdict(&net.server, port, "accept_queue_full", "drained");

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let listener = seen.of_listener(&net.server, port);
    listener.assert_story(&[
        "state CLOSE LISTEN replayed",
        "sample accept_queue",
        "verdict accept_queue_full opened",
        "sample accept_queue",
        "verdict accept_queue_full closed drained",
    ]);
    assert_owner(&Connection { lines: listener.of_type("verdict") }, server.pid(), "deaf");
    let opened = listener.only("verdict accept_queue_full opened");
    assert_claim(opened, full, full);
    assert_eq!(opened.text("severity"), Some("critical"));
    assert_eq!((opened.figure("evidence.queue"), opened.figure("evidence.backlog")), (3, 2));
}

pub(super) fn a_server_that_accepts_nothing_and_exits() {
    let net = Net::routed();
    let zsock = Zsock::start_in(&net, &[], &[]);
    let mut server = Peer::start(&net.server, "deaf");
    let port = fill(&net, &mut server);
    zsock.wait_for_verdict(&net.server, port, "accept_queue_full", "opened");
    server.exit();

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    seen.of_listener(&net.server, port).assert_story(&[
        "state CLOSE LISTEN replayed",
        "sample accept_queue",
        "verdict accept_queue_full opened",
        "state LISTEN CLOSE",
        "closed",
        "verdict accept_queue_full closed closed",
    ]);
}

pub(super) fn a_listener_that_is_drained_is_left_alone() {
    let net = Net::routed();
    let zsock = Zsock::start_in(&net, &[], &[]);
    let mut server = Peer::start(&net.server, "busy");
    let port = server.listen();
    server.ask("backlog 2").expect("set");
    let mut client = Peer::start(&net.client, "crowd");
    let address = Ip::V4.server(port);
    for _ in 0..10 {
        // Full at nearly every look, and never of the same connections at two.
        client.ask(&format!("dial {address} 3")).expect("dialled");
        await_accept_queue(&net.server, port, 3);
        sleep(Duration::from_millis(250));
        assert_eq!(server.ask("accept-all").expect("accepted"), "3");
    }

    let Some(seen) = zsock.stop() else { return };
    seen.complete().of_listener(&net.server, port).assert_story(&[""; 0]);
}

/// Three clients for a server that accepts none; its port.
fn fill(net: &Net, server: &mut Peer) -> u16 {
    let port = server.listen();
    server.ask("backlog 2").expect("set");
    // They are in the queue as long as it has them, whatever becomes of the client.
    let mut client = Peer::start(&net.client, "crowd");
    client.ask(&format!("dial {} 3", Ip::V4.server(port))).expect("dialled");
    await_accept_queue(&net.server, port, 3);
    port
}
