//! What a record can carry, one type for each `type`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Not;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Cause, DestinationSample, Errno, Process, ProcessSample, ProgramRuns, Shed, Socket, State, Tcp, Verdict,
};
use crate::time::Time;

/// What a record carries, told apart by `type`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Body {
    /// Tracing has begun.
    Start(Box<Start>),
    /// Tracing has ended.
    End(Box<End>),
    /// Records were lost.
    Lost(Lost),
    /// Zsock does without something.
    Shed(Box<Shed>),
    /// A verdict.
    Verdict(Box<Verdict>),
    /// What the periodic pass found of a process.
    Process(Box<ProcessSample>),
    /// What the periodic pass found of a destination.
    Destination(Box<DestinationSample>),
    /// The recorder was there.
    Tick(Box<Tick>),
    /// Something that happened to a socket.
    Event(Box<Event>),
}

/// After every hook is attached and the sockets that already existed are loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "start")]
pub struct Start {
    /// zsock's version.
    pub version: Arc<str>,
    /// The kernel's release, as `uname -r` says.
    pub kernel: Arc<str>,
    /// `/proc/sys/kernel/random/boot_id`; socket ids are unique within it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<Arc<str>>,
    /// How each hook is attached, or why not.
    pub hooks: BTreeMap<String, String>,
    /// Fields that this kernel does not have and that are missed: what needs them is absent from the records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_fields: Vec<Arc<str>>,
    /// TCP sockets that existed.
    pub sockets: u64,
    /// Thresholds in force, by verdict.
    pub settings: BTreeMap<String, Value>,
    /// The settings of this network namespace that the verdicts use.
    pub sysctl: BTreeMap<String, u64>,
    /// Where metrics are served, with the port that was chosen; absent where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
}

/// Counters since the start, of what the selectors let through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "end")]
pub struct End {
    /// Socket events seen.
    pub events: u64,
    /// Events lost anywhere between the kernel and the reader.
    pub lost_events: u64,
    /// Verdicts opened, final ones included.
    pub verdicts: u64,
    /// Verdicts still open.
    pub open_verdicts: u64,
    /// Sockets that an event was seen of.
    pub sockets_seen: u64,
    /// How long it ran.
    pub duration_ms: u64,
    /// Records that were to be written, this one included: each is a line of JSON, or was dropped and is counted in `lost`
    /// with `where` `output` or `recording`.
    #[serde(default)]
    pub records: u64,
    /// Records that the kernel side handed over.
    #[serde(default)]
    pub kernel_records: u64,
    /// Of these, how many were read: all, unless zsock is at fault.
    #[serde(default)]
    pub read_records: u64,
    /// Records for which the ring buffer had no room, as the kernel side counts them.
    #[serde(default)]
    pub kernel_lost: u64,
    /// Sockets let go for want of memory, and events of sockets that were not taken in for the same reason, as the engine counts
    /// them. Nothing is known of such a socket but what its next events say.
    #[serde(default)]
    pub sockets_dropped: u64,
    /// Sockets whose owner and past were forgotten for want of memory.
    #[serde(default)]
    pub sockets_forgotten: u64,
    /// Looks and events that found no room in the kernel for what has to be remembered of their socket.
    #[serde(default)]
    pub sockets_unstored: u64,
    /// Processor time of zsock's process, user's and system's, its start included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// The most memory in RAM that the process mapped, `VmHWM`: what the kernel keeps for it is not part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_resident_bytes: Option<u64>,
    /// Runs of each program; empty where the kernel's statistics (`kernel.bpf_stats_enabled`) are off.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub programs: BTreeMap<Arc<str>, ProgramRuns>,
    /// `shed` records, by `what`: what zsock did without in the end.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shed: BTreeMap<Arc<str>, u64>,
}

