//! More than a healthy host ever does, for a few seconds each, or for as long as `cargo xtask stress` wants.
//!
//! In each of them nothing crashes, zsock's memory stays within `--max-memory` as a control group counts it, every loss is told to the
//! record, and a connection that really gets stuck gets its verdict all the same. What was measured goes to stdout, a line `STRESS …` each.

use std::cell::{Cell, RefCell};
use std::env;
use std::time::Duration;

use zsock_agent::time::Time;

use super::{Client, echo_server};
use crate::cgroup::{self, Cgroup};
use crate::net::{Ip, Namespace, Net};
use crate::now;
use crate::peer::Peer;
use crate::story::Recording;
use crate::zsock::Zsock;

mod clock;
mod trial;

pub(super) use clock::the_clock_is_stepped;
use trial::Trial;

/// Sockets that retransmit at once.
const RETRANSMITTING: usize = 5_000;
/// For their sockets, their processes and zsock, with room.
const MEMORY_KIB: u64 = 4 << 20;

/// What this machine lacks for the scenario of this name, if anything.
pub(super) fn lacking(name: &str) -> Option<String> {
    let needs_crowd = name.contains("crowd_is_tracked") || name.contains("control_group");
    let memory = || needs_crowd.then(|| super::crowd::lacking_memory(MEMORY_KIB)).flatten();
    cgroup::lacking().or_else(memory)
}

