//! The checkout that `cargo xtask` was called in.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::command;

/// The workspace of this checkout.
pub(crate) struct Workspace {
    /// Where the workspace's `Cargo.toml` is.
    pub(crate) root: PathBuf,
}

/// One crate of the workspace.
pub(crate) struct Member {
    /// Its `Cargo.toml`.
    pub(crate) manifest: PathBuf,
    /// Names of its integration test targets.
    pub(crate) tests: Vec<String>,
}

impl Workspace {
    /// Finds the workspace from what `cargo run` tells the program that it starts. The path is not one from the time
    /// of the build: a checkout may move.
    pub(crate) fn open() -> Result<Self> {
        let package = env::var_os("CARGO_MANIFEST_DIR")
            .context("CARGO_MANIFEST_DIR is not set: run this program as `cargo xtask`")?;
        let package = Path::new(&package);
        let root = package
            .parent()
            .with_context(|| format!("{} has no parent directory", package.display()))?
            .canonicalize()
            .with_context(|| format!("cannot find the workspace above {}", package.display()))?;
        Ok(Self { root })
    }

    /// A `program` to be run at the root of the workspace.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// The cargo that runs this program, at the root of the workspace.
    pub(crate) fn cargo(&self) -> Command {
        self.command(&env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
    }

    /// What `cargo metadata` says, with these arguments.
    pub(crate) fn metadata(&self, arguments: &[&str]) -> Result<Value> {
        let text = command::output(
            self.cargo().args(["metadata", "--format-version=1", "--locked"]).args(arguments),
        )?;
        serde_json::from_str(&text).context("cargo metadata wrote no JSON")
    }

    /// Every crate of the workspace.
    pub(crate) fn members(&self) -> Result<Vec<Member>> {
        let metadata = self.metadata(&["--no-deps"])?;
        let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
        packages.iter().map(member).collect()
    }
}

fn member(package: &Value) -> Result<Member> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let targets = package["targets"].as_array().context("cargo metadata lists no targets of a package")?;
    Ok(Member {
        manifest: text(&package["manifest_path"]).context("cargo metadata names no manifest")?.into(),
        tests: targets
            .iter()
            .filter(|target| target["kind"][0] == "test")
            .filter_map(|target| text(&target["name"]))
            .collect(),
    })
}
