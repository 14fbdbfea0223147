//! The command line: every option with its help, and the checks that need nothing but the text itself.
//!
//! Does no I/O except where a path has to be resolved ([`SelectorArgs::resolve`]).

use std::ffi::OsString;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser as _};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::record::{State, VerdictName};
use crate::select::{CgroupPath, Endpoint, NetnsArg, Selectors, parse_port};

mod act;
mod audit;
mod doctor;
mod follow;
mod keepalive;
mod kill;
mod record;
mod report;
mod usage;
mod values;

pub use act::ActArgs;
pub use audit::AuditArgs;
pub use doctor::DoctorArgs;
pub use follow::FollowArgs;
pub use keepalive::{KeepaliveArgs, UserTimeout};
pub use kill::KillArgs;
pub use record::RecordArgs;
pub use report::{ReportArgs, ReportOutput};
pub use usage::{explain, parse, parse_from};
pub use values::{buffer_size_bytes, comm};

const EXIT_STATUS: &str = "\
Exit status:
  0  done: ended by --duration, SIGINT, SIGTERM, SIGHUP or a closed stdout
  1  failed: one line `error: …` says what to do next, the lines below it why
  2  wrong usage";

const TRACE_NOTES: &str = "\
Needs:
  root, or CAP_BPF and CAP_PERFMON. With these two alone zsock follows events and
  looks at the sockets of its own network namespace; to look into the others takes
  CAP_SYS_ADMIN. CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH show what other users'
  threads wait for and whom their processes are connected with; the first also
  finds network namespaces that are mounted nowhere. What is missing is said at
  the start. Once it runs, zsock gives up what it needs no more: see `-v`.

Selecting:
  Every selector may be given more than once. Values of one kind widen the
  selection, each further kind narrows it: `--comm nginx --comm envoy --port 443`
  means port 443 of nginx or envoy. A socket whose fact is not known (no owner,
  no control group) is not selected by a selector of that kind. Verdicts on
  processes are selected by --pid, --comm and --cgroup, those on destinations by
  --remote and --port; with any other kind of selector they are left out.

Examples:
  # Sockets in trouble, and verdicts on them
  zsock trace
  # Only connections that died without a word
  zsock trace --events none --verdict silent_death
  # All that happens on port 5432, for a pipeline
  zsock trace --events all --port 5432 -o json
  # One service's connections to its databases; IPv6 in brackets before a port
  zsock trace --comm api --remote 10.0.0.0/8:5432 --remote '[2001:db8::]/32:5432'
  # Five minutes, with more patience
  zsock trace --duration 5m --threshold stuck_retransmission=6
  # Which connections leak, and which would die unnoticed behind an Azure load balancer
  zsock trace --verdict close_wait_leak --verdict unguarded_idle --assume-idle-timeout 4m

";

const LOCAL_HELP: &str = "\
Our end: 10.0.0.1, 10.0.0.0/8, 10.0.0.0/8:443, 2001:db8::/32, [2001:db8::1]:443 or :443";