/// How long each goes on, where that was said.
fn asked_for() -> Option<Duration> {
    env::var("ZSOCK_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).map(Duration::from_secs)
}

/// How long each goes on.
fn how_long() -> Duration {
    asked_for().unwrap_or(Duration::from_secs(3))
}

/// Connections of a crowd, with both ends on this host: more than fit into 128 MiB.
fn crowd() -> usize {
    if asked_for().is_some() { 100_000 } else { 20_000 }
}

/// As many connections a second as this machine makes, each of them told, to a reader that takes nothing.
pub(super) fn a_storm_of_connections_and_a_reader_that_stalls() {
    let net = Net::routed();
    let storm = Namespace::new("storm");
    let [of_client, of_storm] = [&net.client, &storm].map(|namespace| namespace.inode().to_string());
    let arguments = ["--events", "all", "--netns", &of_client, "--netns", &of_storm];
    let mut trial = Trial::start("connections, reader stalls", "128MiB", None, &arguments);
    let canary = Canary::on(&net);
    trial.zsock().pause();
    let mut client = Peer::start(&storm, "storm");
    let began = now();
    canary.get_stuck(&net);
    let made = client.ask(&format!("storm {}", how_long().as_secs())).expect("stormed").to_owned();
    trial.note_rate(made.parse().expect("a number of connections"), "connections", began);
    trial.zsock().resume();
    trial.late = canary.await_verdict(&net, trial.zsock());
    let Some(seen) = trial.stop() else { return };
    assert!(seen.lost_at("output") > 0, "a reader that stalls loses something: {}", seen.end().record);
}

/// A buffer of 180 records and a reader that takes nothing: both lose, and what is told of either is exact, as of every trial.
pub(super) fn what_the_kernel_and_the_reader_lose_is_counted() {
    let storm = Namespace::new("losing");
    let of_storm = storm.inode().to_string();
    let arguments = ["--events", "all", "--buffer-size", "64KiB", "--netns", &of_storm];
    let mut trial = Trial::start("a buffer of 64 KiB, reader stalls", "128MiB", None, &arguments);
    trial.zsock().pause();
    let mut client = Peer::start(&storm, "storm");
    let began = now();
    let made = client.ask("storm 3").expect("stormed").to_owned();
    trial.note_rate(made.parse().expect("a number of connections"), "connections", began);
    trial.zsock().resume();
    let Some(seen) = trial.stop() else { return };
    let lost = ["kernel", "output"].map(|place| seen.lost_at(place));
    assert!(lost.iter().all(|lost| *lost > 0), "{lost:?} lost in {}", seen.end().record);
}

/// Five thousand connections whose packets vanish at one moment.
pub(super) fn five_thousand_retransmit_at_once() {
    let net = Net::routed();
    let of_client = net.client.inode().to_string();
    let mut trial = Trial::start("5,000 retransmitting", "128MiB", None, &["--netns", &of_client]);
    let canary = Canary::on(&net);
    let crowd = Crowd::connected(&net, RETRANSMITTING);
    canary.get_stuck(&net);
    let began = now();
    let crowd = crowd.send();
    trial.late = canary.await_verdict(&net, trial.zsock());
    trial.await_verdicts("stuck_retransmission", RETRANSMITTING);
    trial.note_rate(RETRANSMITTING as u64, "verdicts", began);
    std::thread::sleep(how_long());
    drop(crowd);
    let Some(seen) = trial.stop() else { return };
    assert_eq!(seen.end().figure("sockets_dropped"), 0, "{}", seen.end().record);
}

/// Two hundred thousand sockets in a long run, each under a verdict.
pub(super) fn a_crowd_is_tracked() {
    let net = Net::routed();
    let namespace = Namespace::new("tracked");
    let mut holder = Peer::start(&namespace, "crowd-client");
    holder.ask(&format!("idle-crowd {}", crowd())).expect("idling");
    let [of_client, of_crowd] = [&net.client, &namespace].map(|namespace| namespace.inode().to_string());
    let arguments =
        ["--events", "none", "--threshold", "unguarded_idle=3s", "--netns", &of_client, "--netns", &of_crowd];
    let mut trial = Trial::start("a crowd of sockets, each under a verdict", "1GiB", None, &arguments);
    let began = now();
    trial.await_verdicts("unguarded_idle", 2 * crowd());
    trial.note_rate(2 * crowd() as u64, "verdicts", began);
    let canary = Canary::on(&net);
    canary.get_stuck(&net);
    trial.late = canary.await_verdict(&net, trial.zsock());
    std::thread::sleep(how_long());
    let Some(seen) = trial.stop() else { return };
    let counts = ["lost_events", "sockets_dropped"].map(|name| seen.end().figure(name));
    assert_eq!(counts, [0, 0], "{}", seen.end().record);
}

/// Network namespaces, and processes with connections in them, that are gone as soon as they are there.
pub(super) fn namespaces_and_processes_come_and_go() {
    let net = Net::routed();
    let mut trial =
        Trial::start("namespaces and processes come and go", "128MiB", None, &["--events", "all"]);
    let canary = Canary::on(&net);
    canary.get_stuck(&net);
    let began = now();
    let mut made = 0;
    while made < 3 || now().since(began) < how_long() {
        let namespace = Namespace::new("short");
        let mut server = Peer::start(&namespace, "short-server");
        let port = server.serve();
        let mut client = Peer::start(&namespace, "short-client");
        client.connect(&format!("127.0.0.1:{port}"));
        client.exchange();
        // The namespace goes first, then the processes, in the midst of their connection.
        drop(namespace);
        made += 1;
    }
    trial.note_rate(made, "namespaces", began);
    trial.late = canary.await_verdict(&net, trial.zsock());
    trial.stop();
}

/// As many idle sockets and five thousand that retransmit, beside a zsock that may have 128 MiB.
pub(super) fn within_a_control_group_of_128_mib() {
    let net = Net::routed();
    let namespace = Namespace::new("crowded");
    let mut holder = Peer::start(&namespace, "crowd-client");
    holder.ask(&format!("idle-crowd {}", crowd())).expect("idling");
    let [of_client, of_crowd] = [&net.client, &namespace].map(|namespace| namespace.inode().to_string());
    let arguments =
        ["--events", "all", "--threshold", "unguarded_idle=3s", "--netns", &of_client, "--netns", &of_crowd];
    let limit = Some(128 << 20);
    let mut trial =
        Trial::start("a crowd of sockets and 5,000 retransmitting in 128 MiB", "112MiB", limit, &arguments);
    let canary = Canary::on(&net);
    let crowd = Crowd::connected(&net, RETRANSMITTING);
    canary.get_stuck(&net);
    let began = now();
    let crowd = crowd.send();
    trial.late = canary.await_verdict(&net, trial.zsock());
    trial.note_rate(RETRANSMITTING as u64, "retransmitting", began);
    std::thread::sleep(how_long());
    drop(crowd);
    let Some(seen) = trial.stop() else { return };
    // They do not all fit, and that is said.
    let let_go =
        ["sockets_dropped", "sockets_forgotten", "sockets_unstored"].map(|name| seen.end().figure(name));
    assert!(let_go.iter().sum::<u64>() > 0, "{}", seen.end().record);
}

/// A connection that gets stuck: its verdict has to come whatever else goes on.
struct Canary {
    _server: Peer,
    client: RefCell<Client>,
    late: Cell<Duration>,
}

impl Canary {
    fn on(net: &Net) -> Self {
        let (server, port) = echo_server(net);
        let client = Client::connect(net, "canary", &Ip::V4.server(port)).into();
        Self { _server: server, client, late: Cell::default() }
    }

    /// Has it send what nobody will acknowledge.
    fn get_stuck(&self, net: &Net) {
        net.block();
        self.client.borrow_mut().peer.ask("write 100").expect("wrote");
    }

    /// Gives how long after the event that brought it the verdict was read.
    fn await_verdict(&self, net: &Net, zsock: &Zsock) -> Duration {
        let port = format!(":{}", self.client.borrow().port);
        let inode = net.client.inode();
        zsock.wait_for_all("the verdict on the canary", |line| {
            let is_stuck = line.text("verdict") == Some("stuck_retransmission")
                && line.text("phase") == Some("opened")
                && line.number("socket.netns") == Some(inode)
                && line.text("socket.local").is_some_and(|local| local.ends_with(&port));
            if is_stuck {
                self.late.set(line.arrived.since(line.ts()));
            }
            is_stuck
        });
        self.late.get()
    }
}

/// Many connections of one client.
struct Crowd {
    client: Peer,
    _server: Peer,
}

impl Crowd {
    fn connected(net: &Net, count: usize) -> Self {
        let mut server = Peer::start(&net.server, "many-server");
        let port = server.listen();
        let mut client = Peer::start(&net.client, "many-client");
        for peer in [&mut server, &mut client] {
            peer.ask(&format!("nofile {}", count + 64)).expect("set");
        }
        server.tell(&format!("welcome {count}"));
        client.ask(&format!("dial {} {count}", Ip::V4.server(port))).expect("dialled");
        server.reply().expect("welcomed");
        Self { client, _server: server }
    }

    /// Has each of them send something.
    fn send(mut self) -> Self {
        self.client.ask("send-all 100").expect("sent");
        self
    }
}
