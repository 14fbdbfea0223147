//! When the next timer of a socket acts and when the kernel gives up, if nothing new reaches the socket.
//!
//! Found by simulation, firing by firing: the kernel looks at its limits only when a timer fires. Three timers can end a
//! connection, and which of them is in charge follows from what is waiting: in flight, the retransmission timer; unsent
//! with nothing in flight, the persist timer; neither, the keepalive timer.

mod keepalive;
mod persist;
mod retransmission;

use std::time::Duration;

use super::Jiffies;
use crate::record::State;

/// What the kernel's timers know about a socket at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own that the kernel keeps as one bit"
)]
pub struct Timers {
    /// The kernel's tick. Timers fire on ticks of a grain that depends on how far off they are.
    pub jiffies: Jiffies,
    /// The tick of the moment, lower 32 bits.
    pub now: u32,
    /// Where in the kernel's code the facts were read.
    pub moment: Moment,
    /// State of the socket.
    pub state: State,
    /// No process holds the socket any more, `SOCK_DEAD`.
    pub orphan: bool,
    /// Something is in flight, SYN and FIN included: `snd_nxt != snd_una`.
    pub in_flight: bool,
    /// Something was accepted from the application and not sent: `write_seq != snd_nxt`.
    pub unsent: bool,
    /// The peer's window is closed, `snd_wnd == 0`.
    pub window_closed: bool,
    /// Time-outs in a row without progress, `icsk_retransmits`.
    pub retransmits: u32,
    /// Exponential back-off, `icsk_backoff`.
    pub backoff: u32,
    /// Keepalive or window probes without an answer, `icsk_probes_out`.
    pub probes_out: u32,
    /// Retransmission timeout, back-off included, `icsk_rto`.
    pub rto: Duration,
    /// Its bound: `icsk_rto_max`, or 120 s on kernels without it (before 6.15).
    pub rto_max: Duration,
    /// Timer that is pending, `icsk_pending`; `None` for none.
    pub pending: Option<Pending>,
    /// Until the pending timer really fires, [`Jiffies::until_fired`]; `None` where it is not known.
    pub timer_in: Option<Duration>,
    /// The same for the keepalive timer; `None` where it is not armed.
    pub keepalive_timer_in: Option<Duration>,
    /// Since the episode's first retransmission, `retrans_stamp`; of a SYN, since the connection attempt began. `None`
    /// while the stamp is zero.
    pub since_first_retransmission: Option<Duration>,
    /// Since the first probe of a closed window, `icsk_probes_tstamp`; `None` while the stamp is zero.
    pub since_first_probe: Option<Duration>,
    /// Since anything came from the peer, by `rcv_tstamp` and `lrcvtime`; `None` where nothing ever did.
    pub since_received: Option<Duration>,
    /// `SO_KEEPALIVE`, `SOCK_KEEPOPEN`.
    pub keepalive_enabled: bool,
    /// Idle time before the first keepalive probe, the socket's or else the namespace's.
    pub keepalive_idle: Duration,
    /// Between keepalive probes, the socket's or else the namespace's.
    pub keepalive_interval: Duration,
    /// Unanswered keepalive probes before the kernel gives up, the socket's or else the namespace's.
    pub keepalive_probes: u32,
    /// `TCP_USER_TIMEOUT`; `None` or zero where it is not set.
    pub user_timeout: Option<Duration>,
    /// `net.ipv4.tcp_retries2`.
    pub retries2: u32,
    /// `net.ipv4.tcp_orphan_retries`.
    pub orphan_retries: u32,
    /// `TCP_SYNCNT`, or else `net.ipv4.tcp_syn_retries`.
    pub syn_retries: u32,
    /// `net.ipv4.tcp_syn_linear_timeouts`; 0 on kernels without it.
    pub syn_linear_timeouts: u32,
    /// An ICMP error is pending on the socket, `sk_err_soft`.
    pub soft_error: bool,
    /// Linear timeouts of thin streams are on (`TCP_THIN_LINEAR_TIMEOUTS` or the sysctl), fewer than four packets are in
    /// flight and slow start has ended once, `snd_ssthresh < 0x7fffffff` (BBR never ends it).
    pub thin_linear: bool,
}

/// Where in the kernel's code the facts were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Timers are as they stand: none of the kernel's timer code is running, or it has armed its timer again.
    AtRest,
    /// At the tracepoint `tcp_retransmit_skb` inside of `tcp_retransmit_timer`: the time-out is counted, RTO and back-off
    /// are as before it, the timer is not armed again.
    InRetransmissionTimeout,
    /// At the same tracepoint inside of `tcp_send_loss_probe`: the RTO is armed at its full length next.
    InTailLossProbe,
    /// At the same tracepoint where an ACK made the kernel resend the first unacknowledged segment: an episode begins or
    /// goes on, and the RTO is armed at its full length next. (Any other segment leaves the timer alone: [`Moment::AtRest`].)
    InHeadRetransmission,
}

/// The timer that `icsk_pending` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// `ICSK_TIME_RETRANS`.
    Retransmit,
    /// `ICSK_TIME_PROBE0`: the persist timer.
    Probe,
    /// `ICSK_TIME_LOSS_PROBE`.
    LossProbe,
    /// `ICSK_TIME_REO_TIMEOUT`.
    ReorderTimeout,
}

