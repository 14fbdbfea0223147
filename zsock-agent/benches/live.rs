//! What a record costs between the ring buffer and a line of JSON, step by step: decoded, sorted, assembled, judged, written.
//!
//! `cargo bench --bench live [CONNECTIONS]`: makes up what the kernel side tells of that many healthy connections (100,000 unless told
//! otherwise) under `--events all`, in batches as large as a busy host has in the time that records are held back. Prints the processor time
//! of each step and record. Who owns the sockets is asked of nobody: a look at holders is the kernel's work.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::mem::offset_of;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};
use zsock_agent::detect::Thresholds;
use zsock_agent::engine::Engine;
use zsock_agent::kernel_rules::Jiffies;
use zsock_agent::record::{Record, State};
use zsock_agent::sink::ndjson;
use zsock_agent::source::assemble::Assembler;
use zsock_agent::source::assemble::facts::Units;
use zsock_agent::source::clock::Clock;
use zsock_agent::source::decode::{Boxes, Raw};
use zsock_agent::source::order::Order;
use zsock_common::offsets::Offsets;
use zsock_common::wire::{Endpoints, Head, Kind, Process, SocketRecord, TcpFacts, Wire as _};

/// Connections that live at once, one event of each in a batch.
const AT_ONCE: u64 = 1_000;

/// The states of one, and what the kernel tells of its end.
const LIFE: [State; 6] =
    [State::CLOSE, State::SYN_SENT, State::ESTABLISHED, State::FIN_WAIT1, State::FIN_WAIT2, State::CLOSE];

const STEPS: [&str; 5] = ["decoded", "sorted", "assembled", "judged", "written"];

fn main() -> Result<()> {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let connections: u64 =
        given.map_or(Ok(100_000), |given| given.parse()).context("a number of connections")?;
    let hz = NonZeroU32::new(1_000).context("ticks")?;
    let Ok(offsets) = Offsets::resolve(|_| Ok::<_, Infallible>(0));
    let units = Units::new(Jiffies::new(hz), &offsets);
    let host = Arc::from("web-1.example");
    let mut assembler = Assembler::new(host, Clock::start()?, units, BTreeMap::new(), 1 << 18);
    let (mut order, mut engine) = (Order::default(), Engine::new(Thresholds::default()));
    let mut boxes = Boxes::default();
    let mut took = [Duration::ZERO; STEPS.len()];
    let (mut told, mut written, mut now_ns) = (0, 0, 3_600_000_000_000);
    for first in (1..=connections).step_by(usize::try_from(AT_ONCE)?) {
        for step in 0..LIFE.len() {
            let batch: Vec<_> = (first..first + AT_ONCE).map(|id| bytes(id, step, now_ns)).collect();
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
                let records: Vec<Record> = raws.iter().flat_map(|raw| assembler.assemble(raw)).collect();
                lap(2)?;
                let found: usize = records.iter().map(|record| engine.push(record).len()).sum();
                anyhow::ensure!(found == 0, "they are healthy");
                lap(3)?;
                told += records.len();
                written += records.iter().map(|record| ndjson::render(record).len()).sum::<usize>();
                lap(4)?;
            }
            for raw in raws {
                boxes.take_back(raw);
            }
            lap(0)?;
        }
    }
    for (step, took) in STEPS.into_iter().zip(took) {
        println!("{step:>10}: {:.0?} a record", took / u32::try_from(told)?);
    }
    println!("{told} records, {} bytes each", written / told);
    Ok(())
}

/// What the kernel side writes of a connection at a step of its life.
fn bytes(id: u64, step: usize, now_ns: u64) -> Vec<u8> {
    const TCP: usize = offset_of!(SocketRecord, tcp);
    const ENDS: usize = offset_of!(SocketRecord, endpoints);
    const ACTOR: usize = offset_of!(SocketRecord, actor);
    let mut bytes = vec![0; SocketRecord::SIZE_BYTES];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let is_last = step + 1 == LIFE.len();
    let kind = if is_last { Kind::Destroyed } else { Kind::State };
    put(offset_of!(Head, time_ns), &(now_ns + id % AT_ONCE * 1_000).to_ne_bytes());
    put(offset_of!(Head, cookie), &id.to_ne_bytes());
    put(offset_of!(Head, kind), &(kind as u16).to_ne_bytes());
    let to = LIFE[(step + 1).min(LIFE.len() - 1)];
    put(offset_of!(SocketRecord, detail), &u32::from(LIFE[step].0).to_ne_bytes());
    put(offset_of!(SocketRecord, detail2), &u32::from(to.0).to_ne_bytes());
    put(TCP + offset_of!(TcpFacts, state), &[LIFE[step].0]);
    put(TCP + offset_of!(TcpFacts, has_socket), &[1]);
    put(TCP + offset_of!(TcpFacts, inode), &(3_000_000 + id).to_ne_bytes());
    let mapped = |last: u8| std::net::Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().octets();
    put(ENDS + offset_of!(Endpoints, local), &mapped(1));
    put(ENDS + offset_of!(Endpoints, remote), &mapped(2));
    let port = 32_768 + u16::try_from(id % 28_000).unwrap_or_default();
    put(ENDS + offset_of!(Endpoints, local_port), &port.to_ne_bytes());
    put(ENDS + offset_of!(Endpoints, remote_port), &5_432_u16.to_ne_bytes());
    // No process has this id.
    put(ACTOR + offset_of!(Process, tgid), &(u32::MAX - 1).to_ne_bytes());
    put(ACTOR + offset_of!(Process, comm), b"worker");
    bytes
}

/// Processor time of this thread so far.
fn clock() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
