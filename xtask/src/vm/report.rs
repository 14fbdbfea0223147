//! What the end-to-end tests came to in each machine: read line by line, shown as one table, kept in the README.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::tally::Tally;

const BEGIN: &str = "<!-- cargo xtask vm --bless: begin -->\n";
const END: &str = "<!-- cargo xtask vm --bless: end -->\n";

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    /// The kernel or the machine lacks something, and the test says what.
    Cannot(String),
}

/// All tests on one kernel.
#[derive(Debug)]
pub(crate) struct Run {
    /// As in the table's head: `6.12`.
    pub(crate) series: String,
    pub(crate) version: String,
    pub(crate) outcomes: BTreeMap<String, Outcome>,
    /// What went wrong beside the tests: the kernel fell over, say.
    pub(crate) trouble: Option<String>,
}

impl Run {
    /// Takes one line that the test program wrote.
    pub(crate) fn line(&mut self, line: &str) {
        self.outcomes.extend(result(line));
    }

    pub(crate) fn tally(&self) -> Tally {
        let count = |wanted: fn(&Outcome) -> bool| {
            u64::try_from(self.outcomes.values().filter(|outcome| wanted(outcome)).count())
                .unwrap_or(u64::MAX)
        };
        Tally {
            passed: count(|outcome| *outcome == Outcome::Passed),
            failed: count(|outcome| *outcome == Outcome::Failed) + u64::from(self.trouble.is_some()),
            skipped: count(|outcome| matches!(outcome, Outcome::Cannot(_))),
        }
    }
}

/// The name and outcome in a line such as `RESULT nat::a_gateway: passed` or `SKIPPED nat::a_gateway: needs this`. What another thread
/// was about to write may stand before it.
fn result(line: &str) -> Option<(String, Outcome)> {
    let of = |word: &str| line.split_once(word)?.1.split_once(": ");
    if let Some((name, reason)) = of("SKIPPED ") {
        return Some((name.to_owned(), Outcome::Cannot(reason.trim_end().to_owned())));
    }
    let (name, outcome) = of("RESULT ")?;
    let outcome = match outcome.trim_end() {
        "passed" => Outcome::Passed,
        "FAILED" => Outcome::Failed,
        _ => return None,
    };
    Some((name.to_owned(), outcome))
}

