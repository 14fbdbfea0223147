//! What happens to connections, with every word of the wire filled.

use std::net::Ipv6Addr;

use zsock_common::wire::{condition, watch_flag};

use super::super::*;

/// Fills every word that the kernel side reads from a field with something that is not its default. `has_own`: the socket has
/// settings of its own, and needs not those of its namespace.
fn fill(record: &mut SocketRecord, has_own: bool) {
    let ends = &mut record.endpoints;
    ends.family = 10;
    ends.local = "2001:db8::1".parse::<Ipv6Addr>().expect("an address").octets();
    ends.remote = "2001:db8::9".parse::<Ipv6Addr>().expect("an address").octets();
    (ends.netns, ends.uid) = (4_026_531_840, 33);
    let own = u32::from(has_own);
    let tcp = &mut record.tcp;
    (tcp.bytes_sent, tcp.bytes_retrans, tcp.bytes_received) = (9_000, 700, 800);
    (tcp.snd_una, tcp.snd_nxt, tcp.write_seq) = (5_000, 5_400, 6_000);
    (tcp.rcv_nxt, tcp.copied_seq) = (900, 800);
    (tcp.snd_cwnd, tcp.srtt_us, tcp.icsk_rto, tcp.icsk_rto_max) = (10, 4_000, 400, 60_000);
    (tcp.lsndtime, tcp.rcv_tstamp, tcp.lrcvtime) = (jiffies(700), jiffies(600), jiffies(500));
    (tcp.total_retrans, tcp.total_rto, tcp.inode) = (7, 3, 99_120);
    tcp.write_timer = record.head.jiffies.wrapping_add(300);
    tcp.keepalive_timer = record.head.jiffies.wrapping_add(900);
    (tcp.write_timer_flags, tcp.keepalive_timer_flags) = (1 << 22, 1 << 22);
    (tcp.keepalive_time, tcp.keepalive_intvl) = (own * 10_000, own * 1_500);
    tcp.keepalive_probes = 5 * u8::from(has_own);
    tcp.syn_retries = 3 * u8::from(has_own);
    (tcp.sysctl_keepalive_time, tcp.sysctl_keepalive_intvl, tcp.sysctl_keepalive_probes) = (20_000, 2_500, 9);
    (tcp.sysctl_retries2, tcp.sysctl_orphan_retries, tcp.sysctl_syn_retries) = (6, 2, 4);
    tcp.sysctl_syn_linear_timeouts = 4;
    tcp.sk_flags = sk_flag::KEEPOPEN;
}

