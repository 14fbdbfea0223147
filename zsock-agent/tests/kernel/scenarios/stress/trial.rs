//! A zsock under stress, and what is true of it whatever the stress.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Cgroup, Recording, Time, Zsock, now};
use crate::proc::{cpu_time, resident_peak_bytes};

/// What a group may take where a scenario sets no limit of its own: more than zsock allows itself.
const NO_LIMIT: u64 = 4 << 30;

/// A zsock in a control group of its own.
pub(super) struct Trial {
    name: &'static str,
    max_memory: &'static str,
    group: Cgroup,
    zsock: Option<Zsock>,
    began: Time,
    rate: String,
    /// How late the verdict on the canary was.
    pub(super) late: Duration,
}

impl Trial {
    /// Starts it with this `--max-memory`, in a control group with this limit.
    pub(super) fn start(
        name: &'static str,
        max_memory: &'static str,
        limit_bytes: Option<u64>,
        arguments: &[&str],
    ) -> Self {
        let group = Cgroup::with_memory(limit_bytes.unwrap_or(NO_LIMIT));
        let arguments = [&["--max-memory", max_memory], arguments].concat();
        let zsock = Zsock::start_in_group(&group, &arguments);
        Self {
            name,
            max_memory,
            group,
            zsock: Some(zsock),
            began: now(),
            rate: String::new(),
            late: Duration::ZERO,
        }
    }

    pub(super) fn zsock(&self) -> &Zsock {
        self.zsock.as_ref().expect("only `stop` takes it")
    }

    /// Waits until so many verdicts of a name have opened.
    pub(super) fn await_verdicts(&self, name: &str, count: usize) {
        let mut opened = BTreeSet::new();
        let what = format!("{count} {name}");
        self.zsock().wait_for_all(&what, |line| {
            if line.text("verdict") == Some(name) && line.text("phase") == Some("opened") {
                opened.extend(line.text("socket.id").map(str::to_owned));
            }
            opened.len() >= count
        });
    }

    /// Notes how many of something came about since `began`.
    pub(super) fn note_rate(&mut self, count: u64, what: &str, began: Time) {
        let ms = u64::try_from(now().since(began).as_millis()).unwrap_or(u64::MAX).max(1);
        self.rate = format!("{count} {what}, {} a second", count * 1000 / ms);
    }

    /// Ends it, checks memory and counts, and prints the figures; `None` in a dry run.
    pub(super) fn stop(mut self) -> Option<Recording> {
        let zsock = self.zsock.take().expect("only this takes it");
        let pid = zsock.pid();
        let (resident, cpu) = (pid.map(resident_peak_bytes), pid.map(cpu_time));
        let ran = now().since(self.began);
        let seen = zsock.stop()?;
        self.assert_within_memory(resident?);
        assert_counts(&seen);
        let end = seen.end();
        let figure = |name| end.figure(name);
        // One without a canary has none.
        let late = if self.late.is_zero() { "–".to_owned() } else { format!("{:.0?}", self.late) };
        println!(
            "STRESS {} | {} | {} records, {} lost | {} MiB of {} | verdict after {late} | CPU {:.0} %",
            self.name,
            self.rate,
            figure("kernel_records"),
            figure("lost_events"),
            self.group.peak_bytes().unwrap_or(resident?) >> 20,
            self.max_memory,
            100.0 * cpu?.as_secs_f64() / ran.as_secs_f64(),
        );
        Some(seen)
    }

    /// What the group counted, and what zsock had resident at its worst, is within what was promised.
    fn assert_within_memory(&self, resident: u64) {
        let allowed = match self.max_memory.split_once(|c: char| c.is_alphabetic()) {
            Some((number, _)) if self.max_memory.ends_with("GiB") => {
                number.parse::<u64>().map(|gib| gib << 30)
            }
            _ => self.max_memory.trim_end_matches("MiB").parse().map(|mib: u64| mib << 20),
        };
        let allowed = allowed.expect("a size as it is written on the command line");
        assert!(resident <= allowed, "{resident} bytes resident, {} allowed", self.max_memory);
        if let Some(peak) = self.group.peak_bytes() {
            assert!(peak <= allowed, "{peak} bytes in the group, {} allowed", self.max_memory);
        }
    }
}

/// What the kernel side handed over was read, what was lost is told, and what was to be written was written or is told.
pub(super) fn assert_counts(seen: &Recording) {
    let end = seen.end();
    assert_eq!(end.figure("read_records"), end.figure("kernel_records"), "in {}", end.record);
    let [kernel, hook, output] = ["kernel", "hook", "output"].map(|place| seen.lost_at(place));
    assert_eq!(end.figure("lost_events"), kernel + hook + output, "in {}", end.record);
    assert_eq!(end.figure("kernel_lost"), kernel, "in {}", end.record);
    assert_eq!(end.figure("records"), seen.len() as u64 + output, "in {}", end.record);
}
