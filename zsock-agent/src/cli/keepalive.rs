//! The command line of `zsock keepalive`.

use std::time::Duration;

use clap::{ArgGroup, Args};

use super::ActArgs;
use crate::keepalive::Asked;
use crate::time::parse_duration;

pub(super) const NOTES: &str = "\
Sets the options on sockets that are open in running processes, through a copy of
their descriptor (pidfd_getfd); the processes are neither stopped nor told. Only what
is named is set. --idle, --interval and --probes turn keepalive on; one that is not
named keeps its value. The first probe is sent once the peer has been silent for
--idle, at once where it has been already. What the kernel then says of the socket is
read back and told.

Traps, of each of which a warning tells where it applies:
  A user timeout makes the number of probes void: the connection ends at the first
  probe that is due once the peer has been silent for that long. It also ends
  a connection whose peer answers but keeps its window closed for that long.
  While data is in flight there are no probes: retransmissions end the connection,
  by the kernel's defaults after 15 minutes, or by the user timeout.

A socket that no process holds cannot be set: an orphan, or one that waits to be
accepted. zsock's own sockets are never touched, and those in LISTEN (whose options
connections inherit that they accept) only where --state names them.

Needs:
  root, or CAP_SYS_PTRACE for other users' processes, and to find the sockets what
  `zsock audit` needs; Linux 5.6 or later.

Examples:
  # What would be set
  zsock keepalive --comm redis-cli --idle 60s --interval 10s --probes 6
  # Each connection of a service to its database, those to come as well
  zsock keepalive --comm api --remote :5432 --idle 60s --interval 10s --probes 6 --yes --follow
  # Connections that nothing guards: a dead peer is noticed after two minutes
  zsock keepalive --verdict unguarded_idle --idle 60s --interval 10s --probes 6 --yes
  # Keepalive off, and no user timeout
  zsock keepalive --comm api --off --user-timeout off --yes

";

/// The longest that `TCP_KEEPIDLE` and `TCP_KEEPINTVL` take (`MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL`).
const MAX_SECONDS: u64 = 32_767;

/// The options of `zsock keepalive`.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("settings").required(true).multiple(true)
    .args(["idle", "interval", "probes", "user_timeout", "off"]))]
pub struct KeepaliveArgs {
    /// Silence of the peer before the first probe (`TCP_KEEPIDLE`), whole seconds from 1s to 32767s; turns keepalive on
    #[arg(long, value_name = "DURATION", value_parser = whole_seconds)]
    pub idle: Option<Duration>,

    /// Time between probes (`TCP_KEEPINTVL`), whole seconds from 1s to 32767s; turns keepalive on
    #[arg(long, value_name = "DURATION", value_parser = whole_seconds)]
    pub interval: Option<Duration>,

    /// Unanswered probes before the connection is given up (`TCP_KEEPCNT`), 1 to 127; turns keepalive on
    #[arg(long, value_name = "COUNT", value_parser = probes)]
    pub probes: Option<u32>,

    /// How long what is sent may stay unacknowledged (`TCP_USER_TIMEOUT`), 1ms to 24 days, or `off`
    #[arg(long, value_name = "DURATION|off", value_parser = user_timeout)]
    pub user_timeout: Option<UserTimeout>,

    /// Turn keepalive off (`SO_KEEPALIVE`)
    #[arg(long, conflicts_with_all = ["idle", "interval", "probes"])]
    pub off: bool,

    /// With --yes: go on until interrupted, and set sockets that come later as well, each once, and at most --max in all
    #[arg(long)]
    pub follow: bool,

    /// With --follow: end after this long, such as 30s, 5m or 2h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "follow")]
    pub duration: Option<Duration>,

    /// Which sockets, and whether at all.
    #[command(flatten)]
    pub act: ActArgs,
}

/// A user timeout as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserTimeout {
    /// None.
    Off,
    /// So many milliseconds.
    Ms(u32),
}

impl KeepaliveArgs {
    /// What is to be set.
    #[must_use]
    pub fn asked(&self) -> Asked {
        let turns_on = self.idle.is_some() || self.interval.is_some() || self.probes.is_some();
        Asked {
            enabled: if self.off { Some(false) } else { turns_on.then_some(true) },
            idle: self.idle,
            interval: self.interval,
            probes: self.probes,
            user_timeout_ms: self.user_timeout.map(|timeout| match timeout {
                UserTimeout::Off => 0,
                UserTimeout::Ms(ms) => ms,
            }),
        }
    }
}

/// A duration that the kernel keeps as it is given.
fn whole_seconds(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration.subsec_nanos() != 0 || duration.as_secs() > MAX_SECONDS {
        return Err("the kernel takes whole seconds from 1s to 32767s (9 h 6 min 7 s)".to_owned());
    }
    Ok(duration)
}

fn probes(text: &str) -> Result<u32, &'static str> {
    let probes = text.parse().ok().filter(|probes| (1..=127).contains(probes));
    probes.ok_or("the kernel takes a number of probes from 1 to 127")
}

fn user_timeout(text: &str) -> Result<UserTimeout, String> {
    if text == "off" {
        return Ok(UserTimeout::Off);
    }
    let duration = parse_duration(text).map_err(|rule| format!("{rule}; `off` takes it away"))?;
    let ms = i32::try_from(duration.as_millis()).ok().filter(|_| duration.subsec_nanos() % 1_000_000 == 0);
    // Zero is no duration, so this is at least 1.
    ms.map(|ms| UserTimeout::Ms(ms.unsigned_abs())).ok_or_else(|| {
        "the kernel takes whole milliseconds from 1ms to 2147483647ms (24 days 20 h)".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn asked(arguments: &str) -> Asked {
        let arguments = ["zsock", "keepalive", "--pid", "1"].into_iter().chain(arguments.split_whitespace());
        let Command::Keepalive(keepalive) = Cli::try_parse_from(arguments).unwrap().command else {
            panic!("another command")
        };
        keepalive.asked()
    }

    #[test]
    fn only_what_is_named_is_asked_for() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let nothing = Asked::default();
        assert_eq!(
            asked("--idle 60s --interval 10s --probes 6 --user-timeout 30s"),
            Asked {
                enabled: Some(true),
                idle: seconds(60),
                interval: seconds(10),
                probes: Some(6),
                user_timeout_ms: Some(30_000)
            }
        );
        assert_eq!(asked("--probes 127"), Asked { enabled: Some(true), probes: Some(127), ..nothing });
        assert_eq!(asked("--idle 32767s"), Asked { enabled: Some(true), idle: seconds(32_767), ..nothing });
        assert_eq!(asked("--user-timeout 1ms"), Asked { user_timeout_ms: Some(1), ..nothing });
        assert_eq!(
            asked("--off --user-timeout off"),
            Asked { enabled: Some(false), user_timeout_ms: Some(0), ..nothing }
        );
    }

    #[test]
    fn what_the_kernel_would_round_or_refuse_is_refused() {
        for text in ["500ms", "1500ms", "32768s", "10h"] {
            assert!(whole_seconds(text).unwrap_err().contains("whole seconds"), "{text}");
        }
        for text in ["0.5ms", "1500us", "2147483648ms", "25d"] {
            assert!(user_timeout(text).is_err(), "{text}");
        }
        assert_eq!(user_timeout("2147483647ms"), Ok(UserTimeout::Ms(2_147_483_647)));
    }
}
