//! The types of many names in one walk.

use std::collections::HashMap;

use rustc_hash::FxHashMap;

/// Kinds of types that zsock asks for by name.
const STRUCT: u32 = 4;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const FUNCTION: u32 = 12;

/// Numbers of the structures, enums, typedefs and functions with these names; with none those that have no such type. `None` where the
/// types cannot be walked.
pub(super) fn find(bytes: &[u8], names: Vec<String>) -> Option<HashMap<String, Vec<u32>>> {
    let [header, types_at, types_length, names_at, names_length] =
        [4, 8, 12, 16, 20].map(|at| word(bytes, at).and_then(|word| usize::try_from(word).ok()));
    let all_names = bytes.get(header?.checked_add(names_at?)?..)?.get(..names_length?)?;
    let mut rest = bytes.get(header?.checked_add(types_at?)?..)?.get(..types_length?)?;
    let mut found: FxHashMap<Vec<u8>, (String, Vec<u32>)> =
        names.into_iter().map(|name| (name.clone().into_bytes(), (name, Vec::new()))).collect();
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        let (name_offset, info) = (word(rest, 0)?, word(rest, 4)?);
        let (kind, members) = (info >> 24 & 0x1f, info & 0xffff);
        if matches!(kind, STRUCT | ENUM | TYPEDEF | FUNCTION) {
            let name = all_names.get(usize::try_from(name_offset).ok()?..)?;
            if let Some((_, numbers)) = found.get_mut(&name[..memchr::memchr(0, name)?]) {
                numbers.push(number);
            }
        }
        rest = rest.get(12 + more_bytes(kind, usize::try_from(members).ok()?)?..)?;
    }
    Some(found.into_values().collect())
}

/// What follows the twelve bytes that every type has; `None` of a kind that is not known.
fn more_bytes(kind: u32, members: usize) -> Option<usize> {
    Some(match kind {
        // A number, a variable, a tag of a declaration.
        1 | 14 | 17 => 4,
        // An array.
        3 => 12,
        // An enum, the parameters of a function.
        ENUM | 13 => 8 * members,
        // A structure, a union, a section of data, an enum of 64 bits.
        STRUCT | 5 | 15 | 19 => 12 * members,
        // Pointers, qualifiers, declarations, typedefs, functions, floating point, tags of types.
        2 | 7 | TYPEDEF | 9..=FUNCTION | 16 | 18 => 0,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
