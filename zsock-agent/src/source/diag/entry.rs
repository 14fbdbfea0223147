//! What the kernel tells of one socket: `struct inet_diag_msg` with `struct tcp_info` behind it.

use bytes::{Buf, TryGetError};
use netlink_packet_core::{NlasIterator, ParseableParametrized as _};
use netlink_packet_sock_diag::inet;
use netlink_packet_sock_diag::{AF_INET6, INET_DIAG_INFO};

use crate::record::{SocketId, State};
use crate::source::assemble::facts::Ends;

/// A TCP socket as the kernel tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its addresses, its interface and its cookie.
    pub id: inet::SocketId,
    /// It is a socket of IPv6, whatever its addresses are.
    pub is_ipv6: bool,
    /// Its state; `TIME_WAIT` without a socket may be told as `FIN_WAIT2`, with the timer of `TIME_WAIT`.
    pub state: State,
    /// The timer that is armed.
    pub timer: Timer,
    /// Time-outs in a row, or probes that are unanswered, as the timer has it.
    pub retransmits: u8,
    /// Until the timer fires.
    pub expires_ms: u32,
    /// Received and not read, the peer's FIN included; of a listener, connections that wait to be accepted.
    pub receive_queue: u32,
    /// Not acknowledged, SYN and FIN included; of a listener, how many may wait.
    pub send_queue: u32,
    /// Its user in the user namespace of the asking process.
    pub uid: u32,
    /// Its inode number; 0 where no process holds it.
    pub inode: u32,
    /// More, of what is a whole socket.
    pub info: Option<Info>,
}

/// A timer by the kernel's number, `idiag_timer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// None is armed.
    None,
    /// To send again; of a handshake, the SYN-ACK.
    Retransmission,
    /// Keepalive; of `FIN_WAIT2` without a process, the end of it.
    Keepalive,
    /// `TIME_WAIT`.
    TimeWait,
    /// Probes of a closed window.
    Persist,
    /// One that this build does not know.
    Unknown(u8),
}

impl Timer {
    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Retransmission,
            2 => Self::Keepalive,
            3 => Self::TimeWait,
            4 => Self::Persist,
            unknown => Self::Unknown(unknown),
        }
    }
}

/// The part of `struct tcp_info` that is of use. What an older kernel does not tell is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the kernel's without `tcpi_`")]
pub struct Info {
    pub retransmits: Option<u8>,
    pub probes: Option<u8>,
    pub backoff: Option<u8>,
    pub rto_us: Option<u32>,
    pub last_data_sent_ms: Option<u32>,
    pub last_data_recv_ms: Option<u32>,
    pub last_ack_recv_ms: Option<u32>,
    pub rtt_us: Option<u32>,
    pub snd_cwnd: Option<u32>,
    pub total_retrans: Option<u32>,
    pub bytes_received: Option<u64>,
    pub notsent_bytes: Option<u32>,
    pub bytes_sent: Option<u64>,
    pub snd_wnd: Option<u32>,
}

impl Info {
    fn parse(bytes: &[u8]) -> Self {
        let byte = |at: usize| bytes.get(at).copied();
        let short = |at: usize| bytes.get(at..)?.try_get_u32_ne().ok();
        let long = |at: usize| bytes.get(at..)?.try_get_u64_ne().ok();
        Self {
            retransmits: byte(2),
            probes: byte(3),
            backoff: byte(4),
            rto_us: short(8),
            last_data_sent_ms: short(44),
            last_data_recv_ms: short(52),
            last_ack_recv_ms: short(56),
            rtt_us: short(68),
            snd_cwnd: short(80),
            total_retrans: short(100),
            bytes_received: long(128),
            notsent_bytes: short(144),
            bytes_sent: long(200),
            snd_wnd: short(228),
        }
    }
}

/// Bytes of `struct inet_diag_sockid`.
const ID_BYTES: usize = 48;

impl Entry {
    /// Reads what the kernel tells of a socket. `None` where it ends early or is of no family that TCP has.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut entry = Self::parse_fixed(bytes).ok()??;
        let attributes = NlasIterator::new(bytes.get(FIXED_BYTES..)?);
        // What is after a damaged attribute cannot be told; what was before it is as good.
        let info = attributes.flatten().find(|attribute| attribute.kind() == INET_DIAG_INFO);
        entry.info = info.map(|info| Info::parse(info.value()));
        Some(entry)
    }

    fn parse_fixed(mut bytes: &[u8]) -> Result<Option<Self>, TryGetError> {
        let (family, state) = (bytes.try_get_u8()?, bytes.try_get_u8()?);
        let (timer, retransmits) = (bytes.try_get_u8()?, bytes.try_get_u8()?);
        let Ok(id) = inet::SocketId::parse_with_param(bytes, family) else { return Ok(None) };
        bytes.advance(ID_BYTES);
        Ok(Some(Self {
            id,
            is_ipv6: family == AF_INET6,
            state: State(state),
            timer: Timer::from_number(timer),
            retransmits,
            expires_ms: bytes.try_get_u32_ne()?,
            receive_queue: bytes.try_get_u32_ne()?,
            send_queue: bytes.try_get_u32_ne()?,
            uid: bytes.try_get_u32_ne()?,
            inode: bytes.try_get_u32_ne()?,
            info: None,
        }))
    }

    /// Between whom it is.
    #[must_use]
    pub fn ends(&self) -> Ends {
        let ports = [self.id.source_port, self.id.destination_port];
        Ends::between(self.is_ipv6, [self.id.source_address, self.id.destination_address], ports)
    }

    /// Its identity in records.
    #[must_use]
    pub fn socket_id(&self) -> SocketId {
        let mut halves = &self.id.cookie[..];
        let (low, high) = (halves.get_u32_ne(), halves.get_u32_ne());
        SocketId(u64::from(high) << 32 | u64::from(low))
    }
}

/// Bytes of `struct inet_diag_msg`.
const FIXED_BYTES: usize = 4 + ID_BYTES + 5 * 4;

/// A socket's cookie as the kernel writes it: its lower half first, each in this machine's order.
pub(super) fn cookie(SocketId(cookie): SocketId) -> [u8; 8] {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    let (low, high) = (cookie as u32, (cookie >> 32) as u32);
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&low.to_ne_bytes());
    bytes[4..].copy_from_slice(&high.to_ne_bytes());
    bytes
}
