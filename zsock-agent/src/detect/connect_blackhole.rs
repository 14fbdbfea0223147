//! `connect_blackhole`: a connection attempt goes unanswered.
//!
//! Opens when SYNs have been sent again without an answer, or when the attempt is given up after at least one. A refusal is an
//! answer: before the threshold it is nothing, after it the outcome.

use std::time::Duration;

use serde_json::Value;

use super::{Advice, Condition, Grounds, Scene, evidence, in_ms, words};
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
    grounds,
    summary,
    ends,
    span: None,
};

fn holds(scene: &Scene<'_>) -> Option<u64> {
    if scene.closed().is_some() {
        return given_up(scene);
    }
    let sends_syns = scene.facts.state == Some(State::SYN_SENT)
        || matches!(&scene.event.what, What::Retransmit(it) if it.cause == Some(Cause::Syn));
    let attempts = scene.facts.timeouts.filter(|attempts| *attempts >= scene.thresholds.connect_blackhole);
    attempts.filter(|_| sends_syns).map(u64::from)
}

/// SYNs sent again in an attempt that ended here without an answer.
fn given_up(scene: &Scene<'_>) -> Option<u64> {
    let unanswered = ends(scene).is_some_and(|outcome| outcome != Outcome::Refused);
    scene.facts.timeouts.filter(|attempts| unanswered && *attempts >= 1).map(u64::from)
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
        Some("ECONNREFUSED" | "ECONNRESET") => Outcome::Refused,
        None | Some("ECONNABORTED") => Outcome::Closed,
        Some(_) => Outcome::TimedOut,
    })
}

fn grounds(scene: &Scene<'_>, attempts: u64) -> Grounds {
    let remote = scene.facts.socket.remote;
    Grounds {
        since: scene.facts.connecting_since.unwrap_or_else(|| scene.stalled_since()),
        evidence: evidence([
            ("attempts", Some(attempts.into())),
            ("stalled_ms", stalled(scene).map(in_ms)),
            ("gives_up_in_ms", scene.gives_up_in_ms().map(Value::from)),
        ]),
        advice: Advice::new(move || {
            vec![
                format!(
                    "check the way to {}: silence instead of a refusal points to a firewall or security group that drops, \
                     a wrong address, or a host that is down",
                    words::remote(remote)
                ),
                format!(
                    "bound the attempt: TCP_SYNCNT={attempts} on the socket, or net.ipv4.tcp_syn_retries={attempts} for the network namespace, \
                     gives up after {attempts} SYNs sent again (plus net.ipv4.tcp_syn_linear_timeouts where the kernel has it)"
                ),
            ]
        }),
    }
}

fn summary(scene: &Scene<'_>, attempts: u64) -> String {
    let socket = &scene.facts.socket;
    format!(
        "{} has been trying to connect to {}{}: nothing answered its SYN, sent again {}{}",
        words::owner(socket),
        words::peer(socket),
        words::lasting(stalled(scene)),
        words::plural(attempts, "time"),
        words::gives_up(scene.gives_up_in_ms())
    )
}

/// How long the attempt has gone on.
fn stalled(scene: &Scene<'_>) -> Option<Duration> {
    let connecting = scene.facts.connecting_since.map(|since| scene.at.since(since));
    connecting.or(scene.stalled())
}

#[cfg(test)]
mod tests {
    use crate::detect::story::{
        closed_by, connecting, details, established, expected, findings, look, lost, on, reset_received, syn,
        verdict, verdicts, with, words_of,
    };
    use crate::record::{Errno, Event, Record, State};

    /// SYNs sent again after 1, 3 and 7 s.
    fn attempt(syns: usize) -> Vec<Record> {
        let all = [(0, connecting()), (1_000, syn(1)), (3_000, syn(2)), (7_000, syn(3))];
        all.map(|(ms, event)| on(ms, event))[..=syns].into()
    }

    fn ends(syns: usize, ms: u64, end: Event) -> Vec<Record> {
        attempt(syns).into_iter().chain([on(ms, end)]).collect()
    }

    fn given_up(errno: Option<&'static str>) -> Event {
        let ended = closed_by(|it| {
            it.from = State::SYN_SENT;
            it.errno = errno.map(Errno::named);
        });
        with(ended, |tcp| tcp.retransmits = None)
    }

    const OPENED: (u64, &str) = (7_000, "connect_blackhole opened");

