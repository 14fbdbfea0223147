//! BTF as it lies in memory. The agent's reader gives values; here the bytes themselves are copied.
//!
//! Source: <https://www.kernel.org/doc/html/latest/bpf/btf.html>.

use anyhow::{Context as _, Result, bail, ensure};

/// `BTF_KIND_*`.
pub(super) mod kind {
    pub(crate) const INT: u32 = 1;
    pub(crate) const POINTER: u32 = 2;
    pub(crate) const ARRAY: u32 = 3;
    pub(crate) const STRUCT: u32 = 4;
    pub(crate) const UNION: u32 = 5;
    pub(crate) const ENUM: u32 = 6;
    pub(crate) const FORWARD: u32 = 7;
    pub(crate) const TYPEDEF: u32 = 8;
    pub(crate) const VOLATILE: u32 = 9;
    pub(crate) const CONST: u32 = 10;
    pub(crate) const RESTRICT: u32 = 11;
    pub(crate) const FUNCTION: u32 = 12;
    pub(crate) const PROTOTYPE: u32 = 13;
    pub(crate) const VARIABLE: u32 = 14;
    pub(crate) const SECTION: u32 = 15;
    pub(crate) const FLOAT: u32 = 16;
    pub(crate) const DECLARATION_TAG: u32 = 17;
    pub(crate) const TYPE_TAG: u32 = 18;
    pub(crate) const ENUM64: u32 = 19;
}

/// Of `info`: how many members follow.
const COUNT: u32 = 0xffff;
/// The magic number, the version and the flags of the header.
const START: [u8; 4] = [0x9f, 0xeb, 1, 0];
const HEADER_BYTES: usize = 24;

/// A type and what follows it: `words` is `name`, `info`, `size or type`, then the members' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) words: Vec<u32>,
}

impl Type {
    pub(super) fn new(name: u32, kind: u32, size_or_type: u32) -> Self {
        Self { words: vec![name, kind << 24, size_or_type] }
    }

    pub(super) fn name(&self) -> u32 {
        self.words[0]
    }

    pub(super) fn kind(&self) -> u32 {
        self.words[1] >> 24 & 0x1f
    }

    /// The type that this one is about.
    pub(super) fn target(&self) -> u32 {
        self.words[2]
    }

    /// Members, parameters or values, `width` words each; a member's first two are its name and its type.
    pub(super) fn members(&self, width: usize) -> impl Iterator<Item = &[u32]> {
        self.words[3..].chunks_exact(width)
    }

    /// The same type without its members.
    pub(super) fn hollow(&self) -> Self {
        let [name, _, size, ..] = *self.words.as_slice() else { return self.clone() };
        Self::new(name, self.kind(), size)
    }
}

/// Every type of a kernel, by its number. Number 0 is `void` and is no type.
pub(super) struct Types {
    types: Vec<Type>,
    strings: Vec<u8>,
}

impl Types {
    /// # Errors
    /// When `bytes` is no BTF of version 1, or has kinds that were not there when this was written.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        ensure!(bytes.starts_with(&START), "it does not begin like types of version 1");
        let words = |bytes: &[u8]| -> Vec<u32> {
            bytes
                .chunks_exact(4)
                .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
                .collect()
        };
        let header = words(bytes.get(4..HEADER_BYTES).context("the header is cut")?);
        let section = |at: usize, length: usize| {
            let start = header[0] as usize + at;
            bytes.get(start..start + length).context("a section is cut")
        };
        let records = words(section(header[1] as usize, header[2] as usize)?);
        let strings = section(header[3] as usize, header[4] as usize)?.to_vec();
        let mut types = vec![Type::new(0, 0, 0)];
        let mut rest = records.as_slice();
        while !rest.is_empty() {
            let info = *rest.get(1).context("a type is cut")?;
            let length = 3 + following_words(info >> 24 & 0x1f, info & COUNT)?;
            let (one, others) = rest.split_at_checked(length).context("a type is cut")?;
            types.push(Type { words: one.to_vec() });
            rest = others;
        }
        Ok(Self { types, strings })
    }

    /// Type number `id`.
    pub(super) fn get(&self, id: u32) -> Result<&Type> {
        self.types.get(id as usize).with_context(|| format!("there is no type {id}"))
    }

    /// The string at `offset`.
    pub(super) fn string(&self, offset: u32) -> Result<&str> {
        let rest = self.strings.get(offset as usize..).context("a name is beyond the strings")?;
        let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(name).context("a name is no UTF-8")
    }

    /// Numbers of the types of `kind` whose name is one of those that `is_wanted` wants.
    pub(super) fn find(&self, kind: u32, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        for (id, one) in (0..).zip(&self.types) {
            if one.kind() == kind && is_wanted(self.string(one.name())?) {
                found.push(id);
            }
        }
        Ok(found)
    }

    /// The BTF of these types and strings.
    pub(super) fn to_bytes(types: &[Type], strings: &[u8]) -> Result<Vec<u8>> {
        let records: Vec<u8> =
            types.iter().flat_map(|one| &one.words).flat_map(|word| word.to_le_bytes()).collect();
        let (of_types, of_strings) = (u32::try_from(records.len())?, u32::try_from(strings.len())?);
        let header = [u32::try_from(HEADER_BYTES)?, 0, of_types, of_types, of_strings];
        let header = header.iter().flat_map(|word| word.to_le_bytes());
        Ok(START.into_iter().chain(header).chain(records).chain(strings.iter().copied()).collect())
    }
}

/// How many words follow a type's first three.
fn following_words(kind: u32, count: u32) -> Result<usize> {
    let count = count as usize;
    Ok(match kind {
        kind::INT | kind::VARIABLE | kind::DECLARATION_TAG => 1,
        kind::POINTER
        | kind::FORWARD
        | kind::TYPEDEF
        | kind::VOLATILE
        | kind::CONST
        | kind::RESTRICT
        | kind::FUNCTION
        | kind::FLOAT
        | kind::TYPE_TAG => 0,
        kind::ARRAY => 3,
        kind::STRUCT | kind::UNION | kind::SECTION | kind::ENUM64 => 3 * count,
        kind::ENUM | kind::PROTOTYPE => 2 * count,
        unknown => bail!("it has types of kind {unknown}, which are not known here"),
    })
}
