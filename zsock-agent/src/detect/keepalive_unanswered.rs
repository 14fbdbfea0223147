//! `keepalive_unanswered`: an idle connection's keepalive probes find nobody.

use std::time::Duration;

use serde_json::Value;

use super::{Advice, Condition, Grounds, Scene, ended, evidence, words};
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
    grounds,
    summary,
    ends,
    span: None,
};

fn holds(scene: &Scene<'_>) -> Option<u64> {
    let probes = match scene.event.what {
        What::Keepalive(Keepalive { probe, .. }) => Some(probe),
        What::Sample(_) => probes_out(scene),
        What::State(_)
        | What::Retransmit(_)
        | What::KeepaliveAnswered(_)
        | What::ZeroWindowProbe(_)
        | What::Progress(_)
        | What::Error(_)
        | What::ResetReceived(_)
        | What::ResetSent(_)
        | What::AcceptFailed(_)
        | What::Closed(_) => None,
    };
    let applies = scene.lives() && !scene.facts.socket.orphan;
    probes.filter(|probes| applies && *probes >= scene.thresholds.keepalive_unanswered).map(u64::from)
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

fn grounds(scene: &Scene<'_>, probes: u64) -> Grounds {
    let tcp = &scene.facts.tcp;
    let told = if let What::Keepalive(Keepalive { of, .. }) = scene.event.what { of } else { None };
    let of = told.or(tcp.keepalive.map(|keepalive| keepalive.probes));
    let (keepalive, remote) = (tcp.keepalive, scene.facts.socket.remote);
    Grounds {
        since: probing_since(scene).unwrap_or(scene.at),
        evidence: evidence([
            ("probes", Some(probes.into())),
            ("of", of.map(Value::from)),
            ("gives_up_in_ms", scene.gives_up_in_ms().map(Value::from)),
        ]),
        advice: Advice::new(move || {
            keepalive.map(advice).into_iter().chain([words::check_path(remote)]).collect()
        }),
    }
}

fn summary(scene: &Scene<'_>, probes: u64) -> String {
    let silent = scene.facts.last_received_at.map(|last| scene.at.since(last));
    let silence = silent.map_or_else(String::new, |silent| format!(" in {}", words::duration(silent)));
    format!(
        "{} has an idle connection to {} that looks dead: {} without an answer, no sign of life{silence}{}",
        words::owner(&scene.facts.socket),
        words::peer(&scene.facts.socket),
        words::plural(probes, "keepalive probe"),
        words::gives_up(scene.gives_up_in_ms())
    )
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

#[cfg(test)]
mod tests {
    use crate::detect::story::{
        closed, closed_by, closed_by_reset, details, expected, findings, keepalive, look, lost, on, orphaned,
        past, probe, probe_answered, progress, reset_received, reset_sent, verdict, verdicts, with, words_of,
    };
    use crate::record::{Errno, Event, Fact, Record, Tcp};

    /// Idle for 7 s, then two probes.
    fn silent_at_8_s() -> Vec<Record> {
        vec![on(7_000, probe(1)), on(8_000, probe(2))]
    }

    fn then<const N: usize>(more: [(u64, Event); N]) -> Vec<Record> {
        silent_at_8_s().into_iter().chain(more.map(|(ms, event)| on(ms, event))).collect()
    }

    const OPENED: (u64, &str) = (8_000, "keepalive_unanswered opened");

    #[test]
    fn it_needs_a_second_probe_in_a_row() {
        assert_eq!(verdicts(&silent_at_8_s()), expected([OPENED]));
        let healthy = [on(7_000, probe(1)), on(14_000, probe(1)), on(21_000, probe(1))];
        assert_eq!(verdicts(&healthy), expected([]));
        assert_eq!(verdicts(&[on(8_000, orphaned(probe(2)))]), expected([]));
    }

    #[test]
    fn it_says_how_many_of_how_many_since_when_and_what_to_change() {
        let findings = findings(&[
            on(7_000, probe(1)),
            on(8_000, with(probe(2), |tcp| tcp.gives_up_in_ms = Some(2_000))),
        ]);
        assert_eq!(
            details(&findings[0]),
            (
                7_000,
                r#"{"gives_up_in_ms":2000,"of":3,"probes":2}"#.to_owned(),
                "curl (pid 812) has an idle connection to 10.0.1.4:443 (from 10.0.0.2:50000) that looks dead: 2 keepalive probes without \
                 an answer, no sign of life in 8.0 s; the kernel will give up in 2.0 s"
                    .to_owned()
            )
        );
        assert_eq!(
            verdict(&findings[0]).advice,
            [
                "the peer was gone by the first probe, after 7.0 s without traffic: if something on the path forgets idle connections, \
                 set TCP_KEEPIDLE at most 3 s on the socket (or net.ipv4.tcp_keepalive_time)",
                "check 10.0.1.4:443 and the way to it: what is sent there, or its answers, are lost",
            ]
        );
    }

    #[test]
    fn the_second_probe_alone_tells_when_the_first_was_sent() {
        assert_eq!(details(&findings(&[on(8_000, probe(2))])[0]).0, 7_000, "by the kernel's rule");
        let answered_between = [on(7_000, probe(1)), on(22_000, probe(2))];
        assert_eq!(details(&findings(&answered_between)[0]).0, 21_000);
        assert_eq!(
            details(&findings(&[on(7_250, past(Fact::ProbingSince)), on(8_250, probe(2))])[0]).0,
            7_250
        );
    }

    #[test]
    fn a_look_shows_it_unless_the_probes_are_of_the_window() {
        let probing = with(look(), |tcp| {
            tcp.probes_out = Some(2);
            tcp.keepalive = Some(keepalive());
        });
        let data_waits = with(probing.clone(), |tcp| tcp.unsent_bytes = Some(1));
        assert_eq!(verdicts(&[on(8_500, probing)]), expected([(8_500, "keepalive_unanswered opened")]));
        assert_eq!(verdicts(&[on(8_500, data_waits)]), expected([]));
    }

    #[test]
    fn an_answer_ends_it_whoever_tells_of_it() {
        let unsaid = |tcp: &mut Tcp| tcp.probes_out = None;
        for answer in [with(probe_answered(2), unsaid), with(progress(0), unsaid), look()] {
            assert_eq!(
                verdicts(&then([(8_900, answer), (15_900, probe(1))])),
                expected([OPENED, (8_900, "keepalive_unanswered closed answered")])
            );
        }
    }

    #[test]
    fn the_kernels_own_reset_is_a_silent_death() {
        let timed_out = with(
            closed_by(|it| {
                it.errno = Some(Errno::named("ETIMEDOUT"));
                it.reset = true;
            }),
            |tcp| tcp.keepalive = Some(keepalive()),
        );
        let gives_up = with(reset_sent("KEEPALIVE_TIMEOUT"), |tcp| tcp.probes_out = Some(3));
        assert_eq!(
            verdicts(&then([(9_000, probe(3)), (10_000, gives_up), (10_000, timed_out)])),
            expected([
                OPENED,
                (10_000, "keepalive_unanswered closed silent_death"),
                (10_000, "silent_death closed"),
            ])
        );
    }

    #[test]
    fn it_ends_with_the_connection_or_when_the_process_lets_go() {
        let reset = with(reset_received(), |tcp| {
            tcp.unacked_bytes = Some(0);
            tcp.probes_out = Some(2);
        });
        assert_eq!(
            verdicts(&then([(8_100, reset), (8_100, closed_by_reset())])),
            expected([OPENED, (8_100, "keepalive_unanswered closed reset")])
        );
        let let_go = with(orphaned(look()), |tcp| tcp.probes_out = Some(2));
        for end in [closed(), let_go] {
            assert_eq!(
                verdicts(&then([(8_200, end)])),
                expected([OPENED, (8_200, "keepalive_unanswered closed closed")])
            );
        }
    }

    #[test]
    fn loss_in_the_middle_is_said_and_the_kernels_count_stands() {
        let findings = findings(&[on(7_000, probe(1)), lost(7_500, 1), on(9_000, probe(3))]);
        assert_eq!(words_of(&findings), expected([(9_000, "keepalive_unanswered opened")]));
        assert_eq!(details(&findings[0]).1, r#"{"lost_before":1,"of":3,"probes":3}"#);
    }
}
