//! The words for what a record says.

use std::net::SocketAddr;
use std::time::Duration;

use crate::engine::Standing;
use crate::record::{
    AcceptQueue, Cause, Closed, End, Fact, Keepalive, KeepaliveSettings, Process, ProcessSample, Progress,
    Request, Retransmit, Sample, Shed, Socket, State, Subject, Tcp, Tick, What, ZeroWindowProbe, printable,
};
use crate::sink::quantity::{UNKNOWN, bytes, count, duration, known, milliseconds};

/// How the host stood at a tick: `42 sockets (40 ESTABLISHED, 2 LISTEN), 9000 connections established, 8960 closed`.
pub(super) fn tick(tick: &Tick) -> String {
    let states: Vec<String> =
        tick.sockets.iter().map(|(state, sockets)| format!("{sockets} {}", printable(state))).collect();
    let sockets = (!states.is_empty())
        .then(|| format!("{} ({})", count(tick.sockets.values().sum(), "socket"), states.join(", ")));
    let established =
        tick.established.map(|established| format!("{} established", count(established, "connection")));
    let closed = tick.closed.map(|closed| format!("{closed} closed"));
    let open = count(tick.open_verdicts, "open verdict");
    [sockets, established, closed, Some(open)].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// What zsock does without from here on, why, and what that costs.
pub(super) fn shed(shed: &Shed) -> String {
    let Shed { what, cpu_percent, max_cpu_percent, poorer, lost, .. } = shed;
    let poorer: Vec<_> = poorer.iter().map(|name| printable(name)).collect();
    let poorer = if poorer.is_empty() { String::new() } else { format!("; poorer: {}", poorer.join(", ")) };
    format!(
        "shed {}: zsock used {cpu_percent} % of a processor, and --max-cpu allows {max_cpu_percent} %; from here on {}{poorer}",
        printable(what),
        printable(lost)
    )
}

/// What zsock itself took: its processor time, its memory, the runs of its programs in the kernel; and what it did without to take less.
pub(super) fn cost(end: &End) -> impl Iterator<Item = String> {
    let cpu = end.cpu_ms.map(|cpu| format!("{} of processor time", milliseconds(cpu)));
    let memory = end.peak_resident_bytes.map(|peak| format!("{} of memory at most", bytes(peak)));
    let programs = (!end.programs.is_empty()).then(|| {
        let runs = end.programs.values().map(|program| program.runs).sum();
        let run_ns = end.programs.values().map(|program| program.run_ns).sum();
        format!("{} of its programs in {}", count(runs, "run"), duration(Duration::from_nanos(run_ns)))
    });
    let shed = end.shed.iter().map(|(what, times)| match (&**what, times) {
        ("nothing", _) => "--max-cpu not kept".to_owned(),
        (what, 1) => format!("shed {}", printable(what)),
        (what, _) => format!("shed {} {times} times", printable(what)),
    });
    [cpu, memory, programs].into_iter().flatten().chain(shed)
}

/// The name of an event, as in its record's `type`.
pub(in crate::sink) const fn name(what: &What) -> &'static str {
    match what {
        What::State(_) => "state",
        What::Retransmit(_) => "retransmit",
        What::Keepalive(_) => "keepalive",
        What::KeepaliveAnswered(_) => "keepalive_answered",
        What::ZeroWindowProbe(_) => "zero_window_probe",
        What::Progress(_) => "progress",
        What::Error(_) => "error",
        What::ResetReceived(_) => "reset_received",
        What::ResetSent(_) => "reset_sent",
        What::AcceptFailed(_) => "accept_failed",
        What::Closed(_) => "closed",
        What::Sample(_) => "sample",
    }
}

/// The process that holds or last held a socket: `nginx[812]`.
pub(in crate::sink) fn owner(socket: &Socket) -> String {
    let comm = known(socket.comm.as_deref(), |comm| printable(comm).into_owned());
    let owner = match socket.pid {
        Some(pid) => format!("{comm}[{pid}]"),
        None => comm,
    };
    if socket.orphan { format!("{owner}, orphan") } else { owner }
}

/// Whom a verdict is about.
pub(in crate::sink) fn subject(subject: &Subject) -> String {
    match subject {
        Subject::Socket { socket, .. } => format!("{}  {}", owner(socket), ends(socket)),
        Subject::Process { process } => named(process),
        Subject::Destination { destination } => format!("→ {destination}"),
    }
}

/// A process: `nginx[812]`.
pub(in crate::sink) fn named(process: &Process) -> String {
    let comm = known(process.comm.as_deref(), |comm| printable(comm).into_owned());
    format!("{comm}[{}]", process.pid)
}

/// What is known of where a process belongs.
pub(in crate::sink) fn place(process: &Process) -> Vec<String> {
    let named = |name: &str, value: Option<&str>| value.map(|value| format!("{name} {}", printable(value)));
    [named("cgroup", process.cgroup.as_deref()), named("container", process.container.as_deref())]
        .into_iter()
        .flatten()
        .collect()
}

