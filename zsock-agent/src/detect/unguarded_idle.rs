//! `unguarded_idle`: an idle connection that nothing keeps known on the path, and nothing finds dead in time.
//!
//! NAT gateways, firewalls and load balancers forget connections that idle. One whose first keepalive probe comes before that is assumed to
//! happen (`--assume-idle-timeout`) is guarded and not mentioned; where it is not known whether keepalive is on, nothing is claimed.

use std::time::Duration;

use super::{Advice, Condition, Grounds, Scene, Span, ended, evidence, in_ms, words};
use crate::record::{KeepaliveSettings, Outcome, Severity, State, VerdictName, What};

/// 5 min: shortly before the path is assumed to forget. What idles for less is in use.
pub(super) const IDLE: Duration = Duration::from_mins(5);

/// On loopback the kernel tells one end of the other's death.
const LOCAL_ADVICE: &str = "nothing to set in TCP: where the peer may hang, give the program that waits for it a time limit (a read time-out); \
                            `--local` and `--remote` leave loopback out";

/// 350 s: the time-out of AWS's NAT gateways and network load balancers, of those in wide use the shortest but for Azure's 4 min.
pub(super) const ASSUMED_IDLE_TIMEOUT: Duration = Duration::from_secs(350);

pub(super) const CONDITION: Condition = Condition {
    name: VerdictName::UnguardedIdle,
    severity: Severity::Info,
    counts: "idle_ms",
    noun: "the unguarded idling",
    holds,
    grounds,
    summary,
    ends,
    span: Some(Span { at_a_look: |_, sample| sample.idle_ms, breaks: Outcome::Spoke }),
};

fn holds(scene: &Scene<'_>) -> Option<u64> {
    let idle_ms = scene.look()?.idle_ms?;
    let stands = scene.lives() && scene.facts.state == Some(State::ESTABLISHED);
    let unguarded = scene.event.tcp.keepalive.is_some_and(|keepalive| !guards(scene, keepalive));
    let long = Duration::from_millis(idle_ms) >= scene.thresholds.unguarded_idle;
    (stands && unguarded && long).then_some(idle_ms)
}

/// Whether the first probe comes before the path is assumed to forget.
fn guards(scene: &Scene<'_>, keepalive: KeepaliveSettings) -> bool {
    let first_probe = Duration::from_millis(keepalive.idle_ms);
    keepalive.enabled && first_probe <= scene.thresholds.assumed_idle_timeout
}

fn ends(scene: &Scene<'_>) -> Option<Outcome> {
    if let Some(outcome) = ended(scene) {
        return Some(outcome);
    }
    let guarded = scene.event.tcp.keepalive.is_some_and(|keepalive| guards(scene, keepalive));
    if !scene.lives() {
        None
    } else if scene.facts.state != Some(State::ESTABLISHED) {
        Some(Outcome::Closed)
    } else if guarded {
        Some(Outcome::Guarded)
    } else {
        is_segment(&scene.event.what).then_some(Outcome::Spoke)
    }
}

/// Whether a segment goes over the connection here.
fn is_segment(what: &What) -> bool {
    match what {
        What::Retransmit(_)
        | What::Keepalive(_)
        | What::KeepaliveAnswered(_)
        | What::ZeroWindowProbe(_)
        | What::Progress(_) => true,
        What::State(_)
        | What::Error(_)
        | What::ResetReceived(_)
        | What::ResetSent(_)
        | What::AcceptFailed(_)
        | What::Closed(_)
        | What::Sample(_) => false,
    }
}

fn grounds(scene: &Scene<'_>, idle_ms: u64) -> Grounds {
    let idle = Duration::from_millis(idle_ms);
    let noticed_in = scene.facts.gives_up_in(scene.at);
    Grounds {
        since: scene.at.before(idle),
        evidence: evidence([("idle_ms", Some(in_ms(idle))), ("would_be_noticed_ms", noticed_in.map(in_ms))]),
        advice: if is_local(scene) {
            Advice::new(|| vec![LOCAL_ADVICE.to_owned()])
        } else {
            advice(scene, first_probe(scene))
        },
    }
}

