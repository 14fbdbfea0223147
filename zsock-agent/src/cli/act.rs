//! What the commands have in common that act on sockets: which ones, how many at most, and whether at all.

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Args};

use super::{Color, Output, SelectorArgs, values};
use crate::detect::Thresholds;
use crate::record::VerdictName;
use crate::time::parse_duration;

/// The verdicts that one look at a socket can give. The others are on a connection that has ended, on what a process did for a while, or
/// not on a socket.
const AT_A_GLANCE: [VerdictName; 9] = [
    VerdictName::ConnectBlackhole,
    VerdictName::StuckRetransmission,
    VerdictName::KeepaliveUnanswered,
    VerdictName::OrphanStuck,
    VerdictName::ZeroWindowStall,
    VerdictName::ReceiverStall,
    VerdictName::CloseWaitLeak,
    VerdictName::UnguardedIdle,
    VerdictName::AcceptQueueFull,
];

/// `--verdict` as it is meant here.
pub(super) fn verdict(argument: Arg) -> Arg {
    argument
        .help("The verdict that the socket's facts give at one look; of several that hold, the severest")
        .value_parser(PossibleValuesParser::new(AT_A_GLANCE.map(VerdictName::name)))
}

/// `--state` as it is meant here.
pub(super) fn state(argument: Arg) -> Arg {
    argument.help("TCP state; sockets in LISTEN, TIME_WAIT and SYN_RECV are left alone unless named here")
}

/// The options of every command that acts on sockets.
#[derive(Clone, Debug, Args)]
pub struct ActArgs {
    /// Do it: without this, what would be done is listed and nothing is
    #[arg(long)]
    pub yes: bool,

    /// The most sockets to act on: where more are selected, nothing is done to any of them
    #[arg(long, value_name = "COUNT", default_value = "100", value_parser = count)]
    pub max: u64,

    /// How records are written to stdout
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,

    /// When to colour text
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub color: Color,

    /// From where on a verdict of --verdict holds, in place of its default, as on `zsock trace`; repeatable
    #[arg(long = "threshold", value_name = "VERDICT=VALUE", value_parser = values::threshold)]
    pub thresholds: Vec<String>,

    /// After how long without a segment something on the path is taken to forget a connection, for `--verdict unguarded_idle`
    #[arg(long, value_name = "DURATION", default_value = "350s", value_parser = parse_duration)]
    pub assume_idle_timeout: Duration,

    /// Say on stderr what zsock itself does; repeat for more
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,

    /// Which sockets.
    #[command(flatten)]
    pub selectors: SelectorArgs,
}

impl ActArgs {
    /// The thresholds in force.
    ///
    /// # Errors
    /// None: what was parsed can be set.
    pub fn thresholds(&self) -> anyhow::Result<Thresholds> {
        Ok(Thresholds::assigned(&self.thresholds, self.assume_idle_timeout)?)
    }

    /// Why these options make no sense together, if they do not.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.selectors.is_empty().then(|| {
            "without a selector this would act on every socket of the host: say which ones, for instance with --comm, --remote or \
             --verdict"
                .to_owned()
        })
    }
}

/// A number of sockets.
fn count(text: &str) -> Result<u64, &'static str> {
    text.parse().ok().filter(|count| *count > 0).ok_or("a number of sockets is a whole number from 1 up")
}
