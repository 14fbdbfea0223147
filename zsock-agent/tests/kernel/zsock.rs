//! A running `zsock trace -o json` and the lines that it writes.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio, id};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use zsock_agent::time::Time;

use crate::cgroup::Cgroup;
use crate::kernel;
use crate::net::{Namespace, Net};
use crate::story::{Line, Recording};
use crate::{await_some, now, patience, unseen};

/// How long anything that zsock does may take before a test gives up on it. No claim: the machine may be slow.
const LIMIT: Duration = Duration::from_secs(30);

/// The same where very many records are waited for.
const CROWD_LIMIT: Duration = Duration::from_mins(4);

/// The zsock that was built with this test or, on a machine that it was brought to, that of `ZSOCK_TEST_PROGRAM`.
pub(crate) fn program() -> PathBuf {
    env::var_os("ZSOCK_TEST_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_zsock").into(), PathBuf::from)
}

/// Cargo's directory for what tests write, or that of `ZSOCK_TEST_DIRECTORY`.
pub(crate) fn directory() -> PathBuf {
    env::var_os("ZSOCK_TEST_DIRECTORY").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from)
}

static LEFT_OUT: AtomicBool = AtomicBool::new(false);

/// From now on, scenarios run without zsock.
pub(crate) fn leave_out() {
    LEFT_OUT.store(true, Ordering::Relaxed);
}

/// Whether this is a dry run.
pub(crate) fn is_left_out() -> bool {
    LEFT_OUT.load(Ordering::Relaxed)
}

/// `zsock trace -o json`, killed with this value; nothing at all in a dry run.
pub(crate) struct Zsock(Option<Running>);

impl Zsock {
    /// Starts it with every event of the sockets in `net`, whatever else goes on on this host.
    pub(crate) fn start_with_all_events(net: &Net) -> Self {
        let [client, server] = [&net.client, &net.server].map(|namespace| namespace.inode().to_string());
        Self::start(&["--events", "all", "--netns", &client, "--netns", &server])
    }

    /// Starts it for the sockets in `net` alone, with these thresholds and whatever else.
    pub(crate) fn start_in(net: &Net, thresholds: &[&str], others: &[&str]) -> Self {
        let namespaces = [&net.client, &net.server].map(|namespace| namespace.inode().to_string());
        let options = namespaces.iter().map(|namespace| ["--netns", namespace]);
        let options = options.chain(thresholds.iter().map(|threshold| ["--threshold", threshold])).flatten();
        Self::start(&options.chain(others.iter().copied()).collect::<Vec<_>>())
    }

    /// Starts it with hooks attached as these options say; the complaint where this kernel refuses that.
    pub(crate) fn start_if_offered(options: &[&str]) -> Result<Self, String> {
        Self::try_start(Command::new(program()), options).inspect_err(|complaint| {
            assert!(complaint.contains("this kernel refuses it"), "zsock said:\n{complaint}");
        })
    }

