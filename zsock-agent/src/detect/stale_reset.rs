//! `stale_reset`: after idling, the first thing sent was answered by a reset.
//!
//! The peer, or a device on the path, had forgotten the connection while our end thought it alive. A reset out of the blue, one that answers
//! what was sent on a lively connection, and one after either side's FIN are other stories.

use std::time::Duration;

use serde_json::Value;

use super::{Claim, Final, Scene, evidence, in_ms, words};
use crate::engine::ResetReceived;
use crate::record::{Severity, State, VerdictName};
use crate::time::Time;

/// 30 s: servers' and proxies' own idle limits begin about there; a reset after less is more likely a peer that was just restarted.
pub(super) const IDLE: Duration = Duration::from_secs(30);

pub(super) const FINAL: Final = Final { name: VerdictName::StaleReset, severity: Severity::Warning, judge };

fn judge(scene: &Scene<'_>) -> Option<Claim> {
    scene.closed()?;
    let reset = scene.facts.reset_received.as_ref()?;
    let stood = reset.state == Some(State::ESTABLISHED);
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
            ("idle_ms", Some(in_ms(idle))),
            ("sent_bytes", reset.tcp.unacked_bytes.map(Value::from)),
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
                words::remote(socket.remote)
            ),
            format!("or keep them known: SO_KEEPALIVE with TCP_KEEPIDLE at most {at_most} s on the socket"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use crate::detect::Thresholds;
    use crate::detect::story::{
        closed_by_reset, details, established, expected, findings, findings_with, keepalive, lost, on, probe,
        resent, reset_received, state, verdict, verdicts, with, words_of,
    };
    use crate::record::{KeepaliveSettings, Record, State, Tcp};

    /// Idle since 0, then something sent and answered by a reset at `at_ms`.
    fn reset_at(at_ms: u64, change: impl FnOnce(&mut Tcp)) -> Vec<Record> {
        vec![on(0, established()), on(at_ms, with(reset_received(), change)), on(at_ms, closed_by_reset())]
    }

    fn heard(ms_ago: u64) -> impl Fn(&mut Tcp) {
        move |tcp| tcp.last_received_ms = Some(ms_ago)
    }

    #[test]
    fn it_needs_thirty_seconds_without_a_segment_before_what_was_sent() {
        assert_eq!(verdicts(&reset_at(30_001, heard(30_001))), expected([(30_001, "stale_reset closed")]));
        assert_eq!(verdicts(&reset_at(30_000, heard(30_000))), expected([]));
    }

    #[test]
    fn its_threshold_is_a_duration() {
        let mut thresholds = Thresholds::default();
        thresholds.set("stale_reset=2s").unwrap();
        let findings = findings_with(thresholds, &reset_at(3_005, heard(3_005)));
        assert_eq!(words_of(&findings), expected([(3_005, "stale_reset closed")]));
    }

    #[test]
    fn it_says_how_long_the_connection_idled_and_what_to_change() {
        let findings = findings(&reset_at(350_001, heard(350_001)));
        assert_eq!(
            details(&findings[0]),
            (
                0,
                r#"{"idle_ms":350000,"sent_bytes":24}"#.to_owned(),
                "curl (pid 812) sent 24 bytes to 10.0.1.4:443 (from 10.0.0.2:50000) after 5 min 50 s without traffic and got a reset: \
                 the connection had been forgotten while it idled"
                    .to_owned()
            )
        );
        assert_eq!(
            verdict(&findings[0]).advice,
            [
                "close pooled connections to 10.0.1.4:443 after at most 175 s without use",
                "or keep them known: SO_KEEPALIVE with TCP_KEEPIDLE at most 175 s on the socket",
            ]
        );
    }

    #[test]
    fn the_idle_time_ends_with_the_first_sending_not_with_the_last() {
        let idle_ms = |records: &[Record]| verdict(&findings(records)[0]).evidence["idle_ms"].as_u64();
        let stalled = |tcp: &mut Tcp| {
            tcp.last_received_ms = Some(43_000);
            tcp.stalled_ms = Some(3_000);
        };
        assert_eq!(idle_ms(&reset_at(43_000, stalled)), Some(40_000));
        let mut resent_once = reset_at(43_000, heard(43_000));
        resent_once.insert(1, on(40_200, resent(1)));
        resent_once.insert(2, on(40_600, resent(2)));
        assert_eq!(idle_ms(&resent_once), Some(40_200));
        let mut long_ago = reset_at(43_000, heard(41_000));
        long_ago.insert(1, on(1_000, resent(1)));
        assert_eq!(
            idle_ms(&long_ago),
            Some(40_999),
            "a retransmission before the last word is another stall"
        );
    }

    #[test]
    fn a_keepalive_probe_can_be_what_was_answered() {
        let probed = |tcp: &mut Tcp| {
            tcp.unacked_bytes = Some(0);
            tcp.probes_out = Some(2);
            tcp.keepalive = Some(KeepaliveSettings { idle_ms: 60_000, ..keepalive() });
            tcp.last_received_ms = Some(61_000);
        };
        let findings_of = |records: &[Record]| findings(records).iter().map(details).collect::<Vec<_>>();
        let by_rule = reset_at(61_000, probed);
        let told = [(
            0,
            r#"{"idle_ms":60000,"sent_bytes":0}"#.to_owned(),
            "curl (pid 812) sent a keepalive probe to 10.0.1.4:443 (from 10.0.0.2:50000) after 1 min 0 s without traffic and got a reset: \
             the connection had been forgotten while it idled"
                .to_owned(),
        )];
        assert_eq!(findings_of(&by_rule), told);
        let mut seen = by_rule.clone();
        seen.insert(1, on(60_250, with(probe(1), heard(60_250))));
        assert_eq!(findings_of(&seen)[0].1, r#"{"idle_ms":60250,"sent_bytes":0}"#);
        let mut answered_before = reset_at(62_000, probed);
        answered_before.insert(1, on(500, with(probe(1), heard(500))));
        assert_eq!(findings_of(&answered_before)[0].1, r#"{"idle_ms":60000,"sent_bytes":0}"#);
    }

    #[test]
    fn a_reset_that_answers_nothing_or_comes_while_closing_is_another_story() {
        let out_of_the_blue = |tcp: &mut Tcp| {
            tcp.unacked_bytes = Some(0);
            tcp.last_received_ms = Some(60_000);
        };
        let after_fin = |tcp: &mut Tcp| {
            tcp.state = Some(State::CLOSE_WAIT);
            tcp.last_received_ms = Some(60_000);
        };
        let closing = |tcp: &mut Tcp| {
            tcp.state = Some(State::FIN_WAIT1);
            tcp.last_received_ms = Some(60_000);
        };
        assert_eq!(verdicts(&reset_at(60_000, out_of_the_blue)), expected([]));
        assert_eq!(verdicts(&reset_at(60_000, after_fin)), expected([]));
        assert_eq!(verdicts(&reset_at(60_000, closing)), expected([]));
        let window_probed = |tcp: &mut Tcp| {
            tcp.unacked_bytes = Some(0);
            tcp.unsent_bytes = Some(100);
            tcp.probes_out = Some(1);
            tcp.keepalive = Some(KeepaliveSettings { idle_ms: 50_000, ..keepalive() });
            tcp.last_received_ms = Some(60_000);
        };
        assert_eq!(verdicts(&reset_at(60_000, window_probed)), expected([]));
        let unknown_state = |tcp: &mut Tcp| {
            tcp.state = None;
            tcp.last_received_ms = Some(60_000);
        };
        let mut half_closed = reset_at(60_000, unknown_state);
        half_closed.insert(1, on(10, state(State::ESTABLISHED, State::CLOSE_WAIT)));
        assert_eq!(verdicts(&half_closed), expected([]));
    }

    #[test]
    fn loss_in_the_middle_is_said_and_a_lost_reset_is_not_made_up() {
        let mut records = reset_at(60_000, heard(60_000));
        records.insert(1, lost(30_000, 2));
        assert_eq!(details(&findings(&records)[0]).1, r#"{"idle_ms":59999,"lost_before":2,"sent_bytes":24}"#);
        records.remove(2);
        assert_eq!(verdicts(&records), expected([]));
    }
}
