//! The sentence of an incident: how many connections of whom and where, what struck them, when, and by which numbers.
//!
//! Every number stands in the evidence of the verdicts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::incidents::{process, verdicts};
use super::{Place, Story};
use crate::record::{Outcome, Phase, Process, Verdict, VerdictName, printable};
use crate::sink::duration;
use crate::sink::quantity::{bytes, count};
use crate::time::Time;

/// Idle times below this are a pause between two words.
const IDLE_MS: u64 = 2_000;

/// Lengths of time below this are told in seconds throughout, so that they can be compared.
const SECONDS_BELOW_MS: u64 = 600_000;

/// The sentence.
pub(super) fn summary(
    verdict: VerdictName,
    place: Option<Place>,
    stories: &[&Story],
    span: (Time, Time),
) -> String {
    let group = Group { verdict, stories };
    let (what, facts) = group.what();
    let what = format!("{what}{}", when(span));
    let whom = whom(verdict, place, stories);
    let facts: String = facts.into_iter().flatten().collect();
    format!("{whom} {what}{facts}{}", group.outcomes())
}

/// Stories of one verdict.
struct Group<'a> {
    verdict: VerdictName,
    stories: &'a [&'a Story],
}

impl Group<'_> {
    /// What struck them, and the numbers that belong to it.
    fn what(&self) -> (&'static str, Vec<Option<String>>) {
        match self.verdict {
            VerdictName::SilentDeath => (
                "died",
                vec![
                    self.after_idling(),
                    self.time("unnoticed_ms", ", unnoticed for"),
                    self.unacknowledged(),
                ],
            ),
            VerdictName::StaleReset => {
                ("met a reset", vec![self.time("idle_ms", " when something was sent after idling")])
            }
            VerdictName::ConnectBlackhole => {
                ("got no answer", vec![self.times("attempts", ", SYN sent again")])
            }
            VerdictName::StuckRetransmission => (
                "got no acknowledgement any more",
                vec![
                    self.after_idling(),
                    self.time("stalled_ms", ", for"),
                    self.times("attempts", ", sent again"),
                ],
            ),
            VerdictName::KeepaliveUnanswered => {
                ("got no answer to keepalive probes", vec![self.times("probes", ", sent")])
            }
            VerdictName::OrphanStuck => {
                ("could not finish closing", vec![self.times("attempts", ", sent again")])
            }
            VerdictName::ZeroWindowStall => (
                "met a closed window of the peer",
                vec![self.time("stalled_ms", " for"), self.times("probes", ", probed")],
            ),
            VerdictName::ReceiverStall => {
                ("had received data that was not read", vec![self.time("stalled_ms", " for")])
            }
            VerdictName::AppSilence => (
                "waited for an answer",
                vec![self.time("waiting_ms", " for"), self.time("usual_ms", ", where it usually took")],
            ),
            VerdictName::CloseWaitLeak => {
                ("stayed open after the peer had closed", vec![self.time("waiting_ms", " for")])
            }
            VerdictName::UnguardedIdle => (
                "idled with nothing to guard against a silent death",
                vec![self.time("idle_ms", " for"), Some(self.unnoticed())],
            ),
            VerdictName::FdPressure => ("ran short of file descriptors", vec![self.descriptors()]),
            VerdictName::AcceptQueueFull => ("accepted nothing more", vec![self.queue()]),
            VerdictName::IdleTimeoutInferred => ("die of idling, as seen", vec![self.bound()]),
        }
    }

    /// After how long without traffic, as those verdicts tell that look at it.
    fn after_idling(&self) -> Option<String> {
        let idle = self.stories.iter().map(|story| {
            verdicts(story).find_map(|(_, verdict)| {
                let stalls = verdict.verdict == VerdictName::StuckRetransmission;
                verdict.evidence.get("idle_ms").filter(|_| stalls)?.as_u64()
            })
        });
        let idle: Vec<Option<u64>> = idle.collect();
        let is_idle = idle.iter().flatten().all(|ms| *ms >= IDLE_MS);
        told(&idle, lengths).filter(|_| is_idle).map(|told| format!(" after idling {told}"))
    }

    /// A length of time that each of them has.
    fn time(&self, name: &str, words: &str) -> Option<String> {
        told(&self.facts(name), lengths).map(|told| format!("{words} {told}"))
    }

    /// How often something happened to each of them.
    fn times(&self, name: &str, words: &str) -> Option<String> {
        let times = |least, most| match (least, most) {
            (1, 1) => "once".to_owned(),
            (least, most) => format!("{} times", numbers(least, most)),
        };
        told(&self.facts(name), times).map(|told| format!("{words} {told}"))
    }

    fn unacknowledged(&self) -> Option<String> {
        let sum: u64 = self.facts("unacked_bytes").into_iter().flatten().fold(0, u64::saturating_add);
        (sum > 0).then(|| format!(", {} never acknowledged", bytes(sum)))
    }

    /// How long a death would go unnoticed: the absence of the fact says for ever.
    fn unnoticed(&self) -> String {
        let facts = self.facts("would_be_noticed_ms");
        let never = facts.iter().filter(|fact| fact.is_none()).count();
        let known = told(&facts.iter().flatten().copied().map(Some).collect::<Vec<_>>(), lengths);
        let death = "; a death would be noticed";
        match (known, never) {
            (None, _) => format!("{death} never"),
            (Some(known), 0) => format!("{death} after {known}"),
            (Some(known), never) => format!("{death} after {known}, of {never} of them never"),
        }
    }

    fn descriptors(&self) -> Option<String> {
        let open = told(&self.facts("open_fds"), numbers)?;
        let limit = told(&self.facts("limit"), numbers)?;
        let zombies = told(&self.facts("zombie_fds"), numbers).filter(|zombies| zombies != "0");
        let zombies = zombies.map_or_else(String::new, |zombies| {
            let kind = if zombies == "1" { "a zombie" } else { "zombies" };
            format!(", {zombies} of them {kind}")
        });
        Some(format!(", {open} of {limit} open{zombies}"))
    }

    fn queue(&self) -> Option<String> {
        let queue = told(&self.facts("queue"), numbers)?;
        let backlog = told(&self.facts("backlog"), numbers)?;
        Some(format!(", {queue} waiting at a backlog of {backlog}"))
    }

    /// The bound that was inferred of a destination.
    fn bound(&self) -> Option<String> {
        let last = self.last().next()?;
        let fact = |name: &str| last.evidence.get(name)?.as_u64();
        let mut said = Vec::new();
        said.extend(fact("died_after_ms").map(|ms| format!("after {} or more", length(ms))));
        said.extend(fact("survived_ms").map(|ms| format!("{} is survived", length(ms))));
        said.extend(fact("deaths").map(|deaths| count(deaths, "death")));
        let likely = last.evidence.get("likely").and_then(|likely| likely.as_str());
        said.extend(likely.map(|likely| format!("likely {}", printable(likely))));
        (!said.is_empty()).then(|| format!(": {}", said.join(", ")))
    }

    /// How the conditions ended, where they did.
    fn outcomes(&self) -> String {
        if self.verdict == VerdictName::IdleTimeoutInferred {
            // It is learnt, and does not end.
            return String::new();
        }
        let mut outcomes: BTreeMap<Option<Outcome>, usize> = BTreeMap::new();
        for last in self.last() {
            match (last.phase, last.outcome) {
                // A final one is its own outcome.
                (Phase::Closed, None) => return String::new(),
                (Phase::Closed, outcome) => *outcomes.entry(outcome).or_default() += 1,
                (Phase::Opened | Phase::Updated, _) => *outcomes.entry(None).or_default() += 1,
            }
        }
        let is_one = self.stories.len() == 1;
        let words = outcomes.into_iter().rev().map(|(outcome, number)| {
            let word = outcome.map_or("still so at the end", outcome_word);
            if is_one { word.to_owned() } else { format!("{number} {word}") }
        });
        format!("; {}", words.collect::<Vec<_>>().join(", "))
    }

    /// What the verdict said last, of each story.
    fn last(&self) -> impl Iterator<Item = &Verdict> {
        let of_name = |verdict: &&Verdict| verdict.verdict == self.verdict;
        self.stories
            .iter()
            .filter_map(move |story| verdicts(story).map(|(_, verdict)| verdict).rfind(of_name))
    }

    /// A number in the evidence, as the verdict told it last; absent of those that have none.
    fn facts(&self, name: &str) -> Vec<Option<u64>> {
        let fact = |story: &&Story| {
            let mut of_name = verdicts(story).rev().filter(|(_, verdict)| verdict.verdict == self.verdict);
            of_name.find_map(|(_, verdict)| verdict.evidence.get(name)?.as_u64())
        };
        self.stories.iter().map(fact).collect()
    }
}

const fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Connected => "connected after all",
        Outcome::TimedOut => "given up by the kernel",
        Outcome::Refused => "refused",
        Outcome::Closed => "closed",
        Outcome::Recovered => "recovered",
        Outcome::SilentDeath => "died silently",
        Outcome::Reset => "reset",
        Outcome::Answered => "answered",
        Outcome::OpenedWindow => "saw the window open",
        Outcome::Read => "read",
        Outcome::Moved => "moved data again",
        Outcome::Spoke => "spoke again",
        Outcome::Guarded => "guarded since",
        Outcome::Relieved => "relieved",
        Outcome::Exited => "ended",
        Outcome::Drained => "drained",
    }
}

/// How many of what, of whom, and where.
fn whom(verdict: VerdictName, place: Option<Place>, stories: &[&Story]) -> String {
    let number = stories.len() as u64;
    let processes: Vec<Option<Process>> = stories.iter().map(|story| process(&story.subject)).collect();
    let owner = owner(&processes);
    let connections = || {
        let connections = count(number, "connection");
        match place {
            Some(Place::To(to)) => format!("{connections} of {owner} to {to}"),
            Some(Place::On(on)) => format!("{connections} that {owner} accepted on {on}"),
            None => format!("{connections} of {owner}"),
        }
    };
    let at = |place: Option<Place>| match place {
        Some(Place::To(end) | Place::On(end)) => end.to_string(),
        None => "an address that is not known".to_owned(),
    };
    match verdict {
        VerdictName::ConnectBlackhole => {
            format!("{} of {owner} to {}", count(number, "connection attempt"), at(place))
        }
        VerdictName::FdPressure if number == 1 => owner,
        VerdictName::FdPressure => format!("{number} processes {owner}"),
        VerdictName::AcceptQueueFull => format!("{} of {owner} on {}", count(number, "listener"), at(place)),
        VerdictName::IdleTimeoutInferred => format!("connections to {}", at(place)),
        VerdictName::OrphanStuck => format!("{}, held by no process any more,", connections()),
        VerdictName::StuckRetransmission
        | VerdictName::KeepaliveUnanswered
        | VerdictName::SilentDeath
        | VerdictName::StaleReset
        | VerdictName::ZeroWindowStall
        | VerdictName::ReceiverStall
        | VerdictName::AppSilence
        | VerdictName::CloseWaitLeak
        | VerdictName::UnguardedIdle => connections(),
    }
}

