//! What the kernel side makes of a field that the kernel lacks.

use super::super::*;
use crate::source::assemble::known;

/// What the kernel side writes in the place of a field that the kernel lacks.
pub(super) fn without(field: &str, mut raw: Raw) -> Raw {
    match &mut raw {
        Raw::Socket(kind, record) => {
            blank(field, *kind, record);
            blank_process(field, &mut record.actor);
        }
        Raw::Look(look) => {
            blank(field, Kind::Look, &mut look.event);
            mislead(field, look);
        }
        Raw::SynAck(record) => match field {
            "request_num_timeout" => record.num_timeout = 0,
            "request_timeout" => record.timeout = 0,
            "skc_v6_daddr" => record.endpoints.remote = [0; 16],
            "skc_v6_rcv_saddr" => record.endpoints.local = [0; 16],
            "netns_inode" => record.endpoints.netns = 0,
            _ => {}
        },
        Raw::Past(record) => {
            blank_process(field, &mut record.past.opener);
            blank_process(field, &mut record.past.closer);
        }
        Raw::Holder(record) => blank_process(field, &mut record.holder),
        Raw::Destroyed(_) | Raw::Clock(_) => {}
    }
    raw
}

fn blank(field: &str, kind: Kind, record: &mut SocketRecord) {
    let (ends, tcp) = (&mut record.endpoints, &mut record.tcp);
    let is_end = kind == Kind::State && record.detail2 == u32::from(State::CLOSE.0);
    let is_segment = kind == Kind::Retransmit;
    macro_rules! blank {
        ($($name:literal => $($place:expr),+;)+) => {
            match field {
                $($name => { $($place = Default::default();)+ })+
                "inet_sport" if is_end => ends.local_port = 0,
                "skb_cb" if is_segment => (record.detail, record.detail2) = (record.detail & !0xff, 0),
                "tcp_flags" if is_segment => record.detail &= !0xff,
                "skb_seq" if is_segment => record.detail2 = 0,
                _ => {}
            }
        };
    }
    blank! {
        "skc_v6_daddr" => ends.remote;
        "skc_v6_rcv_saddr" => ends.local;
        "netns_inode" => ends.netns;
        "sk_uid" => ends.uid;
        "sk_err_soft" => tcp.sk_err_soft;
        "icsk_rto" => tcp.icsk_rto;
        "icsk_rto_max" => tcp.icsk_rto_max;
        "icsk_ca_state" => tcp.ca_state;
        "icsk_retransmits" => tcp.retransmits;
        "icsk_pending" => tcp.pending;
        "icsk_backoff" => tcp.backoff;
        "icsk_syn_retries" => tcp.syn_retries;
        "icsk_probes_out" => tcp.probes_out;
        "icsk_probes_tstamp" => tcp.probes_tstamp;
        "icsk_user_timeout" => tcp.user_timeout;
        "icsk_lrcvtime" => tcp.lrcvtime;
        "write_timer" => tcp.write_timer, tcp.write_timer_flags;
        "keepalive_timer" => tcp.keepalive_timer, tcp.keepalive_timer_flags;
        "timer_expires" => tcp.write_timer, tcp.keepalive_timer;
        "timer_flags" => tcp.write_timer_flags, tcp.keepalive_timer_flags;
        "snd_una" => tcp.snd_una;
        "snd_nxt" => tcp.snd_nxt;
        "write_seq" => tcp.write_seq;
        "rcv_nxt" => tcp.rcv_nxt;
        "copied_seq" => tcp.copied_seq;
        "snd_wnd" => tcp.snd_wnd;
        "snd_cwnd" => tcp.snd_cwnd;
        "srtt_us" => tcp.srtt_us;
        "total_retrans" => tcp.total_retrans;
        "total_rto" => tcp.total_rto;
        "retrans_stamp" => tcp.retrans_stamp;
        "usec_ts" => tcp.usec_ts;
        "lsndtime" => tcp.lsndtime, tcp.sent_before;
        "rcv_tstamp" => tcp.rcv_tstamp;
        "bytes_sent" => tcp.bytes_sent;
        "bytes_retrans" => tcp.bytes_retrans;
        "bytes_received" => tcp.bytes_received;
        "keepalive_time" => tcp.keepalive_time;
        "keepalive_intvl" => tcp.keepalive_intvl;
        "keepalive_probes" => tcp.keepalive_probes;
        "sysctl_keepalive_time" => tcp.sysctl_keepalive_time;
        "sysctl_keepalive_intvl" => tcp.sysctl_keepalive_intvl;
        "sysctl_keepalive_probes" => tcp.sysctl_keepalive_probes;
        "sysctl_retries2" => tcp.sysctl_retries2;
        "sysctl_orphan_retries" => tcp.sysctl_orphan_retries;
        "sysctl_syn_retries" => tcp.sysctl_syn_retries;
        "sysctl_syn_linear_timeouts" => tcp.sysctl_syn_linear_timeouts;
    }
}

fn blank_process(field: &str, process: &mut Process) {
    match field {
        "task_tgid" => process.tgid = 0,
        "task_comm" => process.comm = [0; 16],
        "task_start_boottime" => process.start_ns = 0,
        "task_group_leader" => (process.comm, process.start_ns) = ([0; 16], 0),
        "task_cgroups" | "css_set_cgroup" | "cgroup_node" | "kernfs_id" => process.cgroup = 0,
        _ => {}
    }
}

/// What the pass made of a field that reads as 0: numbers that look right.
fn mislead(field: &str, look: &mut LookRecord) {
    let watch = &mut look.watch;
    match field {
        "sk_ack_backlog" => look.queue = 0,
        "sk_max_ack_backlog" => look.backlog = 0,
        "accept_queue_head" | "request_sk" => look.oldest = 0,
        _ => {}
    }
    if ["lsndtime", "rcv_tstamp", "icsk_lrcvtime"].contains(&field) {
        watch.active = watch.active.wrapping_sub(100);
    }
    let is_of =
        |loss: &str| known::FACTS.iter().any(|fact| fact.loss == loss && fact.fields.contains(&field));
    if is_of("receiver_stall") && watch.unread_since != 0 {
        watch.unread_since -= 200;
    }
    if is_of("close_wait_leak") && watch.quiet_since != 0 {
        watch.quiet_since -= 300;
    }
    if is_of("app_silence") && watch.usual != 0 {
        (watch.usual, watch.answered) = (watch.usual / 2, watch.answered + 2);
    }
}
