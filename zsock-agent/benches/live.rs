//! What a record costs between the ring buffer and a line of JSON, step by step: decoded, sorted, assembled, judged, written.
//!
//! `cargo bench --bench live [LIFE [CONNECTIONS]]`: makes up what the kernel side tells of that many connections (100,000 unless told
//! otherwise) under `--events all`, in batches as large as a busy host has in the time that records are held back. `healthy` ones, as
//! they are unless told otherwise, come and go a thousand at once; `short` ones are over before the next begins; those of a `storm` send
//! again and again until they are closed, and come under a verdict.
//! Prints the processor time of each step and record. Who owns the sockets is asked of nobody: a look at holders is the kernel's work.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::mem::offset_of;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::time::{ClockId, clock_gettime};
use zsock_agent::detect::Thresholds;
use zsock_agent::engine::Engine;
use zsock_agent::kernel_rules::Jiffies;
use zsock_agent::record::{Record, State};
use zsock_agent::sink::Ndjson;
use zsock_agent::source::assemble::Assembler;
use zsock_agent::source::assemble::facts::Units;
use zsock_agent::source::clock::Clock;
use zsock_agent::source::decode::{Boxes, Raw};
use zsock_agent::source::order::Order;
use zsock_common::offsets::Offsets;
use zsock_common::wire::{Endpoints, Head, Kind, Process, SocketRecord, TcpFacts};

/// Connections that live at once, and events in a batch.
const AT_ONCE: u64 = 1_000;

/// The states of one, and what the kernel tells of its end.
const LIFE: [State; 6] =
    [State::CLOSE, State::SYN_SENT, State::ESTABLISHED, State::FIN_WAIT1, State::FIN_WAIT2, State::CLOSE];

/// After so many steps it stands: there the retransmissions of a storm come, so many of them.
const STANDS: usize = 2;
const RETRANSMISSIONS: usize = 12;

const STEPS: [&str; 6] = ["decoded", "sorted", "assembled", "judged", "written", "with verdicts"];

fn main() -> Result<()> {
    let mut given = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let (retransmissions, are_short) = match given.next().as_deref() {
        None | Some("healthy") => (0, false),
        Some("short") => (0, true),
        Some("storm") => (RETRANSMISSIONS, false),
        Some(other) => bail!("connections are `healthy`, `short` or in a `storm`, not {other:?}"),
    };
    let steps = LIFE.len() + retransmissions;
    let connections: u64 =
        given.next().map_or(Ok(100_000), |given| given.parse()).context("a number of connections")?;
    let hz = NonZeroU32::new(1_000).context("ticks")?;
    let Ok(offsets) = Offsets::resolve(|_| Ok::<_, Infallible>(0));
    let units = Units::new(Jiffies::new(hz), &offsets);
    let host = Arc::from("web-1.example");
    let mut assembler = Assembler::new(host, Clock::start()?, units, BTreeMap::new(), 1 << 18);
    let (mut order, mut engine) = (Order::default(), Engine::new(Thresholds::default()).without_timelines());
    let mut boxes = Boxes::default();
    let mut took = [Duration::ZERO; STEPS.len()];
    let (mut told, mut verdicts, mut now_ns) = (0, 0, 3_600_000_000_000);
    let (mut ndjson, mut lines, mut written) = (Ndjson::default(), Vec::new(), 0);
    for first in (1..=connections).step_by(usize::try_from(AT_ONCE)?) {
        let ids = first..first + AT_ONCE;
        let events: Vec<_> = if are_short {
            ids.flat_map(|id| (0..steps).map(move |step| (id, step))).collect()
        } else {
            (0..steps).flat_map(|step| ids.clone().map(move |id| (id, step))).collect()
        };
        for events in events.chunks(usize::try_from(AT_ONCE)?) {
            let event = |((id, step), at_ns): (&(u64, usize), u64)| match step.checked_sub(STANDS) {
                Some(sent_again) if sent_again < retransmissions => retransmission(*id, sent_again, at_ns),
                Some(later) => change(*id, STANDS + later - retransmissions, at_ns),
                None => change(*id, *step, at_ns),
            };
            let batch: Vec<_> = events.iter().zip((now_ns..).step_by(1_000)).map(event).collect();
            now_ns += 10_000_000;
            let mut clock = clock()?;
            let mut lap = |step: usize| -> Result<()> {
                took[step] += self::clock()?.saturating_sub(clock);
                clock = self::clock()?;
                Ok(())
            };
            let raws: Vec<Raw> =
                batch.iter().map(|bytes| Raw::decode_into(bytes, &mut boxes)).collect::<Result<_, _>>()?;
            lap(0)?;
            for raw in raws {
                assembler.learn(&raw);
                order.push(raw);
            }
            let raws: Vec<Raw> = std::iter::from_fn(|| order.pop(now_ns)).collect();
            lap(1)?;
            // As many at once as stay in the cache, where each is when it goes through alone.
            for raws in raws.chunks(64) {
                let mut records: Vec<Record> = Vec::new();
                for raw in raws {
                    assembler.assemble(raw, &mut records);
                }
                lap(2)?;
                let found: Vec<_> = records.iter().flat_map(|record| engine.push(record)).collect();
                ensure!(retransmissions > 0 || found.is_empty(), "they are healthy");
                lap(3)?;
                told += records.len();
                verdicts += found.len();
                for record in &records {
                    ndjson.append(record, &mut lines);
                }
                lap(4)?;
                for finding in &found {
                    ndjson.append(&finding.record, &mut lines);
                }
                lap(5)?;
                written += std::mem::take(&mut lines).len();
            }
            for raw in raws {
                boxes.take_back(raw);
            }
            lap(0)?;
        }
    }
    for (step, took) in STEPS.into_iter().zip(took) {
        println!("{step:>13}: {:.0?} a record", took / u32::try_from(told)?);
    }
    println!("{told} records and {verdicts} verdicts, {written} bytes");
    Ok(())
}

