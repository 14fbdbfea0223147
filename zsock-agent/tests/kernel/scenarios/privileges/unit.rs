//! The privileges that `packaging/zsock-record.service` grants.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};

use caps::{CapSet, Capability, CapsHashSet};
use zsock_agent::privileges::capabilities::NEEDS;

use super::{as_nobody, threads};
use crate::await_some;
use crate::recorder::{Directory, Recorder};

const UNIT: &str = include_str!("../../../../../packaging/zsock-record.service");
const NOBODY: u32 = 65_534;

/// With them zsock misses nothing, each of them is one that it has a use for, and once it runs only the thread that records may write.
pub(in super::super) fn the_unit_of_the_recorder_grants_what_it_takes() {
    let granted = ["CapabilityBoundingSet", "AmbientCapabilities"].map(granted);
    let needed: CapsHashSet = NEEDS.iter().map(|need| need.capability).collect();
    assert_eq!(granted, [needed.clone(), needed]);
    // Root itself may lack some where this runs.
    let permitted = caps::read(None, CapSet::Permitted).expect("the kernel tells");
    let held: CapsHashSet = granted[0].intersection(&permitted).copied().collect();
    let directory = Directory::new("unit");
    fs::create_dir_all(directory.path()).expect("cargo's directory for tests can be written");
    chown(directory.path(), Some(NOBODY), Some(NOBODY)).expect("root gives files away");
    let Some(recorder) = Recorder::start_by(as_nobody(&held), &directory, &["-v"]) else { return };

    let threads = await_some("both threads to be confined", std::time::Duration::from_secs(10), || {
        let threads = threads(recorder.pid());
        let is_confined = threads.iter().all(|thread| thread.no_new_privs && thread.is_filtered);
        (threads.len() == 2 && is_confined).then_some(threads)
    });
    let writer = threads.iter().find(|thread| thread.name == "zsock-recorder").expect("it runs");
    assert_eq!(
        writer.sets[..2],
        [CapsHashSet::new(), CapsHashSet::new()],
        "nobody needs no right to write to what is his"
    );
    let segment = fs::metadata(&directory.segments()[0]).expect("it was just there");
    assert_eq!((segment.uid(), segment.mode() & 0o777), (NOBODY, 0o640));
    let (status, said) = recorder.stop();
    assert!(status.success(), "{status}: {said}");
    let missed: Vec<&str> = said.lines().filter(|line| line.contains("without CAP_")).collect();
    let lacking = granted[0].difference(&permitted).count();
    assert_eq!(missed.len(), lacking, "{said}");
    assert!(
        said.contains("the recorder's thread is confined (Landlock") || said.contains("no Landlock"),
        "{said}"
    );
}

/// The capabilities that a line of the unit names.
fn granted(setting: &str) -> CapsHashSet {
    let line = UNIT.lines().find_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    let names = line.unwrap_or_else(|| panic!("the unit has no {setting}")).split_ascii_whitespace();
    names.map(|name| name.parse::<Capability>().expect("a capability")).collect()
}
