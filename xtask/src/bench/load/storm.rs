//! Connections that all send at once when nothing gets through any more, so that all of them send again.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use super::{now, say_and_wait};
use crate::command;

/// Where the server listens, at the other end of the cable; tools are searched for it.
const SERVER: &str = "10.66.0.2:9066";

/// How often the kernel's count is looked at.
const EVERY: Duration = Duration::from_millis(100);

pub(super) fn run(server: &Path, connections: usize, length: Duration) -> Result<()> {
    let server = File::open(server).with_context(|| format!("cannot open {}", server.display()))?;
    let accepted = thread::scope(|scope| -> Result<_> {
        let listener = inside(&server, || Ok(TcpListener::bind(SERVER)?))?;
        let accepting = scope.spawn(move || (0..connections).map(|_| listener.accept()).collect::<Vec<_>>());
        let clients = (0..connections).map(|_| TcpStream::connect(SERVER)).collect::<Result<Vec<_>, _>>();
        Ok((clients.context("cannot connect")?, accepting.join()))
    });
    let (mut clients, _accepted) = accepted?;
    say_and_wait("ready")?;
    let rules =
        "add table inet gate; add chain inet gate in { type filter hook input priority 0; policy drop; }";
    inside(&server, || command::output(Command::new("nft").arg(rules)))?;
    let before = sent_again()?;
    for client in &mut clients {
        client.write_all(&[66; 100]).context("cannot write")?;
    }
    let until = now() + length;
    let (mut last, mut worst) = (before, 0);
    while now() < until {
        thread::sleep(EVERY);
        let current = sent_again()?;
        worst = worst.max(current - last);
        last = current;
    }
    // It goes on while the tools work off what they have.
    say_and_wait("done")?;
    println!("{} {}", sent_again()? - before, worst * 10);
    Ok(())
}

/// Does something on a thread inside another namespace.
fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let inside = || {
        setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter the server's namespace")?;
        work()
    };
    thread::scope(|scope| scope.spawn(inside).join()).map_err(|_| anyhow!("a thread panicked"))?
}

/// How many segments this namespace has sent again.
fn sent_again() -> Result<u64> {
    let counters = fs::read_to_string("/proc/self/net/snmp").context("cannot read /proc/self/net/snmp")?;
    retransmitted(&counters).context("/proc/self/net/snmp does not count what is sent again")
}

fn retransmitted(counters: &str) -> Option<u64> {
    let mut lines = counters.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let place = lines.next()?.split(' ').position(|name| name == "RetransSegs")?;
    lines.next()?.split(' ').nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::retransmitted;

    #[test]
    fn the_kernels_count_is_found_by_its_name() {
        let counters =
            "Ip: Forwarding\nIp: 1\nTcp: RtoAlgorithm MaxConn RetransSegs InErrs\nTcp: 1 -1 77 0\n";
        assert_eq!(retransmitted(counters), Some(77));
        assert_eq!(retransmitted("Tcp: RtoAlgorithm\nTcp: 1\n"), None);
    }
}
