//! Whose socket it is: the process that opened or accepted it, as long as it holds it.

use std::fs;
use std::path::PathBuf;
use std::process::id;

use super::{Client, assert_owner, echo_server};
use crate::net::{Ip, Net};
use crate::peer::Peer;
use crate::proc::{await_gone, await_only_listener, await_state, await_timeouts};
use crate::story::{Connection, Line};
use crate::zsock::Zsock;

/// The kernel's numbers of the states.
const CLOSE_WAIT: u8 = 8;

pub(super) fn a_worker_connects_the_socket_it_was_given() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let address = Ip::V4.server(server_port);
    let zsock = Zsock::start_with_all_events(&net);
    let mut client = Peer::start(&net.client, "parent");
    client.ask(&format!("open {address}")).expect("opened");
    let worker = hand_over(&mut client, "pass worker");
    let port = client.connect(&address);
    client.exchange();
    client.ask("close").expect("closed");
    await_gone(&net.client, port);

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    assert_eq!(
        owners(&seen.of_local_port(&net.client, port)),
        [
            format!("CLOSE SYN_SENT worker {worker}"),
            format!("SYN_SENT ESTABLISHED worker {worker}"),
            format!("ESTABLISHED FIN_WAIT1 worker {worker}"),
            format!("FIN_WAIT1 FIN_WAIT2 worker {worker}"),
            format!("FIN_WAIT2 CLOSE worker {worker}"),
        ]
    );
}

pub(super) fn a_worker_accepts_from_the_listener_it_was_given() {
    let net = Net::routed();
    let zsock = Zsock::start_with_all_events(&net);
    let mut server = Peer::start(&net.server, "master");
    let server_port = server.listen();
    let worker = hand_over(&mut server, "share worker");
    let mut client = Peer::start(&net.client, "client");
    let port = client.connect(&Ip::V4.server(server_port));
    server.ask("accept").expect("accepted");
    client.ask("close").expect("closed");
    server.ask("read 1").expect("eof");
    server.ask("close").expect("closed");
    await_only_listener(&net.server, server_port);

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    assert_eq!(
        owners(&seen.of_remote_port(&net.server, port)),
        [
            "LISTEN SYN_RECV nobody".to_owned(),
            "SYN_RECV ESTABLISHED nobody".to_owned(),
            format!("ESTABLISHED CLOSE_WAIT worker {worker}"),
            format!("CLOSE_WAIT LAST_ACK worker {worker}"),
            format!("LAST_ACK CLOSE worker {worker}"),
        ]
    );
}

pub(super) fn a_connection_in_the_accept_queue_has_none() {
    let net = Net::routed();
    let zsock = Zsock::start_with_all_events(&net);
    let mut server = Peer::start(&net.server, "busy");
    let server_port = server.listen();
    let mut client = Peer::start(&net.client, "client");
    let port = client.connect(&Ip::V4.server(server_port));
    client.ask("close").expect("closed");
    await_state(&net.server, server_port, CLOSE_WAIT);

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    assert_eq!(
        owners(&seen.of_remote_port(&net.server, port)),
        ["LISTEN SYN_RECV nobody", "SYN_RECV ESTABLISHED nobody", "ESTABLISHED CLOSE_WAIT nobody"]
    );
}

pub(super) fn of_two_holders_the_one_that_opened_it() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start(&[]);
    let mut client = Client::connect(&net, "opener", &Ip::V4.server(server_port));
    hand_over(&mut client.peer, "share sharer");
    get_into_trouble(&net, &mut client);

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let connection = seen.of_local_port(&net.client, client.port);
    assert!(connection.of_type("retransmit").len() >= 2, "{:#?}", connection.story());
    assert_owner(&connection, client.peer.pid(), "opener");
}