/// A process and its descriptors.
pub(super) fn process_sample(sample: &ProcessSample) -> String {
    let whose = named(&sample.process);
    if sample.exited {
        return format!("{whose:<20}  ended");
    }
    let number = |value: Option<u64>| known(value, |value| value.to_string());
    let (open, limit, sockets) = (number(sample.open_fds), number(sample.limit), number(sample.socket_fds));
    let mut phrases =
        vec![format!("{open} of {limit} descriptors open"), format!("{sockets} of them sockets")];
    phrases.extend(sample.dead_fds.map(|dead| format!("{dead} of these dead")));
    phrases.extend(sample.growth_per_minute.map(|growth| format!("{growth:+} a minute")));
    let peers: Vec<_> =
        sample.peers.iter().map(|peer| format!("{} ({})", peer.remote, peer.sockets)).collect();
    if !peers.is_empty() {
        phrases.push(format!("most with {}", peers.join(" and ")));
    }
    format!("{whose:<20}  {}", phrases.join(", "))
}

/// Our end and the peer's; a listener has only ours.
pub(in crate::sink) fn ends(socket: &Socket) -> String {
    let end = |end: Option<SocketAddr>| known(end, |end| end.to_string());
    match (socket.local, socket.remote) {
        (Some(local), None) => local.to_string(),
        (local, remote) => format!("{} → {}", end(local), end(remote)),
    }
}

