//! Raw records in, records out.

use std::net::Ipv4Addr;

use zsock_common::wire::{
    self, HolderRecord, LookRecord, PastRecord, Process, SocketRecord, SynAckRecord, Transition, sk_flag,
};

use super::*;
use crate::properties::assembler;
use crate::record::{Closed, Errno};
use crate::source::decode::Raw;

mod absent;
mod lives;
mod looks;

const MS: u64 = 1_000_000;

/// At the fixed clock's start a socket of the story was there for an hour.
const START_MS: u32 = 3_600_000;

/// No process has this id.
const NGINX: Process = named(u32::MAX, "nginx");
const CHILD: Process = named(u32::MAX - 1, "nginx-child");

/// A record of zeroes.
fn zeroes(kind: Kind, size_bytes: usize) -> Raw {
    let mut bytes = vec![0; size_bytes];
    bytes[16..18].copy_from_slice(&(kind as u16).to_ne_bytes());
    Raw::decode(&bytes).expect("a record of its kind's size")
}

/// What happens to an established connection to 10.0.0.9:5432 at `ms`, with the facts that `set` sets.
fn happens(ms: u32, kind: Kind, set: impl FnOnce(&mut SocketRecord)) -> Raw {
    if kind == Kind::Look {
        return finds(ms, |look| set(&mut look.event));
    }
    let Raw::Socket(kind, mut record) = zeroes(kind, size_of::<SocketRecord>()) else {
        panic!("{kind:?} is no event of a socket")
    };
    stands(ms, &mut record);
    set(&mut record);
    Raw::Socket(kind, record)
}

/// The socket with this cookie is gone at `ms`.
fn goes(ms: u32, cookie: u64) -> Raw {
    let Raw::Destroyed(mut head) = zeroes(Kind::Destroyed, size_of::<Head>()) else {
        panic!("another record")
    };
    (head.cookie, head.time_ns) = (cookie, u64::from(START_MS + ms) * MS);
    Raw::Destroyed(head)
}

/// What a look at that connection finds at `ms`.
fn finds(ms: u32, set: impl FnOnce(&mut LookRecord)) -> Raw {
    let Raw::Look(mut look) = zeroes(Kind::Look, size_of::<LookRecord>()) else { panic!("no look") };
    stands(ms, &mut look.event);
    set(&mut look);
    Raw::Look(look)
}

fn stands(ms: u32, record: &mut SocketRecord) {
    record.head.time_ns = u64::from(START_MS + ms) * MS;
    record.head.jiffies = START_MS + ms;
    record.head.cookie = 7;
    record.endpoints.local = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets();
    record.endpoints.remote = Ipv4Addr::new(10, 0, 0, 9).to_ipv6_mapped().octets();
    (record.endpoints.local_port, record.endpoints.remote_port) = (40_000, 5432);
    record.tcp.state = State::ESTABLISHED.0;
    record.tcp.has_socket = 1;
    record.tcp.snd_wnd = 65_536;
    record.tcp.icsk_rto = 200;
    record.tcp.lsndtime = START_MS;
}

/// The kernel's own stamp of `ms`.
fn jiffies(ms: u32) -> u32 {
    START_MS + ms
}

fn turns(ms: u32, from: State, to: State, set: impl FnOnce(&mut SocketRecord)) -> Raw {
    happens(ms, Kind::State, |record| {
        record.tcp.state = from.0;
        (record.detail, record.detail2) = (from.0.into(), to.0.into());
        set(record);
    })
}

/// 24 bytes sent again by the timer for the `attempt`th time.
fn times_out(ms: u32, attempt: u8) -> Raw {
    happens(ms, Kind::Retransmit, |record| {
        let tcp = &mut record.tcp;
        (tcp.snd_una, tcp.snd_nxt, tcp.write_seq) = (100, 124, 124);
        (tcp.retransmits, tcp.backoff, tcp.ca_state) = (attempt, attempt - 1, 4);
        tcp.icsk_rto = 200 << (attempt - 1);
        record.detail2 = 100;
    })
}

const fn named(tgid: u32, name: &str) -> Process {
    let mut comm = [0; 16];
    let mut at = 0;
    while at < name.len() {
        comm[at] = name.as_bytes()[at];
        at += 1;
    }
    Process { tgid, start_ns: tgid as u64, comm, ..Process::NONE }
}

