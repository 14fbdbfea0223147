//! The words for what a record says.

use std::net::SocketAddr;
use std::time::Duration;

use crate::append;
use crate::record::{
    End, KeepaliveSettings, Process, ProcessSample, Shed, Socket, State, Subject, Tcp, Tick, printable,
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

/// The process that holds or last held a socket: `nginx[812]`.
pub(in crate::sink) fn owner(socket: &Socket) -> String {
    let mut text = String::new();
    append_owner(&mut text, socket);
    text
}

/// Appends the [`owner`].
pub(super) fn append_owner(text: &mut String, socket: &Socket) {
    match &socket.comm {
        Some(comm) => text.push_str(&printable(comm)),
        None => text.push_str(UNKNOWN),
    }
    if let Some(pid) = socket.pid {
        text.push('[');
        append::number(text, pid);
        text.push(']');
    }
    if socket.orphan {
        text.push_str(", orphan");
    }
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
    let mut text = String::new();
    append_ends(&mut text, socket);
    text
}

/// Appends the [`ends`].
pub(super) fn append_ends(text: &mut String, socket: &Socket) {
    let append_end = |text: &mut String, end: Option<SocketAddr>| match end {
        Some(end) => append::address(text, end),
        None => text.push_str(UNKNOWN),
    };
    append_end(text, socket.local);
    if socket.remote.is_some() || socket.local.is_none() {
        text.push_str(" → ");
        append_end(text, socket.remote);
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

fn keepalive_settings(settings: KeepaliveSettings) -> String {
    if !settings.enabled {
        return "off".to_owned();
    }
    let (idle, interval) = (milliseconds(settings.idle_ms), milliseconds(settings.interval_ms));
    format!("after {idle} ({} every {interval})", count(settings.probes.into(), "probe"))
}
