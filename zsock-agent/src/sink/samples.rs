//! One record of each type, with hostile names among them, and a timeline.

use std::sync::Arc;

use serde_json::json;

use crate::engine::Timeline;
use crate::record::{
    AcceptFailed, AcceptQueue, Body, Cause, Closed, DestinationSample, End, Errno, Errored, Event, Fact,
    Family, Keepalive, KeepaliveAnswered, KeepaliveSettings, Lost, Outcome, PeerSockets, Phase, Process,
    ProcessSample, ProgramRuns, Progress, Record, Request, Reset, Retransmit, Sample, Severity, Shed, Socket,
    SocketId, Start, State, StateChange, Subject, Tcp, Tick, Verdict, VerdictName, What, ZeroWindowProbe,
};
use crate::time::Time;

/// 2023-11-14T22:13:20Z and so many milliseconds.
pub(super) fn at(ms: u64) -> Time {
    Time::from_unix_ns((1_700_000_000_000 + ms) * 1_000_000)
}

pub(super) fn nginx() -> Socket {
    Socket {
        id: SocketId(0x1f),
        family: Family::Ipv4,
        local: Some("10.0.1.4:443".parse().unwrap()),
        remote: Some("192.0.2.7:50000".parse().unwrap()),
        v4mapped: true,
        netns: Some(4_026_531_840),
        pid: Some(812),
        comm: Some("nginx".into()),
        comm_hex: None,
        uid: Some(33),
        inode: Some(99_120),
        cgroup: Some("/system.slice/nginx.service".into()),
        container: None,
        orphan: false,
        owner_exited: None,
        listener: None,
    }
}

/// A socket whose owner wants to be no part of the output.
pub(super) fn hostile() -> Socket {
    Socket {
        comm: Some("\u{1b}[2J\n\u{202e}x\u{fffd}".into()),
        comm_hex: Some("1b5b324a0ae280ae78ff".into()),
        cgroup: Some("/x\r\u{1b}]0;owned\u{7}".into()),
        container: Some("\u{9b}31m".into()),
        ..nginx()
    }
}

/// A socket of which nearly nothing is known.
fn stranger() -> Socket {
    Socket {
        local: None,
        remote: Some("[2001:db8::1]:5432".parse().unwrap()),
        family: Family::Ipv6,
        v4mapped: false,
        netns: None,
        pid: None,
        comm: None,
        uid: None,
        inode: None,
        cgroup: None,
        ..nginx()
    }
}

fn orphan() -> Socket {
    Socket { orphan: true, owner_exited: Some(true), ..nginx() }
}

/// Waits for connections on port 443.
fn listener() -> Socket {
    Socket { local: Some("0.0.0.0:443".parse().unwrap()), remote: None, v4mapped: false, ..nginx() }
}

/// A process that wants to be no part of the output either.
fn hostile_process() -> Process {
    let Socket { comm, comm_hex, cgroup, container, .. } = hostile();
    Process { pid: 812, comm, comm_hex, cgroup, container }
}

fn tcp() -> Tcp {
    Tcp {
        state: Some(State::ESTABLISHED),
        rto_ms: Some(800),
        srtt_us: Some(250),
        unacked_bytes: Some(24),
        unsent_bytes: Some(12_288),
        unread_bytes: Some(0),
        last_sent_ms: Some(1_600),
        last_received_ms: Some(7_215_000),
        keepalive: Some(KeepaliveSettings {
            enabled: true,
            idle_ms: 7_200_000,
            interval_ms: 75_000,
            probes: 9,
        }),
        user_timeout_ms: Some(30_000),
        ..Tcp::default()
    }
}

fn rto(attempt: u32, next_ms: u64) -> What {
    let (attempt, next_ms) = (Some(attempt), Some(next_ms));
    What::Retransmit(Retransmit {
        cause: Some(Cause::Rto),
        fin: false,
        attempt,
        next_ms,
        failed: false,
        errno: None,
    })
}

fn state(from: State, to: State) -> What {
    What::State(StateChange { from, to })
}

