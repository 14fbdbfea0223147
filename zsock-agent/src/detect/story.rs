//! Stories for tests: the records of one connection, tersely, and the verdicts that they bring.
//!
//! The connection is curl's, from 10.0.0.2:50000 to 10.0.1.4:443; times are milliseconds.

use std::sync::Arc;
use std::time::Duration;

use crate::detect::Thresholds;
use crate::engine::{Engine, Finding};
use crate::record::{
    Body, Cause, Closed, Errno, Event, Fact, Family, Keepalive, KeepaliveAnswered, KeepaliveSettings, Lost,
    Progress, Record, Reset, Retransmit, Sample, Shed, Socket, SocketId, State, StateChange, Tcp, Verdict,
    What, ZeroWindowProbe,
};
use crate::time::Time;

/// The moment so many milliseconds into the story.
pub(crate) fn at(ms: u64) -> Time {
    Time::from_unix_ns(1_700_000_000_000_000_000).after(Duration::from_millis(ms))
}

pub(crate) fn socket() -> Socket {
    Socket {
        id: SocketId(7),
        family: Family::Ipv4,
        local: Some("10.0.0.2:50000".parse().unwrap()),
        remote: Some("10.0.1.4:443".parse().unwrap()),
        v4mapped: false,
        netns: None,
        pid: Some(812),
        comm: Some("curl".into()),
        comm_hex: None,
        uid: None,
        inode: Some(99_120),
        cgroup: None,
        container: None,
        orphan: false,
        owner_exited: None,
        listener: None,
    }
}

/// An established connection with nothing in flight that heard from its peer just now.
pub(crate) fn tcp() -> Tcp {
    Tcp {
        state: Some(State::ESTABLISHED),
        retransmits: Some(0),
        probes_out: Some(0),
        unacked_bytes: Some(0),
        unsent_bytes: Some(0),
        send_window_bytes: Some(65_535),
        last_received_ms: Some(0),
        ..Tcp::default()
    }
}

impl Event {
    /// The socket, to tell something else of it.
    pub(crate) fn socket_mut(&mut self) -> &mut Socket {
        Arc::make_mut(&mut self.socket)
    }
}

pub(crate) fn event(what: What) -> Event {
    Event { what, socket: Arc::new(socket()), tcp: tcp(), replayed: false, inferred: false }
}

/// The event with other TCP facts.
pub(crate) fn with(mut event: Event, change: impl FnOnce(&mut Tcp)) -> Event {
    change(&mut event.tcp);
    event
}

/// The event on a socket that its process has let go.
pub(crate) fn orphaned(mut event: Event) -> Event {
    event.socket_mut().orphan = true;
    event.socket_mut().owner_exited = Some(true);
    event
}

pub(crate) fn replayed(event: Event) -> Event {
    Event { replayed: true, tcp: Tcp::default(), ..event }
}

pub(crate) fn state(from: State, to: State) -> Event {
    with(event(What::State(StateChange { from, to })), |tcp| tcp.state = Some(to))
}

pub(crate) fn connecting() -> Event {
    state(State::CLOSE, State::SYN_SENT)
}

pub(crate) fn established() -> Event {
    state(State::SYN_SENT, State::ESTABLISHED)
}

/// A SYN sent again.
pub(crate) fn syn(attempt: u32) -> Event {
    let what = Retransmit {
        cause: Some(Cause::Syn),
        fin: false,
        attempt: Some(attempt),
        next_ms: None,
        failed: false,
        errno: None,
    };
    with(event(What::Retransmit(what)), |tcp| {
        tcp.state = Some(State::SYN_SENT);
        tcp.retransmits = Some(attempt);
        tcp.last_received_ms = None;
    })
}

/// 24 bytes sent again by the timer.
pub(crate) fn resent(attempt: u32) -> Event {
    let next_ms = Some(200 << attempt.min(9));
    let what = Retransmit {
        cause: Some(Cause::Rto),
        fin: false,
        attempt: Some(attempt),
        next_ms,
        failed: false,
        errno: None,
    };
    with(event(What::Retransmit(what)), |tcp| {
        tcp.retransmits = Some(attempt);
        tcp.unacked_bytes = Some(24);
        tcp.last_received_ms = None;
    })
}

/// A keepalive probe, with 3 probes 1 s apart after 7 s.
pub(crate) fn probe(probe: u32) -> Event {
    let what = Keepalive { probe, of: Some(3), next_ms: Some(1_000) };
    with(event(What::Keepalive(what)), |tcp| {
        tcp.probes_out = Some(probe);
        tcp.keepalive = Some(keepalive());
        tcp.last_received_ms = Some(7_000 + u64::from(probe - 1) * 1_000);
    })
}

pub(crate) fn keepalive() -> KeepaliveSettings {
    KeepaliveSettings { enabled: true, idle_ms: 7_000, interval_ms: 1_000, probes: 3 }
}

pub(crate) fn probe_answered(after_probes: u32) -> Event {
    event(What::KeepaliveAnswered(KeepaliveAnswered { after_probes }))
}

/// A probe of a closed window with 100 bytes waiting.
pub(crate) fn window_probe(probe: u32, answered: Option<bool>) -> Event {
    with(event(What::ZeroWindowProbe(ZeroWindowProbe { probe, answered, next_ms: None })), |tcp| {
        tcp.unsent_bytes = Some(100);
        tcp.send_window_bytes = Some(0);
        tcp.probes_out = Some(1);
        tcp.last_received_ms = None;
    })
}

