//! `keepalive_unanswered`: an idle connection's keepalive probes find nobody.

use std::time::Duration;

use super::{Claim, Condition, Scene, ending, evidence, number, words};
use crate::record::{Keepalive, KeepaliveSettings, Outcome, Severity, State, VerdictName, What};
use crate::time::Time;

/// 2: the second probe in a row is sent because the first went unanswered for a whole interval. A single probe is what every healthy
/// idle connection sends.
pub(super) const PROBES: u32 = 2;

pub(super) const CONDITION: Condition = Condition {
    name: VerdictName::KeepaliveUnanswered,
    severity: Severity::Warning,
    counts: "probes",
    noun: "the silence towards the keepalive probes",
    holds,
    claim,
    ends,
};

fn holds(scene: &Scene<'_>) -> Option<u32> {
    let probes = if let What::Keepalive(Keepalive { probe, .. }) = scene.event.what {
        Some(probe)
    } else {
        probes_out(scene)
    };
    let applies = scene.lives() && !scene.facts.socket.orphan;
    probes.filter(|probes| applies && *probes >= scene.thresholds.keepalive_unanswered)
}

/// Unanswered keepalive probes as a look at the socket shows them. With data or FIN waiting they would be probes of the window.
fn probes_out(scene: &Scene<'_>) -> Option<u32> {
    let tcp = &scene.event.tcp;
    let idle = tcp.unacked_bytes == Some(0) && tcp.unsent_bytes == Some(0);
    let closing = scene.facts.state.is_none_or(State::is_closing);
    let enabled = tcp.keepalive.is_some_and(|keepalive| keepalive.enabled);
    tcp.probes_out.filter(|_| idle && !closing && enabled)
}

fn ends(scene: &Scene<'_>) -> Option<Outcome> {
    let told = matches!(scene.event.what, What::KeepaliveAnswered(_));
    let answered = scene.lives() && (told || scene.facts.moved || scene.event.tcp.probes_out == Some(0));
    let let_go = scene.facts.socket.orphan.then_some(Outcome::Closed);
    ended(scene).or(answered.then_some(Outcome::Answered)).or(let_go)
}

/// How the connection came to its end; that all of it was acknowledged says nothing of the probes.
fn ended(scene: &Scene<'_>) -> Option<Outcome> {
    ending(scene).map(|outcome| if outcome == Outcome::Recovered { Outcome::Closed } else { outcome })
}

fn claim(scene: &Scene<'_>, probes: u32) -> Claim {
    let tcp = &scene.facts.tcp;
    let told = if let What::Keepalive(Keepalive { of, .. }) = scene.event.what { of } else { None };
    let of = told.or(tcp.keepalive.map(|keepalive| keepalive.probes));
    let gives_up_in_ms = scene.gives_up_in_ms();
    let silent = scene.facts.last_received_at.map(|last| scene.at.since(last));
    let silence = silent.map_or_else(String::new, |silent| format!(" in {}", words::duration(silent)));
    Claim {
        since: probing_since(scene).unwrap_or(scene.at),
        evidence: evidence([
            ("probes", number(probes)),
            ("of", of.and_then(number)),
            ("gives_up_in_ms", gives_up_in_ms.and_then(number)),
        ]),
        summary: format!(
            "{} has an idle connection to {} that looks dead: {} without an answer, no sign of life{silence}{}",
            words::owner(&scene.facts.socket),
            words::peer(&scene.facts.socket),
            words::plural(u64::from(probes), "keepalive probe"),
            words::gives_up(gives_up_in_ms)
        ),
        advice: tcp.keepalive.map(advice).into_iter().collect(),
    }
}

fn advice(keepalive: KeepaliveSettings) -> String {
    let idle = Duration::from_millis(keepalive.idle_ms);
    format!(
        "the peer was gone by the first probe, after {} without traffic: if something on the path forgets idle connections, set \
         TCP_KEEPIDLE at most {} s on the socket (or net.ipv4.tcp_keepalive_time)",
        words::duration(idle),
        words::half_in_seconds(idle)
    )
}

/// When the first of the unanswered probes was sent: as told, else by the kernel's rule, an idle time after the last sign of life.
fn probing_since(scene: &Scene<'_>) -> Option<Time> {
    let ruled = || {
        let idle = Duration::from_millis(scene.facts.tcp.keepalive?.idle_ms);
        Some(scene.facts.last_received_at?.after(idle)).filter(|first| *first <= scene.at)
    };
    scene.facts.probing_since.or_else(ruled)
}
