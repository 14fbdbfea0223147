//! One look at every socket without BPF.

use std::collections::BTreeMap;
use std::fs;

use caps::CapSet;
use zsock_agent::detect::Thresholds;
use zsock_agent::record::{AcceptQueue, Family, Found, Noticed, State, TimerKind};
use zsock_agent::source::census::{Counted, Coverage, Wanted, by_diag};
use zsock_common::settings::Filter;

use super::echo_server;
use crate::net::{Ip, Namespace, Net};
use crate::peer::Peer;
use crate::proc::{await_accept_queue, await_state};

/// Nothing here takes longer.
const SOON_MS: u64 = 20_000;

pub(super) fn without_bpf_it_tells_what_the_kernel_does() {
    let net = Net::routed();
    let mut server = Peer::start(&net.server, "server");
    let server_port = server.listen();
    let mut guarded = Peer::start(&net.client, "guarded");
    let guarded_port = guarded.connect(&Ip::V6.server(server_port));
    guarded.ask("keepalive 60 10 3").expect("set");
    server.ask("accept").expect("accepted");
    let mut early = Peer::start(&net.client, "early");
    let early_port = early.connect(&Ip::Mapped.server(server_port));
    early.ask("write 100").expect("wrote");
    await_accept_queue(&net.server, server_port, 1);
    let (_echo, echo_port) = echo_server(&net);
    let [mut closed, mut orphan] = ["closed", "orphan"].map(|name| Peer::start(&net.client, name));
    let [closed_port, orphan_port] = [&mut closed, &mut orphan].map(|client| {
        let port = client.connect(&Ip::V4.server(echo_port));
        client.exchange();
        port
    });
    closed.ask("close").expect("closed");
    await_state(&net.client, closed_port, State::TIME_WAIT.0);
    net.block_answers();
    orphan.ask("write 300").expect("wrote");
    orphan.ask("close").expect("closed");
    let mut caller = Peer::start(&net.client, "caller");
    let caller_port = caller.ask(&format!("start-connect {}", Ip::V4.server(server_port)));
    let caller_port = caller_port.expect("connecting").parse().expect("a peer tells its port");
    await_state(&net.server, server_port, State::SYN_RECV.0);

    let (seen, coverage) = look();
    assert_eq!((coverage.source, &*coverage.failed), ("sock_diag", &[][..]));
    assert!(coverage.namespaces >= 3, "{coverage:?}");
    let seen = Seen { sockets: seen };

    let listener = seen.at(&net.server, server_port, 0);
    assert_eq!(state(listener), (State::LISTEN, None));
    let queue = AcceptQueue { queue: 1, backlog: 128, oldest_ms: None, full_for_ms: None };
    assert_eq!(listener.found.accept_queue, Some(queue));
    assert_held(listener, &server, "server");

    let end = seen.at(&net.client, guarded_port, server_port);
    assert_eq!(state(end), (State::ESTABLISHED, Some(TimerKind::Keepalive)));
    let probe_in = end.found.timer.expect("it is armed").in_ms;
    assert!((60_000 - SOON_MS..=61_000).contains(&probe_in), "{end:?}");
    // It is on; what else it does is not known.
    assert_eq!((end.found.noticed, end.found.tcp.keepalive), (None, None));
    assert!(!end.found.accepted && end.found.idle_ms.is_some_and(|idle| idle < SOON_MS), "{end:?}");
    assert_eq!(end.found.socket.family, Family::Ipv6);
    assert_held(end, &guarded, "guarded");

    let end = seen.at(&net.server, server_port, guarded_port);
    assert_eq!(state(end), (State::ESTABLISHED, None));
    assert_eq!(end.found.noticed, Some(Noticed::Never));
    assert!(end.found.accepted && !end.found.unaccepted, "{end:?}");
    assert_held(end, &server, "server");

    let end = seen.at(&net.server, server_port, early_port);
    assert_eq!(state(end), (State::ESTABLISHED, None));
    assert!(end.found.unaccepted && end.found.accepted && !end.found.socket.orphan, "{end:?}");
    assert_eq!((end.found.tcp.unread_bytes, end.found.socket.v4mapped), (Some(100), true));
    assert!(end.found.tcp.last_data_received_ms.is_some_and(|ms| ms < SOON_MS), "{end:?}");
    assert_unheld(end);
    let end = seen.at(&net.client, early_port, server_port);
    assert_eq!((end.found.tcp.unacked_bytes, end.found.tcp.unsent_bytes), (Some(0), Some(0)));
    assert!(end.found.tcp.last_sent_ms.is_some_and(|ms| ms < SOON_MS), "{end:?}");
    assert!(end.found.tcp.send_window_bytes > Some(0) && end.found.tcp.cwnd > Some(0), "{end:?}");

    let end = seen.at(&net.client, closed_port, echo_port);
    assert_eq!(state(end), (State::TIME_WAIT, Some(TimerKind::TimeWait)));
    assert!(end.found.timer.is_some_and(|timer| timer.in_ms <= 61_000), "{end:?}");
    assert!(!end.found.socket.orphan && !end.found.unaccepted, "{end:?}");
    assert_unheld(end);

    let end = seen.at(&net.client, orphan_port, echo_port);
    assert_eq!(state(end), (State::FIN_WAIT1, Some(TimerKind::Retransmission)));
    assert!(end.found.socket.orphan && !end.found.unaccepted, "{end:?}");
    assert_eq!((end.found.tcp.unacked_bytes, end.found.tcp.unsent_bytes), (Some(300), Some(0)));
    assert_unheld(end);

    let end = seen.at(&net.client, caller_port, server_port);
    assert_eq!(state(end), (State::SYN_SENT, Some(TimerKind::Retransmission)));
    assert_eq!((end.found.tcp.unacked_bytes, end.found.tcp.last_received_ms), (Some(0), None));
    assert_held(end, &caller, "caller");
    let end = seen.at(&net.server, server_port, caller_port);
    assert_eq!(state(end), (State::SYN_RECV, Some(TimerKind::Retransmission)));
    assert_unheld(end);
}

