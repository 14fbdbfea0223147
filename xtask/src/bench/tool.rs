//! A tool that looks on at a load: how it is started, and how what it printed is counted.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Bench;
use super::namespace::Namespace;
use super::process::Process;
use super::seen::{Seen, reason};
use super::table::{DoesNotRun, Measured};

/// In a command: a file that the tool is to write.
pub(crate) const FILE: &str = "FILE";
/// In a command: zsock, as it is released.
const ZSOCK: &str = "zsock";

/// How what a tool saw is counted.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    /// The lines of its stdout that match this.
    Lines(&'static str),
    /// The same of zsock's JSON, whose last record has what it lost.
    Json(&'static str),
    /// The packets that tcpdump says that it captured.
    Packets,
    /// The samples in perf's FILE.
    Samples,
    /// Its stdout is a pipe that nobody reads.
    Unread,
}

/// A tool. A peer is added to a question by one more of these.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) command: &'static [&'static str],
    pub(crate) count: Count,
    /// How often it should tell of each thing that happens: of each end of a connection, of each of its packets.
    /// Absent where it should tell nothing.
    pub(crate) told_of_each: Option<f64>,
}

/// One that runs.
pub(crate) struct Running {
    process: Process,
    count: Count,
    directory: PathBuf,
}

impl Tool {
    /// Starts it and waits until it is at work: until it has been idle for a second.
    ///
    /// # Errors
    /// When it cannot be started; that it ends by itself is no error.
    pub(crate) fn start(&self, bench: &Bench, namespace: &Namespace) -> Result<Measured<Running>> {
        let directory = bench.directory.path();
        let create =
            |name| File::create(directory.join(name)).with_context(|| format!("cannot create {name}"));
        let mut command = self.prepare(bench, namespace);
        command.stdin(Stdio::null()).stderr(create("stderr")?);
        command.stdout(match self.count {
            Count::Unread => Stdio::piped(),
            Count::Lines(_) | Count::Json(_) | Count::Packets | Count::Samples => create("stdout")?.into(),
        });
        let process = Process::start(&mut command)?;
        let mut running = Running { process, count: self.count, directory: directory.to_owned() };
        Ok(running.settle(Duration::from_secs(1))?.map(|()| running))
    }

    /// The command, to be run. zsock runs as on any host; other tools look into the namespace that they are started in.
    pub(crate) fn prepare(&self, bench: &Bench, namespace: &Namespace) -> Command {
        let mut words = self.command.iter();
        let mut command = if words.as_slice().first() == Some(&ZSOCK) {
            words.next();
            Command::new(&bench.zsock)
        } else {
            let mut command = namespace.tool();
            // What it prints is to reach a file as it does for everybody.
            command.env_remove("PYTHONUNBUFFERED").env("ZSOCK_BENCH_MODULES", bench.modules());
            command
        };
        let file = bench.directory.path().join(FILE);
        command.args(words.map(|word| if *word == FILE { file.as_os_str() } else { word.as_ref() }));
        command
    }
}

impl Running {
    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The processor time that it has used so far.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        self.process.cpu()
    }

    /// Waits until it has worked off what is left.
    ///
    /// # Errors
    /// On Ctrl-C.
    pub(crate) fn drain(&mut self) -> Result<Measured<()>> {
        let drained = self.settle(Duration::from_millis(500))?;
        Ok(drained.map_err(|DoesNotRun(why)| DoesNotRun(format!("it ended under the load: {why}"))))
    }

    fn settle(&mut self, quiet: Duration) -> Result<Measured<()>> {
        if self.process.settle(quiet)?.is_none() {
            return Ok(Ok(()));
        }
        let said = fs::read(self.directory.join("stderr")).context("cannot read what it complained of")?;
        Ok(Err(DoesNotRun(reason(&String::from_utf8_lossy(&said)))))
    }

    /// Ends it and counts what it saw.
    ///
    /// # Errors
    /// When that cannot be read.
    pub(crate) fn stop(mut self) -> Result<Seen> {
        self.process.interrupt()?;
        Seen::count(self.count, &self.directory)
    }
}

/// A directory for what tools write, in memory where that is possible, so that no disk slows them; removed with this value.
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// Makes it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn new() -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = parent.join(format!("zsock-bench-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
