//! `zsock audit` beside what the process itself, `/proc` and the future say.

use std::time::Duration;

use zsock_agent::time::Time;

use super::Pair;
use crate::net::{Ip, Net};
use crate::once::Once;
use crate::peer::Peer;
use crate::proc::{await_accept_queue, await_closed_window, await_state};
use crate::slowness;
use crate::story::{Line, assert_at, assert_near};

/// A prediction is right within a twentieth of the time, or this.
const TOLERANCE: Duration = Duration::from_millis(250);

pub(super) fn settings_are_what_getsockopt_says() {
    let net = Net::routed();
    net.client.sysctl("net/ipv4/tcp_keepalive_time", 321);
    net.client.sysctl("net/ipv4/tcp_keepalive_intvl", 12);
    net.client.sysctl("net/ipv4/tcp_keepalive_probes", 4);
    let mut server = Peer::start(&net.server, "server");
    let port = server.serve();
    let mut client = Peer::start(&net.client, "client");
    let orders = [Ip::V4, Ip::V6, Ip::Mapped].map(|ip| format!("variants {}", ip.server(port)));
    let orders = orders.iter().map(String::as_str).chain(["listening-variants"]);
    let options: Vec<String> = orders.map(|order| client.ask(order).expect("options").to_owned()).collect();

    let Some(audit) = Once::run_in(&net, &["audit", "-o", "json"]) else { return };
    assert!(audit.status.success(), "{}", audit.said);
    let options: Vec<&str> = options.iter().flat_map(|all| all.split(',')).collect();
    assert_eq!(options.len(), 4 * 32);
    for option in options {
        let (port, expected) = option.split_once('=').expect("PORT=OPTIONS");
        let line = audit.of_port(&net.client, port.parse().expect("a port"));
        assert_eq!(settings(line), expected, "in {}", line.record);
        let owner = (line.number("socket.pid"), line.text("socket.comm"));
        assert_eq!(owner, (Some(u64::from(client.pid())), Some("client")), "in {}", line.record);
    }
}

/// The settings as the peer writes them.
fn settings(line: &Line) -> String {
    let enabled = line.get("tcp.keepalive.enabled").and_then(serde_json::Value::as_bool);
    format!(
        "{}/{}/{}/{}/{}",
        u8::from(enabled.unwrap_or_else(|| panic!("no keepalive in {}", line.record))),
        line.millis("tcp.keepalive.idle_ms").as_secs(),
        line.millis("tcp.keepalive.interval_ms").as_secs(),
        line.figure("tcp.keepalive.probes"),
        line.number("tcp.user_timeout_ms").unwrap_or(0),
    )
}

/// A connection whose death is awaited.
struct Doomed {
    what: &'static str,
    pair: Pair,
    /// What its client is told to set.
    orders: Vec<String>,
}

impl Doomed {
    fn new(net: &Net, what: &'static str, orders: &[&str]) -> Self {
        let orders = orders.iter().map(|order| (*order).to_owned()).collect();
        Self { what, pair: Pair::connect(net, "client", "server"), orders }
    }

    /// Has the options set. Only now: to start the others takes a while, and none may die before the audit.
    fn set(&mut self) {
        for order in &self.orders {
            self.pair.client.ask(order).expect("set");
        }
    }
}

/// Some 6 s of retransmissions; on a slow machine, on which an audit may take as long, 25.
fn retries() -> u32 {
    if slowness() == 1 { 4 } else { 6 }
}

