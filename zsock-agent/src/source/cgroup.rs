//! Control groups by their id, for processes that are gone and cannot be asked any more.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A walk ends after so many control groups.
const MAX_GROUPS: usize = 65_536;

/// Paths of the unified hierarchy's control groups. A group's id is the inode number of its directory.
#[derive(Debug, Default)]
pub struct Paths {
    known: HashMap<u64, Option<Arc<str>>>,
}

impl Paths {
    /// The path of control group `id`; `None` for one that is gone or out of sight. Looks through the hierarchy once for an id
    /// that it has not met.
    pub fn of(&mut self, id: u64) -> Option<Arc<str>> {
        if id == 0 {
            return None;
        }
        if !self.known.contains_key(&id) {
            let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            if let Some(root) = mount_point(&table) {
                self.known = walk(&root).into_iter().map(|(id, path)| (id, Some(path))).collect();
            }
            self.known.entry(id).or_insert(None);
        }
        self.known.get(&id).cloned().flatten()
    }
}

/// Where a `mountinfo` table has the root of the unified hierarchy.
fn mount_point(table: &str) -> Option<PathBuf> {
    table.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        (kind.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(point))
    })
}

/// Every control group below `root` with its path from there.
fn walk(root: &Path) -> Vec<(u64, Arc<str>)> {
    let mut found: Vec<(u64, Arc<str>)> = Vec::new();
    found.extend(fs::metadata(root).map(|metadata| (metadata.ino(), Arc::from("/"))));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_is_found_among_the_mounts() {
        let table = "30 25 0:26 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                     31 25 0:27 /part /mnt/part rw - cgroup2 cgroup2 rw\n\
                     32 25 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(table), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(mount_point("garbage"), None);
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
        assert_eq!(walked.len(), 3);
    }
}
