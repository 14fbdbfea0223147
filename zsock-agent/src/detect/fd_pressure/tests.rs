//! The stories of nginx (pid 812), which may open 1,000 files unless told otherwise.

use crate::detect::Thresholds;
use crate::detect::story::{
    details, event, expected, findings, findings_with, look, lost, on, orphaned, resent, shed, timed_out,
    verdict, verdicts, with, words_of,
};
use crate::engine::Finding;
use crate::record::{
    AcceptFailed, Body, Errno, Event, PeerSockets, Process, ProcessSample, Record, Severity, SocketId, State,
    Subject, What,
};

fn nginx() -> Process {
    Process { pid: 812, comm: Some("nginx".into()), comm_hex: None, cgroup: None, container: None }
}

/// So many descriptors are open, all of them sockets but ten.
fn open(open_fds: u64) -> ProcessSample {
    ProcessSample {
        process: nginx(),
        open_fds: Some(open_fds),
        limit: Some(1_000),
        socket_fds: Some(open_fds - 10),
        dead_fds: Some(0),
        growth_per_minute: None,
        peers: Vec::new(),
        exited: false,
    }
}

fn exited() -> ProcessSample {
    ProcessSample { open_fds: None, limit: None, socket_fds: None, dead_fds: None, exited: true, ..open(10) }
}

fn sampled(ms: u64, sample: ProcessSample) -> Record {
    Record { body: Body::Process(Box::new(sample)), ..lost(ms, 0) }
}

/// Accepting from the listener fails; it is `caller`'s who called, nginx itself where there is none.
fn failed(ms: u64, errno: &'static str, caller: Option<Process>) -> Record {
    let process = caller.map(Box::new);
    let mut failed =
        event(What::AcceptFailed(AcceptFailed { errno: Errno::named(errno), count: 1, process }));
    failed.socket_mut().comm = Some("nginx".into());
    failed.socket_mut().remote = None;
    failed.tcp.state = Some(State::LISTEN);
    on(ms, failed)
}

fn socket_of(id: u64, pid: u32, mut event: Event) -> Event {
    event.socket_mut().id = SocketId(id);
    event.socket_mut().pid = Some(pid);
    event
}

fn severities(records: &[Record]) -> Vec<Severity> {
    findings(records).iter().map(|finding| verdict(finding).severity).collect()
}

#[test]
fn it_opens_at_80_percent_and_not_at_79() {
    let records = [sampled(0, open(790)), sampled(1_000, open(799)), sampled(2_000, open(800))];
    assert_eq!(verdicts(&records), expected([(2_000, "fd_pressure opened")]));
    assert_eq!(severities(&records), [Severity::Warning]);
    let earlier = Thresholds { fd_pressure_percent: 79, ..Thresholds::default() };
    assert_eq!(words_of(&findings_with(earlier, &records)), expected([(0, "fd_pressure opened")]));
}

#[test]
fn it_is_relieved_five_points_below_the_threshold() {
    let records = [
        sampled(0, open(810)),
        sampled(1_000, open(760)),
        sampled(2_000, open(751)),
        sampled(9_000, open(740)),
        sampled(10_000, open(790)),
        sampled(11_000, open(800)),
    ];
    assert_eq!(
        verdicts(&records),
        expected([
            (0, "fd_pressure opened"),
            (9_000, "fd_pressure closed relieved"),
            (11_000, "fd_pressure opened")
        ])
    );
    assert_eq!(
        details(&findings(&records)[1]),
        (
            0,
            r#"{"limit":1000,"open_fds":740,"socket_fds":730,"zombie_fds":0}"#.to_owned(),
            "the shortage of file descriptors of nginx (pid 812) ended after 9.0 s: it uses 740 of 1000"
                .to_owned()
        )
    );
}

#[test]
fn it_says_so_when_many_of_its_sockets_come_under_a_verdict() {
    let stuck = |ms: u64, id: u64| {
        let mut event = with(resent(4), |tcp| tcp.state = Some(State::ESTABLISHED));
        event.socket_mut().id = SocketId(id);
        event.socket_mut().comm = Some("nginx".into());
        on(ms, event)
    };
    let sockets = (1..=100).map(|id| stuck(1_000 + id, id));
    let records: Vec<_> = [sampled(0, open(810))].into_iter().chain(sockets).collect();
    let is_about_a_process = |finding: &&Finding| matches!(verdict(finding).subject, Subject::Process { .. });
    let told: Vec<_> = findings(&records).iter().filter(is_about_a_process).map(details).collect();
    let zombies = |evidence: &str| evidence.split("\"zombie_fds\":").nth(1).map(str::to_owned);
    assert_eq!(
        told.iter().map(|(_, evidence, _)| zombies(evidence)).collect::<Vec<_>>(),
        [Some("0}".to_owned()), Some("100}".to_owned())]
    );
}

