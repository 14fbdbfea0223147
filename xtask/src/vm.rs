//! Virtual machines with Debian's kernels, emulated in software: they need no KVM and no privileges.

mod apt;
mod initramfs;
pub(crate) mod kernels;
mod matrix;
mod qemu;
mod report;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use initramfs::Initramfs;
use kernels::{Kernel, Kernels, Series};
use qemu::{Ended, Machine, Qemu};
use report::Run;

use crate::command;
use crate::tally::Tally;
use crate::workspace::Workspace;

/// The target that the C library can be linked into a program statically for.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Where they are built.
const BUILD: &str = "target/vm/build";

/// What `cargo xtask vm` is asked to do.
#[derive(Args)]
pub(crate) struct Options {
    /// Series of kernels such as 6.12; 7.x is the newest that begins with 7.
    #[arg(value_name = "VERSION")]
    versions: Vec<Series>,
    /// Runs only the tests whose names contain this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Runs every test, which takes twice as long, not only those that ask most of a kernel.
    #[arg(long, conflicts_with_all = ["only", "run"])]
    all: bool,
    /// Writes the table of kernels into README.md.
    #[arg(long, conflicts_with_all = ["all", "only", "run", "versions"])]
    bless: bool,
    /// Runs these shell commands in each machine instead of the tests, and exits with their status.
    #[arg(long, value_name = "COMMANDS", conflicts_with = "only")]
    run: Option<String>,
    /// A file to bring along to /work, where the commands start; may be given again.
    #[arg(long, value_name = "FILE", requires = "run")]
    with: Vec<PathBuf>,
    /// Gives up on a machine that runs commands after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "run")]
    limit: u64,
}

/// Kernels and QEMU, on this machine's disk.
pub(crate) struct Lab {
    kernels: Vec<Kernel>,
    qemu: Qemu,
}

impl Lab {
    /// Fetches what is missing for these series; for all of them where none is named.
    ///
    /// # Errors
    /// When something cannot be fetched.
    fn open(workspace: &Workspace, series: &[Series]) -> Result<Self> {
        let series = if series.is_empty() { &Series::ALL } else { series };
        let kernels = Kernels::new(workspace);
        let kernels = series.iter().map(|series| kernels.get(series)).collect::<Result<_>>()?;
        Ok(Self { kernels, qemu: Qemu::get(workspace)? })
    }

    /// What it takes to test on all kernels.
    ///
    /// # Errors
    /// When something cannot be fetched.
    pub(crate) fn for_tests(workspace: &Workspace) -> Result<Self> {
        Self::open(workspace, &[])
    }

    /// Runs the end-to-end tests on every kernel, prints the tables and compares README's. Gives the counts and what is wrong.
    ///
    /// # Errors
    /// When programs or machines cannot be made.
    pub(crate) fn test(&self, workspace: &Workspace) -> Result<(Tally, Vec<String>)> {
        let runs = self.run_tests(workspace, matrix::Choice::Core)?;
        let mut problems = problems(&runs);
        if let Err(error) = report::keep(&workspace.root.join("README.md"), &runs, false) {
            problems.push(format!("{error:#}"));
        }
        Ok((total(&runs), problems))
    }

    fn run_tests(&self, workspace: &Workspace, choice: matrix::Choice<'_>) -> Result<Vec<Run>> {
        let programs = matrix::Programs::build(workspace)?;
        let machines = workspace.root.join("target/vm/machines");
        let runs = matrix::run(&self.qemu, &self.kernels, &programs, &machines, choice)?;
        println!("\n{}", report::table(&runs, false));
        println!("Kernels: {}.\n\n{}", report::versions(&runs), report::table(&runs, true));
        Ok(runs)
    }

    /// Runs commands on each kernel, one after the other, up to the first that fails.
    fn run_commands(&self, workspace: &Workspace, commands: &str, options: &Options) -> Result<ExitCode> {
        let zsock = static_zsock(workspace)?;
        for kernel in &self.kernels {
            let home = workspace.root.join("target/vm/machines").join(kernel.series.to_string());
            let root = Initramfs::new(home.join("root"), &self.qemu.busybox())?;
            root.modules(kernel)?;
            root.copy(&zsock, "usr/bin/zsock")?;
            for file in &options.with {
                let name = file.file_name().with_context(|| format!("{} is no file", file.display()))?;
                root.copy(file, &format!("work/{}", name.display()))?;
            }
            root.script("work/job", commands)?;
            let (archive, console) = (home.join("initramfs"), home.join("console"));
            root.pack(&archive)?;
            let limit = Duration::from_secs(options.limit);
            let machine =
                Machine { kernel, initramfs: &archive, console: &console, cores: 2, memory_mib: 1024, limit };
            match self.qemu.run(&machine, |line| println!("{line}"))? {
                Ended::WithStatus(0) => {}
                Ended::WithStatus(status) => return Ok(ExitCode::from(u8::try_from(status).unwrap_or(1))),
                Ended::Badly(why) => bail!("kernel {}: {why}", kernel.version),
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Does what `cargo xtask vm` is asked to.
///
/// # Errors
/// When a machine cannot be made or breaks down. What its job says is the exit code's business.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let lab = Lab::open(workspace, &options.versions)?;
    if let Some(commands) = &options.run {
        return lab.run_commands(workspace, commands, options);
    }
    let choice = match &options.only {
        Some(text) => matrix::Choice::Only(text),
        None if options.all => matrix::Choice::All,
        None => matrix::Choice::Core,
    };
    let runs = lab.run_tests(workspace, choice)?;
    let mut problems = problems(&runs);
    if options.bless && problems.is_empty() {
        report::keep(&workspace.root.join("README.md"), &runs, true)?;
    } else if options.bless {
        problems.push("README.md stays as it is: its table is of a run in which nothing failed".to_owned());
    }
    for problem in &problems {
        println!("FAILED {problem}");
    }
    println!("{}", total(&runs));
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn total(runs: &[Run]) -> Tally {
    runs.iter().fold(Tally::default(), |mut total, run| {
        total += run.tally();
        total
    })
}

/// What is wrong, a line for each kernel on which something failed.
fn problems(runs: &[Run]) -> Vec<String> {
    let failed = runs.iter().filter(|run| run.tally().failed > 0);
    failed
        .map(|run| {
            let trouble = run.trouble.as_deref().unwrap_or("see the tests above");
            format!("kernel {}: {}: {trouble}", run.version, run.tally())
        })
        .collect()
}

/// Builds zsock with the C library inside, so that it runs where no library is.
fn static_zsock(workspace: &Workspace) -> Result<PathBuf> {
    command::run(static_cargo(workspace).args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--package=zsock-agent",
    ]))?;
    Ok(zsock_in(workspace))
}

/// A cargo whose programs have the C library inside. They are optimised, for an emulated processor is slow, but quickly built; and
/// without symbols, for an initramfs is all in memory.
fn static_cargo(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo();
    // Other flags than those of an ordinary build, so a place of its own.
    cargo
        .env("CARGO_TARGET_DIR", workspace.root.join(BUILD))
        .env("CARGO_BUILD_TARGET", TARGET)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    cargo
}

fn zsock_in(workspace: &Workspace) -> PathBuf {
    workspace.root.join(BUILD).join(TARGET).join("release/zsock")
}
