//! What zsock says that it costs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use zsock_agent::detect::Thresholds;
use zsock_agent::kernel_rules::{Jiffies, hz_from};
use zsock_agent::source::clock::Clock;
use zsock_agent::source::decode::Raw;
use zsock_agent::source::kernel::looks::Limits;
use zsock_agent::source::kernel::{Kernel, Options};
use zsock_common::settings::Filter;
use zsock_common::wire::TcpFacts;

use super::{Client, echo_server};
use crate::await_some;
use crate::net::{Ip, Net};
use crate::peer::Peer;
use crate::proc::{await_recovery, await_timeouts, await_unanswered};
use crate::story::Recording;
use crate::zsock::Zsock;

/// Whether the kernel counts the runs of eBPF programs, and for how long they take.
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The kernel's statistics, on as long as this value.
struct Statistics {
    before: String,
}

impl Statistics {
    fn are_on() -> bool {
        fs::read_to_string(STATISTICS).expect("every kernel from 5.1 on has it").trim() != "0"
    }

    fn on() -> Self {
        let before = fs::read_to_string(STATISTICS).expect("every kernel from 5.1 on has it");
        fs::write(STATISTICS, "1").expect("root may set it");
        Self { before }
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        fs::write(STATISTICS, self.before.trim()).expect("root may set it");
    }
}

/// A trace that saw this many connections come and go.
fn trace_of(net: &Net, address: &str, connections: usize) -> Option<Recording> {
    let zsock = Zsock::start_with_all_events(net);
    let mut client = Peer::start(&net.client, "client");
    client.ask(&format!("churn {address} {connections}")).expect("churned");
    Some(zsock.stop()?.complete_beside_others())
}

/// Programs are told of where the kernel counts their runs, and the process always.
pub(super) fn the_end_tells_what_zsock_took() {
    const CONNECTIONS: usize = 50;
    let net = Net::routed();
    let (_server, port) = echo_server(&net);
    let address = Ip::V4.server(port);
    if !Statistics::are_on() {
        let Some(seen) = trace_of(&net, &address, CONNECTIONS) else { return };
        let end = seen.end();
        assert!(end.figure("cpu_ms") > 0, "{}", end.record);
        assert!(end.figure("peak_resident_bytes") > 1 << 20, "{}", end.record);
        // Another scenario may have the kernel count meanwhile.
        let programs = end.get("programs").and_then(serde_json::Value::as_object);
        let ran = |counted: &serde_json::Value| counted["runs"].as_u64() > Some(0);
        assert!(programs.is_none_or(|programs| programs.values().any(ran)), "{}", end.record);
    }
    let statistics = Statistics::on();
    let Some(seen) = trace_of(&net, &address, CONNECTIONS) else { return };
    drop(statistics);
    let end = seen.end();
    for (program, least) in [
        // From CLOSE to ESTABLISHED and back, at both ends.
        ("inet_sock_set_state", 6 * CONNECTIONS),
        ("tcp_destroy_sock", 2 * CONNECTIONS),
        ("look_at_sockets", 1),
    ] {
        let (runs, run_ns) = (format!("programs.{program}.runs"), format!("programs.{program}.run_ns"));
        assert!(end.figure(&runs) >= least as u64, "{runs} in {}", end.record);
        assert!(end.figure(&run_ns) > end.figure(&runs), "more than a nanosecond each: {}", end.record);
    }
}

/// Every event of a churn of connections, and a hundredth of a processor to tell them with.
pub(super) fn beyond_its_limit_it_does_without_and_stays_true() {
    let net = Net::routed();
    let (_server, port) = echo_server(&net);
    let address = Ip::V4.server(port);
    let [client, server] = [&net.client, &net.server].map(|namespace| namespace.inode().to_string());
    let zsock = Zsock::start(&["--events", "all", "--netns", &client, "--netns", &server, "--max-cpu", "1"]);
    churn_until(&net, &address, || {
        zsock.wait_for_all("events to be given up", |line| line.text("what") == Some("events"));
    });

    // What is told from here on is told without events, and maybe without the hook that sees a recovery.
    let mut healthy = Client::connect(&net, "healthy", &address);
    let mut stuck = Client::connect(&net, "stuck", &address);
    net.block();
    stuck.peer.ask("write 100").expect("wrote");
    await_timeouts(&net.client, stuck.port, 5);
    zsock.wait_for_verdict(&net.client, stuck.port, "stuck_retransmission", "opened");
    net.unblock();
    stuck.peer.ask("read 100").expect("read");
    await_recovery(&net.client, stuck.port);
    zsock.wait_for_verdict(&net.client, stuck.port, "stuck_retransmission", "recovered");
    healthy.peer.exchange();

    let Some((seen, said)) = zsock.stop_and_hear() else { return };
    seen.of_local_port(&net.client, stuck.port).assert_story(&[
        "verdict stuck_retransmission opened",
        "verdict stuck_retransmission closed recovered",
    ]);
    seen.of_local_port(&net.client, healthy.port).assert_story(&[] as &[&str]);
    assert_told_one_by_one(&seen, &said);
}