pub(crate) fn progress(attempts: u32) -> Event {
    event(What::Progress(Progress { stalled_ms: None, attempts }))
}

pub(crate) fn look() -> Event {
    event(What::Sample(Box::default()))
}

/// A look by the periodic pass, which found what `change` says.
pub(crate) fn found(change: impl FnOnce(&mut Sample)) -> Event {
    let mut sample = Sample::default();
    change(&mut sample);
    event(What::Sample(Box::new(sample)))
}

pub(crate) fn past(fact: Fact) -> Event {
    Event {
        inferred: true,
        ..event(What::Sample(Box::new(Sample { fact: Some(fact), ..Sample::default() })))
    }
}

/// A reset comes in while 24 bytes are unacknowledged that were sent just before.
pub(crate) fn reset_received() -> Event {
    with(event(What::ResetReceived(Reset { reason: None })), |tcp| {
        tcp.unacked_bytes = Some(24);
        tcp.last_sent_ms = Some(1);
        tcp.last_received_ms = None;
    })
}

pub(crate) fn reset_sent(reason: &str) -> Event {
    event(What::ResetSent(Reset { reason: Some(reason.into()) }))
}

/// The end from ESTABLISHED, everything acknowledged, without an error.
pub(crate) fn closed() -> Event {
    closed_by(|_| ())
}

/// The end, told as `change` says.
pub(crate) fn closed_by(change: impl FnOnce(&mut Closed)) -> Event {
    let mut what = Closed {
        from: State::ESTABLISHED,
        errno: None,
        lifetime_ms: None,
        bytes_sent: None,
        bytes_received: None,
        peer_closed: false,
        reset: false,
        fd_open: false,
        fin_unacked: false,
    };
    change(&mut what);
    with(event(What::Closed(Box::new(what))), |tcp| {
        tcp.state = Some(State::CLOSE);
        tcp.last_received_ms = None;
    })
}

/// The kernel gave up on what is unacknowledged.
pub(crate) fn timed_out() -> Event {
    with(closed_by(|it| it.errno = Some(Errno::named("ETIMEDOUT"))), |tcp| {
        tcp.retransmits = Some(8);
        tcp.unacked_bytes = Some(24);
    })
}

/// A reset ended it.
pub(crate) fn closed_by_reset() -> Event {
    with(
        closed_by(|it| {
            it.errno = Some(Errno::named("ECONNRESET"));
            it.reset = true;
        }),
        |tcp| tcp.unacked_bytes = Some(24),
    )
}

pub(crate) fn on(ms: u64, event: Event) -> Record {
    Record::new(at(ms), &host(), Body::Event(Box::new(event)))
}

pub(crate) fn lost(ms: u64, count: u64) -> Record {
    Record::new(at(ms), &host(), Body::Lost(Lost { count, since: at(ms), place: "kernel".into() }))
}

/// These hooks are taken off.
pub(crate) fn shed(ms: u64, what: &str, hooks: &[&str]) -> Record {
    let hooks = hooks.iter().copied().map(Arc::from).collect();
    let shed = Shed { what: what.into(), hooks, ..Shed::default() };
    Record::new(at(ms), &host(), Body::Shed(Box::new(shed)))
}

fn host() -> Arc<str> {
    "web-1".into()
}

/// The findings that the records bring with the default thresholds.
pub(crate) fn findings(records: &[Record]) -> Vec<Finding> {
    findings_with(Thresholds::default(), records)
}

pub(crate) fn findings_with(thresholds: Thresholds, records: &[Record]) -> Vec<Finding> {
    let mut engine = Engine::new(thresholds);
    records.iter().flat_map(|record| engine.push(record)).collect()
}

/// When which verdict was given, in short: `(3000, "stuck_retransmission opened")`, `(9000, "stuck_retransmission closed recovered")`.
pub(crate) fn verdicts(records: &[Record]) -> Vec<(u64, String)> {
    words_of(&findings(records))
}

/// The same of findings.
pub(crate) fn words_of(findings: &[Finding]) -> Vec<(u64, String)> {
    findings.iter().map(short).collect()
}

fn short(finding: &Finding) -> (u64, String) {
    let Verdict { verdict, phase, outcome, .. } = verdict(finding);
    let outcome = outcome.map_or_else(String::new, |outcome| format!(" {outcome}"));
    let ms = finding.record.at.since(at(0)).as_millis();
    (u64::try_from(ms).unwrap(), format!("{verdict} {phase}{outcome}"))
}

pub(crate) fn verdict(finding: &Finding) -> &Verdict {
    let Body::Verdict(verdict) = &finding.record.body else {
        panic!("{:?} is no verdict", finding.record.body)
    };
    verdict
}

/// What is expected of [`verdicts`].
pub(crate) fn expected<const N: usize>(list: [(u64, &str); N]) -> Vec<(u64, String)> {
    list.into_iter().map(|(ms, said)| (ms, said.to_owned())).collect()
}

/// Evidence as JSON text, `since` in milliseconds into the story, and the summary.
pub(crate) fn details(finding: &Finding) -> (u64, String, String) {
    let Verdict { since, evidence, summary, .. } = verdict(finding);
    let since_ms = u64::try_from(since.since(at(0)).as_millis()).unwrap();
    (since_ms, serde_json::to_string(evidence).unwrap(), summary.clone())
}
