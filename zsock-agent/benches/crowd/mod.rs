//! Idle loopback connections, as many as are asked for, in a network namespace of their own.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, unshare};

/// Connections of one process: both ends are its own, and the usual limit of descriptors is 20,000.
const PER_PROCESS: u32 = 8_000;

/// How many connections the command line asks for, 10,000 unless told otherwise; `None` where this process was one of the crowd, which is
/// over.
pub(crate) fn asked_for() -> Result<Option<u32>> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let first = arguments.next();
    if first.as_deref() == Some("crowd") {
        let mut number = || arguments.next().context("a number");
        hold(number()?.parse()?, number()?.parse()?)?;
        return Ok(None);
    }
    let connections = first.as_deref().map(str::parse).transpose().context("a number of connections")?;
    Ok(Some(connections.unwrap_or(10_000)))
}

/// Enters a network namespace of its own and starts so many connections there.
pub(crate) fn start(connections: u32) -> Result<Vec<Child>> {
    unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace: run as root")?;
    Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65000")?;
    let mut crowds = Vec::new();
    let mut left = connections;
    while left > 0 {
        let some = left.min(PER_PROCESS);
        left -= some;
        crowds.push(start_one(crowds.len() + 1, some)?);
    }
    Ok(crowds)
}

fn start_one(which: usize, connections: u32) -> Result<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["crowd", &which.to_string(), &connections.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().context("stdout is piped")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    ensure!(line == "ready\n", "a crowd could not connect");
    Ok(child)
}

/// Holds `count` idle connections to an address of its own until stdin ends.
fn hold(which: u8, count: u32) -> Result<()> {
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