impl Pending {
    /// The timer of this number in `icsk_pending`; `None` for 0 and for numbers of no TCP timer.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Retransmit),
            3 => Some(Self::Probe),
            5 => Some(Self::LossProbe),
            6 => Some(Self::ReorderTimeout),
            _ => None,
        }
    }
}

/// What the kernel will do if nothing new reaches the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Until a timer next acts: sends something or ends the connection. `None` where none will or it cannot be told.
    pub next: Option<Duration>,
    /// Until the tick at which the kernel gives up. `None` where it never does or it cannot be told.
    pub gives_up_in: Option<Duration>,
}

/// When the kernel finds that a peer is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// After so long.
    In(Duration),
    /// Never: nothing is sent that could go unanswered.
    Never,
    /// It cannot be told.
    Unknown,
}

/// What is assumed of the peer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// It goes on answering the probes of its closed window where it has answered them.
    AsBefore,
    /// Nothing comes from it.
    Silent,
}

/// When the next timer acts and when the kernel gives up.
///
/// Silence is taken to go on, and so is a peer's answering the probes of its closed window. Not foreseen: attempts that fail for lack of local resources, and orphans dropped because there are too many.
#[must_use]
pub fn forecast(timers: &Timers) -> Forecast {
    forecast_of(timers, Peer::AsBefore)
}

/// When the kernel finds that nothing comes from the peer any more, whatever it did before.
#[must_use]
pub fn discovery(timers: &Timers) -> Discovery {
    let nothing_waits = !timers.in_flight && !timers.unsent;
    match forecast_of(timers, Peer::Silent).gives_up_in {
        Some(gives_up_in) => Discovery::In(gives_up_in),
        None if nothing_waits && !timers.keepalive_enabled => Discovery::Never,
        None => Discovery::Unknown,
    }
}

fn forecast_of(timers: &Timers, peer: Peer) -> Forecast {
    let never = Forecast::default();
    match timers.state {
        State::FIN_WAIT2 if timers.orphan => Forecast { next: timers.keepalive_timer_in, ..never },
        // A connection whose SYN carried data is here under other limits, which these facts do not tell apart.
        State::SYN_RECV => Forecast { next: timers.timer_in, ..never },
        State::SYN_SENT
        | State::ESTABLISHED
        | State::FIN_WAIT1
        | State::FIN_WAIT2
        | State::CLOSE_WAIT
        | State::LAST_ACK
        | State::CLOSING => {
            if timers.in_flight {
                retransmission::forecast(timers, peer)
            } else if timers.unsent {
                persist::forecast(timers, peer)
            } else {
                keepalive::forecast(timers)
            }
        }
        _ => never,
    }
}

/// A simulation ends without an answer after this many firings, a day of them at one a second.
const MAX_FIRINGS: u32 = 100_000;

/// `TCP_RTO_MIN`: the kernel models its limits with this constant, whatever the route's own bound is.
const RTO_MIN: Duration = Duration::from_millis(200);

impl Timers {
    fn user_timeout(&self) -> Option<Duration> {
        self.user_timeout.filter(|timeout| !timeout.is_zero())
    }

    /// How often an orphan is given another try; `alive` while its back-off has not reached the bound.
    fn orphan_limit(&self, alive: bool) -> u32 {
        match self.orphan_retries {
            _ if self.soft_error && !alive => 0,
            0 if alive => 8,
            retries => retries,
        }
    }
}

/// The clock of a simulation, in whole ticks.
#[derive(Clone, Copy)]
struct Clock {
    jiffies: Jiffies,
    start: u64,
    at: u64,
}

impl Clock {
    fn start(timers: &Timers) -> Self {
        let start = u64::from(timers.now);
        Self { jiffies: timers.jiffies, start, at: start }
    }

    /// Goes on to the firing of a timer that was armed before the start.
    fn wait(&mut self, duration: Duration) {
        self.at += self.jiffies.ticks(duration);
    }

    /// Goes on to the firing of a timer armed now for `delay` ticks.
    fn arm(&mut self, delay: u64) {
        self.at = Jiffies::fires_at(self.at, delay);
    }

    fn elapsed(&self) -> Duration {
        self.jiffies.duration(self.at - self.start)
    }
}

/// Time since a stamp that the kernel set before the start or sets during the simulation.
#[derive(Clone, Copy)]
struct Stopwatch {
    before: Duration,
    from: u64,
}

impl Stopwatch {
    fn started(clock: &Clock, before: Duration) -> Self {
        Self { before, from: clock.at }
    }

    fn elapsed(&self, clock: &Clock) -> Duration {
        self.before.saturating_add(clock.jiffies.duration(clock.at - self.from))
    }

    /// Whether so much time has passed. Asked at every firing, so without the divisions that it takes to say how much it is.
    fn has_reached(&self, limit: Duration, clock: &Clock) -> bool {
        limit.checked_sub(self.before).is_none_or(|left| clock.jiffies.reach(clock.at - self.from, left))
    }
}

#[cfg(test)]
mod tests;
