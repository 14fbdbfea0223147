//! Where the running kernel keeps each field that the kernel side reads: one table for both sides.
//!
//! The agent resolves the table against the kernel's BTF before loading; nothing is ever decided by a version number.

/// The offset of a field that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// A place inside a kernel structure: byte offset, and for a bit field its shift and width.
///
/// Bits 0 to 15 are the byte offset, 16 to 23 the shift, 24 to 31 the width in bits (0: whole bytes).
#[must_use]
pub const fn bit_field(byte: u32, shift: u32, width: u32) -> u32 {
    byte | shift << 16 | width << 24
}

/// How the agent finds a field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name that this project uses.
    pub name: &'static str,
    /// Places to look, best first: `type.member.member`, through anonymous members.
    pub paths: &'static [&'static str],
    /// Bytes that are read; the kernel's field has at least as many.
    pub size_bytes: u32,
    /// Without it no hook works.
    pub is_required: bool,
    /// Its bits are picked out: it may be a bit field.
    pub is_bits: bool,
}

macro_rules! fields {
    ($($name:ident: $size:literal $need:ident $($path:literal)|+;)+) => {
        /// Offsets, by field. Each is [`ABSENT`], a byte offset, or a [`bit_field`].
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the table gives each field's place in the kernel")]
        pub struct Offsets { $(pub $name: u32),+ }

        impl Offsets {
            /// Nothing known.
            pub const ABSENT: Self = Self { $($name: ABSENT),+ };

            /// Asks `resolve` for each field of [`FIELDS`].
            ///
            /// # Errors
            /// The first error that `resolve` gives.
            pub fn resolve<E>(mut resolve: impl FnMut(&'static Field) -> Result<u32, E>) -> Result<Self, E> {
                Ok(Self { $($name: resolve(&Field {
                    name: stringify!($name),
                    paths: &[$($path),+],
                    size_bytes: $size,
                    is_required: fields!(@is_required $need),
                    is_bits: fields!(@is_bits $need),
                })?),+ })
            }
        }
    };
    (@is_required required) => { true };
    (@is_required $other:ident) => { false };
    (@is_bits bits) => { true };
    (@is_bits $other:ident) => { false };
}

fields! {
    skc_family: 2 required "sock.__sk_common.skc_family";
    skc_state: 1 required "sock.__sk_common.skc_state";
    skc_num: 2 required "sock.__sk_common.skc_num";
    skc_dport: 2 required "sock.__sk_common.skc_dport";
    skc_daddr: 4 required "sock.__sk_common.skc_daddr";
    skc_rcv_saddr: 4 required "sock.__sk_common.skc_rcv_saddr";
    skc_v6_daddr: 16 optional "sock.__sk_common.skc_v6_daddr";
    skc_v6_rcv_saddr: 16 optional "sock.__sk_common.skc_v6_rcv_saddr";
    skc_net: 8 required "sock.__sk_common.skc_net.net";
    skc_cookie: 8 required "sock.__sk_common.skc_cookie";
    skc_flags: 4 required "sock.__sk_common.skc_flags";
    sk_protocol: 2 required "sock.sk_protocol";
    sk_type: 2 optional "sock.sk_type";
    sk_err: 4 required "sock.sk_err";
    sk_err_soft: 4 optional "sock.sk_err_soft";
    sk_shutdown: 1 required "sock.sk_shutdown";
    sk_socket: 8 required "sock.sk_socket";
    sk_ino: 8 optional "sock.sk_ino";
    sk_uid: 4 optional "sock.sk_uid";
    sk_rcvlowat: 4 optional "sock.sk_rcvlowat";
    sk_receive_queue_length: 4 optional "sock.sk_receive_queue.qlen";
    sk_ack_backlog: 4 optional "sock.sk_ack_backlog";
    sk_max_ack_backlog: 4 optional "sock.sk_max_ack_backlog";
    accept_queue_head: 8 optional "inet_connection_sock.icsk_accept_queue.rskq_accept_head";
    request_sk: 8 optional "request_sock.sk";
    inet_sport: 2 optional "inet_sock.inet_sport";
    socket_file: 8 optional "socket.file";
    socket_sk: 8 optional "socket.sk";
    file_inode: 8 optional "file.f_inode";
    inode_number: 8 optional "inode.i_ino";
    icsk_rto: 4 optional "inet_connection_sock.icsk_rto";
    icsk_rto_max: 4 optional "inet_connection_sock.icsk_rto_max";
    icsk_ca_state: 1 bits "inet_connection_sock.icsk_ca_state";
    icsk_retransmits: 1 optional "inet_connection_sock.icsk_retransmits";
    icsk_pending: 1 optional "inet_connection_sock.icsk_pending";
    icsk_backoff: 1 optional "inet_connection_sock.icsk_backoff";
    icsk_syn_retries: 1 optional "inet_connection_sock.icsk_syn_retries";
    icsk_probes_out: 1 optional "inet_connection_sock.icsk_probes_out";
    icsk_probes_tstamp: 4 optional "inet_connection_sock.icsk_probes_tstamp";
    icsk_user_timeout: 4 optional "inet_connection_sock.icsk_user_timeout";
    icsk_lrcvtime: 4 optional "inet_connection_sock.icsk_ack.lrcvtime";
    icsk_timeout: 8 optional "inet_connection_sock.icsk_timeout";
    write_timer: 8 optional "sock.tcp_retransmit_timer" | "inet_connection_sock.icsk_retransmit_timer";
    keepalive_timer: 8 optional "inet_connection_sock.icsk_keepalive_timer" | "sock.sk_timer";
    timer_expires: 8 optional "timer_list.expires";
    timer_flags: 4 optional "timer_list.flags";
    timer_function: 8 optional "timer_list.function";
    snd_una: 4 optional "tcp_sock.snd_una";
    snd_nxt: 4 optional "tcp_sock.snd_nxt";
    write_seq: 4 optional "tcp_sock.write_seq";
    rcv_nxt: 4 optional "tcp_sock.rcv_nxt";
    copied_seq: 4 optional "tcp_sock.copied_seq";
    snd_wl1: 4 optional "tcp_sock.snd_wl1";
    snd_wnd: 4 optional "tcp_sock.snd_wnd";
    snd_cwnd: 4 optional "tcp_sock.snd_cwnd";
    srtt_us: 4 optional "tcp_sock.srtt_us";
    total_retrans: 4 optional "tcp_sock.total_retrans";
    retrans_stamp: 4 optional "tcp_sock.retrans_stamp";
    lsndtime: 4 optional "tcp_sock.lsndtime";
    rcv_tstamp: 4 optional "tcp_sock.rcv_tstamp";
    bytes_sent: 8 optional "tcp_sock.bytes_sent";
    bytes_retrans: 8 optional "tcp_sock.bytes_retrans";
    bytes_received: 8 optional "tcp_sock.bytes_received";
    data_segs_out: 4 optional "tcp_sock.data_segs_out";
    data_segs_in: 4 optional "tcp_sock.data_segs_in";
    keepalive_time: 4 optional "tcp_sock.keepalive_time";
    keepalive_intvl: 4 optional "tcp_sock.keepalive_intvl";
    keepalive_probes: 1 optional "tcp_sock.keepalive_probes";
    usec_ts: 1 bits "tcp_sock.tcp_usec_ts";
    total_rto: 2 optional "tcp_sock.total_rto";
    tcp_clock_cache: 8 optional "tcp_sock.tcp_clock_cache";
    netns_inode: 4 optional "net.ns.inum";
    sysctl_keepalive_time: 4 optional "net.ipv4.sysctl_tcp_keepalive_time";
    sysctl_keepalive_intvl: 4 optional "net.ipv4.sysctl_tcp_keepalive_intvl";
    sysctl_keepalive_probes: 1 optional "net.ipv4.sysctl_tcp_keepalive_probes";
    sysctl_retries2: 1 optional "net.ipv4.sysctl_tcp_retries2";
    sysctl_orphan_retries: 1 optional "net.ipv4.sysctl_tcp_orphan_retries";
    sysctl_syn_retries: 1 optional "net.ipv4.sysctl_tcp_syn_retries";
    sysctl_syn_linear_timeouts: 1 optional "net.ipv4.sysctl_tcp_syn_linear_timeouts";
    skb_cb: 1 optional "sk_buff.cb";
    tcp_flags: 1 optional "tcp_skb_cb.tcp_flags";
    skb_seq: 4 optional "tcp_skb_cb.seq";
    request_num_timeout: 1 bits "request_sock.num_timeout";
    request_timeout: 4 optional "request_sock.timeout";
    request_timer: 8 optional "request_sock.rsk_timer";
    time_wait_state: 1 optional "inet_timewait_sock.tw_substate";
    time_wait_timer: 8 optional "inet_timewait_sock.tw_timer";
    task_tgid: 4 optional "task_struct.tgid";
    task_flags: 4 optional "task_struct.flags";
    task_comm: 16 optional "task_struct.comm";
    task_group_leader: 8 optional "task_struct.group_leader";
    task_start_boottime: 8 optional "task_struct.start_boottime";
    task_cgroups: 8 optional "task_struct.cgroups";
    css_set_cgroup: 8 optional "css_set.dfl_cgrp";
    cgroup_node: 8 optional "cgroup.kn";
    kernfs_id: 8 optional "kernfs_node.id";
    task_files: 8 optional "task_struct.files";
    files_table: 8 optional "files_struct.fdt";
    fdtable_size: 4 optional "fdtable.max_fds";
    fdtable_files: 8 optional "fdtable.fd";
    file_private: 8 optional "file.private_data";
    inode_mode: 2 optional "inode.i_mode";
    regs_first_argument: 8 optional "pt_regs.di" | "pt_regs.orig_x0";
    regs_code_segment: 2 optional "pt_regs.cs";
    regs_number_x86: 4 optional "pt_regs.orig_ax";
    regs_number_arm: 4 optional "pt_regs.syscallno";
}
