//! The kernel's units into those of the records.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use zsock_common::offsets::{ABSENT, Offsets};
use zsock_common::wire::{Endpoints, Head, TcpFacts, sk_flag};

use crate::kernel_rules::{Discovery, Forecast, Jiffies, Moment, Pending, Timers, discovery, forecast};
use crate::record::{ArmedTimer, Family, KeepaliveSettings, State, Tcp, TimerKind};
use crate::source::assemble::known::Known;
use crate::time::milliseconds;

const AF_INET6: u16 = 10;

/// The bound of the retransmission time-out on kernels that have only the constant `TCP_RTO_MAX`.
const RTO_MAX: Duration = Duration::from_mins(2);

/// `TCP_RTO_MIN`: the persist timer waits no less.
pub(super) const RTO_MIN: Duration = Duration::from_millis(200);

/// How this kernel counts and what it has.
#[derive(Clone, Copy, Debug)]
pub struct Units {
    /// Its tick.
    pub jiffies: Jiffies,
    /// What its fields suffice for.
    pub known: Known,
    /// It keeps a deadline of its own beside the write timer, `icsk_timeout`.
    has_own_deadline: bool,
}

/// Between whom a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Family of the addresses as written.
    pub family: Family,
    /// IPv4 seen through an IPv6 socket.
    pub v4mapped: bool,
    /// Our end, once its port is chosen.
    pub local: Option<SocketAddr>,
    /// The peer's end; none for a listener.
    pub remote: Option<SocketAddr>,
}

impl Ends {
    /// The ends in a wire record.
    #[must_use]
    pub fn of(wire: &Endpoints, known: &Known) -> Self {
        let is_ipv6 = wire.family == AF_INET6;
        let addresses = [wire.local, wire.remote].map(|address| Ipv6Addr::from(address).into());
        let mut ends = Self::between(is_ipv6, addresses, [wire.local_port, wire.remote_port]);
        if is_ipv6 && !known.ipv6_ends {
            (ends.local, ends.remote) = (None, None);
        }
        ends
    }

    /// The ends of a socket, of IPv6 or not: ours and the peer's. An end without a port is not known.
    #[must_use]
    pub fn between(is_ipv6: bool, addresses: [IpAddr; 2], [local_port, remote_port]: [u16; 2]) -> Self {
        let [local, remote] = addresses.map(|address| address.to_canonical());
        let end = |address: IpAddr, port: u16| (port != 0).then(|| SocketAddr::new(address, port));
        let is_ipv4 = local.is_ipv4() || remote.is_ipv4();
        Self {
            family: if is_ipv4 { Family::Ipv4 } else { Family::Ipv6 },
            v4mapped: is_ipv4 && is_ipv6,
            local: end(local, local_port),
            remote: end(remote, remote_port),
        }
    }
}

/// Payload that waits to be acknowledged, to be sent, to be read. SYN and FIN take a sequence number each and are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// Sent and not acknowledged, bytes.
    pub unacked_bytes: u32,
    /// Not sent, bytes.
    pub unsent_bytes: u32,
    /// Received and not read, bytes.
    pub unread_bytes: u32,
    /// Our FIN is queued or in flight.
    pub has_fin: bool,
}

impl Queues {
    /// The queues of a socket in `state`, as far as its sequence numbers are known.
    #[must_use]
    pub fn of(tcp: &TcpFacts, state: State) -> Self {
        let in_flight = tcp.snd_nxt.wrapping_sub(tcp.snd_una);
        let waiting = tcp.write_seq.wrapping_sub(tcp.snd_una);
        let has_fin = state.is_closing() && waiting > 0;
        let is_handshake = state == State::SYN_SENT;
        let payload = waiting.saturating_sub(u32::from(has_fin) + u32::from(is_handshake && in_flight > 0));
        let unacked_bytes = in_flight.saturating_sub(u32::from(is_handshake)).min(payload);
        let received = tcp.rcv_nxt.wrapping_sub(tcp.copied_seq);
        Self {
            unacked_bytes,
            unsent_bytes: payload - unacked_bytes,
            unread_bytes: received.saturating_sub(u32::from(has_peers_fin(tcp))),
            has_fin,
        }
    }
}