/// A table of test against kernel, and what each kernel cannot do.
///
/// With `grouped`, a row is all the tests whose names begin alike, and a cell counts those that passed.
pub(crate) fn table(runs: &[Run], grouped: bool) -> String {
    let row = |name: &str| {
        let group = name.split("::").next().unwrap_or(name);
        if grouped { group.to_owned() } else { name.to_owned() }
    };
    let rows: BTreeSet<String> =
        runs.iter().flat_map(|run| run.outcomes.keys()).map(|name| row(name)).collect();
    let series: Vec<&str> = runs.iter().map(|run| &*run.series).collect();
    let mut text = format!("| tests | {} |\n|---|{}\n", series.join(" | "), "---|".repeat(series.len()));
    for name in rows {
        let cells = runs.iter().map(|run| {
            let of_row = run.outcomes.iter().filter(|(test, _)| row(test) == name);
            cell(&of_row.map(|(_, outcome)| outcome).collect::<Vec<_>>())
        });
        let cells: Vec<String> = cells.collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{name}` | {} |", cells.join(" | "));
    }
    text + &reasons(runs)
}

fn cell(outcomes: &[&Outcome]) -> String {
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| wanted(outcome)).count();
    let counts = [
        (count(|outcome| *outcome == Outcome::Passed), "passed"),
        (count(|outcome| *outcome == Outcome::Failed), "FAILED"),
        (count(|outcome| matches!(outcome, Outcome::Cannot(_))), "cannot"),
    ];
    let told = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let told = told.collect::<Vec<_>>().join(", ");
    if told.is_empty() { "no result".to_owned() } else { told }
}

/// One line for each test that some kernels cannot do, with the reason and those kernels.
fn reasons(runs: &[Run]) -> String {
    let mut reasons: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for run in runs {
        for (name, outcome) in &run.outcomes {
            if let Outcome::Cannot(reason) = outcome {
                reasons.entry((name, reason)).or_default().push(&run.series);
            }
        }
    }
    let lines = reasons.into_iter().map(|((name, reason), series)| {
        let series = if series.len() == runs.len() { "all".to_owned() } else { series.join(", ") };
        format!("- {series}: `{name}` {reason}\n")
    });
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// Which kernels they were.
pub(crate) fn versions(runs: &[Run]) -> String {
    runs.iter().map(|run| &*run.version).collect::<Vec<_>>().join(", ")
}

/// Compares the table in the README with this one, or writes it there. Versions are not compared: Debian moves on.
///
/// # Errors
/// When it differs and is not to be written, or the README has no place for it.
pub(crate) fn keep(readme: &Path, runs: &[Run], bless: bool) -> Result<()> {
    let text = fs::read_to_string(readme).with_context(|| format!("cannot read {}", readme.display()))?;
    let (before, rest) = text.split_once(BEGIN).context("README.md has no place for the table of kernels")?;
    let (kept, after) = rest.split_once(END).context("README.md's table of kernels has no end")?;
    let table = table(runs, true);
    if bless {
        let block = format!("The kernels of that run: {}.\n\n{table}", versions(runs));
        return fs::write(readme, format!("{before}{BEGIN}{block}{END}{after}"))
            .with_context(|| format!("cannot write {}", readme.display()));
    }
    let (_, kept) = kept.split_once("\n\n").unwrap_or_default();
    if kept != table {
        bail!("README.md has another table of kernels; after a look at it run `cargo xtask vm --bless`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Run, Tally, table};

    fn run(series: &str, lines: &[&str]) -> Run {
        let mut run = Run {
            series: series.to_owned(),
            version: format!("{series}.7"),
            outcomes: std::collections::BTreeMap::new(),
            trouble: None,
        };
        for line in lines {
            run.line(line);
        }
        run
    }

    #[test]
    fn results_are_read_and_reasons_with_them() {
        let old = run(
            "5.10",
            &[
                "running 3 tests",
                "SKIPPED ways::to_accept: needs fexit: it has none",
                "test ways::to_accept             ... ignored (needs fexit: it has none)",
                "test nat::a_g... RESULT nat::a_gateway: passed",
                "test nat::a_gateway              ... ok",
                "RESULT nat::another: FAILED",
                "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out",
            ],
        );
        assert_eq!(old.tally(), Tally { passed: 1, failed: 1, skipped: 1 });
        let new = run(
            "7.x",
            &[
                "RESULT ways::to_accept: passed",
                "RESULT nat::a_gateway: passed",
                "RESULT nat::another: passed",
            ],
        );
        let expected = "| tests | 5.10 | 7.x |
|---|---|---|
| `nat` | 1 passed, 1 FAILED | 2 passed |
| `ways` | 1 cannot | 1 passed |

- 5.10: `ways::to_accept` needs fexit: it has none
";
        assert_eq!(table(&[old, new], true), expected);
    }

    #[test]
    fn a_test_that_never_ended_has_no_result_and_a_kernel_that_fell_over_failed() {
        let mut broken = run("6.1", &[]);
        broken.trouble = Some("the kernel says: Oops".to_owned());
        assert_eq!(broken.tally(), Tally { passed: 0, failed: 1, skipped: 0 });
        let fine = run("6.12", &["RESULT nat::a_gateway: passed"]);
        let expected = "| tests | 6.1 | 6.12 |\n|---|---|---|\n| `nat::a_gateway` | no result | 1 passed |\n";
        assert_eq!(table(&[broken, fine], false), expected);
    }
}