/// What happens to the connections of one kernel; `usec_ts` as that kernel has it.
#[expect(clippy::too_many_lines, reason = "one event after the other, and nothing else")]
pub(super) fn story(has_own: bool, has_user_timeout: bool, usec_ts: u8) -> Vec<Raw> {
    let event = |ms: u32, kind, set: &dyn Fn(&mut SocketRecord)| {
        happens(ms, kind, |record| {
            fill(record, has_own);
            record.tcp.user_timeout = 90_000 * u32::from(has_user_timeout);
            record.tcp.usec_ts = usec_ts;
            set(record);
            if record.tcp.retrans_stamp != 0 && usec_ts == 1 {
                record.tcp.retrans_stamp = record.tcp.retrans_stamp.wrapping_mul(1_000);
            }
        })
    };
    let change = |ms, from: State, to: State, set: &dyn Fn(&mut SocketRecord)| {
        event(ms, Kind::State, &|record| {
            record.tcp.state = from.0;
            (record.detail, record.detail2) = (from.0.into(), to.0.into());
            set(record);
        })
    };
    let timed_out = |record: &mut SocketRecord, times: u8| {
        let tcp = &mut record.tcp;
        (tcp.retransmits, tcp.backoff, tcp.ca_state) = (times, times - 1, 4);
        (tcp.retrans_stamp, tcp.sent_before) = (jiffies(800), jiffies(700));
        (record.detail, record.detail2) = (0x11, tcp.snd_una);
    };
    let closed_window = |record: &mut SocketRecord, probes: u8| {
        let tcp = &mut record.tcp;
        (tcp.snd_una, tcp.snd_nxt, tcp.snd_wnd) = (5_400, 5_400, 0);
        (tcp.pending, tcp.backoff, tcp.probes_out, tcp.probes_tstamp) = (3, probes, probes, jiffies(3_000));
        record.detail = u32::from(probes) - 1;
    };
    let idle = |record: &mut SocketRecord, probes: u8| {
        let tcp = &mut record.tcp;
        (tcp.snd_una, tcp.snd_nxt, tcp.write_seq, tcp.probes_out) = (6_000, 6_000, 6_000, probes);
        record.detail = u32::from(probes) - 1;
    };
    let as_look = |raw: Raw, set: &dyn Fn(&mut LookRecord)| {
        let Raw::Socket(_, event) = raw else { panic!("an event") };
        let Raw::Look(mut look) = zeroes(Kind::Look, size_of::<LookRecord>()) else { panic!("a look") };
        look.event = *event;
        look.event.head.kind = Kind::Look as u16;
        look.watch.active = jiffies(600);
        look.watch.passed = jiffies(2_000);
        set(&mut look);
        Raw::Look(look)
    };
    let look = |ms, set: &dyn Fn(&mut LookRecord)| as_look(event(ms, Kind::Error, &|_| ()), set);
    let Raw::SynAck(mut syn_ack) = zeroes(Kind::SynAckRetransmit, size_of::<SynAckRecord>()) else {
        panic!("no SYN-ACK")
    };
    (syn_ack.head.time_ns, syn_ack.head.cookie) = (u64::from(START_MS + 9_500) * MS, 3);
    (syn_ack.num_timeout, syn_ack.timeout) = (2, 1_000);
    (syn_ack.endpoints.family, syn_ack.endpoints.local_port, syn_ack.endpoints.remote_port) =
        (10, 443, 40_001);
    (syn_ack.endpoints.local, syn_ack.endpoints.remote, syn_ack.endpoints.netns) =
        ([1; 16], [2; 16], 4_026_531_840);
    vec![
        change(0, State::CLOSE, State::SYN_SENT, &|record| record.actor = NGINX),
        event(900, Kind::Retransmit, &|record| {
            timed_out(record, 1);
            record.tcp.state = State::SYN_SENT.0;
            record.tcp.retrans_stamp = jiffies(1);
        }),
        change(950, State::SYN_SENT, State::ESTABLISHED, &|_| ()),
        event(1_000, Kind::Retransmit, &|record| timed_out(record, 1)),
        event(1_400, Kind::Retransmit, &|record| timed_out(record, 2)),
        event(1_420, Kind::Retransmit, &|record| {
            timed_out(record, 2);
            (record.tcp.pending, record.tcp.rcv_tstamp) = (1, jiffies(1_419));
        }),
        event(1_440, Kind::Retransmit, &|record| {
            timed_out(record, 2);
            record.tcp.pending = 1;
        }),
        event(1_500, Kind::RetransmitFailed, &|record| timed_out(record, 3)),
        event(1_600, Kind::Retransmit, &|record| {
            (record.tcp.pending, record.tcp.ca_state, record.detail2) = (1, 3, record.tcp.snd_una);
            record.tcp.rcv_tstamp = jiffies(1_599);
        }),
        event(1_700, Kind::Retransmit, &|record| {
            (record.tcp.pending, record.tcp.ca_state, record.detail2) = (1, 4, record.tcp.snd_una);
            record.tcp.rcv_tstamp = jiffies(1_699);
        }),
        event(1_800, Kind::Retransmit, &|record| {
            (record.tcp.pending, record.detail2) = (5, record.tcp.snd_una);
        }),
        event(1_900, Kind::Recovered, &|record| {
            (record.tcp.snd_una, record.tcp.rcv_tstamp) = (5_400, jiffies(1_900));
        }),
        event(3_000, Kind::WindowProbe, &|record| closed_window(record, 1)),
        event(3_800, Kind::WindowProbe, &|record| closed_window(record, 2)),
        event(4_600, Kind::WindowProbe, &|record| {
            closed_window(record, 1);
            (record.tcp.snd_una, record.tcp.snd_nxt) = (5_500, 5_500);
        }),
        event(5_000, Kind::Keepalive, &|record| idle(record, 1)),
        event(5_500, Kind::Keepalive, &|record| idle(record, 2)),
        event(5_600, Kind::KeepaliveAnswered, &|record| idle(record, 1)),
        look(6_000, &|look| {
            look.event.detail = condition::UNREAD | condition::SILENCE | condition::IDLE;
            (look.event.tcp.snd_una, look.event.tcp.snd_nxt) = (6_000, 6_000);
            (look.watch.flags, look.watch.answered, look.watch.usual) = (watch_flag::WAITING, 5, 96);
            look.watch.unread_since = jiffies(900);
        }),
        look(6_500, &|look| {
            closed_window(&mut look.event, 2);
            look.event.detail = condition::WINDOW;
        }),
        event(6_600, Kind::Error, &|record| record.detail = 111),
        event(6_700, Kind::ResetSent, &|record| (record.detail, record.detail2) = (3, 1)),
        change(7_000, State::ESTABLISHED, State::CLOSE_WAIT, &|_| ()),
        look(8_000, &|look| {
            look.event.detail = condition::CLOSE_WAIT;
            look.event.tcp.state = State::CLOSE_WAIT.0;
            look.watch.quiet_since = jiffies(7_000);
        }),
        change(8_100, State::CLOSE_WAIT, State::LAST_ACK, &|record| record.actor = CHILD),
        event(8_500, Kind::Retransmit, &|record| {
            timed_out(record, 1);
            (record.tcp.state, record.tcp.sk_flags, record.tcp.has_socket) =
                (State::LAST_ACK.0, sk_flag::DEAD, 0);
            record.tcp.sk_err_soft = 113;
        }),
        change(9_000, State::LAST_ACK, State::CLOSE, &|record| {
            (record.tcp.sk_flags, record.tcp.has_socket) = (sk_flag::DEAD, 0);
        }),
        Raw::SynAck(syn_ack),
    ]
}

