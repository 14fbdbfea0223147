//! What the tools look on at: processes of their own, so that nothing they use is counted to a tool.
//!
//! Each says `ready`, begins when it is told to, says `done`, and tells in numbers what it did when it is asked.

mod bulk;
mod churn;
mod crowd;
mod storm;

use std::env;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use super::namespace::Namespace;
use super::process::Process;

pub(crate) use churn::ADDRESSES as CHURN_ADDRESSES;

/// One of the loads.
#[derive(Subcommand)]
pub(crate) enum Load {
    /// Connections that are made and closed as fast as it goes; says how many, and in how many seconds.
    Churn { seconds: f64 },
    /// Connections that write when nothing gets through any more, or does not for a moment, again and again; says how many segments were
    /// sent again, and how many a second at the worst.
    Storm {
        server: PathBuf,
        connections: usize,
        seconds: f64,
        #[arg(long)]
        in_waves: bool,
    },
    /// One connection that sends as much as it goes; says how many bytes, and in how many seconds.
    Bulk { seconds: f64 },
    /// Idle connections to an address of their own until stdin ends.
    Crowd { which: u8, connections: usize },
}

impl Load {
    /// Does it, as the process of its own.
    pub(crate) fn run(&self) -> Result<()> {
        set_pdeathsig(Signal::SIGKILL).context("cannot ask to end with the parent")?;
        match self {
            Self::Churn { seconds } => churn::run(Duration::from_secs_f64(*seconds)),
            Self::Storm { server, connections, seconds, in_waves } => {
                storm::run(server, *connections, Duration::from_secs_f64(*seconds), *in_waves)
            }
            Self::Bulk { seconds } => bulk::run(Duration::from_secs_f64(*seconds)),
            Self::Crowd { which, connections } => crowd::run(*which, *connections),
        }
    }
}

/// A load in a namespace, ready to begin.
pub(crate) struct Ready {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    _process: Process,
}

impl Ready {
    /// Starts the load that the words of a command line describe.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(crate) fn start(namespace: &Namespace, words: &[&str]) -> Result<Self> {
        let program = env::current_exe().context("cannot find this program")?;
        let mut command = namespace.command();
        command.arg(program).arg("load").args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command)?;
        let (stdin, stdout) = process.pipes()?;
        let mut ready = Self { stdin, stdout: BufReader::new(stdout), _process: process };
        let said = ready.line()?;
        ensure!(said == "ready", "the load {} said {said:?} instead of being ready", words.join(" "));
        Ok(ready)
    }

    /// Has it do its work, and waits for the end of that.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) fn go(&mut self) -> Result<()> {
        self.ask("go").and_then(|said| {
            ensure!(said == "done", "the load said {said:?} instead of being done");
            Ok(())
        })
    }

    /// What it has done until now, in numbers.
    ///
    /// # Errors
    /// When it went away.
    pub(crate) fn numbers(&mut self) -> Result<Vec<f64>> {
        let said = self.ask("how much")?;
        let numbers = said.split(' ').map(str::parse).collect::<Result<_, _>>();
        numbers.with_context(|| format!("the load said {said:?} instead of numbers"))
    }

    fn ask(&mut self, question: &str) -> Result<String> {
        writeln!(self.stdin, "{question}").context("the load went away")?;
        self.line()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).context("cannot read from the load")?;
        Ok(line.trim().to_owned())
    }
}

/// Says how far it is, and waits for the word to go on.
fn say_and_wait(what: &str) -> Result<()> {
    println!("{what}");
    io::stdin().read_line(&mut String::new()).context("cannot read from stdin")?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "how long something takes is what is measured")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
