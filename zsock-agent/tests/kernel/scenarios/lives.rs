//! From birth to end, and a second life after that: each change told once, each connection by itself.

use std::collections::BTreeMap;

use super::{assert_addresses, echo_server};
use crate::kernel;
use crate::net::{Ip, Net};
use crate::peer::Peer;
use crate::proc::await_only_listener;
use crate::slowness;
use crate::story::{Connection, Line};
use crate::zsock::Zsock;

pub(super) fn a_refused_socket_connects_again() {
    let net = Net::routed();
    let server_port = Peer::start(&net.server, "gone").listen();
    let address = Ip::V4.server(server_port);
    let zsock = Zsock::start(&[]);
    let mut client = Peer::start(&net.client, "stubborn");
    assert_eq!(client.ask(&format!("connect {address}")).expect("error"), "ECONNREFUSED");
    let mut server = Peer::start(&net.server, "echo-server");
    server.ask(&format!("listen {server_port}")).expect("listening");
    server.ask("serve").expect("serving");
    let port = client.connect(&address);
    client.exchange();
    net.block();
    client.ask("user-timeout 4000").expect("set");
    client.ask("write 100").expect("wrote");
    assert_eq!(client.ask("read 1").expect("error"), "ETIMEDOUT");

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let both = seen.of_local_port(&net.client, port);
    let second = both.lines.iter().rposition(|line| line.text("to") == Some("SYN_SENT"));
    let (first, second) = both.lines.split_at(second.expect("the second life begins"));
    let second_port = format!(":{port}");
    let has_second =
        |line: &&&Line| line.text("socket.local").is_some_and(|local| local.ends_with(&second_port));
    assert_eq!(
        first.iter().filter(has_second).count(),
        0,
        "lines of the first life with the second one's port"
    );
    Connection { lines: first.to_vec() }.assert_story(&[
        "state CLOSE SYN_SENT replayed",
        "reset_received",
        "state SYN_SENT CLOSE",
        "closed reset fd_open",
        "error ECONNREFUSED",
    ]);
    let second = Connection { lines: second.to_vec() };
    second.assert_story(&[
        "state CLOSE SYN_SENT",
        "state SYN_SENT ESTABLISHED",
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
    assert_eq!(second.lines[0].text("socket.local"), None, "a port that is not chosen yet");
    assert_addresses(&second, Ip::V4, port, server_port);
    let lived = second.only("state ESTABLISHED CLOSE").ts().since(second.lines[0].ts());
    assert_eq!(u128::from(second.only("closed fd_open").figure("lifetime_ms")), lived.as_millis());
}

pub(super) fn on_demand_every_change_is_told_once() {
    // Where programs take long each connection more is one more chance that a task is preempted in the middle of one.
    let (orderly_count, aborted_count) = if slowness() > 1 { (20, 8) } else { (50, 20) };
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start_with_all_events(&net);
    let mut client = Peer::start(&net.client, "client");
    client.ask(&format!("churn {} {orderly_count}", Ip::V4.server(server_port))).expect("churned");
    for _ in 0..aborted_count {
        client.connect(&Ip::V4.server(server_port));
        client.exchange();
        client.ask("reset-on-close").expect("set");
        client.ask("close").expect("closed");
    }
    await_only_listener(&net.server, server_port);

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let mut stories: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    let all = seen.of_namespace(&net.client);
    let mut ids: Vec<_> = all.lines.iter().filter_map(|line| line.text("socket.id")).collect();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let lines = all.lines.iter().filter(|line| line.text("socket.id") == Some(id)).copied();
        *stories.entry(Connection { lines: lines.collect() }.story()).or_default() += 1;
    }
    let told = |lines: &[&str]| {
        let lines = lines.iter().filter(|line| kernel::tells(line));
        lines.map(|line| (*line).to_owned()).collect::<Vec<_>>()
    };
    let aborted = told(&[
        "state CLOSE SYN_SENT",
        "state SYN_SENT ESTABLISHED",
        "state ESTABLISHED CLOSE",
        "closed reset",
        "error ECONNRESET",
        "reset_sent",
    ]);
    let orderly = [
        // Whether the server's FIN comes before the socket becomes a TIME_WAIT is a race.
        "closed",
        "closed peer_closed",
    ]
    .map(|closed| {
        told(&[
            "state CLOSE SYN_SENT",
            "state SYN_SENT ESTABLISHED",
            "state ESTABLISHED FIN_WAIT1",
            "state FIN_WAIT1 FIN_WAIT2",
            "state FIN_WAIT2 CLOSE",
            closed,
        ])
    });
    assert_eq!(stories.remove(&aborted), Some(aborted_count), "{stories:#?}");
    let orderly: usize = orderly.iter().filter_map(|story| stories.remove(story)).sum();
    assert_eq!((orderly, stories), (orderly_count, BTreeMap::new()));
    for closed in all.of_type("closed") {
        assert!(closed.number("lifetime_ms").is_some(), "no lifetime in {}", closed.record);
    }
    for error in all.of_type("error") {
        let local = error.text("socket.local");
        assert!(local.is_some_and(|local| local.starts_with("10.77.1.2:")), "{}", error.record);
    }
}
