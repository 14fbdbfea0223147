//! `orphan_stuck`: a socket that no process holds any more cannot finish closing.

use super::{Claim, Condition, Scene, ending, evidence, in_ms, number, words};
use crate::record::{Outcome, Severity, State, VerdictName};

/// 3: the kernel's own bound for orphans is 8 by default, and 1 to 7 where `net.ipv4.tcp_orphan_retries` is set; nobody waits for an orphan, so
/// an early word costs nobody a thought, but 2 come with ordinary loss.
pub(super) const ATTEMPTS: u32 = 3;

pub(super) const CONDITION: Condition = Condition {
    name: VerdictName::OrphanStuck,
    severity: Severity::Info,
    counts: "attempts",
    noun: "the unfinished closing",
    holds,
    claim,
    ends,
};

fn holds(scene: &Scene<'_>) -> Option<u32> {
    let facts = scene.facts;
    let applies = scene.lives() && facts.socket.orphan && facts.state.is_some_and(State::is_closing);
    let attempts = facts.timeouts.unwrap_or(0).max(facts.window_probes.open_window);
    Some(attempts).filter(|attempts| applies && *attempts >= scene.thresholds.orphan_stuck)
}

fn ends(scene: &Scene<'_>) -> Option<Outcome> {
    if let Some(outcome) = ending(scene) {
        // Either side's reset ends an orphan: nobody is left who could have asked for ours.
        let reset = outcome == Outcome::Closed && scene.facts.reset_sent;
        return Some(if reset { Outcome::Reset } else { outcome });
    }
    let acknowledged = [State::FIN_WAIT2, State::TIME_WAIT].map(Some).contains(&scene.facts.state);
    (scene.facts.moved || acknowledged).then_some(Outcome::Recovered)
}

fn claim(scene: &Scene<'_>, attempts: u32) -> Claim {
    let socket = &scene.facts.socket;
    let stalled = scene.stalled();
    let gives_up_in_ms = scene.gives_up_in_ms();
    let left =
        if socket.owner_exited == Some(true) { "which has exited" } else { "which no longer holds it" };
    let unacked = scene.facts.tcp.unacked_bytes.filter(|bytes| *bytes > 0);
    let unacked = unacked.map_or_else(
        || "the connection's end".to_owned(),
        |bytes| format!("{} and the connection's end", words::plural(bytes, "byte")),
    );
    Claim {
        since: scene.stalled_since(),
        evidence: evidence([
            ("attempts", number(attempts)),
            ("owner_exited", socket.owner_exited.map(Into::into)),
            ("gives_up_in_ms", gives_up_in_ms.and_then(number)),
            ("stalled_ms", stalled.and_then(in_ms)),
        ]),
        summary: format!(
            "the connection of {}, {left}, cannot be closed: {} has not acknowledged {unacked}{}, {} went unanswered{}",
            words::owner(socket),
            words::peer(socket),
            words::lasting(stalled),
            words::plural(u64::from(attempts), "attempt"),
            words::gives_up(gives_up_in_ms)
        ),
        advice: vec![format!(
            "no process can act on it any more, and it goes by itself; if such sockets pile up, net.ipv4.tcp_orphan_retries={attempts} \
             lets the kernel drop them after as many attempts as this one has made"
        )],
    }
}