pub(super) fn a_silent_death_is_noticed_when_foretold() {
    let net = Net::routed();
    net.client.sysctl("net/ipv4/tcp_retries2", retries());
    // Nothing may die before the audit is over.
    let (idle_s, timeout_ms) = (3 * slowness(), 5_000 * slowness());
    let keepalive = |probes: u32| format!("keepalive {idle_s} 1 {probes}");
    let user_timeout = format!("user-timeout {timeout_ms}");
    let mut doomed = [
        Doomed::new(&net, "idle, keepalive", &[&keepalive(3)]),
        Doomed::new(&net, "idle, keepalive and a user timeout", &[&keepalive(99), &user_timeout]),
        Doomed::new(&net, "in flight", &[]),
        Doomed::new(&net, "in flight, user timeout", &[&user_timeout]),
        Doomed::new(&net, "in flight, keepalive is no help", &["keepalive 1 1 1"]),
    ];
    let unguarded = Doomed::new(&net, "idle, nothing set", &[]);
    doomed.iter_mut().for_each(Doomed::set);
    net.block();
    for doomed in &mut doomed[2..] {
        doomed.pair.client.ask("write 100").expect("wrote");
    }
    let audit = Once::run_in(&net, &["audit", "-o", "json"]);
    for doomed in &mut doomed {
        doomed.pair.client.tell("read 1");
    }
    let deaths: Vec<Time> = doomed.iter().map(|doomed| death(&doomed.pair.client)).collect();

    let Some(audit) = audit else { return };
    for (doomed, death) in doomed.iter().zip(deaths) {
        assert_foretold(doomed.what, audit.of_port(&net.client, doomed.pair.port), death);
    }
    let line = audit.of_port(&net.client, unguarded.pair.port);
    assert_eq!(
        (line.text("noticed"), line.get("noticed_in_ms")),
        (Some("never"), None),
        "in {}",
        line.record
    );
    let idle = line.millis("idle_ms");
    assert_near("idle", idle, line.ts().since(unguarded.pair.connected), Duration::from_millis(200));
}

pub(super) fn a_closed_window_is_given_up_when_foretold() {
    let net = Net::routed();
    net.client.sysctl("net/ipv4/tcp_retries2", retries());
    let mut doomed = [
        Doomed::new(&net, "closed window", &[]),
        Doomed::new(&net, "closed window, user timeout", &[&format!("user-timeout {}", 5_000 * slowness())]),
    ];
    doomed.iter_mut().for_each(Doomed::set);
    for Doomed { pair, .. } in &mut doomed {
        pair.client.ask("write-all").expect("wrote");
        await_closed_window(&net.client, pair.port);
    }
    net.block();
    let audit = Once::run_in(&net, &["audit", "-o", "json"]);
    for doomed in &mut doomed {
        doomed.pair.client.tell("read 1");
    }
    let deaths: Vec<Time> = doomed.iter().map(|doomed| death(&doomed.pair.client)).collect();

    let Some(audit) = audit else { return };
    for (doomed, death) in doomed.iter().zip(deaths) {
        let line = audit.of_port(&net.client, doomed.pair.port);
        assert_eq!(line.text("timer.kind"), Some("persist"), "in {}", line.record);
        assert_eq!(line.number("tcp.send_window_bytes"), Some(0), "in {}", line.record);
        assert_foretold(doomed.what, line, death);
    }
}

/// When the read that waits was told that the connection is dead.
fn death(client: &Peer) -> Time {
    let reply = client.reply();
    assert_eq!(reply.expect("error"), "ETIMEDOUT");
    reply.at
}

#[track_caller]
fn assert_foretold(what: &str, line: &Line, death: Time) {
    let left = line.millis("noticed_in_ms");
    let tolerance = (left / 20).max(TOLERANCE);
    assert_at(&format!("the death of a connection: {what}"), death, line.ts().after(left), tolerance);
    assert_eq!(line.text("noticed"), Some("seconds"), "in {}", line.record);
}

