//! The tools of others, from Debian's packages.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command;

/// A program of each package.
const PACKAGES: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("bpftrace", "bpftrace"),
    ("tcplife-bpfcc", "bpfcc-tools"),
    ("tcplife", "libbpf-tools"),
    ("tcpdump", "tcpdump"),
    ("perf", "linux-perf"),
];

/// Where headers of kernels are.
const HEADERS: &str = "/usr/src";
/// What Debian calls this machine's architecture.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// Installs what is missing.
///
/// # Errors
/// When apt-get fails.
pub(crate) fn install() -> Result<()> {
    let missing = PACKAGES.iter().filter(|(program, _)| command::find(program).is_none());
    let mut missing: Vec<String> = missing.map(|(_, package)| (*package).to_owned()).collect();
    // bcc compiles its programs when it starts, against the headers of the kernel or, here, of one that is near.
    if !has_own_headers()? && headers().is_none() {
        missing.push(format!("linux-headers-{ARCHITECTURE}"));
    }
    if missing.is_empty() {
        return Ok(());
    }
    if command::find("apt-get").is_none() {
        bail!("there is no apt-get here to install {}; install it by other means", missing.join(" "));
    }
    eprintln!("xtask: installing {}", missing.join(" "));
    run(Command::new("apt-get").args(["--quiet", "update"]))?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    run(install.args(["--quiet", "install", "-y", "--no-install-recommends"]).args(missing))
}

/// Runs a command whose output is none of the answers.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let described = command::described(command);
    eprintln!("xtask: {described}");
    let status =
        command.stdout(io::stderr()).status().with_context(|| format!("cannot start {described}"))?;
    if !status.success() {
        bail!("{described} ended with {status}");
    }
    Ok(())
}

/// The versions of the packages, in a line.
pub(crate) fn versions() -> String {
    let packages = PACKAGES.iter().map(|(_, package)| package);
    let mut query = Command::new("dpkg-query");
    let query = query.args(["--show", "--showformat", "${Package} ${Version}, "]).args(packages);
    let said = query.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).trim_end_matches([',', ' ']).to_owned()
}

/// A directory to be mounted at /lib/modules, in which bcc finds headers for the kernel that runs. Where the machine has those
/// of its kernel there is none, and bcc finds them by itself.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn modules(directory: &Path) -> Result<Option<PathBuf>> {
    let Some((build, source)) = headers() else { return Ok(None) };
    if has_own_headers()? {
        return Ok(None);
    }
    let release = release()?;
    let modules = directory.join("modules");
    let of_kernel = modules.join(&release);
    fs::create_dir_all(&of_kernel).with_context(|| format!("cannot create {}", of_kernel.display()))?;
    eprintln!("xtask: bcc gets the headers in {}; there are none of {release}", build.display());
    symlink(build, of_kernel.join("build")).context("cannot link the headers")?;
    symlink(source, of_kernel.join("source")).context("cannot link the headers")?;
    Ok(Some(modules))
}

fn has_own_headers() -> Result<bool> {
    Ok(Path::new("/lib/modules").join(release()?).join("build").exists())
}

fn release() -> Result<String> {
    command::output(Command::new("uname").arg("-r"))
}

/// What Debian's packages of headers consist of: those of a build, and those that several builds share.
fn headers() -> Option<(PathBuf, PathBuf)> {
    let entries = fs::read_dir(HEADERS).ok()?.flatten().map(|entry| entry.path());
    let common = entries.filter(|path| path.to_string_lossy().ends_with("-common")).max()?;
    let name = common.file_name()?.to_string_lossy().replace("-common", &format!("-{ARCHITECTURE}"));
    let build = common.with_file_name(name);
    build.is_dir().then_some((build, common))
}
