//! Stories of verdicts that come in crowds. Every connection is one that nginx accepted on 10.0.1.4:443, unless told otherwise.

use std::ops::Range;
use std::sync::Arc;

use super::*;
use crate::record::{Body, Destination, Process, Record, Sample, StateChange, Subject, Tcp};
use crate::sink::samples::{about, at, nginx, verdict};
use crate::sink::{Palette, Text};

/// What is shown of a batch that ends at `now_ms`, without the day's heading.
fn batch(text: &mut Text, records: &[Record], now_ms: u64) -> Vec<String> {
    let mut shown = String::new();
    for record in records {
        text.render(record, None, &mut |text| shown.push_str(text));
    }
    text.flush(at(now_ms), &mut |text| shown.push_str(text));
    shown.lines().filter(|line| !line.starts_with("──")).map(str::to_owned).collect()
}

/// The first lines of verdicts and the lines of events.
fn headings(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).filter(|line| !line.starts_with(' ')).collect()
}

fn client(number: u64) -> Socket {
    let port = u16::try_from(10_000 + number % 50_000).unwrap();
    Socket { id: SocketId(number), remote: Some(SocketAddr::from(([192, 0, 2, 7], port))), ..nginx() }
}

fn record(ms: u64, body: Body) -> Record {
    Record::new(at(ms), &"web-1".into(), body)
}

fn event(ms: u64, number: u64, what: What, replayed: bool) -> Record {
    let event =
        Event { what, socket: Arc::new(client(number)), tcp: Tcp::default(), replayed, inferred: false };
    record(ms, Body::Event(Box::new(event)))
}

fn opened(ms: u64, number: u64) -> Record {
    let idle = verdict(VerdictName::UnguardedIdle, Phase::Opened, None, Severity::Info);
    let idle = Verdict { subject: about(client(number), Tcp::default()), ..idle };
    record(ms, Body::Verdict(Box::new(idle)))
}

/// Connections of which the pass finds that they idle: the past of each, how it stands, and the verdict.
fn idle(ms: u64, numbers: Range<u64>) -> Vec<Record> {
    let born = StateChange { from: State::SYN_RECV, to: State::ESTABLISHED };
    let look = Sample { idle_ms: Some(300_000), ..Sample::default() };
    let found = |number| {
        [
            event(ms, number, What::State(born), true),
            event(ms, number, What::Sample(Box::new(look.clone())), false),
            opened(ms, number),
        ]
    };
    numbers.flat_map(found).collect()
}

#[test]
fn twenty_are_shown_in_full_and_in_order() {
    let mut text = Text::new(Palette::PLAIN);
    let lines = batch(&mut text, &idle(0, 0..20), 5);
    let headings = headings(&lines);
    assert_eq!(headings.len(), 60);
    assert_eq!(
        headings[..3],
        [
            "22:13:20.000  state               nginx[812]            10.0.1.4:443 → 192.0.2.7:10000        SYN_RECV → ESTABLISHED  (replayed)",
            "22:13:20.000  sample              nginx[812]            10.0.1.4:443 → 192.0.2.7:10000        idle for 5 min",
            "22:13:20.000  ● unguarded_idle opened  nginx[812]  10.0.1.4:443 → 192.0.2.7:10000",
        ]
    );
}

#[test]
fn twenty_one_become_one_line_and_nothing_that_led_to_them_is_shown() {
    let mut text = Text::new(Palette::PLAIN);
    let probe = What::Keepalive(crate::record::Keepalive { probe: 2, of: None, next_ms: None });
    let mut records = idle(0, 0..21);
    records.insert(0, event(0, 7, probe, false));
    assert_eq!(
        batch(&mut text, &records, 5),
        [
            "22:13:20.000  keepalive           nginx[812]            10.0.1.4:443 → 192.0.2.7:10007        probe 2, next in –",
            "22:13:20.000  ● unguarded_idle opened  nginx[812]  21 at 10.0.1.4:443, such as 10.0.1.4:443 → 192.0.2.7:10000, \
             10.0.1.4:443 → 192.0.2.7:10001, 10.0.1.4:443 → 192.0.2.7:10002 (each one in JSON); of one of them: 192.0.2.7 has acknowledged nothing of the \
             24 bytes that nginx sent 3 s ago.",
        ]
    );
}

#[test]
fn what_comes_later_in_a_second_is_told_at_its_end() {
    let mut text = Text::new(Palette::PLAIN);
    let mut counts = |records: &[Record], now_ms| {
        let lines = batch(&mut text, records, now_ms);
        let count = |line: &str| {
            line.split("nginx[812]  ").nth(1).map(|rest| rest.chars().take(8).collect::<String>())
        };
        headings(&lines).into_iter().filter(|line| line.contains('●')).filter_map(count).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(counts(&idle(100, 0..15), 110), ["10.0.1.4"; 15]);
    assert_eq!(counts(&idle(200, 20..30), 210), ["10 more "]);
    assert_eq!(counts(&idle(300, 30..35), 310), none);
    assert_eq!(counts(&idle(400, 35..36), 410), none);
    assert_eq!(counts(&[], 1_099), none);
    assert_eq!(counts(&[], 1_100), ["6 more a"]);
    assert_eq!(counts(&[], 2_500), none);
    assert_eq!(counts(&idle(2_600, 40..41), 2_610), ["10.0.1.4"], "another second");
}

#[test]
fn the_end_of_the_trace_tells_what_no_end_of_a_second_will() {
    let mut text = Text::new(Palette::PLAIN);
    assert_eq!(batch(&mut text, &idle(0, 0..21), 5).len(), 1);
    let mut records = idle(10, 30..40);
    records.push(record(20, Body::End(Box::default())));
    let lines = batch(&mut text, &records, 20);
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("nginx[812]  10 more at 10.0.1.4:443"), "{lines:?}");
    assert!(lines[1].contains("end after"), "{lines:?}");
}