/// Whether the peer's FIN was received.
#[must_use]
pub fn has_peers_fin(tcp: &TcpFacts) -> bool {
    tcp.sk_flags & sk_flag::DONE != 0
}

/// Whether no process holds the socket any more.
#[must_use]
pub fn is_orphan(tcp: &TcpFacts) -> bool {
    tcp.sk_flags & sk_flag::DEAD != 0
}

/// Payload sent, each byte once.
#[must_use]
pub fn bytes_sent(tcp: &TcpFacts) -> u64 {
    tcp.bytes_sent.saturating_sub(tcp.bytes_retrans)
}

/// Payload received: the kernel counts the FIN's sequence number as well.
#[must_use]
pub fn bytes_received(tcp: &TcpFacts) -> u64 {
    tcp.bytes_received.saturating_sub(u64::from(has_peers_fin(tcp)))
}

impl Units {
    /// The units of a kernel with this tick and these fields.
    #[must_use]
    pub fn new(jiffies: Jiffies, offsets: &Offsets) -> Self {
        Self { jiffies, known: Known::of(offsets), has_own_deadline: offsets.icsk_timeout != ABSENT }
    }

    /// Since any segment came from the peer. `None` before the first.
    #[must_use]
    pub fn since_received(&self, head: &Head, tcp: &TcpFacts, state: State) -> Option<Duration> {
        self.ticks_since_received(head, tcp, state).map(|ticks| self.jiffies.duration(ticks.into()))
    }

    fn ticks_since_received(&self, head: &Head, tcp: &TcpFacts, state: State) -> Option<u32> {
        if state == State::SYN_SENT || state == State::LISTEN || !self.known.last_received {
            return None;
        }
        let stamps = [tcp.rcv_tstamp, tcp.lrcvtime].into_iter().filter(|stamp| *stamp != 0);
        stamps.map(|stamp| self.jiffies.ticks_since(head.jiffies, stamp)).min()
    }

    /// Since payload was last sent, for the first time or again. `None` before the first.
    #[must_use]
    pub fn since_sent(&self, head: &Head, tcp: &TcpFacts) -> Option<Duration> {
        self.ticks_since_sent(head, tcp).map(|ticks| self.jiffies.duration(ticks.into()))
    }

    fn ticks_since_sent(&self, head: &Head, tcp: &TcpFacts) -> Option<u32> {
        let has_sent = self.known.last_sent && tcp.bytes_sent > 0;
        has_sent.then(|| self.jiffies.ticks_since(head.jiffies, tcp.lsndtime))
    }

    /// Since the first retransmission of the episode that goes on (`retrans_stamp`); of a SYN, since the first one was sent.
    #[must_use]
    pub fn since_first_retransmission(&self, head: &Head, tcp: &TcpFacts) -> Option<Duration> {
        if !self.known.first_retransmission || tcp.retrans_stamp == 0 {
            return None;
        }
        // TCP's own clock is CLOCK_MONOTONIC, in milliseconds or microseconds, cut to 32 bits.
        #[expect(clippy::cast_possible_truncation, reason = "the kernel's stamp is cut the same way")]
        let now = if tcp.usec_ts == 0 { head.time_ns / 1_000_000 } else { head.time_ns / 1_000 } as u32;
        let passed = now.wrapping_sub(tcp.retrans_stamp).cast_signed().max(0).cast_unsigned();
        Some(if tcp.usec_ts == 0 {
            Duration::from_millis(passed.into())
        } else {
            Duration::from_micros(passed.into())
        })
    }

    /// The retransmission time-out.
    #[must_use]
    pub fn rto(&self, tcp: &TcpFacts) -> Duration {
        self.ticks(tcp.icsk_rto)
    }

    fn ticks(&self, ticks: u32) -> Duration {
        self.jiffies.until(0, ticks)
    }

    fn ticks_in_ms(&self, ticks: u32) -> u64 {
        self.jiffies.milliseconds(Jiffies::ticks_until(0, ticks))
    }

