//! Connections that all send at once when nothing gets through any more, so that all of them send again; once, or in waves.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use socket2::SockRef;

use super::super::compare::number;
use super::{now, say_and_wait};
use crate::command;

/// Where the server listens, at the other end of the cable; tools are searched for it.
const SERVER: &str = "10.66.0.2:9066";

/// How often the kernel's count is looked at.
const EVERY: Duration = Duration::from_millis(100);

/// In waves everything vanishes for so many looks, in which most connections send again three times, and then gets through for as many:
/// long enough for what they send again once more.
const LOOKS: usize = 2;

pub(super) fn run(server: &Path, connections: usize, length: Duration, in_waves: bool) -> Result<()> {
    let server = File::open(server).with_context(|| format!("cannot open {}", server.display()))?;
    let accepted = thread::scope(|scope| -> Result<_> {
        let listener = inside(&server, || Ok(TcpListener::bind(SERVER)?))?;
        let accept = move || (0..connections).map(|_| fleeting(listener.accept()?.0)).collect();
        let accepting = scope.spawn(accept);
        let clients = (0..connections).map(|_| fleeting(TcpStream::connect(SERVER)?)).collect();
        let accepted: Result<Vec<_>> = accepting.join().map_err(|_| anyhow!("a thread panicked"))?;
        Ok((clients, accepted?))
    });
    let (clients, _accepted): (Result<Vec<_>>, _) = accepted?;
    let mut clients = clients.context("cannot connect")?;
    say_and_wait("ready")?;
    let before = sent_again()?;
    let began = now();
    let (mut last, mut looked, mut next, mut worst) = (before, began, began, 0.0);
    // Waves are whole ones: they end when everything gets through.
    let begins_wave = |look: usize| in_waves && look.is_multiple_of(2 * LOOKS);
    let goes_on = |look: &usize| began.elapsed() < length || in_waves && !begins_wave(*look);
    for look in (0..).take_while(goes_on) {
        if look == 0 || begins_wave(look) {
            vanish(true)?;
            for client in &mut clients {
                client.write_all(&[66; 100]).context("cannot write")?;
            }
        } else if in_waves && look.is_multiple_of(LOOKS) {
            vanish(false)?;
        }
        next += EVERY;
        thread::sleep(next.saturating_duration_since(now()));
        let current = sent_again()?;
        worst = f64::max(worst, number(current - last) / looked.elapsed().as_secs_f64());
        (last, looked) = (current, now());
    }
    // What is stuck for good goes on while the tools work off what they have.
    say_and_wait("done")?;
    println!("{} {worst:.0}", sent_again()? - before);
    Ok(())
}

/// Has everything vanish that is sent to the server, or lets it through again. A rule of nftables would do, but what is dropped there waits
/// in a queue before, and the kernel sends nothing again that is still on its way.
fn vanish(does_vanish: bool) -> Result<()> {
    let words: &[&str] = if does_vanish {
        &["qdisc", "add", "dev", "cable", "root", "blackhole"]
    } else {
        &["qdisc", "delete", "dev", "cable", "root"]
    };
    let changed = command::output(Command::new("tc").args(words));
    changed.map(drop).context("cannot have everything vanish, or get through")
}

/// A connection that is gone when it is closed: else it would go on to send again, in a namespace that it keeps alive.
fn fleeting(connection: TcpStream) -> Result<TcpStream> {
    SockRef::from(&connection).set_linger(Some(Duration::ZERO))?;
    Ok(connection)
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
