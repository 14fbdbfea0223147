//! The kernel's own way to ask about sockets, `sock_diag`, over netlink: needs neither BPF nor, to look, any right.
//!
//! Everything here is about the network namespace of the calling thread.

use exchange::Exchange;
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::{AF_INET, AF_INET6, SockDiagMessage};
use nix::errno::Errno;
use thiserror::Error;

mod destroy;
mod entry;
mod exchange;

pub use destroy::{Outcome, Target, destroy};
pub use entry::{Entry, Info, Timer};

/// Why the kernel gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The part that knows TCP is a module that is not loaded, or was not built.
    #[error(
        "the kernel has no sock_diag for TCP: load its modules with `modprobe tcp_diag`, or run one built with CONFIG_INET_DIAG"
    )]
    NoModule,
    /// It refused.
    #[error("{step}: {}", errno.desc())]
    Refused {
        /// What was asked of it.
        step: &'static str,
        /// What it said.
        errno: Errno,
    },
    /// What it said is no answer.
    #[error("the kernel's answer about sockets cannot be read: {0}")]
    Malformed(String),
}

/// How a dump went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dumped {
    /// Sockets came and went in a way that may have hidden others.
    pub is_interrupted: bool,
    /// Sockets of which the kernel told nothing that can be read.
    pub unreadable: u64,
}

/// Hands every TCP socket of the calling thread's network namespace to `each`, of both families and in every state. One that moves in the
/// kernel's tables meanwhile may be handed over twice.
///
/// # Errors
/// When the kernel does not list them.
pub fn dump(mut each: impl FnMut(Entry)) -> Result<Dumped, Error> {
    let mut unreadable = 0;
    let is_interrupted = list(&ExtensionFlags::INFO, |bytes| match Entry::parse(bytes) {
        Some(entry) => each(entry),
        None => unreadable += 1,
    })?;
    Ok(Dumped { is_interrupted, unreadable })
}

/// Gives every TCP socket of the calling thread's network namespace its cookie, by which it is named from then on.
///
/// # Errors
/// When the kernel does not list them: it names those that it lists.
pub fn name_all() -> Result<(), Error> {
    const TIMES: u32 = 3;
    for _ in 0..TIMES {
        if !list(&ExtensionFlags::empty(), |_| {})? {
            break;
        }
    }
    Ok(())
}

/// Lists the sockets of both families. Returns whether the kernel said that the list may have holes.
fn list(extensions: &ExtensionFlags, mut each: impl FnMut(&[u8])) -> Result<bool, Error> {
    let mut exchange = Exchange::open()?;
    let mut is_interrupted = false;
    for any in [SocketId::new_v4(), SocketId::new_v6()] {
        let about = SockDiagMessage::InetRequest(request(&any, extensions.clone()));
        let ending = exchange.ask(about, NLM_F_DUMP, &mut each)?;
        match ending.errno {
            None => is_interrupted |= ending.is_interrupted,
            Some(Errno::ENOENT) => return Err(Error::NoModule),
            Some(errno) => return Err(Error::Refused { step: "list sockets", errno }),
        }
    }
    Ok(is_interrupted)
}

/// `IPPROTO_TCP`.
const TCP: u8 = 6;

/// A request about the sockets that `id` names, in every state.
fn request(id: &SocketId, extensions: ExtensionFlags) -> InetRequest {
    InetRequest {
        family: if id.source_address.is_ipv4() { AF_INET } else { AF_INET6 },
        protocol: TCP,
        extensions,
        // The library names no state later than CLOSING.
        states: StateFlags::from_bits_retain(u32::MAX),
        socket_id: id.clone(),
    }
}
