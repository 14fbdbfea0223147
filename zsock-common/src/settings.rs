//! What the agent tells the kernel side before it is loaded, as frozen `.rodata`: the verifier takes it for constants.

/// Largest number of values of one selector that the kernel side takes; with more it lets everything through and the agent selects.
pub const MAX_VALUES: usize = 8;

/// How the kernel side works.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// 1: every event goes out; 0: only those of sockets that have shown trouble.
    pub all_events: u32,
    /// 1: `tcp_retransmit_skb` has a third argument, the error of a failed attempt (6.18 and later).
    pub retransmit_has_error: u32,
    /// 1: `tcp_send_reset` has a third argument, the reason (6.12 and later).
    pub reset_has_reason: u32,
    /// 1: sockets are known by address, for programs may not ask one for its cookie or give it storage, nor take the running task or a
    /// file's socket for one that the verifier knows (before 5.12).
    pub by_address: u32,
    /// Bytes that wake the reader.
    pub wake_bytes: u32,
    /// At most so many sockets get storage of their own, which the kernel allocates.
    pub stored_sockets: u32,
    /// 1: sockets are counted by state, for metrics and ticks.
    pub count_states: u32,
    /// No meaning.
    pub reserved: u32,
    /// Which sockets are wanted.
    pub filter: Filter,
}

/// Selectors: values of one kind are OR-ed, kinds are AND-ed, a count of 0 lets everything through.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    /// Processes in use below.
    pub pid_count: u32,
    /// Ports in use below.
    pub port_count: u32,
    /// Local prefixes in use below.
    pub local_count: u32,
    /// Remote prefixes in use below.
    pub remote_count: u32,
    /// Network namespaces in use below.
    pub netns_count: u32,
    /// Inode numbers of network namespaces.
    pub netns: [u32; MAX_VALUES],
    /// Process ids, with those of their ancestors: a child may hold what an ancestor opened.
    pub pids: [u32; MAX_VALUES],
    /// Ports of either end.
    pub ports: [u16; MAX_VALUES],
    /// No meaning.
    pub reserved: u32,
    /// Our end.
    pub local: [Prefix; MAX_VALUES],
    /// The peer's end.
    pub remote: [Prefix; MAX_VALUES],
}

/// An address prefix with a port. IPv4 is `::ffff:a.b.c.d`; halves are in memory order, as loaded from an address.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Prefix {
    /// The address, first and second half.
    pub address: [u64; 2],
    /// Bits that count.
    pub mask: [u64; 2],
    /// The port; 0 for any.
    pub port: u16,
    /// No meaning.
    pub reserved: [u16; 3],
}

impl Prefix {
    /// Matches everything.
    pub const ANY: Self = Self { address: [0; 2], mask: [0; 2], port: 0, reserved: [0; 3] };
}

impl Filter {
    /// Lets everything through.
    pub const NONE: Self = Self {
        pid_count: 0,
        port_count: 0,
        local_count: 0,
        remote_count: 0,
        netns_count: 0,
        netns: [0; MAX_VALUES],
        pids: [0; MAX_VALUES],
        ports: [0; MAX_VALUES],
        reserved: 0,
        local: [Prefix::ANY; MAX_VALUES],
        remote: [Prefix::ANY; MAX_VALUES],
    };
}

impl Settings {
    /// Only trouble, everything selected, nothing optional.
    pub const DEFAULT: Self = Self {
        all_events: 0,
        retransmit_has_error: 0,
        reset_has_reason: 0,
        by_address: 0,
        wake_bytes: 64 * 1024,
        stored_sockets: u32::MAX,
        count_states: 1,
        reserved: 0,
        filter: Filter::NONE,
    };
}
