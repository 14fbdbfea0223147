//! What one pass over the sockets of a namespace costs, against a bare iteration over the same sockets in the same run.
//!
//! `cargo bench --bench pass [CONNECTIONS]`, as root: makes that many idle loopback connections (10,000 unless told otherwise) in a
//! network namespace of its own, and prints medians.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};
use zsock_agent::detect::Thresholds;
use zsock_agent::kernel_rules::Jiffies;
use zsock_agent::source::kernel::looks::{Limits, Pass};
use zsock_agent::source::kernel::{Kernel, Options};
use zsock_common::settings::Filter;

const ROUNDS: usize = 21;

/// Connections of one process: both ends are its own, and the usual limit of descriptors is 20,000.
const PER_PROCESS: u32 = 8_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("crowd"), Some(which)) => crowd(which.parse()?, arguments.next().context("a count")?.parse()?),
        (connections, _) => {
            let connections = connections.map(str::parse).transpose().context("a number of connections")?;
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(async { compare(connections.unwrap_or(10_000)) })
        }
    }
}

/// Holds `count` idle connections to an address of its own until stdin ends.
fn crowd(which: u8, count: u32) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, 1, which), 9000));
    let listener = TcpListener::bind(address)?;
    let mut held = Vec::new();
    for _ in 0..count {
        let client = TcpStream::connect(address).context("connect")?;
        held.push((client, listener.accept()?));
    }
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

fn compare(connections: u32) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace: run as root")?;
    Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65000")?;
    let _crowds = start_crowds(connections)?;
    let options = Options {
        all_events: false,
        buffer_bytes: 8 << 20,
        stored_sockets: u32::MAX,
        filter: Filter::NONE,
        has_log: false,
        hooks: Vec::new(),
    };
    let mut kernel = Kernel::attach(&options)?;
    let own = File::open("/proc/self/ns/net")?;
    let namespaces = BTreeMap::from([(own.metadata()?.ino(), own)]);
    kernel.seed_holders()?;
    kernel.seed_sockets(&namespaces)?;
    let hz = NonZeroU32::new(250).context("not zero")?;
    kernel.set_limits(Limits::new(&Thresholds::default(), Jiffies::new(hz)))?;
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        // Whichever goes second finds the caches warm.
        for which in [round % 2, 1 - round % 2] {
            times[which].push(cpu(|| match which {
                0 => Ok(run(kernel.begin_bare_walk(&namespaces)?)),
                _ => Ok(run(kernel.begin_pass(&namespaces)?)),
            })?);
        }
    }
    let [bare, pass] = times.map(|mut all| {
        all.sort();
        all[ROUNDS / 2]
    });
    println!(
        "{} sockets: bare iteration {bare:.2?}, pass {pass:.2?} of CPU: {:.2} times",
        2 * connections,
        pass.as_secs_f64() / bare.as_secs_f64()
    );
    Ok(())
}

fn start_crowds(connections: u32) -> Result<Vec<Child>> {
    let mut crowds = Vec::new();
    let mut left = connections;
    while left > 0 {
        let some = left.min(PER_PROCESS);
        left -= some;
        let which = (crowds.len() + 1).to_string();
        let mut child = Command::new(std::env::current_exe()?)
            .args(["crowd", &which, &some.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("stdout is piped")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        anyhow::ensure!(line == "ready\n", "a crowd could not connect");
        crowds.push(child);
    }
    Ok(crowds)
}

fn run(mut pass: Pass) -> Pass {
    while pass.step() {}
    pass
}

/// CPU time of this thread in `work`.
fn cpu<T>(work: impl FnOnce() -> Result<T>) -> Result<Duration> {
    let now = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let before = now()?;
    work()?;
    Ok(now()?.saturating_sub(before))
}
