//! Rows in, sockets out.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;

use proptest::prelude::*;
use serde_json::json;
use zsock_common::offsets::{ABSENT, Offsets};
use zsock_common::wire::{CensusRecord, sk_flag};

use super::found::Finder;
use super::*;
use crate::record::{Noticed, State, VerdictName};
use crate::source::decode::rows;

/// At a tick a millisecond, an hour after boot.
const NOW: u32 = 3_600_000;

const COOKIE: u64 = 0x1e1d;

/// An idle connection of pid 812 to 10.0.0.9:5432: an answer came `ms` ago.
fn idle_for(ms: u32) -> CensusRecord {
    let zeroes = vec![0; size_of::<CensusRecord>()];
    let mut row: CensusRecord = rows(&zeroes).next().expect("zeroes are a row");
    row.head.time_ns = u64::from(NOW) * 1_000_000;
    row.head.jiffies = NOW;
    row.head.cookie = COOKIE;
    row.endpoints.local = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets();
    row.endpoints.remote = Ipv4Addr::new(10, 0, 0, 9).to_ipv6_mapped().octets();
    (row.endpoints.local_port, row.endpoints.remote_port) = (40_000, 5432);
    row.is_full = 1;
    row.tcp.state = State::ESTABLISHED.0;
    row.tcp.has_socket = 1;
    row.tcp.inode = 99;
    row.tcp.snd_wnd = 65_536;
    row.tcp.icsk_rto = 200;
    row.tcp.icsk_rto_max = 120_000;
    (row.tcp.lsndtime, row.tcp.rcv_tstamp, row.tcp.lrcvtime) = (NOW - ms, NOW - ms, NOW - ms);
    row.tcp.sysctl_keepalive_time = 7_200_000;
    row.tcp.sysctl_keepalive_intvl = 75_000;
    row.tcp.sysctl_keepalive_probes = 9;
    row.tcp.sysctl_retries2 = 15;
    row
}

fn holders() -> Holders {
    let named = |pid: u32, comm: &str| Process {
        pid,
        start_ns: pid.into(),
        cgroup_id: 0,
        comm: Arc::from(comm),
        comm_hex: None,
    };
    let processes = vec![Arc::new(named(u32::MAX, "api"))];
    Holders { processes, by_cookie: [(COOKIE, (0, 7))].into_iter().collect() }
}

fn find_without(lacking: &[&str], row: &CensusRecord) -> Counted {
    let Ok(offsets) = Offsets::resolve(|field| {
        Ok::<_, std::convert::Infallible>(if lacking.contains(&field.name) { ABSENT } else { 0 })
    });
    let units = Units::new(Jiffies::new(NonZeroU32::new(1000).expect("not zero")), &offsets);
    Finder::new(units, Clock::fixed(0), &Thresholds::default(), holders()).find(row)
}

/// Kernels since 6.16 have all but this.
const NEW_LACK: &[&str] = &["icsk_timeout"];

fn find(row: &CensusRecord) -> Counted {
    find_without(NEW_LACK, row)
}

#[test]
fn an_idle_connection_without_keepalive_would_never_be_missed() {
    let counted = find(&idle_for(400_000));
    let found = &counted.found;
    assert_eq!((found.noticed, found.noticed_in_ms), (Some(Noticed::Never), None));
    assert_eq!((found.idle_ms, found.verdict), (Some(400_000), Some(VerdictName::UnguardedIdle)));
    let owner = (found.socket.pid, found.socket.comm.as_deref());
    assert_eq!(owner, (Some(u32::MAX), Some("api")));
    assert_eq!(counted.holder.map(|holder| holder.fd), Some(7));
    assert_eq!(find(&idle_for(299_000)).found.verdict, None);
}

#[test]
fn with_keepalive_it_is_missed_after_the_last_probe() {
    let mut row = idle_for(10_000);
    row.tcp.sk_flags = sk_flag::KEEPOPEN;
    (row.tcp.keepalive_time, row.tcp.keepalive_intvl, row.tcp.keepalive_probes) = (60_000, 10_000, 3);
    row.tcp.keepalive_timer = NOW + 50_000;
    let found = find(&row).found;
    assert_eq!(found.noticed, Some(Noticed::Minutes));
    // 60 s after the last word and three probes: in 80 s, and what the timer wheel rounds up.
    let noticed_in_ms = found.noticed_in_ms.unwrap();
    assert!((80_000..84_000).contains(&noticed_in_ms), "{noticed_in_ms}");
    assert_eq!(
        serde_json::to_value(found.tcp.keepalive).unwrap(),
        json!({"enabled": true, "idle_ms": 60_000, "interval_ms": 10_000, "probes": 3})
    );
    assert_eq!(serde_json::to_value(found.timer).unwrap()["kind"], "keepalive");
}

#[test]
fn a_peer_that_answers_probes_of_its_window_may_die_from_now_on() {
    let mut row = idle_for(100);
    (row.tcp.snd_wnd, row.tcp.write_seq, row.tcp.pending, row.tcp.write_timer) = (0, 5_000, 3, NOW + 100);
    (row.tcp.backoff, row.tcp.probes_tstamp, row.tcp.sysctl_retries2) = (2, NOW - 1_300, 3);
    let found = find(&row).found;
    assert_eq!(found.noticed, Some(Noticed::Seconds));
    assert_eq!(serde_json::to_value(found.timer).unwrap(), json!({"kind": "persist", "in_ms": 101}));
    assert_eq!(found.tcp.unsent_bytes, Some(5_000));
}

