//! `stuck_retransmission`: what was sent is sent again, time after time, and no acknowledgement comes.
//!
//! Only while a process holds the socket (`orphan_stuck` follows), once the connection stands (`connect_blackhole` comes before)
//! and while the peer's window is open: an answered probe of a closed window is no silence.

use super::{Claim, Condition, Scene, ending, evidence, in_ms, number, words};
use crate::record::{Outcome, Retransmit, Severity, State, VerdictName, What};

/// 4: 3.0 s after the first sending at an RTO of 200 ms (0.2 + 0.4 + 0.8 + 1.6). Three in a row (1.4 s) come with bursts of loss that
/// recover by themselves; the fifth would say the same 3 s later.
pub(super) const TIMEOUTS: u32 = 4;

pub(super) const CONDITION: Condition = Condition {
    name: VerdictName::StuckRetransmission,
    severity: Severity::Warning,
    counts: "attempts",
    noun: "the stalled transmission",
    holds,
    claim,
    ends,
};

fn holds(scene: &Scene<'_>) -> Option<u32> {
    let facts = scene.facts;
    let handshake = [State::SYN_SENT, State::SYN_RECV, State::NEW_SYN_RECV];
    let stands = facts.state.is_some_and(|state| !handshake.contains(&state));
    let window_closed = facts.tcp.send_window_bytes == Some(0);
    let applies = scene.lives() && stands && !facts.socket.orphan && !window_closed;
    facts.timeouts.filter(|timeouts| applies && *timeouts >= scene.thresholds.stuck_retransmission)
}

fn ends(scene: &Scene<'_>) -> Option<Outcome> {
    let recovered = scene.facts.moved.then_some(Outcome::Recovered);
    let let_go = scene.facts.socket.orphan.then_some(Outcome::Closed);
    ending(scene).or(recovered).or(let_go)
}

fn claim(scene: &Scene<'_>, attempts: u32) -> Claim {
    let tcp = &scene.facts.tcp;
    let stalled = scene.stalled();
    let idle = scene.idle_before_stall();
    let gives_up_in_ms = scene.gives_up_in_ms();
    let next_ms =
        if let What::Retransmit(Retransmit { next_ms, .. }) = scene.event.what { next_ms } else { None };
    let idled = idle.map_or_else(String::new, |idle| format!(" after {} of idleness", words::duration(idle)));
    let unacked = tcp.unacked_bytes.filter(|bytes| *bytes > 0);
    let unacked = unacked.map_or_else(|| "what was sent".to_owned(), |bytes| words::plural(bytes, "byte"));

    let mut advice: Vec<_> = idle.and_then(words::keep_awake).into_iter().collect();
    if tcp.user_timeout_ms.is_none() {
        advice.extend(stalled.map(words::user_timeout));
        advice.push(words::RETRIES2.to_owned());
    }
    Claim {
        since: scene.stalled_since(),
        evidence: evidence([
            ("attempts", number(attempts)),
            ("stalled_ms", stalled.and_then(in_ms)),
            ("unacked_bytes", tcp.unacked_bytes.and_then(number)),
            ("next_ms", next_ms.and_then(number)),
            ("gives_up_in_ms", gives_up_in_ms.and_then(number)),
            ("idle_ms", idle.and_then(in_ms)),
        ]),
        summary: format!(
            "{} has been waiting for {} to acknowledge {unacked}{}: {} unanswered{idled}{}",
            words::owner(&scene.facts.socket),
            words::peer(&scene.facts.socket),
            words::lasting(stalled),
            words::plural(u64::from(attempts), "retransmission"),
            words::gives_up(gives_up_in_ms)
        ),
        advice,
    }
}
