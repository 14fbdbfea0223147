//! Many verdicts alike within a second become one line.
//!
//! Alike are those of one name, phase and outcome about one process's connections with one service. The first 20 of a second are
//! shown in full. From the 21st on none of them is that was not given out yet, nor are the events that led to them: the end of the batch
//! tells how many there were, and the end of the second how many more came. Beside a batch's texts, which are bounded too, a
//! group keeps a number and a few examples.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use super::words;
use crate::engine::Timeline;
use crate::record::{Event, Outcome, Phase, Severity, Socket, SocketId, State, Verdict, VerdictName, What};
use crate::time::Time;

#[cfg(test)]
mod tests;

/// So many of a group are shown in full.
const SHOWN: u64 = 20;

/// In this time.
const SECOND: Duration = Duration::from_secs(1);

/// So many are named where they are not shown.
const EXAMPLES: usize = 3;

/// Text of a batch beyond this does not wait for its end.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// Verdicts of more groups in a second are told by process alone, wherever the service is.
const MAX_GROUPS: usize = 256;

/// Verdicts of more processes in a second are shown in full.
const MAX_WINDOWS: usize = 4096;

/// What waits for the end of a batch, and what is not shown.
#[derive(Debug)]
pub(super) struct Fold {
    waiting: Vec<Piece>,
    /// The texts of the pieces, and of those that are not shown after all.
    texts: String,
    windows: BTreeMap<Group, Window>,
}

/// What verdicts that are alike have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    pub(super) verdict: VerdictName,
    pub(super) phase: Phase,
    pub(super) outcome: Option<Outcome>,
    /// As it is shown.
    pub(super) owner: String,
    /// Where the service is that the connections use; absent where no end is known.
    pub(super) place: Option<SocketAddr>,
}

/// Verdicts of a group that are not shown.
#[derive(Clone, Debug)]
pub(super) struct Crowd {
    pub(super) count: u64,
    /// Others of the same second were told or shown before.
    pub(super) is_more: bool,
    /// When the first of them was given.
    pub(super) at: Time,
    pub(super) severity: Severity,
    /// The ends of some.
    pub(super) examples: Vec<String>,
    /// What was said of one of them.
    pub(super) summary: String,
}

/// What becomes of a verdict.
pub(super) enum Admission {
    /// It is shown, for now as one of a group.
    Shown(Option<Group>),
    /// It is counted.
    Folded,
}

/// A second in the life of a group.
#[derive(Debug)]
struct Window {
    began_at: Time,
    count: u64,
    /// Some were given out in full.
    has_shown: bool,
    /// A line has told of a crowd.
    is_told: bool,
    crowd: Option<Crowd>,
}

/// The text of a record that waits.
#[derive(Debug)]
struct Piece {
    at: Time,
    /// Where its text is among the texts.
    text: Range<usize>,
    /// The socket, where it is told for a verdict's sake: its past, or how it stands.
    leads_to: Option<SocketId>,
    verdict: Option<Box<Shown>>,
}

/// A verdict that may yet have to go.
#[derive(Debug)]
struct Shown {
    group: Group,
    socket: SocketId,
    severity: Severity,
    ends: String,
}

impl Fold {
    pub(super) const fn new() -> Self {
        Self { waiting: Vec::new(), texts: String::new(), windows: BTreeMap::new() }
    }

    /// Takes in a text that is shown in any case.
    pub(super) fn push(&mut self, at: Time, text: &str) {
        self.wait(at, None, None, |texts| texts.push_str(text));
    }

    /// Takes in an event, whose text `append` appends.
    pub(super) fn push_event(&mut self, at: Time, event: &Event, append: impl FnOnce(&mut String)) {
        let is_prelude = event.replayed || matches!(event.what, What::Sample(_));
        let leads_to = is_prelude.then_some(event.socket.id);
        self.wait(at, leads_to, None, append);
    }

    /// Takes in a verdict that was admitted to its group.
    pub(super) fn push_verdict(&mut self, at: Time, verdict: &Verdict, group: Option<Group>, text: &str) {
        let shown = group.zip(verdict.socket()).map(|(group, (socket, _))| {
            Box::new(Shown {
                group,
                socket: socket.id,
                severity: verdict.severity,
                ends: words::ends(socket),
            })
        });
        self.wait(at, None, shown, |texts| texts.push_str(text));
    }

    /// Counts a verdict and says whether it is shown; where it is one too many, those of its group that still wait are not either.
    pub(super) fn admit(&mut self, at: Time, verdict: &Verdict, timeline: Option<&Timeline>) -> Admission {
        let Some((socket, _)) = verdict.socket() else { return Admission::Shown(None) };
        let mut group = group_of(verdict, socket, timeline);
        if self.windows.len() >= MAX_GROUPS && !self.windows.contains_key(&group) {
            group.place = None;
        }
        let has_room = self.windows.len() < MAX_WINDOWS;
        let Some(window) = self.windows.get_mut(&group) else {
            if !has_room {
                return Admission::Shown(None);
            }
            self.windows.insert(group.clone(), Window::new(at));
            return Admission::Shown(Some(group));
        };
        if window.crowd.is_none() && at.since(window.began_at) >= SECOND {
            *window = Window::new(at);
            return Admission::Shown(Some(group));
        }
        window.count += 1;
        if window.count <= SHOWN {
            return Admission::Shown(Some(group));
        }
        if window.count == SHOWN + 1 {
            let withdrawn = withdraw(&mut self.waiting, &group);
            window.has_shown = (withdrawn.len() as u64) < SHOWN;
            for (at, shown) in withdrawn {
                window.add(at, shown.severity, shown.ends);
            }
        }
        window.add(at, verdict.severity, words::ends(socket));
        window.note_summary(&verdict.summary);
        self.drop_prelude(socket.id);
        Admission::Folded
    }