/// A pass walks past a connection on which nothing has moved since the one before, unless no hook sees the probes that it sends.
pub(super) fn without_the_timers_hooks_passes_look_at_probes() {
    let net = Net::routed();
    let (_server, port) = echo_server(&net);
    let mut client = Client::connect(&net, "prober", &Ip::V4.server(port));
    if crate::zsock::is_left_out() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _within = runtime.enter();
    let mut looker = Looker::at(&net);
    let timers = looker.kernel.optional().into_iter().find(|optional| optional.name == "timers");
    looker.kernel.take_off(timers.expect("attached"));

    net.block();
    client.peer.ask("keepalive 1 1 60").expect("set");
    await_unanswered(&net.client, client.port, 1);
    // The first two know of no pass before them by which to tell whether something has moved.
    looker.looks_at(client.port);
    looker.looks_at(client.port);
    await_unanswered(&net.client, client.port, 3);
    let seen: Vec<u8> = looker.looks_at(client.port).iter().map(|tcp| tcp.probes_out).collect();
    assert!(seen.len() == 1 && seen[0] >= 3, "{seen:?} instead of three probes, or one more since");
}

/// A socket that is stuck is handed over when something about it has changed, not by each pass.
pub(super) fn passes_hand_a_stuck_socket_over_when_it_has_changed() {
    let net = Net::routed();
    let (_server, port) = echo_server(&net);
    let mut client = Client::connect(&net, "sticker", &Ip::V4.server(port));
    if crate::zsock::is_left_out() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _within = runtime.enter();
    let mut looker = Looker::at(&net);
    net.block();
    client.peer.ask("write 100").expect("wrote");
    // Hooks tell enough of one that is established.
    client.peer.ask("shutdown").expect("shut");
    let mut retransmits_at = |timeouts| {
        // From the fourth to the next are seconds.
        await_timeouts(&net.client, client.port, timeouts);
        [(); 2].map(|()| looker.looks_at(client.port).iter().map(|tcp| tcp.retransmits).collect::<Vec<_>>())
    };
    assert_eq!(retransmits_at(4), [vec![4], vec![]]);
    assert_eq!(retransmits_at(5), [vec![5], vec![]]);
}

/// To walk a namespace takes time though there be nothing to find: where nothing is sent or received passes leave it out.
pub(super) fn passes_leave_out_a_namespace_at_rest() {
    let net = Net::routed();
    let (_server, port) = echo_server(&net);
    let mut client = Client::connect(&net, "rester", &Ip::V4.server(port));
    if crate::zsock::is_left_out() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _within = runtime.enter();
    let mut looker = Looker::at(&net);
    let await_rest = |looker: &mut Looker| {
        // The last acknowledgement comes a moment later.
        await_some("rest", Duration::from_secs(30), || (looker.pass() == 0).then_some(()));
    };
    await_rest(&mut looker);
    client.peer.exchange();
    assert_eq!(looker.pass(), 1, "something was sent");
    await_rest(&mut looker);
    // Data waits for the process, which may read it without a segment.
    client.peer.ask("write 10").expect("wrote");
    client.peer.ask("poll").expect("ready");
    assert_eq!([(); 5].map(|()| looker.pass()), [1; 5], "data waits");
}

/// Passes over the client's namespace, one by one.
struct Looker {
    kernel: Kernel,
    clock: Clock,
    namespaces: BTreeMap<u64, File>,
}

