//! The running kernel's own description of its types: field offsets, argument counts, names of numbers.
//!
//! Nothing is decided by a version number: stable series change layouts and backport fields within a version. Whatever bytes
//! the description is made of, to read it ends soon and gives what is there or nothing.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use btf_rs::{Backend, Btf, Type};
use memmap2::{Mmap, MmapOptions};
use nix::sys::memfd::{MFdFlags, memfd_create};
use zsock_common::offsets::{ABSENT, Field, Offsets};

pub use self::place::Place;
use self::place::Walk;
use crate::source::kernel::hooks;

mod names;
mod place;
mod stand_in;
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
    /// Types already looked up, with their numbers: finding a name walks all types. Those that every start asks for are found in one walk.
    found: RefCell<HashMap<String, Vec<(u32, Type)>>>,
}

impl Types {
    /// Reads the types of the kernel at `path`.
    ///
    /// # Errors
    /// When the file is missing (a kernel built without `CONFIG_DEBUG_INFO_BTF`) or is no BTF.
    pub fn read(path: &Path) -> Result<Self> {
        let types = match mapped(path) {
            Some(mapped) => Self::of(&mapped, path),
            None => Self::parse(&fs::read(path).with_context(|| {
                format!(
                    "read the kernel's types from {}: zsock needs a kernel with CONFIG_DEBUG_INFO_BTF=y",
                    path.display()
                )
            })?),
        };
        types.with_context(|| format!("parse the kernel's types in {}", path.display()))
    }

    /// Reads types from BTF bytes.
    ///
    /// # Errors
    /// When `bytes` is no BTF.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let file = in_memory(bytes).context("make a file in memory of the kernel's types")?;
        Self::of(bytes, Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))
    }

    /// Types of `bytes`, which the file at `path` has.
    fn of(bytes: &[u8], path: &Path) -> Result<Self> {
        ensure!(bytes.len() <= MAX_BYTES, "{} bytes are more than any kernel has", bytes.len());
        check_names(bytes)?;
        thread::scope(|scope| {
            let find = || names::find(bytes, names_at_start()).unwrap_or_default();
            let finding = thread::Builder::new().spawn_scoped(scope, find);
            // Mapped, not parsed: of more than 100,000 types a few dozen are needed.
            let btf = Btf::from_file_with_backend(path, Backend::Mmap);
            let found = match finding {
                Ok(finding) => finding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(_) => find(),
            };
            let btf = btf?;
            let found = found.into_iter().map(|(name, numbers)| (name, by_number(&btf, numbers))).collect();
            Ok(Self { btf, found: RefCell::new(found) })
        })
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
        self.numbered(name, is_wanted).map(|(_, found)| found)
    }

    /// The same with its number.
    fn numbered(&self, name: &str, is_wanted: impl Fn(&Type) -> bool) -> Option<(u32, Type)> {
        let mut found = self.found.borrow_mut();
        if !found.contains_key(name) {
            let numbers = self.btf.resolve_ids_by_name(name).unwrap_or_default();
            found.insert(name.to_owned(), by_number(&self.btf, numbers));
        }
        found.get(name)?.iter().find(|(_, found)| is_wanted(found)).cloned()
    }
}

/// The types with these numbers, as far as they can be read.
fn by_number(btf: &Btf, numbers: Vec<u32>) -> Vec<(u32, Type)> {
    numbers.into_iter().filter_map(|number| Some((number, btf.resolve_type_by_id(number).ok()?))).collect()
}

/// What every start of the kernel side asks for.
fn names_at_start() -> Vec<String> {
    let mut names: Vec<String> = hooks::types().map(|(name, _)| name).collect();
    let Ok(_) = Offsets::resolve(|field| {
        names.extend(
            field.paths.iter().filter_map(|path| path.split_once('.')).map(|(name, _)| name.to_owned()),
        );
        Ok::<_, Infallible>(ABSENT)
    });
    names.push("sk_rst_reason".to_owned());
    names
}

/// The kernel's own file in memory, which can be had without a copy from 6.16 on.
fn mapped(path: &Path) -> Option<Mmap> {
    let file = File::open(path).ok()?;
    // SAFETY: the kernel's types do not change while it runs.
    unsafe { MmapOptions::new().map_copy_read_only(&file) }.ok()
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
    let mut begin = 0;
    let lengths = memchr::memchr_iter(0, strings).map(|end| end - std::mem::replace(&mut begin, end + 1));
    let longest = lengths.max().unwrap_or(0);
    ensure!(longest <= MAX_NAME_BYTES && strings.ends_with(&[0]), "the names have no end");
    Ok(())
}

/// A file that holds `bytes` in memory: before 6.16 the kernel's own cannot be mapped.
fn in_memory(bytes: &[u8]) -> Result<File> {
    let mut file = File::from(memfd_create("zsock-btf", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}