fn whats() -> Vec<(What, Socket, Tcp)> {
    let unmeasured =
        Retransmit { cause: None, fin: true, attempt: None, next_ms: None, failed: false, errno: None };
    let syn_ack = Retransmit {
        cause: Some(Cause::SynAck),
        fin: false,
        failed: true,
        errno: Some(Errno::named("ENETUNREACH")),
        ..unmeasured
    };
    let closed = Closed {
        from: State::ESTABLISHED,
        errno: Some(Errno::named("ETIMEDOUT")),
        lifetime_ms: Some(11_000_000),
        bytes_sent: Some(5_000_000_000),
        bytes_received: Some(1),
        peer_closed: true,
        reset: true,
        fd_open: true,
        fin_unacked: true,
    };
    let forgotten = Closed {
        errno: None,
        lifetime_ms: None,
        bytes_sent: None,
        bytes_received: None,
        peer_closed: false,
        reset: false,
        fd_open: false,
        fin_unacked: false,
        ..closed.clone()
    };
    let probe =
        |probe, answered| What::ZeroWindowProbe(ZeroWindowProbe { probe, answered, next_ms: Some(400) });
    let reset = |reason: Option<&str>| Reset { reason: reason.map(Arc::from) };
    let nothing = Tcp::default;
    vec![
        (state(State::SYN_SENT, State::ESTABLISHED), nginx(), tcp()),
        (state(State(13), State(77)), stranger(), nothing()),
        (rto(3, 1_600), hostile(), tcp()),
        (What::Retransmit(unmeasured), stranger(), nothing()),
        (What::Retransmit(syn_ack), Socket { listener: Some(SocketId(7)), ..stranger() }, nothing()),
        (What::Keepalive(Keepalive { probe: 2, of: Some(9), next_ms: Some(75_000) }), nginx(), tcp()),
        (What::Keepalive(Keepalive { probe: 2, of: None, next_ms: None }), nginx(), nothing()),
        (What::KeepaliveAnswered(KeepaliveAnswered { after_probes: 2 }), nginx(), tcp()),
        (probe(1, None), nginx(), tcp()),
        (probe(2, Some(true)), nginx(), tcp()),
        (probe(3, Some(false)), nginx(), nothing()),
        (What::Progress(Progress { stalled_ms: Some(3_000), attempts: 4 }), nginx(), tcp()),
        (What::Progress(Progress { stalled_ms: None, attempts: 1 }), nginx(), tcp()),
        (What::Error(Errored { errno: Errno::named("ETIMEDOUT") }), nginx(), tcp()),
        (What::ResetReceived(reset(None)), nginx(), tcp()),
        (What::ResetSent(reset(Some("NOT_SPECIFIED"))), orphan(), tcp()),
        (What::Closed(Box::new(closed)), nginx(), nothing()),
        (What::Closed(Box::new(forgotten)), stranger(), nothing()),
        (What::Sample(Box::default()), nginx(), tcp()),
        (
            What::Sample(Box::new(Sample { fact: Some(Fact::LastReceived), ..Sample::default() })),
            nginx(),
            nothing(),
        ),
        (
            What::Sample(Box::new(Sample { fact: Some(Fact::LastSent), ..Sample::default() })),
            nginx(),
            nothing(),
        ),
        (
            What::Sample(Box::new(Sample { fact: Some(Fact::RetransmittingSince), ..Sample::default() })),
            nginx(),
            nothing(),
        ),
        (
            What::Sample(Box::new(Sample { fact: Some(Fact::ProbingSince), ..Sample::default() })),
            nginx(),
            nothing(),
        ),
        (
            What::AcceptFailed(AcceptFailed { errno: Errno::named("EMFILE"), count: 3, process: None }),
            listener(),
            listening(),
        ),
    ]
    .into_iter()
    .chain(looks().map(|(look, socket, tcp)| (What::Sample(Box::new(look)), socket, tcp)))
    .collect()
}

fn listening() -> Tcp {
    Tcp { state: Some(State::LISTEN), ..Tcp::default() }
}

/// What the periodic pass finds of sockets.
fn looks() -> impl Iterator<Item = (Sample, Socket, Tcp)> {
    let nothing = Sample::default;
    let request = Request { waiting_ms: 30_000, usual_ms: 12, answered_before: 7 };
    let queue = AcceptQueue { queue: 129, backlog: 128, oldest_ms: Some(4_000), full_for_ms: Some(900) };
    let unknown_age = AcceptQueue { oldest_ms: None, ..queue };
    [
        (Sample { idle_ms: Some(300_000), ..nothing() }, nginx(), tcp()),
        (Sample { unread_for_ms: Some(30_000), ..nothing() }, hostile(), tcp()),
        (Sample { half_closed_ms: Some(60_000), ..nothing() }, nginx(), tcp()),
        (Sample { request: Some(request), idle_ms: Some(30_000), ..nothing() }, nginx(), tcp()),
        (Sample { accept_queue: Some(queue), ..nothing() }, listener(), listening()),
        (Sample { accept_queue: Some(unknown_age), ..nothing() }, listener(), listening()),
    ]
    .into_iter()
}