    /// Keepalive as it holds for the socket.
    #[must_use]
    pub fn keepalive(&self, tcp: &TcpFacts) -> KeepaliveSettings {
        let own_or = |own: u32, namespace: u32| if own == 0 { namespace } else { own };
        KeepaliveSettings {
            enabled: tcp.sk_flags & sk_flag::KEEPOPEN != 0,
            idle_ms: self.ticks_in_ms(own_or(tcp.keepalive_time, tcp.sysctl_keepalive_time)),
            interval_ms: self.ticks_in_ms(own_or(tcp.keepalive_intvl, tcp.sysctl_keepalive_intvl)),
            probes: own_or(tcp.keepalive_probes.into(), tcp.sysctl_keepalive_probes.into()),
        }
    }

    /// Persist probes sent since the window closed: by `icsk_backoff`, which may be left over from time-outs before, and no more than fit
    /// between the first and now. `None` where the persist timer has not fired or does not run.
    #[must_use]
    pub fn window_probes(&self, head: &Head, tcp: &TcpFacts) -> Option<u32> {
        let runs = Pending::from_number(tcp.pending) == Some(Pending::Probe) && tcp.snd_wnd == 0;
        if !runs || tcp.probes_tstamp == 0 || !self.known.window_probes {
            return None;
        }
        let mut left = self.jiffies.since(head.jiffies, tcp.probes_tstamp);
        let mut interval = self.rto(tcp).max(RTO_MIN) * 2;
        let mut probes = 1;
        while let Some(rest) = left.checked_sub(interval) {
            (left, interval) = (rest, (interval * 2).min(RTO_MAX));
            probes += 1;
        }
        Some(probes.min(u32::from(tcp.backoff).max(1)))
    }

    /// What the kernel's timers will do, as far as all that they go by is known.
    #[must_use]
    pub fn forecast(&self, head: &Head, tcp: &TcpFacts, state: State, moment: Moment) -> Forecast {
        if !self.known.forecast {
            return Forecast::default();
        }
        forecast(&self.timers(head, tcp, state, moment))
    }

    /// When a death of the peer from now on would be noticed.
    #[must_use]
    pub fn discovery(&self, head: &Head, tcp: &TcpFacts, state: State) -> Discovery {
        if !self.known.forecast {
            return Discovery::Unknown;
        }
        discovery(&self.timers(head, tcp, state, Moment::AtRest))
    }

    /// The timer of the kernel's that is armed; `None` where none is, or where that cannot be told.
    #[must_use]
    pub fn armed(&self, head: &Head, tcp: &TcpFacts, state: State) -> Option<ArmedTimer> {
        if !self.known.forecast || state == State::LISTEN {
            return None;
        }
        let timers = self.timers(head, tcp, state, Moment::AtRest);
        let (kind, fires_in) = match (timers.pending, timers.timer_in) {
            (Some(Pending::Probe), Some(fires_in)) => (TimerKind::Persist, fires_in),
            (Some(_), Some(fires_in)) => (TimerKind::Retransmission, fires_in),
            // Before the handshake is done the keepalive timer is not armed; without a process it counts out FIN_WAIT2.
            _ if state == State::SYN_SENT => return None,
            _ if timers.orphan => (TimerKind::TimeWait, timers.keepalive_timer_in?),
            _ if !timers.keepalive_enabled => return None,
            _ => (TimerKind::Keepalive, timers.keepalive_timer_in?),
        };
        Some(ArmedTimer { kind, in_ms: milliseconds(fires_in) })
    }

