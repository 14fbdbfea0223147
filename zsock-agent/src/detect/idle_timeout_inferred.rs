//! `idle_timeout_inferred`: connections to one destination that idle for longer than some time die.
//!
//! Which deaths count and when they agree is told in `engine::destinations`. The verdict stays open; it is updated as the bound narrows, and
//! where an answer contradicts what was said.

use std::time::Duration;

use serde_json::Value;

use super::{Claim, evidence, in_ms, words};
use crate::engine::{Bound, How};

mod products;
#[cfg(test)]
mod tests;

/// 2: one death may have any reason; two that agree and have no moment in common are no accident.
pub(super) const DEATHS: u32 = 2;

/// A first probe need not come later than this, whatever the time-out.
const LONGEST_KEEPALIVE_IDLE: Duration = Duration::from_mins(5);

/// What a bound says: of a time-out, or, where it holds no longer, of the reason.
pub(crate) fn claim(bound: &Bound) -> Claim {
    let Bound { how, deaths, died_after, survived, since, lost, .. } = *bound;
    let likely = died_after.filter(|_| bound.holds).and_then(|died| products::likely(how, survived, died));
    Claim {
        since,
        evidence: evidence([
            ("died_after_ms", died_after.map(in_ms)),
            ("survived_ms", survived.map(in_ms)),
            ("deaths", Some(deaths.into())),
            ("how", Some(name(how).into())),
            ("likely", likely.clone().map(Value::from)),
            ("lost_before", (lost > 0).then(|| lost.into())),
        ]),
        summary: match died_after.filter(|_| bound.holds) {
            Some(died_after) => summary(bound, died_after, likely),
            None => taken_back(bound),
        },
        advice: match died_after.filter(|_| bound.holds) {
            Some(died_after) => advice(bound, died_after),
            None => vec![format!(
                "keep what was set for {}: it does no harm; zsock says more when more connections die",
                bound.destination
            )],
        },
    }
}

/// How connections die, as the evidence says it.
const fn name(how: How) -> &'static str {
    match how {
        How::Reset => "reset",
        How::Silence => "silence",
    }
}

fn summary(bound: &Bound, died_after: Duration, likely: Option<String>) -> String {
    let answer = match bound.how {
        How::Reset => "got a reset in answer to the next thing that they sent",
        How::Silence => "got no answer to the next thing that they sent",
    };
    let survived = bound.survived.map_or_else(String::new, |survived| {
        format!(", while up to {} were answered", words::duration(survived))
    });
    let likely = likely.map_or_else(String::new, |likely| format!(", which fits {likely}"));
    format!(
        "{} to {} that had idled for {} or longer {answer}{survived}: something forgets idle connections there{likely}",
        words::plural(bound.deaths, "connection"),
        bound.destination,
        words::duration(died_after),
    )
}

fn taken_back(bound: &Bound) -> String {
    let survived = bound.survived.map_or_else(
        || "another reason was seen for deaths of connections".to_owned(),
        |survived| format!("one that had idled for {} was answered", words::duration(survived)),
    );
    let left = match bound.deaths {
        0 => "no death speaks for it any more".to_owned(),
        deaths => format!("{} left too few to tell", words::plural(deaths, "death")),
    };
    format!("no idle time-out can be told of {} any more: {survived}, {left}", bound.destination)
}

fn advice(bound: &Bound, died_after: Duration) -> Vec<String> {
    let pool_idle = words::half_in_seconds(died_after);
    let keepalive_idle = pool_idle.min(LONGEST_KEEPALIVE_IDLE.as_secs());
    let interval = (keepalive_idle / 3).max(1);
    // Twice the idle time leaves room for more than one probe: a user time-out that comes sooner ends the connection with the
    // first that is lost. Shorter ones than 10 s end connections that a lossy path would have recovered.
    let user_timeout_ms = (2 * keepalive_idle).max(10) * 1_000;
    let destination = bound.destination;
    vec![
        format!(
            "keep them known: SO_KEEPALIVE with TCP_KEEPIDLE at most {keepalive_idle} s and TCP_KEEPINTVL at most {interval} s on sockets to \
             {destination}"
        ),
        format!("or close pooled connections to {destination} after at most {pool_idle} s without use"),
        format!(
            "set TCP_USER_TIMEOUT to {user_timeout_ms} (milliseconds) on these sockets, so that a process hears of a connection that was forgotten \
             all the same"
        ),
    ]
}