/// What it finds of processes and destinations.
fn findings() -> Vec<Body> {
    let destination = "10.0.5.7:5432".parse().unwrap();
    let sample = ProcessSample {
        process: hostile_process(),
        open_fds: Some(36),
        limit: Some(40),
        socket_fds: Some(30),
        dead_fds: Some(3),
        growth_per_minute: Some(12),
        peers: vec![
            PeerSockets { remote: "192.0.2.7".parse().unwrap(), sockets: 20 },
            PeerSockets { remote: "2001:db8::1".parse().unwrap(), sockets: 10 },
        ],
        exited: false,
    };
    let unknown = ProcessSample {
        process: Process { pid: 812, comm: None, comm_hex: None, cgroup: None, container: None },
        open_fds: None,
        limit: None,
        socket_fds: None,
        dead_fds: None,
        growth_per_minute: None,
        peers: Vec::new(),
        exited: false,
    };
    let exited = ProcessSample { exited: true, ..unknown.clone() };
    let survived = DestinationSample { destination, survived_ms: 300_000 };
    let processes = [sample, unknown, exited].map(|sample| Body::Process(Box::new(sample)));
    processes.into_iter().chain([Body::Destination(Box::new(survived))]).collect()
}

pub(super) fn about(socket: Socket, tcp: Tcp) -> Subject {
    Subject::Socket { socket: Arc::new(socket), tcp: Box::new(tcp) }
}

pub(super) fn verdict(
    verdict: VerdictName,
    phase: Phase,
    outcome: Option<Outcome>,
    severity: Severity,
) -> Verdict {
    let evidence =
        json!({"attempts": 4, "stalled_ms": 3_000, "unacked_bytes": 24, "gives_up_in_ms": 924_000});
    Verdict {
        verdict,
        phase,
        outcome,
        severity,
        subject: about(nginx(), tcp()),
        since: at(17_000),
        evidence: evidence.as_object().unwrap().clone(),
        summary: "192.0.2.7 has acknowledged nothing of the 24 bytes that nginx sent 3 s ago.".to_owned(),
        advice: vec![
            "Set TCP_USER_TIMEOUT to 20000 ms on this socket.".to_owned(),
            "Look for a firewall between 10.0.1.4 and 192.0.2.7.".to_owned(),
        ],
    }
}

fn verdicts() -> Vec<Verdict> {
    let stuck =
        |phase, outcome| verdict(VerdictName::StuckRetransmission, phase, outcome, Severity::Critical);
    let unknown = Verdict {
        subject: about(hostile(), Tcp::default()),
        since: at(0).before(std::time::Duration::from_hours(24)),
        evidence: serde_json::Map::new(),
        summary: "\u{1b}[2J died.\n".to_owned(),
        advice: vec!["Ask \u{202e}bob.".to_owned()],
        ..verdict(VerdictName::SilentDeath, Phase::Closed, None, Severity::Critical)
    };
    let warning = verdict(VerdictName::OrphanStuck, Phase::Closed, Some(Outcome::Reset), Severity::Warning);
    let info = verdict(VerdictName::KeepaliveUnanswered, Phase::Updated, None, Severity::Info);
    let full =
        verdict(VerdictName::AcceptQueueFull, Phase::Closed, Some(Outcome::Drained), Severity::Critical);
    let pressure = verdict(VerdictName::FdPressure, Phase::Opened, None, Severity::Critical);
    let peers =
        json!({"open_fds": 40, "peers": [{"remote": "192.0.2.7", "sockets": 20}], "blocked_in": ["read"]});
    let inferred = verdict(VerdictName::IdleTimeoutInferred, Phase::Opened, None, Severity::Warning);
    vec![
        stuck(Phase::Opened, None),
        stuck(Phase::Closed, Some(Outcome::Recovered)),
        unknown,
        Verdict { subject: about(orphan(), tcp()), ..warning },
        info,
        Verdict { subject: about(listener(), listening()), ..full },
        Verdict {
            subject: Subject::Process { process: hostile_process() },
            evidence: peers.as_object().unwrap().clone(),
            ..pressure
        },
        Verdict {
            subject: Subject::Destination { destination: "[2001:db8::]/64:443".parse().unwrap() },
            ..inferred
        },
    ]
}