    /// Whether so much waits that it should be given out before the batch ends.
    pub(super) const fn is_full(&self) -> bool {
        self.texts.len() > MAX_WAITING_BYTES
    }

    /// What waits, in the order in which it came.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (Time, &str)> {
        self.waiting.iter().map(|piece| (piece.at, &self.texts[piece.text.clone()]))
    }

    /// Takes note that all that waited was given out.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting.clear();
        self.texts.clear();
    }

    /// The crowds that are to be told at `now`: the first of each second at once, what came after it when the second is over.
    pub(super) fn crowds(&mut self, now: Time) -> Vec<(Group, Crowd)> {
        let mut due = Vec::new();
        self.windows.retain(|group, window| {
            let is_over = now.since(window.began_at) >= SECOND;
            if is_over || !window.is_told {
                let crowd = window.crowd.take();
                window.is_told |= crowd.is_some();
                due.extend(crowd.map(|crowd| (group.clone(), crowd)));
            }
            !is_over
        });
        due
    }

    fn wait(
        &mut self,
        at: Time,
        leads_to: Option<SocketId>,
        verdict: Option<Box<Shown>>,
        append: impl FnOnce(&mut String),
    ) {
        let start = self.texts.len();
        append(&mut self.texts);
        self.waiting.push(Piece { at, text: start..self.texts.len(), leads_to, verdict });
    }

    /// Forgets what was told of a socket just before, for the sake of a verdict that is not shown.
    fn drop_prelude(&mut self, socket: SocketId) {
        while let Some(piece) = self.waiting.pop_if(|piece| piece.leads_to == Some(socket)) {
            self.texts.truncate(piece.text.start);
        }
    }
}

impl Window {
    const fn new(began_at: Time) -> Self {
        Self { began_at, count: 1, has_shown: false, is_told: false, crowd: None }
    }

    fn add(&mut self, at: Time, severity: Severity, ends: String) {
        let is_more = self.is_told || self.has_shown;
        let crowd = self.crowd.get_or_insert_with(|| Crowd {
            count: 0,
            is_more,
            at,
            severity,
            examples: Vec::new(),
            summary: String::new(),
        });
        crowd.count += 1;
        crowd.severity = crowd.severity.max(severity);
        if crowd.examples.len() < EXAMPLES {
            crowd.examples.push(ends);
        }
    }

    /// Keeps the first sentence said.
    fn note_summary(&mut self, summary: &str) {
        if let Some(crowd) = self.crowd.as_mut().filter(|crowd| crowd.summary.is_empty()) {
            summary.clone_into(&mut crowd.summary);
        }
    }
}

/// Takes out the verdicts of a group and what led to them.
fn withdraw(waiting: &mut Vec<Piece>, group: &Group) -> Vec<(Time, Box<Shown>)> {
    let is_of_group = |piece: &mut Piece| piece.verdict.as_ref().is_some_and(|shown| shown.group == *group);
    let withdrawn: Vec<_> = waiting
        .extract_if(.., is_of_group)
        .filter_map(|piece| piece.verdict.map(|shown| (piece.at, shown)))
        .collect();
    let sockets: BTreeSet<_> = withdrawn.iter().map(|(_, shown)| shown.socket).collect();
    waiting.retain(|piece| piece.leads_to.is_none_or(|socket| !sockets.contains(&socket)));
    withdrawn
}

fn group_of(verdict: &Verdict, socket: &Socket, timeline: Option<&Timeline>) -> Group {
    Group {
        verdict: verdict.verdict,
        phase: verdict.phase,
        outcome: verdict.outcome,
        owner: words::owner(socket),
        place: service(socket, timeline),
    }
}

/// The end of a connection at which the service is: the listener's where this host accepted it, else the peer's. Where its beginning
/// was not told the lower port is taken for the service's.
fn service(socket: &Socket, timeline: Option<&Timeline>) -> Option<SocketAddr> {
    let (Some(local), Some(remote)) = (socket.local, socket.remote) else {
        return socket.local.or(socket.remote);
    };
    let accepted = timeline.and_then(was_accepted).unwrap_or(local.port() < remote.port());
    Some(if accepted { local } else { remote })
}

/// Whether this host accepted the connection; absent where its beginning was not told.
fn was_accepted(timeline: &Timeline) -> Option<bool> {
    timeline.parts().0.iter().find_map(|entry| {
        let What::State(change) = entry.what else { return None };
        let begins = [State::SYN_RECV, State::SYN_SENT].contains(&change.to);
        begins.then_some(change.to == State::SYN_RECV)
    })
}
