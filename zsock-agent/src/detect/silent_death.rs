//! `silent_death`: the kernel's timers ended the connection; the peer never said a word.
//!
//! Has no threshold: it is given once, at the end. Nothing here when a reset came, when the socket was destroyed on purpose, when everything
//! was acknowledged and an old error was left over, or when the peer still answered the probes of its closed window.

use std::time::Duration;

use serde_json::Value;

use super::{Claim, Final, Scene, ending, evidence, in_ms, words};
use crate::record::{Closed, Outcome, Severity, State, VerdictName};

pub(super) const FINAL: Final = Final { name: VerdictName::SilentDeath, severity: Severity::Critical, judge };

/// What a timer can leave: its own error, or the one that ICMP had reported before (`sk_err_soft`). With a reset from the peer, a user's
/// `SOCK_DESTROY` or a library's own errors the kernel leaves others.
const TIMER_ERRORS: [&str; 11] = [
    "ETIMEDOUT",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "EHOSTDOWN",
    "ENETDOWN",
    "ENONET",
    "ECONNREFUSED",
    "ENOPROTOOPT",
    "EOPNOTSUPP",
    "EPROTO",
    "EACCES",
];

fn judge(scene: &Scene<'_>) -> Option<Claim> {
    let closed = scene.closed().filter(|_| ending(scene) == Some(Outcome::SilentDeath))?;
    let tcp = &scene.event.tcp;
    let cause = cause(scene, closed);
    let silent = tcp.last_received_ms.map(Duration::from_millis);
    let errno = closed.errno.as_ref().map(|errno| errno.name().into());
    let last_word = silent.map_or_else(String::new, |silent| {
        format!(", {} after the last sign of life from the peer", words::duration(silent))
    });
    let unacked = tcp
        .unacked_bytes
        .filter(|bytes| *bytes > 0)
        .map_or_else(String::new, |bytes| format!("; {} never acknowledged", words::plural(bytes, "byte")));
    let how = cause.map_or("by one of its timers", Cause::how);
    Some(Claim {
        since: silent.map_or_else(|| scene.stalled_since(), |silent| scene.at.before(silent)),
        evidence: evidence([
            ("cause", cause.map(|cause| cause.name().into())),
            ("errno", errno),
            ("last_received_ms", silent.map(in_ms)),
            ("unnoticed_ms", silent.map(in_ms)),
            ("unacked_bytes", tcp.unacked_bytes.map(Value::from)),
        ]),
        summary: format!(
            "the kernel gave up on the connection of {} to {} {how}{last_word}{unacked}",
            words::owner(&scene.facts.socket),
            words::peer(&scene.facts.socket),
        ),
        advice: advice(scene, cause),
    })
}

/// Whether one of the kernel's timers ended the connection here, and the peer with it for all that is known.
pub(super) fn by_timer(scene: &Scene<'_>, closed: &Closed) -> bool {
    gave_up(scene, closed) && !may_answer_unseen(scene) && !peer_answers_window_probes(scene)
}

/// Whether one of the kernel's timers ended the connection although the peer answered the probes of its closed window.
pub(super) fn in_spite_of_answers(scene: &Scene<'_>, closed: &Closed) -> bool {
    gave_up(scene, closed) && !may_answer_unseen(scene) && peer_answers_window_probes(scene)
}

fn gave_up(scene: &Scene<'_>, closed: &Closed) -> bool {
    let timer_error = closed.errno.as_ref().is_some_and(|errno| TIMER_ERRORS.contains(&errno.name()));
    timer_error && was_unfinished(scene, closed)
}

/// Whether a timer had anything to give up on. Where all was acknowledged, the error is an old one that nobody fetched.
fn was_unfinished(scene: &Scene<'_>, closed: &Closed) -> bool {
    let tcp = &scene.event.tcp;
    let waits = closed.fin_unacked || tcp.unacked_bytes > Some(0) || tcp.unsent_bytes > Some(0);
    match closed.from {
        State::ESTABLISHED | State::CLOSE_WAIT | State::FIN_WAIT1 => true,
        State::FIN_WAIT2 => !scene.facts.socket.orphan && !closed.peer_closed,
        State::CLOSING | State::LAST_ACK => waits,
        _ => false,
    }
}

/// Whether the peer may have answered probes of its closed window which nobody told of. With data in flight the probes are
/// retransmissions, which are told.
fn may_answer_unseen(scene: &Scene<'_>) -> bool {
    let tcp = &scene.event.tcp;
    let is_ruled_out =
        tcp.send_window_bytes > Some(0) || tcp.unacked_bytes > Some(0) || tcp.probes_out >= Some(2);
    !scene.sees_window_probes && !is_ruled_out
}

