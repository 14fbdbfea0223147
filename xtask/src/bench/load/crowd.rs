//! Connections that are made and then idle.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context as _, Result};

use super::say_and_wait;

pub(super) fn run(which: u8, connections: usize) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::new(127, 66, 1, which), 9000));
    let listener = TcpListener::bind(address).context("cannot listen")?;
    let mut held = Vec::new();
    for _ in 0..connections {
        let client = TcpStream::connect(address).context("cannot connect")?;
        held.push((client, listener.accept().context("cannot accept")?));
    }
    say_and_wait("ready")
}