/// Finds zombie sockets: which TCP connection is dead or stuck, since when, why and whose it is.
#[derive(Debug, Parser)]
#[command(name = "zsock", version, after_help = EXIT_STATUS)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow live sockets: events and verdicts as they happen
    #[command(
        after_help = "Needs root, or CAP_BPF and CAP_PERFMON; `--help` has more on each option, and examples.",
        after_long_help = format!("{TRACE_NOTES}{EXIT_STATUS}"),
    )]
    Trace(TraceArgs),
    /// Keep what happens for later, in a directory that stays within bounds: the flight recorder
    #[command(
        after_help = "Needs what `zsock trace` needs; `--help` has more on each option, how to read it, and examples.",
        after_long_help = record::NOTES,
        mut_arg("events", |events| events.help("Which socket events to keep beside the verdicts")),
        mut_arg("verdicts", |verdicts| verdicts.help("Keep these verdicts only; events are not affected (see --events)")),
    )]
    Record(RecordArgs),
    /// Look once at every TCP socket: how long would the death of its peer go unnoticed?
    #[command(
        after_help = "`--help` has more on each option, what is needed and counted, and examples.",
        after_long_help = audit::NOTES,
        mut_arg("states", |states| states.help("TCP state")),
        mut_arg("verdicts", |verdicts| verdicts.help("Verdict that the facts of this moment give")),
    )]
    Audit(AuditArgs),
    /// Examine this host: which hooks its kernel offers, and which settings let zombies live
    #[command(
        after_help = "Needs nothing; with root it can tell more. `--help` has more, and examples.",
        after_long_help = doctor::NOTES,
    )]
    Doctor(DoctorArgs),

    /// Set keepalive and user timeout on sockets of running processes, so that the death of a peer is noticed
    #[command(
        override_usage = "zsock keepalive <SELECTOR>... <SETTING>... [OPTIONS]",
        after_help = "Needs root; `--help` has more on each option, the traps, and examples.",
        after_long_help = format!("{}{EXIT_STATUS}", keepalive::NOTES),
        mut_arg("verdicts", act::verdict),
        mut_arg("states", act::state),
    )]
    Keepalive(KeepaliveArgs),

    /// Destroy sockets
    #[command(
        override_usage = "zsock kill <SELECTOR>... [OPTIONS]",
        after_help = "Needs root; `--help` has more on what it does, and examples.",
        after_long_help = format!("{}{EXIT_STATUS}", kill::NOTES),
        mut_arg("verdicts", act::verdict),
        mut_arg("states", act::state),
    )]
    Kill(KillArgs),

    /// Tell from recordings what happened: incidents, timelines, advice
    #[command(
        after_help = "Needs nothing; `--help` has more on each option, what is shown, and examples.",
        after_long_help = report::NOTES,
        mut_arg("verdicts", |verdicts| verdicts.help("Show these verdicts only")),
        mut_arg("states", |states| states.help("TCP state when the verdict was given")),
    )]
    Report(ReportArgs),
}

/// The options of `zsock trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// How records are written to stdout
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,

    /// When to colour text
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub color: Color,

    /// What is followed, and how.
    #[command(flatten)]
    pub follow: FollowArgs,
}

/// Which socket events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Events {
    /// A socket appears with its first sign of trouble, and then with its history from birth
    Trouble,
    /// Every socket, as it happens
    All,
    /// No events, verdicts only
    None,
}

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For a person
    Text,
    /// One JSON object a line (NDJSON), schema 1
    Json,
}

/// When text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set or TERM is `dumb`
    Auto,
    /// Everywhere, whatever `NO_COLOR` says
    Always,
    /// Nowhere
    Never,
}

impl Color {
    /// Whether text written to stdout is to be coloured. `terminal` says whether stdout is one, `variable` looks up
    /// the environment.
    #[must_use]
    pub fn applies(self, terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let refused = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
                terminal && !refused && variable("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}

/// Which sockets a command is about, the same on every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Selectors")]
pub struct SelectorArgs {
    /// Process id of the owner
    #[arg(long = "pid", value_name = "PID", value_parser = values::pid)]
    pub pids: Vec<u32>,

    /// Name of the owner's process, whole, as in /proc/PID/comm: at most 15 bytes
    #[arg(long = "comm", value_name = "NAME", value_parser = comm)]
    pub comms: Vec<String>,

    /// Port of either end, 1 to 65535
    #[arg(long = "port", value_name = "PORT", value_parser = parse_port)]
    pub ports: Vec<u16>,

    /// Our end.
    #[arg(long, value_name = "ADDR[/LEN][:PORT]", help = LOCAL_HELP)]
    pub local: Vec<Endpoint>,

    /// The peer's end, written like --local
    #[arg(long, value_name = "ADDR[/LEN][:PORT]")]
    pub remote: Vec<Endpoint>,

    /// Network namespace: a path such as /run/netns/blue or /proc/PID/ns/net, or its inode number
    #[arg(long, value_name = "PATH|INODE", value_parser = OsStringValueParser::new().try_map(NetnsArg::parse))]
    pub netns: Vec<NetnsArg>,

    /// Control group of the owner and all below it, as in /proc/PID/cgroup: /system.slice
    #[arg(long = "cgroup", value_name = "PATH")]
    pub cgroups: Vec<CgroupPath>,

    /// TCP state; of a state change, either side
    #[arg(long = "state", value_name = "STATE", ignore_case = true,
          value_parser = PossibleValuesParser::new(State::names()))]
    pub states: Vec<String>,

    /// Print these verdicts only; events are not affected (see --events)
    #[arg(long = "verdict", value_name = "VERDICT",
          value_parser = PossibleValuesParser::new(VerdictName::ALL.iter().map(|verdict| verdict.name())))]
    pub verdicts: Vec<String>,
}

