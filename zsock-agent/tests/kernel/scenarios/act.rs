//! `zsock keepalive` and `zsock kill` on sockets of other processes, and what these notice of it.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use zsock_agent::time::Time;

use super::{Client, Pair, echo_server};
use crate::net::{Ip, Net};
use crate::peer::Peer;
use crate::proc::{await_accept_queue, await_gone};
use crate::story::{Line, assert_near};
use crate::zsock::{is_left_out, program};
use crate::{await_some, now, patience};

/// How long anything may take before a scenario gives up on it. No claim: the machine may be slow.
const LIMIT: Duration = Duration::from_secs(30);

/// What a socket's own process reads of its settings where nobody set any.
const UNTOUCHED: &str = "false,7200000,75000,9,0";

/// What a command did.
pub(super) struct Ended {
    status: Option<i32>,
    lines: Vec<Line>,
    said: String,
}

impl Ended {
    /// The actions: what came of each, and whose socket it is.
    fn outcomes(&self) -> Vec<(&str, &str)> {
        let of = |line| {
            let text = |path| Line::text(line, path).unwrap_or("-");
            (text("outcome"), text("socket.comm"))
        };
        self.actions().map(of).collect()
    }

    fn actions(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.text("type") == Some("action"))
    }

    /// The only action.
    #[track_caller]
    pub(super) fn only(&self) -> &Line {
        let actions: Vec<_> = self.actions().collect();
        let [only] = actions[..] else {
            panic!("{:?} and not one action; it said {}", self.outcomes(), self.said)
        };
        only
    }
}

/// Runs `zsock` with these arguments, in JSON; `None` in a dry run.
pub(super) fn zsock(arguments: &[&str]) -> Option<Ended> {
    zsock_with(arguments, Stdio::null())
}

fn zsock_with(arguments: &[&str], stdin: Stdio) -> Option<Ended> {
    if is_left_out() {
        return None;
    }
    let output = Command::new(program()).args(arguments).args(["-o", "json"]).stdin(stdin).output();
    let output = output.expect("zsock was built with this test");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(Ended { status: output.status.code(), lines: lines(&output.stdout), said })
}

fn lines(stdout: &[u8]) -> Vec<Line> {
    let lines: Vec<Line> =
        String::from_utf8_lossy(stdout).lines().map(|line| Line::new(line, now())).collect();
    for line in &lines {
        assert_eq!(line.number("schema"), Some(1), "schema of {}", line.record);
        line.ts();
    }
    lines
}

/// The settings at `path` of a record as a peer tells its own.
pub(super) fn settings(line: &Line, path: &str) -> String {
    let of = |name: &str| line.number(&format!("{path}.{name}"));
    let enabled = line.get(&format!("{path}.keepalive.enabled")).and_then(serde_json::Value::as_bool);
    let known = |value: Option<u64>| value.unwrap_or_else(|| panic!("no {path} in {}", line.record));
    let [idle, interval, probes] =
        ["keepalive.idle_ms", "keepalive.interval_ms", "keepalive.probes"].map(|name| known(of(name)));
    let user_timeout = of("user_timeout_ms").unwrap_or(0);
    format!("{},{idle},{interval},{probes},{user_timeout}", enabled.expect("known with the others"))
}

fn own_settings(peer: &mut Peer) -> String {
    peer.ask("settings").expect("settings").to_owned()
}

/// Options, and what a socket that nobody had set comes to by them.
const SETTINGS: [(&[&str], &str); 7] = [
    (&["--idle", "60s", "--interval", "10s", "--probes", "6"], "true,60000,10000,6,0"),
    (&["--idle", "32767s"], "true,32767000,75000,9,0"),
    (&["--interval", "1s"], "true,7200000,1000,9,0"),
    (&["--probes", "127"], "true,7200000,75000,127,0"),
    (&["--user-timeout", "1500ms"], "false,7200000,75000,9,1500"),
    (&["--probes", "1", "--user-timeout", "2147483647ms"], "true,7200000,75000,1,2147483647"),
    (&["--off"], UNTOUCHED),
];

