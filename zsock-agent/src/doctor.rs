//! `zsock doctor`: what zsock can see here, what it cannot, and which settings let zombies live.
//!
//! Judges facts that `source` gathered: reads nothing by itself. Every answer is yes, no, or could not tell because …

use std::collections::BTreeMap;

use crate::record::{Answer, Check, Examined, HookCheck, Patient, SettingCheck, SysctlCheck};
use crate::source::kernel::hooks::Attachment;
use crate::source::sysctl::Settings;

pub mod checks;
pub mod hooks;
pub mod settings;

/// What came of trying every hook.
#[derive(Clone, Debug)]
pub enum Trial {
    /// Each was tried.
    Done(Vec<Attachment>),
    /// Zsock may not try.
    Refused {
        /// Why not, and what to do about it.
        remedy: String,
    },
    /// Zsock cannot run on this kernel.
    Impossible {
        /// Why not.
        why: String,
    },
}

impl Trial {
    /// Whether this hook was tried and could be attached.
    fn has_attached(&self, name: &str) -> bool {
        let attachments = match self {
            Self::Done(attachments) => attachments.as_slice(),
            Self::Refused { .. } | Self::Impossible { .. } => &[],
        };
        attachments.iter().any(|attachment| attachment.hook.name == name && attachment.rung.is_some())
    }
}

/// All that is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// Of what.
    pub patient: Patient,
    /// What zsock needs of the host.
    pub checks: Vec<Check>,
    /// The hooks.
    pub hooks: Vec<HookCheck>,
    /// The network namespaces, those with the same settings together: zsock's own first, then the largest group.
    pub groups: Vec<Group>,
}

/// Network namespaces of which the same is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Their inode numbers, in order but for zsock's own, which comes first.
    pub namespaces: Vec<u64>,
    /// Whether zsock's own is among them.
    pub has_own: bool,
    /// Their settings; why there are none where they cannot be entered.
    pub settings: Result<Told, String>,
}

/// What is told of the settings of a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Those that are known.
    pub settings: Vec<SettingCheck>,
    /// Those that could not be read, and why.
    pub unread: Vec<(&'static str, String)>,
}

/// Puts network namespaces together of which the same is to be said.
#[must_use]
pub fn group(own: Option<u64>, namespaces: Vec<(u64, Result<Settings, String>)>) -> Vec<Group> {
    let mut alike: BTreeMap<Result<Settings, String>, Vec<u64>> = BTreeMap::new();
    for (netns, settings) in namespaces {
        alike.entry(settings).or_default().push(netns);
    }
    let told = |settings: Settings| Told {
        settings: settings::judge(&settings),
        unread: settings.into_iter().filter_map(|(name, value)| Some((name, value.err()?))).collect(),
    };
    let group = |(settings, mut namespaces): (Result<Settings, String>, Vec<u64>)| {
        namespaces.sort_by_key(|netns| (Some(*netns) != own, *netns));
        let has_own = namespaces.first().copied() == own;
        Group { namespaces, has_own, settings: settings.map(told) }
    };
    let mut groups: Vec<Group> = alike.into_iter().map(group).collect();
    groups
        .sort_by_key(|group| (!group.has_own, group.settings.is_err(), usize::MAX - group.namespaces.len()));
    groups
}

impl Diagnosis {
    /// A record for each thing that is told.
    pub fn records(&self) -> impl Iterator<Item = Examined> {
        let checks = self.checks.iter().cloned().map(Examined::Check);
        let hooks = self.hooks.iter().cloned().map(Examined::Hook);
        let settings = self
            .groups
            .iter()
            .flat_map(|group| group.namespaces.iter().flat_map(|netns| group.records_of(*netns)));
        [Examined::Doctor(self.patient.clone())].into_iter().chain(checks).chain(hooks).chain(settings)
    }
}

impl Group {
    fn records_of(&self, netns: u64) -> Vec<Examined> {
        let unknown = |name: &str, why: &str| {
            let name = name.to_owned();
            Examined::Check(Check { name, netns: Some(netns), answer: Answer::unknown(why), lost: None })
        };
        match &self.settings {
            Err(why) => vec![unknown("sysctl", why)],
            Ok(told) => {
                let setting = |setting: &SettingCheck| {
                    Examined::Sysctl(SysctlCheck { netns, setting: setting.clone() })
                };
                let settings = told.settings.iter().map(setting);
                settings.chain(told.unread.iter().map(|(name, why)| unknown(name, why))).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests;
