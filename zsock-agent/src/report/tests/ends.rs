//! Recordings of both ends of a connection.

use super::*;
use crate::detect::story::closed;
use crate::record::Socket;

/// The clock of the server's host is ahead by so much.
const AHEAD_MS: u64 = 90_000;

/// The event at the server's end of the same connection.
fn there(event: Event) -> Event {
    let mut event = event;
    let socket = event.socket_mut();
    socket.id.0 += 1_000;
    std::mem::swap(&mut socket.local, &mut socket.remote);
    socket.comm = Some("postgres".into());
    socket.pid = Some(5);
    event
}

/// What db-1 recorded, by its own clock.
fn on_db(ms: u64, event: Event) -> Record {
    Record { host: "db-1".into(), ..happened(ms + AHEAD_MS, event) }
}

fn accepted() -> Event {
    state(State::SYN_RECV, State::ESTABLISHED)
}

/// The client's end of a connection, whose handshake takes 10 ms and that dies at 420 s.
pub(crate) fn client(number: u16) -> Vec<Record> {
    let mut records = death(number, 400_000, 360_000);
    records[1] = happened(10, on(number, established()));
    records
}

/// The server's end: it gave up long before, by its keepalive.
pub(crate) fn server(number: u16) -> Vec<Record> {
    let gave_up = with(timed_out(), |tcp| tcp.unacked_bytes = Some(24));
    vec![on_db(15, there(on(number, accepted()))), on_db(100_000, there(on(number, gave_up)))]
}

fn socket_of(report: &Report, place: usize) -> &Socket {
    let crate::record::Subject::Socket { socket, .. } = &report.stories[place].subject else {
        panic!("it is a socket")
    };
    socket
}

#[test]
fn both_ends_are_joined_although_a_clock_is_ahead() {
    for records in [[client(1), server(1)], [server(1), client(1)]] {
        let report = report(records.concat());
        assert_eq!(report.joins.len(), 1);
        let join = &report.joins[0];
        let ids = [join.client, join.server].map(|place| socket_of(&report, place).id);
        assert_eq!(ids, [SocketId(1), SocketId(1_001)]);
        assert_eq!(
            join.summary.as_deref(),
            Some("the server (db-1) gave up at 22:15:00, the client (web-1) learnt of it at 22:20:20")
        );
        let clock = &report.clocks[0];
        let sign = if &*clock.host == "db-1" { 1 } else { -1 };
        assert_eq!(
            (clock.ahead_ns * sign, clock.uncertainty_ns, clock.changes),
            (90_000_000_000, 5_000_000, 1)
        );
    }
}

#[test]
fn an_end_without_a_verdict_comes_with_the_other_whichever_was_read_first() {
    let healthy = |number| {
        let mut records = server(number);
        records.truncate(1);
        records
    };
    let ended = |number| {
        let fin = on_db(50_000, there(on(number, state(State::ESTABLISHED, State::FIN_WAIT1))));
        [healthy(number), vec![fin, on_db(51_000, there(on(number, closed())))]].concat()
    };
    for [first, second] in
        [[client(1), healthy(1)], [healthy(1), client(1)], [client(1), ended(1)], [ended(1), client(1)]]
    {
        let options = Options { keeps_ends: true, ..Options::default() };
        let report = report_with(options, [first, second].concat());
        assert_eq!((report.stories.len(), report.joins.len()), (2, 1));
        let server = &report.stories[report.joins[0].server];
        assert!(server.verdicts.is_empty() && !server.timeline.parts().0.is_empty());
    }
    // Others that have no verdict are none of anybody's business.
    let alone = report([ended(2), client(1)].concat());
    assert_eq!(alone.stories.len(), 1);
}

#[test]
fn a_port_that_was_used_again_is_joined_with_the_connection_of_its_time() {
    let later = |records: Vec<Record>, id: u64| {
        let shifted = records.into_iter().map(move |mut record| {
            record.at = record.at.after(std::time::Duration::from_secs(1_000));
            if let Body::Event(event) = &mut record.body {
                event.socket_mut().id = SocketId(id);
            }
            record
        });
        shifted.collect::<Vec<_>>()
    };
    // Another connection shows how the clocks stand.
    let here = [client(1), client(2), later(client(1), 77)].concat();
    let there = [server(1), server(2), later(server(1), 1_077)].concat();
    let report = report([here, there].concat());
    let ids = report.joins.iter().map(|join| {
        let [client, server] = [join.client, join.server].map(|place| socket_of(&report, place).id.0);
        (client, server)
    });
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    assert_eq!(ids, [(1, 1_001), (2, 1_002), (77, 1_077)]);
}

