//! The facts of a socket: who it is (`socket`) and how TCP stands with it (`tcp`).

use std::net::SocketAddr;
use std::ops::Not;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Family, Process, SocketId, State};

/// Who a socket is and whose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// Stable for the socket's life.
    pub id: SocketId,
    /// The family of the addresses as written.
    pub family: Family,
    /// Our end; absent while the kernel has not chosen the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
    /// The peer's end; absent for a listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<SocketAddr>,
    /// IPv4 seen through an IPv6 socket.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub v4mapped: bool,
    /// Inode number of the network namespace, `net->ns.inum`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    /// The process (thread group) that holds the socket, or held it last; in the initial PID namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Name of that process. Bytes that are not UTF-8 are U+FFFD here and whole in `comm_hex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<Arc<str>>,
    /// All bytes of the name in hexadecimal; only where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm_hex: Option<Arc<str>>,
    /// The socket's user, `sk->sk_uid`, in the initial user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Inode number in sockfs, as in `/proc/PID/fd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// Path of the process's control group. Bytes that are not UTF-8 are U+FFFD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Arc<str>>,
    /// Id of the container that the control group names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Arc<str>>,
    /// No process holds it any more.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub orphan: bool,
    /// The process that held it last no longer exists; only for orphans that wait for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_exited: Option<bool>,
    /// Id of the listener that a handshake belongs to; only on SYN-ACK retransmissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<SocketId>,
}

impl Socket {
    /// The process that holds it, or held it last; `None` where that is not known.
    #[must_use]
    pub fn owner(&self) -> Option<Process> {
        Some(Process {
            pid: self.pid?,
            comm: self.comm.clone(),
            comm_hex: self.comm_hex.clone(),
            cgroup: self.cgroup.clone(),
            container: self.container.clone(),
        })
    }
}

/// How TCP stands with a socket, as far as the kernel said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tcp {
    /// State after the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Retransmission time-out, `icsk_rto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_ms: Option<u64>,
    /// Smoothed round-trip time, `srtt_us >> 3`; absent before the first measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srtt_us: Option<u64>,
    /// Time-outs in a row without progress, `icsk_retransmits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u32>,
    /// Exponential back-off, `icsk_backoff`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<u32>,
    /// Segments sent again since the connection began, `total_retrans`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_retransmits: Option<u32>,
    /// Keepalive or window probes without an answer, `icsk_probes_out`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes_out: Option<u32>,
    /// Payload sent and not acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unacked_bytes: Option<u64>,
    /// Payload accepted from the application and not sent yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsent_bytes: Option<u64>,
    /// Payload received and not read by the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread_bytes: Option<u64>,
    /// The window that the peer offers, `snd_wnd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_window_bytes: Option<u64>,
    /// Congestion window in segments, `snd_cwnd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwnd: Option<u32>,
    /// Since payload was last sent, retransmissions included, `lsndtime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sent_ms: Option<u64>,
    /// Since any segment came from the peer: the last sign of life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_received_ms: Option<u64>,
    /// Since payload last came from the peer, `icsk_ack.lrcvtime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_data_received_ms: Option<u64>,
    /// Keepalive as it holds for this socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<KeepaliveSettings>,
    /// `TCP_USER_TIMEOUT`; absent where it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_timeout_ms: Option<u64>,
    /// Until the kernel will give up on the connection, if nothing new reaches it; absent where it never will or it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gives_up_in_ms: Option<u64>,
    /// Since what is unacknowledged was first sent, or since the last ACK progress where that was later; absent where nothing
    /// timed out or it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled_ms: Option<u64>,
}

/// Keepalive settings of one socket, the network namespace's defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeepaliveSettings {
    /// `SO_KEEPALIVE`.
    pub enabled: bool,
    /// Idle time before the first probe, `TCP_KEEPIDLE`.
    pub idle_ms: u64,
    /// Between probes, `TCP_KEEPINTVL`.
    pub interval_ms: u64,
    /// Unanswered probes before the kernel gives up, `TCP_KEEPCNT`.
    pub probes: u32,
}