    /// Starts it and waits for its `start` record.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_by(Command::new(program()), arguments)
    }

    /// The same inside of a control group, which is charged for all that it takes from its first page on.
    pub(crate) fn start_in_group(group: &Cgroup, arguments: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(group.joined_by()).arg(program());
        Self::start_by(shell, arguments)
    }

    /// The same by a command of whoever needs it to be started in a way of its own.
    pub(crate) fn start_by(command: Command, arguments: &[&str]) -> Self {
        let started = Self::try_start(command, arguments);
        started.unwrap_or_else(|said| {
            panic!(
                "zsock did not begin with a start record and said:
{said}"
            )
        })
    }

    fn try_start(command: Command, arguments: &[&str]) -> Result<Self, String> {
        if LEFT_OUT.load(Ordering::Relaxed) {
            return Ok(Self(None));
        }
        let mut running = Running::spawn_by(command, arguments, Stdio::piped());
        let output = running.child.stdout.take().expect("stdout is piped");
        let lines = Arc::clone(&running.lines);
        running.reader = Some(thread::spawn(move || lines.read(output)));
        running.await_start()?;
        Ok(Self(Some(running)))
    }

    /// Waits for a line. Only for what a scenario needs to go on: what was written is judged at the end.
    pub(crate) fn wait_for(&self, what: &str, mut is_it: impl FnMut(&Line) -> bool) {
        let Some(running) = &self.0 else { return };
        let missing = |state: &mut State| !state.ended && !state.lines.iter().any(&mut is_it);
        let waited =
            running.lines.changed.wait_timeout_while(running.lines.state(), patience(LIMIT), missing);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.ended || timeout.timed_out() {
            let told: Vec<String> = state.lines.iter().map(|line| line.record.to_string()).collect();
            panic!("waited in vain for {what} in\n{}", told.join("\n"));
        }
    }

    /// Waits until `is_enough` has seen what it wants, by looking at every line once.
    pub(crate) fn wait_for_all(&self, what: &str, mut is_enough: impl FnMut(&Line) -> bool) {
        let Some(running) = &self.0 else { return };
        let mut looked_at = 0;
        let missing = |state: &mut State| {
            let mut new = state.lines.iter().skip(std::mem::replace(&mut looked_at, state.lines.len()));
            !new.any(&mut is_enough) && !state.ended
        };
        let waited = running.lines.changed.wait_timeout_while(running.lines.state(), CROWD_LIMIT, missing);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        let lost = state.lines.iter().filter(|line| line.text("type") == Some("lost"));
        let lost: Vec<String> = lost.map(|line| line.record.to_string()).collect();
        assert!(
            !timeout.timed_out() && !state.ended,
            "waited in vain for {what} in {} lines; lost:\n{}",
            state.lines.len(),
            lost.join("\n")
        );
    }

    /// Waits until a verdict on the connection with this port at either end is `opened`, or has this outcome.
    pub(crate) fn wait_for_verdict(&self, namespace: &Namespace, port: u16, verdict: &str, end: &str) {
        let port = format!(":{port}");
        self.wait_for(&format!("{verdict} {end}"), |line| {
            let ends = ["socket.local", "socket.remote"].map(|path| line.text(path));
            line.text("verdict") == Some(verdict)
                && (line.text("outcome") == Some(end) || line.text("phase") == Some(end))
                && line.number("socket.netns") == Some(namespace.inode())
                && ends.iter().flatten().any(|address| address.ends_with(&port))
        });
    }

    /// Stops reading what it writes.
    pub(crate) fn pause(&self) {
        self.set_paused(true);
    }

    /// Reads again.
    pub(crate) fn resume(&self) {
        self.set_paused(false);
    }

    fn set_paused(&self, paused: bool) {
        if let Some(running) = &self.0 {
            running.lines.state().paused = paused;
            running.lines.changed.notify_all();
        }
    }

    /// Ends it with SIGINT and returns all that it wrote; `None` in a dry run.
    pub(crate) fn stop(self) -> Option<Recording> {
        self.stop_with(Signal::SIGINT)
    }

    /// The same with another signal.
    pub(crate) fn stop_with(self, signal: Signal) -> Option<Recording> {
        if let Some(running) = &self.0 {
            kill(running.pid(), signal).expect("a child that is not waited for can be signalled");
        }
        self.finish()
    }

    /// Ends it with SIGINT and returns all that it wrote, with what it said on stderr; `None` in a dry run.
    pub(crate) fn stop_and_hear(mut self) -> Option<(Recording, String)> {
        let complaints = self.0.as_mut()?.complaints.take().expect("nobody has taken it");
        let seen = self.stop()?;
        Some((seen, complaints.join().expect("the reader does not panic")))
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub(crate) fn kill(mut self) {
        if let Some(running) = &mut self.0 {
            running.end();
        }
    }

    /// Its process id; `None` in a dry run.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.0.as_ref().map(|running| running.child.id())
    }

    /// Waits until it ends by itself and returns all that it wrote; `None` in a dry run.
    pub(crate) fn finish(self) -> Option<Recording> {
        let mut running = self.0?;
        let status = running.await_exit();
        let reader = running.reader.take().expect("only this takes it");
        reader.join().expect("the reader does not panic");
        assert!(status.success(), "zsock ended with {status} and said:\n{}", running.complaints());
        Some(Recording::new(std::mem::take(&mut running.lines.state().lines)))
    }
}

/// Runs a `zsock trace` that fails, and returns how it ended and what it said; `None` in a dry run.
pub(crate) fn fail_by(command: Command, arguments: &[&str]) -> Option<(ExitStatus, String)> {
    if LEFT_OUT.load(Ordering::Relaxed) {
        return None;
    }
    let mut running = Running::spawn_by(command, arguments, Stdio::null());
    let status = running.await_exit();
    Some((status, running.complaints()))
}

/// Starts `zsock trace -o json`, reads the `start` record, closes the reading end and waits for its exit; `None` in a dry run.
pub(crate) fn exit_after_closed_stdout(arguments: &[&str]) -> Option<(ExitStatus, Duration, String)> {
    if LEFT_OUT.load(Ordering::Relaxed) {
        return None;
    }
    let mut running = Running::spawn(arguments, Stdio::piped());
    let mut output = BufReader::new(running.child.stdout.take().expect("stdout is piped"));
    let mut start = String::new();
    output.read_line(&mut start).expect("a pipe can be read");
    assert_eq!(Line::new(&start, now()).text("type"), Some("start"), "type of {start:?}");
    drop(output);
    let closed = now();
    let status = running.await_exit();
    Some((status, now().since(closed), running.complaints()))
}

