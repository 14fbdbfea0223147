//! A verdict that is open, from its opening to its end.

use std::time::Duration;

use serde_json::Value;

use super::{Advice, Claim, Condition, Evidence, Grounds, Scene, in_ms, words};
use crate::record::Outcome;
use crate::time::{Time, milliseconds};

/// The kernel's times are counted in ticks of at most 10 ms: two looks at one and the same beginning differ by no more than a few of them.
const SAME_BEGINNING_MS: u64 = 100;

/// A verdict that is open. Hundreds of thousands may be: it keeps no more of what was claimed than its end needs.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) condition: &'static Condition,
    /// When the condition began.
    since: Time,
    /// Of the evidence when the condition was last found to hold, what will be said at its end too.
    lasting: Box<[(&'static str, Value)]>,
    /// The advice of that time.
    advice: Advice,
    /// The count at which it was said.
    said_at: u64,
    /// The highest count since.
    counted: u64,
}

impl Open {
    /// Opens a verdict, with its first claim.
    pub(crate) fn new(condition: &'static Condition, scene: &Scene<'_>, count: u64) -> (Self, Claim) {
        let Grounds { since, evidence, advice } = (condition.grounds)(scene, count);
        let lasting = lasting(condition, &evidence);
        let opened = Self { condition, since, lasting, advice, said_at: count, counted: count };
        let claim = opened.claim(evidence, scene, count);
        (opened, claim)
    }

    /// The renewed claim where the count has doubled since it was said last; more often would tell nobody anything new.
    pub(crate) fn update(&mut self, scene: &Scene<'_>, count: u64) -> Option<Claim> {
        self.counted = self.counted.max(count);
        let evidence = self.renew(scene, count);
        if count < self.said_at.saturating_mul(2) {
            return None;
        }
        self.said_at = count;
        Some(self.claim(evidence, scene, count))
    }

    /// The claim renewed for a reason of another kind than its count.
    pub(crate) fn say_anew(&mut self, scene: &Scene<'_>) -> Claim {
        let lasted = milliseconds(scene.at.since(self.since));
        let count = if self.condition.span.is_some() { lasted } else { self.counted };
        self.said_at = self.said_at.max(count);
        let evidence = self.renew(scene, count);
        self.claim(evidence, scene, count)
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
        (milliseconds(began.since(self.since)) > SAME_BEGINNING_MS).then_some(began)
    }

    /// The last claim with the final numbers; what lay ahead is left out, for it is over.
    pub(crate) fn close(self, scene: &Scene<'_>, outcome: Outcome) -> Claim {
        let ended_at = self.broken_at(scene).unwrap_or(scene.at);
        let Self { condition, since, lasting, advice, counted, .. } = self;
        let lasted = ended_at.since(since);
        let mut evidence = Vec::from(lasting);
        if let Some((_, stalled_ms)) = evidence.iter_mut().find(|(name, _)| *name == STALLED_MS) {
            *stalled_ms = in_ms(lasted);
        }
        let counted = if condition.span.is_some() { milliseconds(lasted) } else { counted };
        evidence.push((condition.counts, Value::from(counted)));
        let summary = words::ended(&scene.facts.socket, condition.noun, lasted, outcome);
        Claim { since, evidence, summary, advice: advice.words() }
    }

    /// The memory that it takes, its share of a `Vec` included.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.lasting) + self.advice.bytes_elsewhere()
    }

    /// Takes in what the condition rests on now, and gives the evidence.
    fn renew(&mut self, scene: &Scene<'_>, count: u64) -> Evidence {
        let Grounds { mut evidence, advice, .. } = (self.condition.grounds)(scene, count);
        // How long it has lasted is known from its beginning even where the event does not tell.
        if tells_stalled(&self.lasting) && !tells_stalled(&evidence) {
            evidence.push((STALLED_MS, in_ms(scene.at.since(self.since))));
        }
        self.lasting = lasting(self.condition, &evidence);
        self.advice = advice;
        evidence
    }

    fn claim(&self, evidence: Evidence, scene: &Scene<'_>, count: u64) -> Claim {
        let summary = (self.condition.summary)(scene, count);
        Claim { since: self.since, evidence, summary, advice: self.advice.words() }
    }
}

/// How long it lasts, where what is counted is something else.
const STALLED_MS: &str = "stalled_ms";

/// What lies ahead.
const AHEAD: [&str; 3] = ["gives_up_in_ms", "next_ms", "would_be_noticed_ms"];

/// The evidence without what lies ahead and without the count, which has a field of its own.
fn lasting(condition: &Condition, evidence: &Evidence) -> Box<[(&'static str, Value)]> {
    let lasts = |name: &str| name != condition.counts && !AHEAD.contains(&name);
    evidence.iter().filter(|(name, _)| lasts(name)).cloned().collect()
}

fn tells_stalled(evidence: &[(&'static str, Value)]) -> bool {
    evidence.iter().any(|(name, _)| *name == STALLED_MS)
}
