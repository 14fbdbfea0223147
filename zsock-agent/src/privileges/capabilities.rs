//! Linux capabilities: what each is needed for, what is lost without it, and giving up those that are needed no more.

use std::collections::HashSet;

use anyhow::{Context, Result};
use caps::{CapSet, Capability};

/// A capability and what zsock does with it.
#[derive(Debug)]
pub struct Need {
    /// The capability.
    pub capability: Capability,
    /// Others that the kernel takes in its place.
    pub instead: &'static [Capability],
    /// What zsock does with it.
    pub used_for: &'static str,
    /// What is lost without it.
    pub loss: &'static str,
    /// When it is needed.
    pub when: When,
}

/// When a capability is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Zsock does not start without it. Whether it is needed any longer depends on the kernel.
    ToStart,
    /// All the time; without it zsock sees less, and says so.
    ToSee,
    /// All the time; without it the same takes longer.
    ToBeFast,
}

/// Every capability that `zsock trace` has a use for.
pub const NEEDS: &[Need] = &[
    Need {
        capability: Capability::CAP_BPF,
        instead: &[Capability::CAP_SYS_ADMIN],
        used_for: "loads the eBPF programs",
        loss: "nothing works",
        when: When::ToStart,
    },
    Need {
        capability: Capability::CAP_PERFMON,
        instead: &[Capability::CAP_SYS_ADMIN],
        used_for: "lets the programs read the kernel's memory",
        loss: "nothing works",
        when: When::ToStart,
    },
    Need {
        capability: Capability::CAP_SYS_ADMIN,
        instead: &[],
        used_for: "enters network namespaces, since an iterator shows the sockets of one",
        loss: "in other network namespaces than its own zsock misses what no event tells: verdicts on silent sockets, and probes of sockets \
               older than itself",
        when: When::ToSee,
    },
    Need {
        capability: Capability::CAP_SYS_PTRACE,
        instead: &[],
        used_for: "looks into the processes of other users",
        loss: "of other users' processes zsock tells no blocked_threads and, in fd_pressure, neither socket_fds nor peers; network namespaces \
               that are mounted nowhere, such as those of many containers, are not found",
        when: When::ToSee,
    },
    Need {
        capability: Capability::CAP_DAC_READ_SEARCH,
        instead: &[Capability::CAP_DAC_OVERRIDE],
        used_for: "reads the files in /proc that are another user's",
        loss: "of other users' processes zsock tells no blocked_threads and, in fd_pressure, neither socket_fds nor peers; before Linux 6.2 \
               it tells no fd_pressure of them",
        when: When::ToSee,
    },
    Need {
        capability: Capability::CAP_SYS_RESOURCE,
        instead: &[],
        used_for: "asks for the limits of other users' processes instead of reading them from /proc",
        loss: "nothing, but to look at the limit of another user's process takes longer",
        when: When::ToBeFast,
    },
];

impl Need {
    /// Whether these capabilities are enough for it.
    #[must_use]
    pub fn is_met_by(&self, held: &HashSet<Capability>) -> bool {
        self.served_by(held).is_some()
    }

    /// The capability that serves it, of those that are held.
    fn served_by(&self, held: &HashSet<Capability>) -> Option<Capability> {
        let all = [self.capability].into_iter().chain(self.instead.iter().copied());
        all.into_iter().find(|capability| held.contains(capability))
    }
}

/// The needs for which the process holds no capability.
#[must_use]
pub fn unmet() -> Vec<&'static Need> {
    // Where the kernel does not tell, nothing is known to be missing.
    let Ok(held) = caps::read(None, CapSet::Effective) else { return Vec::new() };
    NEEDS.iter().filter(|need| !need.is_met_by(&held)).collect()
}

/// Whether the process lacks this capability and all that serve in its place.
#[must_use]
pub fn lacks(capability: Capability) -> bool {
    unmet().iter().any(|need| need.capability == capability)
}

/// Says what is missing, and what that costs.
pub fn report_unmet() {
    for Need { capability, loss, when, .. } in unmet() {
        match when {
            // Without it there is nothing to report beside: the error says so.
            When::ToStart => {}
            When::ToSee => log::warn!("without {capability}: {loss}"),
            When::ToBeFast => log::info!("without {capability}: {loss}"),
        }
    }
}

/// Which capabilities are missing without which zsock does not start, as a sentence; `None` where none is.
#[must_use]
pub fn missing_to_start() -> Option<String> {
    let missing: Vec<_> = unmet().into_iter().filter(|need| need.when == When::ToStart).collect();
    let is_or_are = if missing.len() == 1 { "is" } else { "are" };
    let names: Vec<String> = missing.iter().map(|need| need.capability.to_string()).collect();
    (!names.is_empty()).then(|| format!("{} {is_or_are} missing", names.join(" and ")))
}

