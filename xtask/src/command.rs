//! Running other programs, with errors that say which program, where, and how it ended.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Prints the command, runs it and waits for it. Its output goes to the terminal.
///
/// # Errors
/// When it cannot be started or does not end with status 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("xtask: {}", shown(command));
    let status = command.status().with_context(|| format!("cannot start {}", described(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", described(command));
    }
    Ok(())
}

/// Runs the command and returns what it wrote to stdout, without white space around. Its stderr goes to the terminal.
///
/// # Errors
/// When it cannot be started, does not end with status 0 or writes anything but UTF-8.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", described(command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", described(command), output.status);
    }
    let text =
        String::from_utf8(output.stdout).with_context(|| format!("{} wrote no UTF-8", described(command)))?;
    Ok(text.trim().to_owned())
}

/// The command and the directory it runs in, for errors.
pub(crate) fn described(command: &Command) -> String {
    let here = env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    format!("`{}` in {}", shown(command), command.get_current_dir().unwrap_or(&here).display())
}

/// The file that a shell would run for `name`, root's directories included: `ip` and `nft` live there.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

fn shown(command: &Command) -> String {
    // The full path of cargo or rustc is noise beside its arguments.
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(program.as_os_str()).to_string_lossy()];
    words.extend(command.get_args().map(std::ffi::OsStr::to_string_lossy));
    words.join(" ")
}
