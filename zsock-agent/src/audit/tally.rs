//! Sums over all sockets, and over connections that belong together.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Grouping;
use crate::record::{Found, Group, Noticed, Process, State, Summary, VerdictName};
use crate::source::census::Coverage;
use crate::time::milliseconds;

/// Groups whose members are counted. Sockets come in no order, so one with many members is among the first.
const MAX_GROUPS: usize = 50_000;

/// Sums up the sockets that it is given.
#[derive(Debug)]
pub struct Tally {
    grouping: Grouping,
    max_groups: usize,
    sockets: u64,
    /// By the state's number.
    states: [u64; 256],
    connections: Lives,
    verdicts: [u64; VerdictName::ALL.len()],
    orphans: u64,
    unaccepted: u64,
    groups: HashMap<Whose, Members>,
    /// Hashes of the groups beyond these.
    beyond: HashSet<u64>,
    hasher: RandomState,
}

/// What a group's connections have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Whose {
    pid: Option<u32>,
    end: Option<SocketAddr>,
    /// The end is ours.
    accepted: bool,
}

#[derive(Debug)]
struct Members {
    process: Option<Process>,
    lives: Lives,
}

/// Connections by how long a silent death of the peer would go unnoticed.
#[derive(Clone, Copy, Debug, Default)]
struct Lives {
    elsewhere: Classes,
    on_loopback: Classes,
}

/// By [`Noticed`], the least harm first; last those of which it is not known.
type Classes = [u64; 5];

const UNKNOWN: usize = 4;

impl Lives {
    fn add(&mut self, found: &Found) {
        let class = found.noticed.map_or(UNKNOWN, |noticed| noticed as usize);
        let classes = if found.is_on_loopback() { &mut self.on_loopback } else { &mut self.elsewhere };
        classes[class] += 1;
    }

    fn both(&self) -> Classes {
        std::array::from_fn(|class| self.elsewhere[class] + self.on_loopback[class])
    }

    /// The more there are of the worst the more harm, and none is as bad on loopback as elsewhere.
    fn harm(&self) -> [u64; 10] {
        let of = |classes: &Classes| [3, 2, 1, UNKNOWN, 0].map(|class| classes[class]);
        let (elsewhere, on_loopback) = (of(&self.elsewhere), of(&self.on_loopback));
        std::array::from_fn(|place| if place < 5 { elsewhere[place] } else { on_loopback[place - 5] })
    }
}

fn by_noticed(classes: &Classes) -> BTreeMap<Noticed, u64> {
    let counts = Noticed::ALL.map(|noticed| (noticed, classes[noticed as usize]));
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

impl Tally {
    /// Nothing yet.
    #[must_use]
    pub fn new(grouping: Grouping) -> Self {
        Self::within(grouping, MAX_GROUPS)
    }

    fn within(grouping: Grouping, max_groups: usize) -> Self {
        Self {
            grouping,
            max_groups,
            sockets: 0,
            states: [0; 256],
            connections: Lives::default(),
            verdicts: [0; VerdictName::ALL.len()],
            orphans: 0,
            unaccepted: 0,
            groups: HashMap::new(),
            beyond: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// Takes in a socket.
    pub fn add(&mut self, found: &Found) {
        self.sockets += 1;
        if let Some(state) = found.tcp.state {
            self.states[usize::from(state.0)] += 1;
        }
        if let Some(verdict) = found.verdict {
            self.verdicts[verdict as usize] += 1;
        }
        self.orphans += u64::from(found.socket.orphan);
        if !found.has_peer() {
            return;
        }
        self.connections.add(found);
        self.unaccepted += u64::from(found.unaccepted);
        self.group(found);
    }

    fn group(&mut self, found: &Found) {
        let socket = &found.socket;
        let accepted = found.accepted;
        let pid = socket.pid.filter(|_| !socket.orphan);
        let end = if accepted { socket.local } else { socket.remote };
        let whose = match self.grouping {
            Grouping::Both => Whose { pid, end, accepted },
            Grouping::Process => Whose { pid, end: None, accepted: false },
            Grouping::Destination => Whose { pid: None, end, accepted },
            Grouping::None => return,
        };
        let has_room = self.groups.len() < self.max_groups;
        if let Some(members) = self.groups.get_mut(&whose) {
            members.lives.add(found);
        } else if has_room {
            let mut members =
                Members { process: whose.pid.and_then(|_| socket.owner()), lives: Lives::default() };
            members.lives.add(found);
            self.groups.insert(whose, members);
        } else {
            self.beyond.insert(self.hasher.hash_one(whose));
        }
    }

    /// How many connections are at least as bad as this.
    #[must_use]
    pub fn at_least(&self, noticed: Noticed) -> u64 {
        let worse = Noticed::ALL.into_iter().filter(|class| *class >= noticed);
        worse.map(|class| self.connections.both()[class as usize]).sum()
    }

    /// Connections of which it cannot be told.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.connections.both()[UNKNOWN]
    }

    /// The sums, with so many groups of those that are worst off.
    #[must_use]
    pub fn summary(self, groups: usize, coverage: &Coverage, duration: Duration) -> Summary {
        let all = self.groups.len() + self.beyond.len();
        let states = (0..=u8::MAX).zip(self.states).filter(|(_, count)| *count > 0);
        let verdicts = VerdictName::ALL.iter().map(|name| (name.name(), self.verdicts[*name as usize]));
        let mut by_harm: Vec<_> = self.groups.into_iter().collect();
        by_harm.sort_unstable_by_key(|(whose, members)| (Reverse(members.lives.harm()), *whose));
        by_harm.truncate(groups);
        Summary {
            sockets: self.sockets,
            states: states.map(|(number, count)| (Arc::from(State(number).to_string()), count)).collect(),
            noticed: by_noticed(&self.connections.both()),
            noticed_on_loopback: by_noticed(&self.connections.on_loopback),
            noticed_unknown: self.connections.both()[UNKNOWN],
            verdicts: verdicts
                .filter(|(_, count)| *count > 0)
                .map(|(name, count)| (Arc::from(name), count))
                .collect(),
            orphans: self.orphans,
            unaccepted: self.unaccepted,
            other_groups: (all - by_harm.len()) as u64,
            groups: by_harm.into_iter().map(|(whose, members)| group(&whose, members)).collect(),
            namespaces: coverage.namespaces,
            namespaces_not_seen: coverage.failed.len() as u64,
            source: Arc::from(coverage.source),
            not_told: coverage.not_told.iter().map(|fact| Arc::from(fact.as_str())).collect(),
            duration_ms: milliseconds(duration),
        }
    }
}

fn group(whose: &Whose, members: Members) -> Group {
    let classes = members.lives.both();
    Group {
        process: members.process,
        destination: whose.end.filter(|_| !whose.accepted),
        accepted_on: whose.end.filter(|_| whose.accepted),
        sockets: classes.iter().sum(),
        noticed: by_noticed(&classes),
    }
}

#[cfg(test)]
mod tests;