pub(super) fn what_is_set_is_what_the_process_reads() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    for (ip, (options, expected)) in [Ip::V4, Ip::V6, Ip::Mapped].into_iter().cycle().zip(SETTINGS) {
        let mut client = Peer::start(&net.client, "settable");
        client.connect(&ip.server(server_port));
        let pid = client.pid().to_string();
        let arguments = [&["keepalive", "--pid", &pid], options].concat();

        let Some(would) = zsock(&arguments) else { continue };
        assert_eq!(
            (would.status, would.outcomes()),
            (Some(0), vec![("would", "settable")]),
            "{}",
            would.said
        );
        assert_eq!(settings(would.only(), "before"), UNTOUCHED, "{options:?}");
        assert_eq!(settings(would.only(), "after"), expected, "{options:?}");
        assert_eq!(own_settings(&mut client), UNTOUCHED, "nothing is set without --yes");

        let done = zsock(&[&*arguments, &["--yes"]].concat()).expect("this is no dry run");
        assert_eq!((done.status, done.outcomes()), (Some(0), vec![("done", "settable")]), "{}", done.said);
        assert_eq!(settings(done.only(), "before"), UNTOUCHED, "{options:?}");
        assert_eq!(settings(done.only(), "after"), expected, "{options:?}");
        assert_eq!(own_settings(&mut client), expected, "{options:?}");
        client.exchange();

        let off = ["keepalive", "--pid", &*pid, "--off", "--user-timeout", "off", "--yes"];
        let off = zsock(&off).expect("this is no dry run");
        assert_eq!(settings(off.only(), "before"), expected);
        assert_eq!(settings(off.only(), "after"), own_settings(&mut client));
        assert!(own_settings(&mut client).starts_with("false,") && own_settings(&mut client).ends_with(",0"));
    }
}

/// It had been silent for longer than the new idle time, so the first probe goes out at once, and the second and the end follow each after
/// the new interval.
pub(super) fn a_death_that_nothing_would_notice_is_noticed() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let mut client = Client::connect(&net, "unguarded", &Ip::V4.server(server_port));
    net.block();
    client.peer.tell("read 1");
    sleep(Duration::from_secs(2));
    let pid = client.peer.pid().to_string();
    let arguments =
        ["keepalive", "--pid", &pid, "--idle", "1s", "--interval", "1s", "--probes", "2", "--yes"];
    let Some(set) = zsock(&arguments) else { return };
    let at = set.only().ts();
    let reply = client.peer.reply();
    assert_eq!(reply.expect("error"), "ETIMEDOUT");
    assert_near("death", reply.at.since(at), Duration::from_secs(2), Duration::from_millis(300));
}

/// Of a connection that has just heard from its peer the first probe is due after the idle time.
pub(super) fn the_first_probe_comes_when_the_new_settings_say() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let mut client = Client::connect(&net, "unguarded", &Ip::V4.server(server_port));
    sleep(Duration::from_secs(1));
    let heard = client.peer.exchange();
    net.block();
    client.peer.tell("read 1");
    let pid = client.peer.pid().to_string();
    let arguments =
        ["keepalive", "--pid", &pid, "--idle", "9s", "--interval", "1s", "--probes", "1", "--yes"];
    let Some(set) = zsock(&arguments) else { return };
    assert!(set.only().ts() < heard.after(Duration::from_secs(8)), "too late to tell: {}", set.said);
    let reply = client.peer.reply();
    assert_eq!(reply.expect("error"), "ETIMEDOUT");
    assert_near("death", reply.at.since(heard), Duration::from_secs(10), Duration::from_millis(400));
}

