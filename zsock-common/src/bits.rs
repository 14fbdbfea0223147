//! What the bits of a look mean.

/// Bits of [`Watch::flags`](crate::wire::Watch::flags).
pub mod watch_flag {
    /// A pass has seen the socket in the hands of a process.
    pub const SEEN: u64 = 1;
    /// The last data is ours, acknowledged and not answered.
    pub const WAITING: u64 = 2;
    /// A hook saw trouble since the last pass.
    pub const RESTLESS: u64 = 4;
}

/// What a pass looks for: bits of a [`LookRecord`](crate::wire::LookRecord)'s `detail`.
pub mod condition {
    /// A time-out, an unanswered probe: told with every pass.
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