/// The name that they have in common, with the pid where it is one process.
fn owner(processes: &[Option<Process>]) -> String {
    let pids: BTreeSet<Option<u32>> =
        processes.iter().map(|process| process.as_ref().map(|process| process.pid)).collect();
    let first = processes.iter().flatten().next();
    let name = first.and_then(|process| process.comm.as_deref()).map(printable);
    let pid = first.map(|process| process.pid).filter(|_| pids.len() == 1);
    match (name, pid) {
        (Some(name), Some(pid)) => format!("{name} (pid {pid})"),
        (Some(name), None) => name.into_owned(),
        (None, Some(pid)) => format!("process {pid}"),
        (None, None) => "a process that is not known".to_owned(),
    }
}

/// `within 3 s at 02:10:04`.
fn when((first, last): (Time, Time)) -> String {
    let at = time_of_day(first);
    let seconds = last.since(first).as_millis().div_ceil(1000);
    match u64::try_from(seconds).unwrap_or(u64::MAX) {
        0 => format!(" at {at}"),
        seconds => format!(" within {} at {at}", duration(Duration::from_secs(seconds))),
    }
}

/// `02:10:04`, UTC.
pub(super) fn time_of_day(at: Time) -> String {
    at.to_string().chars().skip("2026-11-22T".len()).take("02:10:04".len()).collect()
}

/// What is known of some, as `words` say its least and most; of how many it is known, where that is not all of them.
fn told(facts: &[Option<u64>], words: impl Fn(u64, u64) -> String) -> Option<String> {
    let known = || facts.iter().flatten().copied();
    let said = words(known().min()?, known().max()?);
    let number = known().count();
    Some(if number == facts.len() { said } else { format!("{said} (known of {number})") })
}

/// Two lengths of time in one unit, `351 to 389 s`, cut off and never rounded up.
fn lengths(least_ms: u64, most_ms: u64) -> String {
    if most_ms == 0 {
        "less than 1 ms".to_owned()
    } else if most_ms < 1_000 {
        format!("{} ms", numbers(least_ms, most_ms))
    } else if most_ms < SECONDS_BELOW_MS {
        format!("{} s", numbers(least_ms / 1_000, most_ms / 1_000))
    } else {
        range(&length(least_ms), &length(most_ms))
    }
}

fn length(ms: u64) -> String {
    duration(Duration::from_millis(ms))
}

fn numbers(least: u64, most: u64) -> String {
    range(&least.to_string(), &most.to_string())
}

/// `351 to 389`, or one of them where both read alike.
fn range(least: &str, most: &str) -> String {
    if least == most { most.to_owned() } else { format!("{least} to {most}") }
}
