//! Control groups by their id, for processes that are gone and cannot be asked any more.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::DirEntryExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mountinfo::{self, Mount};

/// A walk ends after so many control groups.
const MAX_GROUPS: usize = 65_536;

/// So many control groups that no walk has found are remembered.
const MAX_MISSES: usize = 4096;

/// Paths of the unified hierarchy's control groups. A group's id is the inode number of its directory, and is not given twice.
#[derive(Debug, Default)]
pub struct Paths {
    known: HashMap<u64, Arc<str>>,
    /// Groups that were gone when they were looked for.
    missed: HashSet<u64>,
}

impl Paths {
    /// The path of control group `id`; `None` for one that is gone or out of sight. Looks through the hierarchy once for an id
    /// that it has not met.
    pub fn of(&mut self, id: u64) -> Option<Arc<str>> {
        self.find(id, || mount_point(mountinfo::mounts()).map_or_else(Vec::new, |root| walk(&root)))
    }

    fn find(&mut self, id: u64, walk: impl FnOnce() -> Vec<(u64, Arc<str>)>) -> Option<Arc<str>> {
        if id == 0 || self.missed.contains(&id) {
            return None;
        }
        if !self.known.contains_key(&id) {
            self.known = walk().into_iter().collect();
        }
        let path = self.known.get(&id).cloned();
        if path.is_none() {
            if self.missed.len() >= MAX_MISSES {
                self.missed.clear();
            }
            self.missed.insert(id);
        }
        path
    }
}

/// Where the root of the unified hierarchy is mounted.
fn mount_point(mounts: impl IntoIterator<Item = Mount>) -> Option<PathBuf> {
    mounts.into_iter().find(|mount| mount.kind == b"cgroup2" && mount.root == b"/").map(|mount| mount.point)
}

/// Every control group below `root` with its path from there. The root itself says nothing of a process that is gone: where
/// hierarchies of version 1 are in use, it is every process's unified group.
fn walk(root: &Path) -> Vec<(u64, Arc<str>)> {
    let mut found: Vec<(u64, Arc<str>)> = Vec::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(group) = waiting.pop()
        && found.len() < MAX_GROUPS
    {
        let below = fs::read_dir(&group).into_iter().flatten().flatten();
        for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy();
            found.push((entry.ino(), Arc::from(format!("/{name}"))));
            waiting.push(path);
        }
    }
    found
}

/// Any bytes in the place of the table of mounts.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    let _ = mount_point(mountinfo::parse(bytes));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_unified_hierarchy_is_found_among_the_mounts() {
        let table = b"30 25 0:26 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                      31 25 0:27 /part /mnt/part rw - cgroup2 cgroup2 rw\n\
                      32 25 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(mountinfo::parse(table)), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(mount_point(mountinfo::parse(b"garbage")), None);
    }

    #[test]
    fn the_hierarchy_is_walked_once_for_each_group_that_is_gone() {
        let walks = std::cell::Cell::new(0);
        let mut paths = Paths::default();
        let mut find = |id| {
            paths.find(id, || {
                walks.set(walks.get() + 1);
                vec![(7, Arc::from("/web"))]
            })
        };
        let found: Vec<_> = [0, 8, 9, 8, 9, 7, 8, 7].map(|id| find(id).is_some()).into();
        assert_eq!(found, [false, false, false, false, false, true, false, true]);
        assert_eq!(walks.get(), 2);
        for id in 100..100 + 2 * MAX_MISSES as u64 {
            assert_eq!(paths.find(id, Vec::new), None);
        }
        assert!(paths.missed.len() <= MAX_MISSES);
    }

    #[test]
    fn groups_are_known_by_the_inode_numbers_of_their_directories() {
        let root = std::env::temp_dir().join(format!("zsock-cgroup-{}", std::process::id()));
        fs::create_dir_all(root.join("system.slice/nginx.service")).unwrap();
        let walked: HashMap<_, _> = walk(&root).into_iter().collect();
        let id = fs::metadata(root.join("system.slice/nginx.service")).unwrap().ino();
        let expected = Arc::from("/system.slice/nginx.service");
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(walked.get(&id), Some(&expected));
        assert_eq!(walked.len(), 2);
    }
}
