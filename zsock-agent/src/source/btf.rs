//! The running kernel's own description of its types: field offsets, argument counts, names of numbers.
//!
//! Nothing is decided by a version number: stable series change layouts and backport fields within a version. Whatever bytes
//! the description is made of, to read it ends soon and gives what is there or nothing.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use btf_rs::{Backend, Btf, Type};
use nix::sys::memfd::{MFdFlags, memfd_create};
use zsock_common::offsets::{ABSENT, Field, Offsets};

pub use self::place::Place;
use self::place::Walk;

mod place;
#[cfg(test)]
mod tests;

/// Where the kernel shows its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Kernels of distributions describe themselves in 3 to 6 MB, one with every driver built in takes a few times as much.
const MAX_BYTES: usize = 64 << 20;

/// The kernel's own names have at most 511 bytes.
const MAX_NAME_BYTES: usize = 4096;

/// A kernel's types.
pub struct Types {
    btf: Btf,
    /// Types already looked up: finding a name walks all of them.
    found: RefCell<HashMap<String, Vec<Type>>>,
}

impl Types {
    /// Reads the types of the kernel at `path`.
    ///
    /// # Errors
    /// When the file is missing (a kernel built without `CONFIG_DEBUG_INFO_BTF`) or is no BTF.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| {
            format!(
                "read the kernel's types from {}: zsock needs a kernel with CONFIG_DEBUG_INFO_BTF=y",
                path.display()
            )
        })?;
        Self::parse(&bytes).with_context(|| format!("parse the kernel's types in {}", path.display()))
    }

    /// Reads types from BTF bytes.
    ///
    /// # Errors
    /// When `bytes` is no BTF.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        ensure!(bytes.len() <= MAX_BYTES, "{} bytes are more than any kernel has", bytes.len());
        check_names(bytes)?;
        let mapped = in_memory(bytes).context("make a file in memory of the kernel's types")?;
        // Mapped, not parsed: of more than 100,000 types a few dozen are needed.
        let path = format!("/proc/self/fd/{}", mapped.as_raw_fd());
        let btf = Btf::from_file_with_backend(path, Backend::Mmap)?;
        Ok(Self { btf, found: RefCell::default() })
    }

    /// Offsets of every field that the kernel side reads, and the names of those that this kernel lacks.
    ///
    /// # Errors
    /// When a field is missing without which no hook works.
    pub fn offsets(&self) -> Result<(Offsets, Vec<&'static str>)> {
        let mut missing = Vec::new();
        let offsets = Offsets::resolve(|field| match self.place(field) {
            Some(place) => Ok(place.offset()),
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

    /// Where `field` is; `None` where this kernel has it at none of its paths, or in a shape that the kernel side cannot read.
    #[must_use]
    pub fn place(&self, field: &Field) -> Option<Place> {
        field.paths.iter().find_map(|path| {
            let (name, members) = path.split_once('.')?;
            let outer = self.named(name, |kind| matches!(kind, Type::Struct(_)))?;
            Walk::new(&self.btf).place(outer, members)?.fitting(field)
        })
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

    /// Whether the kernel has a function `name` that a program can attach to by its type.
    #[must_use]
    pub fn has_function(&self, name: &str) -> bool {
        self.named(name, |kind| matches!(kind, Type::Func(_))).is_some()
    }

    /// Whether the kernel has a type `struct NAME`.
    #[must_use]
    pub fn has_struct(&self, name: &str) -> bool {
        self.named(name, |kind| matches!(kind, Type::Struct(_))).is_some()
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

    fn named(&self, name: &str, is_wanted: impl Fn(&Type) -> bool) -> Option<Type> {
        let mut found = self.found.borrow_mut();
        let types = found
            .entry(name.to_owned())
            .or_insert_with(|| self.btf.resolve_types_by_name(name).unwrap_or_default());
        types.iter().find(|kind| is_wanted(kind)).cloned()
    }
}

/// Refuses names without an end: each time that one is looked at costs as much as it is long.
fn check_names(bytes: &[u8]) -> Result<()> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    // `hdr_len`, `str_off` and `str_len` of the header. Kernels that run BPF programs of ours are little-endian.
    let (Some(header), Some(offset), Some(length)) = (word(4), word(16), word(20)) else {
        bail!("the header is cut")
    };
    let strings =
        bytes.get(header + offset..).and_then(|rest| rest.get(..length)).context("the names are cut")?;
    let longest = strings.split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or(0);
    ensure!(longest <= MAX_NAME_BYTES && strings.ends_with(&[0]), "the names have no end");
    Ok(())
}

/// A file that holds `bytes` in memory: before 6.16 the kernel's own cannot be mapped.
fn in_memory(bytes: &[u8]) -> Result<File> {
    let mut file = File::from(memfd_create("zsock-btf", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}
