//! The options of `zsock audit`.

use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{ArgAction, Args, ValueEnum};

use super::{Color, Output, SelectorArgs, values};
use crate::audit::{Grouping, Sort};
use crate::record::Noticed;
use crate::time::parse_duration;

pub(super) const NOTES: &str = "\
Needs:
  nothing: without privileges fewer sockets have an owner, and what the kernel does
  not tell of their settings and timers is said. As root, or with CAP_BPF and
  CAP_PERFMON, every fact of every socket is told; CAP_SYS_ADMIN lets zsock into
  other network namespaces, CAP_SYS_PTRACE into other users' processes.

What is counted:
  A connection whose peer dies without a word, as by a crash, a pulled cable or a
  forgotten NAT mapping, is noticed when one of the kernel's timers gives it up.
  `never` has no timer that would, `hours` waits for keepalive by the kernel's
  defaults (2 h 11 min), `minutes` for retransmissions (about 15 min). Listeners and
  connections that are closed have no peer to lose. On loopback the kernel tells one
  end of the other's death, so such connections come after others; --fail-on counts
  them all the same: select with --remote to leave them out.

JSON:
  One `socket` record a socket as it is found, in no order, then one `summary`.
  With --sort or --limit the sockets are kept until the end and written in order.

Examples:
  # What would hang here, and for how long
  zsock audit
  # Every connection of one service, the longest idle first
  zsock audit --comm api --all --sort idle
  # Fleet sweep: status 1 where a connection of the service would hang for ever
  zsock audit --fail-on never --comm api
  # The same for connections to the databases, for hours or longer
  zsock audit --fail-on hours --remote 10.0.0.0/8:5432 --limit 0
  # For a pipeline: settings of each socket
  zsock audit -o json | jq 'select(.type == \"socket\") | [.socket.remote, .tcp.keepalive]'

Exit status:
  0  done, or nobody reads stdout any more
  1  failed, or a selected connection is as bad as --fail-on says: one line `error: …`
     says which or what to do next, the lines below it why
  2  wrong usage";

/// The options of `zsock audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// How records are written to stdout
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,

    /// When to colour text
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub color: Color,

    /// List every socket, not only the connections that are worst off
    ///
    /// List every socket, listeners and closed ones too, not only the connections that are worst off. JSON has every socket anyway.
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,

    /// List so many sockets and groups [default: 20 sockets, 10 groups]
    ///
    /// List so many sockets and groups of connections; 0 for the sums alone. With `-o json` too. [default: 20 sockets and 10 groups; every
    /// socket with -o json]
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<usize>,

    /// What connections are counted together by
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Grouping::Both)]
    pub group: Grouping,

    /// In which order sockets are listed [default: harm]
    #[arg(long, value_enum, value_name = "ORDER")]
    pub sort: Option<Sort>,

    /// Exit with status 1 where a death would go unnoticed for so long by a selected connection
    #[arg(long, value_enum, value_name = "HOW-LONG")]
    pub fail_on: Option<Noticed>,

    /// When a verdict is given, in place of its default: a count, a duration or a percentage; repeatable
    ///
    /// When a verdict is given, in place of its default, as in `zsock trace`. An audit sees each socket once, so it gives those verdicts that
    /// the facts of one moment suffice for.
    #[arg(long = "threshold", value_name = "VERDICT=VALUE", value_parser = values::threshold)]
    pub thresholds: Vec<String>,

    /// After how long without a segment something on the path is taken to forget a connection
    ///
    /// After how long without a segment something on the path is taken to forget a connection: what `unguarded_idle` and the advice go by.
    #[arg(long, value_name = "DURATION", default_value = "350s", value_parser = parse_duration)]
    pub assume_idle_timeout: Duration,

    /// Say on stderr what zsock itself does; repeat for more
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,

    /// Which sockets.
    #[command(flatten)]
    pub selectors: SelectorArgs,
}

impl ValueEnum for Noticed {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Never => "Its death would never be noticed",
            Self::Hours => "Only after an hour or more",
            Self::Minutes => "Only after a minute or more",
            Self::Seconds => "It has a peer whose death could go unnoticed at all",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}