pub(super) fn the_traps_are_told_where_they_apply() {
    let net = Net::routed();
    let mut pair = Pair::connect(&net, "trapped", "reader");
    let pid = pair.client.pid().to_string();
    let keepalive = ["keepalive", "--pid", &pid, "--idle", "60s", "--interval", "10s", "--probes", "6"];
    let Some(quiet) = zsock(&keepalive) else { return };
    assert_eq!((quiet.only().get("warnings"), quiet.said.as_str()), (None, ""));

    net.block();
    pair.client.ask("write 100").expect("wrote");
    let told = zsock(&[&keepalive[..], &["--user-timeout", "30s"]].concat()).expect("this is no dry run");
    let warnings = told.only().get("warnings").and_then(serde_json::Value::as_array).expect("there are some");
    let expected = [
        "overrides the number of probes: a silent peer is given up after 1 min 10 s",
        "keeps its window closed for 30 s",
        "until it is acknowledged keepalive does nothing, and the user timeout of 30 s ends the connection",
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
    for (warning, expected) in warnings.iter().filter_map(serde_json::Value::as_str).zip(expected) {
        assert!(warning.ends_with(expected), "{warning}");
        assert!(told.said.contains(&format!("1 socket: {warning}")), "{}", told.said);
    }
}

pub(super) fn one_of_two_threads_that_hang_is_freed() {
    let net = Net::routed();
    let (mut server, server_port) = echo_server(&net);
    for ip in [Ip::V4, Ip::V6, Ip::Mapped] {
        let [mut hung, mut spared] = ["hung", "spared"].map(|name| Peer::start(&net.client, name));
        let [port, _] = [&mut hung, &mut spared].map(|client| client.connect(&ip.server(server_port)));
        let end = format!(":{port}");
        let netns = net.client.inode().to_string();
        let arguments = ["kill", "--local", &*end, "--netns", &netns];

        let Some(would) = zsock(&arguments) else { continue };
        assert_eq!((would.status, would.outcomes()), (Some(0), vec![("would", "hung")]), "{}", would.said);
        hung.exchange();
        hung.tell("read 1");
        let done = zsock(&[&arguments[..], &["--yes"]].concat()).expect("this is no dry run");
        assert_eq!((done.status, done.outcomes()), (Some(0), vec![("done", "hung")]), "{}", done.said);
        let state = |path| done.only().text(path).unwrap_or("-");
        assert_eq!((state("before.state"), state("after.state")), ("ESTABLISHED", "CLOSE"));
        assert_eq!(hung.reply().expect("error"), "ECONNABORTED");
        await_gone(&net.client, port);
        spared.exchange();
    }
    server.exit();
}

/// Two networks alike, down to the ports: only the namespace and the cookie tell the connections apart.
pub(super) fn of_two_namespaces_the_one_that_is_named() {
    let [one, other] = [Net::routed(), Net::routed()];
    let clients = [&one, &other].map(|net| {
        let mut server = Peer::start(&net.server, "same-port");
        server.ask("listen 7007").expect("listening");
        server.ask("serve").expect("serving");
        let mut client = Peer::start(&net.client, "same-client");
        client.connect(&Ip::V4.server(7007));
        (server, client)
    });
    let [(_server, mut hung), (_other_server, mut spared)] = clients;
    let netns = one.client.inode().to_string();
    hung.tell("read 1");
    let Some(done) = zsock(&["kill", "--remote", "10.77.2.2:7007", "--netns", &netns, "--yes"]) else {
        return;
    };
    assert_eq!((done.status, done.outcomes()), (Some(0), vec![("done", "same-client")]), "{}", done.said);
    assert_eq!(done.only().number("socket.netns"), Some(one.client.inode()));
    assert_eq!(hung.reply().expect("error"), "ECONNABORTED");
    spared.exchange();

    let pid = spared.pid().to_string();
    let set = zsock(&["keepalive", "--pid", &pid, "--idle", "9s", "--yes"]).expect("this is no dry run");
    assert_eq!((set.status, set.outcomes()), (Some(0), vec![("done", "same-client")]), "{}", set.said);
    assert_eq!(own_settings(&mut spared), "true,9000,75000,9,0");
}

/// Neither for too many, nor by a verdict that does not hold, nor what listens, until it is named.
pub(super) fn what_is_not_meant_is_left_alone() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let mut clients =
        ["first", "second", "third"].map(|name| Client::connect(&net, name, &Ip::V4.server(server_port)));
    let (port, netns) = (server_port.to_string(), net.server.inode().to_string());
    let selector = ["--port", &port, "--netns", &netns];
    let too_many = "3 sockets are selected, more than --max 2 allows";
    for command in [&["kill"][..], &["kill", "--yes"], &["keepalive", "--idle", "5s", "--yes"]] {
        let Some(refused) = zsock(&[command, &selector, &["--max", "2"]].concat()) else { return };
        assert_eq!((refused.status, refused.lines.len()), (Some(1), 0), "{command:?}: {}", refused.said);
        assert!(refused.said.starts_with(&format!("error: {too_many}")), "{}", refused.said);
    }
    let verdict = ["--verdict", "unguarded_idle", "--threshold", "unguarded_idle=1h", "--yes"];
    let by_verdict = zsock(&[&["kill"], &selector[..], &verdict].concat()).expect("this is no dry run");
    assert_eq!((by_verdict.status, by_verdict.outcomes()), (Some(0), Vec::new()), "{}", by_verdict.said);
    for client in &mut clients {
        client.peer.exchange();
    }

    let done = zsock(&[&["kill"], &selector[..], &["--yes"]].concat()).expect("this is no dry run");
    let killed = ("done", "echo-server");
    assert_eq!((done.status, done.outcomes()), (Some(0), vec![killed; 3]), "{}", done.said);
    let mut later = Client::connect(&net, "later", &Ip::V4.server(server_port));
    let listener = [&["kill"], &selector[..], &["--state", "LISTEN", "--yes"]].concat();
    let done = zsock(&listener).expect("this is no dry run");
    assert_eq!((done.status, done.outcomes()), (Some(0), vec![killed]), "{}", done.said);
    assert_eq!(done.only().text("before.state"), Some("LISTEN"));
    later.peer.exchange();
    let refused = Peer::start(&net.client, "refused").ask(&format!("connect {}", Ip::V4.server(server_port)));
    assert_eq!(refused.expect("error"), "ECONNREFUSED");
}

