//! Reads what zsock wrote: checks every line and reduces the records of a connection to a list that can be compared whole.

use std::time::Duration;

use serde_json::Value;
use zsock_agent::time::{Time, nanoseconds};

use crate::net::Namespace;
use crate::{again, kernel, patience, unseen};

/// One line of output.
#[derive(Debug)]
pub(crate) struct Line {
    /// The record.
    pub(crate) record: Value,
    /// When the line came.
    pub(crate) arrived: Time,
}

impl Line {
    /// Reads a line. What is no JSON stays a string, for [`Recording::new`] to complain of.
    pub(crate) fn new(line: &str, arrived: Time) -> Self {
        let record = serde_json::from_str(line).unwrap_or_else(|_| Value::from(line));
        Self { record, arrived }
    }

    /// The value at a path such as `socket.pid`.
    pub(crate) fn get(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.record, |value, key| value.get(key))
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.get(path)?.as_str()
    }

    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        self.get(path)?.as_u64()
    }

    /// The number at a path where there has to be one.
    #[track_caller]
    pub(crate) fn figure(&self, path: &str) -> u64 {
        self.number(path).unwrap_or_else(|| panic!("no number {path} in {}", self.record))
    }

    /// The milliseconds at a path where there have to be some.
    #[track_caller]
    pub(crate) fn millis(&self, path: &str) -> Duration {
        Duration::from_millis(self.figure(path))
    }

    /// The record's `ts`.
    #[track_caller]
    pub(crate) fn ts(&self) -> Time {
        self.time("ts")
    }

    /// The time at a path where there has to be one.
    #[track_caller]
    pub(crate) fn time(&self, path: &str) -> Time {
        let time = self.text(path).and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let time = time.unwrap_or_else(|| panic!("no time {path} in {}", self.record));
        Time::from_unix_ns(nanoseconds(time.as_duration().unsigned_abs()))
    }

    /// Whether it is what a pass found, and not what the kernel remembered of the past.
    fn is_of_a_pass(&self) -> bool {
        self.text("type") == Some("sample") && self.get("fact").is_none()
    }

    fn is(&self, path: &str) -> bool {
        self.get(path).and_then(Value::as_bool) == Some(true)
    }

    /// The record as a short line: its type and what tells it from others of that type.
    pub(crate) fn told(&self) -> String {
        let kind = self.text("type").unwrap_or("?");
        let details: &[&str] = match kind {
            "state" => &["from", "to"],
            "retransmit" => &["cause", "fin", "attempt"],
            "keepalive" => &["probe", "of"],
            "keepalive_answered" => &["after_probes"],
            "zero_window_probe" => &["probe"],
            "progress" => &["attempts"],
            "error" | "accept_failed" => &["errno"],
            "closed" => &["peer_closed", "reset", "fd_open"],
            "verdict" => &["verdict", "phase", "outcome"],
            "sample" => &["fact"],
            _ => &[],
        };
        let mut told = kind.to_owned();
        let found = SAMPLED.iter().filter(|(name, _)| kind == "sample" && self.get(name).is_some());
        for (_, word) in found {
            told = format!("{told} {word}");
        }
        for name in details.iter().chain(&["replayed", "inferred"]) {
            match self.get(name) {
                Some(Value::Bool(true)) => told = format!("{told} {name}"),
                Some(Value::String(text)) => told = format!("{told} {text}"),
                Some(Value::Number(number)) => told = format!("{told} {number}"),
                Some(_) | None => {}
            }
        }
        told
    }
}

/// What a pass found of a socket, and the word for it in a story.
const SAMPLED: [(&str, &str); 5] = [
    ("idle_ms", "idle"),
    ("unread_for_ms", "unread"),
    ("half_closed_ms", "half_closed"),
    ("request", "request"),
    ("accept_queue", "accept_queue"),
];

/// All that one run of zsock wrote, each line found to be in order.
pub(crate) struct Recording {
    lines: Vec<Line>,
}

impl Recording {
    /// Checks that each line is a record of schema 1, that `start` comes first and `end` last, and once each.
    pub(crate) fn new(lines: Vec<Line>) -> Self {
        unseen::note(&lines);
        for line in &lines {
            assert_eq!(line.number("schema"), Some(1), "schema of {}", line.record);
            assert!(line.text("type").is_some_and(|kind| !kind.is_empty()), "type of {}", line.record);
            assert!(line.text("host").is_some_and(|host| !host.is_empty()), "host of {}", line.record);
            assert!(line.text("ts").is_some_and(|ts| ts.ends_with('Z')), "ts of {}", line.record);
            line.ts();
        }
        let places = |kind| {
            let lines = lines.iter().enumerate();
            lines
                .filter(|(_, line)| line.text("type") == Some(kind))
                .map(|(place, _)| place)
                .collect::<Vec<_>>()
        };
        assert_eq!(places("start"), [0], "places of the start records");
        assert_eq!(places("end"), [lines.len() - 1], "places of the end records");
        kernel::note(&lines[0]);
        Self { lines }
    }

