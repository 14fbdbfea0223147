//! zsock's build and test commands, run as `cargo xtask …`.

mod bench;
mod btf;
mod command;
mod deny;
mod ebpf;
mod fuzz;
mod stress;
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
    /// Measures what zsock costs beside what a user would run instead, and prints tables.
    ///
    /// As root. Builds zsock as it is released and installs the other tools from Debian's packages. Each round measures every
    /// tool, and none at all right before it, in another order; what is printed are medians over the rounds. What does not run
    /// on this kernel is named with its reason.
    Bench(bench::Options),
    /// What the tools of `bench` look on at, in a process of its own.
    #[command(hide = true)]
    Load {
        #[command(subcommand)]
        load: bench::Load,
    },
    /// Builds the eBPF programs and writes zsock-ebpf/zsock.bpf.o, which the agent embeds.
    ///
    /// Fetches what it lacks: bpf-linker through cargo, the source of Rust's core library through rustup or,
    /// where rustup cannot, from Debian's package.
    Ebpf {
        /// Writes nothing; fails when the committed object is not what the source gives.
        #[arg(long)]
        check: bool,
    },
    /// Looks at licences, sources and duplicates of the dependencies, and where their data is there at advisories and yanked versions.
    ///
    /// Installs cargo-deny where it is missing, which takes some minutes.
    Deny,
    /// Gives zsock's properties what libFuzzer makes up, one target after another.
    ///
    /// Installs cargo-fuzz where it is missing. What a run learned is kept in target/fuzz/corpus for the next one.
    Fuzz {
        /// This target only: a file of zsock-agent/fuzz/targets.
        target: Option<String>,
        /// For so long each.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
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
    /// Runs the stress scenarios of the end-to-end tests for minutes instead of seconds, one after the other, and prints their figures as
    /// the table in the README.
    Stress {
        /// How long each of them goes on.
        #[arg(long, value_name = "N", default_value_t = 2)]
        minutes: u32,
    },
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
        Task::Bench(options) => bench::run(&workspace, options)?,
        Task::Load { load } => load.run()?,
        Task::Ebpf { check: false } => ebpf::build(&workspace)?,
        Task::Ebpf { check: true } => ebpf::check(&workspace)?,
        Task::Deny => deny::run(&workspace)?,
        Task::Fuzz { target, seconds } => fuzz::run(&workspace, target.as_deref(), *seconds)?,
        Task::Btf => btf::write(&workspace)?,
        Task::Test => return test::run(&workspace),
        Task::Stress { minutes } => return stress::run(&workspace, *minutes),
        Task::Tidy => tidy::run(&workspace)?,
        Task::Vm(options) => return vm::run(&workspace, options),
    }
    Ok(ExitCode::SUCCESS)
}