fn shed() -> Body {
    Body::Shed(Box::new(Shed {
        what: "timers".into(),
        hooks: vec!["keepalive".into(), "persist".into()],
        interval_ms: Some(2_000),
        cpu_percent: 7.3,
        max_cpu_percent: 5,
        poorer: vec!["keepalive_unanswered".into(), "\u{1b}[2J".into()],
        lost: "keepalive probes are not\u{202e} seen".into(),
    }))
}

fn tick() -> Body {
    Body::Tick(Box::new(Tick {
        every_ms: 10_000,
        sockets: [("ESTABLISHED".into(), 40), ("LISTEN".into(), 2)].into(),
        established: Some(9_000),
        closed: Some(8_960),
        events: 120,
        lost_events: 0,
        open_verdicts: 1,
    }))
}

/// Records of every type, a millisecond apart.
pub(crate) fn all() -> Vec<Record> {
    let start = Start {
        version: "0.1.0".into(),
        kernel: "6.18.0".into(),
        boot_id: Some("6a2ad7ac-8e5b-4bd1-9c0e-2ab4cfb3c1b8".into()),
        hooks: [("retransmit", "tp_btf/tcp_retransmit_skb"), ("state", "tp_btf/inet_sock_set_state")]
            .map(|(hook, how)| (hook.to_owned(), how.to_owned()))
            .into(),
        missing_fields: vec!["sk_ino".into(), "\u{1b}[31m".into()],
        sockets: 42,
        settings: [("stuck_retransmission".to_owned(), json!(4))].into(),
        sysctl: [("tcp_keepalive_time".to_owned(), 7_200)].into(),
        metrics: Some("127.0.0.1:9464".parse().unwrap()),
    };
    let lost = |place: &str| Body::Lost(Lost { count: 12, since: at(0), place: place.into() });
    let end = End {
        events: 120,
        lost_events: 12,
        verdicts: 3,
        open_verdicts: 1,
        sockets_seen: 42,
        duration_ms: 30_000,
        records: 130,
        kernel_records: 180,
        read_records: 180,
        kernel_lost: 0,
        sockets_dropped: 5,
        sockets_forgotten: 0,
        sockets_unstored: 0,
        cpu_ms: Some(1_250),
        peak_resident_bytes: Some(41 << 20),
        shed: [("timers".into(), 1), ("passes".into(), 2)].into(),
        programs: [
            ("\u{1b}[2J".into(), ProgramRuns { runs: 3, run_ns: 480 }),
            ("tcp_destroy_sock".into(), ProgramRuns { runs: 20_000, run_ns: 1_540_000 }),
        ]
        .into(),
    };
    let events = whats().into_iter().map(|(what, socket, tcp)| {
        // Replayed and inferred records are those without TCP's counters.
        let (replayed, inferred) =
            (tcp == Tcp::default(), matches!(&what, What::Sample(sample) if sample.fact.is_some()));
        Body::Event(Box::new(Event { what, socket: Arc::new(socket), tcp, replayed, inferred }))
    });
    let host = Arc::from("web-1");
    [Body::Start(Box::new(start))]
        .into_iter()
        .chain(events)
        .chain(findings())
        .chain(verdicts().into_iter().map(|verdict| Body::Verdict(Box::new(verdict))))
        .chain([tick(), shed(), lost("kernel"), lost("output"), lost("\u{1b}c"), Body::End(Box::new(end))])
        .zip(20_000..)
        .map(|(body, ms)| Record::new(at(ms), &host, body))
        .collect()
}

/// Two hours of peace, then a stall.
pub(crate) fn timeline() -> Timeline {
    let birth = at(17_000).before(std::time::Duration::from_secs(7_203));
    let heard = What::Sample(Box::new(Sample { fact: Some(Fact::LastReceived), ..Sample::default() }));
    let mut timeline = Timeline::default();
    let mut add = |at, what, tcp, replayed, inferred| {
        timeline.add(at, &Event { what, socket: Arc::new(nginx()), tcp, replayed, inferred });
    };
    add(birth, state(State::SYN_SENT, State::ESTABLISHED), Tcp::default(), true, false);
    add(at(16_900), heard, Tcp::default(), true, true);
    for (ms, attempt, next_ms) in [(17_200, 1, 400), (17_600, 2, 800), (18_400, 3, 1_600), (20_000, 4, 3_200)]
    {
        add(at(ms), rto(attempt, next_ms), tcp(), false, false);
    }
    timeline
}
