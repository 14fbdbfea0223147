//! A command of zsock's that answers and ends.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus};

use serde_json::Value;

use crate::net::{Namespace, Net};
use crate::story::Line;
use crate::{now, zsock};

/// Someone without any rights.
const NOBODY: u32 = 65_534;

/// What it wrote and how it ended.
#[derive(Debug)]
pub(crate) struct Once {
    pub(crate) status: ExitStatus,
    /// Its records.
    pub(crate) lines: Vec<Line>,
    /// What it said on stderr.
    pub(crate) said: String,
}

impl Once {
    /// Runs `zsock ARGUMENTS`; `None` in a dry run.
    pub(crate) fn run(arguments: &[&str]) -> Option<Self> {
        Self::of(Command::new(zsock::program()).args(arguments))
    }

    /// The same for the sockets in `net` alone.
    pub(crate) fn run_in(net: &Net, arguments: &[&str]) -> Option<Self> {
        let [client, server] = [&net.client, &net.server].map(|namespace| namespace.inode().to_string());
        Self::run(&[arguments, &["--netns", &client, "--netns", &server]].concat())
    }

    /// Runs it as nobody, inside of `namespace`.
    pub(crate) fn run_as_nobody(namespace: &Namespace, arguments: &[&str]) -> Option<Self> {
        // Nobody else may read the directory that the program was built in.
        let directory = std::env::temp_dir().join(format!("zsock-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a temporary directory can be made");
        let program = directory.join("zsock");
        std::fs::copy(zsock::program(), &program).expect("the program can be copied");
        let run = || Self::of(Command::new(&program).args(arguments).uid(NOBODY).gid(NOBODY));
        let ran = namespace.enter(run);
        std::fs::remove_dir_all(&directory).expect("what was made can be removed");
        ran
    }

    fn of(command: &mut Command) -> Option<Self> {
        if zsock::is_left_out() {
            return None;
        }
        let output = command.output().unwrap_or_else(|error| panic!("run {command:?}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let text = String::from_utf8(output.stdout).expect("stdout is UTF-8");
        let record = |line: &str| {
            let record = serde_json::from_str::<Value>(line);
            record.unwrap_or_else(|error| panic!("{line:?} is no record: {error}"))
        };
        let lines = text.lines().map(|line| Line { record: record(line), arrived: now() }).collect();
        Some(Self { status: output.status, lines, said })
    }

    /// The record of the socket with this port on our side in `namespace`.
    #[track_caller]
    pub(crate) fn of_port(&self, namespace: &Namespace, port: u16) -> &Line {
        self.only(namespace, &format!("the local port {port}"), |line| {
            line.text("socket.local").is_some_and(|local| local.ends_with(&format!(":{port}")))
        })
    }

    /// The only record of a socket in `namespace` for which it `is` so.
    #[track_caller]
    pub(crate) fn only(&self, namespace: &Namespace, what: &str, is: impl Fn(&Line) -> bool) -> &Line {
        let is_there = |line: &&Line| line.number("socket.netns") == Some(namespace.inode()) && is(line);
        let found: Vec<&Line> = self.lines.iter().filter(is_there).collect();
        assert_eq!(found.len(), 1, "sockets with {what} in {self:#?}");
        found[0]
    }
}
