//! Where a structure keeps a member.

use btf_rs::{Btf, Type};
use zsock_common::offsets::{Field, bit_field};

/// Structures in structures, typedefs of typedefs: kernels have less than ten.
const MAX_DEPTH: u32 = 32;

/// Members that are looked at for one field. The largest structures of kernels have 300, those without a name in them included.
const MAX_MEMBERS: usize = 1 << 14;

/// Two offsets are added where a timer lies in a socket, and a place has 16 bits for the sum.
const MAX_OFFSET: u32 = 1 << 15;

/// Where a structure keeps a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the beginning of the structure.
    pub byte: u32,
    /// Of a bit field: its first bit in that byte, and how many it has.
    pub bits: Option<(u32, u32)>,
    /// Size of the member, or of what a bit field is cut from.
    pub size_bytes: u32,
}

impl Place {
    /// For [`zsock_common::offsets::Offsets`].
    #[must_use]
    pub fn offset(&self) -> u32 {
        match self.bits {
            Some((shift, width)) => bit_field(self.byte, shift, width),
            None => self.byte,
        }
    }

    /// The place, if what is there can be read as `field`. A bit field that is whole bytes is one no more.
    pub(super) fn fitting(self, field: &Field) -> Option<Self> {
        let whole = |(shift, width): (u32, u32)| shift == 0 && width == 8 * field.size_bytes;
        let place = match self.bits {
            Some(bits) if whole(bits) => Self { bits: None, size_bytes: field.size_bytes, ..self },
            _ => self,
        };
        let is_readable = match place.bits {
            Some((shift, width)) => field.is_bits && shift + width <= 8,
            None => place.size_bytes >= field.size_bytes,
        };
        (is_readable && place.byte < MAX_OFFSET).then_some(place)
    }
}

/// A member that was found: its offset in bits and the type of what is there.
struct Found {
    bit_offset: u32,
    bit_width: Option<u32>,
    kind: Type,
}

/// One walk through types, that ends whatever they are.
pub(super) struct Walk<'a> {
    btf: &'a Btf,
    members_left: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(btf: &'a Btf) -> Self {
        Self { btf, members_left: MAX_MEMBERS }
    }

    /// The place of `member.member` in `outer`; `None` where a member is missing or has no size.
    pub(super) fn place(&mut self, outer: Type, members: &str) -> Option<Place> {
        let mut at = Found { bit_offset: 0, bit_width: None, kind: outer };
        for name in members.split('.') {
            let inner = self.member(&at.kind, name, MAX_DEPTH)?;
            at = Found { bit_offset: at.bit_offset.checked_add(inner.bit_offset)?, ..inner };
        }
        let (byte, shift) = (at.bit_offset / 8, at.bit_offset % 8);
        let bits = at.bit_width.map(|width| (shift, width));
        let size_bytes = self.size_bytes(&at.kind, MAX_DEPTH)?;
        (bits.is_some() || shift == 0).then_some(Place { byte, bits, size_bytes })
    }

    /// A member by name, through structures and unions without one.
    fn member(&mut self, of: &Type, name: &str, depth: u32) -> Option<Found> {
        let depth = depth.checked_sub(1)?;
        let (Type::Struct(outer) | Type::Union(outer)) = self.peel(of.clone())? else { return None };
        for member in &outer.members {
            self.members_left = self.members_left.checked_sub(1)?;
            let found = self.btf.resolve_name(member).unwrap_or_default();
            if !found.is_empty() && found != name {
                continue;
            }
            let kind = self.btf.resolve_chained_type(member).ok()?;
            let bit_width = member.bitfield_size().filter(|width| *width != 0);
            let here = Found { bit_offset: member.bit_offset(), bit_width, kind };
            if found == name {
                return Some(here);
            }
            if let Some(inner) = self.member(&here.kind, name, depth) {
                return Some(Found { bit_offset: here.bit_offset.checked_add(inner.bit_offset)?, ..inner });
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn peel(&self, mut kind: Type) -> Option<Type> {
        for _ in 0..MAX_DEPTH {
            if !matches!(
                kind,
                Type::Typedef(_) | Type::Const(_) | Type::Volatile(_) | Type::Restrict(_) | Type::TypeTag(_)
            ) {
                return Some(kind);
            }
            kind = self.btf.resolve_chained_type(kind.as_btf_type()?).ok()?;
        }
        None
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the crate's list of types is open; the others have no size of their own"
    )]
    fn size_bytes(&self, kind: &Type, depth: u32) -> Option<u32> {
        let depth = depth.checked_sub(1)?;
        let bytes = match self.peel(kind.clone())? {
            Type::Int(int) => int.size(),
            Type::Struct(outer) | Type::Union(outer) => outer.size(),
            Type::Enum(kind) => kind.size(),
            Type::Enum64(kind) => kind.size(),
            Type::Ptr(_) => size_of::<u64>(),
            Type::Array(array) => {
                let element = self.btf.resolve_chained_type(&array).ok()?;
                return u32::try_from(array.len()).ok()?.checked_mul(self.size_bytes(&element, depth)?);
            }
            _ => return None,
        };
        u32::try_from(bytes).ok()
    }
}
