//! The records that the kernel side writes to the ring buffer.
//!
//! Every struct is `repr(C)` without padding (proved at compile time), starts with a [`Head`] that names its kind, and is
//! read back by `zerocopy`, which proves that any bytes are one.

pub use crate::bits::{DROPPED_HERE, condition, flag, watch_flag};
pub use crate::census::{CensusHolder, CensusRecord};
pub use crate::maps::{
    AcceptFailures, Control, Counters, Remote, Rest, STATES, States, accept_key, look, timer, walk,
};

macro_rules! wire {
    ($($(#[$doc:meta])* struct $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty),+ $(,)? })+) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            #[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes))]
            pub struct $name { $($(#[$field_doc])* pub $field: $kind),+ }

            const _: () = assert!(
                size_of::<$name>() == 0 $(+ size_of::<$kind>())+,
                concat!(stringify!($name), " has padding: reorder its fields or name the gap"),
            );
        )+
    };
}

pub(crate) use wire;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal),+ $(,)?) => {
        /// What a record is about: the number in [`Head::kind`].
        #[repr(u16)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $name = $number),+ }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The kind of this number; `None` for one that this build does not know.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// [`SocketRecord`]: a state change; `detail` is from, to.
    State = 1,
    /// [`SocketRecord`]: a segment was sent again; `detail` is its TCP flags and above them 16 bits of the positive errno of a
    /// failed attempt, `detail2` its first sequence number.
    Retransmit = 2,
    /// [`SynAckRecord`]: a SYN-ACK was sent again.
    SynAckRetransmit = 3,
    /// [`SocketRecord`]: a keepalive probe went out; `detail` is probes out before.
    Keepalive = 4,
    /// [`SocketRecord`]: the peer answered a keepalive probe; `detail` is the probes sent until then.
    KeepaliveAnswered = 5,
    /// [`SocketRecord`]: the persist timer probed; `detail` is probes out before.
    WindowProbe = 6,
    /// [`SocketRecord`]: congestion control went back to Open; `detail` is the congestion state before.
    Recovered = 7,
    /// [`SocketRecord`]: the kernel reports an error; `detail` is the errno.
    Error = 8,
    /// [`SocketRecord`]: a reset came in.
    ResetReceived = 9,
    /// [`SocketRecord`]: a reset went out; `detail` is the kernel's reason, whether it is known.
    ResetSent = 10,
    /// [`Head`] alone: the kernel frees the socket.
    Destroyed = 11,
    /// [`PastRecord`]: what happened to a socket before its first sign of trouble.
    Past = 12,
    /// [`LookRecord`]: a look at a socket by the iterator.
    Look = 13,
    /// [`HolderRecord`]: a process holds a socket.
    Holder = 14,
    /// [`ClockRecord`]: jiffies beside the monotonic clock.
    Clock = 15,
    /// [`SocketRecord`]: the retransmission timer fired and nothing left this host.
    RetransmitFailed = 16,
    /// [`SocketRecord`]: accepting from a listener failed for want of descriptors or memory; `detail` is the positive errno, `detail2`
    /// the low half of [`AcceptFailures::total`], `actor` the process that called.
    AcceptFailed = 18,
}

/// State changes that a socket's memory keeps; a connection in health makes five.
pub const MAX_TRANSITIONS: usize = 8;

wire! {
    /// The beginning of every record.
    struct Head {
        /// CLOCK_MONOTONIC, nanoseconds.
        time_ns: u64,
        /// The socket's cookie.
        cookie: u64,
        /// A [`Kind`].
        kind: u16,
        /// [`flag`] bits.
        flags: u16,
        /// Low half of the kernel's jiffies at `time_ns`.
        jiffies: u32,
    }

    /// Addresses and ports of a connection. IPv4 is written as `::ffff:a.b.c.d`.
    struct Endpoints {
        /// Our address.
        local: [u8; 16],
        /// The peer's address.
        remote: [u8; 16],
        /// Our port, host byte order; 0 while there is none.
        local_port: u16,
        /// The peer's port, host byte order; 0 for a listener.
        remote_port: u16,
        /// Address family of the socket, `AF_INET` or `AF_INET6`.
        family: u16,
        /// No meaning.
        reserved: u16,
        /// Inode number of the network namespace; 0 where it could not be read.
        netns: u32,
        /// The socket's user id in the initial user namespace.
        uid: u32,
    }

    /// How TCP stands with a socket, in the kernel's units. Names are those of the kernel's fields.
    struct TcpFacts {
        /// `tp->bytes_sent`, payload, each transmission counted.
        bytes_sent: u64,
        /// `tp->bytes_retrans`.
        bytes_retrans: u64,
        /// `tp->bytes_received`; counts the FIN.
        bytes_received: u64,
        /// Inode number in sockfs; 0 for none.
        inode: u64,
        /// First unacknowledged sequence number.
        snd_una: u32,
        /// Next sequence number to send.
        snd_nxt: u32,
        /// Sequence number behind what the application wrote.
        write_seq: u32,
        /// Next sequence number expected.
        rcv_nxt: u32,
        /// Sequence number that the application reads next.
        copied_seq: u32,
        /// The window that the peer offers, bytes.
        snd_wnd: u32,
        /// Congestion window, segments.
        snd_cwnd: u32,
        /// Smoothed round-trip time, microseconds << 3.
        srtt_us: u32,
        /// Retransmission time-out, jiffies.
        icsk_rto: u32,
        /// Its bound, jiffies; 0 where the kernel has only the constant.
        icsk_rto_max: u32,
        /// First retransmission of the episode, milliseconds or microseconds of the TCP clock.
        retrans_stamp: u32,
        /// Payload last sent, jiffies.
        lsndtime: u32,
        /// Last ACK received, jiffies.
        rcv_tstamp: u32,
        /// Payload last received, jiffies.
        lrcvtime: u32,
        /// First fire of the persist timer, jiffies; 0 for none.
        probes_tstamp: u32,
        /// When the retransmission or persist timer fires, jiffies.
        write_timer: u32,
        /// `timer_list.flags` of that timer.
        write_timer_flags: u32,
        /// When the keepalive timer fires, jiffies.
        keepalive_timer: u32,
        /// `timer_list.flags` of that timer.
        keepalive_timer_flags: u32,
        /// `TCP_KEEPIDLE`, jiffies; 0 for the namespace's.
        keepalive_time: u32,
        /// `TCP_KEEPINTVL`, jiffies; 0 for the namespace's.
        keepalive_intvl: u32,
        /// `TCP_USER_TIMEOUT`, milliseconds; 0 for none.
        user_timeout: u32,
        /// Segments sent again since the connection began.
        total_retrans: u32,
        /// Time-outs since the connection began (6.12 and later).
        total_rto: u32,
        /// `net->ipv4.sysctl_tcp_keepalive_time`, jiffies.
        sysctl_keepalive_time: u32,
        /// `net->ipv4.sysctl_tcp_keepalive_intvl`, jiffies.
        sysctl_keepalive_intvl: u32,
        /// `sk->sk_flags`, low half.
        sk_flags: u32,
        /// `sk->sk_err`.
        sk_err: i32,
        /// `sk->sk_err_soft`.
        sk_err_soft: i32,
        /// TCP state.
        state: u8,
        /// `icsk_retransmits`.
        retransmits: u8,
        /// `icsk_pending`.
        pending: u8,
        /// `icsk_backoff`.
        backoff: u8,
        /// `icsk_probes_out`.
        probes_out: u8,
        /// `icsk_ca_state`.
        ca_state: u8,
        /// `icsk_syn_retries`; 0 for the namespace's.
        syn_retries: u8,
        /// `TCP_KEEPCNT`; 0 for the namespace's.
        keepalive_probes: u8,
        /// `sk->sk_shutdown`.
        shutdown: u8,
        /// A `struct socket` belongs to it.
        has_socket: u8,
        /// `tp->tcp_usec_ts`: TCP time stamps are in microseconds.
        usec_ts: u8,
        /// `net->ipv4.sysctl_tcp_keepalive_probes`.
        sysctl_keepalive_probes: u8,
        /// `net->ipv4.sysctl_tcp_retries2`.
        sysctl_retries2: u8,
        /// `net->ipv4.sysctl_tcp_orphan_retries`.
        sysctl_orphan_retries: u8,
        /// `net->ipv4.sysctl_tcp_syn_retries`.
        sysctl_syn_retries: u8,
        /// `net->ipv4.sysctl_tcp_syn_linear_timeouts`.
        sysctl_syn_linear_timeouts: u8,
        /// `lsndtime` as it was when the timer fired that sent a segment again; 0 where none did.
        sent_before: u32,
    }

    /// An event of one socket.
    struct SocketRecord {
        /// Kind, time and socket.
        head: Head,
        /// Between whom.
        endpoints: Endpoints,
        /// How TCP stands.
        tcp: TcpFacts,
        /// What the kind says.
        detail: u32,
        /// What the kind says.
        detail2: u32,
        /// The process that made a state change in its own name; all zero for one that a packet or timer made.
        actor: Process,
    }

    /// How a socket stood when the iterator looked at it.
    struct LookRecord {
        /// The socket, as in any event; `detail` is the [`condition`] bits that hold, `detail2` those told before.
        event: SocketRecord,
        /// What the passes so far have seen of it.
        watch: Watch,
        /// Of a listener: connections that wait to be accepted, `sk_ack_backlog`.
        queue: u32,
        /// Of a listener: `sk_max_ack_backlog`.
        backlog: u32,
        /// Of a listener: when the connection came that has waited longest, jiffies; 0 where it cannot be told.
        oldest: u32,
        /// No meaning.
        reserved: u32,
    }

    /// What the periodic pass remembers of a socket from one pass to the next.
    struct Watch {
        /// [`watch_flag`] bits.
        flags: u64,
        /// The last segment in either direction, jiffies.
        active: u32,
        /// `tp->bytes_sent`, low half.
        bytes_sent: u32,
        /// `tp->data_segs_out`.
        segs_out: u32,
        /// `tp->data_segs_in`.
        segs_in: u32,
        /// `tp->write_seq`.
        write_seq: u32,
        /// `tp->copied_seq`, as far as it counts data.
        copied_seq: u32,
        /// `tp->snd_una`.
        snd_una: u32,
        /// Passes that found the connection at rest with the peer's data as the last.
        rests: u16,
        /// Times at which the peer spoke without being asked, or after far longer than usual.
        strays: u16,
        /// Since when there is unread data of which nothing was read, jiffies; 0 for none.
        unread_since: u32,
        /// In `CLOSE_WAIT`: since when no data was sent or read, jiffies; 0 in other states.
        quiet_since: u32,
        /// How long answers to requests took, jiffies, smoothed, times 8; 0 while it is not known.
        usual: u32,
        /// Requests answered in a row.
        answered: u32,
        /// [`condition`] bits told.
        told: u32,
        /// When the last pass came by, jiffies.
        passed: u32,
        /// [`condition`] bits that held at the last pass.
        holds: u32,
        /// How the time-outs and probes of a socket in trouble stood at the last pass: `icsk_retransmits`, `icsk_probes_out`,
        /// `icsk_backoff` and whether a process holds it, a byte each.
        trouble: u32,
    }

    /// A SYN-ACK sent again. No full socket exists yet.
    struct SynAckRecord {
        /// Kind, time and listener.
        head: Head,
        /// Between whom.
        endpoints: Endpoints,
        /// Time-outs so far.
        num_timeout: u32,
        /// Until the next one, jiffies; 0 where the kernel does not say.
        timeout: u32,
    }

    /// A process (thread group).
    struct Process {
        /// Its id in the initial PID namespace; 0 for none.
        tgid: u32,
        /// No meaning.
        reserved: u32,
        /// When it started, CLOCK_BOOTTIME nanoseconds: tells it from a later one of the same id.
        start_ns: u64,
        /// Id of its control group (version 2); 0 for none.
        cgroup: u64,
        /// Name of the thread group's leader.
        comm: [u8; 16],
    }

    /// A state change that was kept for later.
    struct Transition {
        /// CLOCK_MONOTONIC, nanoseconds.
        time_ns: u64,
        /// State before.
        from: u8,
        /// State after.
        to: u8,
        /// No meaning.
        reserved: [u8; 6],
    }

    /// What a socket's own memory holds while it is healthy.
    struct Past {
        /// Its first state change; 0 where it is older than zsock.
        birth_ns: u64,
        /// State changes seen, those beyond [`MAX_TRANSITIONS`] included.
        count: u32,
        /// [`past_flag`] bits.
        flags: u32,
        /// The process that connected it, or the one found to hold it.
        opener: Process,
        /// The process that shut it down or closed it.
        closer: Process,
        /// What the periodic pass remembers.
        watch: Watch,
        /// The first of its state changes.
        transitions: [Transition; MAX_TRANSITIONS],
    }

    /// A socket's past, told with its first sign of trouble.
    struct PastRecord {
        /// Kind, time and socket.
        head: Head,
        /// What was kept.
        past: Past,
    }

    /// A process that holds a socket.
    struct HolderRecord {
        /// Kind, time and socket.
        head: Head,
        /// The holder.
        holder: Process,
        /// Inode number in sockfs.
        inode: u64,
    }

    /// The two clocks of the kernel side, read together.
    struct ClockRecord {
        /// Kind and time.
        head: Head,
        /// Jiffies, all 64 bits.
        jiffies: u64,
    }
}

impl Transition {
    /// No transition.
    pub const EMPTY: Self = Self { time_ns: 0, from: 0, to: 0, reserved: [0; 6] };
}

/// Bits of [`Past::flags`].
pub mod past_flag {
    /// The socket has shown trouble: its events go out.
    pub const ANNOUNCED: u32 = 1;
    /// Its opener was not seen opening it but found holding it.
    pub const OPENER_FOUND: u32 = 2;
    /// Its last state change ended a connection.
    pub const ENDED: u32 = 4;
}

/// Bits of `sk->sk_flags`.
///
/// Source: `enum sock_flags` of `include/net/sock.h`; equal on every kernel looked at, 5.10 to 7.3.
pub mod sk_flag {
    /// `SOCK_DEAD`: no process holds it.
    pub const DEAD: u32 = 1 << 0;
    /// `SOCK_DONE`: the peer's FIN was received.
    pub const DONE: u32 = 1 << 1;
    /// `SOCK_KEEPOPEN`: `SO_KEEPALIVE` is on.
    pub const KEEPOPEN: u32 = 1 << 3;
}

impl Process {
    /// No process.
    pub const NONE: Self = Self { tgid: 0, reserved: 0, start_ns: 0, cgroup: 0, comm: [0; 16] };
}