    /// The same, after checking that nothing was lost and that the verdicts follow from the other records.
    pub(crate) fn complete(self) -> Self {
        assert_eq!(self.end().number("lost_events"), Some(0), "in {}", self.end().record);
        assert_eq!(self.of_type("lost").count(), 0, "lost records");
        again::assert_judged_alike(&self.lines);
        again::assert_reported_alike(&self.lines);
        self
    }

    /// The same beside other zsocks: while one starts, the kernel skips runs of the others' programs now and then.
    pub(crate) fn complete_beside_others(self) -> Self {
        let lost = self.of_type("lost").filter(|line| line.text("where") != Some("hook"));
        assert_eq!(lost.count(), 0, "lost records");
        again::assert_judged_alike(&self.lines);
        again::assert_reported_alike(&self.lines);
        self
    }

    /// How many records were lost at a place, as `lost` tells it.
    pub(crate) fn lost_at(&self, place: &str) -> u64 {
        let lost = self.of_type("lost").filter(|line| line.text("where") == Some(place));
        lost.map(|line| line.figure("count")).sum()
    }

    /// How many lines there are.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter()
    }

    pub(crate) fn end(&self) -> &Line {
        self.lines.last().expect("a recording has a start and an end")
    }

    pub(crate) fn of_type<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.text("type") == Some(kind))
    }

    /// All records of sockets in a namespace.
    pub(crate) fn of_namespace(&self, namespace: &Namespace) -> Connection<'_> {
        let inode = namespace.inode();
        Connection {
            lines: self.lines.iter().filter(|line| line.number("socket.netns") == Some(inode)).collect(),
        }
    }

    /// The records of the connection in `namespace` whose socket's own port is `port`, listeners aside.
    pub(crate) fn of_local_port(&self, namespace: &Namespace, port: u16) -> Connection<'_> {
        self.of_port(namespace, "socket.local", port)
    }

    /// The records of the connection in `namespace` whose peer's port is `port`.
    pub(crate) fn of_remote_port(&self, namespace: &Namespace, port: u16) -> Connection<'_> {
        self.of_port(namespace, "socket.remote", port)
    }

    /// The records of the listener in `namespace` on `port`.
    pub(crate) fn of_listener(&self, namespace: &Namespace, port: u16) -> Connection<'_> {
        let mut all = self.of_port(namespace, "socket.local", port);
        all.lines.retain(|line| line.get("socket.remote").is_none());
        all
    }

    /// The records of a process itself, those of its sockets aside.
    pub(crate) fn of_process(&self, pid: u32) -> Connection<'_> {
        let is_of = |line: &&Line| line.number("process.pid") == Some(u64::from(pid));
        Connection { lines: self.lines.iter().filter(is_of).collect() }
    }

    /// The records of a destination, such as `10.77.2.2:5432`.
    pub(crate) fn of_destination(&self, destination: &str) -> Connection<'_> {
        let is_of = |line: &&Line| line.text("destination") == Some(destination);
        Connection { lines: self.lines.iter().filter(is_of).collect() }
    }

    /// A socket has no port yet when it is first heard of, so its id is what its records have in common.
    fn of_port(&self, namespace: &Namespace, end: &str, port: u16) -> Connection<'_> {
        let all = self.of_namespace(namespace);
        let suffix = format!(":{port}");
        let has_port = |line: &&&Line| line.text(end).is_some_and(|address| address.ends_with(&suffix));
        let ids: Vec<_> = all.lines.iter().filter(has_port).map(|line| line.text("socket.id")).collect();
        let lines = all.lines.into_iter().filter(|line| ids.contains(&line.text("socket.id"))).collect();
        Connection { lines }
    }
}

/// Records that belong together, in the order in which they were written.
pub(crate) struct Connection<'a> {
    pub(crate) lines: Vec<&'a Line>,
}

