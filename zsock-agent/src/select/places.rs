//! Where a socket lives: its network namespace and its owner's control group.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use nix::libc;
use nix::sys::statfs::{NSFS_MAGIC, statfs};

/// A network namespace as the user named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetnsArg {
    /// Its inode number, as in `net:[4026531840]`.
    Inode(u32),
    /// A file of the namespace.
    Path(PathBuf),
}

impl NetnsArg {
    /// Reads an inode number, or takes any other text for a path, which need not be UTF-8.
    ///
    /// # Errors
    /// Nothing at all and a number that no inode has, with the rule.
    pub fn parse(text: OsString) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a network namespace is a path or an inode number".to_owned());
        }
        let digits = text.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        match digits.map(str::parse) {
            None => Ok(Self::Path(PathBuf::from(text))),
            Some(Ok(inode)) if inode > 0 => Ok(Self::Inode(inode)),
            Some(_) => Err(format!("an inode number is a number from 1 to {}", u32::MAX)),
        }
    }

    /// The namespace's inode number.
    ///
    /// # Errors
    /// A path that cannot be looked up, or that is no namespace.
    pub fn inode(&self) -> anyhow::Result<u32> {
        let path = match self {
            Self::Inode(inode) => return Ok(*inode),
            Self::Path(path) => path,
        };
        let shown = path.display();
        let looked_up = fs::metadata(path).and_then(|file| Ok((file.ino(), is_network_namespace(path)?)));
        let (inode, is_one) = looked_up.with_context(|| {
            format!(
                "cannot look up network namespace {shown}; `ip netns` and `lsns -t net` list those that exist"
            )
        })?;
        ensure!(
            is_one,
            "{shown} is no network namespace; give a file such as /run/netns/NAME or /proc/PID/ns/net, or an inode number"
        );
        u32::try_from(inode).with_context(|| format!("inode number {inode} of {shown} has more than 32 bits"))
    }
}

/// Whether a file is a namespace, and of that kind.
fn is_network_namespace(path: &Path) -> io::Result<bool> {
    /// Asks for a namespace's kind.
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // To open any other file may be to wait.
    if statfs(path)?.filesystem_type() != NSFS_MAGIC {
        return Ok(false);
    }
    let file = File::open(path)?;
    // SAFETY: the call has no argument, and the descriptor is open.
    Ok(unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) } == libc::CLONE_NEWNET)
}

/// A control group and all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPath(String);

impl CgroupPath {
    /// Whether `cgroup` is this control group or one below.
    #[must_use]
    pub fn contains(&self, cgroup: &str) -> bool {
        cgroup.strip_prefix(self.0.as_str()).is_some_and(|below| below.is_empty() || below.starts_with('/'))
    }
}

impl FromStr for CgroupPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err("a control group is a path that begins with `/`, as in /proc/PID/cgroup".to_owned());
        }
        // The path in the file system, which shells complete, names the same group.
        let path = text.trim_end_matches('/');
        let path = path
            .strip_prefix("/sys/fs/cgroup")
            .filter(|rest| rest.is_empty() || rest.starts_with('/'))
            .unwrap_or(path);
        Ok(Self(path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn netns(text: &str) -> Result<NetnsArg, String> {
        NetnsArg::parse(text.into())
    }

    #[test]
    fn a_network_namespace_is_known_by_the_inode_of_its_file() {
        let by_path = netns("/proc/self/ns/net").unwrap();
        let link = fs::read_link("/proc/self/ns/net").unwrap();
        assert_eq!(format!("net:[{}]", by_path.inode().unwrap()), link.to_str().unwrap());
        assert_eq!(netns("4026531840").unwrap().inode().unwrap(), 4_026_531_840);
    }

    #[test]
    fn what_is_no_network_namespace_is_refused_with_the_way_out() {
        let refused = |text: &str| format!("{:#}", netns(text).unwrap().inode().unwrap_err());
        assert_eq!(
            refused("/run/netns/no-such-name"),
            "cannot look up network namespace /run/netns/no-such-name; `ip netns` and `lsns -t net` list those that exist: \
             No such file or directory (os error 2)"
        );
        for path in ["/", "/proc/self/ns/mnt"] {
            let rule = "give a file such as /run/netns/NAME or /proc/PID/ns/net, or an inode number";
            assert_eq!(refused(path), format!("{path} is no network namespace; {rule}"));
        }
        for text in ["0", "4294967296"] {
            assert_eq!(netns(text), Err("an inode number is a number from 1 to 4294967295".to_owned()));
        }
    }

    #[test]
    fn a_control_group_contains_itself_and_all_below() {
        let contained = |path: &str| {
            let path: CgroupPath = path.parse().unwrap();
            ["/", "/system.slice", "/system.slice/a.service", "/system.slicer"]
                .map(|cgroup| path.contains(cgroup))
        };
        assert_eq!(contained("/"), [true, true, true, true]);
        assert_eq!(contained("/system.slice/"), [false, true, true, false]);
        assert_eq!(contained("/sys/fs/cgroup/system.slice"), [false, true, true, false]);
        assert_eq!(contained("/sys/fs/cgroup"), [true, true, true, true]);
        assert!("system.slice".parse::<CgroupPath>().is_err());
    }
}
