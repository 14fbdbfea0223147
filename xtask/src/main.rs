//! zsock's build and test commands, run as `cargo xtask …`.

mod command;
mod ebpf;
mod stress;
mod tally;
mod test;
mod tidy;
mod tools;
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
    /// Runs every check and test there is; the last line adds them up.
    ///
    /// As root it also runs the end-to-end tests in network namespaces, after installing iproute2 and nftables
    /// where they are missing. With CI=true in the environment, a test skipped for want of set-up is a failure.
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
    match cli.task {
        Task::Ebpf { check: false } => ebpf::build(&workspace)?,
        Task::Ebpf { check: true } => ebpf::check(&workspace)?,
        Task::Test => return test::run(&workspace),
        Task::Stress { minutes } => return stress::run(&workspace, minutes),
        Task::Tidy => tidy::run(&workspace)?,
    }
    Ok(ExitCode::SUCCESS)
}
