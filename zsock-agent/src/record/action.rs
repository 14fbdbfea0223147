//! What was done to sockets, or would be: `zsock keepalive` and `zsock kill`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{KeepaliveSettings, Socket, State, Tcp, VerdictName};

/// What was done to one socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "action")]
pub struct Action {
    /// What.
    pub action: Deed,
    /// What came of it.
    pub outcome: Done,
    /// Who it is and whose.
    pub socket: Socket,
    /// How TCP stood with it when it was selected.
    pub tcp: Tcp,
    /// The verdict that these facts alone give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictName>,
    /// What concerns the deed, as it was; absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Standing>,
    /// The same as the kernel told of it afterwards; with `would`, as it would be. Absent where nothing was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Standing>,
    /// What whoever asked for it may not have thought of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What is done to sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Options that make a socket notice the death of its peer are set.
    Keepalive,
    /// The socket is destroyed.
    Kill,
}

impl fmt::Display for Deed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Keepalive => "keepalive",
            Self::Kill => "kill",
        })
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// It was done.
    Done,
    /// It would be done with `--yes`.
    Would,
    /// It is of a kind that this cannot be done to; nothing was tried.
    Skipped,
    /// The socket, or the process that held it, was gone by then.
    Gone,
    /// It was tried in vain.
    Failed,
}

/// The facts of a socket that a deed changes: its state, or its settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// TCP state; `CLOSE` once TCP is done with the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Keepalive as it holds for this socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<KeepaliveSettings>,
    /// `TCP_USER_TIMEOUT`; absent where it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_timeout_ms: Option<u64>,
}

/// What all actions of a run come to; its last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "actions")]
pub struct Actions {
    /// What was to be done.
    pub action: Deed,
    /// Sockets selected.
    pub selected: u64,
    /// Those by what came of it; their sum is `selected`.
    pub done: u64,
    /// It would be done with `--yes`.
    pub would: u64,
    /// It cannot be done to them.
    pub skipped: u64,
    /// They were gone by then.
    pub gone: u64,
    /// It was tried in vain.
    pub failed: u64,
    /// How long it took.
    pub duration_ms: u64,
}

impl Actions {
    /// Nothing done yet.
    #[must_use]
    pub const fn none(action: Deed) -> Self {
        Self { action, selected: 0, done: 0, would: 0, skipped: 0, gone: 0, failed: 0, duration_ms: 0 }
    }

    /// One more.
    pub fn count(&mut self, outcome: Done) {
        self.selected += 1;
        let counter = match outcome {
            Done::Done => &mut self.done,
            Done::Would => &mut self.would,
            Done::Skipped => &mut self.skipped,
            Done::Gone => &mut self.gone,
            Done::Failed => &mut self.failed,
        };
        *counter += 1;
    }
}
