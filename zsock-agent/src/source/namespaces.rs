//! The host's network namespaces: those of its processes and those that are mounted (`ip netns`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use super::mountinfo::{self, Mount};

const OWN: &str = "/proc/thread-self/ns/net";

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
        // A mount that another covers shows a plain file at its place.
        if let Ok(file) = File::open(&path)
            && fstatfs(&file).is_ok_and(|system| system.filesystem_type() == NSFS_MAGIC)
        {
            found.insert(metadata.ino(), file);
        }
    }
    found
}

/// Runs `work` once in each of `namespaces`, in others than the own on a thread that ends with it, so that nobody's namespace changes. What
/// a namespace that cannot be entered gives is its error; that of want of a thread, where the kernel allows no more of them.
pub fn in_each<T: Send>(
    namespaces: &BTreeMap<u64, File>,
    mut work: impl FnMut(u64) -> T + Send,
) -> Vec<(u64, Result<T, nix::Error>)> {
    let own = fs::metadata(OWN).ok().map(|metadata| metadata.ino());
    let (own, others): (Vec<_>, Vec<_>) =
        namespaces.iter().map(|(inode, file)| (*inode, file)).partition(|(inode, _)| Some(*inode) == own);
    let mut done: Vec<_> = own.into_iter().map(|(inode, _)| (inode, Ok(work(inode)))).collect();
    if others.is_empty() {
        return done;
    }
    let enter = |(inode, namespace): &(u64, &File)| {
        (*inode, setns(namespace, CloneFlags::CLONE_NEWNET).map(|()| work(*inode)))
    };
    let walked = std::thread::scope(|scope| {
        let walk =
            std::thread::Builder::new().spawn_scoped(scope, || others.iter().map(enter).collect::<Vec<_>>());
        walk.map(|walk| walk.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    match walked {
        Ok(walked) => done.extend(walked),
        Err(error) => {
            let errno = error.raw_os_error().map_or(nix::Error::EAGAIN, nix::Error::from_raw);
            done.extend(others.iter().map(|(inode, _)| (*inode, Err(errno))));
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
        let walked = std::thread::scope(|scope| scope.spawn(starts_none).join()).unwrap();
        let refused = Err(nix::Error::EAGAIN);
        assert_eq!(walked, [(own, Ok(own)), (1, refused), (2, refused)]);
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
        let own = fs::metadata(OWN).unwrap().ino();
        assert!(all().contains_key(&own));
    }
}