fn past(transitions: &[(u32, State, State)]) -> Raw {
    let Raw::Past(mut past) = zeroes(Kind::Past, size_of::<PastRecord>()) else {
        panic!("a past was asked for")
    };
    past.head.cookie = 7;
    let ns = |ms: u32| u64::from(START_MS + ms) * MS;
    past.past.birth_ns = ns(transitions[0].0);
    past.past.opener = NGINX;
    for (slot, (ms, from, to)) in past.past.transitions.iter_mut().zip(transitions) {
        *slot = Transition { time_ns: ns(*ms), from: from.0, to: to.0, ..Transition::EMPTY };
        past.past.count += 1;
    }
    Raw::Past(past)
}

fn holds(holder: Process) -> Raw {
    let Raw::Holder(mut record) = zeroes(Kind::Holder, size_of::<HolderRecord>()) else {
        panic!("a holder was asked for")
    };
    (record.head.cookie, record.holder, record.inode) = (7, holder, 99_120);
    Raw::Holder(record)
}

fn assembled(assembler: &mut Assembler, raw: &Raw) -> Vec<Record> {
    let mut told = Vec::new();
    assembler.assemble(raw, &mut told);
    told
}

fn events(assembler: &mut Assembler, raw: &Raw) -> Vec<(u64, Event)> {
    assembler.learn(raw);
    let since_start = |record: &Record| (record.at.as_unix_ns() / MS) - u64::from(START_MS);
    assembled(assembler, raw)
        .iter()
        .filter_map(|record| Some((since_start(record), record.event()?.clone())))
        .collect()
}

/// What is told of each raw record: milliseconds, how it is known, and what happened, as JSON.
fn told(assembler: &mut Assembler, raws: &[Raw]) -> Vec<String> {
    let line = |(ms, event): (u64, Event)| {
        let mark = if event.replayed {
            "replayed "
        } else if event.inferred {
            "inferred "
        } else {
            ""
        };
        format!("{ms} {mark}{}", serde_json::to_string(&event.what).expect("events are JSON"))
    };
    raws.iter().flat_map(|raw| events(assembler, raw)).map(line).collect()
}

fn last_event(assembler: &mut Assembler, raws: &[Raw]) -> Event {
    let all: Vec<_> = raws.iter().flat_map(|raw| events(assembler, raw)).collect();
    all.into_iter().next_back().expect("something was told").1
}

#[test]
fn the_first_sign_of_trouble_tells_the_past_once_with_its_own_times() {
    let mut assembler = assembler();
    let born = past(&[(0, State::CLOSE, State::SYN_SENT), (20, State::SYN_SENT, State::ESTABLISHED)]);
    let expected = [
        r#"0 replayed {"type":"state","from":"CLOSE","to":"SYN_SENT"}"#,
        r#"20 replayed {"type":"state","from":"SYN_SENT","to":"ESTABLISHED"}"#,
        // The kernel's timer wheel rounds up.
        r#"5000 {"type":"retransmit","cause":"rto","attempt":1,"next_ms":408}"#,
        r#"5400 {"type":"retransmit","cause":"rto","attempt":2,"next_ms":808}"#,
    ];
    assert_eq!(told(&mut assembler, &[born, times_out(5_000, 1), times_out(5_400, 2)]), expected);
}

#[test]
fn of_a_socket_older_than_zsock_what_the_kernel_still_knows_is_told_as_inferred() {
    let resending = happens(9_000, Kind::Look, |record| {
        let tcp = &mut record.tcp;
        (tcp.snd_una, tcp.snd_nxt, tcp.write_seq, tcp.retransmits) = (100, 124, 124, 3);
        tcp.rcv_tstamp = jiffies(1_000);
        (tcp.lsndtime, tcp.bytes_sent) = (jiffies(8_000), 24);
        tcp.retrans_stamp = jiffies(6_600);
    });
    let expected = [
        r#"1000 inferred {"type":"sample","fact":"last_received"}"#,
        r#"6600 inferred {"type":"sample","fact":"retransmitting_since"}"#,
        r#"8000 inferred {"type":"sample","fact":"last_sent"}"#,
        r#"9000 {"type":"sample"}"#,
    ];
    assert_eq!(told(&mut assembler(), &[resending]), expected);
}

