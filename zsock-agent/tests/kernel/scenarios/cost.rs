//! What zsock says that it costs.

use std::fs;

use super::echo_server;
use crate::net::{Ip, Net};
use crate::peer::Peer;
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
    Some(zsock.stop()?.complete())
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
        assert!(end.get("programs").is_none() || Statistics::are_on(), "{}", end.record);
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
