//! `connect_blackhole`: a connection attempt goes unanswered.
//!
//! Opens when SYNs have been sent again without an answer, or when the attempt is given up after at least one. A refusal is an
//! answer: before the threshold it is nothing, after it the outcome.

use super::{Claim, Condition, Scene, evidence, in_ms, number, words};
use crate::record::{Cause, Errno, Outcome, Severity, State, VerdictName, What};

/// 3: seven seconds of silence at 1, 2 and 4 s (three where the kernel's first SYN time-outs are linear), far beyond a lost
/// packet or two; most clients' own time limits come later.
pub(super) const SYNS: u32 = 3;

pub(super) const CONDITION: Condition = Condition {
    name: VerdictName::ConnectBlackhole,
    severity: Severity::Warning,
    counts: "attempts",
    noun: "the unanswered connection attempt",
    holds,
    claim,
    ends,
};

fn holds(scene: &Scene<'_>) -> Option<u32> {
    if scene.closed().is_some() {
        return given_up(scene);
    }
    let sends_syns = scene.facts.state == Some(State::SYN_SENT)
        || matches!(&scene.event.what, What::Retransmit(it) if it.cause == Some(Cause::Syn));
    scene.facts.timeouts.filter(|attempts| sends_syns && *attempts >= scene.thresholds.connect_blackhole)
}

/// SYNs sent again in an attempt that ended here without an answer.
fn given_up(scene: &Scene<'_>) -> Option<u32> {
    let unanswered = ends(scene).is_some_and(|outcome| outcome != Outcome::Refused);
    scene.facts.timeouts.filter(|attempts| unanswered && *attempts >= 1)
}

fn ends(scene: &Scene<'_>) -> Option<Outcome> {
    let Some(closed) = scene.closed() else {
        let answered = |state| ![State::SYN_SENT, State::SYN_RECV, State::CLOSE].contains(&state);
        return scene.facts.state.filter(|state| answered(*state)).map(|_| Outcome::Connected);
    };
    if closed.from != State::SYN_SENT {
        return None;
    }
    Some(match closed.errno.as_ref().map(Errno::name) {
        _ if scene.facts.reset_received.is_some() => Outcome::Refused,
        Some("ECONNREFUSED" | "ECONNRESET") => Outcome::Refused,
        None | Some("ECONNABORTED") => Outcome::Closed,
        Some(_) => Outcome::TimedOut,
    })
}

fn claim(scene: &Scene<'_>, attempts: u32) -> Claim {
    let socket = &scene.facts.socket;
    let connecting = scene.facts.connecting_since.map(|since| scene.at.since(since));
    let stalled = connecting.or(scene.stalled());
    let gives_up_in_ms = scene.gives_up_in_ms();
    let remote = words::remote(socket);
    Claim {
        since: scene.facts.connecting_since.unwrap_or_else(|| scene.stalled_since()),
        evidence: evidence([
            ("attempts", number(attempts)),
            ("stalled_ms", stalled.and_then(in_ms)),
            ("gives_up_in_ms", gives_up_in_ms.and_then(number)),
        ]),
        summary: format!(
            "{} has been trying to connect to {}{}: nothing answered its SYN, sent again {}{}",
            words::owner(socket),
            words::peer(socket),
            words::lasting(stalled),
            words::plural(u64::from(attempts), "time"),
            words::gives_up(gives_up_in_ms)
        ),
        advice: vec![
            format!(
                "check the way to {remote}: silence instead of a refusal points to a firewall or security group that drops, \
                 a wrong address, or a host that is down"
            ),
            format!(
                "bound the attempt: TCP_SYNCNT={attempts} on the socket, or net.ipv4.tcp_syn_retries={attempts} for the network namespace, \
                 gives up after {attempts} SYNs sent again (plus net.ipv4.tcp_syn_linear_timeouts where the kernel has it)"
            ),
        ],
    }
}
