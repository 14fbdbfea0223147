//! A verdict that is open, from its opening to its end.

use std::time::Duration;

use serde_json::Value;

use super::{Claim, Condition, Scene, in_ms, words};
use crate::record::Outcome;
use crate::time::{Time, milliseconds};

/// The kernel's times are counted in ticks of at most 10 ms: two looks at one and the same beginning differ by no more than a few of them.
const SAME_BEGINNING_MS: u64 = 100;

/// A verdict that is open.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) condition: &'static Condition,
    /// The claim when the condition was last found to hold.
    claim: Claim,
    /// The count at which it was said.
    said_at: u64,
    /// The highest count since.
    counted: u64,
}

impl Open {
    /// Opens a verdict.
    pub(crate) fn new(condition: &'static Condition, scene: &Scene<'_>, count: u64) -> Self {
        Self { condition, claim: (condition.claim)(scene, count), said_at: count, counted: count }
    }

    /// The claim as it was made last.
    pub(crate) fn claim(&self) -> Claim {
        self.claim.clone()
    }

    /// The renewed claim where the count has doubled since it was said last; more often would tell nobody anything new.
    pub(crate) fn update(&mut self, scene: &Scene<'_>, count: u64) -> Option<Claim> {
        self.counted = self.counted.max(count);
        self.renew(scene, count);
        if count < self.said_at.saturating_mul(2) {
            return None;
        }
        self.said_at = count;
        Some(self.claim())
    }

    /// The claim renewed for a reason of another kind than its count.
    pub(crate) fn say_anew(&mut self, scene: &Scene<'_>) -> Claim {
        let lasted = milliseconds(scene.at.since(self.claim.since));
        let count = if self.condition.span.is_some() { lasted } else { self.counted };
        self.renew(scene, count);
        self.said_at = self.said_at.max(count);
        self.claim()
    }

    /// How the event ended it, if it did.
    pub(crate) fn ends(&self, scene: &Scene<'_>) -> Option<Outcome> {
        let broken = || self.broken_at(scene).and(self.condition.span.as_ref()).map(|span| span.breaks);
        let closed = || scene.closed().map(|_| Outcome::Closed);
        (self.condition.ends)(scene).or_else(broken).or_else(closed)
    }

    /// When that happened after which a look at the socket finds the time that is counted over, or begun anew.
    pub(crate) fn broken_at(&self, scene: &Scene<'_>) -> Option<Time> {
        let span = self.condition.span.as_ref()?;
        let lasts_ms = (span.at_a_look)(scene, scene.look()?);
        let began = lasts_ms.map_or(scene.at, |ms| scene.at.before(Duration::from_millis(ms)));
        (milliseconds(began.since(self.claim.since)) > SAME_BEGINNING_MS).then_some(began)
    }

    /// The last claim with the final numbers; what lay ahead is left out, for it is over.
    pub(crate) fn close(self, scene: &Scene<'_>, outcome: Outcome) -> Claim {
        let ended_at = self.broken_at(scene).unwrap_or(scene.at);
        let Self { condition, mut claim, counted, .. } = self;
        let lasted = ended_at.since(claim.since);
        for ahead in ["gives_up_in_ms", "next_ms", "would_be_noticed_ms"] {
            claim.evidence.remove(ahead);
        }
        if let Some(stalled_ms) = claim.evidence.get_mut("stalled_ms") {
            *stalled_ms = in_ms(lasted);
        }
        let counted = if condition.span.is_some() { milliseconds(lasted) } else { counted };
        claim.evidence.insert(condition.counts.to_owned(), Value::from(counted));
        claim.summary = words::ended(&scene.facts.socket, condition.noun, lasted, outcome);
        claim
    }

    fn renew(&mut self, scene: &Scene<'_>, count: u64) {
        let since = self.claim.since;
        let mut renewed = Claim { since, ..(self.condition.claim)(scene, count) };
        // How long it has lasted is known from its beginning even where the event does not tell.
        if self.claim.evidence.contains_key("stalled_ms") {
            let lasted = in_ms(scene.at.since(since));
            renewed.evidence.entry("stalled_ms").or_insert(lasted);
        }
        self.claim = renewed;
    }
}
