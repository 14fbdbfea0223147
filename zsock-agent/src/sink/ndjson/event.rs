//! Events, which are nearly all that is written: the very bytes that the way for every record gives, several times as fast.

use std::sync::Arc;

use super::again::{Again, Repeated};
use super::line::{Line, key};
use crate::record::{
    Closed, Event, Fact, Family, Keepalive, KeepaliveSettings, Record, Retransmit, Sample, Socket, Tcp, What,
    ZeroWindowProbe,
};

/// Appends a record, which carries this event, without its line end. Fields stand in the order of the types in [`crate::record`].
pub(super) fn append(record: &Record, event: &Event, repeated: &mut Repeated, lines: &mut Vec<u8>) {
    let Record { schema, at, host, body: _ } = record;
    let Event { what, socket, tcp, replayed, inferred } = event;
    Line::at_the_end_of(lines).object(|line| {
        line.number(key!("schema"), *schema);
        line.time(key!("ts"), *at);
        repeated.host.append(line, host, |line| line.text(key!("host"), host));
        line.word(key!("type"), what.name());
        append_what(what, line);
        append_socket(socket, repeated, line);
        line.key(key!("tcp"));
        line.object(|line| append_tcp(tcp, repeated, line));
        line.flag(key!("replayed"), *replayed);
        line.flag(key!("inferred"), *inferred);
    });
}

fn append_what(what: &What, line: &mut Line<'_>) {
    match what {
        What::State(change) => {
            line.state(key!("from"), change.from);
            line.state(key!("to"), change.to);
        }
        What::Closed(it) => append_closed(it, line),
        What::Retransmit(it) => append_retransmit(it, line),
        What::Keepalive(it) => {
            let Keepalive { probe, of, next_ms } = *it;
            line.number(key!("probe"), probe);
            line.known_number(key!("of"), of);
            line.known_number(key!("next_ms"), next_ms);
        }
        What::KeepaliveAnswered(it) => line.number(key!("after_probes"), it.after_probes),
        What::ZeroWindowProbe(it) => {
            let ZeroWindowProbe { probe, answered, next_ms } = *it;
            line.number(key!("probe"), probe);
            if let Some(answered) = answered {
                line.bool(key!("answered"), answered);
            }
            line.known_number(key!("next_ms"), next_ms);
        }
        What::Progress(it) => {
            line.known_number(key!("stalled_ms"), it.stalled_ms);
            line.number(key!("attempts"), it.attempts);
        }
        What::Error(it) => line.text(key!("errno"), it.errno.name()),
        What::ResetReceived(it) | What::ResetSent(it) => {
            line.known_text(key!("reason"), it.reason.as_deref());
        }
        What::AcceptFailed(it) => {
            line.text(key!("errno"), it.errno.name());
            line.number(key!("count"), it.count);
            if let Some(process) = &it.process {
                line.any(key!("process"), process);
            }
        }
        What::Sample(it) => append_sample(it, line),
    }
}

fn append_closed(closed: &Closed, line: &mut Line<'_>) {
    let Closed {
        from,
        errno,
        lifetime_ms,
        bytes_sent,
        bytes_received,
        peer_closed,
        reset,
        fd_open,
        fin_unacked,
    } = closed;
    line.state(key!("from"), *from);
    if let Some(errno) = errno {
        line.text(key!("errno"), errno.name());
    }
    line.known_number(key!("lifetime_ms"), *lifetime_ms);
    line.known_number(key!("bytes_sent"), *bytes_sent);
    line.known_number(key!("bytes_received"), *bytes_received);
    line.bool(key!("peer_closed"), *peer_closed);
    line.bool(key!("reset"), *reset);
    line.bool(key!("fd_open"), *fd_open);
    line.flag(key!("fin_unacked"), *fin_unacked);
}

fn append_retransmit(retransmit: &Retransmit, line: &mut Line<'_>) {
    let Retransmit { cause, fin, attempt, next_ms, failed, errno } = retransmit;
    if let Some(cause) = cause {
        line.word(key!("cause"), cause.name());
    }
    line.flag(key!("fin"), *fin);
    line.known_number(key!("attempt"), *attempt);
    line.known_number(key!("next_ms"), *next_ms);
    line.flag(key!("failed"), *failed);
    if let Some(errno) = errno {
        line.text(key!("errno"), errno.name());
    }
}

