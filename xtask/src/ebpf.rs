//! The eBPF object: built, made small, written beside its source or compared with what is there.
//!
//! The same source gives the same bytes on every machine, in every folder and under every user's settings.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command;
use crate::tools;
use crate::workspace::Workspace;

/// The object that the agent embeds, as the repository holds it.
const OBJECT: &str = "zsock-ebpf/zsock.bpf.o";
/// The committed object reads the registers of this architecture where a kprobe's arguments are.
const COMMITTED_ARCH: &str = "x86_64";
const TARGET: &str = "bpfel-unknown-none";
/// Cargo's separator in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: &str = "\x1f";

/// Builds the object for this machine's architecture and writes it beside its source.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let built = built(workspace, env::consts::ARCH)?;
    let object = workspace.root.join(OBJECT);
    fs::write(&object, &built).with_context(|| format!("cannot write {}", object.display()))?;
    println!("xtask: wrote {OBJECT}, {} bytes", built.len());
    Ok(())
}

/// Builds the object aside and compares it with the committed one.
///
/// # Errors
/// When they differ, with the place where.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let object = workspace.root.join(OBJECT);
    let committed = fs::read(&object)
        .with_context(|| format!("cannot read {}; run `cargo xtask ebpf` and commit it", object.display()))?;
    let built = built(workspace, COMMITTED_ARCH)?;
    if let Some(offset) = first_difference(&committed, &built) {
        bail!(
            "{OBJECT} is not what its source gives: {} bytes are committed, {} were built, \
             they differ from byte {offset} on; run `cargo xtask ebpf` on {COMMITTED_ARCH} and commit {OBJECT} \
             together with the change of its source",
            committed.len(),
            built.len()
        );
    }
    println!("xtask: {OBJECT} is what its source gives, {} bytes", built.len());
    Ok(())
}

/// Runs clippy on the eBPF programs as they are compiled for the kernel.
pub(crate) fn clippy(workspace: &Workspace) -> Result<()> {
    let mut clippy = Toolchain::prepare(workspace)?.cargo(workspace, "clippy", COMMITTED_ARCH)?;
    command::run(clippy.args(["--", "-D", "warnings"]))
}

fn built(workspace: &Workspace, arch: &str) -> Result<Vec<u8>> {
    let toolchain = Toolchain::prepare(workspace)?;
    command::run(&mut toolchain.cargo(workspace, "build", arch)?)?;

    let target = target_dir(workspace);
    let linked = target.join(TARGET).join("release/zsock-ebpf");
    let stripped = target.join("zsock.bpf.o");
    // BTF is made from DWARF, which nothing needs once the BTF is there.
    let mut objcopy = tools::objcopy(workspace, &toolchain.sysroot)?;
    command::run(objcopy.arg("--strip-debug").args([&linked, &stripped]))?;
    fs::read(&stripped).with_context(|| format!("cannot read {}", stripped.display()))
}

/// What the build needs, fetched and found.
struct Toolchain {
    sysroot: PathBuf,
    /// The directory of bpf-linker.
    linker: PathBuf,
}

impl Toolchain {
    fn prepare(workspace: &Workspace) -> Result<Self> {
        let sysroot = tools::sysroot(workspace)?;
        tools::rust_src(workspace, &sysroot)?;
        Ok(Self { sysroot, linker: tools::bpf_linker(workspace)? })
    }

    /// The cargo command that compiles the eBPF crate, under nobody's settings but these.
    fn cargo(&self, workspace: &Workspace, subcommand: &str, arch: &str) -> Result<Command> {
        let mut cargo = workspace.cargo();
        for (name, _) in env::vars_os().filter(|(name, _)| changes_the_build(&name.to_string_lossy())) {
            cargo.env_remove(name);
        }
        cargo
            .args([subcommand, "--package=zsock-ebpf", "--locked", "--release", "-Zbuild-std=core"])
            .arg(format!("--target={TARGET}"))
            .arg("--target-dir")
            .arg(target_dir(workspace))
            // Building `core` is an unstable feature of cargo; this admits it to a stable one.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", self.rustflags(workspace, arch)?)
            .env("PATH", self.path()?);
        Ok(cargo)
    }

    fn rustflags(&self, workspace: &Workspace, arch: &str) -> Result<OsString> {
        let mut flags: Vec<OsString> = [
            // A name and not a path: flags go into the names of symbols.
            "-Clinker=bpf-linker",
            "-Clink-arg=--btf",
            "-Cdebuginfo=2",
            "-Cpanic=abort",
        ]
        .map(OsString::from)
        .to_vec();
        flags.push(format!("--cfg=bpf_target_arch=\"{arch}\"").into());
        flags.push(remap(&workspace.root, "/zsock"));
        flags.push(remap(&self.sysroot, "/rust"));
        flags.extend(registries(workspace)?.iter().map(|registry| remap(registry, "/registry")));
        Ok(flags.join(SEPARATOR.as_ref()))
    }

    /// The caller's PATH with the right bpf-linker first.
    fn path(&self) -> Result<OsString> {
        let path = env::var_os("PATH").unwrap_or_default();
        env::join_paths([self.linker.clone()].into_iter().chain(env::split_paths(&path)))
            .with_context(|| format!("cannot put {} on the PATH", self.linker.display()))
    }
}

fn target_dir(workspace: &Workspace) -> PathBuf {
    workspace.root.join("target/ebpf")
}

/// Panic messages and BTF name source files: those names must not depend on where things lie.
fn remap(from: &Path, to: &str) -> OsString {
    let mut flag = OsString::from("--remap-path-prefix=");
    flag.push(from);
    flag.push("=");
    flag.push(to);
    flag
}

/// The directories into which cargo unpacked the packages that the workspace depends on: they have a registry's
/// name in cargo's home, and a mirror's name where one is set up.
fn registries(workspace: &Workspace) -> Result<BTreeSet<PathBuf>> {
    let metadata = workspace.metadata(&["--filter-platform", TARGET])?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    Ok(packages
        .iter()
        .filter(|package| package["source"].is_string())
        .filter_map(|package| Path::new(package["manifest_path"].as_str()?).parent()?.parent())
        .map(Path::to_owned)
        .collect())
}

/// Whether a variable of the caller's environment changes what cargo builds, in other ways than the flags do.
fn changes_the_build(variable: &str) -> bool {
    let prefixes = ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_UNSTABLE_"];
    let names =
        ["AYA_BPF_TARGET_ARCH", "CARGO_INCREMENTAL", "RUSTC", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER"];
    names.contains(&variable) || prefixes.iter().any(|prefix| variable.starts_with(prefix))
}

fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    let common = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    (common < one.len().max(other.len())).then_some(common)
}

#[cfg(test)]
mod tests {
    use super::{changes_the_build, first_difference};

    #[test]
    fn objects_differ_at_the_first_byte_that_one_of_them_lacks_or_has_otherwise() {
        assert_eq!(first_difference(b"zsock", b"zsock"), None);
        assert_eq!(first_difference(b"zsock", b"zsuck"), Some(2));
        assert_eq!(first_difference(b"zso", b"zsock"), Some(3));
        assert_eq!(first_difference(b"zsock", b""), Some(0));
    }

    #[test]
    fn a_users_settings_stay_out_of_the_build_but_not_the_way_to_the_registry() {
        let variables = [
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_TARGET_DIR",
            "RUSTC_WRAPPER",
            "CARGO_HOME",
            "CARGO_HTTP_PROXY",
        ];
        assert_eq!(variables.map(changes_the_build), [true, true, true, false, false]);
    }
}