#[test]
fn it_ends_with_the_process_and_the_last_numbers() {
    let records = [sampled(0, open(900)), sampled(60_000, exited()), sampled(61_000, exited())];
    let findings = findings(&records);
    assert_eq!(
        words_of(&findings),
        expected([(0, "fd_pressure opened"), (60_000, "fd_pressure closed exited")])
    );
    assert_eq!(
        details(&findings[1]),
        (
            0,
            r#"{"limit":1000,"open_fds":900,"socket_fds":890,"zombie_fds":0}"#.to_owned(),
            "the shortage of file descriptors of nginx (pid 812) ended after 1 min 0 s: the process ended"
                .to_owned()
        )
    );
}

#[test]
fn it_says_how_many_are_what_when_none_is_left_and_what_to_change() {
    let growing = ProcessSample { dead_fds: Some(12), growth_per_minute: Some(60), ..open(820) };
    let findings = findings(&[sampled(5_000, growing)]);
    assert_eq!(verdict(&findings[0]).subject, Subject::Process { process: nginx() });
    assert_eq!(
        details(&findings[0]),
        (
            5_000,
            r#"{"full_in_ms":180000,"growth_per_minute":60,"limit":1000,"open_fds":820,"socket_fds":810,"zombie_fds":12}"#.to_owned(),
            "nginx (pid 812) uses 820 of the 1000 file descriptors that it may open (82 %), 810 of them sockets, 12 of these dead or stuck; \
             at this rate none is left in 3 min 0 s"
                .to_owned()
        )
    );
    assert_eq!(
        verdict(&findings[0]).advice,
        [
            "raise its soft limit of open files from 1000 to 2048: at once with `prlimit --pid 812 --nofile=2048:`, for good with `ulimit -Sn \
             2048` where it is started or LimitNOFILE=2048:HARD in its unit, HARD being its hard limit",
            "make nginx (pid 812) close the 12 sockets that are dead or stuck: its other verdicts and the closed records with fd_open name \
             them",
            "close connections that idle, and bound its pools: a leak fills any limit",
        ]
    );
}

#[test]
fn what_does_not_grow_or_is_full_has_no_time_left_to_tell() {
    for (open_fds, growth) in [(820, 0), (820, -60), (1_000, 60), (1_010, 60)] {
        let sample = ProcessSample { growth_per_minute: Some(growth), ..open(open_fds) };
        let findings = findings(&[sampled(0, sample)]);
        assert!(!verdict(&findings[0]).evidence.contains_key("full_in_ms"), "{open_fds} {growth}");
    }
}

#[test]
fn a_failed_accept_makes_it_critical_at_that_instant_and_names_who_holds_most() {
    let peers = [("10.0.0.7", 31), ("2001:db8::1", 4)];
    let peers = peers.map(|(remote, sockets)| PeerSockets { remote: remote.parse().unwrap(), sockets });
    let full = ProcessSample { peers: peers.into(), limit: Some(40), ..open(40) };
    let records = [
        sampled(0, ProcessSample { limit: Some(40), ..open(33) }),
        sampled(900, full),
        failed(900, "EMFILE", None),
        failed(1_900, "EMFILE", None),
    ];
    let findings = findings(&records);
    assert_eq!(
        words_of(&findings),
        expected([(0, "fd_pressure opened"), (900, "fd_pressure updated"), (900, "fd_pressure updated")])
    );
    assert_eq!(severities(&records), [Severity::Warning, Severity::Warning, Severity::Critical]);
    assert_eq!(
        details(&findings[2]),
        (
            0,
            r#"{"errno":"EMFILE","limit":40,"open_fds":40,"peers":[{"remote":"10.0.0.7","sockets":31},{"remote":"2001:db8::1","sockets":4}],"socket_fds":30,"zombie_fds":0}"#
                .to_owned(),
            "nginx (pid 812) could not accept a connection (EMFILE) for want of a file descriptor: it uses 40 of the 40 file descriptors \
             that it may open (100 %), 30 of them sockets"
                .to_owned()
        )
    );
    assert_eq!(
        verdict(&findings[2]).advice[1],
        "look at the peers that hold most of its sockets: 10.0.0.7 (31), 2001:db8::1 (4)"
    );
}

