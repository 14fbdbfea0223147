//! The stress scenarios, for longer than a test may take, and what they measured.

use std::io::{BufRead as _, BufReader};
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result};

use crate::command;
use crate::workspace::Workspace;

/// What a scenario begins the line with that has its figures.
const FIGURES: &str = "STRESS ";

/// Runs each scenario for so many minutes with zsock as it is released, and prints what they measured as a table.
///
/// # Errors
/// When the tests cannot be started. A scenario that failed is no error, but the exit code's business.
pub(crate) fn run(workspace: &Workspace, minutes: u32) -> Result<ExitCode> {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--locked", "--release", "--package=zsock-agent", "--test=kernel", "--"]);
    cargo.args(["stress::", "--test-threads=1", "--nocapture"]);
    cargo.env("ZSOCK_STRESS_SECONDS", (minutes * 60).to_string());
    let described = command::described(&cargo);
    println!("xtask: {described}");
    let mut child =
        cargo.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {described}"))?;
    let stdout = child.stdout.take().with_context(|| format!("{described} has no stdout"))?;
    let mut rows = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.with_context(|| format!("cannot read what {described} writes"))?;
        println!("{line}");
        // The name of the test comes before it, on the same line.
        rows.extend(line.split_once(FIGURES).map(|(_, figures)| format!("| {} |", bare(figures))));
    }
    let status = child.wait().with_context(|| format!("cannot wait for {described}"))?;
    println!(
        "\n| what | reached | records from the kernel side | peak of the control group, and `--max-memory` | verdict after | processor |\n|---|---|---|---|---|---|"
    );
    println!("{}", rows.join("\n"));
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The figures without the words that the head of the table has.
fn bare(figures: &str) -> String {
    figures.replace("verdict after ", "").replace("CPU ", "")
}