pub(super) fn without_any_right_it_tells_of_sockets_and_what_it_cannot_tell() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let mut client = Peer::start(&net.client, "client");
    let port = client.connect(&Ip::V4.server(server_port));
    let (sockets, coverage) = net.client.enter(|| {
        // Of this thread, which ends with this. Without capabilities it may not look into processes that have some.
        caps::clear(None, CapSet::Effective).expect("any process may");
        look()
    });
    let seen = Seen { sockets };
    let end = seen.at(&net.client, port, server_port);
    assert_eq!(end.found.noticed, Some(Noticed::Never), "{end:?}");
    assert!(end.found.socket.inode.is_some() && end.found.socket.pid.is_none(), "{end:?}");
    assert_eq!(coverage.namespaces, 1, "{coverage:?}");
    let why = coverage.failed.iter().find(|(namespace, _)| *namespace == net.server.inode());
    let why = &why.expect("its mount shows that it exists").1;
    assert!(why.starts_with("enter the network namespace: EPERM"), "{why}");
    let not_told = coverage.not_told.join("\n");
    assert!(not_told.contains("processes hold that /proc does not open to this user"), "{not_told}");
}

type Sockets = BTreeMap<(u32, u16, u16), Counted>;

/// Every socket of the host by its network namespace and its ports.
fn look() -> (Sockets, Coverage) {
    let wanted = Wanted { filter: Filter::NONE, thresholds: Thresholds::default() };
    let mut sockets = Sockets::new();
    let coverage = by_diag::take(&wanted, |counted| {
        let socket = &counted.found.socket;
        let port = |end: Option<std::net::SocketAddr>| end.map_or(0, |end| end.port());
        let netns = socket.netns.expect("it is always known");
        sockets.insert((netns, port(socket.local), port(socket.remote)), counted);
    });
    (sockets, coverage.expect("the own namespace can be listed"))
}

struct Seen {
    sockets: Sockets,
}

impl Seen {
    #[track_caller]
    fn at(&self, namespace: &Namespace, port: u16, peer_port: u16) -> &Counted {
        let netns = u32::try_from(namespace.inode()).expect("an inode number of nsfs has 32 bits");
        self.sockets.get(&(netns, port, peer_port)).expect("the socket was seen")
    }
}

fn state(counted: &Counted) -> (State, Option<TimerKind>) {
    let Found { tcp, timer, .. } = &counted.found;
    (tcp.state.expect("it is always known"), timer.map(|timer| timer.kind))
}

#[track_caller]
fn assert_held(counted: &Counted, by: &Peer, comm: &str) {
    let socket = &counted.found.socket;
    assert_eq!((socket.pid, socket.comm.as_deref(), socket.uid), (Some(by.pid()), Some(comm), Some(0)));
    let holder = counted.holder.as_ref().expect("who holds it is known");
    let file = fs::read_link(format!("/proc/{}/fd/{}", holder.process.pid, holder.fd)).expect("it holds it");
    let inode = socket.inode.expect("what is held has one");
    assert_eq!(file.to_str(), Some(&*format!("socket:[{inode}]")));
}

#[track_caller]
fn assert_unheld(counted: &Counted) {
    let socket = &counted.found.socket;
    assert_eq!((socket.pid, socket.uid, socket.inode), (None, None, None), "{counted:?}");
    assert!(counted.holder.is_none(), "{counted:?}");
}