/// Whether the peer answered the last probe of its closed window or the one before: it lives, and the kernel limits such answers.
fn peer_answers_window_probes(scene: &Scene<'_>) -> bool {
    let tcp = &scene.event.tcp;
    let probes = &scene.facts.window_probes;
    if tcp.send_window_bytes > Some(0) || tcp.probes_out >= Some(2) {
        return false;
    }
    let Some(before_last) = probes.previous_at.or(probes.last_at) else { return false };
    probes.previous_answered == Some(true) || scene.facts.last_received_at >= Some(before_last)
}

/// Which of the kernel's rules struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Keepalive,
    Retransmission,
    UserTimeout,
    Probe,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Self::Keepalive => "keepalive_timeout",
            Self::Retransmission => "retransmission_timeout",
            Self::UserTimeout => "user_timeout",
            Self::Probe => "probe_timeout",
        }
    }

    fn how(self) -> &'static str {
        match self {
            Self::Keepalive => "after its keepalive probes went unanswered",
            Self::Retransmission => "after its retransmissions went unanswered",
            Self::UserTimeout => "when its user time-out ran out",
            // The window need not be closed: it may be too small, or what is sent does not leave this host.
            Self::Probe => "after its probes of the peer's window went unanswered",
        }
    }
}

/// The rule that struck, by what the connection was waiting for; absent where that is not known.
fn cause(scene: &Scene<'_>, closed: &Closed) -> Option<Cause> {
    let tcp = &scene.event.tcp;
    let in_flight = tcp.unacked_bytes > Some(0) || (closed.fin_unacked && tcp.unsent_bytes == Some(0));
    let unsent = tcp.unsent_bytes > Some(0);
    let idle = tcp.unacked_bytes == Some(0) && tcp.unsent_bytes == Some(0);
    let guarded = tcp.keepalive.is_some_and(|keepalive| keepalive.enabled);
    let without_user_timeout = if in_flight {
        Cause::Retransmission
    } else if unsent {
        Cause::Probe
    } else if idle && guarded {
        Cause::Keepalive
    } else {
        return None;
    };
    Some(if tcp.user_timeout_ms.is_some() { Cause::UserTimeout } else { without_user_timeout })
}

fn advice(scene: &Scene<'_>, cause: Option<Cause>) -> Vec<String> {
    let tcp = &scene.event.tcp;
    let nothing_sent = tcp.unacked_bytes == Some(0) && tcp.unsent_bytes == Some(0);
    let before_probes = tcp.keepalive.filter(|keepalive| nothing_sent && keepalive.enabled);
    let idle = before_probes.map(|keepalive| Duration::from_millis(keepalive.idle_ms));
    let mut advice: Vec<_> =
        idle.or(scene.idle_before_stall()).and_then(words::keep_awake).into_iter().collect();
    let stalled = scene.stalled().filter(|_| matches!(cause, Some(Cause::Retransmission | Cause::Probe)));
    // A tenth of what the kernel took by itself.
    advice.extend(stalled.into_iter().flat_map(|stalled| words::hear_within(stalled / 10, Some(stalled))));
    advice.push(words::check_path(scene.facts.socket.remote));
    advice
}

#[cfg(test)]
mod tests {
    use crate::detect::story::{
        closed_by, details, established, expected, findings, keepalive, lost, on, orphaned, resent,
        reset_received, shed, timed_out, verdict, verdicts, window_probe, with, words_of,
    };
    use crate::record::{Closed, Errno, Event, State, Tcp};

    fn from(from: State, errno: &'static str, change: impl FnOnce(&mut Closed)) -> Event {
        closed_by(|it| {
            it.from = from;
            it.errno = Some(Errno::named(errno));
            change(it);
        })
    }

    const DIED: (u64, &str) = (20_000, "silent_death closed");

    fn died(end: Event) -> Vec<(u64, String)> {
        verdicts(&[on(0, established()), on(20_000, end)])
    }

    #[test]
    fn a_timers_error_is_a_silent_death_and_any_other_is_not() {
        for errno in ["ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH"] {
            assert_eq!(died(from(State::ESTABLISHED, errno, |_| ())), expected([DIED]), "{errno}");
        }
        for errno in ["ECONNABORTED", "ECONNRESET", "EPIPE", "EBADMSG"] {
            assert_eq!(died(from(State::ESTABLISHED, errno, |_| ())), expected([]), "{errno}");
        }
        assert_eq!(died(closed_by(|_| ())), expected([]));
    }

    #[test]
    fn a_reset_is_a_word_from_the_peer() {
        let records = [on(0, established()), on(20_000, reset_received()), on(20_000, timed_out())];
        assert_eq!(verdicts(&records), expected([]));
    }