fn append_sample(sample: &Sample, line: &mut Line<'_>) {
    let Sample { fact, idle_ms, unread_for_ms, half_closed_ms, request, window_probes, accept_queue } =
        sample;
    if let Some(fact) = fact {
        line.word(
            key!("fact"),
            match fact {
                Fact::LastReceived => "last_received",
                Fact::LastSent => "last_sent",
                Fact::RetransmittingSince => "retransmitting_since",
                Fact::ProbingSince => "probing_since",
            },
        );
    }
    line.known_number(key!("idle_ms"), *idle_ms);
    line.known_number(key!("unread_for_ms"), *unread_for_ms);
    line.known_number(key!("half_closed_ms"), *half_closed_ms);
    if let Some(request) = request {
        line.any(key!("request"), request);
    }
    line.known_number(key!("window_probes"), *window_probes);
    if let Some(accept_queue) = accept_queue {
        line.any(key!("accept_queue"), accept_queue);
    }
}

pub(super) fn append_socket(socket: &Arc<Socket>, repeated: &mut Repeated, line: &mut Line<'_>) {
    repeated.sockets.at(socket.id).append(line, socket, |line| {
        line.key(key!("socket"));
        line.object(|line| append_facts(socket, &mut repeated.netns, line));
    });
}

fn append_facts(socket: &Socket, same_netns: &mut Again<u32>, line: &mut Line<'_>) {
    let Socket {
        id,
        family,
        local,
        remote,
        v4mapped,
        netns,
        pid,
        comm,
        comm_hex,
        uid,
        inode,
        cgroup,
        container,
        orphan,
        owner_exited,
        listener,
    } = socket;
    line.socket_id(key!("id"), *id);
    line.word(
        key!("family"),
        match family {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        },
    );
    line.address(key!("local"), *local);
    line.address(key!("remote"), *remote);
    line.flag(key!("v4mapped"), *v4mapped);
    if let Some(netns) = netns {
        same_netns.append(line, netns, |line| line.number(key!("netns"), *netns));
    }
    line.known_number(key!("pid"), *pid);
    line.known_text(key!("comm"), comm.as_deref());
    line.known_text(key!("comm_hex"), comm_hex.as_deref());
    line.known_number(key!("uid"), *uid);
    line.known_number(key!("inode"), *inode);
    line.known_text(key!("cgroup"), cgroup.as_deref());
    line.known_text(key!("container"), container.as_deref());
    line.flag(key!("orphan"), *orphan);
    if let Some(exited) = owner_exited {
        line.bool(key!("owner_exited"), *exited);
    }
    if let Some(listener) = listener {
        line.socket_id(key!("listener"), *listener);
    }
}

pub(super) fn append_tcp(tcp: &Tcp, repeated: &mut Repeated, line: &mut Line<'_>) {
    let Tcp {
        state,
        rto_ms,
        srtt_us,
        retransmits,
        backoff,
        total_retransmits,
        probes_out,
        unacked_bytes,
        unsent_bytes,
        unread_bytes,
        send_window_bytes,
        cwnd,
        last_sent_ms,
        last_received_ms,
        last_data_received_ms,
        keepalive,
        user_timeout_ms,
        gives_up_in_ms,
        stalled_ms,
    } = *tcp;
    if let Some(state) = state {
        line.state(key!("state"), state);
    }
    line.known_number(key!("rto_ms"), rto_ms);
    line.known_number(key!("srtt_us"), srtt_us);
    let troubles =
        ([retransmits, backoff, total_retransmits, probes_out], [unacked_bytes, unsent_bytes, unread_bytes]);
    repeated.troubles.append(line, &troubles, |line| {
        line.known_number(key!("retransmits"), retransmits);
        line.known_number(key!("backoff"), backoff);
        line.known_number(key!("total_retransmits"), total_retransmits);
        line.known_number(key!("probes_out"), probes_out);
        line.known_number(key!("unacked_bytes"), unacked_bytes);
        line.known_number(key!("unsent_bytes"), unsent_bytes);
        line.known_number(key!("unread_bytes"), unread_bytes);
    });
    line.known_number(key!("send_window_bytes"), send_window_bytes);
    line.known_number(key!("cwnd"), cwnd);
    line.known_number(key!("last_sent_ms"), last_sent_ms);
    line.known_number(key!("last_received_ms"), last_received_ms);
    line.known_number(key!("last_data_received_ms"), last_data_received_ms);
    if let Some(settings) = keepalive {
        repeated.keepalive.append(line, &settings, |line| append_keepalive(settings, line));
    }
    line.known_number(key!("user_timeout_ms"), user_timeout_ms);
    line.known_number(key!("gives_up_in_ms"), gives_up_in_ms);
    line.known_number(key!("stalled_ms"), stalled_ms);
}

fn append_keepalive(settings: KeepaliveSettings, line: &mut Line<'_>) {
    let KeepaliveSettings { enabled, idle_ms, interval_ms, probes } = settings;
    line.key(key!("keepalive"));
    line.object(|line| {
        line.bool(key!("enabled"), enabled);
        line.number(key!("idle_ms"), idle_ms);
        line.number(key!("interval_ms"), interval_ms);
        line.number(key!("probes"), probes);
    });
}