fn summary(scene: &Scene<'_>, idle_ms: u64) -> String {
    let socket = &scene.facts.socket;
    let tcp = &scene.facts.tcp;
    let first_probe = first_probe(scene);
    let why = first_probe.map_or_else(
        || "SO_KEEPALIVE is off".to_owned(),
        |keepalive| {
            let after = words::duration(Duration::from_millis(keepalive.idle_ms));
            format!("its first keepalive probe comes only after {after}")
        },
    );
    let nothing_sent = tcp.unacked_bytes == Some(0) && tcp.unsent_bytes == Some(0);
    let noticed = match scene.facts.gives_up_in(scene.at) {
        Some(noticed_in) => {
            format!(", and a death would be noticed only after {}", words::duration(noticed_in))
        }
        None if first_probe.is_none() && nothing_sent => ", and a death would never be noticed".to_owned(),
        None => String::new(),
    };
    let but = if is_local(scene) {
        format!(
            ": {why}; both ends are on this host, where no path forgets it: only a peer that hangs goes unnoticed"
        )
    } else {
        format!(" and nothing keeps the path from forgetting it: {why}{noticed}")
    };
    format!(
        "the connection of {} with {} has carried nothing for {}{but}",
        words::owner(socket),
        words::peer(socket),
        words::duration(Duration::from_millis(idle_ms)),
    )
}

/// Keepalive, where it is on.
fn first_probe(scene: &Scene<'_>) -> Option<KeepaliveSettings> {
    scene.facts.tcp.keepalive.filter(|keepalive| keepalive.enabled)
}

/// Whether both ends are on this host.
fn is_local(scene: &Scene<'_>) -> bool {
    scene.facts.socket.remote.is_some_and(|remote| remote.ip().is_loopback())
}

fn advice(scene: &Scene<'_>, first_probe: Option<KeepaliveSettings>) -> Advice {
    let assumed = scene.thresholds.assumed_idle_timeout;
    let is_unbounded = scene.facts.tcp.user_timeout_ms.is_none();
    Advice::new(move || {
        let at_most = words::half_in_seconds(assumed);
        let keepalive = if first_probe.is_some() {
            format!(
                "set TCP_KEEPIDLE at most {at_most} s on the socket, or net.ipv4.tcp_keepalive_time={at_most}"
            )
        } else {
            format!("set SO_KEEPALIVE with TCP_KEEPIDLE at most {at_most} s on the socket")
        };
        let mut advice = vec![format!(
            "{keepalive} (half of the {} after which the path is assumed to forget; a server sets it on its listener, from which accepted sockets \
             inherit it)",
            words::duration(assumed)
        )];
        advice.extend(is_unbounded.then(|| {
            format!(
                "and TCP_USER_TIMEOUT to {} (milliseconds), so that a dead peer is given up at the first probe or retransmission after {}",
                assumed.as_millis(),
                words::duration(assumed)
            )
        }));
        advice
    })
}

#[cfg(test)]
mod tests {
    use crate::detect::Thresholds;
    use crate::detect::story::{
        closed, closed_by_reset, details, established, expected, findings, findings_with, found, lost, on,
        probe, resent, reset_received, state, timed_out, verdict, verdicts, with, words_of,
    };
    use crate::record::{Event, KeepaliveSettings, Record, State};

    fn keepalive(enabled: bool, idle_ms: u64) -> KeepaliveSettings {
        KeepaliveSettings { enabled, idle_ms, interval_ms: 75_000, probes: 9 }
    }

    /// Nothing went over it for so long, with keepalive off.
    fn idle(ms: u64) -> Event {
        with(found(|sample| sample.idle_ms = Some(ms)), |tcp| {
            tcp.keepalive = Some(keepalive(false, 7_200_000));
            tcp.last_received_ms = Some(ms);
        })
    }

    fn guarded_after(idle_ms: u64, first_probe_ms: u64) -> Event {
        with(idle(idle_ms), |tcp| tcp.keepalive = Some(keepalive(true, first_probe_ms)))
    }

    fn idle_at_300_s() -> Vec<Record> {
        vec![on(0, established()), on(300_000, idle(300_000))]
    }

    fn then<const N: usize>(more: [(u64, Event); N]) -> Vec<Record> {
        idle_at_300_s().into_iter().chain(more.map(|(ms, event)| on(ms, event))).collect()
    }

    const OPENED: (u64, &str) = (300_000, "unguarded_idle opened");