    #[test]
    fn only_a_connection_that_stood_can_die() {
        for state in [State::SYN_SENT, State::SYN_RECV, State::NEW_SYN_RECV, State::LISTEN] {
            assert_eq!(died(from(state, "ETIMEDOUT", |_| ())), expected([]), "{state}");
        }
    }

    #[test]
    fn while_closing_something_must_have_been_unfinished() {
        for state in [State::CLOSING, State::LAST_ACK] {
            assert_eq!(
                died(orphaned(from(state, "ETIMEDOUT", |it| it.fin_unacked = true))),
                expected([DIED]),
                "{state}"
            );
            assert_eq!(
                died(orphaned(from(state, "EHOSTUNREACH", |_| ()))),
                expected([]),
                "{state} with an old error"
            );
        }
        assert_eq!(
            died(from(State::FIN_WAIT2, "ETIMEDOUT", |_| ())),
            expected([DIED]),
            "keepalive while half-closed"
        );
        assert_eq!(died(orphaned(from(State::FIN_WAIT2, "EHOSTUNREACH", |_| ()))), expected([]));
        assert_eq!(died(from(State::FIN_WAIT2, "EHOSTUNREACH", |it| it.peer_closed = true)), expected([]));
    }

    #[test]
    fn the_cause_is_the_rule_that_struck() {
        let cause = |change: &dyn Fn(&mut Tcp), fin_unacked| {
            let end = with(from(State::ESTABLISHED, "ETIMEDOUT", |it| it.fin_unacked = fin_unacked), change);
            verdict(&findings(&[on(0, end)])[0])
                .evidence
                .get("cause")
                .map(|cause| cause.as_str().unwrap().to_owned())
        };
        let guarded = |tcp: &mut Tcp| tcp.keepalive = Some(keepalive());
        let impatient = |tcp: &mut Tcp| {
            tcp.keepalive = Some(keepalive());
            tcp.user_timeout_ms = Some(4_000);
        };
        let in_flight = |tcp: &mut Tcp| tcp.unacked_bytes = Some(24);
        let blocked = |tcp: &mut Tcp| {
            tcp.unsent_bytes = Some(24);
            tcp.send_window_bytes = Some(0);
        };
        let in_flight_impatient = |tcp: &mut Tcp| {
            tcp.unacked_bytes = Some(24);
            tcp.user_timeout_ms = Some(4_000);
        };
        let unknown = |tcp: &mut Tcp| *tcp = Tcp::default();
        assert_eq!(
            [
                cause(&guarded, false),
                cause(&impatient, false),
                cause(&in_flight, false),
                cause(&in_flight_impatient, false),
                cause(&guarded, true),
                cause(&blocked, false),
                cause(&unknown, false),
            ]
            .map(Option::unwrap_or_default),
            [
                "keepalive_timeout",
                "user_timeout",
                "retransmission_timeout",
                "user_timeout",
                "retransmission_timeout",
                "probe_timeout",
                "",
            ]
        );
    }

    #[test]
    fn it_says_how_long_nobody_knew_and_what_to_change() {
        let end = with(timed_out(), |tcp| {
            tcp.stalled_ms = Some(930_000);
            tcp.last_received_ms = Some(1_230_000);
        });
        let findings = findings(&[on(2_000_000, end)]);
        assert_eq!(
            details(&findings[0]),
            (
                770_000,
                r#"{"cause":"retransmission_timeout","errno":"ETIMEDOUT","last_received_ms":1230000,"unacked_bytes":24,"unnoticed_ms":1230000}"#
                    .to_owned(),
                "the kernel gave up on the connection of curl (pid 812) to 10.0.1.4:443 (from 10.0.0.2:50000) after its retransmissions \
                 went unanswered, 20 min 30 s after the last sign of life from the peer; 24 bytes never acknowledged"
                    .to_owned()
            )
        );
        assert_eq!(
            verdict(&findings[0]).advice,
            [
                "it had been idle for 5 min 0 s: if something on the path forgets idle connections, set SO_KEEPALIVE with TCP_KEEPIDLE \
                 at most 150 s on the socket, or close pooled connections after at most 150 s without use",
                "set TCP_USER_TIMEOUT to 93000 (milliseconds) on the socket, so that its process hears of a silent peer after about 1 min 33 s",
                "or net.ipv4.tcp_retries2=8, which bounds every connection of the network namespace at about 100 s",
                "check 10.0.1.4:443 and the way to it: what is sent there, or its answers, are lost",
            ]
        );
    }

