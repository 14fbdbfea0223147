//! zsock's build and test commands, run as `cargo xtask …`.

mod btf;
mod command;
mod ebpf;
mod tally;
mod test;
mod tidy;
mod tools;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use workspace::Workspace;

/// Builds zsock's eBPF object and runs its tests.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds the eBPF programs and writes zsock-ebpf/zsock.bpf.o, which the agent embeds.
    ///
    /// Fetches what it lacks: bpf-linker through cargo, the source of Rust's core library through rustup or,
    /// where rustup cannot, from Debian's package.
    Ebpf {
        /// Writes nothing; fails when the committed object is not what the source gives.
        #[arg(long)]
        check: bool,
    },
    /// Writes the types of Debian's kernels, as far as tests need them, to zsock-agent/tests/data/btf.
    ///
    /// The kernels are those that `vm` runs; remove target/vm/kernels for newer ones.
    Btf,
    /// Runs every check and test there is; the last line adds them up.
    ///
    /// As root it also runs the end-to-end tests in network namespaces, after installing iproute2 and nftables
    /// where they are missing; then it runs them in virtual machines with other kernels (see `vm`). With CI=true in the
    /// environment, a test skipped for want of set-up is a failure.
    Test,
    /// Checks the rules of the house that neither rustfmt nor clippy knows.
    Tidy,
    /// Runs the end-to-end tests on Debian's kernels, in QEMU without KVM; prints a table of test against kernel.
    ///
    /// Without a VERSION: on every series that zsock is to work on. Kernels, QEMU and busybox come from Debian's archive
    /// and are kept in target/vm; remove target/vm/kernels for newer ones.
    Vm(vm::Options),
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    let workspace = Workspace::open()?;
    match &cli.task {
        Task::Ebpf { check: false } => ebpf::build(&workspace)?,
        Task::Ebpf { check: true } => ebpf::check(&workspace)?,
        Task::Btf => btf::write(&workspace)?,
        Task::Test => return test::run(&workspace),
        Task::Tidy => tidy::run(&workspace)?,
        Task::Vm(options) => return vm::run(&workspace, options),
    }
    Ok(ExitCode::SUCCESS)
}
