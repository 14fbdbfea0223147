//! A hundred thousand idle connections between processes of one namespace: each end is judged, and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use serde::Deserialize;

use crate::await_some;
use crate::net::Namespace;
use crate::once::Once;
use crate::peer::Peer;
use crate::zsock::Filed;

const CONNECTIONS: usize = 100_000;
/// For 200,000 sockets, their processes and zsock, with room.
const MEMORY_KIB: u64 = 4 << 20;
/// No claim: the machine may be slow.
const LIMIT: Duration = Duration::from_mins(2);

pub(super) fn every_one_of_a_hundred_thousand_is_judged() {
    let namespace = Namespace::new("crowd");
    let mut client = Peer::start(&namespace, "crowd-client");
    let reply = client.ask(&format!("idle-crowd {CONNECTIONS}"));
    // Their processes, as many as the limit of descriptors makes necessary, and how many connections each has.
    let holders: BTreeMap<u64, usize> = reply.expect("idling").split(',').filter_map(holder).collect();
    assert_eq!(holders.values().sum::<usize>(), 2 * CONNECTIONS);
    let inode = namespace.inode().to_string();
    let arguments = ["--events", "none", "--netns", &inode, "--threshold", "unguarded_idle=3s"];
    assert_audited(&inode, &holders);
    let Some(mut zsock) = Filed::start(&arguments) else { return };
    let mut told = Told::default();
    await_some("a verdict on each socket", LIMIT, || {
        zsock.read(|line| told.note(line));
        (told.opened >= 2 * CONNECTIONS).then_some(())
    });
    zsock.stop();
    zsock.read(|line| told.note(line));

    let sockets: BTreeMap<u64, usize> =
        told.sockets.iter().map(|(pid, sockets)| (*pid, sockets.len())).collect();
    assert_eq!(sockets, holders, "sockets with a verdict, by owner");
    assert_eq!(told.opened, 2 * CONNECTIONS, "verdicts");
    assert_eq!(told.others, ["end", "start"].map(str::to_owned).into());
    let end = told.end.expect("told.others has it");
    assert_eq!((end.lost_events, end.verdicts), (Some(0), Some(2 * CONNECTIONS as u64)));
}

/// Checks that an audit counts every one of them, each as its owner's.
fn assert_audited(netns: &str, holders: &BTreeMap<u64, usize>) {
    let limit = holders.len().to_string();
    let arguments = ["audit", "-o", "json", "--netns", netns, "--state", "ESTABLISHED", "--group", "process"];
    let Some(audit) = Once::run(&[&arguments[..], &["--limit", &limit]].concat()) else { return };
    let summary = audit.lines.last().expect("a summary");
    assert_eq!(summary.number("sockets"), Some(2 * CONNECTIONS as u64), "in {}", summary.record);
    assert_eq!(
        summary.number("noticed_on_loopback.never"),
        Some(2 * CONNECTIONS as u64),
        "in {}",
        summary.record
    );
    let groups = summary.get("groups").and_then(serde_json::Value::as_array).expect("groups");
    let by_owner: BTreeMap<u64, usize> = groups
        .iter()
        .filter_map(|group| {
            Some((
                group.pointer("/process/pid")?.as_u64()?,
                usize::try_from(group["sockets"].as_u64()?).ok()?,
            ))
        })
        .collect();
    assert_eq!(&by_owner, holders, "sockets by owner");
}

/// A pid and how many connections it has.
fn holder(text: &str) -> Option<(u64, usize)> {
    let (pid, connections) = text.split_once(':')?;
    Some((pid.parse().ok()?, connections.parse().ok()?))
}

/// Why this cannot be played here, if it cannot.
pub(super) fn lacking() -> Option<String> {
    lacking_memory(MEMORY_KIB)
}

/// What is missing where there is less free memory than this.
pub(super) fn lacking_memory(wanted_kib: u64) -> Option<String> {
    let text = fs::read_to_string("/proc/meminfo").expect("/proc is mounted");
    let available = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: u64 = available.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0);
    (kib < wanted_kib).then(|| format!("needs {wanted_kib} KiB of memory, {kib} are available"))
}

/// What zsock wrote so far, as far as it is counted.
#[derive(Default)]
struct Told {
    /// Verdicts of the kind expected that opened.
    opened: usize,
    /// The sockets that they are about, by owner.
    sockets: BTreeMap<u64, BTreeSet<String>>,
    /// Types of all other records.
    others: BTreeSet<String>,
    end: Option<Record>,
}

#[derive(Deserialize)]
struct Record {
    r#type: String,
    verdict: Option<String>,
    phase: Option<String>,
    socket: Option<Socket>,
    lost_events: Option<u64>,
    verdicts: Option<u64>,
}

#[derive(Deserialize)]
struct Socket {
    id: String,
    pid: Option<u64>,
}

impl Told {
    fn note(&mut self, line: &str) {
        let record: Record = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
        let kind = (record.verdict.as_deref(), record.phase.as_deref());
        match &record.socket {
            Some(Socket { id, pid: Some(pid) }) if kind == (Some("unguarded_idle"), Some("opened")) => {
                self.opened += 1;
                self.sockets.entry(*pid).or_default().insert(id.clone());
            }
            _ => {
                self.others.insert(record.r#type.clone());
                if record.r#type == "end" {
                    self.end = Some(record);
                }
            }
        }
    }
}
