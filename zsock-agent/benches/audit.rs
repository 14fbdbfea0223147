//! What `zsock audit` costs, from its start to its end, against bare walks of the same sockets and files in the same run, and against `ss`.
//!
//! `cargo bench --bench audit [CONNECTIONS]`, as root: makes that many idle loopback connections (10,000 unless told otherwise) in a
//! network namespace of its own, and prints medians. The bare walks are programs that write 200 bytes of each socket and of each descriptor
//! of one, and are loaded already.

use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use zsock_agent::source::kernel::census::Census;
use zsock_common::settings::Filter;

mod crowd;

const ROUNDS: usize = 7;

fn main() -> Result<()> {
    let Some(connections) = crowd::asked_for()? else { return Ok(()) };
    let _crowds = crowd::start(connections)?;
    let mut census = Census::load(Filter::NONE)?;
    // Others on this host are none of the bare walk's either.
    let netns = std::fs::metadata("/proc/self/ns/net")?.ino().to_string();
    let audit = ["audit", "--netns", &netns];
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        times[0].push(timed(|| census.bare_walk().map(drop))?);
        times[1].push(timed(|| run(env!("CARGO_BIN_EXE_zsock"), &audit))?);
        times[2].push(timed(|| run(env!("CARGO_BIN_EXE_zsock"), &[&audit[..], &["-o", "json"]].concat()))?);
    }
    let [bare, text, json] = times.map(|mut all| {
        all.sort();
        all[ROUNDS / 2]
    });
    let ss = timed(|| run("ss", &["-tieonpm"]))?;
    println!("{} sockets: bare walk of sockets and files {bare:.2?}", 2 * connections);
    let against = |what: &str, took: Duration| {
        let times = took.as_secs_f64() / bare.as_secs_f64();
        println!(
            "{what} {took:.2?}: {times:.2} times, {:.2} of what ss takes",
            took.as_secs_f64() / ss.as_secs_f64()
        );
    };
    against("zsock audit", text);
    against("zsock audit -o json", json);
    against("ss -tieonpm", ss);
    Ok(())
}

/// Runs a program whose output nobody wants.
fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("run {program}"))?;
    ensure!(status.success(), "{program} failed: {status}");
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let now = || clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    let began = now()?;
    work()?;
    Ok(now()?.saturating_sub(began))
}
