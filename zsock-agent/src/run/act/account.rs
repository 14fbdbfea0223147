//! The account of what was done: a record a socket on stdout, warnings on stderr, and what it comes to at the end.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::cli::{self, ActArgs};
use crate::record::{Action, Actions, Deed, Done, Line};
use crate::run::facts;
use crate::sink::stdout::{self, Stdout};
use crate::sink::{ActionText, Palette, ndjson};
use crate::source::clock::Clock;
use crate::time::{Time, milliseconds};

/// Tells of actions and adds them up.
pub(in crate::run) struct Account {
    host: Arc<str>,
    clock: Clock,
    began_ns: u64,
    /// For a person; otherwise JSON.
    text: Option<ActionText>,
    stdout: Stdout,
    /// Why no more can be told. What is to be done is done all the same.
    unheard: Option<io::Error>,
    actions: Actions,
    /// What the first of the failures said.
    first_error: Option<String>,
}

impl Account {
    /// Nothing to tell yet.
    pub(in crate::run) fn open(deed: Deed, arguments: &ActArgs) -> Result<Self> {
        let stdout = stdout::open().context("open stdout")?;
        let is_coloured = arguments.color.applies(stdout.is_terminal(), |name| std::env::var_os(name));
        let text = match arguments.output {
            cli::Output::Json => None,
            cli::Output::Text => {
                Some(ActionText::new(if is_coloured { Palette::COLOURED } else { Palette::PLAIN }))
            }
        };
        let clock = Clock::start()?;
        Ok(Self {
            host: facts::host(),
            clock,
            began_ns: clock.monotonic_ns(),
            text,
            stdout,
            unheard: None,
            actions: Actions::none(deed),
            first_error: None,
        })
    }

    /// How many sockets it has told of.
    pub(in crate::run) fn selected(&self) -> u64 {
        self.actions.selected
    }

    /// Whether nobody is left to be told.
    pub(in crate::run) fn is_unheard(&self) -> bool {
        self.unheard.is_some()
    }

    /// Tells what became of a socket, now or at the moment at which it was looked at.
    pub(in crate::run) fn tell(&mut self, action: &Action, at: Option<Time>) {
        self.actions.count(action.outcome);
        if action.outcome == Done::Failed && self.first_error.is_none() {
            self.first_error.clone_from(&action.error);
        }
        let at = at.unwrap_or_else(|| self.now());
        let line = match &self.text {
            Some(text) => text.action(action).into_bytes(),
            None => self.json(at, action),
        };
        self.write(&line);
    }

    /// Says on stderr what the actions of a round warn of, each sentence once, and of how many sockets.
    pub(in crate::run) fn warn(actions: &[Action]) {
        for (sentence, sockets) in warnings(actions) {
            let sockets = if sockets == 1 { "1 socket".to_owned() } else { format!("{sockets} sockets") };
            log::warn!("{sockets}: {sentence}");
        }
    }

    /// Tells what it all comes to.
    ///
    /// # Errors
    /// When an action failed, or could not be told of.
    pub(in crate::run) fn close(mut self) -> Result<()> {
        let took = Duration::from_nanos(self.clock.monotonic_ns().saturating_sub(self.began_ns));
        self.actions.duration_ms = milliseconds(took);
        let line = match &self.text {
            Some(text) => text.actions(&self.actions).into_bytes(),
            None => self.json(self.now(), &self.actions),
        };
        self.write(&line);
        if self.actions.failed > 0 {
            let Actions { action, selected, failed, .. } = self.actions;
            let first = self.first_error.unwrap_or_default();
            bail!("{action} failed on {failed} of {selected} sockets; of the first it is said: {first}");
        }
        match self.unheard {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context(stdout::UNWRITTEN),
            Some(_) | None => Ok(()),
        }
    }

    fn now(&self) -> Time {
        self.clock.at(self.clock.monotonic_ns())
    }

    fn json(&self, at: Time, body: &impl Serialize) -> Vec<u8> {
        ndjson::render(&Line::new(at, &self.host, body))
    }

    fn write(&mut self, line: &[u8]) {
        if self.unheard.is_none() {
            self.unheard = self.stdout.write_all(line).err();
        }
    }
}

/// Each warning, and why sockets were left alone, with the number of sockets that it is about.
fn warnings(actions: &[Action]) -> BTreeMap<&str, usize> {
    let mut sentences = BTreeMap::new();
    for action in actions {
        let left_alone = action.error.iter().filter(|_| action.outcome == Done::Skipped);
        for sentence in action.warnings.iter().chain(left_alone) {
            *sentences.entry(sentence.as_str()).or_default() += 1;
        }
    }
    sentences
}
