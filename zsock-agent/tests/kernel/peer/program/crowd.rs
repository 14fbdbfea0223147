//! Many connections in one process: a crowd of clients, or all that a server has accepted.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use zsock_agent::time::Time;

use super::Said;
use crate::now;

/// The more local ports are taken towards one destination, the longer the kernel looks for a free one.
const CONNECTIONS_OF_ONE_ADDRESS: usize = 2_000;
/// Descriptors that a process has beside its crowd.
const OTHER_DESCRIPTORS: usize = 64;

/// The connections, oldest first.
#[derive(Default)]
pub(super) struct Crowd {
    connections: Vec<Socket>,
    helpers: Vec<Helper>,
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

    /// Sends `count` bytes on each connection.
    pub(super) fn send_all(&mut self, count: usize) -> io::Result<Said> {
        for mut connection in &self.connections {
            connection.write_all(&vec![b'z'; count])?;
        }
        Ok(Said("sent", count.to_string()))
    }

    /// Closes the oldest `count` connections.
    pub(super) fn let_go(&mut self, count: usize) -> io::Result<Said> {
        if count > self.connections.len() {
            return Err(ErrorKind::NotConnected.into());
        }
        self.connections.drain(..count);
        Ok(Said("let-go", count.to_string()))
    }

    /// Opens `count` connections to a server process of its own over the loopback device. From then on both idle. Those that
    /// do not fit into one process are opened by another one like this.
    ///
    /// Tells each process and its share: `PID:CONNECTIONS,…`.
    pub(super) fn idle(&mut self, count: usize) -> io::Result<Said> {
        let share = count.min(raise_nofile(count)?);
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        listener.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
        listener.listen(4096)?;
        let port = listener.local_addr()?.as_socket().map_or(0, |local| local.port());
        let mut server = Helper::serving(listener)?;
        server.tell(&format!("nofile {}", share + OTHER_DESCRIPTORS))?;
        server.reply("set")?;
        server.tell(&format!("welcome {share}"))?;
        for first in (0..share).step_by(CONNECTIONS_OF_ONE_ADDRESS) {
            let host = Ipv4Addr::from(0x7f00_0001 + u32::try_from(first).unwrap_or(0));
            let connections = CONNECTIONS_OF_ONE_ADDRESS.min(share - first);
            self.dial(SocketAddr::from((host, port)), connections)?;
        }
        server.reply("welcomed")?;
        let mut members =
            vec![format!("{}:{share}", std::process::id()), format!("{}:{share}", server.child.id())];
        self.helpers.push(server);
        if share < count {
            let mut next = Helper::dialling()?;
            next.tell(&format!("idle-crowd {}", count - share))?;
            members.push(next.reply("idling")?);
            self.helpers.push(next);
        }
        Ok(Said("idling", members.join(",")))
    }
}

/// Lets this process have `connections` beside its other descriptors, or as many as its privileges go; how many these are.
fn raise_nofile(connections: usize) -> io::Result<usize> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = (connections + OTHER_DESCRIPTORS) as u64;
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted.max(most)).is_ok() {
        return Ok(connections);
    }
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    usize::try_from(most).ok().and_then(|most| most.checked_sub(OTHER_DESCRIPTORS)).ok_or_else(too_few)
}

fn too_few() -> io::Error {
    io::Error::other("too few descriptors")
}

/// Opens connections over the loopback device for so long, each closed at once, as many as it can; tells how many these were.
///
/// They end by a reset: with an orderly end their ports would be taken for a minute.
pub(super) fn storm(duration: Duration) -> io::Result<Said> {
    let end = now().after(duration);
    let storms = [1, 2].map(|host| thread::spawn(move || storm_at(Ipv4Addr::new(127, 0, 0, host), end)));
    let mut count = 0;
    for storm in storms {
        count += storm.join().expect("a storm does not panic")?;
    }
    Ok(Said("stormed", count.to_string()))
}

fn storm_at(host: Ipv4Addr, end: Time) -> io::Result<u64> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&SocketAddr::from((host, 0)).into())?;
    listener.listen(4096)?;
    let address = listener.local_addr()?;
    let mut count = 0;
    while now() < end {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_linger(Some(Duration::ZERO))?;
        socket.connect(&address)?;
        drop(listener.accept()?);
        drop(socket);
        count += 1;
    }
    Ok(count)
}

/// Sets how many descriptors this process may have.
pub(super) fn set_nofile(limit: u64) -> io::Result<Said> {
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit)?;
    Ok(Said("set", limit.to_string()))
}

/// A process that does its share; it ends with this value.
struct Helper {
    child: Child,
    replies: BufReader<ChildStdout>,
}

impl Helper {
    /// One that has the other ends of a crowd.
    fn serving(listener: Socket) -> io::Result<Self> {
        let mut helper = Self::start(&["crowd-server", "adopt", "listener"], OwnedFd::from(listener).into())?;
        helper.reply("adopted")?;
        Ok(helper)
    }

    /// One that has a crowd of its own.
    fn dialling() -> io::Result<Self> {
        let mut helper = Self::start(&["crowd-client"], Stdio::inherit())?;
        helper.reply("ready")?;
        Ok(helper)
    }

    fn start(arguments: &[&str], stderr: Stdio) -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("peer").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or(ErrorKind::BrokenPipe)?;
        Ok(Self { child, replies: BufReader::new(stdout) })
    }

    fn tell(&mut self, order: &str) -> io::Result<()> {
        let orders = self.child.stdin.as_mut().ok_or(ErrorKind::BrokenPipe)?;
        writeln!(orders, "{order}")
    }

    /// The value of a reply that has to begin with `word`.
    fn reply(&mut self, word: &str) -> io::Result<String> {
        let mut reply = String::new();
        self.replies.read_line(&mut reply)?;
        let mut words = reply.split(' ');
        if words.next() == Some(word) {
            Ok(words.next().unwrap_or_default().to_owned())
        } else {
            Err(io::Error::other(format!("not-{word}-but-{}", reply.trim_end().replace(' ', "-"))))
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Without orders it ends, and so do its own helpers. It may have ended by itself before.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