    #[test]
    fn it_needs_three_syns_sent_again() {
        assert_eq!(verdicts(&attempt(3)), expected([OPENED]));
        assert_eq!(verdicts(&attempt(2)), expected([]));
        let late = with(look(), |tcp| {
            tcp.state = Some(State::SYN_SENT);
            tcp.retransmits = Some(3);
        });
        assert_eq!(verdicts(&[on(500, late)]), expected([(500, "connect_blackhole opened")]));
    }

    #[test]
    fn it_says_who_waits_for_whom_since_when_and_what_to_change() {
        let mut records = attempt(2);
        records.push(on(7_000, with(syn(3), |tcp| tcp.gives_up_in_ms = Some(56_000))));
        let findings = findings(&records);
        assert_eq!(
            details(&findings[0]),
            (
                0,
                r#"{"attempts":3,"gives_up_in_ms":56000,"stalled_ms":7000}"#.to_owned(),
                "curl (pid 812) has been trying to connect to 10.0.1.4:443 (from 10.0.0.2:50000) for 7.0 s: nothing answered its SYN, \
                 sent again 3 times; the kernel will give up in 56.0 s"
                    .to_owned()
            )
        );
        assert_eq!(
            verdict(&findings[0]).advice,
            [
                "check the way to 10.0.1.4:443: silence instead of a refusal points to a firewall or security group that drops, \
                 a wrong address, or a host that is down",
                "bound the attempt: TCP_SYNCNT=3 on the socket, or net.ipv4.tcp_syn_retries=3 for the network namespace, \
                 gives up after 3 SYNs sent again (plus net.ipv4.tcp_syn_linear_timeouts where the kernel has it)",
            ]
        );
    }

    #[test]
    fn it_ends_as_the_attempt_does() {
        for (end, outcome) in [
            (established(), "connected"),
            (given_up(Some("ETIMEDOUT")), "timed_out"),
            (given_up(Some("EHOSTUNREACH")), "timed_out"),
            (given_up(Some("ECONNREFUSED")), "refused"),
            (given_up(None), "closed"),
        ] {
            let closed = format!("connect_blackhole closed {outcome}");
            assert_eq!(verdicts(&ends(3, 9_000, end)), expected([OPENED, (9_000, &closed)]));
        }
    }

    #[test]
    fn giving_up_after_one_syn_more_opens_and_closes_it_at_once() {
        for (end, outcome) in [(given_up(None), "closed"), (given_up(Some("ETIMEDOUT")), "timed_out")] {
            let closed = format!("connect_blackhole closed {outcome}");
            assert_eq!(
                verdicts(&ends(1, 2_000, end)),
                expected([(2_000, "connect_blackhole opened"), (2_000, &closed)])
            );
        }
    }

    #[test]
    fn an_answer_in_time_is_no_black_hole() {
        assert_eq!(verdicts(&ends(2, 3_100, established())), expected([]));
        assert_eq!(verdicts(&ends(2, 3_100, given_up(Some("ECONNREFUSED")))), expected([]));
        let mut by_reset = ends(2, 3_100, with(reset_received(), |tcp| tcp.state = Some(State::SYN_SENT)));
        by_reset.push(on(3_100, given_up(Some("ECONNRESET"))));
        assert_eq!(verdicts(&by_reset), expected([]));
        assert_eq!(verdicts(&ends(0, 250, given_up(None))), expected([]), "the slower one of two attempts");
    }

    #[test]
    fn an_attempt_on_the_same_socket_after_a_lost_end_is_another_one() {
        let mut records = attempt(3);
        records.extend([lost(8_000, 2), on(20_000, connecting()), on(20_010, established())]);
        assert_eq!(verdicts(&records), expected([OPENED, (20_000, "connect_blackhole closed closed")]));
    }

    #[test]
    fn loss_before_the_attempt_began_is_none_of_its_own() {
        let mut records = vec![lost(0, 5)];
        records.extend(attempt(3));
        assert_eq!(details(&findings(&records)[0]).1, r#"{"attempts":3,"stalled_ms":7000}"#);
        records.insert(2, lost(500, 4));
        let findings = findings(&records);
        assert_eq!(words_of(&findings), expected([OPENED]));
        assert_eq!(details(&findings[0]).1, r#"{"attempts":3,"lost_before":4,"stalled_ms":7000}"#);
    }
}
