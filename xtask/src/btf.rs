//! The types of Debian's kernels, made small: what the tests resolve the table of fields against.
//!
//! Written to `zsock-agent/tests/data/btf`, one file a kernel, with a list of them for the tests to include.

mod minimise;
mod raw;
mod vmlinux;
mod wanted;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::vm::kernels::{Kernel, Kernels, Series};
use crate::workspace::Workspace;
use wanted::Wanted;

/// Where the tests of the agent find them.
const DATA: &str = "zsock-agent/tests/data/btf";
/// The list that the tests include.
const LIST: &str = "list.rs";
/// Written rarely, read at every test.
const ZSTD_LEVEL: i32 = 19;

/// Writes the types of the newest kernel of each series, in place of those that were there.
///
/// # Errors
/// When a kernel cannot be fetched, or its types cannot be read or written.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    let wanted = Wanted::of(workspace)?;
    let kernels = Kernels::new(workspace);
    let mut files = Vec::new();
    for series in &Series::ALL {
        let Kernel { release, vmlinuz, .. } = kernels.get(series)?;
        let packed = types(&vmlinuz, &wanted)
            .with_context(|| format!("cannot make the types in {} small", vmlinuz.display()))?;
        files.push((release, packed));
    }
    let directory = workspace.root.join(DATA);
    replace(&directory, &files).with_context(|| format!("cannot write into {}", directory.display()))
}

/// The types of a kernel that are wanted, packed.
fn types(vmlinuz: &Path, wanted: &Wanted) -> Result<Vec<u8>> {
    let all = vmlinux::types(&fs::read(vmlinuz)?)?;
    let few = minimise::minimise(&all, wanted)?;
    let packed = zstd::encode_all(few.as_slice(), ZSTD_LEVEL)?;
    println!("xtask: of {} bytes of types {} are kept, {} when packed", all.len(), few.len(), packed.len());
    Ok(packed)
}

/// Puts `files` in place of all that the directory had.
fn replace(directory: &Path, files: &[(String, Vec<u8>)]) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir_all(directory)?;
    let mut list = String::from("// Written by `cargo xtask btf`.\n&[\n");
    for (release, packed) in files {
        fs::write(directory.join(format!("{release}.btf.zst")), packed)?;
        writeln!(list, "    (\"{release}\", include_bytes!(\"{release}.btf.zst\")),")?;
    }
    list.push_str("]\n");
    fs::write(directory.join(LIST), list)?;
    Ok(())
}
