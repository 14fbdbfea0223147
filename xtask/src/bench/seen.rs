//! What a tool saw, counted in what it left behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::tool::{Count, FILE};

/// What a tool saw.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// How much it told.
    pub(crate) events: u64,
    /// How much it says that it lost; absent where it does not say.
    pub(crate) said_lost: Option<u64>,
}

impl Seen {
    /// Counts in `stdout`, `stderr` and FILE of a directory.
    ///
    /// # Errors
    /// When these are not what the tool should have written.
    pub(crate) fn count(count: Count, directory: &Path) -> Result<Self> {
        let complaints = || {
            let said = fs::read(directory.join("stderr")).context("cannot read what a tool complained of")?;
            Ok::<_, anyhow::Error>(String::from_utf8_lossy(&said).into_owned())
        };
        let stdout = directory.join("stdout");
        Ok(match count {
            Count::Lines(needle) => {
                // bpftrace and zsock say so among their output.
                let within = matching(&["-a", "lost", "-i"], &stdout)?;
                Self {
                    events: lines_with(needle, &stdout)?,
                    said_lost: Some(said_lost(&within) + said_lost(&complaints()?)),
                }
            }
            Count::Json(needle) => {
                let last = crate::command::output(Command::new("tail").args(["-n", "1"]).arg(&stdout))?;
                Self { events: lines_with(needle, &stdout)?, said_lost: lost_events(&last) }
            }
            Count::Packets => {
                let said = complaints()?;
                Self {
                    events: number_before(&said, " packets captured").unwrap_or(0),
                    said_lost: number_before(&said, " packets dropped by kernel"),
                }
            }
            Count::Samples => {
                let mut report = Command::new("perf");
                report.args(["report", "--stats", "-i"]).arg(directory.join(FILE));
                let stats = report.output().context("cannot start perf report")?;
                samples(&String::from_utf8_lossy(&stats.stdout))
            }
            Count::Unread => Self::default(),
        })
    }
}

fn lines_with(needle: &str, file: &Path) -> Result<u64> {
    matching(&["-c", "-a", "-e", needle], file)?.trim().parse().context("grep counts")
}

/// What grep finds; nothing is no error.
fn matching(arguments: &[&str], file: &Path) -> Result<String> {
    let mut grep = Command::new("grep");
    let found = grep.env("LC_ALL", "C").args(arguments).arg(file).output().context("cannot start grep")?;
    Ok(String::from_utf8_lossy(&found.stdout).into_owned())
}

/// The sum of all `Lost 12 events`, `Possibly lost 12 samples`, `lost 12 events on CPU #1`, and of `(12 lost)` at zsock's end.
fn said_lost(text: &str) -> u64 {
    let lower = text.to_lowercase();
    let after = lower.split("lost ").skip(1).filter_map(|rest| rest.split(' ').next());
    let before = lower.split(" lost)").filter_map(|rest| Some(rest.rsplit_once('(')?.1));
    after.chain(before).filter_map(|number| number.parse::<u64>().ok()).sum()
}

/// What the last record of zsock says.
fn lost_events(end: &str) -> Option<u64> {
    serde_json::from_str::<Value>(end).ok()?["lost_events"].as_u64()
}

fn number_before(text: &str, of: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_suffix(of)?.parse().ok())
}

/// What `perf report --stats` says. It counts the records that tell of losses, and not what these say.
fn samples(stats: &str) -> Seen {
    let line = stats.lines().find_map(|line| line.trim_start().strip_prefix("SAMPLE events:"));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    Seen { events: number.unwrap_or(0), said_lost: None }
}

/// Why a tool gave up: the first line that says so, or else the first.
pub(crate) fn reason(complaints: &str) -> String {
    // Python shows lines of its programs, and bpftrace warns of a limit that it could do without.
    let mut lines = complaints.lines().map(str::trim).filter(|line| {
        !line.is_empty() && *line != "exec" && !line.starts_with("raise ") && !line.contains("RLIMIT_MEMLOCK")
    });
    let first = lines.clone().next();
    let telling =
        lines.find(|line| ["rror", "annot", "ailed", "nable", "not "].iter().any(|word| line.contains(word)));
    telling.or(first).unwrap_or("it ended and said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Seen, lost_events, number_before, reason, said_lost, samples};

    #[test]
    fn every_way_to_speak_of_loss_is_understood() {
        let said =
            "Attaching 1 probe...\nLost 17 events\nPossibly lost 4 samples\nlost 20 events on CPU #1\nlost\n";
        assert_eq!(said_lost(said), 41);
        let end = "9 records lost since 11:11: why\nend after 2 s: 100 events (9 lost) of 3 sockets, 0 verdicts (0 still open)\n";
        assert_eq!(said_lost(end), 9);
        assert_eq!(lost_events(r#"{"schema":1,"type":"end","events":9,"lost_events":3}"#), Some(3));
        assert_eq!(lost_events(r#"{"schema":1,"type":"st"#), None);
    }

    #[test]
    fn tcpdump_counts_by_itself() {
        let said = "tcpdump: listening on lo\n1234 packets captured\n1300 packets received by filter\n66 packets dropped by kernel\n";
        assert_eq!(number_before(said, " packets captured"), Some(1234));
        assert_eq!(number_before(said, " packets dropped by kernel"), Some(66));
    }

    #[test]
    fn perf_counts_by_itself() {
        let stats = "\nAggregated stats:\n           TOTAL events:      68813\n      LOST_SAMPLES events:          5\n          SAMPLE events:      68769  (99.9%)\n";
        assert_eq!(samples(stats), Seen { events: 68_769, said_lost: None });
    }

    #[test]
    fn the_reason_is_what_says_that_something_failed() {
        let bpftrace = "exec\nERROR: Unknown error -1: couldn't set RLIMIT_MEMLOCK for bpftrace.\nstdin:1:1-36: ERROR: tracepoint not found\n  ^\n";
        assert_eq!(reason(bpftrace), "stdin:1:1-36: ERROR: tracepoint not found");
        let bcc = "Traceback:\n  File \"a.py\", line 9\n    raise Exception(\"Failed to %s\")\nException: Failed to attach\n";
        assert_eq!(reason(bcc), "Exception: Failed to attach");
        assert_eq!(reason("exec\nchdir: gone\n"), "chdir: gone");
        assert_eq!(reason(""), "it ended and said nothing");
    }
}
