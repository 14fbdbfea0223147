//! QEMU, fetched once and kept in `target/vm/qemu`, and one run of a virtual machine in it.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::apt::Apt;
use super::kernels::Kernel;
use crate::command;
use crate::workspace::Workspace;

/// What begins the last line that a virtual machine writes; the exit status of its job follows.
const ENDED: &str = "zsock-vm: the job ended with status ";
/// So much of the console is shown where a run ends badly.
const TAIL_LINES: usize = 40;
/// What the kernel says where something is wrong with it: of each, all of these words.
const CALAMITIES: [&[&str]; 4] = [&["Kernel panic"], &["BUG:"], &["Oops:"], &["WARNING: ", " at "]];

/// A fault that is the kernel's own, and met by whoever iterates over TCP sockets with BPF: the iterator takes a reference to a socket that
/// has none at that moment. Mended by "bpf: tcp: Fix use-after-free in `bpf_iter_tcp_established_batch()`", which Debian's kernels do not
/// all have yet. Where a console names the first, warnings that name the second are of it.
const ITERATOR_FAULT: [&str; 2] = ["bpf_iter_tcp_established_batch+", "lib/refcount.c"];

/// QEMU and busybox on this machine's disk.
pub(crate) struct Qemu {
    home: PathBuf,
}

/// A virtual machine to be run.
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) initramfs: &'a Path,
    /// Where its console is written to.
    pub(crate) console: &'a Path,
    pub(crate) cores: u32,
    pub(crate) memory_mib: u32,
    pub(crate) limit: Duration,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The job came to its end with this exit status, and the kernel did not complain.
    WithStatus(i32),
    /// The machine broke down or took too long: why, with the end of its console.
    Badly(String),
}

impl Qemu {
    /// Finds QEMU, or fetches it from Debian.
    pub(crate) fn get(workspace: &Workspace) -> Result<Self> {
        let home = workspace.root.join("target/vm/qemu");
        if !home.exists() {
            fetch(workspace, &home).context("cannot fetch QEMU")?;
        }
        let this = Self { home };
        let version = command::output(this.command().arg("--version"))?;
        println!("xtask: {}", version.lines().next().unwrap_or_default());
        Ok(this)
    }

    /// The statically linked busybox that came with it.
    pub(crate) fn busybox(&self) -> PathBuf {
        ["usr/bin/busybox", "bin/busybox"]
            .map(|place| self.home.join(place))
            .into_iter()
            .find(|place| place.is_file())
            .unwrap_or_else(|| self.home.join("bin/busybox"))
    }

