//! How the kernel sees a namespace's sockets, read from `/proc/net/tcp`: what the scenarios wait for.
//!
//! It is told by the kernel and not by zsock, so that a scenario runs its course whatever zsock does.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use zsock_agent::record::State;

use crate::await_some;
use crate::net::Namespace;

const LIMIT: Duration = Duration::from_secs(30);
/// The kernel's number of the state.
const LISTEN: u8 = 10;

/// One socket.
#[derive(Debug)]
pub(crate) struct Row {
    local_port: u16,
    /// The kernel's number of the TCP state.
    state: u8,
    /// Received and not read; of a listener, connections that wait to be accepted.
    unread: u32,
    /// The kernel's number of the timer that runs.
    timer: u8,
    /// `icsk_retransmits`: time-outs in a row.
    retransmits: u32,
    /// `icsk_probes_out`: probes without an answer.
    probes_out: u32,
}

/// The most memory that the process had resident.
pub(crate) fn resident_peak_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("every process has it");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("the kernel writes a number");
    kib << 10
}

/// The processor time that the process has taken.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // Ticks of a hundredth of a second, for user and for system.
    let ticks = |place: usize| -> u64 { fields[place].parse().expect("the kernel writes a number") };
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// Waits until the socket has seen this many time-outs in a row.
pub(crate) fn await_timeouts(namespace: &Namespace, port: u16, count: u32) {
    await_row(namespace, port, &format!("{count} time-outs"), |row| row.retransmits >= count);
}

/// Waits until the socket has this many probes out without an answer.
pub(crate) fn await_probes(namespace: &Namespace, port: u16, count: u32) {
    await_row(namespace, port, &format!("{count} probes"), |row| row.probes_out == count);
}

/// Waits until the socket has at least this many probes out without an answer.
pub(crate) fn await_unanswered(namespace: &Namespace, port: u16, count: u32) {
    await_row(namespace, port, &format!("{count} probes or more"), |row| row.probes_out >= count);
}

/// Waits until all that was sent is acknowledged and nothing times out any more.
pub(crate) fn await_recovery(namespace: &Namespace, port: u16) {
    await_row(namespace, port, "recovery", |row| row.retransmits == 0);
}

/// Waits until the socket is in a state, by the kernel's number.
pub(crate) fn await_state(namespace: &Namespace, port: u16, state: u8) {
    await_row(namespace, port, &format!("state {state}"), |row| row.state == state);
}

/// Waits until the socket's peer takes no more and probes of its window are due.
pub(crate) fn await_closed_window(namespace: &Namespace, port: u16) {
    const PERSIST: u8 = 4;
    await_row(namespace, port, "a closed window", |row| row.timer == PERSIST);
}

/// Waits until so many connections wait to be accepted by the listener.
pub(crate) fn await_accept_queue(namespace: &Namespace, port: u16, count: u32) {
    await_row(namespace, port, &format!("{count} to be accepted"), |row| {
        row.state == LISTEN && row.unread == count
    });
}

/// Waits until no socket (`TIME_WAIT` aside) has this local port.
pub(crate) fn await_gone(namespace: &Namespace, port: u16) {
    await_all(namespace, &format!("the end of port {port}"), |row| row.local_port != port);
}

/// Waits until nothing but a listener has this local port.
pub(crate) fn await_only_listener(namespace: &Namespace, port: u16) {
    let what = format!("the end of what was accepted on port {port}");
    await_all(namespace, &what, |row| row.local_port != port || row.state == LISTEN);
}

/// How many sockets are in which state, by the names of these.
pub(crate) fn sockets_by_state(namespace: &Namespace) -> BTreeMap<String, u64> {
    // The table shows requests as the state that they stand for.
    const SYN_RECV: u8 = 3;
    let mut states = BTreeMap::new();
    for row in rows(namespace) {
        let state = if row.state == SYN_RECV { State::NEW_SYN_RECV } else { State(row.state) };
        *states.entry(state.to_string()).or_default() += 1;
    }
    states
}

fn await_all(namespace: &Namespace, what: &str, holds: impl Fn(&Row) -> bool) {
    const TIME_WAIT: u8 = 6;
    await_some(what, LIMIT, || {
        rows(namespace).iter().all(|row| row.state == TIME_WAIT || holds(row)).then_some(())
    });
}

fn await_row(namespace: &Namespace, port: u16, what: &str, holds: impl Fn(&Row) -> bool) {
    await_some(&format!("{what} on port {port}"), LIMIT, || {
        rows(namespace).into_iter().find(|row| row.local_port == port && holds(row))
    });
}

fn rows(namespace: &Namespace) -> Vec<Row> {
    let tables = namespace
        .enter(|| ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}"))));
    tables.iter().flatten().flat_map(|table| table.lines().skip(1)).map(row).collect()
}

/// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode`, hexadecimal but for the last three.
fn row(line: &str) -> Row {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let port = fields[1].rsplit(':').next().expect("an address ends in its port");
    Row {
        local_port: u16::from_str_radix(port, 16).expect("a port has 16 bits"),
        state: u8::try_from(hex(fields[3])).expect("a state has 8 bits"),
        unread: queue(fields[4]),
        timer: timer(fields[5]),
        retransmits: hex(fields[6]),
        probes_out: fields[8].parse().expect("the kernel writes a number"),
    }
}

fn hex(text: &str) -> u32 {
    u32::from_str_radix(text, 16).expect("the kernel writes hexadecimal")
}

/// The second of a pair such as `00000000:00000064`.
fn queue(pair: &str) -> u32 {
    hex(pair.split(':').nth(1).expect("two queues"))
}

/// The first of a pair such as `04:00000015`.
fn timer(pair: &str) -> u8 {
    u8::try_from(hex(pair.split(':').next().expect("a timer"))).expect("a timer has 8 bits")
}
