//! What building the eBPF object, fuzzing and the look at the dependencies need beside stable Rust; each is fetched once when it is missing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::command;
use crate::workspace::Workspace;

/// The Rust that the object is built with: another one gives other bytes.
const RUST_VERSION: &str = "1.95.0";

/// A program that cargo installs, in the version that is used here.
struct Tool {
    /// Its package, which is what the program is called as well.
    name: &'static str,
    version: &'static str,
    /// How long it takes to install.
    takes: &'static str,
}

const BPF_LINKER: Tool = Tool { name: "bpf-linker", version: "0.10.4", takes: "a minute" };
const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", takes: "some minutes" };
const CARGO_FUZZ: Tool = Tool { name: "cargo-fuzz", version: "0.13.2", takes: "a minute" };

/// Debian's package of Rust's library source: its place in a mirror, and what it contains. Its `core` is file for
/// file that of the rustup component.
const DEBIAN_RUST_SRC: &str = "pool/main/r/rustc/rust-src_1.95.0+dfsg1-2~bpo13+1_all.deb";
const DEBIAN_RUST_SRC_SHA256: &str = "7b76db5b880a77f9e52975d2baa6209d2f76d2c9c2789515c3088cb960e2c83b";
const DEBIAN_RUST_SRC_LIBRARY: &str = "usr/src/rustc-1.95.0/library";
const DEBIAN_MIRROR: &str = "http://deb.debian.org/";
/// apt's own downloader: it knows the machine's proxies and compares the checksum.
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

/// Rust's installation: where rustc finds its libraries.
///
/// # Errors
/// When rustc is not the version that the object is built with.
pub(crate) fn sysroot(workspace: &Workspace) -> Result<PathBuf> {
    let version = command::output(workspace.command("rustc").arg("--version"))?;
    ensure!(
        version.split(' ').nth(1) == Some(RUST_VERSION),
        "the eBPF object is built with Rust {RUST_VERSION}, this is {version}; \
         run `rustup toolchain install {RUST_VERSION}`"
    );
    Ok(command::output(workspace.command("rustc").args(["--print", "sysroot"]))?.into())
}

/// The directory of bpf-linker.
pub(crate) fn bpf_linker(workspace: &Workspace) -> Result<PathBuf> {
    directory_of(workspace, &BPF_LINKER)
}

/// The directory of cargo-deny.
pub(crate) fn cargo_deny(workspace: &Workspace) -> Result<PathBuf> {
    directory_of(workspace, &CARGO_DENY)
}

/// The directory of cargo-fuzz.
pub(crate) fn cargo_fuzz(workspace: &Workspace) -> Result<PathBuf> {
    directory_of(workspace, &CARGO_FUZZ)
}

/// A program of `directory`, at the root of the workspace.
pub(crate) fn command(workspace: &Workspace, directory: &Path, program: &str) -> Command {
    workspace.command(&directory.join(program).to_string_lossy())
}

/// Where a tool is; installs it to `target/tools` when it is not found in the right version.
fn directory_of(workspace: &Workspace, tool: &Tool) -> Result<PathBuf> {
    let Tool { name, version, takes } = tool;
    let tools = workspace.root.join("target/tools");
    let on_path = command::find(name).and_then(|program| Some(program.parent()?.to_owned()));
    let in_cargo_home = cargo_home().map(|home| home.join("bin"));
    let candidates = [on_path, in_cargo_home, Some(tools.join("bin"))];
    if let Some(directory) = candidates.into_iter().flatten().find(|directory| has(directory, tool)) {
        return Ok(directory);
    }
    println!("xtask: there is no {name} {version}; installing it takes {takes}");
    let mut install = workspace.cargo();
    command::run(install.args(["install", name, "--version", version, "--locked", "--root"]).arg(&tools))?;
    Ok(tools.join("bin"))
}