/// What to do where the kernel does not let zsock start.
#[must_use]
pub fn advice() -> String {
    let Some(missing) = missing_to_start() else {
        return "the kernel forbids it although CAP_BPF and CAP_PERFMON are there: run outside of user namespaces, with a raised \
                `ulimit -l` (or CAP_SYS_RESOURCE) before Linux 5.11, and without a lockdown of the kernel"
            .to_owned();
    };
    format!(
        "{missing}: run as root, or with CAP_BPF and CAP_PERFMON; before Linux 5.11 with CAP_SYS_RESOURCE as well"
    )
}

/// Names of capabilities for a person, in the kernel's order.
pub(super) fn names(capabilities: &HashSet<Capability>) -> String {
    let mut capabilities: Vec<_> = capabilities.iter().collect();
    capabilities.sort_by_key(|capability| capability.index());
    let names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Gives up, for this thread, every capability but those that it holds and will go on to need, and returns these. `still_works` is asked
/// whether what was needed to start may go as well: before Linux 5.19 it may not.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn give_up(mut still_works: impl FnMut() -> bool) -> Result<HashSet<Capability>> {
    let held = caps::read(None, CapSet::Permitted).context("read the capabilities held")?;
    let lasting = NEEDS.iter().filter(|need| need.when != When::ToStart);
    let mut kept: HashSet<Capability> = lasting.filter_map(|need| need.served_by(&held)).collect();
    let mut to_start = NEEDS.iter().filter(|need| need.when == When::ToStart);
    // Those of the bounding set first: that takes a capability which goes next. Without it they stay, and are of no use to anybody who
    // may not gain privileges.
    if held.contains(&Capability::CAP_SETPCAP) {
        caps::clear(None, CapSet::Bounding).context("empty the bounding set")?;
    }
    caps::clear(None, CapSet::Ambient).context("empty the ambient set")?;
    caps::clear(None, CapSet::Inheritable).context("empty the inheritable set")?;
    caps::set(None, CapSet::Effective, &kept).context("lower the effective set")?;
    while !still_works() {
        let Some(need) = to_start.next() else { break };
        kept.extend(need.served_by(&held));
        caps::set(None, CapSet::Effective, &kept).context("raise the effective set")?;
    }
    caps::set(None, CapSet::Permitted, &kept).context("lower the permitted set")?;
    Ok(kept)
}

/// Gives up, for this thread, every capability but the one to write where another user's files are: root's own rights do not reach into a
/// home directory without it.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn give_up_but_writing() -> Result<()> {
    let held = caps::read(None, CapSet::Permitted).context("read the capabilities held")?;
    let kept = held.intersection(&HashSet::from([Capability::CAP_DAC_OVERRIDE])).copied().collect();
    if held.contains(&Capability::CAP_SETPCAP) {
        caps::clear(None, CapSet::Bounding).context("empty the bounding set")?;
    }
    caps::clear(None, CapSet::Ambient).context("empty the ambient set")?;
    caps::clear(None, CapSet::Inheritable).context("empty the inheritable set")?;
    caps::set(None, CapSet::Effective, &kept).context("lower the effective set")?;
    caps::set(None, CapSet::Permitted, &kept).context("lower the permitted set")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_serves_where_the_kernel_takes_it_for_another() {
        let served = |held: &[Capability]| -> Vec<Option<Capability>> {
            let held = held.iter().copied().collect();
            NEEDS.iter().map(|need| need.served_by(&held)).collect()
        };
        let admin = Some(Capability::CAP_SYS_ADMIN);
        assert_eq!(served(&[Capability::CAP_SYS_ADMIN]), [admin, admin, admin, None, None, None]);
        let (bpf, read) = (Some(Capability::CAP_BPF), Some(Capability::CAP_DAC_READ_SEARCH));
        let held = [Capability::CAP_DAC_OVERRIDE, Capability::CAP_DAC_READ_SEARCH, Capability::CAP_BPF];
        assert_eq!(served(&held), [bpf, None, None, None, read, None]);
    }

    #[test]
    fn capabilities_are_named_in_the_order_of_the_kernel() {
        let some = [Capability::CAP_BPF, Capability::CAP_SYS_ADMIN].into();
        assert_eq!(names(&some), "CAP_SYS_ADMIN, CAP_BPF");
        assert_eq!(names(&HashSet::new()), "none");
    }
}
