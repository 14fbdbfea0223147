//! The kernel's own way to ask about sockets, `sock_diag`, over netlink: needs neither BPF nor, to look, any right.
//!
//! Everything here is about one network namespace: that of the thread which asks, or which opened the [`Exchange`].

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::{AF_INET, AF_INET6, SockDiagMessage};
use nix::errno::Errno;
use thiserror::Error;

mod destroy;
mod entry;
mod exchange;
#[cfg(test)]
mod tests;

pub use destroy::{Outcome, Target, destroy};
pub use entry::{Entry, Info, Timer};
pub use exchange::Exchange;

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

impl Exchange {
    /// Hands every TCP socket of the network namespace to `each`, of both families and in every state. One that moves in the kernel's tables
    /// meanwhile may be handed over twice.
    ///
    /// # Errors
    /// When the kernel does not list them.
    pub fn dump(&mut self, mut each: impl FnMut(Entry)) -> Result<Dumped, Error> {
        let mut unreadable = 0;
        let is_interrupted = self.list(&ExtensionFlags::INFO, |bytes| match Entry::parse(bytes) {
            Some(entry) => each(entry),
            None => unreadable += 1,
        })?;
        Ok(Dumped { is_interrupted, unreadable })
    }

    /// Lists the sockets of both families. Returns whether the kernel said that the list may have holes.
    fn list(&mut self, extensions: &ExtensionFlags, mut each: impl FnMut(&[u8])) -> Result<bool, Error> {
        let mut is_interrupted = false;
        for any in [SocketId::new_v4(), SocketId::new_v6()] {
            let about = SockDiagMessage::InetRequest(request(&any, extensions.clone()));
            let ending = self.ask(about, NLM_F_DUMP, &mut each)?;
            match ending.errno {
                None => is_interrupted |= ending.is_interrupted,
                Some(Errno::ENOENT) => return Err(Error::NoModule),
                Some(errno) => return Err(Error::Refused { step: "list sockets", errno }),
            }
        }
        Ok(is_interrupted)
    }
}

/// Gives every TCP socket of the calling thread's network namespace its cookie, by which it is named from then on.
///
/// # Errors
/// When the kernel does not list them: it names those that it lists.
pub fn name_all() -> Result<(), Error> {
    const TIMES: u32 = 3;
    let mut exchange = Exchange::open()?;
    for _ in 0..TIMES {
        if !exchange.list(&ExtensionFlags::empty(), |_| {})? {
            break;
        }
    }
    Ok(())
}

/// `IPPROTO_TCP`.
const TCP: u8 = 6;

/// Those from ESTABLISHED to `NEW_SYN_RECV`, the numbers 1 to 12: all that a peer can reach.
const STATES: u32 = 0x1ffe;

/// A request about the sockets that `id` names, in every state.
fn request(id: &SocketId, extensions: ExtensionFlags) -> InetRequest {
    InetRequest {
        family: if id.source_address.is_ipv4() { AF_INET } else { AF_INET6 },
        protocol: TCP,
        extensions,
        // The library names no state later than CLOSING.
        states: StateFlags::from_bits_retain(STATES),
        socket_id: id.clone(),
    }
}

/// Any bytes in the place of what the kernel answers.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    let sequence = bytes.get(8..12).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
    let _ = exchange::read(bytes, sequence, &mut exchange::Ending::default(), |bytes| {
        let _ = Entry::parse(bytes);
    });
}
