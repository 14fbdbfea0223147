//! Many connections in one process: a crowd of clients, or all that a server has accepted.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use socket2::{Domain, Socket, Type};

use super::Said;

/// Fewer than the local ports that the kernel hands out towards one destination.
const CONNECTIONS_OF_ONE_ADDRESS: usize = 20_000;
/// Descriptors that a process has beside its crowd.
const OTHER_DESCRIPTORS: u64 = 64;

/// The connections, oldest first.
#[derive(Default)]
pub(super) struct Crowd {
    connections: Vec<Socket>,
    server: Option<Server>,
}

impl Crowd {
    /// Opens `count` connections and keeps them.
    pub(super) fn dial(&mut self, address: SocketAddr, count: usize) -> io::Result<Said> {
        for _ in 0..count {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.connect(&address.into())?;
            self.connections.push(socket);
        }
        Ok(Said("dialled", count.to_string()))
    }

    /// Accepts and keeps whatever waits to be accepted; an error of `accept` ends it.
    pub(super) fn accept_all(&mut self, listener: &Socket) -> io::Result<Said> {
        let mut count = 0_u32;
        while poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO)? > 0 {
            self.connections.push(listener.accept()?.0);
            count += 1;
        }
        Ok(Said("accepted", count.to_string()))
    }

    /// Accepts and keeps `count` connections.
    pub(super) fn welcome(&mut self, listener: &Socket, count: usize) -> io::Result<Said> {
        for _ in 0..count {
            self.connections.push(listener.accept()?.0);
        }
        Ok(Said("welcomed", count.to_string()))
    }

    /// Closes the oldest `count` connections.
    pub(super) fn let_go(&mut self, count: usize) -> io::Result<Said> {
        if count > self.connections.len() {
            return Err(ErrorKind::NotConnected.into());
        }
        self.connections.drain(..count);
        Ok(Said("let-go", count.to_string()))
    }

    /// Opens `count` connections to a server process of its own over the loopback device. From then on both idle.
    pub(super) fn idle(&mut self, count: usize) -> io::Result<Said> {
        set_nofile(count as u64 + OTHER_DESCRIPTORS)?;
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        listener.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
        listener.listen(4096)?;
        let port = listener.local_addr()?.as_socket().map_or(0, |local| local.port());
        let mut server = Server::start(listener)?;
        server.tell(&format!("nofile {}", count as u64 + OTHER_DESCRIPTORS))?;
        server.await_reply("set")?;
        server.tell(&format!("welcome {count}"))?;
        let hosts = (1_u32..).map(|host| Ipv4Addr::from(0x7f00_0000 + host));
        let mut left = count;
        for host in hosts.take(count.div_ceil(CONNECTIONS_OF_ONE_ADDRESS)) {
            let connections = left.min(CONNECTIONS_OF_ONE_ADDRESS);
            self.dial(SocketAddr::from((host, port)), connections)?;
            left -= connections;
        }
        server.await_reply("welcomed")?;
        let pid = server.child.id();
        self.server = Some(server);
        Ok(Said("idling", pid.to_string()))
    }
}

/// Sets how many descriptors this process may have, as far as its privileges go.
pub(super) fn set_nofile(limit: u64) -> io::Result<Said> {
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit)?;
    Ok(Said("set", limit.to_string()))
}

/// A process that has the other ends of the crowd; it ends with this value.
struct Server {
    child: Child,
    replies: BufReader<std::process::ChildStdout>,
}

impl Server {
    fn start(listener: Socket) -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .args(["peer", "crowd-server", "adopt", "listener"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(OwnedFd::from(listener)))
            .spawn()?;
        let stdout = child.stdout.take().ok_or(ErrorKind::BrokenPipe)?;
        let mut server = Self { child, replies: BufReader::new(stdout) };
        server.await_reply("adopted")?;
        Ok(server)
    }

    fn tell(&mut self, order: &str) -> io::Result<()> {
        let orders = self.child.stdin.as_mut().ok_or(ErrorKind::BrokenPipe)?;
        writeln!(orders, "{order}")
    }

    fn await_reply(&mut self, word: &str) -> io::Result<()> {
        let mut reply = String::new();
        self.replies.read_line(&mut reply)?;
        if reply.split(' ').next() == Some(word) {
            Ok(())
        } else {
            Err(io::Error::other(format!("not-{word}-but-{}", reply.trim_end().replace(' ', "-"))))
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
