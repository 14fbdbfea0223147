//! What `sock_diag` tells of a socket, in the records' words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::record::{ArmedTimer, State, Tcp, TimerKind};
use crate::source::diag::{Entry, Info, Timer};

/// A listener's address that stands for all of the host's.
pub(super) const fn any_address(is_ipv6: bool) -> IpAddr {
    if is_ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
}

/// Whether a process holds the socket.
pub(super) fn has_process(entry: &Entry) -> bool {
    entry.inode != 0
}

/// Whether no process holds the connection any more: a connection that waits to be accepted is not closed from our side.
pub(super) fn is_orphan(entry: &Entry) -> bool {
    !has_process(entry) && (entry.state.is_closing() || entry.state == State::FIN_WAIT2)
}

/// Whether it is a whole socket: neither `TIME_WAIT` nor a handshake that its listener has not finished.
pub(super) fn is_full(entry: &Entry) -> bool {
    entry.info.is_some()
}

/// Whether nothing waits for an answer and no timer runs that would ask for one, in a state in which keepalive's would.
pub(super) fn is_without_timer(entry: &Entry) -> bool {
    let runs_keepalive = match entry.state {
        State::ESTABLISHED | State::CLOSE_WAIT => true,
        State::FIN_WAIT2 => has_process(entry),
        _ => false,
    };
    is_full(entry) && runs_keepalive && entry.send_queue == 0 && entry.timer == Timer::None
}

/// The timer that is armed.
pub(super) fn timer(entry: &Entry) -> Option<ArmedTimer> {
    let kind = match entry.timer {
        Timer::Retransmission => TimerKind::Retransmission,
        Timer::Persist => TimerKind::Persist,
        // Without a process the same timer counts out FIN_WAIT2.
        Timer::Keepalive if is_orphan(entry) => TimerKind::TimeWait,
        Timer::Keepalive => TimerKind::Keepalive,
        Timer::TimeWait => TimerKind::TimeWait,
        Timer::None | Timer::Unknown(_) => return None,
    };
    Some(ArmedTimer { kind, in_ms: entry.expires_ms.into() })
}

/// Since the last segment in either direction, as far as a connection's counts tell.
pub(super) fn idle_ms(entry: &Entry) -> Option<u64> {
    let info = entry.info?;
    let since = [info.last_data_sent_ms?, info.last_data_recv_ms?, info.last_ack_recv_ms?];
    since.into_iter().min().map(u64::from)
}

/// Payload that ever came: the kernel counts the FIN's sequence number as well.
pub(super) fn bytes_received(entry: &Entry) -> Option<u64> {
    let received = entry.info?.bytes_received?;
    Some(received.saturating_sub(u64::from(has_peers_fin(entry.state))))
}

fn has_peers_fin(state: State) -> bool {
    matches!(state, State::CLOSE_WAIT | State::LAST_ACK | State::CLOSING)
}

/// How TCP stands with the socket.
pub(super) fn tcp(entry: &Entry) -> Tcp {
    let state = Some(entry.state);
    let Some(info) = entry.info.filter(|_| entry.state != State::LISTEN) else {
        return Tcp { state, ..Tcp::default() };
    };
    let (unacked, unsent) = unacked_and_unsent(entry, &info).unzip();
    let is_connected = entry.state != State::SYN_SENT;
    let since_received = info.last_data_recv_ms.zip(info.last_ack_recv_ms).map(|(data, ack)| data.min(ack));
    Tcp {
        state,
        rto_ms: info.rto_us.map(|us| u64::from(us) / 1000),
        srtt_us: info.rtt_us.filter(|us| *us != 0).map(u64::from),
        retransmits: info.retransmits.map(u32::from),
        backoff: info.backoff.map(u32::from),
        total_retransmits: info.total_retrans,
        probes_out: info.probes.map(u32::from),
        unacked_bytes: unacked.map(u64::from),
        unsent_bytes: unsent.map(u64::from),
        // The peer's FIN takes a sequence number until it is read.
        unread_bytes: Some(entry.receive_queue.saturating_sub(has_peers_fin(entry.state).into()).into()),
        send_window_bytes: info.snd_wnd.map(u64::from),
        cwnd: info.snd_cwnd,
        // Until there is some, the kernel's stamps of payload are of the handshake.
        last_sent_ms: info.last_data_sent_ms.filter(|_| info.bytes_sent > Some(0)).map(u64::from),
        last_received_ms: since_received.filter(|_| is_connected).map(u64::from),
        last_data_received_ms: info
            .last_data_recv_ms
            .filter(|_| bytes_received(entry) > Some(0))
            .map(u64::from),
        ..Tcp::default()
    }
}

/// Payload that is not acknowledged and payload that is not sent. SYN and FIN take a sequence number each and are none.
fn unacked_and_unsent(entry: &Entry, info: &Info) -> Option<(u32, u32)> {
    let in_flight = entry.send_queue.saturating_sub(info.notsent_bytes?);
    let (is_handshake, is_closing) = (entry.state == State::SYN_SENT, entry.state.is_closing());
    let payload = entry.send_queue.saturating_sub(u32::from(is_closing) + u32::from(is_handshake));
    let unacked = in_flight.saturating_sub(is_handshake.into()).min(payload);
    Some((unacked, payload - unacked))
}
