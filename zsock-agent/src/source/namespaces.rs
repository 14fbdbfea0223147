//! The host's network namespaces: those of its processes and those that are mounted (`ip netns`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};

use super::mountinfo::{self, Mount};

const OWN: &str = "/proc/self/ns/net";

/// Every network namespace that can be found, opened, by inode number. The caller's own is always among them.
///
/// A namespace that only a descriptor or a socket keeps alive cannot be found.
#[must_use]
pub fn all() -> BTreeMap<u64, File> {
    let mut found = BTreeMap::new();
    let own = [PathBuf::from(OWN)];
    for path in own.into_iter().chain(of_processes()).chain(mounted()) {
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if found.contains_key(&metadata.ino()) {
            continue;
        }
        if let Ok(file) = File::open(&path) {
            found.insert(metadata.ino(), file);
        }
    }
    found
}

/// Runs `work` once in each of `namespaces`, on a thread of its own, so that nobody else's namespace changes. What a namespace
/// that cannot be entered gives is its error.
pub fn in_each<T: Send>(
    namespaces: &BTreeMap<u64, File>,
    mut work: impl FnMut(u64) -> T + Send,
) -> Vec<(u64, Result<T, nix::Error>)> {
    let own = fs::metadata(OWN).ok().map(|metadata| metadata.ino());
    std::thread::scope(|scope| {
        let walk = scope.spawn(|| {
            // The own one first: to enter it takes a capability, to be in it does not.
            let is_own = |inode: &u64| Some(*inode) == own;
            let mut done = Vec::new();
            for (inode, _) in namespaces.iter().filter(|(inode, _)| is_own(inode)) {
                done.push((*inode, Ok(work(*inode))));
            }
            for (inode, namespace) in namespaces.iter().filter(|(inode, _)| !is_own(inode)) {
                done.push((*inode, setns(namespace, CloneFlags::CLONE_NEWNET).map(|()| work(*inode))));
            }
            done
        });
        walk.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn of_processes() -> impl Iterator<Item = PathBuf> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let is_process = entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit);
        is_process.then(|| entry.path().join("ns/net"))
    })
}

fn mounted() -> impl Iterator<Item = PathBuf> {
    of_namespaces(mountinfo::mounts())
}

/// Where network namespaces are mounted.
fn of_namespaces(mounts: impl IntoIterator<Item = Mount>) -> impl Iterator<Item = PathBuf> {
    mounts.into_iter().filter(|mount| mount.root.starts_with(b"net:[")).map(|mount| mount.point)
}

/// Any bytes in the place of the table of mounts.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    let _ = of_namespaces(mountinfo::parse(bytes)).count();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounted_namespaces_are_found_by_their_root() {
        let table = b"25 1 0:5 / /proc rw - proc proc rw\n\
                      190 25 0:4 net:[4026532201] /run/netns/blue\\040sky rw shared:1 - nsfs nsfs rw\n\
                      191 25 0:4 mnt:[4026532202] /run/other rw - nsfs nsfs rw\nbroken\xff";
        let found: Vec<PathBuf> = of_namespaces(mountinfo::parse(table)).collect();
        assert_eq!(found, [PathBuf::from("/run/netns/blue sky")]);
    }

    #[test]
    fn the_own_namespace_is_always_found() {
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
        assert!(all().contains_key(&own));
    }
}
