//! The same look without BPF: `sock_diag` tells of the sockets and `/proc` of those who hold them. Needs no right, and tells less.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::net::IpAddr;

use anyhow::{Result, anyhow};

use super::found::{self, Clues};
use super::{Counted, Coverage, Wanted};
use crate::detect::Thresholds;
use crate::record::{AcceptQueue, Found, Noticed, Socket, State};
use crate::source::clock::Clock;
use crate::source::diag::{Dumped, Entry, Exchange};
use crate::source::namespaces;
use crate::time::Time;

mod facts;
mod holders;
#[cfg(test)]
mod tests;

use facts::{has_process, tcp, timer};
use holders::Holders;

/// Looks at every socket once and hands each to `each`, in no order, as it is found.
///
/// # Errors
/// When no network namespace's sockets can be listed, with what to do about it.
pub fn take(wanted: &Wanted, mut each: impl FnMut(Counted)) -> Result<Coverage> {
    let clock = Clock::start()?;
    let mut teller = Teller::new(&wanted.thresholds);
    let mut coverage = Coverage { source: "sock_diag", ..Coverage::default() };
    let mut all = Dumped::default();
    for (namespace, exchange) in exchanges(&wanted.namespaces()) {
        teller.listeners.clear();
        let dumped = exchange.and_then(|mut exchange| {
            let each = |entry| each(teller.tell(&entry, namespace, clock.at(clock.monotonic_ns())));
            Ok(exchange.dump(each)?)
        });
        match dumped {
            Ok(Dumped { is_interrupted, unreadable }) => {
                coverage.namespaces += 1;
                all.is_interrupted |= is_interrupted;
                all.unreadable += unreadable;
            }
            Err(error) => coverage.failed.push((namespace, format!("{error:#}"))),
        }
    }
    if coverage.namespaces == 0 {
        let why = coverage.failed.first().map_or("there is none", |(_, why)| why);
        return Err(anyhow!("list the sockets of any network namespace: {why}"));
    }
    coverage.not_told = not_told(&teller.holders, all);
    Ok(coverage)
}

/// A line to the kernel in each network namespace; it stays in the one in which it was opened.
fn exchanges(namespaces: &BTreeMap<u64, File>) -> Vec<(u64, Result<Exchange>)> {
    let opened = namespaces::in_each(namespaces, |_| Exchange::open());
    let opened = opened.into_iter().map(|(namespace, opened)| {
        let entered = opened.map_err(|errno| anyhow!(errno).context("enter the network namespace"));
        (namespace, entered.and_then(|exchange| Ok(exchange?)))
    });
    opened.collect()
}

fn not_told(holders: &Holders, dumped: Dumped) -> Vec<String> {
    let always = [
        "keepalive settings and user timeouts (and so when most deaths would be noticed)",
        "who opened a connection (taken to be the peer where something listens on the local port)",
    ];
    let owners = holders.not_told();
    let holes = dumped.is_interrupted.then(|| "sockets that came or went while they were listed".to_owned());
    let unreadable = (dumped.unreadable > 0)
        .then(|| format!("sockets of which the kernel told what cannot be read ({})", dumped.unreadable));
    always.map(str::to_owned).into_iter().chain(owners).chain(holes).chain(unreadable).collect()
}

/// Makes records of what the kernel tells.
struct Teller<'a> {
    holders: Holders,
    thresholds: &'a Thresholds,
    /// The kernel's numbers of users are those of the initial user namespace.
    has_our_users: bool,
    /// Where something listens in the network namespace that is looked at: the kernel tells of it first.
    listeners: HashSet<(bool, IpAddr, u16)>,
}

impl<'a> Teller<'a> {
    fn new(thresholds: &'a Thresholds) -> Self {
        let has_our_users = fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| has_all_users(&map));
        Self { holders: Holders::look_up(), thresholds, has_our_users, listeners: HashSet::new() }
    }

    fn tell(&mut self, entry: &Entry, namespace: u64, at: Time) -> Counted {
        let state = entry.state;
        let mut socket = self.socket(entry, namespace);
        let holder = self.holders.of(entry.inode).map(|(owner, holder)| {
            socket.pid = Some(owner.pid);
            socket.comm.clone_from(&owner.comm);
            socket.comm_hex.clone_from(&owner.comm_hex);
            socket.cgroup.clone_from(&owner.cgroup);
            socket.container.clone_from(&owner.container);
            holder
        });
        let mut found = found::bare(socket, tcp(entry), timer(entry));
        found.accept_queue = (state == State::LISTEN).then_some(AcceptQueue {
            queue: entry.receive_queue,
            backlog: entry.send_queue,
            oldest_ms: None,
            full_for_ms: None,
        });
        if facts::is_full(entry) {
            self.add_to_connection(entry, &mut found);
            found = judge(at, entry, found, self.thresholds);
        }
        Counted { at, found, holder }
    }

    fn socket(&self, entry: &Entry, namespace: u64) -> Socket {
        let ends = entry.ends();
        // Of one that no process holds the kernel names no user, or root.
        let has_user = has_process(entry) && self.has_our_users;
        Socket {
            id: entry.socket_id(),
            family: ends.family,
            local: ends.local,
            remote: ends.remote,
            v4mapped: ends.v4mapped,
            netns: u32::try_from(namespace).ok(),
            pid: None,
            comm: None,
            comm_hex: None,
            uid: has_user.then_some(entry.uid),
            inode: has_process(entry).then_some(entry.inode.into()),
            cgroup: None,
            container: None,
            orphan: facts::is_orphan(entry),
            owner_exited: None,
            listener: None,
        }
    }

    /// Adds what only a connection has, and notes where something listens.
    fn add_to_connection(&mut self, entry: &Entry, found: &mut Found) {
        let (address, port) = (entry.id.source_address, entry.id.source_port);
        if entry.state == State::LISTEN {
            self.listeners.insert((entry.is_ipv6, address, port));
            return;
        }
        if entry.state == State::SYN_SENT {
            return;
        }
        found.idle_ms = facts::idle_ms(entry);
        let listens = |address| self.listeners.contains(&(entry.is_ipv6, address, port));
        found.accepted = listens(address) || listens(facts::any_address(entry.is_ipv6));
        found.unaccepted = !has_process(entry) && !found.socket.orphan;
        found.noticed = facts::is_without_timer(entry).then_some(Noticed::Never);
    }
}

/// Adds the verdict that the facts alone give.
fn judge(at: Time, entry: &Entry, found: Found, thresholds: &Thresholds) -> Found {
    let received = facts::bytes_received(entry);
    let clues = Clues {
        is_held: has_process(entry),
        tells_unread_since: received.is_some(),
        tells_half_closed: received.is_some(),
        bytes_received: received.unwrap_or_default(),
        // The kernel does not tell since when the window is closed.
        window_probes: None,
    };
    found::judge(at, found, &clues, thresholds)
}

/// Whether a user namespace, by its `uid_map`, gives every user its number of the initial one.
fn has_all_users(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Any bytes in the place of what the kernel tells of a socket: the record of it can be written and read back.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    let thresholds = Thresholds::default();
    let mut teller = Teller {
        holders: Holders::default(),
        thresholds: &thresholds,
        has_our_users: true,
        listeners: HashSet::new(),
    };
    let Some(entry) = Entry::parse(bytes) else { return };
    let found = teller.tell(&entry, 1, Time::from_unix_ns(0)).found;
    let json = serde_json::to_string(&found).expect("a record can be written");
    let read: Found = serde_json::from_str(&json).expect("what is written can be read");
    assert_eq!(read, found, "{json}");
}
