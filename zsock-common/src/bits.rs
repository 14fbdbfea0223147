//! What the bits of records mean.

/// Bits of [`Watch::flags`](crate::wire::Watch::flags).
pub mod watch_flag {
    /// A pass has seen the socket in the hands of a process.
    pub const SEEN: u64 = 1;
    /// The last data is ours, acknowledged and not answered.
    pub const WAITING: u64 = 2;
    /// A hook saw trouble since the last pass, or this one finds trouble that has changed.
    pub const RESTLESS: u64 = 4;
}

/// What a pass looks for: bits of a [`LookRecord`](crate::wire::LookRecord)'s `detail`.
pub mod condition {
    /// A time-out, an unanswered probe: told with every pass that finds more or fewer of them, or what they were about moved.
    pub const TROUBLE: u32 = 1;
    /// No segment for as long as [`crate::wire::Control::idle`] while nothing guards the connection.
    pub const IDLE: u32 = 1 << 1;
    /// Unread data of which nothing was read for as long as [`crate::wire::Control::unread`].
    pub const UNREAD: u32 = 1 << 2;
    /// A request without an answer for as long as [`crate::wire::Control::silence`] and ten times what is usual.
    pub const SILENCE: u32 = 1 << 3;
    /// In `CLOSE_WAIT` without data sent or read for as long as [`crate::wire::Control::close_wait`].
    pub const CLOSE_WAIT: u32 = 1 << 4;
    /// The peer's window is closed, data waits and was probed for.
    pub const WINDOW: u32 = 1 << 5;
    /// The listener's accept queue is full.
    pub const QUEUE: u32 = 1 << 6;
}

/// Bits of [`Head::flags`](crate::wire::Head::flags).
pub mod flag {
    /// The hook could not reach the socket's own memory; ask for its past.
    pub const PAST_ELSEWHERE: u16 = 1;
    /// The kernel has not chosen our port yet; the one that the socket shows is of a connection that it had before.
    pub const UNBOUND: u16 = 2;
    /// A listener has just made the socket: it came from `LISTEN` to `SYN_RECV` by the segment that makes this change as well.
    pub const ACCEPTED: u16 = 4;
}

/// In place of an errno: this host dropped the segment, and the kernel says no errno.
pub const DROPPED_HERE: u32 = 0x8000;
