//! Verdict records: a claim about somebody's system, with its evidence.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Socket, Subject, Tcp};
use crate::time::Time;

/// A verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "verdict")]
pub struct Verdict {
    /// Which one.
    pub verdict: VerdictName,
    /// Whether it begins, goes on or ends here.
    pub phase: Phase,
    /// How it ended; only with the phase `closed` of a verdict that describes a condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// How bad.
    pub severity: Severity,
    /// What it is about.
    #[serde(flatten)]
    pub subject: Subject,
    /// When the condition began.
    pub since: Time,
    /// The facts that it rests on.
    pub evidence: Map<String, Value>,
    /// One sentence for a person on call.
    pub summary: String,
    /// What to change, most useful first.
    pub advice: Vec<String>,
}

impl Verdict {
    /// The socket that it is about, and how TCP stood with it.
    #[must_use]
    pub fn socket(&self) -> Option<(&Socket, &Tcp)> {
        match &self.subject {
            Subject::Socket { socket, tcp } => Some((socket, tcp)),
            Subject::Process { .. } | Subject::Destination { .. } => None,
        }
    }
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant),+
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name as it is written.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }

            /// The one of this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.name() == name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.pad(self.name())
            }
        }
    };
}

names! {
    /// The verdicts.
    VerdictName {
        /// A connection attempt goes unanswered.
        ConnectBlackhole = "connect_blackhole",
        /// Sent data is resent time after time without an acknowledgement.
        StuckRetransmission = "stuck_retransmission",
        /// Keepalive probes go unanswered.
        KeepaliveUnanswered = "keepalive_unanswered",
        /// The kernel's timers gave the connection up; the peer never said a word.
        SilentDeath = "silent_death",
        /// After idling, the first thing sent was answered by a reset.
        StaleReset = "stale_reset",
        /// A socket that no process holds cannot finish closing.
        OrphanStuck = "orphan_stuck",
        /// The peer's window stays closed.
        ZeroWindowStall = "zero_window_stall",
        /// Received data is not read.
        ReceiverStall = "receiver_stall",
        /// A request was acknowledged and is not answered.
        AppSilence = "app_silence",
        /// The peer has closed and our process does not.
        CloseWaitLeak = "close_wait_leak",
        /// An idle connection that nothing keeps known or finds dead.
        UnguardedIdle = "unguarded_idle",
        /// A process runs out of file descriptors.
        FdPressure = "fd_pressure",
        /// A listener accepts nothing more.
        AcceptQueueFull = "accept_queue_full",
        /// Connections that idle for longer than some time die.
        IdleTimeoutInferred = "idle_timeout_inferred",
    }
}

names! {
    /// Where in its life a verdict stands.
    Phase {
        /// The condition has come to hold.
        Opened = "opened",
        /// It still holds and something worth saying changed.
        Updated = "updated",
        /// It holds no longer, or the verdict was final.
        Closed = "closed",
    }
}

names! {
    /// How a condition ended.
    Outcome {
        /// The connection attempt succeeded after all.
        Connected = "connected",
        /// The kernel gave up.
        TimedOut = "timed_out",
        /// The connection attempt was refused.
        Refused = "refused",
        /// A process or the kernel closed the socket.
        Closed = "closed",
        /// An acknowledgement came.
        Recovered = "recovered",
        /// The kernel's timers ended the connection.
        SilentDeath = "silent_death",
        /// A reset ended it.
        Reset = "reset",
        /// A probe or a request was answered.
        Answered = "answered",
        /// The peer's window opened.
        OpenedWindow = "opened_window",
        /// The process read.
        Read = "read",
        /// The process sent or read data.
        Moved = "moved",
        /// A segment went in either direction.
        Spoke = "spoke",
        /// Keepalive or a shorter one was set.
        Guarded = "guarded",
        /// There is room again.
        Relieved = "relieved",
        /// The process ended.
        Exited = "exited",
        /// The accept queue has room again.
        Drained = "drained",
    }
}

names! {
    /// How bad it is.
    Severity {
        /// Worth knowing.
        Info = "info",
        /// Somebody will be hurt if it goes on.
        Warning = "warning",
        /// Somebody is being hurt.
        Critical = "critical",
    }
}
