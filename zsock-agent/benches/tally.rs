//! What an audit costs beside the look at the sockets: sums, groups, the worst, every row, JSON and text.
//!
//! `cargo bench --bench tally [SOCKETS]`: makes up that many connections (200,000 unless told otherwise), half of them of one server's clients
//! and half to as many destinations, and prints medians, and the memory that rows take by what the process holds before and after.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};
use serde_json::json;
use zsock_agent::audit::{Grouping, Row, Shared, Sort, Tally, Worst};
use zsock_agent::record::{Found, Line, SocketId};
use zsock_agent::sink::audit::Report;
use zsock_agent::sink::{Palette, ndjson};
use zsock_agent::source::census::Coverage;
use zsock_agent::time::Time;

const ROUNDS: usize = 9;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let count = arguments.next().map_or(Ok(200_000), |count| count.parse()).context("a number of sockets")?;
    let sockets: Vec<Found> = made_up(count)?;

    let sums = || {
        let (mut tally, mut worst) = (Tally::new(Grouping::Both), Worst::new(Sort::Harm, Some(20)));
        let mut shared = Shared::default();
        for found in &sockets {
            tally.add(found);
            worst.admit(worst.place(found), || Row::of(found, &mut shared));
        }
        (tally.summary(10, &Coverage::default(), Duration::ZERO), worst.sorted().len())
    };
    let (summary, _) = sums();
    println!("sums, groups and the worst 20 of {count} sockets: {:?}", median(|| drop(sums()))?);

    let before = resident_bytes()?;
    let (mut every, mut shared) = (Worst::new(Sort::Harm, None), Shared::default());
    let took = time(|| {
        for found in &sockets {
            every.admit(every.place(found), || Row::of(found, &mut shared));
        }
    })?;
    let taken = resident_bytes()?.saturating_sub(before);
    println!("a row for each: {took:?}, {} bytes a socket", taken / count);

    let (mut bytes, report) = (
        0,
        Report {
            palette: Palette::PLAIN,
            columns: None,
            at: Time::from_unix_ns(0),
            host: "host",
            is_selective: false,
            summary: &summary,
            forgets_after: Duration::from_secs(350),
            sort: Sort::Harm,
        },
    );
    let told = time(|| report.tell(every.sorted(), &shared, &mut |text| bytes += text.len()))?;
    println!("text of each: {told:?}, {bytes} bytes");

    let mut bytes = 0;
    let json = || {
        bytes = 0;
        for found in &sockets {
            bytes += ndjson::render(&Line::new(Time::from_unix_ns(0), "host", found)).len();
        }
    };
    println!("JSON of each: {:?}, {bytes} bytes", median(json)?);
    Ok(())
}

fn made_up(count: usize) -> Result<Vec<Found>> {
    let template: Found = serde_json::from_value(json!({
        "type": "socket",
        "socket": {"id": "1", "family": "ipv4", "local": "10.0.0.1:443", "remote": "10.0.0.2:5432", "netns": 4_026_531_840_u32,
                   "pid": 812, "comm": "api", "uid": 33, "inode": 99_120, "cgroup": "/system.slice/api.service"},
        "tcp": {"state": "ESTABLISHED", "rto_ms": 204, "srtt_us": 250, "retransmits": 0, "unacked_bytes": 0, "unsent_bytes": 0,
                "unread_bytes": 0, "cwnd": 10, "last_sent_ms": 400_000, "last_received_ms": 399_000,
                "keepalive": {"enabled": true, "idle_ms": 7_200_000, "interval_ms": 75_000, "probes": 9}},
        "idle_ms": 399_000, "timer": {"kind": "keepalive", "in_ms": 6_801_000}, "noticed": "hours", "noticed_in_ms": 7_476_000,
    }))
    .context("a socket")?;
    let one = |number: usize| {
        let mut found = template.clone();
        let [_, high, middle, low] = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
        found.socket.id = SocketId(number as u64);
        found.socket.remote = Some(SocketAddr::from(([10, high, middle, low], 5432)));
        found.idle_ms = Some(number as u64 * 7919 % 400_009);
        found.accepted = number.is_multiple_of(2);
        found
    };
    Ok((0..count).map(one).collect())
}

fn median(mut work: impl FnMut()) -> Result<Duration> {
    let mut times = (0..ROUNDS).map(|_| time(&mut work)).collect::<Result<Vec<_>>>()?;
    times.sort_unstable();
    Ok(times[ROUNDS / 2])
}

fn time(work: impl FnOnce()) -> Result<Duration> {
    let now = || clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).context("read the clock");
    let began = now()?;
    work();
    Ok(now()?.saturating_sub(began))
}

fn resident_bytes() -> Result<usize> {
    let statm = fs::read_to_string("/proc/self/statm").context("read /proc/self/statm")?;
    let pages: usize = statm.split(' ').nth(1).context("the second field")?.parse()?;
    Ok(pages * 4096)
}
