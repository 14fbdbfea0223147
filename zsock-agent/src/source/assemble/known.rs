//! What can be said on a kernel that lacks some of the fields: nothing that needs one of them.
//!
//! To the kernel side a field that is missing reads as 0, which is a value like any other. So that it is never taken for one,
//! what is told asks here first, and what people are told of it comes from the same table.

use std::fmt;

use zsock_common::offsets::{ABSENT, Offsets};

/// Something that records tell, and the fields it needs.
#[derive(Clone, Copy, Debug)]
pub struct Fact {
    /// What it is called here.
    pub name: &'static str,
    /// Names of the fields, those included that can stand in for one another.
    pub fields: &'static [&'static str],
    /// What is not told without them.
    pub loss: &'static str,
    is_known: fn(&Known) -> bool,
}

macro_rules! facts {
    ($($fact:ident: [$($need:tt)+] $loss:literal;)+) => {
        /// Which facts this kernel's fields suffice for.
        #[derive(Clone, Copy, Debug)]
        pub struct Known { $(pub(crate) $fact: bool),+ }

        impl Known {
            /// What can be told with these fields.
            #[must_use]
            pub fn of(offsets: &Offsets) -> Self {
                Self { $($fact: $(facts!(@has offsets $need))&&+),+ }
            }
        }

        /// Every fact that takes a field which a kernel may lack.
        pub const FACTS: &[Fact] = &[$(Fact {
            name: stringify!($fact),
            fields: &[$(facts!(@name $need)),+],
            loss: $loss,
            is_known: |known| known.$fact,
        }),+];
    };
    (@has $offsets:ident $field:ident) => { ($offsets.$field != ABSENT) };
    // Kernels without the other field are older than this one, and need it no more than the other.
    (@has $offsets:ident ($field:ident if $other:ident)) => {
        ($offsets.$field != ABSENT || $offsets.$other == ABSENT)
    };
    (@has $offsets:ident ($field:ident unless $other:ident)) => {
        ($offsets.$field != ABSENT || $offsets.$other != ABSENT)
    };
    (@name $field:ident) => { stringify!($field) };
    (@name ($field:ident $relation:ident $other:ident)) => { stringify!($field) };
}

