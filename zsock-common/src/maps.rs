//! What lies in maps that both sides use.

/// What the agent tells the kernel side while it runs, in the map `CONTROL`. Durations are in jiffies.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// When this pass began and the one before, CLOCK_MONOTONIC nanoseconds; 0 where there was none.
    pub began_ns: u64,
    /// See `began_ns`.
    pub previous_ns: u64,
    /// What the next look is for, a [`look`] value.
    pub look: u32,
    /// Timers that the timer tracepoints are for, [`timer`] bits.
    pub timers: u32,
    /// Number of the pass, from 1 on.
    pub pass: u32,
    /// Nanoseconds a jiffy.
    pub tick_ns: u32,
    /// Without a segment for so long a connection is idle.
    pub idle: u32,
    /// A keepalive probe after no longer than this guards it.
    pub guarded: u32,
    /// Data unread for so long is told.
    pub unread: u32,
    /// A request unanswered for so long is told.
    pub silence: u32,
    /// `CLOSE_WAIT` for so long is told.
    pub close_wait: u32,
    /// Without a segment for so long a connection is at rest.
    pub rest: u32,
    /// An acknowledgement within so long is of what was sent.
    pub acknowledged: u32,
    /// What comes after so long may come unasked.
    pub late: u32,
    /// To idle for at least so long and live on is kept in the map `SURVIVED`.
    pub survival: u32,
    /// 1: no hook sees keepalive or window probes, so that passes look at every socket that waits for an answer to one.
    pub unwatched_probes: u32,
    /// What is known of the network namespace that is walked, a [`walk`] value.
    pub walk: u32,
    /// 0.
    pub reserved: u32,
}

/// Values of [`Control::look`].
pub mod look {
    /// At the start: name every socket, find its holder, tell of those in trouble.
    pub const SEED: u32 = 0;
    /// The periodic pass over sockets; of holders, those of the sockets whose owner is wanted.
    pub const PASS: u32 = 1;
}

/// Values of [`Control::walk`].
pub mod walk {
    /// Nothing: what is found is told.
    pub const BUSY: u32 = 0;
    /// No segment was sent or received in it since the pass before: whether it is at [`super::Rest`] is noted as well.
    pub const QUIET: u32 = 1;
    /// The same, and passes have left it out: every socket has its turn.
    pub const RARE: u32 = 2;
}

/// Whether the network namespace that was walked is at rest, in the map `REST`. The agent writes it before a walk and reads it after.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// 1: the next pass may find something there although nothing is sent or received.
    pub restless: u32,
    /// Else it cannot for so many jiffies.
    pub ticks: u32,
}

/// Bits of [`Control::timers`].
pub mod timer {
    /// `tcp_keepalive_timer`.
    pub const KEEPALIVE: u32 = 1;
    /// `tcp_write_timer`.
    pub const WRITE: u32 = 2;
}

/// How often accepting has failed for one process with one errno, in the map `ACCEPT_FAILURES` under [`accept_key`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptFailures {
    /// Since the start, those without a record of their own included.
    pub total: u64,
    /// When the second began in which `told` is counted, CLOCK_MONOTONIC nanoseconds.
    pub second_ns: u64,
    /// Records in that second.
    pub told: u64,
}

/// Key of the map `ACCEPT_FAILURES`: a process and a positive errno.
#[must_use]
pub const fn accept_key(tgid: u32, errno: u32) -> u64 {
    tgid as u64 | (errno as u64) << 32
}

/// Counters of the kernel side, one set per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records handed over.
    pub produced: u64,
    /// Records for which the ring buffer had no room.
    pub lost: u64,
    /// Looks and events that found no memory to be had for their socket; its past is unknown.
    pub forgotten: u64,
    /// Events of sockets without a cookie: in a network namespace that could not be entered at the start or, where sockets are known by
    /// address, for want of room or after the socket's end.
    pub unnamed: u64,
    /// TCP sockets that the look at the start found.
    pub existed: u64,
}

/// Room for every TCP state, and some for states that are not known yet; a power of two.
pub const STATES: usize = 16;

/// Sockets by TCP state, one set per CPU, in the map `STATES`. Counts only grow: what a pass found is what they grew by meanwhile.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct States {
    /// Sockets that passes found, by the state that each was in.
    pub found: [u64; STATES],
    /// Changes of state, by the new state.
    pub entered: [u64; STATES],
}

/// A key of the map `SURVIVED`: where connections go. Its values are the longest time, in jiffies, that one of them idled and lived on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Remote {
    /// The peer's address; IPv4 is `::ffff:a.b.c.d`.
    pub address: [u8; 16],
    /// The peer's port, host byte order.
    pub port: u32,
}
