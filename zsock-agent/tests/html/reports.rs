//! Reports to look at: what `zsock report` makes of records.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::{Value, json};
use zsock_agent::engine::Timeline;
use zsock_agent::record::{Body, Event, Record, SocketId, Subject};
use zsock_agent::recording::read::Next;
use zsock_agent::report::{Builder, Join, Options, Report, Story};
use zsock_agent::time::Time;

/// A real run: a client whose idle connection a NAT gateway had forgotten.
const RUN: &str = include_str!("../data/forgotten_by_nat.ndjson");

/// What happened in that run: its records without the verdicts that were given live.
static HAPPENED: LazyLock<Vec<Record>> = LazyLock::new(|| {
    let records = RUN.lines().map(|line| serde_json::from_str::<Record>(line).expect("zsock wrote it"));
    records.filter(|record| !matches!(record.body, Body::Verdict(_))).collect()
});

fn happened() -> Vec<Record> {
    HAPPENED.clone()
}

/// No trouble at all.
pub(crate) fn nothing() -> Report {
    report_of(happened().into_iter().filter(|record| record.event().is_none()).collect())
}

/// The real run.
pub(crate) fn one() -> Report {
    report_of(happened())
}

/// A pool of connections that idle for two hours; then a query is sent on each within three seconds, and none is answered.
pub(crate) fn pool(sockets: u16) -> Report {
    report_of((0..sockets).flat_map(|number| forgotten(number, Duration::from_hours(2))).collect())
}

/// So many sockets of several processes to several destinations, spread over a week. One report after another is put together, for one of
/// all would have no room for them.
pub(crate) fn week(sockets: u16) -> Report {
    let mut whole = Report::default();
    for first in (0..sockets).step_by(2_500) {
        let numbers = first..sockets.min(first + 2_500);
        let mut part = report_of(numbers.flat_map(|number| in_a_week(number, sockets)).collect());
        assert_eq!(part.stories_dropped, 0);
        for story in part.incidents.iter_mut().flat_map(|incident| &mut incident.stories) {
            *story += whole.stories.len();
        }
        part.stories.iter_mut().for_each(|story| story.run = whole.runs.len());
        whole.stories.append(&mut part.stories);
        whole.incidents.append(&mut part.incidents);
        whole.runs.append(&mut part.runs);
    }
    whole
}

fn in_a_week(number: u16, of: u16) -> Vec<Record> {
    let later = Duration::from_secs(u64::from(number) * 6 * 86_400 / u64::from(of));
    let mut records = forgotten(number, Duration::ZERO);
    for record in &mut records {
        record.at = record.at.after(later);
        let names = ["checkout", "search", "mailer", "billing"];
        let place = ["10.0.5.7:5432", "10.0.5.8:6379", "[2001:db8::7]:443"];
        if let Body::Event(event) = &mut record.body {
            let socket = Arc::make_mut(&mut event.socket);
            socket.comm = Some(Arc::from(names[usize::from(number) % names.len()]));
            socket.remote = place[usize::from(number) % place.len()].parse().ok();
        }
    }
    records
}

/// Three sockets whose owners chose their names with the reader in mind.
pub(crate) fn hostile(names: &[&str]) -> Report {
    let mut records = Vec::new();
    for (number, name) in (0..).zip(names) {
        records.extend(forgotten(number, Duration::ZERO).into_iter().map(|mut record| {
            if let Body::Event(event) = &mut record.body {
                let socket = Arc::make_mut(&mut event.socket);
                socket.comm = Some(Arc::from(*name));
                socket.cgroup = Some(format!("/{name}").into());
            }
            record
        }));
    }
    let mut report = report_of(records);
    for run in &mut report.runs {
        run.host = names.concat().into();
    }
    report
}

/// A connection that both ends recorded: the server's clock says that it gave up before the client learnt of it.
pub(crate) fn both_ends() -> Report {
    let mut report = one();
    let mut server = report_of(lines(&[
        (
            -2,
            "state",
            json!({"from": "SYN_RECV", "to": "ESTABLISHED", "socket": turned(), "tcp": {"state": "ESTABLISHED"}}),
        ),
        (
            310_000,
            "state",
            json!({"from": "ESTABLISHED", "to": "CLOSE", "socket": turned(), "tcp": {"state": "CLOSE"}}),
        ),
    ]));
    let Some(mut story) = report.stories.first().cloned() else { return report };
    story.run = 1;
    story.other_end = Some(0);
    if let Subject::Socket { socket, .. } = &mut story.subject {
        let socket = Arc::make_mut(socket);
        (socket.local, socket.remote) = (socket.remote, socket.local);
        (socket.comm, socket.pid, socket.id) = (Some("postgres".into()), Some(411), SocketId(77));
    }
    report.runs.append(&mut server.runs);
    report.runs[1].host = "db-1".into();
    report.stories[0].other_end = Some(1);
    let summary = "the server gave up at 11:32:38, the client learnt of it at 11:32:38".to_owned();
    report.joins = vec![Join { client: 0, server: 1, summary: Some(summary), server_ahead_ns: 12_000_000 }];
    report.stories.push(story);
    report
}