facts! {
    ipv6_ends: [skc_v6_daddr skc_v6_rcv_saddr] "the addresses of IPv6 connections, and selecting by them";
    late_port: [inet_sport] "the own port of a connection that is first heard of at its end";
    netns: [netns_inode] "netns, and selecting by it";
    uid: [sk_uid] "uid";
    inode: [(socket_file unless sk_ino) (file_inode unless sk_ino) (inode_number unless sk_ino) (sk_ino unless inode_number)]
        "inode, and with it zombie_fds of processes";
    owner: [task_tgid task_flags task_group_leader task_comm task_start_boottime] "owners of sockets (pid, comm)";
    holders: [socket_sk] "owners of sockets that are older than zsock, or that were passed on";
    cgroup_by_id: [task_cgroups css_set_cgroup cgroup_node kernfs_id] "cgroup of processes that are gone";
    sequence: [snd_una snd_nxt write_seq] "unacked_bytes and unsent_bytes";
    unread: [rcv_nxt copied_seq] "unread_bytes";
    unread_since: [rcv_nxt copied_seq bytes_received icsk_lrcvtime sk_rcvlowat sk_receive_queue_length] "receiver_stall";
    half_closed: [snd_una write_seq rcv_nxt copied_seq bytes_received] "close_wait_leak";
    sent: [bytes_sent bytes_retrans snd_wnd icsk_retransmits icsk_pending icsk_probes_out] "bytes_sent of connections that end";
    received: [bytes_received] "bytes_received of connections that end";
    last_sent: [bytes_sent lsndtime] "last_sent_ms";
    last_received: [rcv_tstamp icsk_lrcvtime] "last_received_ms: the last sign of life";
    last_data_received: [bytes_received icsk_lrcvtime] "last_data_received_ms";
    idle: [lsndtime rcv_tstamp icsk_lrcvtime] "unguarded_idle, stale_reset of connections older than zsock";
    survivals: [lsndtime rcv_tstamp icsk_lrcvtime snd_una write_seq data_segs_out data_segs_in skc_v6_daddr sk_max_ack_backlog]
        "survived_ms of idle_timeout_inferred";
    requests: [lsndtime rcv_tstamp icsk_lrcvtime snd_una write_seq snd_wl1 rcv_nxt bytes_sent data_segs_out data_segs_in sk_max_ack_backlog]
        "app_silence";
    accept_queue: [sk_ack_backlog sk_max_ack_backlog] "accept_queue_full";
    oldest_in_queue: [accept_queue_head request_sk] "oldest_ms of accept_queue_full";
    rto: [icsk_rto] "rto_ms";
    srtt: [srtt_us] "srtt_us";
    window: [snd_wnd] "send_window_bytes";
    cwnd: [snd_cwnd] "cwnd";
    retransmits: [icsk_retransmits] "time-outs in a row: connect_blackhole, stuck_retransmission, orphan_stuck, progress";
    backoff: [icsk_backoff] "backoff";
    total_retransmits: [total_retrans] "total_retransmits";
    probes: [icsk_probes_out] "keepalive probes: keepalive_unanswered";
    window_probe: [icsk_probes_out icsk_pending snd_wnd snd_una] "zero window probes: zero_window_stall";
    keepalive: [keepalive_time keepalive_intvl keepalive_probes sysctl_keepalive_time sysctl_keepalive_intvl sysctl_keepalive_probes]
        "keepalive settings: unguarded_idle";
    user_timeout: [icsk_user_timeout] "user_timeout_ms";
    fin: [skb_cb tcp_flags] "fin of retransmissions";
    cause: [icsk_ca_state icsk_pending icsk_retransmits snd_wnd rcv_tstamp icsk_lrcvtime] "cause and attempt of retransmissions";
    recovered: [icsk_ca_state] "recoveries before the next pass";
    first_retransmission: [retrans_stamp (usec_ts if total_rto)] "since when connections retransmit that are older than zsock";
    stalled: [lsndtime rcv_tstamp icsk_lrcvtime icsk_rto icsk_backoff icsk_retransmits icsk_pending snd_una snd_nxt write_seq snd_wnd icsk_probes_tstamp retrans_stamp (usec_ts if total_rto)]
        "stalled_ms";
    window_probes: [snd_wnd snd_una icsk_probes_tstamp icsk_pending icsk_rto icsk_backoff]
        "how often a closed window was probed before zsock came";
    forecast: [icsk_rto icsk_retransmits icsk_pending icsk_backoff icsk_probes_out icsk_probes_tstamp icsk_user_timeout icsk_syn_retries
        icsk_ca_state icsk_lrcvtime rcv_tstamp retrans_stamp (usec_ts if total_rto) sk_err_soft snd_una snd_nxt write_seq snd_wnd skb_cb skb_seq
        write_timer keepalive_timer timer_expires timer_flags (icsk_rto_max unless icsk_timeout)
        keepalive_time keepalive_intvl keepalive_probes sysctl_keepalive_time sysctl_keepalive_intvl sysctl_keepalive_probes
        sysctl_retries2 sysctl_orphan_retries sysctl_syn_retries (sysctl_syn_linear_timeouts if total_rto)]
        "next_ms and gives_up_in_ms: when the kernel tries again and when it gives up";
    syn_ack_attempt: [request_num_timeout] "attempt and next_ms of SYN-ACKs";
    syn_ack_next: [request_timeout] "next_ms of SYN-ACKs";
    timers: [timer_function write_timer keepalive_timer]
        "keepalive and window probes where only the tracepoints of timers can be attached to";
    accept_failed: [task_files files_table fdtable_size fdtable_files file_private file_inode inode_mode socket_sk]
        "accept_failed records: fd_pressure is found by counting alone";
}

/// Something that is not told, and the missing fields that it would need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The fact's name here.
    pub name: &'static str,
    /// Names of the fields.
    pub fields: Vec<&'static str>,
    /// What is not told.
    pub of: &'static str,
}

impl fmt::Display for Loss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "this kernel's types lack {}; without it no {}", self.fields.join(", "), self.of)
    }
}

/// What is not told for want of `missing` fields; nothing where all is there that the kernel's own age allows.
#[must_use]
pub fn losses(offsets: &Offsets, missing: &[&'static str]) -> Vec<Loss> {
    let known = Known::of(offsets);
    let lost = FACTS.iter().filter(|fact| !(fact.is_known)(&known));
    let wanting = |fact: &Fact| fact.fields.iter().filter(|field| missing.contains(field)).copied().collect();
    lost.map(|fact| Loss { name: fact.name, fields: wanting(fact), of: fact.loss }).collect()
}
