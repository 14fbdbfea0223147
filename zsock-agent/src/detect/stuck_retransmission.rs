//! `stuck_retransmission`: what was sent is sent again, time after time, and no acknowledgement comes.
//!
//! Only while a process holds the socket (`orphan_stuck` follows), once the connection stands (`connect_blackhole` comes before)
//! and while the peer's window is open: an answered probe of a closed window is no silence.

use std::time::Duration;

use serde_json::Value;

use super::{Advice, Condition, Grounds, Scene, ending, evidence, in_ms, words};
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
    grounds,
    summary,
    ends,
    span: None,
};

fn holds(scene: &Scene<'_>) -> Option<u64> {
    let facts = scene.facts;
    let handshake = [State::SYN_SENT, State::SYN_RECV, State::NEW_SYN_RECV];
    let stands = facts.state.is_some_and(|state| !handshake.contains(&state));
    let window_closed = facts.tcp.send_window_bytes == Some(0);
    let applies = scene.lives() && stands && !facts.socket.orphan && !window_closed;
    let timeouts = facts.timeouts.filter(|timeouts| *timeouts >= scene.thresholds.stuck_retransmission);
    timeouts.filter(|_| applies).map(u64::from)
}

fn ends(scene: &Scene<'_>) -> Option<Outcome> {
    let recovered = scene.facts.moved.then_some(Outcome::Recovered);
    let let_go = scene.facts.socket.orphan.then_some(Outcome::Closed);
    ending(scene).or(recovered).or(let_go)
}

fn grounds(scene: &Scene<'_>, attempts: u64) -> Grounds {
    let stalled = scene.stalled();
    let idle = scene.idle_before_stall();
    let next_ms =
        if let What::Retransmit(Retransmit { next_ms, .. }) = scene.event.what { next_ms } else { None };
    Grounds {
        since: scene.stalled_since(),
        evidence: evidence([
            ("attempts", Some(attempts.into())),
            ("stalled_ms", stalled.map(in_ms)),
            ("unacked_bytes", scene.facts.tcp.unacked_bytes.map(Value::from)),
            ("next_ms", next_ms.map(Value::from)),
            ("gives_up_in_ms", scene.gives_up_in_ms().map(Value::from)),
            ("idle_ms", idle.map(in_ms)),
        ]),
        advice: advice(scene, stalled, idle),
    }
}

fn summary(scene: &Scene<'_>, attempts: u64) -> String {
    let socket = &scene.facts.socket;
    let idled = scene.idle_before_stall();
    let idled =
        idled.map_or_else(String::new, |idle| format!(" after {} of idleness", words::duration(idle)));
    let unacked = scene.facts.tcp.unacked_bytes.filter(|bytes| *bytes > 0);
    let unacked = unacked.map_or_else(|| "what was sent".to_owned(), |bytes| words::plural(bytes, "byte"));
    format!(
        "{} has been waiting for {} to acknowledge {unacked}{}: {} unanswered{idled}{}",
        words::owner(socket),
        words::peer(socket),
        words::lasting(scene.stalled()),
        words::plural(attempts, "retransmission"),
        words::gives_up(scene.gives_up_in_ms())
    )
}

fn advice(scene: &Scene<'_>, stalled: Option<Duration>, idle: Option<Duration>) -> Advice {
    let unbounded = stalled.filter(|_| scene.facts.tcp.user_timeout_ms.is_none());
    let (left, remote) = (scene.facts.gives_up_in(scene.at), scene.facts.socket.remote);
    Advice::new(move || {
        let mut advice: Vec<_> = idle.and_then(words::keep_awake).into_iter().collect();
        if let Some(stalled) = unbounded {
            advice.extend(words::hear_within(stalled * 2, left.map(|left| stalled + left)));
        }
        advice.push(words::check_path(remote));
        advice
    })
}

#[cfg(test)]
mod tests {
    use crate::detect::story::{
        closed, closed_by, closed_by_reset, connecting, details, established, expected, findings, look, lost,
        on, orphaned, past, progress, replayed, resent, reset_received, state, timed_out, verdict, verdicts,
        with, words_of,
    };
    use crate::record::{Errno, Event, Fact, Record, State, Tcp};

    /// The first four time-outs of what was written after 3 s, at an RTO of 200 ms.
    fn stuck_at_6_s() -> Vec<Record> {
        [(0, established()), (3_200, resent(1)), (3_600, resent(2)), (4_400, resent(3)), (6_000, resent(4))]
            .map(|(ms, event)| on(ms, event))
            .into()
    }

