//! Runs what the command line asks for.

use anyhow::bail;

use crate::cli::{Cli, Command};

/// Runs the command.
///
/// # Errors
/// Whatever kept it from being done, with what to do next.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Trace(arguments) => {
            arguments.selectors.resolve()?;
            bail!("this build of zsock cannot trace yet")
        }
    }
}