#[test]
fn another_process_service_or_outcome_is_another_group() {
    let mut text = Text::new(Palette::PLAIN);
    let changed = |number: u64, change: &dyn Fn(&mut Verdict, &mut Socket)| {
        let mut verdict = verdict(VerdictName::UnguardedIdle, Phase::Opened, None, Severity::Info);
        let mut socket = client(number);
        change(&mut verdict, &mut socket);
        record(0, Body::Verdict(Box::new(Verdict { subject: about(socket, Tcp::default()), ..verdict })))
    };
    let of_five_groups = |number: u64| {
        [
            changed(number, &|_, _| ()),
            changed(number, &|_, socket| socket.pid = Some(813)),
            changed(number, &|_, socket| socket.local = Some("10.0.1.4:80".parse().unwrap())),
            changed(number, &|verdict, _| verdict.phase = Phase::Updated),
            changed(number, &|verdict, _| verdict.verdict = VerdictName::CloseWaitLeak),
        ]
    };
    let records: Vec<_> = (0..20).flat_map(of_five_groups).collect();
    assert_eq!(headings(&batch(&mut text, &records, 5)).len(), 100);
}

#[test]
fn verdicts_on_processes_and_destinations_are_each_shown() {
    let mut text = Text::new(Palette::PLAIN);
    let process = Process { pid: 812, comm: None, comm_hex: None, cgroup: None, container: None };
    let destination: Destination = "10.0.5.7:5432".parse().unwrap();
    let of = |subject: Subject| {
        let pressure = verdict(VerdictName::FdPressure, Phase::Opened, None, Severity::Critical);
        record(0, Body::Verdict(Box::new(Verdict { subject, ..pressure })))
    };
    let both = [of(Subject::Process { process }), of(Subject::Destination { destination })];
    let records: Vec<_> = (0..30).flat_map(|_| both.clone()).collect();
    assert_eq!(headings(&batch(&mut text, &records, 5)).len(), 60);
}

#[test]
fn the_service_is_the_listeners_or_the_peers() {
    let whose = |local: &str, remote: &str, began: Option<State>| {
        let (local, remote) = (Some(local.parse().unwrap()), Some(remote.parse().unwrap()));
        let socket = Socket { local, remote, ..nginx() };
        let mut timeline = Timeline::default();
        if let Some(to) = began {
            let what = What::State(StateChange { from: State::CLOSE, to });
            let event = Event {
                what,
                socket: Arc::new(socket.clone()),
                tcp: Tcp::default(),
                replayed: true,
                inferred: false,
            };
            timeline.add(at(0), &event);
        }
        service(&socket, Some(&timeline)).unwrap().port()
    };
    assert_eq!(
        [
            whose("10.0.0.1:50000", "10.0.0.2:60000", Some(State::SYN_SENT)),
            whose("10.0.0.1:50000", "10.0.0.2:60000", Some(State::SYN_RECV)),
            whose("10.0.0.1:50000", "10.0.0.2:443", None),
            whose("10.0.0.1:443", "10.0.0.2:50000", None),
        ],
        [60_000, 50_000, 443, 443]
    );
    let listener = Socket { remote: None, ..nginx() };
    assert_eq!(service(&listener, None), listener.local);
}

#[test]
fn a_crowd_of_any_size_takes_little_memory() {
    let mut text = Text::new(Palette::PLAIN);
    for number in 0..20_000 {
        for record in idle(0, number..number + 1) {
            text.render(&record, None, &mut |text| panic!("nothing is given out before the end: {text}"));
        }
        assert!(text.fold.waiting.len() <= 60);
    }
    assert_eq!(text.fold.waiting.len(), 0);
    let crowds = text.fold.crowds(at(1));
    let told: Vec<_> = crowds.iter().map(|(_, crowd)| (crowd.count, crowd.examples.len())).collect();
    assert_eq!(told, [(20_000, 3)]);
}

#[test]
fn beyond_so_many_services_a_processs_verdicts_are_told_together() {
    let mut text = Text::new(Palette::PLAIN);
    let at_service = |number: u16| {
        let local = Some(SocketAddr::from(([10, 0, 1, 4], 1_000 + number)));
        let socket = Socket { local, ..client(number.into()) };
        let idle = verdict(VerdictName::UnguardedIdle, Phase::Opened, None, Severity::Info);
        record(0, Body::Verdict(Box::new(Verdict { subject: about(socket, Tcp::default()), ..idle })))
    };
    let records: Vec<_> = (0..900).map(at_service).collect();
    let lines = batch(&mut text, &records, 5);
    let headings = headings(&lines);
    assert_eq!(headings.len(), 256 + 1);
    assert!(
        headings[256].contains("nginx[812]  644 at various ends, such as 10.0.1.4:1256"),
        "{}",
        headings[256]
    );
}

#[test]
fn what_cannot_be_folded_does_not_pile_up_until_the_batch_ends() {
    let mut text = Text::new(Palette::PLAIN);
    let mut given_out = 0;
    for number in 0..100_000 {
        let probe = What::Keepalive(crate::record::Keepalive { probe: 2, of: None, next_ms: None });
        text.render(&event(0, number, probe, false), None, &mut |_| given_out += 1);
        assert!(text.fold.texts.len() <= MAX_WAITING_BYTES);
    }
    text.flush(at(1), &mut |_| given_out += 1);
    assert_eq!(given_out, 100_000);
}
