//! How many tests ran, read from what test programs print.

use std::fmt;
use std::ops::AddAssign;

/// Numbers of tests by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Adds up one run of `cargo test`, line by line.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    results: Tally,
    closing: Option<Tally>,
}

impl Reader {
    /// Takes one line of output. Says whether it is a closing line: `N passed, N failed, N skipped` alone.
    pub(crate) fn line(&mut self, line: &str) -> bool {
        if let Some(result) = line.strip_prefix("test result: ") {
            let counts = result.split_once(". ").and_then(|(_, counts)| counts_of(counts, ';'));
            self.results += counts.unwrap_or_default();
            return false;
        }
        let closing = counts_of(line, ',');
        self.closing = closing.or(self.closing);
        closing.is_some()
    }

    /// The tests of the run. A program that prints a closing line knows better than the harness inside of it, which
    /// takes a skipped test for a passed one.
    pub(crate) fn tally(&self) -> Tally {
        self.closing.unwrap_or(self.results)
    }
}

/// The counts in a list such as `3 passed; 0 failed; 1 ignored; 0 measured`; `None` unless it starts with those that
/// passed and those that failed and all of it is counts.
fn counts_of(list: &str, separator: char) -> Option<Tally> {
    let mut tally = Tally::default();
    for (place, item) in list.split(separator).enumerate() {
        if item.trim_start().starts_with("finished in ") {
            continue;
        }
        let (count, what) = item.trim().split_once(' ')?;
        let count: u64 = count.parse().ok()?;
        match (place, what) {
            (0, "passed") => tally.passed = count,
            (1, "failed") => tally.failed = count,
            (2.., "ignored" | "skipped") => tally.skipped = count,
            (2.., "measured" | "filtered out") => {}
            _ => return None,
        }
    }
    list.contains(separator).then_some(tally)
}

#[cfg(test)]
mod tests {
    use super::{Reader, Tally};

    fn read(lines: &[&str]) -> (Tally, Vec<bool>) {
        let mut reader = Reader::default();
        let closing = lines.iter().map(|line| reader.line(line)).collect();
        (reader.tally(), closing)
    }

    #[test]
    fn results_of_several_test_programs_add_up() {
        let (tally, closing) = read(&[
            "running 41 tests",
            "test result: ok. 40 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.52s",
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 7 filtered out; finished in 12.00s",
        ]);
        assert_eq!(tally, Tally { passed: 42, failed: 3, skipped: 1 });
        assert_eq!(closing, [false, false, false]);
    }

    #[test]
    fn a_closing_line_stands_for_the_whole_run() {
        let (tally, closing) = read(&[
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 31.40s",
            "2 passed, 0 failed, 10 skipped",
        ]);
        assert_eq!(tally, Tally { passed: 2, failed: 0, skipped: 10 });
        assert_eq!(closing, [false, true]);
        assert_eq!(read(&["7 passed, 1 failed"]).0, Tally { passed: 7, failed: 1, skipped: 0 });
    }

    #[test]
    fn a_sentence_about_tests_is_no_closing_line() {
        let lines =
            ["3 passed", "so 3 passed, 1 failed", "3 passed, 1 failed, 2 eaten", "x passed, 1 failed", ""];
        assert_eq!(read(&lines), (Tally::default(), vec![false; 5]));
    }

    #[test]
    fn a_tally_prints_as_the_closing_line_it_is_read_from() {
        let tally = Tally { passed: 5, failed: 4, skipped: 3 };
        assert_eq!(read(&[&tally.to_string()]).0, tally);
    }
}
