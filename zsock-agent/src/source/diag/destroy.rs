//! `SOCK_DESTROY`: has the kernel end a socket in the place of its process, which is told `ECONNABORTED`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_packet_sock_diag::inet::{self, ExtensionFlags};
use netlink_packet_sock_diag::{SockDiagDestroy, SockDiagMessage};
use nix::errno::Errno;

use super::entry::cookie;
use super::exchange::Exchange;
use super::{Entry, Error, request};
use crate::record::{Family, Socket, SocketId};

/// Which socket is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The socket's cookie: no other socket is ever touched.
    pub id: SocketId,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's; none of a listener.
    pub remote: Option<SocketAddr>,
    /// The addresses are IPv4 and the socket is of IPv6.
    pub v4mapped: bool,
}

impl Target {
    /// The socket of a record. `None` where it has no address to be found by, as before it is connected.
    #[must_use]
    pub fn of(socket: &Socket) -> Option<Self> {
        let is_told = socket.family == Family::Ipv6 || socket.local.is_some_and(|local| local.is_ipv4());
        let (id, local) = (socket.id, socket.local.filter(|_| is_told)?);
        Some(Self { id, local, remote: socket.remote, v4mapped: socket.v4mapped })
    }

    /// How the kernel names it, by an interface where it is bound to one.
    pub(super) fn as_kernel_id(&self, interface_id: u32) -> inet::SocketId {
        let address = |end: SocketAddr| match end.ip() {
            IpAddr::V4(address) if self.v4mapped => IpAddr::V6(address.to_ipv6_mapped()),
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(address),
        };
        let source_address = address(self.local);
        let nowhere = match source_address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        inet::SocketId {
            source_port: self.local.port(),
            destination_port: self.remote.map_or(0, |remote| remote.port()),
            source_address,
            destination_address: self.remote.map_or(nowhere, address),
            interface_id,
            cookie: cookie(self.id),
        }
    }
}

/// What came of destroying a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is no more.
    Destroyed,
    /// It was no more before; another may have its addresses by now.
    Gone,
    /// The kernel answered that it was done, and the socket is still there: before 6.12 it destroys none that no process holds.
    Survived,
    /// It is there, and the kernel does not find it by its addresses: of listeners that share them by `SO_REUSEPORT` it finds one.
    NotReached,
    /// That takes `CAP_NET_ADMIN` in the user namespace to which the network namespace belongs.
    NotPermitted,
    /// The kernel was built without `CONFIG_INET_DIAG_DESTROY`.
    NotBuiltIn,
}

/// Destroys one socket of the calling thread's network namespace.
///
/// # Errors
/// Where the kernel cannot be asked, or does not give one of the answers that are an [`Outcome`].
pub fn destroy(target: &Target) -> Result<Outcome, Error> {
    let mut exchange = Exchange::open()?;
    let unbound = target.as_kernel_id(0);
    let first = exchange.destroy(&unbound)?;
    if first != Outcome::Gone {
        return Ok(first);
    }
    // One that is bound to an interface is found by no other, and a record does not tell of it.
    match exchange.find(&unbound)? {
        None => Ok(Outcome::Gone),
        Some(found) if found.interface_id == 0 => Ok(Outcome::NotReached),
        Some(found) => exchange.destroy(&found),
    }
}

impl Exchange {
    fn destroy(&mut self, id: &inet::SocketId) -> Result<Outcome, Error> {
        let message = SockDiagDestroy::new(about(id));
        match self.ask(message, NLM_F_ACK, |_| {})?.errno {
            None if self.exists(id)? => Ok(Outcome::Survived),
            None => Ok(Outcome::Destroyed),
            Some(Errno::ENOENT | Errno::ESTALE) => Ok(Outcome::Gone),
            Some(Errno::EPERM | Errno::EACCES) => Ok(Outcome::NotPermitted),
            Some(Errno::EOPNOTSUPP) => Ok(Outcome::NotBuiltIn),
            Some(errno) => Err(Error::Refused { step: "destroy a socket", errno }),
        }
    }

    /// Whether the kernel finds the very socket.
    fn exists(&mut self, id: &inet::SocketId) -> Result<bool, Error> {
        Ok(self.ask(about(id), NLM_F_ACK, |_| {})?.errno.is_none())
    }

    /// Looks for the socket with this cookie among those with these ports.
    fn find(&mut self, id: &inet::SocketId) -> Result<Option<inet::SocketId>, Error> {
        let mut found = None;
        let each = |bytes: &[u8]| {
            let entry = Entry::parse(bytes).filter(|entry| entry.id.cookie == id.cookie);
            found = entry.map(|entry| entry.id).or(found.take());
        };
        match self.ask(about(id), NLM_F_DUMP, each)?.errno {
            None => Ok(found),
            Some(Errno::ENOENT) => Err(Error::NoModule),
            Some(errno) => Err(Error::Refused { step: "look for a socket", errno }),
        }
    }
}

pub(super) fn about(id: &inet::SocketId) -> SockDiagMessage {
    SockDiagMessage::InetRequest(request(id, ExtensionFlags::empty()))
}
