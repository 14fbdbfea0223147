//! One connection that sends as much as it goes.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::{now, say_and_wait};

const PIECE: usize = 256 << 10;

pub(super) fn run(length: Duration) -> Result<()> {
    let listener = TcpListener::bind("127.66.0.1:0").context("cannot listen")?;
    let mut client = TcpStream::connect(listener.local_addr()?).context("cannot connect")?;
    let (mut server, _) = listener.accept().context("cannot accept")?;
    say_and_wait("ready")?;
    let began = now();
    let until = began + length;
    stay_on(1);
    let sender = thread::spawn(move || -> Result<()> {
        stay_on(0);
        let piece = vec![66; PIECE];
        while now() < until {
            client.write_all(&piece).context("cannot write")?;
        }
        Ok(())
    });
    let mut piece = vec![0; PIECE];
    let mut received = 0;
    loop {
        let bytes = server.read(&mut piece).context("cannot read")?;
        if bytes == 0 {
            break;
        }
        received += bytes;
    }
    let took = began.elapsed();
    sender.join().map_err(|_| anyhow!("a thread panicked"))??;
    say_and_wait("done")?;
    println!("{received} {}", took.as_secs_f64());
    Ok(())
}

/// Has this thread stay on a processor, where there is one: how fast it goes depends on where both ends happen to be.
fn stay_on(processor: usize) {
    let mut only = CpuSet::new();
    let _ = only.set(processor).and_then(|()| sched_setaffinity(Pid::from_raw(0), &only));
}
