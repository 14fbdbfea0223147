//! The detectors: one file each with its rule, threshold, evidence, sentence, advice and tests, and one line in a list here.
//!
//! They judge from the facts of one socket and the event that was just applied to them, and from nothing else.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::engine::Facts;
use crate::record::{Closed, Event, Outcome, Sample, Severity, State, VerdictName, What};
use crate::time::{Time, milliseconds};

mod accept_queue_full;
mod app_silence;
mod close_wait_leak;
mod connect_blackhole;
mod fd_pressure;
mod glance;
pub(crate) mod idle_timeout_inferred;
mod keepalive_unanswered;
mod open;
mod orphan_stuck;
mod peer;
mod receiver_stall;
mod silent_death;
mod stale_reset;
#[cfg(test)]
pub(crate) mod story;
mod stuck_retransmission;
mod threshold;
mod unguarded_idle;
pub(crate) mod words;
mod zero_window_stall;

pub(crate) use fd_pressure::Descriptors;
pub use glance::at_a_glance;
pub(crate) use open::Open;
pub(crate) use peer::{Peer, opposite};
pub use threshold::{ThresholdError, Thresholds};

/// The verdicts that open and close, in the order in which they are judged: one that hands over to another comes before it.
pub(crate) const CONDITIONS: [&Condition; 10] = [
    &connect_blackhole::CONDITION,
    &accept_queue_full::CONDITION,
    &unguarded_idle::CONDITION,
    &app_silence::CONDITION,
    &stuck_retransmission::CONDITION,
    &keepalive_unanswered::CONDITION,
    &zero_window_stall::CONDITION,
    &receiver_stall::CONDITION,
    &close_wait_leak::CONDITION,
    &orphan_stuck::CONDITION,
];

/// The verdicts on a connection that has ended, given after its conditions are closed.
pub(crate) const FINALS: [&Final; 2] = [&silent_death::FINAL, &stale_reset::FINAL];

/// How bad a verdict on a socket is; none for those on processes and destinations.
pub(crate) fn severity(name: VerdictName) -> Option<Severity> {
    let conditions = CONDITIONS.iter().map(|condition| (condition.name, condition.severity));
    let finals = FINALS.iter().map(|last| (last.name, last.severity));
    conditions.chain(finals).find_map(|(known, severity)| (known == name).then_some(severity))
}

/// Whether a verdict is given once, when the connection has ended.
pub(crate) fn is_final(name: VerdictName) -> bool {
    FINALS.iter().any(|known| known.name == name)
}

