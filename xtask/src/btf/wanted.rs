//! What the tests need of a kernel's types: nothing is listed here that is written elsewhere.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};
use object::{Object as _, ObjectSection as _};
use zsock_common::offsets::Offsets;

use crate::workspace::Workspace;

/// Numbers whose names the agent looks up.
const ENUMS: [&str; 1] = ["sk_rst_reason"];

/// Names of what is needed.
pub(super) struct Wanted {
    /// Paths of members, `type.member.member`.
    pub(super) paths: Vec<&'static str>,
    /// Names of `typedef`s whose function's arguments count.
    pub(super) prototypes: BTreeSet<String>,
    /// Functions.
    pub(super) functions: BTreeSet<String>,
    /// Numbers with names.
    pub(super) enums: BTreeSet<String>,
}

impl Wanted {
    /// The fields are those of the table, the tracepoints and functions those that the committed eBPF object attaches to.
    pub(super) fn of(workspace: &Workspace) -> Result<Self> {
        let object = workspace.root.join("zsock-ebpf/zsock.bpf.o");
        let bytes = fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
        let elf = object::File::parse(bytes.as_slice()).context("the eBPF object is no ELF file")?;
        let sections: Vec<&str> = elf.sections().filter_map(|section| section.name().ok()).collect();
        let after = |prefix: &str| {
            sections.iter().filter_map(move |name| name.strip_prefix(prefix)).collect::<Vec<_>>()
        };
        Ok(Self {
            paths: paths(),
            prototypes: after("tp_btf/").iter().map(|name| format!("btf_trace_{name}")).collect(),
            functions: [after("fentry/"), after("fexit/")].concat().into_iter().map(str::to_owned).collect(),
            enums: ENUMS.map(str::to_owned).into(),
        })
    }
}

fn paths() -> Vec<&'static str> {
    let mut paths = Vec::new();
    let Ok(_) = Offsets::resolve(|field| {
        paths.extend(field.paths);
        Ok::<_, std::convert::Infallible>(0)
    });
    paths
}
