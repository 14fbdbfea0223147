//! A running `zsock record` and the files that it writes.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio, id};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::story::Line;
use crate::zsock::{directory, is_left_out, program};
use crate::{await_some, now};

/// How long anything that zsock does may take before a test gives up on it.
const LIMIT: Duration = Duration::from_secs(30);

/// A directory for recordings, removed at the end.
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// One that does not exist yet.
    pub(crate) fn new(name: &str) -> Self {
        Self(directory().join(format!("zr-{}-{name}", id())))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The segments in it, oldest first.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries.map_while(Result::ok).map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "zst"));
        paths.sort();
        paths
    }

    /// What all segments together take.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments().iter().filter_map(|path| fs::metadata(path).ok()).map(|facts| facts.len()).sum()
    }

    /// Every line of every segment.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.segments().iter().flat_map(|segment| lines_of(segment)).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed is in nobody's way.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The lines of one segment, each of which has to be whole. What its last frame lacks, where it was not finished, is left out.
pub(crate) fn lines_of(segment: &Path) -> Vec<Line> {
    let file = File::open(segment).expect("a segment can be read");
    let mut text = Vec::new();
    let read = zstd::stream::read::Decoder::new(file).expect("zstd starts").read_to_end(&mut text);
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    assert!(read.is_err() || end == text.len(), "{} ends in the midst of a record", segment.display());
    let text = String::from_utf8(text[..end].to_vec()).expect("records are UTF-8");
    text.lines().map(|line| Line::new(line, now())).collect()
}

/// A running `zsock record`.
pub(crate) struct Recorder {
    child: Child,
}

impl Recorder {
    /// Starts it and waits for its first segment; `None` in a dry run.
    pub(crate) fn start(directory: &Directory, arguments: &[&str]) -> Option<Self> {
        Self::start_by(Command::new(program()), directory, arguments)
    }

    /// The same by a command of whoever needs it to be started in a way of its own.
    pub(crate) fn start_by(command: Command, directory: &Directory, arguments: &[&str]) -> Option<Self> {
        let before = directory.segments().len();
        let recorder = Self::spawn(command, directory, arguments)?;
        await_some("the first segment of a recording", LIMIT, || {
            let segments = directory.segments();
            let last = segments.last().filter(|_| segments.len() > before)?;
            fs::metadata(last).ok().filter(|facts| facts.len() > 0)
        });
        Some(recorder)
    }

    fn spawn(mut command: Command, directory: &Directory, arguments: &[&str]) -> Option<Self> {
        if is_left_out() {
            return None;
        }
        command.arg("record").arg(directory.path()).args(arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        Some(Self { child: child.expect("zsock was built with this test") })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends it with SIGTERM; how it ended, and what it said on stderr.
    pub(crate) fn stop(mut self) -> (ExitStatus, String) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, Signal::SIGTERM).expect("a child that is not waited for can be signalled");
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().expect("stderr is piped");
        stderr.read_to_string(&mut said).expect("zsock writes UTF-8");
        (self.child.wait().expect("a child can be waited for"), said)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.kill();
    }
}
