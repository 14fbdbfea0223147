//! Fuzzing: gives each of zsock's properties what libFuzzer makes up.

use std::fs;

use anyhow::{Context as _, Result};

use crate::command;
use crate::tools;
use crate::workspace::Workspace;

/// The crate of the fuzz targets. It is no member of the workspace: nothing else builds it.
const FUZZ_CRATE: &str = "zsock-agent/fuzz";

/// Longer inputs find nothing that shorter ones do not, and take longer.
const MAX_INPUT_BYTES: u32 = 8192;

/// One input that takes longer is a finding.
const SLOW_S: u32 = 20;

/// Fuzzes `target`, or every target there is, for so many seconds each. What is learned stays in `target/fuzz/corpus`, and goes on from
/// there the next time.
///
/// # Errors
/// When a property does not hold: the input is left in `target/fuzz/artifacts`, and the command that tries it again is printed.
pub(crate) fn run(workspace: &Workspace, target: Option<&str>, seconds: u32) -> Result<()> {
    let tools = tools::cargo_fuzz(workspace)?;
    let built = workspace.root.join("target/fuzz");
    let targets = match target {
        Some(target) => vec![target.to_owned()],
        None => targets(workspace)?,
    };
    for target in &targets {
        let [corpus, artifacts] = ["corpus", "artifacts"].map(|kind| built.join(kind).join(target));
        for directory in [&corpus, &artifacts] {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        println!("\n== fuzzing {target} for {seconds} s");
        let mut fuzz = tools::command(workspace, &tools, "cargo-fuzz");
        // Without a sanitizer, which needs nightly Rust: the targets run no unsafe code that one would watch.
        fuzz.args(["fuzz", "run", "--sanitizer=none", "--fuzz-dir", FUZZ_CRATE, "--target-dir"])
            .args([&built])
            .arg(target)
            .arg(&corpus)
            .arg("--")
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={MAX_INPUT_BYTES}"))
            // Most inputs are short while there is something to learn from them; these have long ones from the start.
            .arg("-len_control=0")
            .arg(format!("-timeout={SLOW_S}"))
            .arg(format!("-artifact_prefix={}/", artifacts.display()));
        command::run(&mut fuzz)?;
    }
    Ok(())
}

/// The names of all fuzz targets, in order.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let directory = workspace.root.join(FUZZ_CRATE).join("targets");
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}