/// Records that could not be handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "lost")]
pub struct Lost {
    /// How many.
    pub count: u64,
    /// They were lost between then and the record's `ts`.
    pub since: Time,
    /// Where: `kernel` (the ring buffer was full), `hook` (the kernel skipped a program that was running already on that CPU),
    /// `output` (the reader of stdout was too slow) or `recording` (it could not be written, or not fast enough).
    #[serde(rename = "where")]
    pub place: Arc<str>,
}

/// Told by `record` at regular times, whatever happens or does not: where ticks are missing, nobody was watching. Counters are of all
/// since the start, of healthy connections too, of which there is no other record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "tick")]
pub struct Tick {
    /// The next one comes after so long.
    pub every_ms: u64,
    /// TCP sockets by state, as the last pass over all of them counted; empty where there was none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sockets: BTreeMap<Arc<str>, u64>,
    /// Connections that came to ESTABLISHED; absent where the kernel side does not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub established: Option<u64>,
    /// Sockets that came to CLOSE from another state; absent as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<u64>,
    /// Socket events seen.
    pub events: u64,
    /// Events lost anywhere between the kernel and the recording.
    pub lost_events: u64,
    /// Verdicts still open.
    pub open_verdicts: u64,
}

/// Something that happened to a socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What happened; its `type` is flattened into the line.
    #[serde(flatten)]
    pub what: What,
    /// To whom: one and the same from one event to the next, until something else is known of it.
    pub socket: Arc<Socket>,
    /// How TCP stood after it. Empty for replayed records: the kernel keeps the times of the past, not its counters.
    #[serde(default)]
    pub tcp: Tcp,
    /// Told after the fact, at its true time, with the socket's first sign of trouble.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub replayed: bool,
    /// Not seen but concluded from what the kernel still knew.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub inferred: bool,
}

/// What can happen to a socket. Boxed is what is seldom told and takes much room: events wait, and timelines keep many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum What {
    /// The TCP state changed.
    State(StateChange),
    /// A segment was sent again.
    Retransmit(Retransmit),
    /// The keepalive timer sent a probe.
    Keepalive(Keepalive),
    /// The peer answered after at least one probe had gone unanswered.
    KeepaliveAnswered(KeepaliveAnswered),
    /// The persist timer probed a closed window.
    ZeroWindowProbe(ZeroWindowProbe),
    /// An ACK moved a stalled connection again.
    Progress(Progress),
    /// The kernel reported an error on the socket.
    Error(Errored),
    /// A reset came in.
    ResetReceived(Reset),
    /// A reset went out.
    ResetSent(Reset),
    /// Accepting connections failed; the socket is the listener.
    AcceptFailed(AcceptFailed),
    /// TCP is done with the socket.
    Closed(Box<Closed>),
    /// Facts of a socket that did not change state.
    Sample(Box<Sample>),
}

impl What {
    /// The `type` of each of them.
    pub const TYPES: [&'static str; 12] = [
        "state",
        "retransmit",
        "keepalive",
        "keepalive_answered",
        "zero_window_probe",
        "progress",
        "error",
        "reset_received",
        "reset_sent",
        "accept_failed",
        "closed",
        "sample",
    ];

    /// Its place among [`What::TYPES`].
    #[must_use]
    pub const fn number(&self) -> usize {
        match self {
            Self::State(_) => 0,
            Self::Retransmit(_) => 1,
            Self::Keepalive(_) => 2,
            Self::KeepaliveAnswered(_) => 3,
            Self::ZeroWindowProbe(_) => 4,
            Self::Progress(_) => 5,
            Self::Error(_) => 6,
            Self::ResetReceived(_) => 7,
            Self::ResetSent(_) => 8,
            Self::AcceptFailed(_) => 9,
            Self::Closed(_) => 10,
            Self::Sample(_) => 11,
        }
    }

    /// Its `type`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        Self::TYPES[self.number()]
    }
}

/// A state change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
}

