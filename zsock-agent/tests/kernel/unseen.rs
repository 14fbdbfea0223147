//! Events that the kernel ran no BPF program for.
//!
//! On some virtual machines that happens in softirqs that interrupt certain tasks, a few times in a thousand events; no BPF tool can
//! see them. A story lacks a line then through no fault of zsock's, and the records themselves prove it: the kernel's own count
//! of retransmissions, the number of a probe or the chain of states has a gap. Where the last softirq of a connection was hidden its
//! process proves it: the kernel told that of an end of which not one of three programs did. Such a scenario is played again. So is one whose
//! trace lost a run because the same program was interrupted on that CPU, which the kernel counts and zsock tells (`lost`, `hook`):
//! from Linux 7.0 on a task may be preempted in the middle of a tracepoint's program, and where a program takes as long as on a machine
//! that is emulated in software one in three scenarios of a hundred connections loses runs.
//! On a machine that is emulated in software any failure may come of its being held up; there a scenario that failed is played again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::slowness;
use crate::story::Line;

/// A scenario is played at most this often where the kernel counted each time that it skipped programs.
const TIMES: u32 = 8;
/// And where it failed for another reason that is none of zsock's.
const TIMES_OTHERWISE: u32 = 3;

thread_local! {
    static SKIPPED: Cell<u64> = const { Cell::new(0) };
    static GAPS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static DEATHS: RefCell<Vec<Death>> = const { RefCell::new(Vec::new()) };
}

/// A connection's end of which the kernel told its process.
struct Death {
    pid: u32,
    local_port: u16,
}

/// Plays a scenario, and again where it failed and the records prove that the machine hid an event from zsock.
pub(crate) fn play(name: &str, run: fn()) {
    let mut otherwise = 1;
    for _ in 1..TIMES {
        SKIPPED.take();
        GAPS.take();
        DEATHS.take();
        let Err(panic) = catch_unwind(AssertUnwindSafe(run)) else { return };
        let (skipped, gaps) = (SKIPPED.take(), GAPS.take());
        if skipped > 0 {
            println!("AGAIN {name}: the kernel skipped {skipped} runs of programs");
            continue;
        }
        otherwise += 1;
        if otherwise > TIMES_OTHERWISE {
            resume_unwind(panic);
        } else if !gaps.is_empty() {
            println!("AGAIN {name}: the kernel ran no program for some events: {}", gaps.join("; "));
        } else if slowness() > 1 {
            println!("AGAIN {name}: it failed, and an emulated machine may have been held up");
        } else {
            resume_unwind(panic);
        }
    }
    run();
}

/// Notes the gaps in what zsock told.
pub(crate) fn note(lines: &[Line]) {
    SKIPPED.set(SKIPPED.get() + skipped(lines));
    GAPS.with_borrow_mut(|noted| noted.extend(gaps(lines)));
    DEATHS.with_borrow(|deaths| {
        let untold = deaths.iter().filter_map(|death| death.gap(lines));
        GAPS.with_borrow_mut(|noted| noted.extend(untold));
    });
}

/// Notes that a process was told by the kernel that its connection has ended.
pub(crate) fn note_death(pid: u32, local_port: u16) {
    DEATHS.with_borrow_mut(|noted| noted.push(Death { pid, local_port }));
}

impl Death {
    /// The state's change, the error and the closing come from programs of their own: none of them ran if none is told.
    fn gap(&self, lines: &[Line]) -> Option<String> {
        let suffix = format!(":{}", self.local_port);
        let is_of = |line: &&Line| {
            line.number("socket.pid") == Some(u64::from(self.pid))
                && line.text("socket.local").is_some_and(|local| local.ends_with(&suffix))
        };
        let is_of_the_end = |line: &Line| {
            line.text("to") == Some("CLOSE") || matches!(line.text("type"), Some("error" | "closed"))
        };
        let mut of_it = lines.iter().filter(is_of).peekable();
        (of_it.peek().is_some() && !of_it.any(is_of_the_end))
            .then(|| format!("the end of process {}'s connection from {suffix}, none of it told", self.pid))
    }
}

/// What is known of a socket from its records so far.
#[derive(Default)]
struct Known {
    is_from_birth: bool,
    retransmits: Option<u64>,
    probe: u64,
    state: Option<String>,
}

/// How many runs of programs the kernel skipped.
fn skipped(lines: &[Line]) -> u64 {
    let is_of_hooks = |line: &&Line| line.text("type") == Some("lost") && line.text("where") == Some("hook");
    lines.iter().filter(is_of_hooks).map(|line| line.figure("count")).sum()
}

fn gaps(lines: &[Line]) -> Vec<String> {
    let mut sockets: BTreeMap<&str, Known> = BTreeMap::new();
    let mut found = Vec::new();
    for line in lines {
        let Some(id) = line.text("socket.id") else { continue };
        let known = sockets.entry(id).or_default();
        found.extend(known.gap(line).map(|gap| format!("socket {id}: {gap}")));
    }
    found
}

impl Known {
    fn gap(&mut self, line: &Line) -> Option<String> {
        let kind = line.text("type")?;
        if kind == "verdict" {
            return None;
        }
        self.gap_of_states(kind, line)
            .or_else(|| self.gap_of_probes(kind, line))
            .or_else(|| self.gap_of_retransmissions(kind, line))
    }

    fn gap_of_states(&mut self, kind: &str, line: &Line) -> Option<String> {
        if kind != "state" {
            return None;
        }
        let (from, to) = (line.text("from")?, line.text("to")?);
        self.is_from_birth |= from == "CLOSE" || from == "LISTEN";
        let before = self.state.replace(to.to_owned());
        before.filter(|before| before != from).map(|before| format!("{before}, then {from} to {to}"))
    }

    fn gap_of_probes(&mut self, kind: &str, line: &Line) -> Option<String> {
        if kind == "keepalive_answered" {
            self.probe = 0;
        }
        // The kernel's own count at the end shows whether the last probe was told.
        if kind == "closed" && self.probe > 0 {
            let counted = line.number("tcp.probes_out")?;
            return (counted > self.probe).then(|| format!("{counted} probes counted, {} told", self.probe));
        }
        let probe = line.number("probe").filter(|_| kind == "keepalive")?;
        let before = std::mem::replace(&mut self.probe, probe);
        // The first probe is told on demand only.
        (probe > before.max(1) + 1).then(|| format!("probe {before}, then probe {probe}"))
    }

    fn gap_of_retransmissions(&mut self, kind: &str, line: &Line) -> Option<String> {
        let counted = line.number("tcp.total_retransmits")?;
        let told = u64::from(kind == "retransmit" && line.get("failed").is_none());
        let before = self.retransmits.replace(counted).or(self.is_from_birth.then_some(0))?;
        (counted > before + told)
            .then(|| format!("{counted} retransmissions counted, {} told", before + told))
    }
}