    fn timers(&self, head: &Head, tcp: &TcpFacts, state: State, moment: Moment) -> Timers {
        let pending = Pending::from_number(tcp.pending);
        let keepalive = self.keepalive(tcp);
        let is_keepalive_armed = keepalive.enabled || state == State::FIN_WAIT2;
        Timers {
            jiffies: self.jiffies,
            now: head.jiffies,
            moment,
            state,
            orphan: is_orphan(tcp),
            in_flight: tcp.snd_nxt != tcp.snd_una,
            unsent: tcp.write_seq != tcp.snd_nxt,
            window_closed: tcp.snd_wnd == 0,
            retransmits: tcp.retransmits.into(),
            backoff: tcp.backoff.into(),
            probes_out: tcp.probes_out.into(),
            rto: self.rto(tcp),
            rto_max: if tcp.icsk_rto_max == 0 { RTO_MAX } else { self.ticks(tcp.icsk_rto_max) },
            pending,
            timer_in: pending.map(|_| self.write_timer_in(head, tcp)),
            keepalive_timer_in: is_keepalive_armed.then(|| {
                self.jiffies.until_fired(head.jiffies, tcp.keepalive_timer, tcp.keepalive_timer_flags)
            }),
            since_first_retransmission: self.since_first_retransmission(head, tcp),
            since_first_probe: (tcp.probes_tstamp != 0)
                .then(|| self.jiffies.since(head.jiffies, tcp.probes_tstamp)),
            since_received: self.since_received(head, tcp, state),
            keepalive_enabled: keepalive.enabled,
            keepalive_idle: Duration::from_millis(keepalive.idle_ms),
            keepalive_interval: Duration::from_millis(keepalive.interval_ms),
            keepalive_probes: keepalive.probes,
            user_timeout: Some(Duration::from_millis(tcp.user_timeout.into())),
            retries2: tcp.sysctl_retries2.into(),
            orphan_retries: tcp.sysctl_orphan_retries.into(),
            syn_retries: if tcp.syn_retries == 0 { tcp.sysctl_syn_retries } else { tcp.syn_retries }.into(),
            syn_linear_timeouts: tcp.sysctl_syn_linear_timeouts.into(),
            soft_error: tcp.sk_err_soft != 0,
            // Needs fields that only a lab ever sets.
            thin_linear: false,
        }
    }

    /// Until the retransmission or persist timer fires. A kernel with a deadline of its own (`icsk_timeout`) may fire early
    /// and arm the timer again; others fire as the timer wheel rounds.
    fn write_timer_in(&self, head: &Head, tcp: &TcpFacts) -> Duration {
        if self.has_own_deadline {
            self.jiffies.until(head.jiffies, tcp.write_timer)
        } else {
            self.jiffies.until_fired(head.jiffies, tcp.write_timer, tcp.write_timer_flags)
        }
    }

    /// The record's facts of a socket in `state`, without those that need the socket's past. Its counters are of `live_state`, the
    /// last one before CLOSE.
    #[must_use]
    pub fn tcp(&self, head: &Head, tcp: &TcpFacts, state: State, live_state: State) -> Tcp {
        if state == State::LISTEN {
            return Tcp { state: Some(state), ..Tcp::default() };
        }
        let known = &self.known;
        let queues = Queues::of(tcp, live_state);
        let got_data = known.last_data_received && bytes_received(tcp) > 0;
        let since_data = got_data.then(|| self.jiffies.ticks_since(head.jiffies, tcp.lrcvtime));
        let ms = |ticks: Option<u32>| ticks.map(|ticks| self.jiffies.milliseconds(ticks));
        let user_timeout_ms = u64::from(tcp.user_timeout);
        Tcp {
            state: Some(state),
            rto_ms: known.rto.then(|| self.ticks_in_ms(tcp.icsk_rto)),
            srtt_us: known.srtt.then_some(u64::from(tcp.srtt_us >> 3)).filter(|us| *us != 0),
            retransmits: known.retransmits.then_some(tcp.retransmits.into()),
            backoff: known.backoff.then_some(tcp.backoff.into()),
            total_retransmits: known.total_retransmits.then_some(tcp.total_retrans),
            probes_out: known.probes.then_some(tcp.probes_out.into()),
            unacked_bytes: known.sequence.then_some(queues.unacked_bytes.into()),
            unsent_bytes: known.sequence.then_some(queues.unsent_bytes.into()),
            unread_bytes: known.unread.then_some(queues.unread_bytes.into()),
            send_window_bytes: known.window.then_some(tcp.snd_wnd.into()),
            cwnd: known.cwnd.then_some(tcp.snd_cwnd),
            last_sent_ms: ms(self.ticks_since_sent(head, tcp)),
            last_received_ms: ms(self.ticks_since_received(head, tcp, live_state)),
            last_data_received_ms: ms(since_data),
            keepalive: known.keepalive.then(|| self.keepalive(tcp)),
            user_timeout_ms: known.user_timeout.then_some(user_timeout_ms).filter(|ms| *ms != 0),
            gives_up_in_ms: None,
            stalled_ms: None,
        }
    }
}