impl<'a> Connection<'a> {
    /// Each record as a short line.
    ///
    /// What follows the change to `CLOSE` belongs to that one moment, and the contract sets no order within it: sorted.
    /// So is what zsock concluded at its start of the time before.
    /// Updates of verdicts may come or not, so they are left out; so are samples that a pass happened to take, but for those
    /// that made zsock judge.
    pub(crate) fn story(&self) -> Vec<String> {
        let lines: Vec<_> = self.lines.iter().filter(|line| line.text("phase") != Some("updated")).collect();
        let judged = lines.iter().skip(1).map(|line| line.text("type") == Some("verdict")).chain([false]);
        let told = lines.iter().zip(judged).filter(|(line, judged)| *judged || !line.is_of_a_pass());
        let mut told: Vec<String> = told.map(|(line, _)| line.told()).collect();
        let concluded = told.iter().take_while(|line| line.ends_with(" inferred")).count();
        told[..concluded].sort();
        let is_end = |line: &String| line.starts_with("state ") && line.ends_with(" CLOSE");
        if let Some(end) = told.iter().position(is_end) {
            told[end + 1..].sort();
        }
        told
    }

    /// Compares the whole list.
    #[track_caller]
    pub(crate) fn assert_story(&self, expected: &[impl AsRef<str>]) {
        let expected: Vec<&str> =
            expected.iter().map(AsRef::as_ref).filter(|line| kernel::tells(line)).collect();
        let told = self.story();
        let found: Vec<&str> = told.iter().map(String::as_str).collect();
        let [wanted, got] = [&expected, &found].map(|lines| lines.join("\n    "));
        assert!(found == expected, "expected\n    {wanted}\nbut zsock told\n    {got}");
    }

    /// The only record that is told like this.
    #[track_caller]
    pub(crate) fn only(&self, told: &str) -> &'a Line {
        let found: Vec<_> = self.lines.iter().filter(|line| line.told() == told).collect();
        assert_eq!(found.len(), 1, "records {told:?} in {:#?}", self.story());
        found[0]
    }

    /// The records up to the one that is told like this.
    #[track_caller]
    pub(crate) fn until(&self, told: &str) -> Self {
        let last = self.lines.iter().position(|line| line.told() == told);
        let last = last.unwrap_or_else(|| panic!("no {told:?} in {:#?}", self.story()));
        Self { lines: self.lines[..=last].to_vec() }
    }

    /// The records of one verdict.
    pub(crate) fn of_verdict(&self, name: &str) -> Self {
        let is_of = |line: &&&Line| line.text("verdict") == Some(name);
        Self { lines: self.lines.iter().filter(is_of).copied().collect() }
    }

    pub(crate) fn of_type(&self, kind: &str) -> Vec<&'a Line> {
        self.lines.iter().filter(|line| line.text("type") == Some(kind)).copied().collect()
    }

    /// Checks that the earlier state records come first, are the only ones replayed and bear times in order, and that
    /// the last of them happened just before `established`, when the peer learnt that it is connected.
    #[track_caller]
    pub(crate) fn assert_replayed_first(&self, established: Time) {
        let replayed: Vec<_> = self.lines.iter().take_while(|line| line.is("replayed")).collect();
        assert!(self.lines[replayed.len()..].iter().all(|line| !line.is("replayed")), "{:#?}", self.story());
        assert!(self.lines.is_sorted_by_key(|line| line.ts()), "times out of order in {:#?}", self.lines);
        let connected = replayed.iter().find(|line| line.text("to") == Some("ESTABLISHED"));
        let connected = connected.unwrap_or_else(|| panic!("no birth in {:#?}", self.story()));
        assert_at("time of the replayed record", connected.ts(), established, Duration::from_millis(200));
    }
}

/// Checks that a moment is right within a tolerance, which on a slow machine is as many times larger: the test's own clock readings
/// come late there.
#[track_caller]
pub(crate) fn assert_at(what: &str, found: Time, expected: Time, tolerance: Duration) {
    let tolerance = patience(tolerance);
    let off = found.since(expected).max(expected.since(found));
    assert!(
        off <= tolerance,
        "{what}: {found:?} instead of {expected:?}, {off:?} off, {tolerance:?} allowed"
    );
}

/// Checks that a duration is right within a tolerance; see [`assert_at`].
#[track_caller]
pub(crate) fn assert_near(what: &str, found: Duration, expected: Duration, tolerance: Duration) {
    let tolerance = patience(tolerance);
    let off = found.abs_diff(expected);
    assert!(
        off <= tolerance,
        "{what}: {found:?} instead of {expected:?}, {off:?} off, {tolerance:?} allowed"
    );
}
