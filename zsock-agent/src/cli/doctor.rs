//! The options of `zsock doctor`.

use clap::{ArgAction, Args};

use super::{Color, Output};

/// What stands below the options in `zsock doctor --help`.
pub(super) const NOTES: &str = "\
Needs:
  nothing. With root, or CAP_BPF and CAP_PERFMON, every hook is attached and taken off
  again at once, and so it is known how; without, the kernel's own types tell at least
  which hooks it does not have. To enter other network namespaces takes CAP_SYS_ADMIN.

Answers:
  yes, no, or could not tell, and because of what. Settings are told where they let
  zombies live, with the command that changes them where that is advisable: doctor
  itself changes nothing.

Examples:
  # What zsock can see on this host
  zsock doctor
  # Which hooks are not attached, and why
  zsock doctor -o json | jq 'select(.type == \"hook\" and .answer != \"yes\")'
  # Which changes of settings are advisable, in all network namespaces
  zsock doctor -o json | jq -r 'select(.change) | \"\\(.netns) \\(.change)\"'

Exit status:
  0  done, whatever the answers
  1  failed: one line `error: …` says what to do next, the lines below it why
  2  wrong usage";

/// The options of `zsock doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// How the answers are written to stdout
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,

    /// When to colour text
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub color: Color,

    /// Say on stderr what zsock itself does; repeat for more
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}