/// What the kernel side writes of a connection whose state changes, or that comes to its end.
fn change(id: u64, step: usize, at_ns: u64) -> Vec<u8> {
    let is_last = step + 1 == LIFE.len();
    let kind = if is_last { Kind::Destroyed } else { Kind::State };
    let mut bytes = bytes(id, kind, LIFE[step], at_ns);
    let to = LIFE[(step + 1).min(LIFE.len() - 1)];
    put(&mut bytes, offset_of!(SocketRecord, detail), &u32::from(LIFE[step].0).to_ne_bytes());
    put(&mut bytes, offset_of!(SocketRecord, detail2), &u32::from(to.0).to_ne_bytes());
    // No process has this id.
    put(&mut bytes, ACTOR + offset_of!(Process, tgid), &(u32::MAX - 1).to_ne_bytes());
    put(&mut bytes, ACTOR + offset_of!(Process, comm), b"worker");
    bytes
}

/// What it writes where the timer has sent again what was sent `sent_again + 1` time-outs ago.
fn retransmission(id: u64, sent_again: usize, at_ns: u64) -> Vec<u8> {
    const LOSS: u8 = 4;
    let mut bytes = bytes(id, Kind::Retransmit, State::ESTABLISHED, at_ns);
    let mut put = |at: usize, value: &[u8]| put(&mut bytes, TCP + at, value);
    let attempt = u8::try_from(sent_again + 1).unwrap_or(u8::MAX);
    put(offset_of!(TcpFacts, retransmits), &[attempt]);
    put(offset_of!(TcpFacts, backoff), &[attempt - 1]);
    put(offset_of!(TcpFacts, ca_state), &[LOSS]);
    put(offset_of!(TcpFacts, snd_nxt), &100_u32.to_ne_bytes());
    put(offset_of!(TcpFacts, write_seq), &100_u32.to_ne_bytes());
    put(offset_of!(TcpFacts, snd_wnd), &65_536_u32.to_ne_bytes());
    put(offset_of!(TcpFacts, icsk_rto), &(20_u32 << sent_again).to_ne_bytes());
    put(offset_of!(TcpFacts, icsk_rto_max), &120_000_u32.to_ne_bytes());
    put(offset_of!(TcpFacts, sysctl_retries2), &[15]);
    bytes
}

const TCP: usize = offset_of!(SocketRecord, tcp);
const ENDS: usize = offset_of!(SocketRecord, endpoints);
const ACTOR: usize = offset_of!(SocketRecord, actor);

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// What is the same in all of it, with numbers as a host has them.
fn bytes(id: u64, kind: Kind, state: State, at_ns: u64) -> Vec<u8> {
    let mut bytes = vec![0; size_of::<SocketRecord>()];
    let mut put = |at: usize, value: &[u8]| put(&mut bytes, at, value);
    put(offset_of!(Head, time_ns), &at_ns.to_ne_bytes());
    put(offset_of!(Head, cookie), &id.to_ne_bytes());
    put(offset_of!(Head, kind), &(kind as u16).to_ne_bytes());
    put(TCP + offset_of!(TcpFacts, state), &[state.0]);
    put(TCP + offset_of!(TcpFacts, has_socket), &[1]);
    put(TCP + offset_of!(TcpFacts, inode), &(3_000_000 + id).to_ne_bytes());
    put(offset_of!(Head, jiffies), &5_000_u32.to_ne_bytes());
    for (field, value) in [
        (offset_of!(TcpFacts, rcv_tstamp), 4_988_u32),
        (offset_of!(TcpFacts, lrcvtime), 4_988),
        (offset_of!(TcpFacts, snd_wnd), 65_536),
        (offset_of!(TcpFacts, snd_cwnd), 10),
        (offset_of!(TcpFacts, icsk_rto), 204),
        (offset_of!(TcpFacts, srtt_us), 8 * 420),
        (offset_of!(TcpFacts, sysctl_keepalive_time), 7_200_000),
        (offset_of!(TcpFacts, sysctl_keepalive_intvl), 75_000),
    ] {
        put(TCP + field, &value.to_ne_bytes());
    }
    put(TCP + offset_of!(TcpFacts, sysctl_keepalive_probes), &[9]);
    put(ENDS + offset_of!(Endpoints, netns), &4_026_531_840_u32.to_ne_bytes());
    put(ENDS + offset_of!(Endpoints, uid), &1_000_u32.to_ne_bytes());
    let mapped = |last: u8| std::net::Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().octets();
    put(ENDS + offset_of!(Endpoints, local), &mapped(1));
    put(ENDS + offset_of!(Endpoints, remote), &mapped(2));
    let port = 32_768 + u16::try_from(id % 28_000).unwrap_or_default();
    put(ENDS + offset_of!(Endpoints, local_port), &port.to_ne_bytes());
    put(ENDS + offset_of!(Endpoints, remote_port), &5_432_u16.to_ne_bytes());
    bytes
}

/// Processor time of this thread so far.
fn clock() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