#[test]
fn what_waits_to_be_accepted_and_orphans_have_no_owner_and_listeners_their_queue() {
    let mut waiting = idle_for(0);
    (waiting.tcp.has_socket, waiting.tcp.inode, waiting.head.cookie, waiting.backlog) = (0, 0, COOKIE + 1, 5);
    let found = find(&waiting).found;
    assert!(found.unaccepted && found.accepted && found.socket.pid.is_none() && !found.socket.orphan);
    let mut orphan = waiting;
    (orphan.tcp.sk_flags, orphan.tcp.state) = (sk_flag::DEAD, State::FIN_WAIT2.0);
    let found = find(&orphan).found;
    assert!(found.socket.orphan && !found.unaccepted);
    assert_eq!(found.noticed, None, "nobody waits for its peer");

    let mut listener = idle_for(0);
    (listener.tcp.state, listener.queue, listener.backlog) = (State::LISTEN.0, 6, 5);
    listener.oldest = NOW - 1_500;
    let found = find(&listener).found;
    assert_eq!((found.noticed, found.idle_ms, found.accepted), (None, None, false));
    assert_eq!(found.verdict, Some(VerdictName::AcceptQueueFull));
    listener.oldest = NOW - 900;
    assert_eq!(find(&listener).found.verdict, None, "a busy listener's queue may be full at any look");
}

#[test]
fn what_is_no_full_socket_tells_its_state_and_its_timer() {
    let mut row = idle_for(0);
    (row.is_full, row.tcp.state, row.expires, row.head.cookie) = (0, State::TIME_WAIT.0, NOW + 30_000, 0);
    let found = find(&row).found;
    let timer = serde_json::to_value(found.timer).unwrap();
    assert_eq!((found.tcp.state, &timer["kind"]), (Some(State::TIME_WAIT), &json!("time_wait")));
    assert_eq!((found.socket.uid, found.noticed, found.tcp.rto_ms), (None, None, None));
    row.tcp.state = State::NEW_SYN_RECV.0;
    assert_eq!(find(&row).found.tcp.state, Some(State::SYN_RECV));
    // A connection that its process has closed, when its socket is gone and the peer has not closed yet.
    row.tcp.state = State::FIN_WAIT2.0;
    let Found { socket, noticed, unaccepted, .. } = find(&row).found;
    assert_eq!((socket.orphan, socket.uid, noticed, unaccepted), (true, None, None, false));
}

#[test]
fn half_closed_connections_leak_where_it_is_known_that_nothing_was_read() {
    let mut row = idle_for(60_000);
    row.tcp.state = State::CLOSE_WAIT.0;
    row.tcp.sk_flags = sk_flag::DONE;
    (row.tcp.rcv_nxt, row.tcp.copied_seq, row.tcp.bytes_received) = (101, 100, 100);
    assert_eq!(find(&row).found.verdict, Some(VerdictName::CloseWaitLeak));
    // Fifty bytes are left of a hundred: when the others were read is not known.
    row.tcp.copied_seq = 50;
    assert_eq!(find(&row).found.verdict, None);
}

#[test]
fn what_a_kernel_cannot_tell_is_absent() {
    let row = idle_for(400_000);
    let lacking = |field| find_without(&[NEW_LACK, &[field]].concat(), &row).found;
    let found = lacking("icsk_user_timeout");
    assert_eq!((found.noticed, found.noticed_in_ms, found.timer), (None, None, None));
    assert_eq!(lacking("lsndtime").idle_ms, None);
    assert_eq!(lacking("keepalive_time").tcp.keepalive, None);
    assert_eq!(lacking("keepalive_time").verdict, None);
}

#[test]
fn of_several_holders_the_one_that_started_first_is_told() {
    let mut holders = Holders { processes: Vec::new(), by_cookie: FxHashMap::default() };
    for (tgid, start_ns, fd) in [(30, 300, 3), (10, 100, 1), (20, 200, 2)] {
        let zeroes = vec![0; size_of::<CensusHolder>()];
        let mut row: CensusHolder = rows(&zeroes).next().expect("zeroes are a row");
        (row.cookie, row.fd, row.process.tgid, row.process.start_ns) = (COOKIE, fd, tgid, start_ns);
        holders.note(&row);
    }
    let (_, holder) = holders.of(COOKIE).unwrap();
    assert_eq!((holder.process.pid, holder.fd), (10, 1));
}

proptest! {
    /// The kernel side is trusted, its numbers are not.
    #[test]
    fn any_row_is_a_socket(bytes in prop::collection::vec(any::<u8>(), size_of::<CensusRecord>())) {
        let row: CensusRecord = rows(&bytes).next().expect("so many bytes are a row");
        let counted = find(&row);
        prop_assert_eq!(counted.found.noticed_in_ms.is_some(), matches!(counted.found.noticed, Some(noticed) if noticed != Noticed::Never));
    }
}

#[test]
fn facts_that_only_a_trace_tells_are_not_missed() {
    let names: Vec<&str> = known::FACTS.iter().map(|fact| fact.name).collect();
    assert!(OF_EVENTS.iter().all(|name| names.contains(name)), "of {names:?}");
}