#[test]
fn what_a_listener_has_just_made_came_from_there() {
    let accepted = turns(0, State::SYN_RECV, State::ESTABLISHED, |record| record.head.flags = flag::ACCEPTED);
    let told = told(&mut assembler(), &[accepted]);
    assert_eq!(
        told,
        [
            r#"0 {"type":"state","from":"LISTEN","to":"SYN_RECV"}"#,
            r#"0 {"type":"state","from":"SYN_RECV","to":"ESTABLISHED"}"#,
        ]
    );
}

#[test]
fn an_ack_after_three_time_outs_is_progress_and_says_how_long_it_took() {
    let acked = happens(2_000, Kind::Look, |record| {
        (record.tcp.snd_una, record.tcp.snd_nxt, record.tcp.write_seq) = (124, 124, 124);
    });
    let raws = [times_out(200, 1), times_out(600, 2), times_out(1_400, 3), acked];
    let all = told(&mut assembler(), &raws);
    // First sent one time-out before the first retransmission.
    assert_eq!(all.last().unwrap(), r#"2000 {"type":"progress","stalled_ms":2000,"attempts":3}"#);
    assert_eq!(all.iter().filter(|line| line.contains("progress")).count(), 1);
}

#[test]
fn a_keepalive_answer_is_news_only_after_an_unanswered_probe() {
    let probe = |ms, out: u8| {
        happens(ms, Kind::Keepalive, |record| {
            record.detail = out.into();
            record.tcp.probes_out = out + 1;
        })
    };
    let answer = |ms| happens(ms, Kind::KeepaliveAnswered, |_| {});
    let probes = |raws: &[Raw]| -> Vec<String> {
        let all = told(&mut assembler(), raws);
        all.into_iter().filter(|line| line.contains("answered") || line.contains("keepalive")).collect()
    };
    assert_eq!(probes(&[probe(1_000, 0), answer(1_010)]).len(), 1);
    let lines = probes(&[probe(1_000, 0), probe(2_000, 1), answer(2_010)]);
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[2], r#"2010 {"type":"keepalive_answered","after_probes":2}"#);
}

#[test]
fn window_probes_are_counted_from_the_closing_of_the_window_although_the_kernels_count_falls_back() {
    let probe = |ms, before, snd_una| {
        happens(ms, Kind::WindowProbe, |record| {
            (record.detail, record.tcp.snd_wnd) = (before, 0);
            (record.tcp.snd_una, record.tcp.snd_nxt, record.tcp.write_seq) = (snd_una, snd_una, 900);
        })
    };
    let mut assembler = assembler();
    let mut probes = |raw| {
        let What::ZeroWindowProbe(probe) = last_event(&mut assembler, &[raw]).what else {
            panic!("a probe is told")
        };
        (probe.probe, probe.answered)
    };
    assert_eq!(probes(probe(200, 0, 100)), (1, None));
    assert_eq!(probes(probe(600, 0, 100)), (2, Some(true)));
    assert_eq!(probes(probe(1_400, 1, 100)), (3, Some(false)));
    // The window opened and closed again.
    assert_eq!(probes(probe(9_000, 0, 500)), (1, None));
}

/// How a connection ended.
fn ended(raws: &[Raw]) -> Closed {
    let What::Closed(closed) = last_event(&mut assembler(), raws).what else { panic!("it has not ended") };
    *closed
}

#[test]
fn each_byte_of_payload_counts_once_and_those_of_fin_not_at_all() {
    let fin_unacked = |record: &mut SocketRecord| {
        let tcp = &mut record.tcp;
        (tcp.bytes_sent, tcp.bytes_retrans, tcp.bytes_received) = (1_000, 200, 501);
        // 30 bytes and our FIN are in flight, the peer's FIN has been received.
        (tcp.snd_una, tcp.snd_nxt, tcp.write_seq) = (970, 1_001, 1_001);
        (tcp.rcv_nxt, tcp.copied_seq) = (501, 490);
        tcp.sk_flags = sk_flag::DONE;
    };
    let raws = [turns(5_000, State::LAST_ACK, State::CLOSE, fin_unacked)];
    let closed = ended(&raws);
    assert_eq!((closed.bytes_sent, closed.bytes_received), (Some(800), Some(500)));
    assert!(closed.peer_closed && closed.fin_unacked && !closed.reset);
    let tcp = last_event(&mut assembler(), &raws).tcp;
    assert_eq!((tcp.unacked_bytes, tcp.unsent_bytes, tcp.unread_bytes), (Some(30), Some(0), Some(10)));
}

#[test]
fn what_was_sent_is_not_told_where_segments_failed_to_leave_this_host() {
    let close = || turns(5_000, State::ESTABLISHED, State::CLOSE, |record| record.tcp.bytes_sent = 300);
    let closed_after = |raw| ended(&[raw, close()]).bytes_sent;
    let refused = |record: &mut SocketRecord| record.detail = 1 << 16;
    let stuck = |record: &mut SocketRecord| record.tcp.snd_wnd = 65_536;
    let closed_window = |record: &mut SocketRecord| record.tcp.snd_wnd = 0;
    assert_eq!(closed_after(happens(1_000, Kind::Retransmit, refused)), None);
    assert_eq!(closed_after(happens(1_000, Kind::RetransmitFailed, |_| {})), None);
    assert_eq!(closed_after(happens(1_000, Kind::WindowProbe, stuck)), None);
    assert_eq!(closed_after(happens(1_000, Kind::WindowProbe, closed_window)), Some(300));
    assert_eq!(closed_after(happens(1_000, Kind::Retransmit, |_| {})), Some(300));
}

#[test]
fn a_process_that_closes_without_fin_resets_and_a_dead_socket_may_still_be_open() {
    let by_process = turns(100, State::ESTABLISHED, State::CLOSE, |record| {
        record.actor = NGINX;
        record.tcp.has_socket = 0;
    });
    let closed = ended(&[by_process]);
    assert_eq!((closed.reset, closed.fd_open), (true, false));

    let timed_out = turns(100, State::ESTABLISHED, State::CLOSE, |record| record.tcp.sk_err = 110);
    let closed = ended(&[timed_out]);
    assert_eq!((closed.reset, closed.fd_open), (false, true));
    assert_eq!(closed.errno, Some(Errno::named("ETIMEDOUT")));

    let after_reset =
        [happens(99, Kind::ResetReceived, |_| {}), turns(100, State::ESTABLISHED, State::CLOSE, |_| {})];
    assert!(ended(&after_reset).reset);
}

#[test]
fn what_the_hosts_own_queue_drops_has_failed_without_an_errno() {
    // By which rule what did not leave the host is sent again is not told, nor when the kernel gives up then.
    let failure = |number: u32| {
        let Raw::Socket(kind, mut record) = times_out(1_000, 1) else { panic!("another record") };
        record.detail = number << 16;
        let event = last_event(&mut assembler(), &[Raw::Socket(kind, record)]);
        let is_foretold = event.tcp.gives_up_in_ms.is_some();
        let What::Retransmit(sent) = event.what else { panic!("another event") };
        assert_eq!(sent.next_ms.is_some(), is_foretold, "{sent:?}");
        (sent.failed, sent.errno, is_foretold)
    };
    assert_eq!(failure(0), (false, None, true));
    assert_eq!(failure(1), (true, Some(Errno::named("EPERM")), false));
    assert_eq!(failure(wire::DROPPED_HERE), (true, None, false));
}

#[test]
fn the_end_of_a_life_is_told_once() {
    let close = |ms| turns(ms, State::ESTABLISHED, State::CLOSE, |_| {});
    let raws = [past(&[(0, State::CLOSE, State::SYN_SENT)]), close(700), close(701)];
    let all = told(&mut assembler(), &raws);
    let closed: Vec<_> = all.iter().filter(|line| line.contains(r#""type":"closed""#)).collect();
    assert_eq!(closed.len(), 1, "{all:?}");
    assert!(closed[0].contains(r#""lifetime_ms":700"#), "{closed:?}");
}

#[test]
fn what_arrives_late_of_a_socket_that_is_gone_makes_no_new_one_of_it() {
    let history = [(0, State::CLOSE, State::SYN_SENT), (1, State::SYN_SENT, State::ESTABLISHED)];
    let dies = [
        past(&history),
        happens(100, Kind::ResetReceived, |_| ()),
        turns(100, State::ESTABLISHED, State::CLOSE, |_| ()),
        goes(101, 7),
    ];
    let late = [past(&history), happens(100, Kind::Error, |record| record.detail = 104)];
    let mut assembler = assembler();
    assert_eq!(told(&mut assembler, &dies).len(), 5);
    assert_eq!(told(&mut assembler, &late), [r#"100 {"type":"error","errno":"ECONNRESET"}"#]);

    // Long after, nothing is known of it any more.
    told(&mut assembler, &[goes(500, 8)]);
    assert_eq!(told(&mut assembler, &late).len(), 3);
}

#[test]
fn events_share_their_socket_until_something_else_is_known_of_it() {
    let mut assembler = assembler();
    let [first, second, third] = [(0, 0), (1, 0), (2, sk_flag::DEAD)]
        .map(|(ms, sk_flags)| happens(ms, Kind::ResetReceived, |record| record.tcp.sk_flags = sk_flags))
        .map(|raw| last_event(&mut assembler, &[raw]).socket);
    assert!(Arc::ptr_eq(&first, &second));
    assert!(!second.orphan && third.orphan);
}

#[test]
fn the_owner_is_whoever_connected_then_whoever_holds_it_and_an_orphan_keeps_its_last() {
    let mut assembler = assembler();
    let name = |event: Event| event.socket.comm.as_deref().map(str::to_owned);
    let connect = turns(0, State::CLOSE, State::SYN_SENT, |record| record.actor = NGINX);
    assert_eq!(name(last_event(&mut assembler, &[connect])).as_deref(), Some("nginx"));

    // The process that connected is gone, its child has inherited the descriptor.
    assembler.begin_look();
    assembler.learn(&holds(CHILD));
    let inherited = last_event(&mut assembler, &[times_out(5_000, 1)]);
    assert_eq!((inherited.socket.inode, inherited.socket.pid), (Some(99_120), Some(CHILD.tgid)));

    let orphaned = happens(6_000, Kind::Look, |record| {
        record.tcp.sk_flags = sk_flag::DEAD;
        record.tcp.has_socket = 0;
    });
    let orphan = last_event(&mut assembler, &[orphaned]);
    assert!(orphan.socket.orphan);
    assert_eq!(name(orphan).as_deref(), Some("nginx-child"));
}

#[test]
fn a_connection_that_nobody_has_accepted_has_no_owner() {
    let queued = turns(10, State::SYN_RECV, State::ESTABLISHED, |record| record.tcp.has_socket = 0);
    let event = last_event(&mut assembler(), &[queued]);
    assert_eq!((event.socket.pid, event.socket.orphan), (None, false));
}

#[test]
fn every_syn_ack_of_a_handshake_has_the_same_id_and_names_its_listener() {
    let again = |ms: u32, timeouts| {
        let Raw::SynAck(mut record) = zeroes(Kind::SynAckRetransmit, size_of::<SynAckRecord>()) else {
            panic!("a SYN-ACK was asked for")
        };
        record.head.time_ns = u64::from(START_MS + ms) * MS;
        record.head.cookie = 3;
        record.endpoints.remote_port = 40_001;
        (record.num_timeout, record.timeout) = (timeouts, 1_000);
        Raw::SynAck(record)
    };
    let mut assembler = assembler();
    let first = last_event(&mut assembler, &[again(1_000, 0)]);
    let second = last_event(&mut assembler, &[again(3_000, 1)]);
    assert_eq!(first.socket.id, second.socket.id);
    assert_ne!(first.socket.id, SocketId(3));
    assert_eq!(second.socket.listener, Some(SocketId(3)));
    let expected = r#"{"type":"retransmit","cause":"syn_ack","attempt":2,"next_ms":4032}"#;
    assert_eq!(serde_json::to_string(&second.what).unwrap(), expected);
}

#[test]
fn where_there_is_no_room_a_socket_in_trouble_is_remembered_and_healthy_ones_are_forgotten() {
    let mut assembler = assembler();
    for attempt in 1..=3 {
        assembled(&mut assembler, &times_out(u32::from(attempt) * 1_000, attempt));
    }
    for cookie in 1_000..2_500 {
        assembled(&mut assembler, &happens(5_000, Kind::ResetReceived, |record| record.head.cookie = cookie));
    }
    assert_eq!(assembler.forgotten(), 501);
    let moved =
        assembled(&mut assembler, &happens(6_000, Kind::Recovered, |record| record.tcp.snd_una = 124));
    let progress = moved.iter().filter_map(Record::event).find_map(|event| {
        if let What::Progress(progress) = &event.what { Some(progress.attempts) } else { None }
    });
    assert_eq!(progress, Some(3), "{moved:?}");
}