    fn then<const N: usize>(more: [(u64, Event); N]) -> Vec<Record> {
        stuck_at_6_s().into_iter().chain(more.map(|(ms, event)| on(ms, event))).collect()
    }

    const OPENED: (u64, &str) = (6_000, "stuck_retransmission opened");

    #[test]
    fn it_needs_four_time_outs_in_a_row() {
        assert_eq!(verdicts(&stuck_at_6_s()), expected([OPENED]));
        assert_eq!(verdicts(&stuck_at_6_s()[..4]), expected([]));
        let flapping =
            [(0, resent(3)), (500, progress(3)), (700, resent(1)), (3_000, resent(3)), (3_001, resent(0))];
        assert_eq!(verdicts(&flapping.map(|(ms, event)| on(ms, event))), expected([]));
    }

    #[test]
    fn it_says_how_long_what_has_been_waiting_and_what_to_change() {
        let facts = |tcp: &mut Tcp| {
            tcp.stalled_ms = Some(3_000);
            tcp.last_received_ms = Some(10_000);
            tcp.gives_up_in_ms = Some(921_600);
        };
        let findings = findings(&[on(10_000, with(resent(4), facts))]);
        assert_eq!(
            details(&findings[0]),
            (
                7_000,
                r#"{"attempts":4,"gives_up_in_ms":921600,"idle_ms":7000,"next_ms":3200,"stalled_ms":3000,"unacked_bytes":24}"#
                    .to_owned(),
                "curl (pid 812) has been waiting for 10.0.1.4:443 (from 10.0.0.2:50000) to acknowledge 24 bytes for 3.0 s: \
                 4 retransmissions unanswered after 7.0 s of idleness; the kernel will give up in 15 min 21 s"
                    .to_owned()
            )
        );
        assert_eq!(
            verdict(&findings[0]).advice,
            [
                "it had been idle for 7.0 s: if something on the path forgets idle connections, set SO_KEEPALIVE with TCP_KEEPIDLE \
                 at most 3 s on the socket, or close pooled connections after at most 3 s without use",
                "set TCP_USER_TIMEOUT to 10000 (milliseconds) on the socket, so that its process hears of a silent peer after about 10.0 s",
                "or net.ipv4.tcp_retries2=8, which bounds every connection of the network namespace at about 100 s",
                "check 10.0.1.4:443 and the way to it: what is sent there, or its answers, are lost",
            ]
        );
    }

    #[test]
    fn it_began_with_the_first_retransmission_since_the_last_word() {
        let heard = |ms_ago| move |tcp: &mut Tcp| tcp.last_received_ms = Some(ms_ago);
        let records = [
            on(1_000, with(resent(1), heard(500))),
            on(10_000, with(resent(1), heard(2_000))),
            on(13_000, with(resent(4), heard(5_000))),
        ];
        assert_eq!(details(&findings(&records)[0]).0, 10_000);
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        let bare = |tcp: &mut Tcp| {
            *tcp = Tcp { state: Some(State::ESTABLISHED), retransmits: Some(4), ..Tcp::default() }
        };
        let mut look = with(look(), bare);
        look.socket_mut().pid = None;
        look.socket_mut().comm = None;
        assert_eq!(
            details(&findings(&[on(500, look)])[0]),
            (
                500,
                r#"{"attempts":4}"#.to_owned(),
                "a process that is not known has been waiting for 10.0.1.4:443 (from 10.0.0.2:50000) to acknowledge what was sent: \
                 4 retransmissions unanswered"
                    .to_owned()
            )
        );
    }

    #[test]
    fn a_look_in_the_middle_of_a_hang_is_enough_and_what_is_told_of_the_past_is_not() {
        let told = [
            on(1_000, replayed(established())),
            on(2_000, past(Fact::LastReceived)),
            on(9_000, with(past(Fact::RetransmittingSince), |tcp| tcp.retransmits = Some(5))),
        ];
        assert_eq!(verdicts(&told), expected([]));
        let mut with_look = told.to_vec();
        with_look.push(on(20_000, with(look(), |tcp| tcp.retransmits = Some(5))));
        let findings = findings(&with_look);
        assert_eq!(words_of(&findings), expected([(20_000, "stuck_retransmission opened")]));
        assert_eq!(details(&findings[0]).0, 9_000, "since the first retransmission");
        assert_eq!(findings[0].timeline.parts().0.len(), 4);
    }

