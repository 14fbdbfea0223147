//! The one test command: every check and every test, all of them even after a failure, added up at the end.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::command;
use crate::deny;
use crate::ebpf;
use crate::fuzz;
use crate::tally::{Reader, Tally};
use crate::tidy;
use crate::vm;
use crate::workspace::Workspace;

/// The crates that are compiled for user space.
const USER_SPACE: [&str; 3] = ["--package=zsock-agent", "--package=zsock-common", "--package=xtask"];
/// The test target that needs root and network namespaces.
const KERNEL_TESTS: &str = "kernel";
/// Reads whatever libFuzzer takes for the files of a recording.
const RECORDINGS_FUZZ_TARGET: &str = "recording_files";
const FUZZ_S: u32 = 60;
/// Programs that the tests in network namespaces call, and Debian's packages of them.
const KERNEL_TEST_TOOLS: [(&str, &str); 4] =
    [("ip", "iproute2"), ("nft", "nftables"), ("redis-cli", "redis-tools"), ("promtool", "prometheus")];
/// Programs that the tests of the HTML page call, and Debian's packages of them.
const BROWSER_TEST_TOOLS: [(&str, &str); 2] = [("chromium", "chromium"), ("chromedriver", "chromium-driver")];
/// Where Debian's package keeps the programs of `PostgreSQL`, a directory for each version.
const POSTGRESQL: &str = "/usr/lib/postgresql";
/// Read when that package is installed: whether it is to make a cluster and start a server.
const POSTGRESQL_SET_UP: &str = "/etc/postgresql-common/createcluster.conf";

/// The unit that Debian's package of Prometheus starts, where whoever runs the host may mask it.
const PROMETHEUS_UNIT: &str = "/etc/systemd/system/prometheus.service";

/// Runs everything and prints the closing line `N passed, N failed, N skipped`, where a check counts as one test.
///
/// # Errors
/// When the tests cannot even be listed. A failed test is no error, but the exit code's business.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let mut session = Session::default();
    println!("== set-up");
    prepare_kernel_tests(workspace);
    prepare_browser_tests(workspace);

    session.check("formatting", || command::run(workspace.cargo().args(["fmt", "--all", "--check"])));
    session.check("clippy, user space", || {
        let mut clippy = workspace.cargo();
        clippy.args(["clippy", "--locked", "--all-targets"]).args(USER_SPACE);
        command::run(clippy.args(["--", "-D", "warnings"]))
    });
    session.check("clippy, eBPF", || ebpf::clippy(workspace));
    session.check("the committed eBPF object", || ebpf::check(workspace));
    session.check("tidy", || tidy::run(workspace));
    session.check("licences, sources and duplicates of the dependencies", || deny::rules(workspace));
    let advisories = "advisories of the dependencies";
    match deny::advisories_lacking() {
        None => session.check(advisories, || deny::advisories(workspace)),
        Some(reason) => session.skip(advisories, &reason),
    }

    let tests = integration_tests(workspace)?;
    let (kernel, others): (Vec<_>, Vec<_>) = tests.into_iter().partition(|test| test == KERNEL_TESTS);
    let mut unit = cargo_test(workspace);
    unit.args(USER_SPACE).args(["--lib", "--bins"]).args(others.iter().map(|test| format!("--test={test}")));
    session.tests("unit and command line tests", &mut unit);
    let mut doc = cargo_test(workspace);
    session.tests("examples in the documentation", doc.args(["--package=zsock-agent", "--doc"]));
    session.check("a minute of fuzzing the reader of recordings", || {
        fuzz::run(workspace, Some(RECORDINGS_FUZZ_TARGET), FUZZ_S)
    });
    if !kernel.is_empty() {
        let mut end_to_end = cargo_test(workspace);
        end_to_end.args(["--package=zsock-agent", "--test", KERNEL_TESTS]);
        let skipped = session.tests("end-to-end tests in network namespaces", &mut end_to_end).skipped;
        if skipped > 0 && is_ci() {
            session.fail(format!("end-to-end tests: {skipped} skipped, and CI=true promises their set-up"));
        }
    }
    session.on_other_kernels(workspace);
    Ok(session.close())
}