/// One socket in each kind of trouble that shows differently.
pub(crate) fn gallery() -> Report {
    let mut records = forgotten(0, Duration::ZERO);
    let client = |id: &str, comm: &str, port: u16, remote: &str| {
        json!({"id": id, "family": "ipv4", "local": format!("10.0.1.4:{port}"), "remote": remote, "pid": 4_000 + port % 1_000,
            "comm": comm, "uid": 33})
    };
    let syn = client("a1", "mailer", 40_001, "198.51.100.9:25");
    let mut lines_of = vec![(
        1_000,
        "state",
        json!({"from": "CLOSE", "to": "SYN_SENT", "socket": syn, "tcp": {"state": "SYN_SENT"}}),
    )];
    for (attempt, at) in (1..).zip([2_000, 4_000, 8_000, 16_000, 32_000, 64_000]) {
        lines_of.push((at, "retransmit", json!({"cause": "syn", "attempt": attempt, "next_ms": at, "socket": syn, "tcp": {"state": "SYN_SENT"}})));
    }
    lines_of.push((
        131_000,
        "state",
        json!({"from": "SYN_SENT", "to": "CLOSE", "socket": syn, "tcp": {"state": "CLOSE"}}),
    ));
    lines_of.push((
        131_000,
        "closed",
        json!({"from": "SYN_SENT", "errno": "ETIMEDOUT", "lifetime_ms": 130_000, "peer_closed": false,
        "reset": false, "fd_open": true, "socket": syn}),
    ));

    let window = client("a2", "exporter", 40_002, "10.0.9.1:9000");
    lines_of.push((
        5_000,
        "state",
        json!({"from": "SYN_SENT", "to": "ESTABLISHED", "socket": window, "tcp": {"state": "ESTABLISHED"}}),
    ));
    for (probe, at) in (1..).zip([60_000, 60_400, 61_200, 62_800, 66_000, 72_400]) {
        lines_of.push((at, "zero_window_probe", json!({"probe": probe, "answered": true, "next_ms": 2 * probe, "socket": window,
            "tcp": {"state": "ESTABLISHED", "unsent_bytes": 90_000, "send_window_bytes": 0, "last_received_ms": 3}})));
    }
    lines_of.push((80_000, "progress", json!({"stalled_ms": 20_000, "attempts": 6, "socket": window, "tcp": {"state": "ESTABLISHED", "unsent_bytes": 0,
        "send_window_bytes": 65_535}})));

    let leak = client("a3", "proxy", 40_003, "10.0.2.2:8080");
    lines_of.push((
        3_000,
        "state",
        json!({"from": "SYN_SENT", "to": "ESTABLISHED", "socket": leak, "tcp": {"state": "ESTABLISHED"}}),
    ));
    lines_of.push((
        200_000,
        "state",
        json!({"from": "ESTABLISHED", "to": "CLOSE_WAIT", "socket": leak, "tcp": {"state": "CLOSE_WAIT"}}),
    ));
    for half_closed in [60_000, 400_000, 900_000] {
        lines_of.push((
            200_000 + half_closed,
            "sample",
            json!({"half_closed_ms": half_closed, "socket": leak, "tcp": {"state": "CLOSE_WAIT"}}),
        ));
    }

    let stale = client("a4", "worker", 40_004, "10.0.5.7:5432");
    lines_of.push((
        4_000,
        "state",
        json!({"from": "SYN_SENT", "to": "ESTABLISHED", "socket": stale, "tcp": {"state": "ESTABLISHED"}}),
    ));
    let tcp =
        json!({"state": "ESTABLISHED", "last_received_ms": 700_000, "last_sent_ms": 1, "unacked_bytes": 40});
    lines_of.push((704_000, "reset_received", json!({"socket": stale, "tcp": tcp})));
    lines_of.push((
        704_000,
        "state",
        json!({"from": "ESTABLISHED", "to": "CLOSE", "socket": stale, "tcp": {"state": "CLOSE"}}),
    ));
    lines_of.push((
        704_000,
        "closed",
        json!({"from": "ESTABLISHED", "errno": "ECONNRESET", "lifetime_ms": 700_000, "peer_closed": false,
        "reset": true, "fd_open": true, "socket": stale}),
    ));

    let probed = client("a5", "metrics", 40_005, "10.0.7.7:9090");
    lines_of.push((
        6_000,
        "state",
        json!({"from": "SYN_SENT", "to": "ESTABLISHED", "socket": probed, "tcp": {"state": "ESTABLISHED"}}),
    ));
    for (probe, at) in (1..=4).zip([300_000, 310_000, 320_000, 330_000]) {
        lines_of.push((at, "keepalive", json!({"probe": probe, "of": 9, "next_ms": 10_000, "socket": probed,
            "tcp": {"state": "ESTABLISHED", "last_received_ms": at - 6_000, "keepalive": {"enabled": true, "idle_ms": 300_000, "interval_ms": 10_000, "probes": 9}}})));
    }
    lines_of.push((
        331_000,
        "keepalive_answered",
        json!({"after_probes": 4, "socket": probed, "tcp": {"state": "ESTABLISHED"}}),
    ));

    // One of those that were forgotten is still being waited for when the recording ends.
    let asked = forgotten(1, Duration::from_mins(10));
    records.extend(asked.into_iter().filter(|record| record.at < begin().after(Duration::from_mins(20))));
    lines_of.sort_by_key(|(at, ..)| *at);
    records.extend(lines(&lines_of));
    let mut report = report_of(records);
    report.stories.push(process_story());
    report.runs[0].gaps =
        vec![(begin().after(Duration::from_secs(400)), begin().after(Duration::from_secs(460)))];
    report
}