/// A verdict on a condition that comes and goes.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) name: VerdictName,
    pub(crate) severity: Severity,
    /// What is counted, by its name in the evidence.
    pub(crate) counts: &'static str,
    /// What it is called in the sentence that tells its end.
    pub(crate) noun: &'static str,
    /// How many the event shows, in a row or in milliseconds, where they are enough for the verdict.
    pub(crate) holds: fn(&Scene<'_>) -> Option<u64>,
    /// What it rests on, from facts for which `holds` gave this count.
    pub(crate) grounds: fn(&Scene<'_>, u64) -> Grounds,
    /// The sentence that tells it, from the same.
    pub(crate) summary: fn(&Scene<'_>, u64) -> String,
    /// How the event ended it, if it did.
    pub(crate) ends: fn(&Scene<'_>) -> Option<Outcome>,
    /// The time that is counted; absent where it is no time.
    pub(crate) span: Option<Span>,
}

/// A time that grows without any event, so that only a look at the socket can tell of it.
#[derive(Debug)]
pub(crate) struct Span {
    /// Its length in milliseconds by a look; absent where it is over.
    pub(crate) at_a_look: fn(&Scene<'_>, &Sample) -> Option<u64>,
    /// The outcome where it is over or has begun anew.
    pub(crate) breaks: Outcome,
}

/// A verdict given once, when the connection has ended.
#[derive(Debug)]
pub(crate) struct Final {
    pub(crate) name: VerdictName,
    pub(crate) severity: Severity,
    /// The claim, where the event makes it true.
    pub(crate) judge: fn(&Scene<'_>) -> Option<Claim>,
}

/// What a verdict says.
#[derive(Debug)]
pub(crate) struct Claim {
    /// When the condition began.
    pub(crate) since: Time,
    pub(crate) evidence: Evidence,
    pub(crate) summary: String,
    pub(crate) advice: Vec<String>,
}

/// What a verdict rests on and what is to be done, without its sentence: each event of a condition that goes on renews it, and few of
/// them are told.
#[derive(Debug)]
pub(crate) struct Grounds {
    /// When the condition began.
    pub(crate) since: Time,
    pub(crate) evidence: Evidence,
    pub(crate) advice: Advice,
}

/// What is to be done. It is put into words where it is told, from what is known when it is given.
pub(crate) struct Advice(Box<dyn Fn() -> Vec<String> + Send + Sync>);

impl Advice {
    fn new(words: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        Self(Box::new(words))
    }

    fn words(&self) -> Vec<String> {
        (self.0)()
    }

    /// The memory that it takes beside its own size.
    fn bytes_elsewhere(&self) -> usize {
        size_of_val(&*self.0)
    }
}

impl fmt::Debug for Advice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.words().fmt(out)
    }
}

/// Facts by their names.
pub(crate) type Evidence = Vec<(&'static str, Value)>;

/// An event and the facts after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) at: Time,
    pub(crate) event: &'a Event,
    pub(crate) facts: &'a Facts,
    pub(crate) thresholds: &'a Thresholds,
    /// Whether the persist timer's probes are told: the hook may have been taken off.
    pub(crate) sees_window_probes: bool,
    /// The other end, where it is on this host and stalled.
    pub(crate) peer: Option<&'a Peer>,
}

impl Scene<'_> {
    /// The end of the connection, where this is it.
    pub(crate) fn closed(&self) -> Option<&Closed> {
        if let What::Closed(closed) = &self.event.what { Some(closed) } else { None }
    }

    /// What a look at the socket found, where this is one.
    pub(crate) fn look(&self) -> Option<&Sample> {
        if let What::Sample(sample) = &self.event.what { Some(sample) } else { None }
    }

    /// The other end, where it is on this host and has this verdict.
    fn peer_under(&self, stall: VerdictName) -> Option<&Peer> {
        self.peer.filter(|peer| peer.is_under(stall))
    }

    /// Whether a process holds the socket. A connection that waits to be accepted has no inode yet.
    pub(crate) fn is_held(&self) -> bool {
        self.facts.socket.inode.is_some() && !self.facts.socket.orphan
    }

    /// Whether the connection goes on.
    pub(crate) fn lives(&self) -> bool {
        let closed = self.closed().is_some() || self.facts.state == Some(State::CLOSE);
        !closed && self.facts.reset_received.is_none()
    }

    /// How long nothing had come from the peer before that was sent which it has not acknowledged; absent where either time is
    /// unknown, or where something has come since.
    pub(crate) fn idle_before_stall(&self) -> Option<Duration> {
        let tcp = &self.facts.tcp;
        tcp.last_received_ms?.checked_sub(tcp.stalled_ms?).map(Duration::from_millis)
    }

    /// How long nothing that was sent has been acknowledged; absent where that is not known.
    pub(crate) fn stalled(&self) -> Option<Duration> {
        let stalled_ms = self.facts.tcp.stalled_ms?;
        Some(self.at.since(self.facts.tcp_at.before(Duration::from_millis(stalled_ms))))
    }

    /// When a stall began: where its length is not known, with the first retransmission, and where that is not known, now.
    pub(crate) fn stalled_since(&self) -> Time {
        let first_sent = self.stalled().map(|stalled| self.at.before(stalled));
        first_sent.or(self.facts.retransmitting_since).unwrap_or(self.at)
    }

    /// Until the kernel gives up, for the evidence.
    fn gives_up_in_ms(&self) -> Option<u64> {
        self.facts.gives_up_in(self.at).map(milliseconds)
    }
}

/// How a connection that had stood came to its end, once it has.
fn ending(scene: &Scene<'_>) -> Option<Outcome> {
    let closed = scene.closed()?;
    let by_peer = |errno: &str| closed.reset && ["ECONNRESET", "EPIPE"].contains(&errno);
    let reset = scene.facts.reset_received.is_some()
        || closed.errno.as_ref().is_some_and(|errno| by_peer(errno.name()));
    Some(if reset {
        Outcome::Reset
    } else if silent_death::by_timer(scene, closed) {
        Outcome::SilentDeath
    } else if finished_in_order(scene, closed) {
        Outcome::Recovered
    } else {
        Outcome::Closed
    })
}

/// The same of a condition to which it means nothing that all was acknowledged at the end.
fn ended(scene: &Scene<'_>) -> Option<Outcome> {
    ending(scene).map(|outcome| if outcome == Outcome::Recovered { Outcome::Closed } else { outcome })
}

/// Everything that was sent, FIN included, has been acknowledged.
fn finished_in_order(scene: &Scene<'_>, closed: &Closed) -> bool {
    let tcp = &scene.event.tcp;
    closed.errno.is_none()
        && !closed.reset
        && !closed.fin_unacked
        && tcp.unacked_bytes == Some(0)
        && tcp.unsent_bytes == Some(0)
}

/// Evidence from facts of which some may be unknown: those are left out.
fn evidence<const N: usize>(facts: [(&'static str, Option<Value>); N]) -> Evidence {
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Evidence as a record holds it.
pub(crate) fn by_name(evidence: Evidence) -> Map<String, Value> {
    evidence.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A duration as evidence.
fn in_ms(duration: Duration) -> Value {
    Value::from(milliseconds(duration))
}
