//! What one pass over the sockets of a namespace costs, against a bare iteration over the same sockets in the same run.
//!
//! `cargo bench --bench pass [CONNECTIONS]`, as root: makes that many idle loopback connections (10,000 unless told otherwise) in a
//! network namespace of its own, and prints medians.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, TcpStream};
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use zsock_agent::detect::Thresholds;
use zsock_agent::kernel_rules::Jiffies;
use zsock_agent::source::clock::Clock;
use zsock_agent::source::kernel::looks::{Limits, Pass};
use zsock_agent::source::kernel::{Kernel, Options};
use zsock_common::settings::Filter;

mod crowd;

const ROUNDS: usize = 21;

fn main() -> Result<()> {
    let Some(connections) = crowd::asked_for()? else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { compare(connections) })
}

fn compare(connections: u32) -> Result<()> {
    let _crowds = crowd::start(connections)?;
    let options = Options {
        all_events: false,
        buffer_bytes: 8 << 20,
        stored_sockets: u32::MAX,
        count_states: false,
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
    let clock = Clock::start()?;
    for round in 0..ROUNDS {
        // A namespace in which nothing is sent or received is left out.
        let _refused = TcpStream::connect((Ipv4Addr::LOCALHOST, 1));
        // Whichever goes second finds the caches warm.
        for which in [round % 2, 1 - round % 2] {
            times[which].push(cpu(|| match which {
                0 => kernel.begin_bare_walk(&namespaces).map(|walk| run(&mut kernel, walk)),
                _ => kernel.begin_pass(&namespaces, clock.monotonic_ns()).map(|pass| run(&mut kernel, pass)),
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

fn run(kernel: &mut Kernel, mut pass: Pass) {
    while kernel.step(&mut pass) {}
}

/// CPU time of this thread in `work`.
fn cpu<T>(work: impl FnOnce() -> Result<T>) -> Result<Duration> {
    let now = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let before = now()?;
    work()?;
    Ok(now()?.saturating_sub(before))
}
