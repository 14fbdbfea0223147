//! What `zsock report` tells beside verdicts: incidents, timelines, clocks, what was read and what could not be.

use std::sync::Arc;

use serde::Serialize;

use super::{Destination, Process, Severity, Shed, Socket, SocketId, State, VerdictName, What};
use crate::time::Time;

/// Verdicts alike that struck at about the same time. The record's `ts` is when the first did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename = "incident")]
pub struct IncidentRecord<'a> {
    /// The gravest verdict of each of them.
    pub verdict: VerdictName,
    /// How bad.
    pub severity: Severity,
    /// Whose connections, or which process; of many alike the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<&'a Process>,
    /// Where connections go that were made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Destination>,
    /// Where connections came in that were accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_on: Option<Destination>,
    /// When the last one struck.
    pub until: Time,
    /// How many sockets, processes or destinations.
    pub count: usize,
    /// The ids of the sockets.
    pub sockets: Vec<SocketId>,
    /// One sentence.
    pub summary: &'a str,
    /// What to change.
    pub advice: &'a [String],
}

/// What happened to one socket. The record's `ts` is the first thing that is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename = "timeline")]
pub struct TimelineRecord<'a> {
    /// Which.
    pub socket: &'a Socket,
    /// The last thing that is told.
    pub until: Time,
    /// What happened, in order.
    pub entries: Vec<EntryRecord<'a>>,
    /// Entries that were not kept; they would stand after the first `omitted_after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omitted: Option<u64>,
    /// Where they would stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omitted_after: Option<usize>,
    /// The other end of the connection, where that was recorded too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_end: Option<OtherEnd<'a>>,
}

/// One thing that happened, as its own record tells it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EntryRecord<'a> {
    /// When.
    pub ts: Time,
    /// What; its `type` is flattened into it.
    #[serde(flatten)]
    pub what: &'a What,
    /// TCP's state after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Retransmission time-out after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rto_ms: Option<u64>,
    /// Sent and not acknowledged after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unacked_bytes: Option<u64>,
    /// Not sent after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsent_bytes: Option<u64>,
    /// Since the last sign of life from the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_received_ms: Option<u64>,
    /// Told after the fact.
    #[serde(skip_serializing_if = "is_not")]
    pub replayed: bool,
    /// Not seen but concluded.
    #[serde(skip_serializing_if = "is_not")]
    pub inferred: bool,
}

/// The socket at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OtherEnd<'a> {
    /// Its host.
    pub host: &'a str,
    /// Its id there.
    pub id: SocketId,
    /// Who knew of the end when; absent where neither did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<&'a str>,
}

/// How the clocks of two hosts stand to each other. The record's `host` is the one whose clock is ahead or behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "clock")]
pub struct ClockRecord<'a> {
    /// The host whose clock is taken for right.
    pub reference: &'a str,
    /// By so much the other's is ahead; negative where it is behind.
    pub ahead_us: i64,
    /// It may be off by so much.
    pub uncertainty_us: u64,
    /// So many state changes, seen from both ends, it rests on.
    pub changes: u64,
}

/// A run of zsock, as far as it was recorded. The record's `ts` is its first record.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename = "run")]
pub struct RunRecord<'a> {
    /// The boot of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<&'a Arc<str>>,
    /// Release of its kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<&'a Arc<str>>,
    /// Its last record.
    pub until: Time,
    /// Records read.
    pub records: u64,
    /// Records that the recording says were lost.
    pub lost: u64,
    /// Times in which nobody watched.
    pub gaps: Vec<GapRecord>,
    /// What it did without from some moment on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shed: Vec<ShedRecord<'a>>,
    /// Records of it come again, or in the wrong order: what is told of it may be counted twice. Absent where that is not so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// Whether it was ended in order.
    pub ended: bool,
}

/// Something that a run did without.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShedRecord<'a> {
    /// From when on.
    pub ts: Time,
    /// What; its `type` is flattened into it.
    #[serde(flatten)]
    pub shed: &'a Shed,
}

/// A time in which nobody watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GapRecord {
    /// From then,
    pub since: Time,
    /// until then.
    pub until: Time,
}

/// A passage that could not be read. The record's `ts` is that of the last record that was read, its `host` the one on which that was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "damage")]
pub struct DamageRecord<'a> {
    /// The file, or `-`.
    pub input: &'a str,
    /// Where it begins, in bytes.
    pub at_byte: u64,
    /// The line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What is wrong with it.
    pub why: &'a str,
}

/// The last record of a report: what there was, and what had to be left out. `ts` and `host` as above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "report")]
pub struct ReportRecord<'a> {
    /// Records read.
    pub records: u64,
    /// Verdict records above.
    pub verdicts: usize,
    /// Incidents above.
    pub incidents: usize,
    /// Why connections could not be joined of which both ends seem to be there.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub unjoined: &'a [String],
    /// Passages that could not be read, those included of which there is no record.
    pub damages: u64,
    /// Sockets, processes and destinations with verdicts that found no room, the least harmful ones.
    pub stories_dropped: u64,
    /// Sockets that were let go for want of memory before they were judged to their end.
    pub sockets_dropped: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_not(value: &bool) -> bool {
    !*value
}
