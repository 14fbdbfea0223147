//! Runs the end-to-end tests on every kernel, two machines at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::initramfs::Initramfs;
use super::kernels::Kernel;
use super::qemu::{Ended, Machine, Qemu};
use super::report::Run;
use super::{static_cargo, zsock_in};
use crate::command;
use crate::workspace::Workspace;

/// Machines that run at once.
const AT_ONCE: usize = 2;
/// Scenarios that run at once in a machine: most of their time they wait.
const SCENARIOS_AT_ONCE: u32 = 3;
/// An emulated processor is this much slower than a real one, so tests give zsock that much more time for its work.
const SLOWNESS: u32 = 4;
/// Takes a machine longer it hangs, on however busy a host.
const LIMIT: Duration = Duration::from_mins(15);
const MEMORY_MIB: u32 = 1536;

/// The scenario that has the machine to itself.
const CLOCK: &str = "the_clock_is_stepped";
/// Left out where the machines have to be quick: what asks least of a kernel, and what is played another time in other clothes.
const BEYOND_THE_CORE: [&str; 16] = [
    "quiet::",
    "owners::",
    "silence::",
    "unguarded::",
    "idle_timeout::",
    "selectors::",
    "hostile::",
    "exit::",
    "privileges::each",
    "metrics::pro",
    "record::kill",
    "record::a_d",
    "cost::beyond",
    "over_ipv6",
    "over_mapped",
    "no_program_from_loading",
];

/// Which tests the machines run.
#[derive(Clone, Copy)]
pub(crate) enum Choice<'a> {
    /// Every one.
    All,
    /// Those that ask most of a kernel.
    Core,
    /// Those whose names contain this.
    Only(&'a str),
}

impl Choice<'_> {
    /// As the test program takes it.
    fn arguments(self) -> String {
        match self {
            Self::All => String::new(),
            Self::Core => BEYOND_THE_CORE.map(|name| format!("--skip {name}")).join(" "),
            Self::Only(text) => format!("'{}'", text.replace('\'', "")),
        }
    }

    fn has(self, name: &str) -> bool {
        match self {
            Self::All | Self::Core => true,
            Self::Only(text) => name.contains(text),
        }
    }
}

/// What the machines run.
pub(crate) struct Programs {
    /// zsock, with the C library inside.
    zsock: PathBuf,
    /// The end-to-end tests, likewise.
    tests: PathBuf,
}

impl Programs {
    pub(crate) fn build(workspace: &Workspace) -> Result<Self> {
        let mut cargo = static_cargo(workspace);
        cargo.args([
            "test",
            "--no-run",
            "--quiet",
            "--locked",
            "--release",
            "--package=zsock-agent",
            "--test=kernel",
        ]);
        cargo.arg("--message-format=json-render-diagnostics");
        println!("xtask: {}", command::described(&cargo));
        let messages = command::output(&mut cargo)?;
        let tests = messages.lines().filter_map(|line| executable(line, "test", "kernel")).next_back();
        // Cargo builds the programs of a package with its tests.
        Ok(Self { zsock: zsock_in(workspace), tests: tests.context("cargo built no end-to-end tests")? })
    }
}

/// The program of a target, where a line of cargo's JSON tells of that.
fn executable(line: &str, kind: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_it = message["target"]["kind"][0] == kind && message["target"]["name"] == name;
    message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
}

/// Runs the tests of this choice on each kernel.
///
/// # Errors
/// When a machine cannot be made; one that fails is part of the result.
pub(crate) fn run(
    qemu: &Qemu,
    kernels: &[Kernel],
    programs: &Programs,
    machines: &Path,
    choice: Choice<'_>,
) -> Result<Vec<Run>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let work = || -> Result<()> {
        while let Some((place, kernel)) = {
            let place = next.fetch_add(1, Ordering::Relaxed);
            kernels.get(place).map(|kernel| (place, kernel))
        } {
            let home = machines.join(kernel.series.to_string());
            let run = on_one(qemu, kernel, programs, &home, choice)?;
            println!("xtask: kernel {}: {}", kernel.series, run.tally());
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(place, run);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(_) => bail!("a machine's thread panicked"),
        })
    })?;
    let done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(done.into_values().collect())
}

fn on_one(qemu: &Qemu, kernel: &Kernel, programs: &Programs, home: &Path, choice: Choice<'_>) -> Result<Run> {
    let root = Initramfs::new(home.join("root"), &qemu.busybox())?;
    root.modules(kernel)?;
    root.copy(&programs.zsock, "usr/bin/zsock")?;
    root.copy(&programs.tests, "work/kernel")?;
    // To set the clock disturbs every other scenario.
    let clock = if choice.has(CLOCK) { CLOCK } else { "--list" };
    let job = format!(
        "export ZSOCK_TEST_PROGRAM=/usr/bin/zsock ZSOCK_TEST_DIRECTORY=/tmp ZSOCK_TEST_SLOWNESS={SLOWNESS}
         ./kernel --color never --test-threads {SCENARIOS_AT_ONCE} {}
         status=$?
         ZSOCK_MAY_SET_CLOCK=1 ./kernel --color never {clock} || status=$?
         exit $status",
        choice.arguments()
    );
    root.script("work/job", &job)?;
    let (archive, console) = (home.join("initramfs"), home.join("console"));
    root.pack(&archive)?;
    let machine = Machine {
        kernel,
        initramfs: &archive,
        console: &console,
        cores: 2,
        memory_mib: MEMORY_MIB,
        limit: LIMIT,
    };
    let mut run = Run {
        series: kernel.series.to_string(),
        version: kernel.version.clone(),
        outcomes: BTreeMap::new(),
        trouble: None,
    };
    let ended = qemu.run(&machine, |line| {
        println!("[{}] {line}", kernel.series);
        run.line(line);
    })?;
    let failed = run.tally().failed > 0;
    run.trouble = match ended {
        Ended::WithStatus(0) => None,
        Ended::WithStatus(_) if failed => None,
        Ended::WithStatus(status) => Some(format!("the tests ended with status {status}")),
        Ended::Badly(why) => Some(why),
    };
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::executable;

    #[test]
    fn cargo_tells_where_a_program_is() {
        let line = r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"kernel"},"executable":"/t/kernel-1"}"#;
        assert_eq!(executable(line, "test", "kernel"), Some("/t/kernel-1".into()));
        assert_eq!(executable(line, "bin", "kernel"), None);
        assert_eq!(executable(line, "test", "cli"), None);
        assert_eq!(executable("Compiling", "test", "kernel"), None);
    }
}