/// What ran so far.
#[derive(Default)]
struct Session {
    tally: Tally,
    failures: Vec<String>,
}

impl Session {
    /// Runs a check that is passed or failed as a whole.
    fn check(&mut self, name: &str, check: impl FnOnce() -> Result<()>) {
        println!("\n== {name}");
        match check() {
            Ok(()) => self.tally.passed += 1,
            Err(error) => self.fail(format!("{name}: {error:#}")),
        }
    }

    /// Counts a check that has to be left out for want of what only others can give. Unlike an end-to-end test that is left out, it is no
    /// failure with CI=true either: nobody promises the outside world.
    fn skip(&mut self, name: &str, reason: &str) {
        println!("\n== {name}\nSKIPPED {name}: {reason}");
        self.tally.skipped += 1;
    }

    /// Runs a test command and adds what it counts.
    fn tests(&mut self, name: &str, command: &mut Command) -> Tally {
        println!("\n== {name}");
        match run_tests(command) {
            Ok((tally, problem)) => {
                println!("== {name}: {tally}");
                self.tally += tally;
                match problem {
                    // The tests that failed are counted; a program that did not compile or crashed is one more.
                    Some(problem) if tally.failed > 0 => self.failures.push(format!("{name}: {problem}")),
                    Some(problem) => self.fail(format!("{name}: {problem}")),
                    None => {}
                }
                tally
            }
            Err(error) => {
                self.fail(format!("{name}: {error:#}"));
                Tally::default()
            }
        }
    }

    /// Runs the end-to-end tests once more in virtual machines, each with a kernel of its own.
    fn on_other_kernels(&mut self, workspace: &Workspace) {
        let name = "end-to-end tests on Debian's kernels";
        println!("\n== {name}");
        let lab = match vm::Lab::for_tests(workspace) {
            Ok(lab) => lab,
            Err(error) if is_ci() => return self.fail(format!("{name}: {error:#}")),
            Err(error) => {
                println!("SKIPPED {name}: {error:#}");
                self.tally.skipped += 1;
                return;
            }
        };
        match lab.test(workspace) {
            Ok((tally, problems)) => {
                println!("== {name}: {tally}");
                self.tally += tally;
                // The tests that failed are counted; a table that is not the README's is one more.
                self.tally.failed += u64::from(tally.failed == 0 && !problems.is_empty());
                self.failures.extend(problems.into_iter().map(|problem| format!("{name}: {problem}")));
            }
            Err(error) => self.fail(format!("{name}: {error:#}")),
        }
    }

    fn fail(&mut self, failure: String) {
        println!("== FAILED {failure}");
        self.tally.failed += 1;
        self.failures.push(failure);
    }

    /// Lists what failed and prints the closing line.
    fn close(self) -> ExitCode {
        println!();
        for failure in &self.failures {
            println!("FAILED {failure}");
        }
        println!("{}", self.tally);
        if self.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Runs a test command, showing its output as it comes. Gives its counts, and what is wrong where something is.
fn run_tests(command: &mut Command) -> Result<(Tally, Option<String>)> {
    let described = command::described(command);
    println!("xtask: {described}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {described}"))?;
    let mut reader = Reader::default();
    let stdout = child.stdout.take().with_context(|| format!("{described} has no stdout"))?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.with_context(|| format!("cannot read what {described} writes"))?;
        let line = String::from_utf8_lossy(&line);
        // The one closing line of all tests comes at the end of all tests.
        if !reader.line(&line) {
            println!("{line}");
        }
    }
    let status = child.wait().with_context(|| format!("cannot wait for {described}"))?;
    let tally = reader.tally();
    let problem = if !status.success() {
        Some(format!("{described} ended with {status}"))
    } else if tally.failed > 0 {
        Some(format!("{described} ended with {status} although tests failed"))
    } else {
        None
    };
    Ok((tally, problem))
}