    /// Runs a machine to its end and hands over each line that its job writes.
    pub(crate) fn run(&self, machine: &Machine<'_>, line: impl FnMut(&str)) -> Result<Ended> {
        let mut command = self.command();
        command
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-nodefaults", "-no-user-config"])
            .args(["-display", "none", "-monitor", "none", "-no-reboot"])
            .args(["-smp", &machine.cores.to_string(), "-m", &machine.memory_mib.to_string()])
            .arg("-kernel")
            .arg(&machine.kernel.vmlinuz)
            .arg("-initrd")
            .arg(machine.initramfs)
            .args(["-append", "console=ttyS0 panic=-1 oops=panic mitigations=off random.trust_cpu=on"])
            .arg("-serial")
            .arg(format!("file:{}", machine.console.display()))
            .args(["-chardev", "stdio,id=job,signal=off", "-serial", "chardev:job"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start QEMU")?;
        let output = child.stdout.take().context("QEMU has no stdout")?;
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let status = follow(&lines, machine.limit, line);
        end(&mut child, status.is_ok())?;
        let console = fs::read(machine.console);
        let console = console.with_context(|| format!("cannot read {}", machine.console.display()))?;
        Ok(judge(status, &String::from_utf8_lossy(&console)))
    }

    fn command(&self) -> Command {
        let libraries =
            ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|place| self.home.join(place));
        let mut command = Command::new(self.home.join("usr/bin/qemu-system-x86_64"));
        command
            .arg("-L")
            .arg(self.home.join("usr/share/qemu"))
            .arg("-L")
            .arg(self.home.join("usr/share/seabios"));
        if let Ok(path) = env::join_paths(libraries) {
            command.env("LD_LIBRARY_PATH", path);
        }
        command
    }
}

/// Hands over the lines up to the one that tells the exit status.
///
/// The error says why that one did not come.
fn follow(
    lines: &Receiver<String>,
    limit: Duration,
    mut line: impl FnMut(&str),
) -> std::result::Result<i32, String> {
    let end = now() + limit;
    loop {
        match lines.recv_timeout(end.saturating_duration_since(now())) {
            Ok(text) => match text.split_once(ENDED) {
                None => line(&text),
                Some((unfinished, status)) => {
                    if !unfinished.is_empty() {
                        line(unfinished);
                    }
                    return status.parse().map_err(|_| format!("it ended with {status:?}"));
                }
            },
            Err(RecvTimeoutError::Timeout) => return Err(format!("it did not end within {limit:?}")),
            Err(RecvTimeoutError::Disconnected) => {
                return Err("it stopped before its job was done".to_owned());
            }
        }
    }
}

/// Waits a little for a machine that switches itself off; any other is switched off at once.
fn end(child: &mut Child, is_done: bool) -> Result<()> {
    let patience = now() + if is_done { Duration::from_secs(5) } else { Duration::ZERO };
    while now() < patience {
        if child.try_wait().context("cannot wait for QEMU")?.is_some() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().and_then(|()| child.wait()).map(drop).context("cannot end QEMU")
}

#[expect(clippy::disallowed_methods, reason = "how long another program takes is no part of any judgement")]
fn now() -> Instant {
    Instant::now()
}

fn judge(status: std::result::Result<i32, String>, console: &str) -> Ended {
    let [iterator, warning] = ITERATOR_FAULT;
    let has_known_fault = console.contains(iterator) && console.contains(warning);
    if has_known_fault {
        println!("xtask: NOTE: this kernel met its own fault in {iterator}; see ITERATOR_FAULT");
    }
    let is_known = |line: &str| has_known_fault && line.contains(warning);
    let is_calamity = |line: &&str| {
        CALAMITIES.iter().any(|words| words.iter().all(|word| line.contains(word))) && !is_known(line)
    };
    let calamity = console.lines().find(is_calamity);
    let why = match (status, calamity) {
        (Ok(status), None) => return Ended::WithStatus(status),
        (_, Some(calamity)) => format!("the kernel says: {}", calamity.trim()),
        (Err(why), None) => why,
    };
    let lines: Vec<&str> = console.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n    ");
    Ended::Badly(format!("{why}; the console's last lines:\n    {tail}"))
}

fn fetch(workspace: &Workspace, home: &Path) -> Result<()> {
    let os = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let Some(codename) = os.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")) else {
        bail!("/etc/os-release names no release of Debian");
    };
    println!("xtask: there is no QEMU in {}; fetching it from Debian {codename}", home.display());
    // QEMU 7.2, bookworm's own, now and then gets a compare-and-exchange wrong, and the kernel in it falls over.
    let target = if codename == "bookworm" { "bookworm-backports" } else { codename };
    let security = format!("{codename}-security");
    let mut suites = vec![codename, &*security];
    if target != codename {
        suites.push(target);
    }
    let apt = Apt::new(workspace, workspace.root.join("target/vm/apt-qemu"), &suites)?;
    let partial = home.with_file_name("qemu-partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    apt.unpack_with_dependencies(target, &["qemu-system-x86", "busybox-static"], &partial)?;
    fs::rename(&partial, home)
        .with_context(|| format!("cannot rename {} to {}", partial.display(), home.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::{Ended, follow, judge};

    fn followed(lines: &[&str]) -> (Result<i32, String>, Vec<String>) {
        let (send, receive) = channel();
        for line in lines {
            send.send((*line).to_owned()).expect("it is received");
        }
        drop(send);
        let mut told = Vec::new();
        let status = follow(&receive, Duration::from_secs(5), |line| told.push(line.to_owned()));
        (status, told)
    }

    #[test]
    fn the_exit_status_ends_the_output() {
        let (status, told) = followed(&["one", "", "zsock-vm: the job ended with status 3", "late"]);
        assert_eq!((status, told), (Ok(3), vec!["one".to_owned(), String::new()]));
        let (status, told) = followed(&["one, unfinishedzsock-vm: the job ended with status 0"]);
        assert_eq!((status, told), (Ok(0), vec!["one, unfinished".to_owned()]));
    }

    #[test]
    fn a_warning_of_any_kernel_is_a_calamity_and_talk_of_warnings_is_none() {
        let is_calamity = |line: &str| matches!(judge(Ok(0), line), Ended::Badly(_));
        assert!(is_calamity("[  3.1] WARNING: CPU: 1 PID: 77 at net/ipv4/tcp.c:123 tcp_foo+0x1/0x2"));
        assert!(is_calamity("[  3.1] WARNING: net/ipv4/tcp.c:123 at tcp_foo+0x1/0x2, CPU#1: zsock/77"));
        assert!(is_calamity("[  3.1] BUG: kernel NULL pointer dereference, address: 0000000000000000"));
        assert!(!is_calamity("[  0.1] x86/cpu: WARNING: SGX disabled by BIOS"));
    }

    #[test]
    fn the_fault_of_the_kernels_own_iterator_is_none_of_zsocks_and_hides_no_other() {
        let warning =
            "[ 4.1] WARNING: CPU: 1 PID: 7 at lib/refcount.c:25 refcount_warn_saturate+0xe5/0x110\n";
        let iterator = "[ 4.2]  bpf_iter_tcp_established_batch+0x15e/0x180\n";
        let oops = "[ 4.3] Oops: 0000 [#1] SMP\n";
        let judged = |lines: &[&str]| matches!(judge(Ok(0), &lines.concat()), Ended::Badly(_));
        assert!(!judged(&[warning, iterator]));
        assert!(judged(&[warning]), "another's reference");
        assert!(judged(&[warning, iterator, oops]));
    }

    #[test]
    fn a_machine_that_goes_away_or_hangs_ended_badly() {
        assert_eq!(followed(&["one"]).0, Err("it stopped before its job was done".to_owned()));
        let (_send, receive) = channel();
        assert_eq!(follow(&receive, Duration::ZERO, |_| ()), Err("it did not end within 0ns".to_owned()));
    }

    #[test]
    fn a_complaint_of_the_kernel_is_a_failure_whatever_the_job_says() {
        let console = "[ 1.0] booting\n[ 2.0] Oops: 0000 [#1] SMP\n[ 2.1] RIP: 0010:tcp_v4_rcv";
        let Ended::Badly(why) = judge(Ok(0), console) else { panic!("that is no success") };
        assert!(why.starts_with("the kernel says: [ 2.0] Oops: 0000 [#1] SMP;"), "{why}");
        assert!(why.ends_with("RIP: 0010:tcp_v4_rcv"), "{why}");
        assert!(matches!(judge(Ok(7), "[ 1.0] booting"), Ended::WithStatus(7)));
        assert!(matches!(judge(Err("hung".to_owned()), ""), Ended::Badly(why) if why.starts_with("hung;")));
    }
}