    #[test]
    fn it_needs_five_minutes_without_a_segment() {
        assert_eq!(verdicts(&idle_at_300_s()), expected([OPENED]));
        assert_eq!(verdicts(&[on(300_000, idle(299_999))]), expected([]));
        let mut thresholds = Thresholds::default();
        thresholds.set("unguarded_idle=3s").unwrap();
        let sooner = findings_with(thresholds, &[on(3_000, idle(3_000))]);
        assert_eq!(words_of(&sooner), expected([(3_000, "unguarded_idle opened")]));
    }

    #[test]
    fn a_connection_whose_keepalive_comes_in_time_is_not_accused() {
        let at_300_s = |first_probe_ms| verdicts(&[on(300_000, guarded_after(300_000, first_probe_ms))]);
        assert_eq!(at_300_s(350_000), expected([]));
        assert_eq!(at_300_s(350_001), expected([OPENED]));
        let thresholds =
            Thresholds { assumed_idle_timeout: std::time::Duration::from_mins(4), ..Thresholds::default() };
        let findings = findings_with(thresholds, &[on(300_000, guarded_after(300_000, 300_000))]);
        assert_eq!(words_of(&findings), expected([OPENED]));
    }

    #[test]
    fn where_keepalive_is_not_known_and_where_the_connection_does_not_stand_nothing_is_claimed() {
        let unknown = with(idle(300_000), |tcp| tcp.keepalive = None);
        assert_eq!(verdicts(&[on(300_000, unknown)]), expected([]));
        let half_closed = with(idle(300_000), |tcp| tcp.state = Some(State::CLOSE_WAIT));
        assert_eq!(verdicts(&[on(300_000, half_closed)]), expected([]));
    }

    #[test]
    fn without_keepalive_nothing_would_notice_its_death() {
        let findings = findings(&idle_at_300_s());
        assert_eq!(
            details(&findings[0]),
            (
                0,
                r#"{"idle_ms":300000}"#.to_owned(),
                "the connection of curl (pid 812) with 10.0.1.4:443 (from 10.0.0.2:50000) has carried nothing for 5 min 0 s and nothing keeps \
                 the path from forgetting it: SO_KEEPALIVE is off, and a death would never be noticed"
                    .to_owned()
            )
        );
        assert_eq!(
            verdict(&findings[0]).advice,
            [
                "set SO_KEEPALIVE with TCP_KEEPIDLE at most 175 s on the socket (half of the 5 min 50 s after which the path is assumed to \
                 forget; a server sets it on its listener, from which accepted sockets inherit it)",
                "and TCP_USER_TIMEOUT to 350000 (milliseconds), so that a dead peer is given up at the first probe or retransmission after \
                 5 min 50 s",
            ]
        );
    }

    #[test]
    fn with_a_late_keepalive_it_says_when_its_death_would_be_noticed() {
        let late = with(guarded_after(300_000, 7_200_000), |tcp| {
            tcp.gives_up_in_ms = Some(7_575_000);
            tcp.user_timeout_ms = Some(60_000);
        });
        let findings = findings(&[on(300_000, late)]);
        assert_eq!(
            details(&findings[0]),
            (
                0,
                r#"{"idle_ms":300000,"would_be_noticed_ms":7575000}"#.to_owned(),
                "the connection of curl (pid 812) with 10.0.1.4:443 (from 10.0.0.2:50000) has carried nothing for 5 min 0 s and nothing keeps \
                 the path from forgetting it: its first keepalive probe comes only after 2 h 0 min, and a death would be noticed only \
                 after 2 h 6 min"
                    .to_owned()
            )
        );
        assert_eq!(
            verdict(&findings[0]).advice,
            [
                "set TCP_KEEPIDLE at most 175 s on the socket, or net.ipv4.tcp_keepalive_time=175 (half of the 5 min 50 s after which the path \
                 is assumed to forget; a server sets it on its listener, from which accepted sockets inherit it)"
            ]
        );
    }

    #[test]
    fn what_is_not_known_of_its_end_is_not_said() {
        let in_flight = with(idle(300_000), |tcp| tcp.unacked_bytes = Some(24));
        let findings = findings(&[on(300_000, in_flight)]);
        assert_eq!(
            details(&findings[0]).2,
            "the connection of curl (pid 812) with 10.0.1.4:443 (from 10.0.0.2:50000) has carried nothing for 5 min 0 s and nothing keeps \
             the path from forgetting it: SO_KEEPALIVE is off"
        );
    }

