//! The kernel's fields: where the kept types have them, and what the kernel says to programs without them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use nix::sys::utsname::uname;
use zsock_agent::source::btf::{Types, VMLINUX};
use zsock_agent::source::kernel::{Kernel, Options};
use zsock_common::settings::Filter;

use crate::kernels::{Differences, fields, kept};

const ADVICE: &str = "look at what changed, then keep the types of the newest kernels with `cargo xtask btf`";

/// On a kernel whose types are kept every field is where they have it. On another one of that series, as Debian publishes them every
/// few weeks, fields may have moved: that is what resolving them is for, and is said. One that is new or gone is a failure there
/// too, for it changes what zsock can tell.
pub(super) fn each_is_where_the_kept_types_have_it() {
    let here = Types::read(Path::new(VMLINUX)).expect("the kernel shows its types");
    let (_, missing) = here.offsets().expect("every field without which no hook works");
    let name = uname().expect("the kernel has a name");
    let release = name.release().to_str().expect("a release is text");
    let kernels = kept();
    let same = kernels.iter().find(|(kept, _)| *kept == release);
    let of_series = kernels.iter().find(|(kept, _)| is_of_series(kept, release));
    let Some((kept, before)) = same.or(of_series) else {
        println!(
            "NOTE no types of Linux {release} or its like are kept to compare with; it lacks {}",
            missing.join(", ")
        );
        return;
    };
    let Differences { new_or_gone, moved } = Differences::between(before, &here);
    let (new_or_gone, moved) = (new_or_gone.join("\n  "), moved.join("\n  "));
    assert!(
        new_or_gone.is_empty(),
        "Linux {release} has other fields than {kept}; {ADVICE}:\n  {new_or_gone}"
    );
    assert!(
        moved.is_empty() || *kept != release,
        "Linux {release} is not as it was kept; {ADVICE}:\n  {moved}"
    );
    if !moved.is_empty() {
        println!(
            "NOTE Linux {release} is newer or older than {kept}; `cargo xtask btf` keeps it. Moved:\n  {moved}"
        );
    }
}

/// Whether both are Debian's kernels for clouds and of one series.
fn is_of_series(kept: &str, release: &str) -> bool {
    let series = |release: &str| release.split('.').take(2).map(str::to_owned).collect::<Vec<_>>();
    release.ends_with("-cloud-amd64") && series(kept) == series(release)
}

/// Where a kernel has none of the fields that it may lack, or every other one, programs attach as with all of them.
pub(super) fn those_that_are_missing_keep_no_program_from_loading() {
    let optional: Vec<_> = fields().into_iter().filter(|field| !field.is_required).collect();
    let every_other = |first: usize| optional[first..].iter().step_by(2).copied().collect();
    let with_all = hooks(&Types::read(Path::new(VMLINUX)).expect("types"));
    for lacking in [optional.clone(), every_other(0), every_other(1)] {
        let types = without(&lacking.iter().flat_map(|field| field.paths).copied().collect::<Vec<_>>());
        let (_, missing) = types.offsets().expect("every field without which no hook works");
        assert!(lacking.iter().all(|field| missing.contains(&field.name)), "none of them is left");
        assert_eq!(hooks(&types), with_all, "without {}", missing.join(", "));
    }
}

/// This kernel's types as if nothing had the names that end these paths.
fn without(paths: &[&str]) -> Types {
    let mut bytes = fs::read(VMLINUX).expect("the kernel shows its types");
    let names: BTreeSet<_> =
        paths.iter().filter_map(|path| path.rsplit('.').next()).map(str::as_bytes).collect();
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
    // `hdr_len`, `str_off` and `str_len` of the header.
    let (start, length) = (word(4) + word(16), word(20));
    for name in bytes[start..start + length].split_mut(|byte| *byte == 0) {
        if names.contains(&*name) {
            name[0] = b'?';
        }
    }
    Types::parse(&bytes).expect("types")
}

/// How each hook is attached where fields are as `types` have them.
fn hooks(types: &Types) -> BTreeMap<String, String> {
    let options = Options {
        all_events: true,
        stored_sockets: u32::MAX,
        count_states: true,
        buffer_bytes: 1 << 20,
        filter: Filter::NONE,
        has_log: false,
        hooks: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let attached =
        runtime.block_on(async { Kernel::attach_by(types, &options).map(|kernel| kernel.hooks()) });
    attached.unwrap_or_else(|error| panic!("{error:#}"))
}