#[test]
fn a_failed_accept_is_enough_and_it_is_the_callers() {
    let worker = Process { pid: 900, ..nginx() };
    let records = [failed(0, "EMFILE", Some(worker.clone())), failed(5, "EMFILE", None)];
    let findings = findings(&records);
    assert_eq!(words_of(&findings), expected([(0, "fd_pressure opened"), (5, "fd_pressure opened")]));
    assert_eq!(verdict(&findings[0]).subject, Subject::Process { process: worker });
    assert_eq!(verdict(&findings[1]).subject, Subject::Process { process: nginx() });
    assert_eq!(
        details(&findings[0]),
        (
            0,
            r#"{"errno":"EMFILE"}"#.to_owned(),
            "nginx (pid 900) could not accept a connection (EMFILE) for want of a file descriptor".to_owned()
        )
    );
}

#[test]
fn an_accept_that_fails_for_want_of_memory_or_long_ago_is_another_story() {
    let mut past = failed(0, "EMFILE", None);
    if let Body::Event(event) = &mut past.body {
        event.replayed = true;
    }
    assert_eq!(verdicts(&[failed(0, "ENOBUFS", None), failed(1, "ENOMEM", None), past]), expected([]));
}

#[test]
fn after_a_failed_accept_room_is_relief() {
    let records = [
        sampled(0, open(1_000)),
        failed(0, "EMFILE", None),
        sampled(1_000, open(990)),
        sampled(2_000, open(500)),
        failed(2_900, "EMFILE", None),
        failed(4_000, "EMFILE", None),
    ];
    assert_eq!(
        verdicts(&records),
        expected([
            (0, "fd_pressure opened"),
            (0, "fd_pressure updated"),
            (2_000, "fd_pressure closed relieved"),
            (4_000, "fd_pressure opened")
        ]),
        "what is told within two seconds may have been before the relief"
    );
}

#[test]
fn failures_told_after_the_end_of_the_process_open_nothing() {
    let records = [
        failed(0, "EMFILE", None),
        sampled(500, exited()),
        failed(1_040, "EMFILE", None),
        sampled(9_000, ProcessSample { process: Process { pid: 7, ..nginx() }, ..exited() }),
        failed(9_000, "EMFILE", Some(Process { pid: 7, ..nginx() })),
    ];
    assert_eq!(verdicts(&records), expected([(0, "fd_pressure opened"), (500, "fd_pressure closed exited")]));
}

#[test]
fn a_process_keeps_its_control_group_to_the_end() {
    let group = |cgroup: Option<&str>| Process { cgroup: cgroup.map(Into::into), ..nginx() };
    let records = [
        sampled(0, ProcessSample { process: group(Some("/web")), ..open(900) }),
        sampled(1, ProcessSample { process: group(None), ..exited() }),
    ];
    let subject = &verdict(&findings(&records)[1]).subject.clone();
    assert_eq!(*subject, Subject::Process { process: group(Some("/web")) });
}

#[test]
fn a_full_table_of_the_host_is_over_when_no_accept_has_failed_for_ten_seconds() {
    let records = [
        failed(0, "ENFILE", None),
        sampled(1_000, open(30)),
        failed(2_000, "ENFILE", None),
        sampled(11_900, open(30)),
        sampled(12_000, open(30)),
    ];
    let findings = findings(&records);
    assert_eq!(
        words_of(&findings),
        expected([
            (0, "fd_pressure opened"),
            (1_000, "fd_pressure updated"),
            (12_000, "fd_pressure closed relieved")
        ]),
        "told again with the first numbers"
    );
    let told = verdict(&findings[0]);
    assert_eq!(
        (told.summary.as_str(), told.advice[0].as_str()),
        (
            "nginx (pid 812) could not accept a connection (ENFILE): the host's table of open files is full",
            "raise fs.file-max; `sysctl fs.file-nr` shows how many files the host has open and that maximum"
        )
    );
}

#[test]
fn where_failures_are_told_no_longer_a_full_table_is_not_taken_to_be_over() {
    let records = [failed(0, "ENFILE", None), shed(1_000, "accept_failed", &["accept_failed"])];
    let sampled = [sampled(20_000, open(30)), sampled(90_000, open(30)), sampled(91_000, exited())];
    let told = verdicts(&[&records[..], &sampled].concat());
    let ends: Vec<_> = told.iter().filter(|(_, words)| words.contains("closed")).cloned().collect();
    assert_eq!(ends, expected([(91_000, "fd_pressure closed exited")]));
}

