//! The verdict that one look at a socket gives, by the rules of the detectors themselves. What has to be watched for a while (requests and
//! answers, what a process reads) gives none.

use super::{CONDITIONS, Condition, Scene, Thresholds};
use crate::engine::Facts;
use crate::record::{Event, VerdictName};
use crate::time::Time;

/// The verdict on a socket of which nothing is known but what `event`, a sample, says; of several the severest.
#[must_use]
pub fn at_a_glance(at: Time, event: &Event, thresholds: &Thresholds) -> Option<VerdictName> {
    let mut facts = Facts::new(event, 0);
    facts.apply(at, event, 0);
    let scene = Scene { at, event, facts: &facts, thresholds, sees_window_probes: false, peer: None };
    let holding = CONDITIONS.into_iter().filter(|condition| (condition.holds)(&scene).is_some());
    holding.max_by_key(|condition: &&Condition| condition.severity).map(|condition| condition.name)
}