    #[test]
    fn it_ends_with_the_next_segment_and_lasted_until_then() {
        let spoke = |at| expected([OPENED, (at, "unguarded_idle closed spoke")]);
        let findings = findings(&then([(400_900, idle(700))]));
        assert_eq!(words_of(&findings), spoke(400_900));
        assert_eq!(
            details(&findings[1]),
            (
                0,
                r#"{"idle_ms":400200}"#.to_owned(),
                "the unguarded idling of curl (pid 812) with 10.0.1.4:443 (from 10.0.0.2:50000) ended after 6 min 40 s: a segment went over \
                 it"
                    .to_owned()
            )
        );
        assert_eq!(verdicts(&then([(400_000, resent(1))])), spoke(400_000));
        let late_probe = with(probe(1), |tcp| tcp.keepalive = Some(keepalive(true, 7_200_000)));
        assert_eq!(verdicts(&then([(400_000, late_probe)])), spoke(400_000));
    }

    #[test]
    fn the_segment_that_ends_it_may_begin_another_story() {
        let late_probe = with(probe(2), |tcp| tcp.keepalive = Some(keepalive(true, 7_200_000)));
        assert_eq!(
            verdicts(&then([(400_000, late_probe)])),
            expected([
                OPENED,
                (400_000, "unguarded_idle closed spoke"),
                (400_000, "keepalive_unanswered opened")
            ])
        );
    }

    #[test]
    fn it_ends_when_a_keepalive_in_time_is_set() {
        let guarded = expected([OPENED, (310_000, "unguarded_idle closed guarded")]);
        assert_eq!(verdicts(&then([(310_000, guarded_after(310_000, 60_000))])), guarded);
        assert_eq!(verdicts(&then([(310_000, guarded_after(200, 60_000))])), guarded, "it probed at once");
        assert_eq!(verdicts(&then([(310_000, guarded_after(310_000, 600_000))])), expected([OPENED]));
    }

    #[test]
    fn it_ends_with_the_connection() {
        let ended = |outcome: &str| {
            expected([OPENED, (400_000, format!("unguarded_idle closed {outcome}").as_str())])
        };
        assert_eq!(verdicts(&then([(400_000, closed())])), ended("closed"));
        for leaves in [State::FIN_WAIT1, State::CLOSE_WAIT] {
            assert_eq!(verdicts(&then([(400_000, state(State::ESTABLISHED, leaves))])), ended("closed"));
        }
        let reset = with(reset_received(), |tcp| tcp.unacked_bytes = Some(0));
        assert_eq!(verdicts(&then([(400_000, reset), (400_000, closed_by_reset())])), ended("reset"));
        assert_eq!(
            verdicts(&then([(400_000, state(State::ESTABLISHED, State::CLOSE)), (400_000, timed_out())])),
            expected([
                OPENED,
                (400_000, "unguarded_idle closed silent_death"),
                (400_000, "silent_death closed")
            ])
        );
    }

    #[test]
    fn a_segment_that_was_lost_is_told_by_the_next_look() {
        let mut records = idle_at_300_s();
        records.extend([lost(400_000, 7), on(900_000, idle(500_000))]);
        let findings = findings(&records);
        assert_eq!(
            words_of(&findings),
            expected([OPENED, (900_000, "unguarded_idle closed spoke"), (900_000, "unguarded_idle opened")])
        );
        assert_eq!(details(&findings[1]).1, r#"{"idle_ms":400000,"lost_before":7}"#);
    }

    #[test]
    fn on_loopback_no_path_forgets_anything() {
        let mut idle = idle(300_000);
        idle.socket_mut().local = Some("127.0.0.1:50000".parse().unwrap());
        idle.socket_mut().remote = Some("127.0.0.1:443".parse().unwrap());
        let findings = findings(&[on(300_000, idle)]);
        assert_eq!(
            details(&findings[0]).2,
            "the connection of curl (pid 812) with 127.0.0.1:443 (from 127.0.0.1:50000) has carried nothing for 5 min 0 s: SO_KEEPALIVE is off; \
             both ends are on this host, where no path forgets it: only a peer that hangs goes unnoticed"
        );
        assert_eq!(verdict(&findings[0]).advice.len(), 1);
    }
}
