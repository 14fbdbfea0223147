//! The host's network namespaces: those of its processes and those that are mounted (`ip netns`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::{io, thread};

use anyhow::{Context as _, Result, anyhow};
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

/// Runs `work` once in each of `namespaces`: here in the own one, in the others on a thread, so that nobody else's namespace changes. What
/// a namespace that cannot be entered gives is its error.
pub fn in_each<T: Send>(
    namespaces: &BTreeMap<u64, File>,
    mut work: impl FnMut(u64) -> T + Send,
) -> Vec<(u64, Result<T>)> {
    let own = fs::metadata(OWN).ok().map(|metadata| metadata.ino());
    let (own, others): (Vec<_>, Vec<_>) = namespaces.iter().partition(|(inode, _)| Some(**inode) == own);
    // To enter the own one takes a capability, to be in it does not.
    let mut done: Vec<_> = own.into_iter().map(|(inode, _)| (*inode, Ok(work(*inode)))).collect();
    if others.is_empty() {
        return done;
    }
    let enter = |namespace| setns(namespace, CloneFlags::CLONE_NEWNET).context("enter the network namespace");
    let entered = thread::scope(|scope| {
        let walk = thread::Builder::new().spawn_scoped(scope, || {
            let walked =
                others.iter().map(|(inode, namespace)| (**inode, enter(namespace).map(|()| work(**inode))));
            walked.collect::<Vec<_>>()
        })?;
        Ok::<_, io::Error>(walk.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    match entered {
        Ok(entered) => done.extend(entered),
        // As where the limit of processes is reached, when it matters most to go on.
        Err(error) => {
            let failed = |inode: u64| (inode, Err(anyhow!("start a thread that enters it: {error}")));
            done.extend(others.iter().map(|(inode, _)| failed(**inode)));
        }
    }
    done
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
    use std::env::consts::ARCH;

    use nix::libc;
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    use super::*;

    #[test]
    fn without_a_thread_more_the_own_namespace_is_walked_all_the_same() {
        let own = fs::metadata(OWN).unwrap().ino();
        let namespaces = [own, 1, 2].map(|inode| (inode, File::open(OWN).unwrap())).into();
        let starts_none = || {
            let calls = [libc::SYS_clone, libc::SYS_clone3].map(|call| (call, Vec::new())).into();
            let refused = SeccompAction::Errno(libc::EAGAIN.cast_unsigned());
            let filter = SeccompFilter::new(calls, SeccompAction::Allow, refused, ARCH.try_into().unwrap());
            seccompiler::apply_filter(&BpfProgram::try_from(filter.unwrap()).unwrap()).unwrap();
            in_each(&namespaces, |inode| inode)
        };
        let walked = thread::scope(|scope| scope.spawn(starts_none).join()).unwrap();
        let told: Vec<_> = walked
            .into_iter()
            .map(|(inode, result)| (inode, result.map_err(|error| error.to_string())))
            .collect();
        let refused = || {
            Err("start a thread that enters it: Resource temporarily unavailable (os error 11)".to_owned())
        };
        assert_eq!(told, [(own, Ok(own)), (1, refused()), (2, refused())]);
    }

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
