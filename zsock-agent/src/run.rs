//! Runs what the command line asks for.

use std::io::Write as _;

use anyhow::{Context, Result};

use crate::cli::{Cli, Command};
use crate::record::printable;

mod beside;
mod facts;
mod filter;
mod output;
mod pass;
mod signals;
mod trace;

/// Runs the command.
///
/// # Errors
/// Whatever kept it from being done, with what to do next.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Trace(arguments) => {
            log_to_stderr(arguments.verbose);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("start the runtime")?;
            runtime.block_on(trace::run(arguments))
        }
    }
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
    let of_libraries = if verbose > 2 { level } else { log::LevelFilter::Warn };
    env_logger::Builder::new()
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
