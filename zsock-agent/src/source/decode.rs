//! Bytes of the ring buffer into records of the wire: no `unsafe`, no panic.

use thiserror::Error;
use zerocopy::FromBytes;
use zsock_common::wire::{
    ClockRecord, Head, HolderRecord, Kind, LookRecord, PastRecord, SocketRecord, SynAckRecord,
};

use crate::spare::Spare;

/// A record as the kernel side wrote it; boxed, for it is moved from queue to queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// An event of a socket.
    Socket(Kind, Box<SocketRecord>),
    /// A look at a socket.
    Look(Box<LookRecord>),
    /// A SYN-ACK sent again.
    SynAck(Box<SynAckRecord>),
    /// A socket is gone.
    Destroyed(Box<Head>),
    /// What a socket did before its first sign of trouble.
    Past(Box<PastRecord>),
    /// A process that holds a socket.
    Holder(Box<HolderRecord>),
    /// The kernel's clocks.
    Clock(Box<ClockRecord>),
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

/// So many boxes are kept to be used again, 2.4 MB.
const KEPT_BOXES: usize = 8192;

/// Boxes of events that are done with: events wait for their turn, thousands of them on a busy host.
#[derive(Debug)]
pub struct Boxes(Spare<SocketRecord>);

impl Default for Boxes {
    fn default() -> Self {
        Self(Spare::at_most(KEPT_BOXES))
    }
}

impl Boxes {
    /// Takes the box of a record that is done with.
    pub fn take_back(&mut self, raw: Raw) {
        match raw {
            Raw::Socket(_, record) => self.0.take_back(record),
            Raw::Look(_)
            | Raw::SynAck(_)
            | Raw::Destroyed(_)
            | Raw::Past(_)
            | Raw::Holder(_)
            | Raw::Clock(_) => {}
        }
    }
}

impl Raw {
    /// Reads one record.
    ///
    /// # Errors
    /// [`DecodeError::Short`] when `bytes` end early, [`DecodeError::UnknownKind`] for a number that this build does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_into(bytes, &mut Boxes::default())
    }

    /// Reads one record, an event into a box that was used before.
    ///
    /// # Errors
    /// As [`Raw::decode`].
    pub fn decode_into(bytes: &[u8], boxes: &mut Boxes) -> Result<Self, DecodeError> {
        let head = read::<Head>(bytes)?;
        let kind = Kind::from_number(head.kind).ok_or(DecodeError::UnknownKind(head.kind))?;
        Ok(match kind {
            Kind::SynAckRetransmit => Self::SynAck(boxed(bytes)?),
            Kind::Look => Self::Look(boxed(bytes)?),
            Kind::Destroyed => Self::Destroyed(Box::new(head)),
            Kind::Past => Self::Past(boxed(bytes)?),
            Kind::Holder => Self::Holder(boxed(bytes)?),
            Kind::Clock => Self::Clock(boxed(bytes)?),
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
            | Kind::AcceptFailed => Self::Socket(kind, boxes.0.put(read(bytes)?)),
        })
    }

    /// An event of a socket, or a look at it as one.
    #[must_use]
    pub fn socket(&self) -> Option<(Kind, &SocketRecord)> {
        match self {
            Self::Socket(kind, record) => Some((*kind, record)),
            Self::Look(record) => Some((Kind::Look, &record.event)),
            Self::SynAck(_) | Self::Destroyed(_) | Self::Past(_) | Self::Holder(_) | Self::Clock(_) => None,
        }
    }

    /// Time and socket.
    #[must_use]
    pub fn head(&self) -> &Head {
        match self {
            Self::Socket(_, record) => &record.head,
            Self::Look(record) => &record.event.head,
            Self::SynAck(record) => &record.head,
            Self::Destroyed(head) => head,
            Self::Past(record) => &record.head,
            Self::Holder(record) => &record.head,
            Self::Clock(record) => &record.head,
        }
    }
}

fn boxed<T: FromBytes>(bytes: &[u8]) -> Result<Box<T>, DecodeError> {
    read(bytes).map(Box::new)
}

fn read<T: FromBytes>(bytes: &[u8]) -> Result<T, DecodeError> {
    T::read_from_prefix(bytes).map(|(record, _)| record).map_err(|_| DecodeError::Short)
}

/// The rows of an iterator, one after the other. What is left over at the end is no row.
pub fn rows<T: FromBytes>(mut bytes: &[u8]) -> impl Iterator<Item = T> {
    std::iter::from_fn(move || {
        let (row, rest) = T::read_from_prefix(bytes).ok()?;
        bytes = rest;
        Some(row)
    })
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
                (Kind::Look, size_of::<LookRecord>()),
                (Kind::SynAckRetransmit, size_of::<SynAckRecord>()),
                (Kind::Destroyed, size_of::<Head>()),
                (Kind::Past, size_of::<PastRecord>()),
                (Kind::Holder, size_of::<HolderRecord>()),
                (Kind::Clock, size_of::<ClockRecord>()),
            ];
            let other = others.into_iter().find(|(other, _)| other == kind);
            let size = other.map_or(size_of::<SocketRecord>(), |(_, size)| size);
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
