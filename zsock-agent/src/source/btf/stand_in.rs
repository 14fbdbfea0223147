//! Types in the place of the kernel's, for aya: it parses whatever it is given, and looks up a few names in that, each by comparing it with
//! those of all types.

use std::collections::HashMap;

use btf_rs::Type;

use super::Types;
use crate::source::kernel::hooks::{self, Kind};

/// A forward declaration without a name: as short as a type can be.
const NOTHING: [u32; 3] = [0, 7 << 24, 0];

impl Types {
    /// BTF in which those types that programs attach to have the kernel's numbers, and everything else is nothing.
    #[must_use]
    pub fn stand_in(&self) -> Vec<u8> {
        let number = |name: &str, kind| {
            let found = self.numbered(name, |found| match kind {
                Kind::Typedef => matches!(found, Type::Typedef(_)),
                Kind::Function => matches!(found, Type::Func(_)),
            });
            found.map(|(number, _)| number)
        };
        encode(
            &hooks::types().filter_map(|(name, kind)| Some((number(&name, kind)?, (name, kind)))).collect(),
        )
    }
}

/// BTF of types by number.
fn encode(types: &HashMap<u32, (String, Kind)>) -> Vec<u8> {
    let bytes_of = |words: [u32; 3]| words.map(u32::to_le_bytes).concat();
    let last = types.keys().max().map_or(0, |number| *number as usize);
    let mut records = bytes_of(NOTHING).repeat(last);
    let mut names = vec![0];
    for (number, (name, kind)) in types {
        let info = match kind {
            Kind::Typedef => 8 << 24,
            Kind::Function => 12 << 24,
        };
        let end = *number as usize * 12;
        records[end - 12..end].copy_from_slice(&bytes_of([length(&names), info, 0]));
        names.extend_from_slice(name.as_bytes());
        names.push(0);
    }
    let header = [0x0001_eb9f, 24, 0, length(&records), length(&records), length(&names)];
    [header.map(u32::to_le_bytes).concat(), records, names].concat()
}

/// No kernel's types have 4 GB.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
