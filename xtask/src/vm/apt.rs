//! Debian's packages of other releases, by an apt whose lists and packages are kept apart from this machine's own.
//!
//! apt checks the signatures of the indexes against Debian's keyring and each package against its index.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::command;
use crate::tools;
use crate::workspace::Workspace;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An apt that knows these suites and no others.
pub(crate) struct Apt {
    directory: PathBuf,
}

/// What an index says of a package.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Names that it depends on, of alternatives the first.
    pub(crate) depends: Vec<String>,
}

impl Apt {
    /// Sets it up in `directory` and fetches the indexes of `suites`.
    pub(crate) fn new(workspace: &Workspace, directory: PathBuf, suites: &[&str]) -> Result<Self> {
        ensure!(
            Path::new(KEYRING).is_file(),
            "{KEYRING} is missing; it is in Debian's debian-archive-keyring"
        );
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
        }
        let sources: String = suites
            .iter()
            .map(|suite| {
                let archive = if suite.ends_with("-security") { "debian-security" } else { "debian" };
                let mirror = tools::debian_mirror(workspace, archive);
                format!("deb [arch=amd64 signed-by={KEYRING}] {mirror} {suite} main\n")
            })
            .collect();
        let list = directory.join("sources.list");
        fs::write(&list, sources).with_context(|| format!("cannot write {}", list.display()))?;
        let apt = Self { directory };
        apt.get(&["--quiet", "update"])?;
        Ok(apt)
    }

    /// The packages whose names begin with `prefix` and are `wanted`.
    pub(crate) fn packages(&self, prefix: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<Package>> {
        let names = command::output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        let names: Vec<&str> = names.lines().filter(|name| wanted(name)).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        Ok(parse(&command::output(self.command("apt-cache").arg("show").args(names))?))
    }

    /// Downloads packages and unpacks them into `into`.
    pub(crate) fn unpack(&self, packages: &[&str], into: &Path) -> Result<()> {
        self.get(&["clean"])?;
        self.get(&[&["download"], packages].concat())?;
        self.unpack_archives(into)
    }

    /// Downloads packages and whatever they need that is not installed on this machine, and unpacks all of it.
    pub(crate) fn unpack_with_dependencies(&self, suite: &str, packages: &[&str], into: &Path) -> Result<()> {
        self.get(&["clean"])?;
        let mut arguments = vec!["install", "--download-only", "--yes", "--quiet", "--no-install-recommends"];
        arguments.extend(["--reinstall", "--target-release", suite]);
        arguments.extend(packages);
        self.get(&arguments)?;
        self.unpack_archives(into)
    }

    fn unpack_archives(&self, into: &Path) -> Result<()> {
        let archives = self.archives();
        println!("xtask: unpacking them to {}", into.display());
        let entries =
            fs::read_dir(&archives).with_context(|| format!("cannot list {}", archives.display()))?;
        for entry in entries.flatten() {
            let archive = entry.path();
            if archive.extension().is_some_and(|extension| extension == "deb") {
                command::output(Command::new("dpkg-deb").arg("-x").args([&archive, into]))?;
                fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))?;
            }
        }
        Ok(())
    }

    fn archives(&self) -> PathBuf {
        self.directory.join("cache/archives")
    }

    /// Runs apt-get and prints what it does, without the options that are always the same.
    fn get(&self, arguments: &[&str]) -> Result<()> {
        println!(
            "xtask: apt-get {} (an apt of its own in {})",
            arguments.join(" "),
            self.directory.display()
        );
        let mut command = self.command("apt-get");
        let status = command.current_dir(self.archives()).args(arguments).status();
        let status = status.context("cannot start apt-get")?;
        ensure!(status.success(), "{} ended with {status}", command::described(&command));
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let directory = self.directory.display();
        let options = [
            format!("Dir::Etc::SourceList={directory}/sources.list"),
            "Dir::Etc::SourceParts=-".to_owned(),
            format!("Dir::State::Lists={directory}/lists"),
            format!("Dir::Cache={directory}/cache"),
            "Dir::Cache::pkgcache=packages".to_owned(),
            "Dir::Cache::srcpkgcache=sources".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            // The user that apt downloads as by default may not enter the checkout.
            "APT::Sandbox::User=root".to_owned(),
        ];
        command.args(options.iter().flat_map(|option| ["-o", option]));
        command
    }
}

/// Reads the paragraphs of an index.
fn parse(index: &str) -> Vec<Package> {
    let paragraphs = index.split("\n\n").map(|paragraph| {
        let field = |name: &str| {
            let value = paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.unwrap_or_default().trim().to_owned()
        };
        let depends = field("Depends");
        let depends = depends.split(',').filter_map(|one| one.split_whitespace().next());
        Package {
            name: field("Package"),
            version: field("Version"),
            depends: depends.map(str::to_owned).collect(),
        }
    });
    paragraphs.filter(|package| !package.name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Package, parse};

    #[test]
    fn an_index_is_read_paragraph_by_paragraph() {
        let index = "Package: linux-image-7.3.4+deb13-cloud-amd64
Source: linux-signed-amd64 (7.3.4+1~bpo13+1)
Version: 7.3.4-1~bpo13+1
Depends: dracut | initramfs-tools (>= 0.120+deb8u2), linux-modules-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1)
Description: Linux 7.3 for x86-64 cloud
 The Linux kernel 7.3 for use on cloud platforms.

Package: busybox-static
Version: 1:1.35.0-4+deb12u1+b1

";
        let package = |name: &str, version: &str, depends: &[&str]| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            depends: depends.iter().map(|&name| name.to_owned()).collect(),
        };
        let expected = [
            package(
                "linux-image-7.3.4+deb13-cloud-amd64",
                "7.3.4-1~bpo13+1",
                &["dracut", "linux-modules-7.3.4+deb13-cloud-amd64"],
            ),
            package("busybox-static", "1:1.35.0-4+deb12u1+b1", &[]),
        ];
        assert_eq!(parse(index), expected);
    }
}
