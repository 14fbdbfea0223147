//! What zsock costs, beside what a user would run instead: each question is answered by measurements in turn, as medians over rounds.

mod bulk;
mod churn;
mod compare;
mod crowd;
mod install;
mod load;
mod memory;
mod namespace;
mod pass;
mod process;
mod seen;
mod start;
mod storm;
mod table;
mod tool;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};

pub(crate) use load::Load;
use table::Table;
use tool::Directory;

use crate::workspace::Workspace;

/// What `cargo xtask bench` is asked to do.
#[derive(Args)]
pub(crate) struct Options {
    /// These questions only.
    #[arg(value_name = "QUESTION")]
    questions: Vec<Question>,
    /// How often everything is measured.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// For how long connections are made, or bytes carried.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// How the tables are written to stdout.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
    /// Short for `--output json`.
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables of Markdown.
    Text,
    /// A line for each tool.
    Json,
}

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Question {
    /// What does it cost those who make and close many connections?
    Churn,
    /// What is told when thousands of connections retransmit at once, and what does it cost?
    Storm,
    /// Does it slow a connection that carries much?
    Bulk,
    /// How long until it is at work?
    Start,
    /// How much memory does it take?
    Memory,
    /// What does it cost to look at all sockets again and again?
    Pass,
}

/// What the questions share.
pub(crate) struct Bench {
    zsock: PathBuf,
    rounds: usize,
    seconds: u32,
    modules: Option<PathBuf>,
    directory: Directory,
}

impl Bench {
    /// What to mount at /lib/modules; empty for nothing.
    fn modules(&self) -> PathBuf {
        self.modules.clone().unwrap_or_default()
    }
}

/// Set by Ctrl-C.
static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Builds, installs, measures and prints.
///
/// # Errors
/// When something cannot be built, installed or set up, and on Ctrl-C.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "loads and tools need root; run as root");
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("cannot listen for Ctrl-C")?;
    }
    install::install()?;
    install::run(workspace.cargo().args(["build", "--locked", "--release", "--package=zsock-agent"]))?;
    namespace::remove_those_of_the_dead();
    let directory = Directory::new()?;
    let bench = Bench {
        zsock: workspace.root.join("target/release/zsock"),
        rounds: options.rounds as usize,
        seconds: options.seconds,
        modules: install::modules(directory.path())?,
        directory,
    };
    eprintln!("xtask: {}", install::versions());
    let all = Question::value_variants();
    let questions = if options.questions.is_empty() { all } else { &options.questions };
    let is_json = options.json || options.output == Format::Json;
    for question in questions {
        for table in answer(workspace, &bench, *question)? {
            if is_json {
                println!("{}", table.json());
            } else {
                println!("{}", table.text());
            }
        }
    }
    Ok(())
}

fn answer(workspace: &Workspace, bench: &Bench, question: Question) -> Result<Vec<Table>> {
    Ok(match question {
        Question::Churn => vec![compare::compare(bench, churn::question(bench))?],
        Question::Storm => {
            vec![compare::compare(bench, storm::once())?, compare::compare(bench, storm::in_waves())?]
        }
        Question::Bulk => vec![compare::compare(bench, bulk::question(bench))?],
        Question::Start => vec![start::run(bench)?],
        Question::Memory => vec![memory::run(bench)?],
        Question::Pass => vec![pass::walk(workspace)?, pass::namespaces(bench)?],
    })
}

/// Whether to go on.
///
/// # Errors
/// After Ctrl-C, so that everything on the way out is cleaned up.
fn interrupted() -> Result<()> {
    let is_set = INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed));
    ensure!(!is_set, "interrupted");
    Ok(())
}
