//! Runs what the command line asks for.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context, Result};
use env_logger::Target;
use rlimit::Resource;

use crate::cli::{Cli, Command};
use crate::record::printable;
use crate::run::output::Outlet;
use crate::sink::aside::Aside;

mod act;
mod audit;
mod beside;
mod doctor;
mod facts;
mod filter;
mod follow;
mod keepalive;
mod kill;
mod metrics;
mod out;
mod output;
mod pass;
mod report;
mod signals;

/// Runs the command.
///
/// # Errors
/// Whatever kept it from being done, with what to do next.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Trace(arguments) => {
            log_to_stderr(arguments.follow.verbose);
            allow_files()?;
            runtime()?.block_on(follow::run(&arguments.follow, Outlet::Stdout(&arguments)))
        }
        Command::Record(arguments) => {
            log_to_stderr(arguments.follow.verbose);
            allow_files()?;
            runtime()?.block_on(follow::run(&arguments.follow, Outlet::Directory(&arguments)))
        }
        Command::Keepalive(arguments) => {
            log_to_stderr(arguments.act.verbose);
            allow_files()?;
            runtime()?.block_on(keepalive::run(&arguments))
        }
        Command::Kill(arguments) => {
            log_to_stderr(arguments.act.verbose);
            allow_files()?;
            kill::run(&arguments)
        }
        Command::Audit(arguments) => {
            log_to_stderr(arguments.verbose);
            allow_files()?;
            audit::run(&arguments)
        }
        Command::Report(arguments) => {
            log_to_stderr(arguments.verbose);
            report::run(&arguments)
        }
        Command::Doctor(arguments) => {
            log_to_stderr(arguments.verbose);
            doctor::run(&arguments, allow_files())
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")
}

/// More than zsock opens to start: some sixty for its programs, maps and hooks. The rest leaves room for the network namespaces of a small
/// host, two or three for each.
const NEEDED_FILES: usize = 128;

/// Raises the limit of open files as far as zsock may by itself, for a look holds one for each network namespace, and fails where that is not enough: here, where it can say what to do. Later
/// each place would fail in its own way, and the runtime panic.
fn allow_files() -> Result<()> {
    let raised = Resource::NOFILE.get().and_then(|(_, hard)| Resource::NOFILE.set(hard, hard));
    if let Err(error) = raised {
        log::debug!("raise the soft limit of open files: {error}");
    }
    let stdin = io::stdin();
    let open: io::Result<Vec<OwnedFd>> =
        (0..NEEDED_FILES).map(|_| stdin.as_fd().try_clone_to_owned()).collect();
    open.map(drop).with_context(|| {
        format!(
            "open {NEEDED_FILES} files: allow zsock more (`ulimit -n 1024`, or LimitNOFILE=1024 in its unit)"
        )
    })
}

/// Any bytes in the place of what `/proc` says of a process's parent and signals.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    let _ = filter::parent_in(bytes);
    let _ = signals::is_ignored(1, &String::from_utf8_lossy(bytes));
}

/// What zsock says of itself goes to stderr: warnings always, more with each `-v`.
fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => log::LevelFilter::Warn,
        1 => log::LevelFilter::Info,
        2 => log::LevelFilter::Debug,
        _ => log::LevelFilter::Trace,
    };
    // The libraries' own diagnosis drowns zsock's: it takes one `-v` more.
    let of_libraries = if verbose > 2 { level } else { log::LevelFilter::Error };
    env_logger::Builder::new()
        .target(Target::Pipe(Box::new(Aside::new(io::stderr()))))
        .filter_level(of_libraries)
        .filter_module("zsock", level)
        .format(|out, said| {
            let (time, level) = (out.timestamp(), said.level());
            // Errors repeat names that others chose. A line break would let one pass for a line of its own.
            let text = said.args().to_string();
            writeln!(out, "[{time} {level:<5}] {}", printable(&text))
        })
        .init();
}
