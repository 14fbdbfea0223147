//! Connections that stall for a while and come to themselves again.

use super::{Client, assert_owner, assert_prompt, echo_server};
use crate::net::{Ip, Net};
use crate::proc::{await_recovery, await_timeouts};
use crate::story::Recording;
use crate::zsock::Zsock;

pub(super) fn two_timeouts_are_no_verdict() {
    let Some((net, client, seen)) = recovers_after(2) else { return };
    let connection = seen.of_local_port(&net.client, client.port);
    connection.assert_story(&[
        "state CLOSE SYN_SENT replayed",
        "state SYN_SENT ESTABLISHED replayed",
        "retransmit tail_loss_probe",
        "retransmit rto 1",
        "retransmit rto 2",
        "retransmit rto 3",
        "progress 3",
    ]);
    assert_owner(&connection, client.peer.pid(), "patient");
}

pub(super) fn five_timeouts_are_and_it_recovers() {
    let Some((net, client, seen)) = recovers_after(5) else { return };
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
        "retransmit rto 5",
        "retransmit rto 6",
        "progress 6",
        "verdict stuck_retransmission closed recovered",
    ]);
    assert_owner(&connection, client.peer.pid(), "patient");
    let opened = connection.only("verdict stuck_retransmission opened");
    assert_prompt(opened, connection.only("retransmit rto 4"));
}

/// The way is cut for this many time-outs; the one after them gets through.
fn recovers_after(timeouts: u32) -> Option<(Net, Client, Recording)> {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start(&[]);
    let mut client = Client::connect(&net, "patient", &Ip::V4.server(server_port));
    net.block();
    client.peer.ask("write 100").expect("wrote");
    await_timeouts(&net.client, client.port, timeouts);
    net.unblock();
    client.peer.ask("read 100").expect("read");
    await_recovery(&net.client, client.port);
    zsock.wait_for("progress", |line| {
        line.text("type") == Some("progress") && line.number("socket.netns") == Some(net.client.inode())
    });
    Some((net, client, zsock.stop()?.complete()))
}