/// Makes sure that the source of Rust's core library is where `-Z build-std` looks for it.
pub(crate) fn rust_src(workspace: &Workspace, sysroot: &Path) -> Result<()> {
    let library = sysroot.join("lib/rustlib/src/rust/library");
    let is_there = || library.join("core/src/lib.rs").is_file();
    if is_there() {
        return Ok(());
    }
    println!("xtask: the source of Rust's core library is missing at {}", library.display());
    let by_rustup = command::run(workspace.command("rustup").args(["component", "add", "rust-src"]));
    if is_there() {
        return Ok(());
    }
    // Rustup may also say that it has the component although its files are gone.
    let refusal =
        by_rustup.err().map_or_else(|| "it added no files".to_owned(), |error| format!("{error:#}"));
    println!("xtask: rustup did not help ({refusal}); trying Debian's package");
    rust_src_from_debian(workspace, &library).with_context(|| {
        format!(
            "cannot get the source of Rust's core library; put that of Rust {RUST_VERSION} at {}",
            library.display()
        )
    })
}

/// The command that copies an object without the sections that debuggers need. Every toolchain of rustup's has it,
/// beside the LLVM that compiled the object.
pub(crate) fn objcopy(workspace: &Workspace, sysroot: &Path) -> Result<Command> {
    let host = command::output(workspace.command("rustc").args(["--print", "host-tuple"]))?;
    let program = sysroot.join("lib/rustlib").join(host).join("bin/rust-objcopy");
    ensure!(program.is_file(), "{} is missing; reinstall Rust {RUST_VERSION}", program.display());
    let mut objcopy = Command::new(program);
    objcopy.current_dir(&workspace.root).env("LD_LIBRARY_PATH", sysroot.join("lib"));
    Ok(objcopy)
}

/// Where cargo keeps what it fetched and installed.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")))
}

/// Whether the directory holds the tool in the right version.
fn has(directory: &Path, tool: &Tool) -> bool {
    let program = directory.join(tool.name);
    program.is_file()
        && command::output(Command::new(program).arg("--version"))
            .is_ok_and(|version| version == format!("{} {}", tool.name, tool.version))
}

fn rust_src_from_debian(workspace: &Workspace, library: &Path) -> Result<()> {
    let tools = workspace.root.join("target/tools");
    fs::create_dir_all(&tools).with_context(|| format!("cannot create {}", tools.display()))?;
    let package = tools.join("rust-src.deb");
    command::run(
        workspace
            .command(APT_HELPER)
            .arg("download-file")
            .arg(debian_mirror(workspace, "debian") + DEBIAN_RUST_SRC)
            .arg(&package)
            .arg(format!("SHA256:{DEBIAN_RUST_SRC_SHA256}")),
    )?;
    let unpacked = tools.join("rust-src");
    command::run(workspace.command("dpkg-deb").arg("-x").args([&package, &unpacked]))?;

    // The last step is a rename, so that an interrupted copy is never taken for the whole.
    let partial = library.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    command::run(
        workspace.command("cp").arg("-r").args([&unpacked.join(DEBIAN_RUST_SRC_LIBRARY).join("."), &partial]),
    )?;
    fs::rename(&partial, library)
        .with_context(|| format!("cannot rename {} to {}", partial.display(), library.display()))?;
    fs::remove_dir_all(&unpacked).with_context(|| format!("cannot remove {}", unpacked.display()))
}

/// The mirror of an archive of Debian (`debian`, `debian-security`) that this machine's apt is set up with, or else the
/// public one.
pub(crate) fn debian_mirror(workspace: &Workspace, archive: &str) -> String {
    let configured = command::output(workspace.command("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]));
    configured
        .unwrap_or_default()
        .lines()
        .find(|uri| uri.starts_with("http") && uri.ends_with(&format!("/{archive}/")))
        .map_or_else(|| format!("{DEBIAN_MIRROR}{archive}/"), str::to_owned)
}
