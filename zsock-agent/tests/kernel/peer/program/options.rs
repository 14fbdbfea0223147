//! Sockets with each combination of set and unset options, and what `getsockopt` says of them.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, TcpKeepalive, Type};

use super::Said;

/// Keepalive, idle time, interval, probes and user timeout, each set or not.
const COMBINATIONS: u8 = 1 << 5;

/// Sockets kept open.
#[derive(Default)]
pub(super) struct Variants(Vec<Socket>);

impl Variants {
    /// Connects a socket for each combination. The reply has `port=keepalive/idle_s/interval_s/probes/user_timeout_ms` of each.
    pub(super) fn connect(&mut self, address: SocketAddr) -> io::Result<Said> {
        self.make(|| {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.connect(&address.into()).map(|()| socket)
        })
    }

    /// The same with listeners.
    pub(super) fn listen(&mut self) -> io::Result<Said> {
        self.make(|| {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
            socket.listen(7).map(|()| socket)
        })
    }

    fn make(&mut self, open: impl Fn() -> io::Result<Socket>) -> io::Result<Said> {
        let mut said = Vec::new();
        for combination in 0..COMBINATIONS {
            let socket = open()?;
            set(&socket, combination)?;
            said.push(read_back(&socket)?);
            self.0.push(socket);
        }
        Ok(Said("options", said.join(",")))
    }
}

fn set(socket: &Socket, combination: u8) -> io::Result<()> {
    let has = |bit: u8| combination & 1 << bit != 0;
    let mut keepalive = TcpKeepalive::new();
    if has(1) {
        keepalive = keepalive.with_time(Duration::from_secs(123));
    }
    if has(2) {
        keepalive = keepalive.with_interval(Duration::from_secs(11));
    }
    if has(3) {
        keepalive = keepalive.with_retries(5);
    }
    // This turns it on.
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_keepalive(has(0))?;
    if has(4) {
        socket.set_tcp_user_timeout(Some(Duration::from_millis(34_567)))?;
    }
    Ok(())
}

/// The options as the kernel says that they are.
pub(super) fn read_back(socket: &Socket) -> io::Result<String> {
    Ok(format!(
        "{}={}/{}/{}/{}/{}",
        super::local_port(socket)?,
        u8::from(socket.keepalive()?),
        socket.tcp_keepalive_time()?.as_secs(),
        socket.tcp_keepalive_interval()?.as_secs(),
        socket.tcp_keepalive_retries()?,
        socket.tcp_user_timeout()?.unwrap_or_default().as_millis()
    ))
}
