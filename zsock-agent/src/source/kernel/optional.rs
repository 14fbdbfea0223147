//! The hooks that zsock can do without, and taking them off while it runs.

use std::time::Duration;

use super::hooks::{Attachment, Refusal, Rung};
use super::runs::Runs;
use super::{Kernel, attach};
use crate::record::VerdictName;

/// Hooks without which verdicts are fewer or later, and none is wrong. They go together, for they may share their programs.
///
/// State changes, retransmissions, resets and ends of sockets are none: what a verdict says of a connection's end rests on them.
#[derive(Debug, PartialEq, Eq)]
pub struct Optional {
    /// `what` of the `shed` record.
    pub name: &'static str,
    /// By their names in `start.hooks`.
    pub hooks: &'static [&'static str],
    /// The verdicts that may be missing or late without them.
    pub poorer: &'static [VerdictName],
    /// What is not seen without them.
    pub lost: &'static str,
    /// They run for trouble alone: nobody goes without them unless it is known that they cost something.
    pub is_rare: bool,
}

/// All of them, in the order in which they are taken off where it is not known what they cost.
pub const ALL: [&Optional; 5] = [
    &Optional {
        name: "timers",
        hooks: &["keepalive", "persist"],
        poorer: &[
            VerdictName::KeepaliveUnanswered,
            VerdictName::ZeroWindowStall,
            VerdictName::SilentDeath,
            VerdictName::OrphanStuck,
            VerdictName::StuckRetransmission,
            VerdictName::ConnectBlackhole,
        ],
        lost: "probes, and what is sent again and does not leave this host, are seen by passes alone, and no death at a closed window is told",
        is_rare: false,
    },
    &Optional {
        name: "accept_failed",
        hooks: &["accept_failed"],
        poorer: &[VerdictName::FdPressure],
        lost: "accepts that fail for want of descriptors are not seen, fd_pressure is found by counting alone",
        is_rare: false,
    },
    &Optional {
        name: "recovery",
        hooks: &["recovery"],
        poorer: &[VerdictName::StuckRetransmission, VerdictName::OrphanStuck],
        lost: "that a stalled connection moves again is seen by the next pass alone",
        is_rare: false,
    },
    &Optional {
        name: "syn_ack",
        hooks: &["syn_ack"],
        poorer: &[],
        lost: "SYN-ACKs sent again are not told",
        is_rare: true,
    },
    &Optional {
        name: "error",
        hooks: &["error"],
        poorer: &[],
        lost: "errors are told with the end of their connection alone",
        is_rare: true,
    },
];

/// Ways to attach a hook by which its programs run for things that are none of TCP's: every timer, or every system call.
const BUSY_RUNGS: [&str; 3] = ["timer", "tracepoint", "sys_exit"];

impl Kernel {
    /// The optional hooks that are attached, those first that run most often by the way in which they are.
    #[must_use]
    pub fn optional(&self) -> Vec<&'static Optional> {
        let rungs = |optional: &Optional| self.rungs(optional).collect::<Vec<_>>();
        let mut attached: Vec<_> = ALL.into_iter().filter(|optional| !rungs(optional).is_empty()).collect();
        attached.sort_by_key(|optional| !rungs(optional).iter().any(|rung| BUSY_RUNGS.contains(&rung.name)));
        attached
    }

    /// How long the programs of these hooks ran so far, by what was counted.
    #[must_use]
    pub fn time_of(&self, optional: &Optional, runs: &Runs) -> Duration {
        let time = |name: &str| runs.get(name).map_or(0, |counted| counted.run_ns);
        Duration::from_nanos(self.programs(optional).into_iter().map(time).sum())
    }

    /// Takes these hooks off for good: once zsock has given up its rights it can load no program.
    pub fn take_off(&mut self, optional: &Optional) {
        for name in self.programs(optional) {
            let taken_off =
                self.ebpf.program_mut(name).and_then(|program| attach::take_one_off(name, program));
            self.detached.extend(taken_off);
        }
        let is_of = |attachment: &&mut Attachment| optional.hooks.contains(&attachment.hook.name);
        for attachment in self.hooks.iter_mut().filter(is_of) {
            if let Some(rung) = attachment.rung.take() {
                let why = "taken off to keep within --max-cpu".to_owned();
                attachment.refused = vec![Refusal { way: rung.label, why }];
            }
        }
    }

    fn rungs(&self, optional: &Optional) -> impl Iterator<Item = &'static Rung> {
        let is_of = |attachment: &&Attachment| optional.hooks.contains(&attachment.hook.name);
        self.hooks.iter().filter(is_of).filter_map(|attachment| attachment.rung)
    }

    /// Their programs, each once.
    fn programs(&self, optional: &Optional) -> Vec<&'static str> {
        let mut names: Vec<_> =
            self.rungs(optional).flat_map(|rung| rung.programs).map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::detect::story::{findings, on, orphaned, resent, syn, verdict, window_probe, with};
    use crate::record::{Event, Shed, State, What};
    use crate::source::kernel::hooks;

    #[test]
    fn each_is_a_hook_of_its_own_and_none_of_those_that_verdicts_rest_on() {
        let names: Vec<&str> = ALL.iter().flat_map(|optional| optional.hooks).copied().collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for name in &names {
            assert!(hooks::ALL.iter().any(|hook| hook.name == *name), "no hook {name}");
        }
        for core in ["state", "retransmit", "teardown", "reset_received", "reset_sent"] {
            assert!(!names.contains(&core), "{core}");
        }
    }

    /// Else to take one off would take another off that stays.
    #[test]
    fn none_shares_a_program_with_a_hook_that_stays() {
        let programs = |hook: &hooks::Hook| -> BTreeSet<&str> {
            hook.rungs.iter().flat_map(|rung| rung.programs).map(|(name, _)| *name).collect()
        };
        for optional in ALL {
            let (of_it, others): (Vec<_>, Vec<_>) =
                hooks::ALL.iter().partition(|hook| optional.hooks.contains(&hook.name));
            for one in &of_it {
                for other in &others {
                    assert!(programs(one).is_disjoint(&programs(other)), "{} and {}", one.name, other.name);
                }
            }
        }
    }

    /// Of probes under an open window, and on some kernels of what fails to leave the host, no other hook tells.
    #[test]
    fn a_verdict_that_may_rest_on_what_the_timers_tell_is_among_those_that_get_poorer() {
        let probed = |probe| {
            with(orphaned(window_probe(probe, None)), |tcp| {
                (tcp.state, tcp.send_window_bytes) = (Some(State::FIN_WAIT1), Some(10));
            })
        };
        let failed = |mut event: Event| {
            if let What::Retransmit(retransmit) = &mut event.what {
                retransmit.failed = true;
            }
            event
        };
        let stories: [(VerdictName, &dyn Fn(u32) -> Event); 3] = [
            (VerdictName::OrphanStuck, &probed),
            (VerdictName::StuckRetransmission, &|attempt| failed(resent(attempt))),
            (VerdictName::ConnectBlackhole, &|attempt| failed(syn(attempt))),
        ];
        for (name, event) in stories {
            let story: Vec<_> = (1..=4).map(|number| on(u64::from(number) * 1_000, event(number))).collect();
            let opened = findings(&story);
            assert_eq!(opened.first().map(|finding| verdict(finding).verdict), Some(name));
            assert!(ALL[0].poorer.contains(&name), "{name}");
        }
    }

    #[test]
    fn every_name_is_one_that_the_record_has() {
        assert!(ALL.iter().all(|optional| Shed::WHAT.contains(&optional.name)));
    }
}
