//! Virtual machines with Debian's kernels, emulated in software: they need no KVM and no privileges.

mod apt;
mod initramfs;
mod kernels;
mod qemu;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use initramfs::Initramfs;
use kernels::{Kernel, Kernels, Series};
use qemu::{Ended, Machine, Qemu};

use crate::command;
use crate::workspace::Workspace;

/// The target that the C library can be linked into a program statically for.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What `cargo xtask vm` is asked to do.
#[derive(Args)]
pub(crate) struct Options {
    /// Series of kernels such as 6.12; 7.x is the newest that begins with 7.
    #[arg(value_name = "VERSION")]
    versions: Vec<Series>,
    /// Runs these shell commands in each machine instead of the tests; exits with the status of the last machine that fails.
    #[arg(long, value_name = "COMMANDS")]
    run: Option<String>,
    /// A file to bring along to /work, where the commands start; may be given again.
    #[arg(long, value_name = "FILE", requires = "run")]
    with: Vec<PathBuf>,
    /// Gives up on a machine after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    limit: u64,
}

/// Does it.
///
/// # Errors
/// When a machine cannot be made. What its job says is the exit code's business.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let all = Series::ALL;
    let series = if options.versions.is_empty() { &all } else { &*options.versions };
    let kernels = Kernels::new(workspace);
    let kernels: Vec<Kernel> = series.iter().map(|series| kernels.get(series)).collect::<Result<_>>()?;
    let qemu = Qemu::get(workspace)?;
    let Some(job) = &options.run else { bail!("the tests in the machines are still to come; use --run") };
    let zsock = build(workspace)?;
    let mut code = 0;
    for kernel in &kernels {
        let home = workspace.root.join("target/vm/machines").join(kernel.series.to_string());
        let root = Initramfs::new(home.join("root"), &qemu.busybox())?;
        root.modules(kernel)?;
        root.copy(&zsock, "usr/bin/zsock")?;
        for file in &options.with {
            let name = file.file_name().with_context(|| format!("{} is no file", file.display()))?;
            root.copy(file, &format!("work/{}", name.display()))?;
        }
        root.script("work/job", job)?;
        match boot(&qemu, kernel, &root, &home, Duration::from_secs(options.limit))? {
            Ended::WithStatus(0) => {}
            Ended::WithStatus(status) => code = u8::try_from(status).unwrap_or(1),
            Ended::Badly(why) => bail!("kernel {}: {why}", kernel.version),
        }
    }
    Ok(ExitCode::from(code))
}

/// Runs a machine whose job's output goes to stdout.
fn boot(qemu: &Qemu, kernel: &Kernel, root: &Initramfs, home: &Path, limit: Duration) -> Result<Ended> {
    let (archive, console) = (home.join("initramfs"), home.join("console"));
    root.pack(&archive)?;
    let machine =
        Machine { kernel, initramfs: &archive, console: &console, cores: 2, memory_mib: 1024, limit };
    qemu.run(&machine, |line| println!("{line}"))
}

/// Builds zsock with the C library inside, so that it runs where no library is.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let target = workspace.root.join("target/vm/build");
    let mut cargo = workspace.cargo();
    // Other flags than those of an ordinary build, so a place of its own.
    cargo.env("CARGO_TARGET_DIR", &target).env("RUSTFLAGS", "-C target-feature=+crt-static").args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--package=zsock-agent",
        "--target",
        TARGET,
    ]);
    command::run(&mut cargo)?;
    Ok(target.join(TARGET).join("release/zsock"))
}
