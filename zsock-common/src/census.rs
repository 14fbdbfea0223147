//! The rows of a census, which go to whoever reads the iterators.

use crate::wire::{Endpoints, Head, Process, TcpFacts, wire};

wire! {
    /// A socket as the census finds it. Of one that is no full socket (`TIME_WAIT`, a handshake that a listener has not finished) only
    /// `head`, `endpoints`, `tcp.state` and the last two fields say something.
    struct CensusRecord {
        /// Time and socket.
        head: Head,
        /// Between whom.
        endpoints: Endpoints,
        /// How TCP stands.
        tcp: TcpFacts,
        /// Of a listener: connections that wait to be accepted, `sk_ack_backlog`.
        queue: u32,
        /// `sk_max_ack_backlog`: of a listener, and of the connections that it made.
        backlog: u32,
        /// Of a listener: when the connection came that has waited longest, jiffies; 0 where it cannot be told.
        oldest: u32,
        /// Of what is no full socket: when its timer fires, jiffies.
        expires: u32,
        /// `timer_list.flags` of that timer.
        expires_flags: u32,
        /// 1: it is a full socket.
        is_full: u32,
    }

    /// A descriptor that the census finds to be a TCP socket.
    struct CensusHolder {
        /// CLOCK_MONOTONIC, nanoseconds.
        time_ns: u64,
        /// Jiffies at that time, all 64 bits.
        jiffies: u64,
        /// The socket's cookie; 0 while it has none, where programs may not make it.
        cookie: u64,
        /// The descriptor.
        fd: u32,
        /// No meaning.
        reserved: u32,
        /// Whose.
        process: Process,
    }
}
