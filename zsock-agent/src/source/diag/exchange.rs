//! Requests over netlink and the messages that answer them.

use netlink_packet_core::{
    DecodeError, DoneBuffer, ErrorBuffer, NLMSG_ALIGNTO, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN,
    NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_core::{NLM_F_DUMP_INTR, NLM_F_REQUEST};
use netlink_packet_sock_diag::SOCK_DIAG_BY_FAMILY;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc;

use super::Error;

/// The kernel fills no more than this at once (`netlink_dump`).
const BUFFER_BYTES: usize = 32 << 10;

/// The kernel's address.
const KERNEL: u32 = 0;

/// A line to the kernel, in the network namespace of the thread that opened it.
pub struct Exchange {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ending {
    /// The kernel's error; none where all went well.
    pub(super) errno: Option<Errno>,
    /// What was told changed while it was told.
    pub(super) is_interrupted: bool,
}

impl Exchange {
    /// Opens a line.
    ///
    /// # Errors
    /// When the kernel has no such thing, or the process no descriptor left.
    pub fn open() -> Result<Self, Error> {
        let refused = |error: std::io::Error| {
            let errno = errno(&error);
            let is_unknown = errno == Errno::EPROTONOSUPPORT;
            if is_unknown { Error::NoModule } else { Error::Refused { step: "open a netlink socket", errno } }
        };
        let mut socket = Socket::new(NETLINK_SOCK_DIAG).map_err(refused)?;
        socket.bind_auto().map_err(refused)?;
        Ok(Self { socket, buffer: vec![0; BUFFER_BYTES], sequence: 0 })
    }

    /// Asks with these flags and hands each part of the answer to `each`. Ends with the kernel's word that this was all, so the flags must
    /// ask for one: `NLM_F_ACK` or `NLM_F_DUMP`.
    pub(super) fn ask<T>(
        &mut self,
        request: T,
        flags: u16,
        mut each: impl FnMut(&[u8]),
    ) -> Result<Ending, Error>
    where
        T: NetlinkSerializable + Into<NetlinkPayload<T>>,
    {
        self.send(request, flags)?;
        let mut ending = Ending::default();
        loop {
            let Some(length) = self.receive()? else { continue };
            if read(&self.buffer[..length], self.sequence, &mut ending, &mut each)? {
                return Ok(ending);
            }
        }
    }

    fn send<T>(&mut self, request: T, flags: u16) -> Result<(), Error>
    where
        T: NetlinkSerializable + Into<NetlinkPayload<T>>,
    {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = message(request, flags, self.sequence);
        let sent = self.socket.send_to(&bytes, &SocketAddr::new(KERNEL, 0), 0);
        sent.map(drop).map_err(|error| Error::Refused { step: "ask about sockets", errno: errno(&error) })
    }

    /// Receives a datagram of the kernel's. `None` for one of somebody else's.
    fn receive(&mut self) -> Result<Option<usize>, Error> {
        loop {
            return match self.socket.recv_from(&mut &mut self.buffer[..], libc::MSG_TRUNC) {
                Ok((_, sender)) if sender.port_number() != KERNEL => Ok(None),
                Ok((length, _)) if length > self.buffer.len() => {
                    Err(Error::Malformed(format!("{length} bytes came at once")))
                }
                Ok((length, _)) => Ok(Some(length)),
                Err(error) if errno(&error) == Errno::EINTR => continue,
                Err(error) => {
                    Err(Error::Refused { step: "read an answer about sockets", errno: errno(&error) })
                }
            };
        }
    }
}

/// A request as it is sent.
pub(super) fn message<T>(request: T, flags: u16, sequence: u32) -> Vec<u8>
where
    T: NetlinkSerializable + Into<NetlinkPayload<T>>,
{
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, request.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Reads the messages of a datagram that answer request number `sequence` and hands each that is of a socket to `each`. Returns whether the
/// answer ended with them.
pub(super) fn read(
    mut datagram: &[u8],
    sequence: u32,
    ending: &mut Ending,
    mut each: impl FnMut(&[u8]),
) -> Result<bool, Error> {
    let malformed = |error: DecodeError| Error::Malformed(error.to_string());
    while !datagram.is_empty() {
        let message = NetlinkBuffer::new_checked(datagram).map_err(malformed)?;
        let length = usize::try_from(message.length()).unwrap_or(usize::MAX);
        let aligned = length.checked_next_multiple_of(NLMSG_ALIGNTO.into());
        datagram = aligned.and_then(|length| datagram.get(length..)).unwrap_or_default();
        if message.sequence_number() != sequence {
            continue;
        }
        ending.is_interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
        let code = match message.message_type() {
            SOCK_DIAG_BY_FAMILY => {
                each(message.payload());
                continue;
            }
            NLMSG_NOOP => continue,
            NLMSG_ERROR => {
                let error = ErrorBuffer::new_checked(message.payload()).map_err(malformed)?;
                error.code().map_or(0, i32::from)
            }
            // Kernels that have nothing to tell may leave the code out.
            NLMSG_DONE => DoneBuffer::new_checked(message.payload()).map_or(0, |done| done.code()),
            NLMSG_OVERRUN => return Err(Error::Malformed("a part of it was lost".to_owned())),
            other => return Err(Error::Malformed(format!("it has a message of type {other}"))),
        };
        ending.errno = (code != 0).then(|| Errno::from_raw(code.saturating_neg()));
        return Ok(true);
    }
    Ok(false)
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}