/// A listener, and a connection that is older than zsock.
pub(super) fn other_stories(usec_ts: u8) -> Vec<Vec<Raw>> {
    let listener = finds(5_000, |look| {
        fill(&mut look.event, true);
        look.event.detail = condition::QUEUE;
        look.event.tcp.state = State::LISTEN.0;
        (look.queue, look.backlog, look.oldest, look.watch.passed) = (3, 2, jiffies(4_000), jiffies(4_500));
    });
    let failed = happens(5_100, Kind::AcceptFailed, |record| {
        fill(record, true);
        (record.tcp.state, record.detail, record.detail2, record.actor) = (State::LISTEN.0, 24, 1, CHILD);
    });
    let older = finds(9_000, |look| {
        fill(&mut look.event, true);
        let tcp = &mut look.event.tcp;
        (tcp.retransmits, tcp.backoff, tcp.ca_state, tcp.pending, tcp.usec_ts) = (3, 2, 4, 1, usec_ts);
        tcp.retrans_stamp = if usec_ts == 1 { jiffies(6_600).wrapping_mul(1_000) } else { jiffies(6_600) };
    });
    let refused = turns(700, State::ESTABLISHED, State::CLOSE, |record| {
        fill(record, true);
        record.actor = NGINX;
    });
    vec![
        vec![listener, failed],
        vec![older],
        vec![past(&[(0, State::CLOSE, State::SYN_SENT)]), holds(CHILD), refused],
    ]
}