#[test]
fn through_a_nat_they_cannot_be_joined_and_that_is_said() {
    let translated = |mut record: Record| {
        if let Body::Event(event) = &mut record.body {
            event.socket_mut().remote = Some("192.0.2.1:1025".parse().unwrap());
        }
        record
    };
    let server: Vec<Record> = server(1).into_iter().map(translated).collect();
    let report = report([client(1), server].concat());
    assert_eq!((report.joins.len(), report.unjoined.len()), (0, 1));
    assert_eq!(
        report.unjoined[0],
        "connections of web-1 and db-1 cannot be joined: web-1 knows 10.0.0.2:50001 → 10.0.1.4:443, db-1 knows 192.0.2.1:1025 → \
         10.0.1.4:443, and no two have the same ends; a NAT or a proxy is between them, or they are others"
    );
}

#[test]
fn ends_in_two_network_namespaces_of_one_host_need_no_clock() {
    let in_netns = |netns: u32, ahead_ms: u64, records: Vec<Record>| {
        records.into_iter().map(move |mut record| {
            record.host = host();
            record.at = record.at.before(std::time::Duration::from_millis(ahead_ms));
            if let Body::Event(event) = &mut record.body {
                event.socket_mut().netns = Some(netns);
            }
            record
        })
    };
    let records = in_netns(1, 0, client(1)).chain(in_netns(2, AHEAD_MS, server(1)));
    let report = report(in_order([records.collect()]));
    assert_eq!((report.joins.len(), report.clocks.len()), (1, 0));
    assert_eq!(
        report.joins[0].summary.as_deref(),
        Some("the server (netns 2) gave up at 22:15:00, the client (netns 1) learnt of it at 22:20:20")
    );
}

#[test]
fn loopback_of_another_host_is_another_loopback() {
    let on_loopback = |mut record: Record| {
        if let Body::Event(event) = &mut record.body {
            let socket = event.socket_mut();
            for end in [&mut socket.local, &mut socket.remote].into_iter().flatten() {
                end.set_ip("127.0.0.1".parse().unwrap());
            }
        }
        record
    };
    let records = [client(1), server(1)].concat().into_iter().map(on_loopback);
    assert_eq!(report(records).joins, []);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long it takes is what is tested")]
fn thousands_of_connections_of_two_hosts_take_no_time() {
    let began = std::time::Instant::now();
    let numbers = 1..=3_000;
    let here = numbers.clone().flat_map(client);
    let there = numbers.flat_map(server);
    let report = report(here.chain(there));
    assert_eq!((report.joins.len(), report.unjoined.len()), (3_000, 0));
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_port_that_was_used_again_while_nobody_recorded_tells_nothing_of_clocks() {
    let hours_later = |mut record: Record| {
        record.at = record.at.after(std::time::Duration::from_hours(3));
        record
    };
    let report = report(client(1).into_iter().chain(server(1).into_iter().map(hours_later)));
    assert_eq!((report.joins.len(), report.clocks.len()), (0, 0), "{:?}", report.clocks);
}

#[test]
fn clocks_are_compared_once_whatever_runs_there_are() {
    let again = |mut record: Record, id: u64| {
        record.at = record.at.after(std::time::Duration::from_secs(1_000));
        if let Body::Event(event) = &mut record.body {
            event.socket_mut().id = SocketId(id);
        }
        record
    };
    let begun = |host: &str, ms| {
        let mut begun = start(&Thresholds::default());
        (begun.host, begun.at) = (host.into(), at(ms));
        vec![begun]
    };
    let second = client(2).into_iter().map(|record| again(record, 2));
    let second_there = server(2).into_iter().map(|record| again(record, 1_002));
    let records = [
        begun("web-1", 0),
        client(1),
        begun("db-1", 0),
        server(1),
        second_there.collect(),
        begun("web-1", 900_000),
        second.collect(),
    ];
    let report = report(records.concat());
    assert_eq!((report.joins.len(), report.clocks.len()), (2, 1), "{:?}", report.clocks);
}

#[test]
fn of_two_connections_that_used_a_port_the_one_is_joined_whose_beginning_is_nearest() {
    let later = |mut record: Record, id: u64| {
        record.at = record.at.after(std::time::Duration::from_secs(1_000));
        if let Body::Event(event) = &mut record.body {
            event.socket_mut().id = SocketId(id);
        }
        record
    };
    // The old end there lives on; what was at this end of it was not recorded.
    let mut lingering = server(1);
    lingering[1].at = lingering[1].at.after(std::time::Duration::from_secs(2_000));
    let here = client(1).into_iter().map(|record| later(record, 77));
    let there = lingering.into_iter().chain(server(1).into_iter().map(|record| later(record, 1_077)));
    // Another connection shows how the clocks stand.
    let records = client(2).into_iter().chain(here).chain(server(2)).chain(there);
    let report = report(records);
    let ids = report.joins.iter().map(|join| {
        let [client, server] = [join.client, join.server].map(|place| socket_of(&report, place).id.0);
        (client, server)
    });
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    assert_eq!(ids, [(2, 1_002), (77, 1_077)]);
}