#[test]
fn it_is_told_again_when_ten_points_more_are_in_use() {
    let samples = [810, 830, 909, 910, 950, 1_000].map(open);
    let records: Vec<_> = (0..).zip(samples).map(|(s, sample)| sampled(s * 1_000, sample)).collect();
    assert_eq!(
        verdicts(&records),
        expected([(0, "fd_pressure opened"), (3_000, "fd_pressure updated")]),
        "9 more are not 10"
    );
}

#[test]
fn a_process_whose_files_are_the_trouble_is_not_accused_before_an_accept_fails() {
    let sockets = |socket_fds| ProcessSample { socket_fds: Some(socket_fds), ..open(900) };
    assert_eq!(verdicts(&[sampled(0, sockets(89))]), expected([]));
    assert_eq!(verdicts(&[sampled(0, sockets(90))]), expected([(0, "fd_pressure opened")]));
    let failing = [sampled(0, sockets(89)), failed(1, "EMFILE", None)];
    assert_eq!(verdicts(&failing), expected([(1, "fd_pressure opened")]));
}

#[test]
fn its_zombies_are_the_dead_and_the_stuck_and_no_socket_twice() {
    let dead = ProcessSample { dead_fds: Some(2), ..open(900) };
    let records = [
        on(0, socket_of(1, 812, resent(4))),
        on(0, socket_of(2, 812, resent(4))),
        on(0, socket_of(3, 812, look())),
        on(0, socket_of(4, 900, resent(4))),
        on(0, orphaned(socket_of(5, 812, resent(4)))),
        on(1, socket_of(1, 812, timed_out())),
        sampled(2, dead),
    ];
    let findings = findings(&records);
    let zombies = &verdict(findings.last().unwrap()).evidence["zombie_fds"];
    assert_eq!(*zombies, 3, "the two dead ones, whichever they are, and socket 2");
}

#[test]
fn what_is_unknown_is_left_out() {
    let bare = ProcessSample { limit: Some(1_000), open_fds: Some(900), ..exited() };
    let bare = ProcessSample { exited: false, process: Process { comm: None, ..nginx() }, ..bare };
    let findings = findings(&[sampled(0, bare)]);
    assert_eq!(
        details(&findings[0]),
        (
            0,
            r#"{"limit":1000,"open_fds":900}"#.to_owned(),
            "process 812 uses 900 of the 1000 file descriptors that it may open (90 %)".to_owned()
        )
    );
    let limit_unknown = ProcessSample { limit: None, ..open(900) };
    assert_eq!(verdicts(&[sampled(0, limit_unknown)]), expected([]));
}

#[test]
fn a_name_cannot_move_the_cursor() {
    let hostile = Process { comm: Some("a\u{1b}[2J".into()), ..nginx() };
    let sample = ProcessSample { process: hostile, dead_fds: Some(1), ..open(900) };
    let records = [sampled(0, sample.clone()), sampled(1, ProcessSample { exited: true, ..sample })];
    for finding in findings(&records) {
        let told = verdict(&finding);
        assert!(told.summary.contains("a\\u{1b}[2J (pid 812)"), "{}", told.summary);
        assert!(!told.advice.join("").contains('\u{1b}'), "{:?}", told.advice);
    }
}

#[test]
fn extreme_numbers_are_taken() {
    let extreme = ProcessSample {
        open_fds: Some(u64::MAX),
        limit: Some(u64::MAX),
        socket_fds: Some(u64::MAX),
        dead_fds: Some(u64::MAX),
        growth_per_minute: Some(i64::MIN),
        ..open(10)
    };
    let none_allowed = ProcessSample { limit: Some(0), process: Process { pid: 1, ..nginx() }, ..open(99) };
    let records = [sampled(0, extreme), sampled(1, none_allowed)];
    assert_eq!(verdicts(&records), expected([(0, "fd_pressure opened"), (1, "fd_pressure opened")]));
}

#[test]
fn loss_in_the_middle_is_said_and_nothing_else_changes() {
    let records = [sampled(0, open(790)), lost(500, 12), sampled(1_000, open(800))];
    let findings = findings(&records);
    assert_eq!(words_of(&findings), expected([(1_000, "fd_pressure opened")]));
    assert_eq!(
        details(&findings[0]).1,
        r#"{"limit":1000,"lost_before":12,"open_fds":800,"socket_fds":790,"zombie_fds":0}"#
    );
}
