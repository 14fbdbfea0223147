//! What zsock asks and has done through `sock_diag`, without BPF.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};

use caps::{CapSet, Capability};
use socket2::{Domain, Socket, Type};
use zsock_agent::source::diag::{self, Entry, Exchange, Outcome, Target};

use super::echo_server;
use crate::net::{Ip, Namespace, Net};
use crate::peer::Peer;
use crate::proc::await_gone;

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

/// The sockets of the calling thread's network namespace by their ports.
fn entries() -> BTreeMap<(u16, u16), Entry> {
    let mut entries = BTreeMap::new();
    let dumped = Exchange::open().and_then(|mut exchange| {
        exchange.dump(|entry| {
            entries.insert((entry.id.source_port, entry.id.destination_port), entry);
        })
    });
    assert_eq!(dumped, Ok(diag::Dumped::default()));
    entries
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