impl SelectorArgs {
    /// Whether there is none, so that everything would be selected.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let Self { pids, comms, ports, local, remote, netns, cgroups, states, verdicts } = self;
        pids.is_empty()
            && comms.is_empty()
            && ports.is_empty()
            && local.is_empty()
            && remote.is_empty()
            && netns.is_empty()
            && cgroups.is_empty()
            && states.is_empty()
            && verdicts.is_empty()
    }

    /// The selectors, with paths of network namespaces resolved to their inode numbers.
    ///
    /// # Errors
    /// A path that cannot be looked up or is no namespace.
    pub fn resolve(self) -> anyhow::Result<Selectors> {
        Ok(Selectors {
            pids: self.pids,
            comms: self.comms,
            ports: self.ports,
            local: self.local,
            remote: self.remote,
            netns: self.netns.iter().map(NetnsArg::inode).collect::<anyhow::Result<_>>()?,
            cgroups: self.cgroups,
            // clap let known names through only.
            states: self.states.iter().filter_map(|name| State::from_name(name)).collect(),
            verdicts: self.verdicts.iter().filter_map(|name| VerdictName::from_name(name)).collect(),
        })
    }
}

/// The options of a command that take a value, such as `--port`.
#[must_use]
pub fn options_with_values(command: &str) -> Vec<String> {
    let cli = Cli::command();
    let arguments = cli.find_subcommand(command).into_iter().flat_map(clap::Command::get_arguments);
    let with_values = arguments.filter(|argument| argument.get_action().takes_values());
    with_values.filter_map(|argument| Some(format!("--{}", argument.get_long()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_help() {
        Cli::command()
            .mut_subcommands(|command| command.help_expected(true))
            .help_expected(true)
            .debug_assert();
    }

    #[test]
    fn colour_is_for_terminals_and_no_color_is_honoured() {
        let nothing = |_: &str| None;
        let no_color = |name: &str| (name == "NO_COLOR").then(|| OsString::from("1"));
        let empty = |name: &str| (name == "NO_COLOR").then(OsString::new);
        let dumb = |name: &str| (name == "TERM").then(|| OsString::from("dumb"));
        assert!(Color::Auto.applies(true, nothing));
        assert!(!Color::Auto.applies(false, nothing));
        assert!(!Color::Auto.applies(true, no_color));
        assert!(Color::Auto.applies(true, empty));
        assert!(!Color::Auto.applies(true, dumb));
        assert!(Color::Always.applies(false, no_color));
        assert!(!Color::Never.applies(true, nothing));
    }

    #[test]
    fn selectors_become_settings() {
        let cli = Cli::try_parse_from([
            "zsock",
            "trace",
            "--pid",
            "7",
            "--pid",
            "8",
            "--comm",
            "nginx",
            "--port",
            "443",
            "--local",
            ":80",
            "--remote",
            "10.0.0.0/8:5432",
            "--netns",
            "4026531840",
            "--cgroup",
            "/system.slice/",
            "--state",
            "close_wait",
            "--verdict",
            "silent_death",
        ]);
        let Command::Trace(arguments) = cli.unwrap().command else { panic!("it is a trace") };
        let expected = Selectors {
            pids: vec![7, 8],
            comms: vec!["nginx".to_owned()],
            ports: vec![443],
            local: vec![":80".parse().unwrap()],
            remote: vec!["10.0.0.0/8:5432".parse().unwrap()],
            netns: vec![4_026_531_840],
            cgroups: vec!["/system.slice".parse().unwrap()],
            states: vec![State::CLOSE_WAIT],
            verdicts: vec![VerdictName::SilentDeath],
        };
        assert_eq!(arguments.follow.selectors.resolve().unwrap(), expected);
    }
}
