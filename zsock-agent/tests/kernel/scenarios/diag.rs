//! What zsock asks and has done through `sock_diag`, without BPF.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use caps::{CapSet, Capability};
use socket2::{Domain, Socket, Type};
use zsock_agent::record::{SocketId, State};
use zsock_agent::source::diag::{self, Entry, Exchange, Outcome, Target};

use super::{Pair, echo_server};
use crate::net::{Ip, Namespace, Net};
use crate::peer::Peer;
use crate::proc::{await_gone, await_state};

pub(super) fn one_of_two_connections_is_destroyed() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    for ip in [Ip::V4, Ip::V6, Ip::Mapped] {
        let [mut hung, mut healthy] = ["hung", "healthy"].map(|name| Peer::start(&net.client, name));
        let [hung_port, healthy_port] =
            [&mut hung, &mut healthy].map(|client| client.connect(&ip.server(server_port)));
        let doomed = target(&net.client, hung_port, server_port);
        let spared = target(&net.client, healthy_port, server_port);
        assert_eq!(doomed.v4mapped, matches!(ip, Ip::Mapped));
        let destroy = |target: Target| net.client.enter(|| diag::destroy(&target)).expect("root may");

        // The addresses of one and the cookie of another are no socket.
        let stale = Target { id: doomed.id, ..spared };
        assert_eq!(destroy(stale), Outcome::Gone);
        hung.tell("read 1");
        assert_eq!(destroy(doomed), Outcome::Destroyed);
        assert_eq!(hung.reply().expect("error"), "ECONNABORTED");
        healthy.exchange();
        await_gone(&net.client, hung_port);
        assert_eq!(destroy(doomed), Outcome::Gone);
        healthy.exchange();
    }
}

/// What a record tells of it does not suffice for the kernel to find it.
pub(super) fn a_connection_bound_to_an_interface_is_destroyed() {
    let namespace = Namespace::new("bound");
    namespace.enter(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let server = listener.local_addr().expect("it is bound");
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket is to be had");
        bound.bind_device(Some(b"lo")).expect("root may bind to an interface");
        bound.connect(&server.into()).expect("the listener accepts");
        let port = bound.local_addr().ok().and_then(|local| local.as_socket()).expect("it is bound").port();
        let entry = entry(port, server.port());
        assert_ne!(entry.id.interface_id, 0, "{entry:?} is bound");
        assert_eq!(entry.socket_id().0, bound.cookie().expect("every socket has one"));
        assert_eq!(diag::destroy(&target_of(&entry)), Ok(Outcome::Destroyed));
    });
}

/// By its address alone the kernel finds any of them.
pub(super) fn the_very_one_of_listeners_that_share_a_port_is_destroyed() {
    let namespace = Namespace::new("shared");
    namespace.enter(|| {
        let first = sharing(0);
        let port = first.local_addr().ok().and_then(|local| local.as_socket()).expect("it is bound").port();
        let listeners: Vec<Socket> = iter::once(first).chain((1..16).map(|_| sharing(port))).collect();
        let mut cookies: BTreeSet<u64> =
            listeners.iter().map(|listener| listener.cookie().expect("every socket has one")).collect();
        let listening = || -> BTreeSet<u64> { all().iter().map(|entry| entry.socket_id().0).collect() };
        let target = target_of(&entry(port, 0));
        for doomed in cookies.clone() {
            assert_eq!(listening(), cookies);
            let target = Target { id: SocketId(doomed), ..target };
            assert_eq!(diag::destroy(&target), Ok(Outcome::Destroyed));
            assert_eq!(diag::destroy(&target), Ok(Outcome::Gone));
            cookies.remove(&doomed);
        }
    });
}

/// A listener that others may share its port with.
fn sharing(port: u16) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket is to be had");
    socket.set_reuse_port(true).expect("any process may");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).expect("the port is shared");
    socket.listen(1).expect("it is bound");
    socket
}

/// Kernels before 6.12 say that it is done, and leave it.
pub(super) fn of_an_orphan_it_is_told_whether_it_is_gone() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let mut client = Peer::start(&net.client, "client");
    let port = client.connect(&Ip::V4.server(server_port));
    client.exchange();
    net.block();
    client.ask("write 100").expect("wrote");
    client.ask("close").expect("closed");
    let target = target(&net.client, port, server_port);
    let (outcome, is_left) = net.client.enter(|| {
        let outcome = diag::destroy(&target).expect("root may");
        (outcome, entries().contains_key(&(port, server_port)))
    });
    let expected = if is_left { Outcome::Survived } else { Outcome::Destroyed };
    assert_eq!(outcome, expected);
}

/// Older kernels say of what is left of a closed connection what those say of everything that were built without the means.
pub(super) fn of_a_closed_connection_it_is_told_whether_it_is_gone() {
    let net = Net::routed();
    let mut pair = Pair::connect(&net, "client", "server");
    pair.client.ask("close").expect("closed");
    await_state(&net.client, pair.port, State::FIN_WAIT2.0);
    let (outcome, is_left) = net.client.enter(|| {
        let left = entry(pair.port, pair.server_port);
        assert_eq!((left.inode, left.info), (0, None));
        let outcome = diag::destroy(&target_of(&left)).expect("root may");
        (outcome, entries().contains_key(&(pair.port, pair.server_port)))
    });
    let expected = if is_left { Outcome::NotBuiltIn } else { Outcome::Destroyed };
    assert_eq!(outcome, expected);
}

pub(super) fn without_the_right_nothing_is_destroyed() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let mut client = Peer::start(&net.client, "client");
    let port = client.connect(&Ip::V4.server(server_port));
    let target = target(&net.client, port, server_port);
    let outcome = net.client.enter(|| {
        // Of this thread, which ends with this.
        caps::drop(None, CapSet::Effective, Capability::CAP_NET_ADMIN).expect("any process may");
        diag::destroy(&target)
    });
    assert_eq!(outcome, Ok(Outcome::NotPermitted));
    client.exchange();
}

/// The sockets of the calling thread's network namespace.
fn all() -> Vec<Entry> {
    let mut entries = Vec::new();
    let dumped = Exchange::open().and_then(|mut exchange| exchange.dump(|entry| entries.push(entry)));
    assert_eq!(dumped, Ok(diag::Dumped::default()));
    entries
}

/// The same by their ports.
fn entries() -> BTreeMap<(u16, u16), Entry> {
    let with_ports = |entry: Entry| ((entry.id.source_port, entry.id.destination_port), entry);
    all().into_iter().map(with_ports).collect()
}

fn entry(port: u16, peer_port: u16) -> Entry {
    entries().remove(&(port, peer_port)).unwrap_or_else(|| panic!("no socket {port} to {peer_port}"))
}

fn target(namespace: &Namespace, port: u16, peer_port: u16) -> Target {
    target_of(&namespace.enter(|| entry(port, peer_port)))
}

fn target_of(entry: &Entry) -> Target {
    let ends = entry.ends();
    let local = ends.local.expect("a socket in the table has a port");
    Target { id: entry.socket_id(), local, remote: ends.remote, v4mapped: ends.v4mapped }
}
