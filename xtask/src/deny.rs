//! The dependencies: their licences, sources and duplicates, and what is known against them.

use std::path::PathBuf;

use anyhow::Result;

use crate::command;
use crate::tools;
use crate::workspace::Workspace;

/// Where cargo-deny keeps the database of advisories, below cargo's home; the rest of the name is made of the database's address.
const DATABASES: &str = "advisory-dbs";

/// Checks what `deny.toml` asks for. Advisories and yanked versions are checked where their database is, else that is said.
///
/// # Errors
/// When a dependency is not as it should be; cargo-deny has said which.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    rules(workspace)?;
    match advisories_lacking() {
        None => advisories(workspace),
        Some(reason) => {
            println!("SKIPPED advisories: {reason}");
            Ok(())
        }
    }
}

/// Checks licences, sources and duplicates: for these everything needed is at hand.
pub(crate) fn rules(workspace: &Workspace) -> Result<()> {
    // The offline look at every dependency, those of other platforms too, needs each of them at hand.
    command::run(workspace.cargo().args(["fetch", "--locked"]))?;
    check(workspace, &["bans", "licenses", "sources"])
}

/// Checks advisories and yanked versions by the database that is there.
pub(crate) fn advisories(workspace: &Workspace) -> Result<()> {
    check(workspace, &["advisories"])
}

/// Why advisories cannot be checked, if they cannot. The database is a git repository on GitHub, which not every machine reaches, and
/// one that cannot be reached is no fault of the dependencies.
pub(crate) fn advisories_lacking() -> Option<String> {
    let home = tools::cargo_home().unwrap_or_else(|| PathBuf::from("."));
    let databases = home.join(DATABASES);
    let is_there = databases.read_dir().is_ok_and(|entries| entries.flatten().any(|it| it.path().is_dir()));
    (!is_there).then(|| {
        format!(
            "there is no database of advisories in {}; `cargo deny fetch` gets it from GitHub",
            databases.display()
        )
    })
}

fn check(workspace: &Workspace, what: &[&str]) -> Result<()> {
    let tools = tools::cargo_deny(workspace)?;
    let mut deny = tools::command(workspace, &tools, "cargo-deny");
    // What is fetched is fetched by cargo; a check gives the same wherever it runs.
    command::run(deny.args(["--offline", "--locked", "check", "--hide-inclusion-graph"]).args(what))
}