/// As a daemon's that starts it for a connection (`inetd`).
pub(super) fn the_socket_that_it_was_given_is_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let server = listener.local_addr().expect("it is bound");
    let connection = TcpStream::connect(server).expect("it listens");
    let given = OwnedFd::from(connection.try_clone().expect("descriptors are left"));
    let end = format!(":{}", connection.local_addr().expect("it is connected").port());
    let Some(ended) = zsock_with(&["kill", "--local", &end, "--yes"], Stdio::from(given)) else { return };
    assert_eq!((ended.status, ended.outcomes()), (Some(0), Vec::new()), "{}", ended.said);
    let done = zsock(&["kill", "--local", &end, "--yes"]).expect("this is no dry run");
    assert_eq!(done.outcomes().len(), 1, "{}", done.said);
}

/// `zsock kill --verdict unguarded_idle --remote 10.0.0.0/8`: of two idle connections the one without a guard.
pub(super) fn what_a_verdict_is_on_is_killed() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let mut unguarded = Client::connect(&net, "unguarded", &Ip::V4.server(server_port));
    let mut guarded = Client::connect(&net, "guarded", &Ip::V4.server(server_port));
    guarded.peer.ask("keepalive 60 10 6").expect("set");
    unguarded.peer.tell("read 1");
    sleep(Duration::from_secs(3));
    let netns = net.client.inode().to_string();
    let verdict = ["--verdict", "unguarded_idle", "--threshold", "unguarded_idle=2s"];
    let arguments = [&["kill", "--remote", "10.0.0.0/8", "--netns", &netns, "--yes"][..], &verdict].concat();
    let Some(done) = zsock(&arguments) else { return };
    assert_eq!((done.status, done.outcomes()), (Some(0), vec![("done", "unguarded")]), "{}", done.said);
    assert_eq!(done.only().text("verdict"), Some("unguarded_idle"));
    assert_eq!(unguarded.peer.reply().expect("error"), "ECONNABORTED");
    guarded.peer.exchange();
}

/// `zsock keepalive --follow` that writes to a file; killed with this value.
struct Follower {
    child: Child,
    path: std::path::PathBuf,
}

