//! A running `zsock trace` and the very bytes that it writes: for what a terminal would be sent, and for how it ends.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{await_some, zsock};

/// How long anything that zsock does may take before a test gives up on it.
const LIMIT: Duration = Duration::from_secs(30);

/// A running `zsock trace`, killed with this value.
pub(crate) struct Bytes {
    child: Child,
    stdout: Collected,
    stderr: Collected,
}

/// What it left.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Bytes {
    /// Starts it and waits until it has told of its start; `None` in a dry run.
    pub(crate) fn start<A: AsRef<OsStr>>(arguments: &[A]) -> Option<Self> {
        let running = Self::spawn(arguments)?;
        running.wait_for("its start", "TCP sockets at the start", "\"type\":\"start\"");
        Some(running)
    }

    /// Starts it; `None` in a dry run.
    pub(crate) fn spawn<A: AsRef<OsStr>>(arguments: &[A]) -> Option<Self> {
        if zsock::is_left_out() {
            return None;
        }
        let mut child = Command::new(zsock::program())
            .arg("trace")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("zsock was built with this test");
        let stdout = Collected::from(child.stdout.take().expect("stdout is piped"));
        let stderr = Collected::from(child.stderr.take().expect("stderr is piped"));
        Some(Self { child, stdout, stderr })
    }

    /// Waits until stdout has one of these, in text or in JSON.
    pub(crate) fn wait_for(&self, what: &str, text: &str, json: &str) {
        await_some(what, LIMIT, || {
            let so_far = self.stdout.so_far();
            [text, json].into_iter().find(|wanted| so_far.contains(*wanted)).map(|_| ())
        });
    }

    /// Waits until SIGTERM is its own business and no longer the end of the process.
    pub(crate) fn wait_until_it_listens(&self) {
        const SIGTERM_BIT: u64 = 1 << (Signal::SIGTERM as u32 - 1);
        await_some("zsock to listen for signals", LIMIT, || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim().to_owned();
            (u64::from_str_radix(&caught, 16).ok()? & SIGTERM_BIT != 0).then_some(())
        });
    }

    /// Sends it these signals, one right after the other, and waits for its end.
    pub(crate) fn stop_with(mut self, signals: &[Signal]) -> Left {
        for signal in signals {
            // By the second one it may be gone.
            let _ = kill(Pid::from_raw(self.child.id().cast_signed()), *signal);
        }
        self.finish()
    }

    /// Waits for its end.
    pub(crate) fn finish(&mut self) -> Left {
        let status =
            await_some("zsock to exit", LIMIT, || self.child.try_wait().expect("a child can be waited for"));
        Left { status, stdout: self.stdout.all(), stderr: self.stderr.all() }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Left {
    /// Checks that it ended in order.
    #[track_caller]
    pub(crate) fn assert_in_order(&self) {
        let said = String::from_utf8_lossy(&self.stderr);
        assert!(self.status.success(), "{} (signal {:?}): {said}", self.status, self.status.signal());
    }
}

/// What comes through a pipe.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Collected {
    fn from(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut piece) {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..length]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn all(&mut self) -> Vec<u8> {
        self.reader.take().map(JoinHandle::join).transpose().expect("the reader does not panic");
        std::mem::take(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
