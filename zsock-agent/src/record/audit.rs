//! What `zsock audit` tells: a record for each socket, and one that sums them up.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Not;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{AcceptQueue, Process, SCHEMA, Socket, State, Tcp, VerdictName};
use crate::time::Time;

/// One line of a command that answers and ends: the envelope of every record, and what it carries.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line<'a, T> {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// When it was so.
    pub ts: Time,
    /// Name of the host.
    pub host: &'a str,
    /// What was found or done; its `type` is flattened into the line.
    #[serde(flatten)]
    pub body: &'a T,
}

impl<'a, T> Line<'a, T> {
    /// A line of this schema.
    #[must_use]
    pub fn new(ts: Time, host: &'a str, body: &'a T) -> Self {
        Self { schema: SCHEMA, ts, host, body }
    }
}

/// A socket as one look found it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "socket")]
pub struct Found {
    /// Who it is and whose.
    pub socket: Socket,
    /// How TCP stands with it.
    pub tcp: Tcp,
    /// Since the last segment in either direction; absent before the first and where it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    /// The timer that is armed; absent where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<ArmedTimer>,
    /// A connection that waits in its listener's queue to be accepted.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub unaccepted: bool,
    /// A listener made it: the peer opened it. Not told of a listener whose backlog is 0.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub accepted: bool,
    /// Of a listener: connections that wait to be accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_queue: Option<AcceptQueue>,
    /// The verdict that these facts alone give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictName>,
    /// When a death of the peer from now on without a word would be noticed; absent where it cannot be told and where there is no peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noticed: Option<Noticed>,
    /// The same to the tick of the kernel's timer, counted from `ts`; absent where it never would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noticed_in_ms: Option<u64>,
}

/// How long a silent death goes unnoticed, the least harm first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Noticed {
    /// For less than a minute.
    Seconds,
    /// For a minute or more and less than an hour: a retransmission by the kernel's defaults ends after 15.
    Minutes,
    /// For an hour or more: keepalive by the kernel's defaults ends after 2 h 11 min.
    Hours,
    /// For ever: no timer of the kernel's runs.
    Never,
}

impl Noticed {
    /// Every one, the worst first.
    pub const ALL: [Self; 4] = [Self::Never, Self::Hours, Self::Minutes, Self::Seconds];

    /// What it is called where it takes so long.
    #[must_use]
    pub const fn after(duration: Duration) -> Self {
        match duration.as_secs() {
            0..60 => Self::Seconds,
            60..3600 => Self::Minutes,
            _ => Self::Hours,
        }
    }

    /// Its name in records and options.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Minutes => "minutes",
            Self::Hours => "hours",
            Self::Never => "never",
        }
    }
}

impl fmt::Display for Noticed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

/// A timer of the kernel's that is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmedTimer {
    /// What for.
    pub kind: TimerKind,
    /// Until it fires.
    pub in_ms: u64,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimerKind {
    /// To send again what was not acknowledged; a loss probe or a wait for reordered segments first, where the kernel has one.
    Retransmission,
    /// To probe a closed window.
    Persist,
    /// To probe an idle peer.
    Keepalive,
    /// To forget a connection that is closed: `TIME_WAIT`, or `FIN_WAIT2` without a process.
    TimeWait,
}

/// What all sockets that were selected come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "summary")]
pub struct Summary {
    /// Sockets selected.
    pub sockets: u64,
    /// The same by state.
    pub states: BTreeMap<Arc<str>, u64>,
    /// Connections by how long a silent death of the peer would go unnoticed.
    pub noticed: BTreeMap<Noticed, u64>,
    /// The same of those whose both ends are on this host by a loopback address, where the kernel tells of a peer's end.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub noticed_on_loopback: BTreeMap<Noticed, u64>,
    /// Connections of which that cannot be told.
    pub noticed_unknown: u64,
    /// Sockets by the verdict that their facts alone give.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub verdicts: BTreeMap<Arc<str>, u64>,
    /// Connections that no process holds any more.
    pub orphans: u64,
    /// Connections that wait to be accepted.
    pub unaccepted: u64,
    /// The groups of connections that are worst off, the worst first.
    pub groups: Vec<Group>,
    /// Groups beyond these.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub other_groups: u64,
    /// Network namespaces looked into.
    pub namespaces: u64,
    /// Network namespaces that could not be looked into.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub namespaces_not_seen: u64,
    /// How the sockets were found: `iterators`, or `sock_diag` with fewer facts.
    pub source: Arc<str>,
    /// What cannot be told of sockets found in this way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_told: Vec<Arc<str>>,
    /// How long it took.
    pub duration_ms: u64,
}

/// Connections of one process with one destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The process; absent where none holds them, and where groups are of destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Whom they were opened to; absent where groups are of processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<SocketAddr>,
    /// Of accepted connections, in place of the destination: our end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_on: Option<SocketAddr>,
    /// How many.
    pub sockets: u64,
    /// By how long a silent death of the peer would go unnoticed.
    pub noticed: BTreeMap<Noticed, u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Found {
    /// Whether it is a connection with a peer whose death somebody would have to notice.
    #[must_use]
    pub fn has_peer(&self) -> bool {
        let is_connection = self.tcp.state.is_some_and(|state| {
            !matches!(
                state,
                State::LISTEN | State::TIME_WAIT | State::CLOSE | State::SYN_RECV | State::NEW_SYN_RECV
            )
        });
        is_connection && !self.is_running_out()
    }

    /// Whether it is in `FIN_WAIT2` without a process: whatever the peer does, a timer ends it. The kernel keeps it in the small form of
    /// `TIME_WAIT`, and its timer alone tells.
    #[must_use]
    pub fn is_running_out(&self) -> bool {
        let is_timed = self.timer.is_some_and(|timer| timer.kind == TimerKind::TimeWait);
        self.tcp.state == Some(State::FIN_WAIT2) && (self.socket.orphan || is_timed)
    }

    /// Whether both ends are on this host by a loopback address.
    #[must_use]
    pub fn is_on_loopback(&self) -> bool {
        self.socket.remote.is_some_and(|remote| remote.ip().is_loopback())
    }
}