/// What is known of where a socket belongs, beside owner and ends.
pub(in crate::sink) fn identity(socket: &Socket) -> Vec<String> {
    let named =
        |name: &str, value: Option<String>| value.map(|value| format!("{name} {}", printable(&value)));
    let owner_exited = socket
        .owner_exited
        .map(|exited| if exited { "its last process exited" } else { "its last process lives" });
    [
        named("id", Some(socket.id.to_string())),
        named("netns", socket.netns.map(|netns| netns.to_string())),
        named("uid", socket.uid.map(|uid| uid.to_string())),
        named("inode", socket.inode.map(|inode| inode.to_string())),
        named("cgroup", socket.cgroup.as_deref().map(str::to_owned)),
        named("container", socket.container.as_deref().map(str::to_owned)),
        owner_exited.map(str::to_owned),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// How TCP stood with a socket.
pub(in crate::sink) fn standing(tcp: &Tcp) -> Vec<String> {
    if *tcp == Tcp::default() {
        return vec![UNKNOWN.to_owned()];
    }
    if tcp.state == Some(State::LISTEN) {
        return vec![State::LISTEN.to_string()];
    }
    let ago = |value| known(value, |value| format!("{} ago", milliseconds(value)));
    let mut phrases = vec![
        known(tcp.state, |state| state.to_string()),
        format!("rto {}", known(tcp.rto_ms, milliseconds)),
        format!("srtt {}", known(tcp.srtt_us, |us| duration(Duration::from_micros(us)))),
        format!("unacknowledged {}", known(tcp.unacked_bytes, bytes)),
        format!("unsent {}", known(tcp.unsent_bytes, bytes)),
        format!("unread {}", known(tcp.unread_bytes, bytes)),
        format!("last sent {}", ago(tcp.last_sent_ms)),
        format!("last heard {}", ago(tcp.last_received_ms)),
        format!("keepalive {}", known(tcp.keepalive, keepalive_settings)),
    ];
    // Where it is absent it is not set or not known; neither can be said.
    phrases.extend(tcp.user_timeout_ms.map(|ms| format!("user timeout {}", milliseconds(ms))));
    phrases
}

/// The numbers of an event, and those of TCP that matter with it.
pub(in crate::sink) fn details(what: &What, standing: Standing) -> String {
    let phrases = match what {
        What::State(change) => vec![format!("{} → {}", change.from, change.to)],
        What::Retransmit(it) => retransmit(it, standing),
        What::Keepalive(it) => keepalive(it, standing),
        What::KeepaliveAnswered(it) => vec![format!("after {}", count(it.after_probes.into(), "probe"))],
        What::ZeroWindowProbe(it) => zero_window_probe(*it, standing),
        What::Progress(it) => progress(*it),
        What::Error(it) => vec![printable(it.errno.name()).into_owned()],
        What::ResetReceived(it) | What::ResetSent(it) => {
            vec![format!("reason {}", known(it.reason.as_deref(), |reason| printable(reason).into_owned()))]
        }
        What::AcceptFailed(it) => {
            vec![printable(it.errno.name()).into_owned(), count(it.count, "time")]
        }
        What::Closed(it) => closed(it),
        What::Sample(it) => sample(it, standing),
    };
    phrases.join(", ")
}

fn retransmit(it: &Retransmit, standing: Standing) -> Vec<String> {
    let mut phrases = vec![it.cause.map_or_else(|| format!("cause {UNKNOWN}"), |cause| cause.to_string())];
    if it.fin {
        phrases.push("FIN".to_owned());
    }
    // Only a timer counts its attempts and knows the next.
    if it.attempt.is_some() || matches!(it.cause, Some(Cause::Rto | Cause::Syn | Cause::SynAck)) {
        phrases.push(format!("attempt {}", known(it.attempt, |attempt| attempt.to_string())));
        phrases.push(next(it.next_ms));
    }
    phrases.extend(standing.rto_ms.map(|rto| format!("rto {}", milliseconds(rto))));
    phrases.extend(standing.unacked_bytes.map(|unacked| format!("{} unacknowledged", bytes(unacked))));
    if it.failed {
        let why = it.errno.as_ref().map_or_else(|| UNKNOWN.into(), |errno| printable(errno.name()));
        phrases.push(format!("did not leave this host: {why}"));
    }
    phrases
}

fn keepalive(it: &Keepalive, standing: Standing) -> Vec<String> {
    let of = it.of.map_or_else(String::new, |of| format!(" of {of}"));
    let mut phrases = vec![format!("probe {}{of}", it.probe), next(it.next_ms)];
    phrases.extend(last_heard(standing));
    phrases
}

fn zero_window_probe(it: ZeroWindowProbe, standing: Standing) -> Vec<String> {
    let mut phrases = vec![format!("probe {}", it.probe)];
    phrases.extend(it.answered.map(|answered| {
        format!("the one before was {}", if answered { "answered" } else { "not answered" })
    }));
    phrases.push(next(it.next_ms));
    phrases.extend(standing.unsent_bytes.map(|unsent| format!("{} unsent", bytes(unsent))));
    phrases
}

fn progress(it: Progress) -> Vec<String> {
    vec![format!("stalled {}", known(it.stalled_ms, milliseconds)), count(it.attempts.into(), "time-out")]
}

fn closed(it: &Closed) -> Vec<String> {
    let flags = [
        (it.peer_closed, "the peer closed"),
        (it.reset, "reset"),
        (it.fin_unacked, "FIN never acknowledged"),
        (it.fd_open, "a process still holds the descriptor"),
    ];
    let mut phrases = vec![format!("from {}", it.from)];
    phrases.extend(it.errno.as_ref().map(|errno| printable(errno.name()).into_owned()));
    phrases.push(format!("lived {}", known(it.lifetime_ms, milliseconds)));
    phrases.push(format!("sent {}", known(it.bytes_sent, bytes)));
    phrases.push(format!("received {}", known(it.bytes_received, bytes)));
    phrases.extend(flags.iter().filter(|(is, _)| *is).map(|(_, phrase)| (*phrase).to_owned()));
    phrases
}

fn sample(it: &Sample, standing: Standing) -> Vec<String> {
    let fact = it.fact.map(|fact| match fact {
        Fact::LastReceived => "the last segment came from the peer",
        Fact::LastSent => "payload was last sent",
        Fact::RetransmittingSince => "the first retransmission of this stall",
        Fact::ProbingSince => "the first unanswered keepalive probe",
    });
    let state = standing.state.map(|state| state.to_string());
    [
        fact.map(str::to_owned),
        state,
        it.idle_ms.map(|ms| format!("idle for {}", milliseconds(ms))),
        it.unread_for_ms.map(|ms| format!("data unread for {}", milliseconds(ms))),
        it.half_closed_ms.map(|ms| format!("half-closed for {}", milliseconds(ms))),
        it.request.map(request),
        it.accept_queue.map(accept_queue),
        last_heard(standing),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn request(it: Request) -> String {
    let (waiting, usual) = (milliseconds(it.waiting_ms), milliseconds(it.usual_ms));
    let answered = it.answered_before;
    format!("no answer for {waiting} (usual after {usual}, {answered} answered before)")
}

fn accept_queue(it: AcceptQueue) -> String {
    let oldest = it.oldest_ms.map_or_else(String::new, |ms| format!(", the oldest for {}", milliseconds(ms)));
    format!("{} waiting to be accepted (backlog {}){oldest}", it.queue, it.backlog)
}

fn next(next_ms: Option<u64>) -> String {
    format!("next in {}", known(next_ms, milliseconds))
}

fn last_heard(standing: Standing) -> Option<String> {
    standing.last_received_ms.map(|ms| format!("last heard {} ago", milliseconds(ms)))
}

fn keepalive_settings(settings: KeepaliveSettings) -> String {
    if !settings.enabled {
        return "off".to_owned();
    }
    let (idle, interval) = (milliseconds(settings.idle_ms), milliseconds(settings.interval_ms));
    format!("after {idle} ({} every {interval})", count(settings.probes.into(), "probe"))
}
