use std::net::IpAddr;

use netlink_packet_sock_diag::inet;

use super::*;
use crate::record::{TimerKind, VerdictName};
use crate::source::diag::{Info, Timer};

/// A connection at rest, as the kernel tells of it.
fn entry(state: State) -> Entry {
    let [local, remote] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse::<IpAddr>().unwrap());
    let id = inet::SocketId {
        source_port: 80,
        destination_port: 4000,
        source_address: local,
        destination_address: remote,
        interface_id: 0,
        cookie: [1; 8],
    };
    let info = Info {
        last_data_sent_ms: Some(3000),
        last_data_recv_ms: Some(2000),
        last_ack_recv_ms: Some(4000),
        bytes_sent: Some(10),
        bytes_received: Some(20),
        notsent_bytes: Some(0),
        ..Info::default()
    };
    Entry {
        id,
        is_ipv6: false,
        state,
        timer: Timer::None,
        retransmits: 0,
        expires_ms: 0,
        receive_queue: 0,
        send_queue: 0,
        uid: 33,
        inode: 99,
        info: Some(info),
    }
}

fn with(entry: &Entry, change: impl FnOnce(&mut Info)) -> Entry {
    let mut changed = entry.clone();
    change(changed.info.as_mut().unwrap());
    changed
}

/// Tells of sockets of one network namespace, in this order, as a process without a share in them.
fn tell(entries: &[Entry]) -> Vec<Found> {
    let thresholds = Thresholds::default();
    let mut teller = Teller {
        holders: Holders::default(),
        thresholds: &thresholds,
        has_our_users: true,
        listeners: HashSet::new(),
    };
    entries.iter().map(|entry| teller.tell(entry, 7, Time::from_unix_ns(0)).found).collect()
}

fn told(entry: &Entry) -> Found {
    tell(std::slice::from_ref(entry)).remove(0)
}

#[test]
fn without_any_timer_an_idle_connection_never_notices() {
    let idle = entry(State::ESTABLISHED);
    assert_eq!(told(&idle).noticed, Some(Noticed::Never));
    assert_eq!(told(&entry(State::CLOSE_WAIT)).noticed, Some(Noticed::Never));
    assert_eq!(told(&entry(State::FIN_WAIT2)).noticed, Some(Noticed::Never));
    for unknown in [
        Entry { timer: Timer::Keepalive, ..idle.clone() },
        Entry { timer: Timer::Unknown(9), ..idle.clone() },
        Entry { send_queue: 1, ..idle.clone() },
        Entry { info: None, ..idle.clone() },
        Entry { inode: 0, ..entry(State::FIN_WAIT2) },
        entry(State::SYN_SENT),
        entry(State::LISTEN),
        entry(State::LAST_ACK),
    ] {
        assert_eq!(told(&unknown).noticed, None, "{unknown:?}");
    }
}

#[test]
fn syn_and_fin_are_no_payload() {
    let queues = |state, send_queue, receive_queue, notsent| {
        let queued = Entry { receive_queue, send_queue, ..entry(state) };
        let tcp = told(&with(&queued, |info| info.notsent_bytes = Some(notsent))).tcp;
        [tcp.unacked_bytes, tcp.unsent_bytes, tcp.unread_bytes].map(Option::unwrap)
    };
    assert_eq!(queues(State::ESTABLISHED, 100, 5, 30), [70, 30, 5]);
    assert_eq!(queues(State::SYN_SENT, 1, 0, 0), [0, 0, 0]);
    // The FIN in flight behind everything, and one that waits with unsent payload.
    assert_eq!(queues(State::FIN_WAIT1, 101, 5, 0), [100, 0, 5]);
    assert_eq!(queues(State::LAST_ACK, 101, 1, 31), [70, 30, 0]);
    // The peer's FIN, unread behind payload, and read.
    assert_eq!(queues(State::CLOSE_WAIT, 0, 6, 0), [0, 0, 5]);
    assert_eq!(queues(State::CLOSE_WAIT, 0, 0, 0), [0, 0, 0]);
}

#[test]
fn stamps_of_a_handshake_are_not_of_payload() {
    let tcp = told(&entry(State::ESTABLISHED)).tcp;
    assert_eq!([tcp.last_sent_ms, tcp.last_data_received_ms], [Some(3000), Some(2000)]);
    assert_eq!(tcp.last_received_ms, Some(2000));
    let silent = with(&entry(State::ESTABLISHED), |info| {
        (info.bytes_sent, info.bytes_received) = (Some(0), Some(0));
    });
    let found = told(&silent);
    assert_eq!([found.tcp.last_sent_ms, found.tcp.last_data_received_ms], [None, None]);
    assert_eq!((found.tcp.last_received_ms, found.idle_ms), (Some(2000), Some(2000)));
    // The peer's FIN alone came.
    let left = with(&entry(State::CLOSE_WAIT), |info| info.bytes_received = Some(1));
    assert_eq!(told(&left).tcp.last_data_received_ms, None);
    let calling = told(&entry(State::SYN_SENT));
    assert_eq!((calling.tcp.last_received_ms, calling.idle_ms), (None, None));
}

