//! A pool of connections to `PostgreSQL`, as small as one can be: version 3 of its protocol, no password, one column of one row.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

use super::{Said, local_port};

/// Version 3.0, 16 bits each.
const PROTOCOL: u32 = 3 << 16;
/// The process at the other end of the connection.
const QUERY: &str = "SELECT pg_backend_pid()";

/// The connections, the next one to be used first.
#[derive(Default)]
pub(super) struct Pool {
    connections: Vec<Socket>,
}

impl Pool {
    /// Opens `size` connections and uses each once; tells its port and the server's process of each.
    pub(super) fn open(&mut self, address: SocketAddr, size: usize) -> io::Result<Said> {
        let mut members = Vec::new();
        for _ in 0..size {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.connect(&address.into())?;
            log_in(&socket)?;
            members.push(format!("{}:{}", local_port(&socket)?, ask(&socket)?));
            self.connections.push(socket);
        }
        Ok(Said("pooled", members.join(",")))
    }

    /// Uses the first connection.
    pub(super) fn query(&mut self) -> io::Result<Said> {
        let socket = self.connections.first().ok_or_else(|| io::Error::other("no pool"))?;
        Ok(Said("queried", ask(socket)?))
    }
}

fn log_in(mut socket: &Socket) -> io::Result<()> {
    let mut message = PROTOCOL.to_be_bytes().to_vec();
    message.extend(b"user\0postgres\0database\0postgres\0\0");
    socket.write_all(&with_length(&message)?)?;
    rows_until_ready(socket).map(|_| ())
}

fn ask(mut socket: &Socket) -> io::Result<String> {
    let mut message = vec![b'Q'];
    message.extend(with_length(format!("{QUERY}\0").as_bytes())?);
    socket.write_all(&message)?;
    // A row is a count of columns (16 bits) and, for each, its length (32 bits) and text.
    let row = rows_until_ready(socket)?;
    row.get(6..)
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .ok_or_else(|| io::Error::other("no row"))
}

/// A length counts itself.
fn with_length(message: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(message.len() + 4).map_err(io::Error::other)?;
    Ok([&length.to_be_bytes(), message].concat())
}

/// Reads messages until the server is ready for a query; returns the last row among them.
fn rows_until_ready(mut socket: &Socket) -> io::Result<Vec<u8>> {
    let mut row = Vec::new();
    loop {
        let mut head = [0; 5];
        socket.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length =
            u32::from_be_bytes(length).checked_sub(4).ok_or_else(|| io::Error::other("bad length"))?;
        let mut message = vec![0; length as usize];
        socket.read_exact(&mut message)?;
        match kind {
            b'Z' => return Ok(row),
            b'D' => row = message,
            b'E' => return Err(io::Error::other(String::from_utf8_lossy(&message).replace('\0', "-"))),
            _ => {}
        }
    }
}