/// `zsock trace -o json` that writes to a file: for more lines than are to be kept, or can be read as fast as they come.
pub(crate) struct Filed {
    running: Running,
    file: BufReader<File>,
    path: PathBuf,
    /// The beginning of a line that is not whole yet.
    line: String,
}

impl Filed {
    /// Starts it; `None` in a dry run.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        if LEFT_OUT.load(Ordering::Relaxed) {
            return None;
        }
        let path = directory().join(format!("zt-{}.ndjson", id()));
        let output = File::create(&path).expect("cargo's directory for tests can be written");
        let running = Running::spawn(arguments, Stdio::from(output));
        let file = BufReader::new(File::open(&path).expect("it was just made"));
        Some(Self { running, file, path, line: String::new() })
    }

    /// Hands over each line that was written since the last time.
    pub(crate) fn read(&mut self, mut line: impl FnMut(&str)) {
        while self.file.read_line(&mut self.line).expect("a file can be read") > 0 {
            if self.line.ends_with('\n') {
                line(&self.line);
                self.line.clear();
            }
        }
    }

    /// Ends it with SIGINT and waits until it is gone; what it wrote last is still to be read.
    pub(crate) fn stop(&mut self) {
        kill(self.running.pid(), Signal::SIGINT).expect("a child that is not waited for can be signalled");
        let status = self.running.await_exit();
        assert!(status.success(), "zsock ended with {status} and said:\n{}", self.running.complaints());
    }
}

impl Drop for Filed {
    fn drop(&mut self) {
        // Where it cannot be removed it is in nobody's way.
        let _ = fs::remove_file(&self.path);
    }
}

struct Running {
    child: Child,
    lines: Arc<Lines>,
    reader: Option<JoinHandle<()>>,
    complaints: Option<JoinHandle<String>>,
}

impl Running {
    fn spawn(arguments: &[&str], stdout: Stdio) -> Self {
        Self::spawn_by(Command::new(program()), arguments, stdout)
    }

    fn spawn_by(mut command: Command, arguments: &[&str], stdout: Stdio) -> Self {
        let mut child = command
            .args(["trace", "-o", "json"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .expect("zsock was built with this test");
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let complaints = thread::spawn(move || {
            let mut text = Vec::new();
            // What could be read before an error is all that a failing test can show.
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, lines: Arc::default(), reader: None, complaints: Some(complaints) }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits for the `start` record; what it complained of where it did not begin with one.
    fn await_start(&mut self) -> Result<(), String> {
        let state = self.lines.state();
        let waiting = |state: &mut State| state.lines.is_empty() && !state.ended;
        let (state, _) = self
            .lines
            .changed
            .wait_timeout_while(state, patience(LIMIT), waiting)
            .unwrap_or_else(PoisonError::into_inner);
        let start = state.lines.first().filter(|line| line.text("type") == Some("start"));
        start.into_iter().for_each(kernel::note);
        let has_started = start.is_some();
        drop(state);
        if has_started {
            return Ok(());
        }
        self.end();
        Err(self.complaints())
    }

    fn await_exit(&mut self) -> ExitStatus {
        await_some("zsock to exit", LIMIT, || self.child.try_wait().expect("a child can be waited for"))
    }

    fn complaints(&mut self) -> String {
        self.complaints.take().and_then(|reader| reader.join().ok()).unwrap_or_default()
    }

    fn end(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if thread::panicking() {
            unseen::note(&self.lines.state().lines);
        }
        self.end();
    }
}

/// What was read so far, shared with the thread that reads.
#[derive(Default)]
struct Lines {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<Line>,
    paused: bool,
    ended: bool,
}

impl Lines {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what is written, by a thread that does nothing else: to make lines of JSON of it takes longer than zsock has room for.
    fn read(&self, output: ChildStdout) {
        let (taken, pieces) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || self.take(output, &taken));
            let mut begun = Vec::new();
            for (piece, at) in pieces {
                begun.extend_from_slice(&piece);
                while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = begun.drain(..=end).collect();
                    self.push(Line::new(String::from_utf8_lossy(&line).trim_end(), at));
                }
            }
            // One that a kill has cut.
            if !begun.is_empty() {
                self.push(Line::new(&String::from_utf8_lossy(&begun), now()));
            }
        });
        self.state().ended = true;
        self.changed.notify_all();
    }

    /// Passes on what is written, unless it is paused.
    fn take(&self, mut output: ChildStdout, taken: &mpsc::Sender<(Vec<u8>, Time)>) {
        let mut piece = vec![0; 64 << 10];
        while let Ok(length @ 1..) = output.read(&mut piece) {
            if taken.send((piece[..length].to_vec(), now())).is_err() {
                return;
            }
            let resumed = self.changed.wait_while(self.state(), |state| state.paused);
            drop(resumed.unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn push(&self, line: Line) {
        self.state().lines.push(line);
        self.changed.notify_all();
    }
}
