//! The command line of `zsock record`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{FollowArgs, values};
use crate::recording::segments::Bounds;
use crate::time::parse_duration;

pub(super) const NOTES: &str = "\
Keeps what `zsock trace -o json` would print, in files of DIR: NDJSON in zstd frames, one closed
at least every second, so that a kill -9 or a power cut costs that second at most. Each file, or
segment, is called after its beginning and begins with the `start` record; the oldest go when
there are too many of them. A tick every ten seconds says that zsock was there. By default only
connections that showed trouble are kept, each from its birth: --events all keeps every one.

A disk that is full, a directory that is removed or read-only: zsock says so, counts what it
cannot write, and goes on when it can again. What it watches is never held up.

Reading:
  zsock report DIR
  zstdcat DIR/*.zst | jq 'select(.type == \"verdict\")'

Needs:
  what `zsock trace` needs, and a directory to write to. packaging/zsock-record.service is a
  unit for systemd.

Examples:
  # Leave it on for weeks: 256 MiB at most
  zsock record /var/lib/zsock
  # Two days of everything on port 5432
  zsock record /var/lib/zsock --events all --port 5432 --max-age 48h --max-size 4GiB

Exit status:
  0  done: ended by --duration, SIGINT, SIGTERM or SIGHUP
  1  failed: one line `error: …` says what to do next, the lines below it why;
     also where records were lost to the end because they could not be written
  2  wrong usage";

/// The options of `zsock record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// Directory of the recording; made where it is missing
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,

    /// The most that all files together may take: the oldest go
    #[arg(long = "max-size", value_name = "SIZE", default_value = "256MiB", value_parser = values::recording_bytes)]
    pub max_size_bytes: u64,

    /// Remove files once all in them is older than this [default: only --max-size counts]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub max_age: Option<Duration>,

    /// What is followed, and how.
    #[command(flatten)]
    pub follow: FollowArgs,
}

impl RecordArgs {
    /// How much is kept.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds { size_bytes: self.max_size_bytes, age: self.max_age }
    }
}
