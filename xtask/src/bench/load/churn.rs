//! Connections that are made and closed in good order, on every processor, as fast as it goes.

use std::fs;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use super::{now, say_and_wait};

/// What the address of each listener begins with; nobody else uses such.
pub(crate) const ADDRESSES: &str = "127.66.0.";

pub(super) fn run(length: Duration) -> Result<()> {
    // Ports are free again at once. Each end sends its FIN and has it acknowledged all the same.
    fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "0").context("cannot do without TIME_WAIT")?;
    let processors = u8::try_from(thread::available_parallelism()?.get()).unwrap_or(u8::MAX);
    let listeners = (1..=processors).map(|which| TcpListener::bind((Ipv4Addr::new(127, 66, 0, which), 9000)));
    let listeners = listeners.collect::<Result<Vec<_>, _>>().context("cannot listen")?;
    say_and_wait("ready")?;
    let began = now();
    let until = began + length;
    let made = thread::scope(|scope| {
        let threads: Vec<_> =
            listeners.iter().map(|listener| scope.spawn(move || connect_until(listener, until))).collect();
        let made =
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?);
        made.sum::<Result<u64>>()
    })?;
    let took = began.elapsed();
    say_and_wait("done")?;
    println!("{made} {}", took.as_secs_f64());
    Ok(())
}

fn connect_until(listener: &TcpListener, until: Instant) -> Result<u64> {
    let address: SocketAddr = listener.local_addr()?;
    let mut made = 0;
    while now() < until {
        let client = TcpStream::connect(address).context("cannot connect")?;
        let (server, _) = listener.accept().context("cannot accept")?;
        // A client that closes altogether would leave the rest to a socket in TIME_WAIT, and there is none.
        client.shutdown(Shutdown::Write)?;
        drop(server);
        made += 1;
    }
    Ok(made)
}
