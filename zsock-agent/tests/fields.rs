//! Every field of the table on each of Debian's kernels, as `cargo xtask btf` kept their types.
//!
//! A field that is new, has moved or is gone shows as a difference of a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use zsock_agent::source::assemble::known;
use zsock_agent::source::btf::Types;
use zsock_agent::source::kernel::{hooks, trial};

use kernels::{Differences, fields, kept, shown};

mod kernels;

/// The series that are looked at; of the last one whichever is newest.
const SERIES: [&str; 5] = ["5.10.", "6.1.", "6.12.", "6.18.", "7."];

/// A table with a column for each kernel.
struct Table(String);

impl Table {
    fn new(kernels: &[(&str, Types)]) -> Self {
        let mut table = Self(String::new());
        table.row("", kernels.iter().map(|(release, _)| (*release).to_owned()));
        table
    }

    fn row(&mut self, name: &str, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<_> = cells.into_iter().map(|cell| format!("{cell:<28}")).collect();
        let line = format!("{name:<28}{}", cells.concat());
        writeln!(self.0, "{}", line.trim_end()).expect("a string takes everything");
    }
}

#[test]
fn there_is_a_kernel_of_each_series() {
    let series: Vec<_> = kept()
        .iter()
        .map(|(release, _)| {
            SERIES.iter().find(|series| release.starts_with(*series)).copied().unwrap_or(release)
        })
        .collect();
    assert_eq!(series, SERIES);
}

#[test]
fn every_field_is_where_it_was_on_each_kernel() {
    let kernels = kept();
    let mut table = Table::new(&kernels);
    for field in fields() {
        table.row(field.name, kernels.iter().map(|(_, types)| shown(types.place(field))));
    }
    insta::assert_snapshot!("places", table.0);
}

#[test]
fn a_kernel_lacks_the_fields_that_it_lacked_and_people_are_told_what_that_takes_from_them() {
    let mut told = String::new();
    for (release, types) in kept() {
        let (offsets, missing) = types.offsets().expect("all that is required");
        writeln!(told, "{release} lacks {}", missing.join(", ")).expect("a string takes everything");
        for loss in known::losses(&offsets, &missing) {
            writeln!(told, "    {loss}").expect("a string takes everything");
        }
    }
    insta::assert_snapshot!("missing", told);
}

#[test]
fn tracepoints_have_as_many_arguments_and_functions_are_there_as_before() {
    let kernels = kept();
    let mut targets = BTreeMap::from([("tp_btf", BTreeSet::new()), ("fentry", BTreeSet::new())]);
    for rung in hooks::ALL.iter().flat_map(|hook| hook.rungs) {
        let kind = rung.label.split('/').next().expect("a label").replace("fexit", "fentry");
        if let Some(of_kind) = targets.get_mut(kind.as_str()) {
            of_kind.extend(rung.programs.iter().map(|(_, target)| *target));
        }
    }
    let mut table = Table::new(&kernels);
    for tracepoint in &targets["tp_btf"] {
        let arguments = |types: &Types| types.tracepoint_arguments(tracepoint);
        let shown = |arguments: Option<usize>| arguments.map_or("—".to_owned(), |count| count.to_string());
        table.row(tracepoint, kernels.iter().map(|(_, types)| shown(arguments(types))));
    }
    for function in &targets["fentry"] {
        let shown = |types: &Types| if types.has_function(function) { "function" } else { "—" };
        table.row(function, kernels.iter().map(|(_, types)| shown(types).to_owned()));
    }
    insta::assert_snapshot!("hooks", table.0);
}

/// What `zsock doctor` says without rights. Kprobes are a matter of the running kernel, iterators were not kept.
#[test]
fn where_the_types_rule_out_a_hook_it_is_known_without_trying() {
    let mut told = String::new();
    for (release, types) in kept() {
        for hook in std::iter::once(&hooks::SOCKETS).chain(hooks::ALL) {
            let told_by_types =
                hook.rungs.iter().filter(|rung| !["kprobe", "kretprobe", "cookie"].contains(&rung.name));
            for why in told_by_types.filter_map(|rung| trial::lacks(hook, rung, &types)) {
                writeln!(told, "{release} {}: {why}", hook.name).expect("a string takes everything");
            }
        }
    }
    let expected = "5.10.0-46-cloud-amd64 error: this kernel has no tracepoint inet_sk_error_report\n\
                    5.10.0-46-cloud-amd64 recovery: this kernel has no tracepoint tcp_cong_state_set\n";
    assert_eq!(told, expected);
}

#[test]
fn reasons_of_resets_have_the_names_that_they_had() {
    let kernels = kept();
    let names: Vec<_> =
        kernels.iter().map(|(_, types)| types.enum_names("sk_rst_reason", "SK_RST_REASON_")).collect();
    let mut table = Table::new(&kernels);
    for number in 0..=names.iter().flat_map(|names| names.keys()).max().copied().unwrap_or(0) {
        let name = |names: &BTreeMap<u32, String>| names.get(&number).cloned().unwrap_or("—".to_owned());
        table.row(&number.to_string(), names.iter().map(name));
    }
    insta::assert_snapshot!("reset_reasons", table.0);
}

#[test]
fn what_differs_between_two_kernels_is_told_field_by_field() {
    let kernels = kept();
    let types =
        |series: &str| &kernels.iter().find(|(release, _)| release.starts_with(series)).expect("kept").1;
    let differences = Differences::between(types("6.1."), types("6.12."));
    assert_eq!(
        differences.new_or_gone,
        [
            "usec_ts: — was kept, 1519:3/1 is there",
            "total_rto: — was kept, 2224/2 is there",
            "sysctl_syn_linear_timeouts: — was kept, 1385/1 is there",
        ]
    );
    assert!(differences.moved.contains(&"sk_err: 544/4 was kept, 284/4 is there".to_owned()));
    assert_eq!(Differences::between(types("6.1."), types("6.1.")), Differences::default());
}