pub(super) fn every_kind_of_socket_is_told_for_what_it_is() {
    let net = Net::routed();
    // The peer that closes first is left in TIME_WAIT.
    let mut over = Pair::connect(&net, "over", "over-server");
    over.client.ask("shutdown").expect("shut");
    over.server.ask("close").expect("closed");
    over.client.ask("close").expect("closed");
    let mut half = Pair::connect(&net, "half", "half-server");
    half.client.ask("shutdown").expect("shut");
    await_state(&net.server, half.server_port, CLOSE_WAIT);
    let mut listener = Peer::start(&net.server, "listener");
    let port = listener.listen();
    listener.ask("backlog 5").expect("set");
    let mut waiting = Peer::start(&net.client, "waiting");
    let waiting_port = waiting.connect(&Ip::V6.server(port));
    await_accept_queue(&net.server, port, 1);
    let mut orphan = Pair::connect(&net, "orphan", "orphan-server");
    net.block_answers();
    let mut greeting = Peer::start(&net.client, "greeting");
    let greeting_port: u16 = greeting
        .ask(&format!("start-connect {}", Ip::V4.server(port)))
        .expect("connecting")
        .parse()
        .expect("a port");
    net.block();
    orphan.client.ask("write 100").expect("wrote");
    orphan.client.ask("close").expect("closed");

    let Some(audit) = Once::run_in(&net, &["audit", "-o", "json"]) else { return };
    let state = |line: &Line| line.text("tcp.state").map(str::to_owned);
    let at = |port: u16| audit.of_port(&net.client, port);
    let peers_end = |port: u16| {
        audit.only(&net.server, &format!("the remote port {port}"), |line| {
            line.text("socket.remote").is_some_and(|remote| remote.ends_with(&format!(":{port}")))
        })
    };
    assert_eq!(state(at(over.port)).as_deref(), Some("TIME_WAIT"));
    assert_eq!(at(over.port).text("timer.kind"), Some("time_wait"));
    assert_near(
        "TIME_WAIT",
        at(over.port).millis("timer.in_ms"),
        Duration::from_mins(1),
        Duration::from_secs(8),
    );
    assert_eq!(at(over.port).get("noticed"), None);

    assert_eq!(state(at(half.port)).as_deref(), Some("FIN_WAIT2"));
    assert_eq!(state(peers_end(half.port)).as_deref(), Some("CLOSE_WAIT"));
    assert_eq!(at(half.port).number("socket.pid"), Some(u64::from(half.client.pid())));

    let listening = audit.only(&net.server, "a queue", |line| line.number("accept_queue.queue") == Some(1));
    assert_eq!((state(listening).as_deref(), listening.figure("accept_queue.backlog")), (Some("LISTEN"), 5));
    assert_eq!(listening.text("socket.comm"), Some("listener"));
    let unaccepted = peers_end(waiting_port);
    assert_eq!(unaccepted.get("unaccepted"), Some(&true.into()), "in {}", unaccepted.record);
    assert_eq!((state(unaccepted).as_deref(), unaccepted.get("socket.pid")), (Some("ESTABLISHED"), None));
    assert_eq!(unaccepted.text("socket.family"), Some("ipv6"));
    assert_eq!(at(waiting_port).text("socket.comm"), Some("waiting"));

    assert_eq!(state(at(greeting_port)).as_deref(), Some("SYN_SENT"));
    assert_eq!(at(greeting_port).text("timer.kind"), Some("retransmission"));
    assert_eq!(state(peers_end(greeting_port)).as_deref(), Some("SYN_RECV"));
    assert_eq!(peers_end(greeting_port).get("noticed"), None);

    let orphan = at(orphan.port);
    assert_eq!((state(orphan).as_deref(), orphan.get("socket.pid")), (Some("FIN_WAIT1"), None));
    assert_eq!(orphan.get("socket.orphan"), Some(&true.into()), "in {}", orphan.record);
    assert_eq!(orphan.figure("tcp.unacked_bytes"), 100);
}

/// `TCP_CLOSE_WAIT`.
const CLOSE_WAIT: u8 = 8;

pub(super) fn without_rights_it_tells_less_and_says_so() {
    let net = Net::routed();
    let pair = Pair::connect(&net, "client", "server");
    let Some(audit) = Once::run_as_nobody(&net.client, &["audit", "-o", "json"]) else { return };
    assert!(audit.status.success(), "{}", audit.said);
    let line = audit.of_port(&net.client, pair.port);
    assert_eq!(line.text("tcp.state"), Some("ESTABLISHED"));
    assert_eq!(line.text("noticed"), Some("never"), "nothing waits and no timer runs: {}", line.record);
    assert_eq!(line.get("tcp.keepalive.idle_ms"), None, "in {}", line.record);
    let summary = audit.lines.iter().find(|line| line.text("type") == Some("summary")).expect("a summary");
    assert_eq!(summary.text("source"), Some("sock_diag"));
    assert!(audit.said.contains("sock_diag"), "{}", audit.said);
}
