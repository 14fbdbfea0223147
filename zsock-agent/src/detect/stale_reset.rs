//! `stale_reset`: after idling, the first thing sent was answered by a reset.
//!
//! The peer, or a device on the path, had forgotten the connection while our end thought it alive. A reset out of the blue, one that answers
//! what was sent on a lively connection, and one after either side's FIN are other stories.

use std::time::Duration;

use super::{Claim, Final, Scene, evidence, in_ms, number, words};
use crate::engine::ResetReceived;
use crate::record::{Severity, State, VerdictName};
use crate::time::Time;

/// 30 s: servers' and proxies' own idle limits begin about there; a reset after less is more likely a peer that was just restarted.
pub(super) const IDLE: Duration = Duration::from_secs(30);

pub(super) const FINAL: Final = Final { name: VerdictName::StaleReset, severity: Severity::Warning, judge };

fn judge(scene: &Scene<'_>) -> Option<Claim> {
    let closed = scene.closed()?;
    let reset = scene.facts.reset_received.as_ref()?;
    let stood = reset.state == Some(State::ESTABLISHED) && !closed.peer_closed;
    let sent_at = sent_at(scene, reset).filter(|_| stood)?;
    let last_received_at = scene.facts.last_received_at?;
    let idle = sent_at.since(last_received_at);
    (idle >= scene.thresholds.stale_reset).then(|| claim(scene, reset, last_received_at, idle))
}

/// When that was first sent which the reset answered; absent where nothing was sent or it cannot be told.
fn sent_at(scene: &Scene<'_>, reset: &ResetReceived) -> Option<Time> {
    let tcp = &reset.tcp;
    let ago = |ms| reset.at.before(Duration::from_millis(ms));
    if tcp.unacked_bytes? > 0 {
        // The first retransmission comes at most one RTO after the first sending: little beside the threshold.
        let retransmitting_since =
            scene.facts.retransmitting_since.filter(|since| Some(*since) > scene.facts.last_received_at);
        return tcp.stalled_ms.map(ago).or(retransmitting_since).or(tcp.last_sent_ms.map(ago));
    }
    if tcp.unsent_bytes? > 0 || tcp.probes_out? == 0 {
        return None;
    }
    scene.facts.probing_since.or_else(|| ruled_probe_at(scene, reset))
}

/// When the first keepalive probe was sent by the kernel's rule: an idle time after the last sign of life.
fn ruled_probe_at(scene: &Scene<'_>, reset: &ResetReceived) -> Option<Time> {
    let idle = Duration::from_millis(reset.tcp.keepalive.filter(|keepalive| keepalive.enabled)?.idle_ms);
    Some(scene.facts.last_received_at?.after(idle)).filter(|probed_at| *probed_at <= reset.at)
}

fn claim(scene: &Scene<'_>, reset: &ResetReceived, since: Time, idle: Duration) -> Claim {
    let socket = &scene.facts.socket;
    let sent = match reset.tcp.unacked_bytes {
        Some(bytes) if bytes > 0 => words::plural(bytes, "byte"),
        _ => "a keepalive probe".to_owned(),
    };
    let at_most = words::half_in_seconds(idle);
    Claim {
        since,
        evidence: evidence([
            ("idle_ms", in_ms(idle)),
            ("sent_bytes", reset.tcp.unacked_bytes.and_then(number)),
        ]),
        summary: format!(
            "{} sent {sent} to {} after {} without traffic and got a reset: the connection had been forgotten while it idled",
            words::owner(socket),
            words::peer(socket),
            words::duration(idle)
        ),
        advice: vec![
            format!(
                "close pooled connections to {} after at most {at_most} s without use",
                words::remote(socket)
            ),
            format!("or keep them known: SO_KEEPALIVE with TCP_KEEPIDLE at most {at_most} s on the socket"),
        ],
    }
}