impl Looker {
    fn at(net: &Net) -> Self {
        let options = Options {
            all_events: false,
            buffer_bytes: 1 << 20,
            stored_sockets: 1 << 16,
            count_states: false,
            filter: Filter::NONE,
            has_log: false,
            hooks: Vec::new(),
        };
        let clock = Clock::start().expect("a clock");
        let mut kernel = Kernel::attach(&options).expect("attached");
        let namespaces = BTreeMap::from([(net.client.inode(), net.client.file())]);
        let jiffies = Jiffies::new(await_hz(&mut kernel));
        kernel.seed_sockets(&namespaces).expect("looked at sockets");
        kernel.set_limits(Limits::new(&Thresholds::default(), jiffies)).expect("set");
        Self { kernel, clock, namespaces }
    }

    /// Makes one pass. Returns how the socket with this port stood each time that it was handed over.
    fn looks_at(&mut self, port: u16) -> Vec<TcpFacts> {
        self.pass();
        let mut seen = Vec::new();
        self.kernel.drain(|bytes| match Raw::decode(bytes).expect("a record") {
            Raw::Look(look) if look.event.endpoints.local_port == port => seen.push(look.event.tcp),
            Raw::Look(_)
            | Raw::Socket(..)
            | Raw::SynAck(_)
            | Raw::Destroyed(_)
            | Raw::Past(_)
            | Raw::Holder(_)
            | Raw::Clock(_) => {}
        });
        seen
    }

    /// Makes one pass. Returns how many namespaces it walked.
    fn pass(&mut self) -> usize {
        let mut pass = self.kernel.begin_pass(&self.namespaces, self.clock.monotonic_ns()).expect("begun");
        while self.kernel.step(&mut pass) {}
        assert!(pass.failed.is_empty(), "{:?}", pass.failed);
        pass.walked
    }
}

/// How fast the kernel ticks.
fn await_hz(kernel: &mut Kernel) -> NonZeroU32 {
    loop {
        kernel.seed_holders().expect("looked at holders");
        let mut hz = None;
        kernel.drain(|bytes| {
            if let Raw::Clock(clock) = Raw::decode(bytes).expect("a record") {
                hz = hz_from(clock.jiffies, clock.head.time_ns);
            }
        });
        if let Some(hz) = hz {
            return hz;
        }
        thread::sleep(Duration::from_millis(600));
    }
}

/// Lets connections come and go until `wait` returns, or fails.
fn churn_until(net: &Net, address: &str, wait: impl FnOnce()) {
    /// Ends the churn also where what is waited for does not come.
    struct Enough<'a>(&'a AtomicBool);
    impl Drop for Enough<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let is_enough = AtomicBool::new(crate::zsock::is_left_out());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Peer::start(&net.client, "churner");
            while !is_enough.load(Ordering::Relaxed) {
                client.ask(&format!("churn {address} 50")).expect("churned");
            }
        });
        let _enough = Enough(&is_enough);
        wait();
    });
}

/// Checks that each thing that was given up was told for itself, after a window of its own, on stderr as well, and counted.
fn assert_told_one_by_one(seen: &Recording, said: &str) {
    let shed: Vec<_> = seen.of_type("shed").collect();
    let mut counts = BTreeMap::new();
    for line in &shed {
        let what = line.text("what").expect("it says what");
        *counts.entry(what.to_owned()).or_insert(0_u64) += 1;
        assert!(line.get("cpu_percent").and_then(serde_json::Value::as_f64) > Some(1.0), "{}", line.record);
        assert_eq!(line.number("max_cpu_percent"), Some(1));
        assert!(said.contains(&format!("shed {what}: ")), "no word of {what} in\n{said}");
    }
    for pair in shed.windows(2) {
        let apart = pair[1].ts().since(pair[0].ts());
        assert!(apart >= Duration::from_secs(5), "{apart:?} before {}", pair[1].record);
    }
    let counted = serde_json::to_value(&counts).expect("counts are JSON");
    assert_eq!(seen.end().get("shed"), Some(&counted));
    // Nothing that was given up comes back. By the order of the lines, for a slow machine may read them much later.
    let after = seen.all().skip_while(|line| line.text("what") != Some("events"));
    let told = after.filter(|line| line.text("type") == Some("state"));
    assert_eq!(told.count(), 0, "events after they were given up");
}
