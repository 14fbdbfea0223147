//! Debian's kernels: the newest release of a series, fetched once and kept in `target/vm/kernels`.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result, ensure};

use super::apt::{Apt, Package};
use crate::workspace::Workspace;

/// Where Debian keeps kernels: each stable release has its own series, backports have the newer ones.
const SUITES: [&str; 8] = [
    "bullseye",
    "bullseye-security",
    "bookworm",
    "bookworm-security",
    "bookworm-backports",
    "trixie",
    "trixie-security",
    "trixie-backports",
];
/// The flavour for virtual machines: the smallest.
const FLAVOUR: &str = "-cloud-amd64";

/// A series of kernels: `6.12`, or `7.x` for the newest that begins with 7.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Series {
    major: u32,
    minor: Option<u32>,
}

impl Series {
    /// What `cargo xtask vm` runs when no version is named: each series that zsock promises to work on.
    pub(crate) const ALL: [Self; 5] = [
        Self { major: 5, minor: Some(10) },
        Self { major: 6, minor: Some(1) },
        Self { major: 6, minor: Some(12) },
        Self { major: 6, minor: Some(18) },
        Self { major: 7, minor: None },
    ];

    /// Whether a version such as `6.12.118-1` is of this series.
    fn has(&self, version: &str) -> bool {
        let numbers = numbers(version);
        numbers.first() == Some(&self.major) && self.minor.is_none_or(|minor| numbers.get(1) == Some(&minor))
    }
}

impl std::fmt::Display for Series {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.minor {
            Some(minor) => write!(formatter, "{}.{minor}", self.major),
            None => write!(formatter, "{}.x", self.major),
        }
    }
}

impl FromStr for Series {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (major, minor) = text.split_once('.')?;
            let minor = if minor == "x" { None } else { Some(minor.parse().ok()?) };
            Some(Self { major: major.parse().ok()?, minor })
        };
        read().ok_or_else(|| format!("{text:?} is no series of kernels such as 6.12, or 7.x for the newest"))
    }
}

/// A kernel on this machine's disk.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// The series that it was asked for by.
    pub(crate) series: Series,
    /// Its version, as Debian counts: `6.12.118`.
    pub(crate) version: String,
    /// What `uname -r` says in it.
    pub(crate) release: String,
    /// The compressed kernel.
    pub(crate) vmlinuz: PathBuf,
    /// Its modules: the directory that is named after the release.
    pub(crate) modules: PathBuf,
}

/// Fetches kernels; what was fetched once is found again without the network.
pub(crate) struct Kernels<'a> {
    workspace: &'a Workspace,
    directory: PathBuf,
    apt: OnceCell<Apt>,
}

impl<'a> Kernels<'a> {
    pub(crate) fn new(workspace: &'a Workspace) -> Self {
        Self { workspace, directory: workspace.root.join("target/vm/kernels"), apt: OnceCell::new() }
    }