impl Follower {
    fn start(name: &str, arguments: &[&str]) -> Option<Self> {
        if is_left_out() {
            return None;
        }
        let path = std::env::temp_dir().join(format!("zt-{}-{name}.ndjson", std::process::id()));
        let output = File::create(&path).expect("the directory for temporary files can be written");
        let mut command = Command::new(program());
        command.args(["keepalive", "--follow", "--yes", "-o", "json"]).args(arguments);
        let child =
            command.stdin(Stdio::null()).stdout(output).spawn().expect("zsock was built with this test");
        Some(Self { child, path })
    }

    fn lines(&self) -> Vec<Line> {
        let written = std::fs::read(&self.path).expect("it was just made");
        // The last line may not be whole yet.
        let whole = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        lines(&written[..whole])
    }

    /// Waits until an action has this outcome, and tells when that was.
    fn await_outcome(&self, comm: Option<&str>, outcome: &str) -> Time {
        let is_it = |line: &Line| line.text("outcome") == Some(outcome) && line.text("socket.comm") == comm;
        await_some(&format!("{comm:?} {outcome}"), LIMIT, || {
            self.lines().into_iter().find(is_it).map(|line| line.ts())
        })
    }

    /// Waits until it ends, told to by a signal or not.
    fn end(mut self, signal: Option<Signal>) -> (Option<i32>, Vec<Line>) {
        if let Some(signal) = signal {
            kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("a child can be signalled");
        }
        let status = await_some("zsock to end", LIMIT, || self.child.try_wait().expect("it is a child"));
        (status.code(), self.lines())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One that is there, one that comes later, and one that is accepted later.
pub(super) fn sockets_that_come_later_are_set_once() {
    let net = Net::routed();
    let mut server = Peer::start(&net.server, "late-server");
    let server_port = server.listen();
    let mut first = Peer::start(&net.client, "first");
    first.connect(&Ip::V4.server(server_port));
    await_accept_queue(&net.server, server_port, 1);
    let port = server_port.to_string();
    let follower = Follower::start("follow", &["--port", &port, "--idle", "7s", "--interval", "3s"]);
    let Some(follower) = follower else { return };
    follower.await_outcome(Some("first"), "done");
    follower.await_outcome(None, "skipped");
    let mut later = Peer::start(&net.client, "later");
    let connected = later.ask(&format!("connect {}", Ip::V4.server(server_port))).at;
    let set = follower.await_outcome(Some("later"), "done");
    assert!(set.since(connected) < patience(Duration::from_secs(5)), "{:?} later", set.since(connected));
    server.ask("accept").expect("accepted");
    follower.await_outcome(Some("late-server"), "done");
    for peer in [&mut first, &mut later, &mut server] {
        assert_eq!(own_settings(peer), "true,7000,3000,9,0");
    }
    // More looks, which find nothing new.
    sleep(Duration::from_secs(3));
    let (status, lines) = follower.end(Some(Signal::SIGINT));
    let ended = Ended { status, lines, said: String::new() };
    let mut outcomes = ended.outcomes();
    outcomes.sort_unstable();
    let expected =
        [("done", "first"), ("done", "late-server"), ("done", "later"), ("skipped", "-"), ("skipped", "-")];
    assert_eq!((ended.status, outcomes), (Some(0), expected.to_vec()));
    let sums = ended.lines.last().expect("there are some");
    let sum = |name| sums.number(name);
    assert_eq!(
        (sums.text("type"), sum("selected"), sum("done"), sum("skipped")),
        (Some("actions"), Some(5), Some(3), Some(2))
    );
}

/// `--max` is of the whole run, and what was done before stays done.
pub(super) fn a_run_that_follows_ends_where_its_maximum_is_reached() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let mut first = Client::connect(&net, "first", &Ip::V4.server(server_port));
    let end = format!(":{server_port}");
    let follower = Follower::start("max", &["--remote", &end, "--max", "1", "--idle", "7s"]);
    let Some(follower) = follower else { return };
    follower.await_outcome(Some("first"), "done");
    let mut second = Client::connect(&net, "second", &Ip::V4.server(server_port));
    let (status, lines) = follower.end(None);
    assert_eq!((status, lines.len()), (Some(1), 2), "the action and the sums");
    assert_eq!(own_settings(&mut first.peer), "true,7000,75000,9,0");
    assert_eq!(own_settings(&mut second.peer), UNTOUCHED);
}