pub(super) fn the_holder_that_is_left() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start(&[]);
    let mut client = Client::connect(&net, "opener", &Ip::V4.server(server_port));
    let heir = hand_over(&mut client.peer, "pass heir");
    get_into_trouble(&net, &mut client);

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let retransmits =
        Connection { lines: seen.of_local_port(&net.client, client.port).of_type("retransmit") };
    assert!(retransmits.lines.len() >= 2, "{:#?}", retransmits.story());
    assert_owner(&retransmits, heir, "heir");
}

pub(super) fn a_connection_older_than_zsock() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let mut client = Client::connect(&net, "veteran", &Ip::V4.server(server_port));
    let group = ControlGroup::of(client.peer.pid());
    let zsock = Zsock::start(&[]);
    get_into_trouble(&net, &mut client);

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let connection = seen.of_local_port(&net.client, client.port);
    assert!(connection.of_type("retransmit").len() >= 2, "{:#?}", connection.story());
    assert_owner(&connection, client.peer.pid(), "veteran");
    for line in &connection.lines {
        assert_eq!(
            line.text("socket.cgroup"),
            group.path(client.peer.pid()).as_deref(),
            "in {}",
            line.record
        );
    }
}

pub(super) fn the_process_and_not_its_thread() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let zsock = Zsock::start_with_all_events(&net);
    let mut client = Peer::start(&net.client, "process");
    let address = Ip::V4.server(server_port);
    let reply = client.ask(&format!("connect-in-thread thread {address}"));
    let port = reply.expect("connected").parse().expect("a peer tells its port");
    client.exchange();

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let connection = seen.of_local_port(&net.client, port);
    connection.assert_story(&["state CLOSE SYN_SENT", "state SYN_SENT ESTABLISHED"]);
    assert_owner(&connection, client.pid(), "process");
}

/// Has a new process take over the socket and the orders; returns its pid.
fn hand_over(peer: &mut Peer, order: &str) -> u32 {
    peer.ask(order).expect("adopted").parse().expect("a worker tells its pid")
}

/// Cuts the way and writes, until two time-outs have passed.
fn get_into_trouble(net: &Net, client: &mut Client) {
    net.block();
    client.peer.ask("write 100").expect("wrote");
    await_timeouts(&net.client, client.port, 2);
}

/// Each state change with the owner that its record names.
fn owners(connection: &Connection<'_>) -> Vec<String> {
    let owner = |line: &Line| match (line.text("socket.comm"), line.number("socket.pid")) {
        (Some(comm), Some(pid)) => format!("{comm} {pid}"),
        (None, None) => "nobody".to_owned(),
        half => panic!("half an owner {half:?} in {}", line.record),
    };
    let change = |line: &&Line| {
        let (from, to) = (line.text("from").unwrap_or("?"), line.text("to").unwrap_or("?"));
        format!("{from} {to} {}", owner(line))
    };
    connection.of_type("state").iter().map(change).collect()
}

/// A control group (version 2) of its own for a process; none where that hierarchy is not mounted.
struct ControlGroup(Option<PathBuf>);

impl ControlGroup {
    fn of(pid: u32) -> Self {
        let mounts = fs::read_to_string("/proc/mounts").expect("/proc is mounted");
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let Some(mount) = mounts.find(|fields| fields[2] == "cgroup2") else { return Self(None) };
        let path = PathBuf::from(mount[1]).join(format!("zt-{}-{pid}", id()));
        fs::create_dir(&path).expect("root may make a control group");
        fs::write(path.join("cgroup.procs"), pid.to_string()).expect("root may move a process");
        Self(Some(path))
    }

    /// The path as the kernel tells it.
    fn path(&self, pid: u32) -> Option<String> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the process lives");
        let path = groups.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned);
        assert!(self.0.is_none() || path.as_ref().is_some_and(|path| path.contains("/zt-")), "{path:?}");
        path
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let Some(path) = &self.0 else { return };
        // Its process may still be in it; that one moves to where this process is.
        let root = path.with_file_name("cgroup.procs");
        let members = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines() {
            let _ = fs::write(&root, pid);
        }
        let _ = fs::remove_dir(path);
    }
}