    /// The newest kernel of a series, or the one that was fetched before.
    ///
    /// # Errors
    /// When Debian has none (any more), or it cannot be fetched.
    pub(crate) fn get(&self, series: &Series) -> Result<Kernel> {
        let home = self.directory.join(series.to_string());
        if !home.exists() {
            self.fetch(series, &home).with_context(|| format!("cannot fetch a kernel {series}"))?;
        }
        let version = home.join("version");
        let version =
            fs::read_to_string(&version).with_context(|| format!("cannot read {}", version.display()))?;
        let modules = only_entry(&["usr/lib/modules", "lib/modules"].map(|place| home.join(place)))?;
        let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let vmlinuz = [home.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")];
        let vmlinuz = vmlinuz.into_iter().find(|file| file.is_file());
        let vmlinuz = vmlinuz.with_context(|| format!("{} has no vmlinuz", home.display()))?;
        let kernel = Kernel { series: series.clone(), version, release, vmlinuz, modules };
        println!("xtask: kernel {series}: {} ({})", kernel.version, kernel.release);
        Ok(kernel)
    }

    fn fetch(&self, series: &Series, home: &Path) -> Result<()> {
        println!(
            "xtask: there is no kernel {series} in {}; fetching it from Debian",
            self.directory.display()
        );
        let apt = self.apt()?;
        let image = newest(series, apt.packages("linux-", |name| name.ends_with(FLAVOUR))?)
            .with_context(|| format!("Debian's indexes have no complete kernel {series}"))?;
        println!("xtask: the newest is {} {}", image.name, image.version);

        // The last step is a rename, so that an interrupted download is never taken for a kernel.
        let partial = self.directory.join(format!("{series}-partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
        }
        fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
        let parts = parts(&image);
        apt.unpack(&parts.iter().map(String::as_str).collect::<Vec<_>>(), &partial)?;
        let version = image.version.split('-').next().unwrap_or_default();
        fs::write(partial.join("version"), version)
            .with_context(|| format!("cannot write to {}", partial.display()))?;
        fs::rename(&partial, home)
            .with_context(|| format!("cannot rename {} to {}", partial.display(), home.display()))
    }

    fn apt(&self) -> Result<&Apt> {
        if let Some(apt) = self.apt.get() {
            return Ok(apt);
        }
        let apt = Apt::new(self.workspace, self.workspace.root.join("target/vm/apt-kernels"), &SUITES)?;
        Ok(self.apt.get_or_init(|| apt))
    }
}

/// The newest image of a series of which all parts are there: a mirror keeps some images longer than their modules.
fn newest(series: &Series, packages: Vec<Package>) -> Option<Package> {
    let names: BTreeSet<String> = packages.iter().map(|package| package.name.clone()).collect();
    let mut images = packages;
    images.retain(|image| is_image(&image.name) && series.has(&image.version));
    images.sort_by_key(|image| numbers(&image.version));
    images.into_iter().rev().find(|image| parts(image).iter().all(|part| names.contains(part)))
}

/// Whether it holds a kernel of one release, and does not just refer to the newest one.
fn is_image(name: &str) -> bool {
    let release = name.strip_prefix("linux-image-").and_then(|name| name.strip_suffix(FLAVOUR));
    release.is_some_and(|release| numbers(release).len() > 2)
}

/// The packages that make up a kernel: the image and, since 6.19, two others of the same release.
fn parts(image: &Package) -> Vec<String> {
    let release = image.name.strip_prefix("linux-image-").unwrap_or(&image.name);
    let others = ["linux-binary", "linux-modules"].map(|part| format!("{part}-{release}"));
    let mut parts = vec![image.name.clone()];
    parts.extend(others.into_iter().filter(|other| image.depends.contains(other)));
    parts
}

/// The numbers in a version, in order: enough to tell which of two kernels is the newer one.
fn numbers(version: &str) -> Vec<u32> {
    version.split(|letter: char| !letter.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The one directory in either of two.
fn only_entry(places: &[PathBuf; 2]) -> Result<PathBuf> {
    let entries = places.iter().filter_map(|place| fs::read_dir(place).ok()).flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    ensure!(found.len() == 1, "{} has {} kernels and not one", places[0].display(), found.len());
    Ok(found.remove(0))
}

#[cfg(test)]
mod tests {
    use super::{Package, Series, newest, parts};

    fn package(name: &str, version: &str, depends: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            depends: depends.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn the_newest_is_found_by_number_and_not_by_letter() {
        let both = ["linux-modules-7.2.12+deb13-cloud-amd64", "linux-modules-7.10.1+deb13-cloud-amd64"];
        let index = |modules: &[&str]| {
            let mut all = vec![
                package("linux-image-6.1.0-9-cloud-amd64", "6.1.27-1", &["kmod", "linux-base"]),
                package("linux-image-6.1.0-56-cloud-amd64", "6.1.192-2", &["kmod", "linux-base"]),
                package("linux-image-6.1.0-0.deb11.52-cloud-amd64", "6.1.180-1~deb11u1", &[]),
                package("linux-image-cloud-amd64", "6.1.192-3", &["linux-image-6.1.0-56-cloud-amd64"]),
                package("linux-image-6.1-cloud-amd64", "6.1.193-1", &[]),
                package("linux-image-7.2.12+deb13-cloud-amd64", "7.2.12-1~bpo13+1", &both[..1]),
                package("linux-image-7.10.1+deb13-cloud-amd64", "7.10.1-1~bpo13+1", &both[1..]),
            ];
            all.extend(modules.iter().map(|name| package(name, "7", &[])));
            all
        };
        let found = |series: &str, modules: &[&str]| {
            let series: Series = series.parse().expect("a series");
            newest(&series, index(modules)).map(|image| image.name)
        };
        assert_eq!(found("6.1", &[]).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(found("7.x", &both).as_deref(), Some("linux-image-7.10.1+deb13-cloud-amd64"));
        assert_eq!(found("7.x", &both[..1]).as_deref(), Some("linux-image-7.2.12+deb13-cloud-amd64"));
        assert_eq!(found("7.x", &[]), None);
        assert_eq!(found("6.18", &both), None);
    }

    #[test]
    fn a_kernel_in_several_packages_is_fetched_whole() {
        let depends = [
            "kmod",
            "linux-base-7.3.4+deb13-cloud-amd64",
            "linux-binary-7.3.4+deb13-cloud-amd64",
            "linux-modules-7.3.4+deb13-cloud-amd64",
        ];
        let image = package("linux-image-7.3.4+deb13-cloud-amd64", "7.3.4-1", &depends);
        assert_eq!(parts(&image), [&*image.name, depends[2], depends[3]]);
    }

    #[test]
    fn a_series_is_written_as_it_is_read() {
        for series in Series::ALL {
            assert_eq!(series.to_string().parse(), Ok(series));
        }
        for wrong in ["", "6", "6.", "6.1.2", "x.1", "seven"] {
            assert!(wrong.parse::<Series>().is_err(), "{wrong}");
        }
    }
}
