//! Made-up sockets for tests.

use std::sync::Arc;

use crate::record::{
    AcceptQueue, ArmedTimer, Family, Found, KeepaliveSettings, Noticed, Socket, SocketId, State, Tcp,
    TimerKind, VerdictName,
};

/// An idle connection of `api` to its database with keepalive off, from a port by its id.
pub(crate) fn found(id: u64) -> Found {
    let port = u16::try_from(40_000 + id % 20_000).unwrap();
    Found {
        socket: Socket {
            id: SocketId(id),
            family: Family::Ipv4,
            local: Some(([10, 0, 1, 4], port).into()),
            remote: Some("10.0.5.7:5432".parse().unwrap()),
            v4mapped: false,
            netns: Some(4_026_531_840),
            pid: Some(812),
            comm: Some(Arc::from("api")),
            comm_hex: None,
            uid: Some(33),
            inode: Some(99_120 + id),
            cgroup: Some(Arc::from("/system.slice/api.service")),
            container: None,
            orphan: false,
            owner_exited: None,
            listener: None,
        },
        tcp: Tcp {
            state: Some(State::ESTABLISHED),
            unacked_bytes: Some(0),
            unsent_bytes: Some(0),
            unread_bytes: Some(0),
            last_sent_ms: Some(400_000),
            last_received_ms: Some(399_000),
            keepalive: Some(KeepaliveSettings {
                enabled: false,
                idle_ms: 7_200_000,
                interval_ms: 75_000,
                probes: 9,
            }),
            ..Tcp::default()
        },
        idle_ms: Some(399_000),
        unaccepted: false,
        accepted: false,
        timer: None,
        accept_queue: None,
        verdict: Some(VerdictName::UnguardedIdle),
        noticed: Some(Noticed::Never),
        noticed_in_ms: None,
    }
}

/// Its keepalive is on, with the kernel's defaults.
pub(crate) fn guarded_late(id: u64) -> Found {
    let mut found = found(id);
    found.tcp.keepalive =
        found.tcp.keepalive.map(|keepalive| KeepaliveSettings { enabled: true, ..keepalive });
    found.timer = Some(ArmedTimer { kind: TimerKind::Keepalive, in_ms: 6_801_000 });
    Found { noticed: Some(Noticed::Hours), noticed_in_ms: Some(7_476_000), ..found }
}

/// Waits for an acknowledgement, under the kernel's defaults.
pub(crate) fn stuck(id: u64) -> Found {
    let mut found = found(id);
    found.tcp =
        Tcp { unacked_bytes: Some(312), unsent_bytes: Some(20_480), last_sent_ms: Some(1_600), ..found.tcp };
    Found {
        idle_ms: Some(1_600),
        timer: Some(ArmedTimer { kind: TimerKind::Retransmission, in_ms: 3_500 }),
        verdict: Some(VerdictName::StuckRetransmission),
        noticed: Some(Noticed::Minutes),
        noticed_in_ms: Some(924_600),
        ..found
    }
}

/// Of a client of nginx, accepted on port 443 and well guarded.
pub(crate) fn accepted(id: u64) -> Found {
    let mut found = found(id);
    found.socket.pid = Some(33);
    found.socket.comm = Some(Arc::from("nginx"));
    found.socket.local = Some("10.0.1.4:443".parse().unwrap());
    found.socket.remote = Some(([198, 51, 100, (id % 250) as u8], 50_000).into());
    found.tcp.keepalive =
        Some(KeepaliveSettings { enabled: true, idle_ms: 20_000, interval_ms: 5_000, probes: 3 });
    found.tcp.user_timeout_ms = Some(30_000);
    found.timer = Some(ArmedTimer { kind: TimerKind::Keepalive, in_ms: 12_000 });
    Found {
        accepted: true,
        idle_ms: Some(8_000),
        verdict: None,
        noticed: Some(Noticed::Seconds),
        noticed_in_ms: Some(27_000),
        ..found
    }
}

/// Both of its ends are on this host, over IPv6.
pub(crate) fn on_loopback(id: u64) -> Found {
    let mut found = found(id);
    found.socket.family = Family::Ipv6;
    found.socket.local = Some("[::1]:40000".parse().unwrap());
    found.socket.remote = Some("[::1]:6379".parse().unwrap());
    Found { verdict: None, ..found }
}

/// Waits for connections.
pub(crate) fn listener(id: u64) -> Found {
    let mut found = found(id);
    found.socket.local = Some("0.0.0.0:443".parse().unwrap());
    found.socket.remote = None;
    found.tcp = Tcp { state: Some(State::LISTEN), ..Tcp::default() };
    Found {
        idle_ms: None,
        accept_queue: Some(AcceptQueue { queue: 3, backlog: 128, oldest_ms: None, full_for_ms: None }),
        verdict: None,
        noticed: None,
        ..found
    }
}

/// Closed and not forgotten yet.
pub(crate) fn time_wait(id: u64) -> Found {
    let mut found = found(id);
    found.socket = Socket { pid: None, comm: None, uid: None, inode: None, cgroup: None, ..found.socket };
    found.tcp = Tcp { state: Some(State::TIME_WAIT), ..Tcp::default() };
    let timer = Some(ArmedTimer { kind: TimerKind::TimeWait, in_ms: 41_000 });
    Found { idle_ms: None, timer, verdict: None, noticed: None, ..found }
}

/// Closed by its process, and not by the peer.
pub(crate) fn running_out(id: u64) -> Found {
    let mut found = time_wait(id);
    found.socket.orphan = true;
    Found { tcp: Tcp { state: Some(State::FIN_WAIT2), ..Tcp::default() }, ..found }
}

/// A connection of which nearly nothing is known, and whose owner wants to be no part of the output.
pub(crate) fn stranger(id: u64) -> Found {
    let mut found = found(id);
    found.socket.comm = Some(Arc::from("\u{1b}[2J\n日本\u{202e}"));
    found.socket.local = None;
    found.tcp = Tcp { state: Some(State::ESTABLISHED), ..Tcp::default() };
    Found { idle_ms: None, verdict: None, noticed: None, ..found }
}

/// No process holds it any more.
pub(crate) fn orphan(id: u64) -> Found {
    let mut found = stuck(id);
    found.socket.orphan = true;
    found.socket.inode = None;
    found.tcp.state = Some(State::FIN_WAIT1);
    Found { verdict: Some(VerdictName::OrphanStuck), ..found }
}

/// No process has accepted it yet.
pub(crate) fn unaccepted(id: u64) -> Found {
    let mut found = accepted(id);
    found.socket = Socket { pid: None, comm: None, inode: None, cgroup: None, ..found.socket };
    Found { unaccepted: true, ..found }
}

/// One of each kind.
pub(crate) fn all() -> Vec<Found> {
    vec![
        found(1),
        guarded_late(2),
        stuck(3),
        accepted(4),
        on_loopback(5),
        listener(6),
        time_wait(7),
        stranger(8),
        orphan(9),
        unaccepted(10),
    ]
}