    #[test]
    fn an_acknowledgement_ends_it_whoever_tells_of_it() {
        let recovered = |at| expected([OPENED, (at, "stuck_retransmission closed recovered")]);
        assert_eq!(verdicts(&then([(9_000, progress(4))])), recovered(9_000));
        assert_eq!(verdicts(&then([(9_500, look())])), recovered(9_500));
        assert_eq!(verdicts(&then([(9_600, closed())])), recovered(9_600));
    }

    #[test]
    fn the_last_word_has_the_final_numbers_and_no_prediction() {
        let stalled = |tcp: &mut Tcp| {
            tcp.stalled_ms = Some(3_000);
            tcp.gives_up_in_ms = Some(60_000);
        };
        let records = [
            on(6_000, with(resent(4), stalled)),
            on(9_200, resent(5)),
            on(15_600, resent(6)),
            on(16_000, progress(6)),
        ];
        let findings = findings(&records);
        assert_eq!(
            details(&findings[1]),
            (
                3_000,
                r#"{"attempts":6,"stalled_ms":13000,"unacked_bytes":24}"#.to_owned(),
                "the stalled transmission of curl (pid 812) with 10.0.1.4:443 (from 10.0.0.2:50000) ended after 13.0 s: \
                 an acknowledgement came"
                    .to_owned()
            )
        );
    }

    #[test]
    fn it_ends_with_the_connection() {
        assert_eq!(
            verdicts(&then([(60_000, timed_out())])),
            expected([
                OPENED,
                (60_000, "stuck_retransmission closed silent_death"),
                (60_000, "silent_death closed")
            ])
        );
        assert_eq!(
            verdicts(&then([(60_000, reset_received()), (60_000, closed_by_reset())])),
            expected([OPENED, (60_000, "stuck_retransmission closed reset")])
        );
        let destroyed = closed_by(|it| it.errno = Some(Errno::named("ECONNABORTED")));
        for ended in [destroyed, with(closed(), |tcp| tcp.unacked_bytes = Some(24))] {
            assert_eq!(
                verdicts(&then([(60_000, state(State::ESTABLISHED, State::CLOSE)), (60_000, ended)])),
                expected([OPENED, (60_000, "stuck_retransmission closed closed")])
            );
        }
    }

    #[test]
    fn it_ends_when_the_process_lets_go_and_the_orphan_has_a_verdict_of_its_own() {
        let closing = |event| with(orphaned(event), |tcp| tcp.state = Some(State::FIN_WAIT1));
        assert_eq!(
            verdicts(&then([(9_200, closing(resent(5)))])),
            expected([OPENED, (9_200, "stuck_retransmission closed closed"), (9_200, "orphan_stuck opened")])
        );
    }

    #[test]
    fn it_is_told_again_only_when_the_attempts_have_doubled() {
        let attempts: Vec<_> =
            (1..=16).map(|attempt| on(u64::from(attempt) * 1_000, resent(attempt))).collect();
        assert_eq!(
            verdicts(&attempts),
            expected([
                (4_000, "stuck_retransmission opened"),
                (8_000, "stuck_retransmission updated"),
                (16_000, "stuck_retransmission updated"),
            ])
        );
    }

    #[test]
    fn a_closed_window_a_handshake_an_orphan_and_an_end_are_other_stories() {
        let window_closed = with(resent(5), |tcp| tcp.send_window_bytes = Some(0));
        let closing = with(orphaned(resent(5)), |tcp| tcp.state = Some(State::LAST_ACK));
        let accepting = with(look(), |tcp| {
            tcp.state = Some(State::SYN_RECV);
            tcp.retransmits = Some(5);
        });
        assert_eq!(
            verdicts(&[on(0, connecting()), on(1, established()), on(5, window_closed)]),
            expected([])
        );
        assert_eq!(verdicts(&[on(0, accepting)]), expected([]));
        assert_eq!(verdicts(&[on(0, closing)]), expected([(0, "orphan_stuck opened")]));
        let reset = with(reset_received(), |tcp| tcp.retransmits = Some(5));
        assert_eq!(verdicts(&[on(0, reset), on(0, closed_by_reset())]), expected([]), "it is over");
    }

    #[test]
    fn loss_in_the_middle_is_said_and_nothing_else_changes() {
        let mut records = stuck_at_6_s();
        records.insert(3, lost(4_000, 12));
        let findings = findings(&records);
        assert_eq!(words_of(&findings), expected([OPENED]));
        assert_eq!(
            details(&findings[0]).1,
            r#"{"attempts":4,"lost_before":12,"next_ms":3200,"unacked_bytes":24}"#
        );
    }
}