/// A segment sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retransmit {
    /// Why; absent where it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The segment carries FIN.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub fin: bool,
    /// Time-outs in a row without progress; only with the causes that a timer makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Until the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_ms: Option<u64>,
    /// The attempt did not leave this host.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub failed: bool,
    /// Why it did not, where the kernel says (6.18 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<Errno>,
}

/// A keepalive probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keepalive {
    /// Sent without an answer so far, this one included.
    pub probe: u32,
    /// As many are sent before the kernel gives up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u32>,
    /// Until the timer's next look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_ms: Option<u64>,
}

/// An answer to a keepalive probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepaliveAnswered {
    /// Probes sent until the answer, the answered one included.
    pub after_probes: u32,
}

/// A probe of a closed window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZeroWindowProbe {
    /// Since the window closed, as zsock counts.
    pub probe: u32,
    /// Whether the one before was answered; absent with the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<bool>,
    /// Until the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_ms: Option<u64>,
}

/// A stalled connection moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How long it had stood still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled_ms: Option<u64>,
    /// Time-outs in a row that it had seen.
    pub attempts: u32,
}

/// An error that the kernel reported on the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errored {
    /// Which.
    pub errno: Errno,
}

/// A reset, in or out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// Why, where the kernel says (6.12 and later, resets that we send).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
}

/// Connections could not be accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptFailed {
    /// Why: `EMFILE`, `ENFILE`, `ENOBUFS` or `ENOMEM`.
    pub errno: Errno,
    /// How often since the record before.
    pub count: u64,
    /// The process that called accept; absent where it is the owner of the listener, which `socket` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Box<Process>>,
}

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, named in the contract")]
pub struct Closed {
    /// State that it was in before.
    pub from: State,
    /// The socket's error at that moment; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<Errno>,
    /// Since its first state change; absent where that was not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<u64>,
    /// Payload sent, each byte once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<u64>,
    /// Payload received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<u64>,
    /// The peer's FIN was seen.
    pub peer_closed: bool,
    /// A reset was received or sent.
    pub reset: bool,
    /// A process still holds the descriptor of the dead socket.
    pub fd_open: bool,
    /// The connection's own FIN was unacknowledged or unsent.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub fin_unacked: bool,
}

/// Facts of a socket without an event of its own: what a look at it found, or what the kernel remembers of the time before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// What is told of the past; absent for a look at the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fact: Option<Fact>,
    /// Since the last segment in either direction, of a connection that stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    /// For how long there has been unread data of which the process read nothing, as far as that was watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread_for_ms: Option<u64>,
    /// In `CLOSE_WAIT`: since the peer closed, or since data was last sent or read where that was later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_closed_ms: Option<u64>,
    /// The request that the peer has acknowledged and not answered, on a connection that had requests answered before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// Persist probes that were sent since the peer's window closed, at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_probes: Option<u32>,
    /// Of a listener: connections that wait to be accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_queue: Option<AcceptQueue>,
}

/// A request without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Since it was sent.
    pub waiting_ms: u64,
    /// How long answers usually took; at most so long where it could only be bounded.
    pub usual_ms: u64,
    /// Requests answered before, in a row.
    pub answered_before: u32,
}

/// Connections that wait to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptQueue {
    /// How many, `sk_ack_backlog`.
    pub queue: u32,
    /// The listener's backlog, `sk_max_ack_backlog`; the queue is full with one more than these.
    pub backlog: u32,
    /// For how long the oldest of them has waited; absent where it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_ms: Option<u64>,
    /// For how long it has been full with nothing accepted, as far as that was watched; absent where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_for_ms: Option<u64>,
}

/// What the kernel still knew of a socket's past. The record's `ts` is when it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// The last segment came from the peer.
    LastReceived,
    /// Payload was last sent for the first time or again.
    LastSent,
    /// The first retransmission of the stall that goes on.
    RetransmittingSince,
    /// The first unanswered keepalive probe.
    ProbingSince,
}