    #[test]
    fn probes_under_an_open_window_are_not_said_to_be_of_a_closed_one() {
        let end = with(from(State::ESTABLISHED, "ETIMEDOUT", |_| ()), |tcp| {
            tcp.unacked_bytes = Some(0);
            tcp.unsent_bytes = Some(100);
            tcp.send_window_bytes = Some(65_483);
            tcp.last_received_ms = Some(1_472);
        });
        assert_eq!(
            verdict(&findings(&[on(5_000, end)])[0]).summary,
            "the kernel gave up on the connection of curl (pid 812) to 10.0.1.4:443 (from 10.0.0.2:50000) after its probes of the \
             peer's window went unanswered, 1.4 s after the last sign of life from the peer"
        );
    }

    /// A user time-out ends the wait for a closed window to open.
    fn window_stays_closed(last_received_ms: Option<u64>, probes_out: Option<u32>) -> Event {
        with(from(State::ESTABLISHED, "ETIMEDOUT", |_| ()), |tcp| {
            tcp.unsent_bytes = Some(100);
            tcp.send_window_bytes = Some(0);
            tcp.last_received_ms = last_received_ms;
            tcp.probes_out = probes_out;
        })
    }

    /// Probes after 1, 2 and 4 s, the end after 5 s.
    fn probed(answered: Option<bool>, end: Event) -> Vec<(u64, String)> {
        verdicts(&[
            on(1_000, window_probe(1, None)),
            on(2_000, window_probe(2, Some(true))),
            on(4_000, window_probe(3, answered)),
            on(5_000, end),
        ])
    }

    #[test]
    fn a_peer_that_answers_the_probes_of_its_closed_window_lives() {
        let stalled = (4_000, "zero_window_stall opened");
        let lives = expected([stalled, (5_000, "zero_window_stall closed timed_out")]);
        assert_eq!(probed(Some(false), window_stays_closed(Some(999), Some(0))), lives, "the last one");
        assert_eq!(probed(None, window_stays_closed(Some(2_999), Some(1))), lives, "the one before");
        assert_eq!(probed(Some(true), window_stays_closed(None, None)), lives, "the one before, as told");
        let died = (5_000, "silent_death closed");
        assert_eq!(
            probed(Some(false), window_stays_closed(Some(3_001), None)),
            expected([stalled, (5_000, "zero_window_stall closed silent_death"), died]),
            "neither"
        );
        let only_one =
            [on(4_000, window_probe(1, None)), on(5_000, window_stays_closed(Some(4_500), Some(1)))];
        assert_eq!(verdicts(&only_one), expected([died]), "not the only one");
    }

    #[test]
    fn where_probes_are_told_no_longer_no_death_is_told_that_may_be_none() {
        let ends_after = |hooks, end| verdicts(&[shed(2_000, "timers", hooks), on(60_000, end)]);
        let ends = |end| ends_after(&["keepalive", "persist"], end);
        let died = expected([(60_000, "silent_death closed")]);
        let answered_unseen = || window_stays_closed(Some(500), Some(1));
        assert_eq!(ends(answered_unseen()), expected([]));
        assert_eq!(ends_after(&["recovery"], answered_unseen()), died, "no probe was told, so none was sent");
        assert_eq!(ends(window_stays_closed(Some(57_500), Some(2))), died, "two went unanswered");
        assert_eq!(ends(timed_out()), died, "the window was open");
    }

    #[test]
    fn with_data_in_flight_retransmissions_probe_the_window() {
        let blocked = |attempt| with(resent(attempt), |tcp| tcp.send_window_bytes = Some(0));
        let end = |last_received_ms| {
            with(timed_out(), |tcp| {
                tcp.send_window_bytes = Some(0);
                tcp.last_received_ms = Some(last_received_ms);
            })
        };
        let ends = |end| verdicts(&[on(1_000, blocked(1)), on(2_000, blocked(1)), on(5_000, end)]);
        assert_eq!(ends(end(3_999)), expected([]));
        assert_eq!(ends(end(4_001)), expected([(5_000, "silent_death closed")]));
    }

    #[test]
    fn where_probes_were_lost_the_kernels_count_tells_whether_they_were_answered() {
        let end = |probes_out| on(60_000, window_stays_closed(Some(57_500), Some(probes_out)));
        let before =
            [on(1_000, window_probe(1, None)), on(2_000, window_probe(2, Some(true))), lost(9_000, 3)];
        let ends = |probes_out| verdicts(&[&before[..], &[end(probes_out)]].concat());
        assert_eq!(ends(5), expected([(60_000, "silent_death closed")]));
        assert_eq!(ends(0), expected([]));
    }

    #[test]
    fn loss_before_the_end_is_said() {
        let findings = findings(&[on(0, established()), lost(10_000, 3), on(20_000, timed_out())]);
        assert_eq!(words_of(&findings), expected([DIED]));
        assert_eq!(
            details(&findings[0]).1,
            r#"{"cause":"retransmission_timeout","errno":"ETIMEDOUT","lost_before":3,"unacked_bytes":24}"#
        );
    }
}
