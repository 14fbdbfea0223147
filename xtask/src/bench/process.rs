//! Processes that end with their value.

use std::fs;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use super::load::now;
use crate::command;

/// A process; killed where nobody waited for its end.
pub(crate) struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let name = command::described(command);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name })
    }

    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its stdin and its stdout.
    ///
    /// # Errors
    /// When it was not started with pipes.
    pub(crate) fn pipes(&mut self) -> Result<(ChildStdin, ChildStdout)> {
        let pipes = self.child.stdin.take().zip(self.child.stdout.take());
        pipes.with_context(|| format!("{} has no pipes", self.name))
    }

    /// Its stdout and its stderr.
    ///
    /// # Errors
    /// When it was not started with pipes.
    pub(crate) fn outputs(&mut self) -> Result<(ChildStdout, ChildStderr)> {
        let pipes = self.child.stdout.take().zip(self.child.stderr.take());
        pipes.with_context(|| format!("{} has no pipes", self.name))
    }

    /// How it ends.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    /// The processor time that it has used so far, of all its threads.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let clock = clock_getcpuclockid(self.pid()?).with_context(|| format!("{} is gone", self.name))?;
        Ok(clock_gettime(clock).with_context(|| format!("{} is gone", self.name))?.into())
    }

    /// Waits until it has wanted little of a processor for so long, but no more than a minute; gives whether it has ended meanwhile.
    ///
    /// # Errors
    /// On Ctrl-C.
    pub(crate) fn settle(&mut self, quiet: Duration) -> Result<Option<ExitStatus>> {
        const LOOK: Duration = Duration::from_millis(50);
        // A pass over 200,000 sockets every second takes a tenth of a processor.
        const LITTLE: u32 = 4;
        let until = now() + Duration::from_mins(1);
        while now() < until {
            let (before, looked_until) = (self.wanted()?, now() + quiet);
            while now() < looked_until {
                super::interrupted()?;
                thread::sleep(LOOK);
                if let Some(status) = self.ended()? {
                    return Ok(Some(status));
                }
            }
            if self.wanted()?.saturating_sub(before) < quiet / LITTLE {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// The processor time that it has used, and the time for which its main thread waited for a processor.
    fn wanted(&self) -> Result<Duration> {
        let delay = fs::read_to_string(format!("/proc/{}/schedstat", self.id()));
        let delay_ns = delay.ok().and_then(|text| text.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
        Ok(self.cpu()? + Duration::from_nanos(delay_ns))
    }

    /// Ends it as Ctrl-C does. Some tools miss the signal while they handle an event, so that it is sent again; one that does
    /// not listen is killed.
    ///
    /// # Errors
    /// When the kernel does not say how it ended.
    pub(crate) fn interrupt(&mut self) -> Result<()> {
        for _ in 0..10 {
            let _ = kill(self.pid()?, Signal::SIGINT);
            let until = now() + Duration::from_secs(1);
            while now() < until {
                if self.ended()?.is_some() {
                    return Ok(());
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id()).context("a process id is not negative")?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
