//! `zsock doctor`: gathers, judges, prints.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::facts;
use crate::cli::{self, DoctorArgs};
use crate::doctor::checks::{self, Namespaces, TypeFacts};
use crate::doctor::{Diagnosis, Trial, group, hooks};
use crate::privileges::capabilities;
use crate::record::{Answer, HookCheck, Line, Patient};
use crate::sink::{Palette, doctor, ndjson, stdout};
use crate::source::assemble::known;
use crate::source::btf::{Types, VMLINUX};
use crate::source::clock::Clock;
use crate::source::host::{Host, kernel_release};
use crate::source::kernel::trial;
use crate::source::{namespaces, sysctl};

/// Examines and prints. `open_files` is what came of opening as many files as a trace takes.
pub(super) fn run(arguments: &DoctorArgs, open_files: Result<()>) -> Result<()> {
    if stdout::was_closed() {
        return Ok(());
    }
    let diagnosis = examine(open_files);
    let mut stdout = stdout::open().context("open stdout")?;
    let host = facts::host();
    let text = match arguments.output {
        cli::Output::Json => {
            let clock = Clock::start()?;
            let now = clock.at(clock.monotonic_ns());
            diagnosis.records().flat_map(|record| ndjson::render(&Line::new(now, &host, &record))).collect()
        }
        cli::Output::Text => {
            let is_coloured = arguments.color.applies(stdout.is_terminal(), |name| std::env::var_os(name));
            let palette = if is_coloured { Palette::COLOURED } else { Palette::PLAIN };
            doctor::render(&diagnosis, &host, palette, stdout.columns()).into_bytes()
        }
    };
    match stdout.write_all(&text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context(stdout::UNWRITTEN),
        _ => Ok(()),
    }
}

fn examine(open_files: Result<()>) -> Diagnosis {
    let host = Host::examine();
    let read = read_types();
    let (types, facts) = (read.as_ref().map(|(types, _)| types), read.as_ref().map(|(_, facts)| facts));
    let (trial, hooks) = try_hooks(types);
    let all = namespaces::all();
    let settings = sysctl::of_each(&all);
    let closed: Vec<_> = settings.iter().filter_map(|(_, settings)| settings.as_ref().err()).collect();
    let found = Namespaces { found: all.len(), closed: closed.last().map(|errno| (closed.len(), **errno)) };
    let checks = checks::all(&host, &trial, facts, &found, open_files.map_err(|error| format!("{error:#}")));
    let readable = settings.into_iter().map(|(netns, settings)| {
        (netns, settings.map_err(|errno| format!("it cannot be entered: {}", errno.desc())))
    });
    let own = fs::metadata(namespaces::OWN).ok().map(|metadata| metadata.ino());
    Diagnosis {
        patient: Patient {
            version: env!("CARGO_PKG_VERSION"),
            kernel: kernel_release(),
            boot_id: facts::boot_id().map(|id| id.to_string()),
        },
        checks,
        hooks,
        groups: group(own, readable.collect()),
    }
}

/// The kernel's types with what they tell, or the answer to whether there are any that zsock can use.
fn read_types() -> Result<(Types, TypeFacts), Answer> {
    let types = Types::read(Path::new(VMLINUX)).map_err(|error| {
        let cause = error.root_cause().downcast_ref::<io::Error>();
        let is_absent = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound);
        let why = format!("{error:#}");
        if is_absent { Answer::no(why) } else { Answer::unknown(why) }
    })?;
    let (offsets, missing) = types.offsets().map_err(|error| Answer::no(format!("{error:#}")))?;
    let facts = TypeFacts {
        losses: known::losses(&offsets, &missing),
        has_ring_buffer: types.has_struct("bpf_ringbuf"),
        counts_locked_memory: types.has_struct("bpf_map_memory"),
    };
    Ok((types, facts))
}

/// Attaches every hook and takes it off again, where zsock may.
fn try_hooks(types: Result<&Types, &Answer>) -> (Trial, Vec<HookCheck>) {
    let types = match types {
        Ok(types) => types,
        Err(answer) => {
            let why = answer.why().unwrap_or_default().to_owned();
            return (Trial::Impossible { why }, hooks::without_types(answer));
        }
    };
    let (why, remedy) = match capabilities::missing_to_start() {
        Some(missing) => (missing, capabilities::advice()),
        None => match trial::attach_all(types) {
            Ok(attachments) => {
                let hooks = hooks::tried(&attachments);
                return (Trial::Done(attachments), hooks);
            }
            Err(error) => {
                (format!("the eBPF programs cannot be loaded: {}", error.root_cause()), format!("{error:#}"))
            }
        },
    };
    let hooks = hooks::untried(&why, |hook, rung| trial::lacks(hook, rung, types));
    (Trial::Refused { remedy }, hooks)
}
