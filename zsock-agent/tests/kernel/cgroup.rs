//! A control group with a limit of memory, to run zsock in: it counts what the kernel keeps for zsock as well.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::id;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where hierarchies are mounted. That of version 2 may have the controller, else that of version 1 has.
const UNIFIED: &str = "/sys/fs/cgroup";
const LEGACY: &str = "/sys/fs/cgroup/memory";

/// A control group, removed with this value.
pub(crate) struct Cgroup {
    path: PathBuf,
    is_unified: bool,
}

impl Cgroup {
    /// A group whose processes get no more than so much memory.
    pub(crate) fn with_memory(limit_bytes: u64) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let is_unified = is_unified();
        let root = Path::new(if is_unified { UNIFIED } else { LEGACY });
        let path = root.join(format!("zt-{}-{}", id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).expect("`lacking` found that groups can be made");
        let group = Self { path, is_unified };
        let limit = if is_unified { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(group.path.join(limit), limit_bytes.to_string()).expect("a new group takes a limit");
        group
    }

    /// The file that a process joins it by.
    pub(crate) fn joined_by(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// The most memory that it ever took; absent where the kernel (before 5.19) does not say.
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        let name = if self.is_unified { "memory.peak" } else { "memory.max_usage_in_bytes" };
        fs::read_to_string(self.path.join(name)).ok()?.trim().parse().ok()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // One that is still in use stays, and is in nobody's way.
        let _ = fs::remove_dir(&self.path);
    }
}

fn is_unified() -> bool {
    let controllers =
        fs::read_to_string(Path::new(UNIFIED).join("cgroup.subtree_control")).unwrap_or_default();
    controllers.split_whitespace().any(|controller| controller == "memory")
}

/// Why no such group can be made, if none can.
pub(crate) fn lacking() -> Option<String> {
    // Where nobody has handed the controller down yet, it is done here; where that is refused, the check below says so.
    let _ = fs::write(Path::new(UNIFIED).join("cgroup.subtree_control"), "+memory");
    let root = if is_unified() { UNIFIED } else { LEGACY };
    let probe = Path::new(root).join(format!("zt-{}-probe", id()));
    let limits = ["memory.max", "memory.limit_in_bytes"];
    let made = fs::create_dir(&probe).map(|()| limits.iter().any(|limit| probe.join(limit).exists()));
    // Nothing was in it.
    let _ = fs::remove_dir(&probe);
    match made {
        Ok(true) => None,
        Ok(false) => Some(format!("needs a control group with a memory controller; {root} has none")),
        Err(error) => Some(format!("needs a control group with a memory controller; in {root}: {error}")),
    }
}