#[test]
fn a_connection_without_a_process_is_an_orphan_or_waits_to_be_accepted() {
    for (state, expected) in [
        (State::ESTABLISHED, (false, true)),
        (State::CLOSE_WAIT, (false, true)),
        (State::FIN_WAIT1, (true, false)),
        (State::FIN_WAIT2, (true, false)),
        (State::LAST_ACK, (true, false)),
        (State::CLOSING, (true, false)),
    ] {
        let found = told(&Entry { inode: 0, uid: 0, ..entry(state) });
        assert_eq!((found.socket.orphan, found.unaccepted), expected, "{state}");
        assert_eq!((found.socket.inode, found.socket.uid), (None, None), "{state}");
        let found = told(&entry(state));
        assert_eq!((found.socket.orphan, found.unaccepted), (false, false), "{state}");
        assert_eq!((found.socket.inode, found.socket.uid), (Some(99), Some(33)), "{state}");
    }
    // What is left of a connection when its socket is gone.
    let rest =
        Entry { inode: 0, info: None, timer: Timer::TimeWait, expires_ms: 60_000, ..entry(State::FIN_WAIT2) };
    let found = told(&rest);
    assert_eq!((found.socket.orphan, found.unaccepted), (true, false));
    assert!(!found.has_peer(), "nobody waits for its peer");
    assert_eq!(found.timer.map(|timer| (timer.kind, timer.in_ms)), Some((TimerKind::TimeWait, 60_000)));
}

#[test]
fn a_timer_is_called_by_what_it_is_for() {
    let kind =
        |timer, state, inode| told(&Entry { timer, inode, ..entry(state) }).timer.map(|timer| timer.kind);
    assert_eq!(kind(Timer::Retransmission, State::ESTABLISHED, 9), Some(TimerKind::Retransmission));
    assert_eq!(kind(Timer::Persist, State::ESTABLISHED, 9), Some(TimerKind::Persist));
    assert_eq!(kind(Timer::Keepalive, State::FIN_WAIT2, 9), Some(TimerKind::Keepalive));
    assert_eq!(kind(Timer::Keepalive, State::FIN_WAIT2, 0), Some(TimerKind::TimeWait));
    assert_eq!(kind(Timer::Unknown(9), State::ESTABLISHED, 9), None);
}

#[test]
fn the_peer_opened_what_came_to_a_listener() {
    let connection = entry(State::ESTABLISHED);
    let mut of_ipv6 = connection.clone();
    of_ipv6.is_ipv6 = true;
    let listening_on = |address: &str, port| {
        let mut listener = entry(State::LISTEN);
        (listener.id.source_address, listener.id.source_port) = (address.parse().unwrap(), port);
        listener
    };
    let accepted = |listener, connection: &Entry| tell(&[listener, connection.clone()])[1].accepted;
    assert!(accepted(listening_on("0.0.0.0", 80), &connection));
    assert!(accepted(listening_on("10.0.0.1", 80), &connection));
    assert!(!accepted(listening_on("10.0.0.9", 80), &connection));
    assert!(!accepted(listening_on("0.0.0.0", 4000), &connection));
    assert!(!accepted(listening_on("0.0.0.0", 80), &of_ipv6));
}

#[test]
fn a_verdict_follows_from_the_facts_alone() {
    let stuck =
        with(&Entry { timer: Timer::Retransmission, send_queue: 10, ..entry(State::ESTABLISHED) }, |info| {
            (info.retransmits, info.rto_us) = (Some(6), Some(12_800_000));
        });
    assert_eq!(told(&stuck).verdict, Some(VerdictName::StuckRetransmission));
    assert_eq!(told(&entry(State::ESTABLISHED)).verdict, None);
    let long_ago = with(&entry(State::CLOSE_WAIT), |info| {
        info.last_data_sent_ms = Some(100_000);
        info.last_data_recv_ms = Some(100_000);
        info.last_ack_recv_ms = Some(100_000);
    });
    assert_eq!(told(&long_ago).verdict, Some(VerdictName::CloseWaitLeak));
}

#[test]
fn only_a_map_of_all_users_gives_their_numbers() {
    assert!(has_all_users("         0          0 4294967295\n"));
    assert!(!has_all_users("         0     100000      65536\n"));
    assert!(!has_all_users("0 0 1000\n1000 1000 1\n"));
    assert!(!has_all_users(""));
}