/// A process that runs out of descriptors: a story without a socket.
fn process_story() -> Story {
    let opened = json!({"verdict": "fd_pressure", "phase": "opened", "severity": "critical", "process": {"pid": 4_003, "comm": "proxy"},
        "since": begin(), "evidence": {"open_fds": 990, "limit": 1_024}, "summary": "proxy (pid 4003) has 990 of 1024 descriptors open",
        "advice": ["raise LimitNOFILE"]});
    let verdicts = lines(&[(600_000, "verdict", opened)]);
    let at = verdicts[0].at;
    let Body::Verdict(verdict) = &verdicts[0].body else { unreachable!("it is one") };
    let subject = verdict.subject.clone();
    Story {
        run: 0,
        subject,
        verdicts,
        order: vec![0],
        timeline: Timeline::default(),
        span: (at, at),
        other_end: None,
    }
}

fn turned() -> Value {
    json!({"id": "4d", "family": "ipv4", "local": "10.0.5.7:5432", "remote": "10.0.1.4:37630", "pid": 411, "comm": "postgres"})
}

fn begin() -> Time {
    happened()[0].at
}

/// Records at so many milliseconds after the run's beginning.
fn lines(lines: &[(i64, &str, Value)]) -> Vec<Record> {
    let record = |(ms, kind, rest): &(i64, &str, Value)| {
        let mut record = rest.clone();
        let at = begin().after(Duration::from_millis(u64::try_from(*ms).unwrap_or(0)));
        for (name, value) in
            [("schema", json!(1)), ("ts", json!(at)), ("host", json!("web-1")), ("type", json!(kind))]
        {
            record[name] = value;
        }
        serde_json::from_value(record).unwrap_or_else(|error| panic!("{kind} at {ms}: {error}: {rest}"))
    };
    lines.iter().map(record).collect()
}

/// The run once more, by the `number`th of alike connections that idles for so much longer.
fn forgotten(number: u16, longer: Duration) -> Vec<Record> {
    let (mut records, born, asked) = (happened(), u64::from(number) * 300, u64::from(number) * 80 % 3_000);
    for record in &mut records {
        let Body::Event(event) = &mut record.body else { continue };
        if event.replayed {
            record.at = record.at.after(Duration::from_millis(born));
        } else {
            record.at = record.at.after(longer + Duration::from_millis(asked));
            let longer = u64::try_from(longer.as_millis()).expect("hours");
            for since in [&mut event.tcp.last_received_ms, &mut event.tcp.last_data_received_ms] {
                *since = since.map(|ms| ms + longer);
            }
        }
        rename(event, number);
    }
    records
}

fn rename(event: &mut Event, number: u16) {
    let socket = Arc::make_mut(&mut event.socket);
    socket.id = SocketId(0x1000 + u64::from(number));
    socket.pid = Some(20_000 + u32::from(number));
    socket.local = Some(SocketAddr::from(([10, 0, 1, 4], 30_000 + number)));
}

/// What `zsock report` makes of records of one run: of several beginnings the first one counts, of several ends the last.
fn report_of(mut records: Vec<Record>) -> Report {
    records.sort_by_key(|record| record.at);
    let begins = |record: &Record| matches!(record.body, Body::Start(_));
    let ends = |record: &Record| matches!(record.body, Body::End(_));
    let (first, last) = (records.iter().position(begins), records.iter().rposition(ends));
    let mut place = 0..;
    records.retain(|record| {
        let place = place.next();
        (!begins(record) || place == first) && (!ends(record) || place == last)
    });
    let mut builder = Builder::new(Options::default());
    for record in records {
        builder.push(Next::Record(record));
    }
    builder.finish()
}
