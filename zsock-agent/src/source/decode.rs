//! Bytes of the ring buffer into records of the wire: no `unsafe`, no panic.

use bytes::Buf;
use thiserror::Error;
use zsock_common::wire::{
    ClockRecord, Head, HolderRecord, Input, Kind, LookRecord, PastRecord, SocketRecord, SynAckRecord, Wire,
};

/// A record as the kernel side wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// An event of a socket.
    Socket(Kind, Box<SocketRecord>),
    /// A look at a socket.
    Look(Box<LookRecord>),
    /// A SYN-ACK sent again.
    SynAck(SynAckRecord),
    /// What a socket did before its first sign of trouble.
    Past(Box<PastRecord>),
    /// A process that holds a socket.
    Holder(HolderRecord),
    /// The kernel's clocks.
    Clock(ClockRecord),
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// They end early.
    #[error("a record ends early")]
    Short,
    /// A kind that this build does not know.
    #[error("unknown kind of record {0}")]
    UnknownKind(u16),
}

impl Raw {
    /// Reads one record.
    ///
    /// # Errors
    /// [`DecodeError::Short`] when `bytes` end early, [`DecodeError::UnknownKind`] for a number that this build does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let head = Head::decode(&mut Bytes(bytes))?;
        let kind = Kind::from_number(head.kind).ok_or(DecodeError::UnknownKind(head.kind))?;
        let mut input = Bytes(bytes);
        Ok(match kind {
            Kind::SynAckRetransmit => Self::SynAck(Wire::decode(&mut input)?),
            Kind::Look => Self::Look(Box::new(Wire::decode(&mut input)?)),
            Kind::Past => Self::Past(Box::new(Wire::decode(&mut input)?)),
            Kind::Holder => Self::Holder(Wire::decode(&mut input)?),
            Kind::Clock => Self::Clock(Wire::decode(&mut input)?),
            Kind::State
            | Kind::Retransmit
            | Kind::RetransmitFailed
            | Kind::Keepalive
            | Kind::KeepaliveAnswered
            | Kind::WindowProbe
            | Kind::Recovered
            | Kind::Error
            | Kind::ResetReceived
            | Kind::ResetSent
            | Kind::Destroyed
            | Kind::AcceptFailed => Self::Socket(kind, Box::new(Wire::decode(&mut input)?)),
        })
    }

    /// An event of a socket, or a look at it as one.
    #[must_use]
    pub fn socket(&self) -> Option<(Kind, &SocketRecord)> {
        match self {
            Self::Socket(kind, record) => Some((*kind, record)),
            Self::Look(record) => Some((Kind::Look, &record.event)),
            Self::SynAck(_) | Self::Past(_) | Self::Holder(_) | Self::Clock(_) => None,
        }
    }

    /// Time and socket.
    #[must_use]
    pub fn head(&self) -> &Head {
        match self {
            Self::Socket(_, record) => &record.head,
            Self::Look(record) => &record.event.head,
            Self::SynAck(record) => &record.head,
            Self::Past(record) => &record.head,
            Self::Holder(record) => &record.head,
            Self::Clock(record) => &record.head,
        }
    }
}

/// The rows of an iterator, one after the other. What is left over at the end is no row.
pub fn rows<T: Wire>(bytes: &[u8]) -> impl Iterator<Item = T> {
    let mut input = Bytes(bytes);
    std::iter::from_fn(move || T::decode(&mut input).ok())
}

struct Bytes<'a>(&'a [u8]);

impl Input for Bytes<'_> {
    type Short = DecodeError;

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut taken = [0; N];
        self.0.try_copy_to_slice(&mut taken).map_err(|_| DecodeError::Short)?;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of_kind(kind: u16, length: usize) -> Vec<u8> {
        let mut bytes = vec![7; length];
        bytes[16..18].copy_from_slice(&kind.to_le_bytes());
        bytes
    }

    #[test]
    fn every_kind_is_read_at_its_size_and_no_shorter() {
        for kind in Kind::ALL {
            let others = [
                (Kind::Look, LookRecord::SIZE_BYTES),
                (Kind::SynAckRetransmit, SynAckRecord::SIZE_BYTES),
                (Kind::Past, PastRecord::SIZE_BYTES),
                (Kind::Holder, HolderRecord::SIZE_BYTES),
                (Kind::Clock, ClockRecord::SIZE_BYTES),
            ];
            let other = others.into_iter().find(|(other, _)| other == kind);
            let size = other.map_or(SocketRecord::SIZE_BYTES, |(_, size)| size);
            let bytes = bytes_of_kind(*kind as u16, size);
            assert!(Raw::decode(&bytes).is_ok(), "{kind:?}");
            for short in 0..size {
                assert_eq!(
                    Raw::decode(&bytes[..short]),
                    Err(DecodeError::Short),
                    "{kind:?} cut to {short} bytes"
                );
            }
        }
    }

    #[test]
    fn an_unknown_kind_is_named() {
        assert_eq!(Raw::decode(&bytes_of_kind(999, 400)), Err(DecodeError::UnknownKind(999)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = Raw::decode(&bytes);
        }
    }
}
