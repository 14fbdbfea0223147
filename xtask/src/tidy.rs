//! The rules of the house that neither rustfmt nor clippy knows. Every finding names its file and line.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;

/// A file that is longer holds more than one idea.
const MAX_LINES: usize = 450;
/// Promises that belong into the tracker; written apart, so that this file keeps its own rule.
const PROMISES: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!")];
/// Where the agent may name aya: this module and those below it.
const AYA_MODULE: &str = "zsock-agent/src/source/kernel";

/// Checks the whole workspace.
///
/// # Errors
/// When a rule is broken; every place is printed before.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut findings = Vec::new();
    for member in workspace.members()? {
        let manifest = read(&member.manifest)?;
        let path = relative(workspace, &member.manifest);
        findings.extend(lints_of_manifest(&path, &manifest));
    }
    let sources = rust_files(&workspace.root)?;
    for source in &sources {
        findings.extend(findings_in(&relative(workspace, source), &read(source)?));
    }
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} places break the rules of the house; they are listed above", findings.len());
    }
    println!("xtask: {} Rust files keep the rules of the house", sources.len());
    Ok(())
}

/// Every member takes the workspace's lints.
fn lints_of_manifest(path: &str, manifest: &str) -> Option<String> {
    let mut lines = manifest.lines().map(str::trim);
    let section = lines.by_ref().any(|line| line == "[lints]");
    let inherits =
        section && lines.take_while(|line| !line.starts_with('[')).any(|line| line == "workspace = true");
    (!inherits).then(|| format!("{path}:1: add `[lints]` with `workspace = true`"))
}

fn findings_in(path: &str, source: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = source.lines().count();
    if lines > MAX_LINES {
        findings.push(format!("{path}:{MAX_LINES}: the file goes on to line {lines}; split it"));
    }
    let may_name_aya = !path.starts_with("zsock-agent/src/")
        || path.strip_prefix(AYA_MODULE).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'));
    for (number, line) in (1..).zip(source.lines()) {
        if let Some(promise) = PROMISES.iter().find(|promise| line.contains(*promise)) {
            findings.push(format!("{path}:{number}: `{promise}`: do it, or say it in the tracker"));
        }
        if !may_name_aya && names_aya(line) {
            findings.push(format!("{path}:{number}: names aya; only {AYA_MODULE}.rs and files below it may"));
        }
    }
    findings
}

/// Whether the code of a line, its comment aside, uses the crate aya or one of its family.
fn names_aya(line: &str) -> bool {
    let code = line.split_once("//").map_or(line, |(code, _comment)| code);
    code.split(|character: char| !character.is_alphanumeric() && character != '_')
        .any(|word| word == "aya" || word.starts_with("aya_"))
}

/// Every Rust file of the checkout, in order; neither hidden directories nor what cargo built.
fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || format!("cannot list {}", directory.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type().with_context(unreadable)?.is_dir() {
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                files.extend(rust_files(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn relative(workspace: &Workspace, path: &Path) -> String {
    path.strip_prefix(&workspace.root).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::{MAX_LINES, PROMISES, findings_in, lints_of_manifest};

    #[test]
    fn a_member_takes_the_lints_of_the_workspace_in_the_section_for_them() {
        let inherits = "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n";
        let elsewhere = "[lints]\n[dependencies]\nworkspace = true\n";
        let without = "[package]\nname = \"a\"\n";
        let found =
            [inherits, elsewhere, without].map(|manifest| lints_of_manifest("a/Cargo.toml", manifest));
        let finding = Some("a/Cargo.toml:1: add `[lints]` with `workspace = true`".to_owned());
        assert_eq!(found, [None, finding.clone(), finding]);
    }

    #[test]
    fn the_agent_names_aya_in_one_module_and_in_comments() {
        let source =
            "use bytes::Buf;\n/// Only `source::kernel` names `aya`.\nuse aya::Ebpf;\nlet playa = 1;\n";
        let finding = "zsock-agent/src/run.rs:3: names aya; only zsock-agent/src/source/kernel.rs and files below it may";
        assert_eq!(findings_in("zsock-agent/src/run.rs", source), [finding]);
        assert_eq!(findings_in("zsock-agent/src/source/kernels.rs", source).len(), 1);
        for place in
            ["zsock-agent/src/source/kernel.rs", "zsock-agent/src/source/kernel/ring.rs", "xtask/src/main.rs"]
        {
            assert_eq!(findings_in(place, source), [""; 0]);
        }
    }

    #[test]
    fn the_whole_family_of_aya_counts() {
        assert_eq!(
            findings_in("zsock-agent/src/main.rs", "let logger = aya_log::EbpfLogger::init();").len(),
            1
        );
    }

    #[test]
    fn a_file_has_a_length_that_a_reader_bears() {
        let longest = "\n".repeat(MAX_LINES);
        assert_eq!(findings_in("a.rs", &longest), [""; 0]);
        assert_eq!(
            findings_in("a.rs", &(longest + "\n")),
            ["a.rs:450: the file goes on to line 451; split it"]
        );
    }

    #[test]
    fn a_promise_in_the_code_is_found_with_its_line() {
        let source = format!("fn a() {{}}\n// {}: later\n", PROMISES[0]);
        assert_eq!(
            findings_in("a.rs", &source),
            [format!("a.rs:2: `{}`: do it, or say it in the tracker", PROMISES[0])]
        );
    }
}