fn cargo_test(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--locked", "--no-fail-fast"]);
    cargo
}

/// Names of all integration test targets.
fn integration_tests(workspace: &Workspace) -> Result<Vec<String>> {
    Ok(workspace.members()?.into_iter().flat_map(|member| member.tests).collect())
}

/// Installs what the tests in network namespaces call, or says which tests will be skipped and why.
fn prepare_kernel_tests(workspace: &Workspace) {
    if !is_root() {
        println!("xtask: the end-to-end tests in network namespaces will be SKIPPED: they need root");
        return;
    }
    let mut packages = lacking(&KERNEL_TEST_TOOLS);
    if !Path::new(POSTGRESQL).exists() {
        packages.push("postgresql");
    }
    match install(workspace, &packages) {
        Ok(()) => {
            println!(
                "xtask: root, ip, nft, PostgreSQL, Redis and Prometheus are there for the end-to-end tests in network namespaces"
            );
        }
        Err(error) => {
            println!("xtask: the end-to-end tests in network namespaces will be SKIPPED: {error:#}");
        }
    }
}

/// Installs the browser of the tests of the HTML page, or says that they will be skipped and why.
fn prepare_browser_tests(workspace: &Workspace) {
    let packages = lacking(&BROWSER_TEST_TOOLS);
    let installed = if packages.is_empty() || is_root() {
        install(workspace, &packages)
    } else {
        Err(anyhow!("they need {}, which only root can install", packages.join(" ")))
    };
    match installed {
        Ok(()) => println!("xtask: Chromium and its driver are there for the tests of the HTML page"),
        Err(error) => println!("xtask: the tests of the HTML page in a browser will be SKIPPED: {error:#}"),
    }
}

/// The packages of those programs that are not there.
fn lacking(tools: &[(&str, &'static str)]) -> Vec<&'static str> {
    tools
        .iter()
        .filter(|(program, _)| command::find(program).is_none())
        .map(|(_, package)| *package)
        .collect()
}

fn install(workspace: &Workspace, packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let wanted = packages.join(" ");
    if command::find("apt-get").is_none() {
        bail!("they need {wanted}, and there is no apt-get here to install it; install it by other means");
    }
    let apt_get = |arguments: &[&str]| {
        let mut apt_get = workspace.command("apt-get");
        // What was set up before the installation stays as it is.
        apt_get.env("DEBIAN_FRONTEND", "noninteractive").env("UCF_FORCE_CONFFOLD", "1");
        command::run(apt_get.args(arguments))
    };
    println!("xtask: installing {wanted}");
    if packages.contains(&"postgresql") {
        keep_postgresql_quiet()?;
    }
    if packages.contains(&"prometheus") {
        keep_prometheus_quiet()?;
    }
    apt_get(&["update"])
        .and_then(|()| apt_get(&[&["install", "-y", "--no-install-recommends"], packages].concat()))
}

/// Has the package of `PostgreSQL` start no server: the tests start their own.
fn keep_postgresql_quiet() -> Result<()> {
    let file = Path::new(POSTGRESQL_SET_UP);
    if file.exists() {
        return Ok(());
    }
    let written = file.parent().map_or(Ok(()), fs::create_dir_all);
    written
        .and_then(|()| fs::write(file, "create_main_cluster = false\n"))
        .with_context(|| format!("cannot write {POSTGRESQL_SET_UP}, so that no server is started"))
}

/// Has the package of Prometheus start no server: the tests start their own. A unit that was set up before stays as it is.
fn keep_prometheus_quiet() -> Result<()> {
    let unit = Path::new(PROMETHEUS_UNIT);
    if unit.is_symlink() || unit.exists() || !Path::new("/run/systemd/system").exists() {
        return Ok(());
    }
    symlink("/dev/null", unit)
        .with_context(|| format!("cannot mask {PROMETHEUS_UNIT}, so that no server is started"))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn is_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true")
}
