//! The running kernel's own description of its types: field offsets, argument counts, names of numbers.
//!
//! Nothing is decided by a version number: stable series change layouts and backport fields within a version.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use btf_rs::{Backend, Btf, Type};
use nix::sys::memfd::{MFdFlags, memfd_create};
use zsock_common::offsets::{ABSENT, Field, Offsets, bit_field};

/// Where the kernel shows its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// A kernel's types.
pub struct Types {
    btf: Btf,
    /// Types already looked up: finding a name walks all of them.
    found: RefCell<HashMap<String, Vec<Type>>>,
}

/// A field's place: its offset in bits and the type of what is there.
struct Place {
    bit_offset: u32,
    bit_width: Option<u32>,
    kind: Type,
}

impl Types {
    /// Reads the types of the kernel at `path`.
    ///
    /// # Errors
    /// When the file is missing (a kernel built without `CONFIG_DEBUG_INFO_BTF`) or is no BTF.
    pub fn read(path: &Path) -> Result<Self> {
        let mut kernels = File::open(path).with_context(|| {
            format!(
                "read the kernel's types from {}: zsock needs a kernel with CONFIG_DEBUG_INFO_BTF=y",
                path.display()
            )
        })?;
        let mapped = in_memory(&mut kernels).context("make a file in memory of the kernel's types")?;
        // Mapped, not parsed: of more than 100,000 types a few dozen are needed.
        Btf::from_file_with_backend(format!("/proc/self/fd/{}", mapped.as_raw_fd()), Backend::Mmap)
            .map(Self::new)
            .with_context(|| format!("parse the kernel's types in {}", path.display()))
    }

    /// Reads types from BTF bytes.
    ///
    /// # Errors
    /// When `bytes` is no BTF.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Ok(Self::new(Btf::from_bytes(bytes)?))
    }

    /// Offsets of every field that the kernel side reads, and the names of those that this kernel lacks.
    ///
    /// # Errors
    /// When a field is missing without which no hook works.
    pub fn offsets(&self) -> Result<(Offsets, Vec<&'static str>)> {
        let mut missing = Vec::new();
        let offsets = Offsets::resolve(|field| match self.offset(field) {
            Some(offset) => Ok(offset),
            None if field.is_required => bail!(
                "this kernel's types have no {}, without which zsock cannot read sockets; please report its `uname -r`",
                field.paths.join(" or ")
            ),
            None => {
                missing.push(field.name);
                Ok(ABSENT)
            }
        })?;
        Ok((offsets, missing))
    }

    /// How many arguments the tracepoint `name` has; `None` where the kernel has no such tracepoint.
    #[must_use]
    pub fn tracepoint_arguments(&self, name: &str) -> Option<usize> {
        let kind = self.named(&format!("btf_trace_{name}"), |kind| matches!(kind, Type::Typedef(_)))?;
        let pointer = self.btf.resolve_chained_type(kind.as_btf_type()?).ok()?;
        let Type::FuncProto(prototype) = self.btf.resolve_chained_type(pointer.as_btf_type()?).ok()? else {
            return None;
        };
        // The first parameter is the tracepoint's own data.
        prototype.parameters.len().checked_sub(1)
    }

    /// Names of the enum `name` by value, without `prefix`.
    #[must_use]
    pub fn enum_names(&self, name: &str, prefix: &str) -> BTreeMap<u32, String> {
        let Some(Type::Enum(found)) = self.named(name, |kind| matches!(kind, Type::Enum(_))) else {
            return BTreeMap::new();
        };
        let name_of = |member| self.btf.resolve_name(member).ok();
        found
            .members
            .iter()
            .filter_map(|member| Some((member.val(), name_of(member)?)))
            .map(|(value, name)| (value, name.strip_prefix(prefix).unwrap_or(&name).to_owned()))
            .collect()
    }

    fn new(btf: Btf) -> Self {
        Self { btf, found: RefCell::default() }
    }

    fn named(&self, name: &str, is_wanted: impl Fn(&Type) -> bool) -> Option<Type> {
        let mut found = self.found.borrow_mut();
        let types = found
            .entry(name.to_owned())
            .or_insert_with(|| self.btf.resolve_types_by_name(name).unwrap_or_default());
        types.iter().find(|kind| is_wanted(kind)).cloned()
    }

    fn offset(&self, field: &Field) -> Option<u32> {
        field.paths.iter().find_map(|path| self.offset_of_path(path, field.size_bytes))
    }

    /// The offset of `type.member.member`; `None` where a member is missing or smaller than `size_bytes`.
    fn offset_of_path(&self, path: &str, size_bytes: u32) -> Option<u32> {
        let (name, members) = path.split_once('.')?;
        let mut place = Place {
            bit_offset: 0,
            bit_width: None,
            kind: self.named(name, |kind| matches!(kind, Type::Struct(_)))?,
        };
        for member in members.split('.') {
            let found = self.member(&place.kind, member)?;
            place = Place { bit_offset: place.bit_offset + found.bit_offset, ..found };
        }
        let byte = place.bit_offset / 8;
        if let Some(width) = place.bit_width {
            return Some(bit_field(byte, place.bit_offset % 8, width));
        }
        (self.size_bytes(&place.kind)? >= size_bytes).then_some(byte)
    }

    /// A member by name, through anonymous structs and unions.
    fn member(&self, of: &Type, name: &str) -> Option<Place> {
        let (Type::Struct(outer) | Type::Union(outer)) = self.peel(of.clone())? else { return None };
        outer.members.iter().find_map(|member| {
            let kind = self.btf.resolve_chained_type(member).ok()?;
            let bit_width = member.bitfield_size().filter(|width| *width != 0);
            let here = Place { bit_offset: member.bit_offset(), bit_width, kind };
            match self.btf.resolve_name(member).ok().as_deref() {
                Some(found) if found == name => Some(here),
                None | Some("") => {
                    let inner = self.member(&here.kind, name)?;
                    Some(Place { bit_offset: here.bit_offset + inner.bit_offset, ..inner })
                }
                Some(_) => None,
            }
        })
    }

    /// The type behind typedefs and qualifiers.
    fn peel(&self, mut kind: Type) -> Option<Type> {
        while matches!(
            kind,
            Type::Typedef(_) | Type::Const(_) | Type::Volatile(_) | Type::Restrict(_) | Type::TypeTag(_)
        ) {
            kind = self.btf.resolve_chained_type(kind.as_btf_type()?).ok()?;
        }
        Some(kind)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the crate's list of types is open; the others have no size of their own"
    )]
    fn size_bytes(&self, kind: &Type) -> Option<u32> {
        let bytes = match self.peel(kind.clone())? {
            Type::Int(int) => int.size(),
            Type::Struct(outer) | Type::Union(outer) => outer.size(),
            Type::Enum(kind) => kind.size(),
            Type::Enum64(kind) => kind.size(),
            Type::Ptr(_) => size_of::<u64>(),
            Type::Array(array) => {
                let element = self.btf.resolve_chained_type(&array).ok()?;
                return Some(u32::try_from(array.len()).ok()? * self.size_bytes(&element)?);
            }
            _ => return None,
        };
        u32::try_from(bytes).ok()
    }
}

/// A copy of `file` in memory: before 6.16 the kernel's own cannot be mapped.
fn in_memory(file: &mut File) -> Result<File> {
    let mut copy = File::from(memfd_create("zsock-btf", MFdFlags::MFD_CLOEXEC)?);
    io::copy(file, &mut copy)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_types_are_refused() {
        assert!(Types::parse(b"").is_err());
        assert!(Types::parse(b"\x9f\xeb\x01\x00garbage").is_err());
    }
}
