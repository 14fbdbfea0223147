//! `orphan_stuck`: a socket that no process holds any more cannot finish closing.

use serde_json::Value;

use super::{Advice, Condition, Grounds, Scene, ending, evidence, in_ms, words};
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
    grounds,
    summary,
    ends,
    span: None,
};

fn holds(scene: &Scene<'_>) -> Option<u64> {
    let facts = scene.facts;
    let applies = scene.lives() && facts.socket.orphan && facts.state.is_some_and(State::is_closing);
    let attempts = facts.timeouts.unwrap_or(0).max(facts.window_probes.open_window);
    (applies && attempts >= scene.thresholds.orphan_stuck).then_some(attempts.into())
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

fn grounds(scene: &Scene<'_>, attempts: u64) -> Grounds {
    Grounds {
        since: scene.stalled_since(),
        evidence: evidence([
            ("attempts", Some(attempts.into())),
            ("owner_exited", scene.facts.socket.owner_exited.map(Into::into)),
            ("gives_up_in_ms", scene.gives_up_in_ms().map(Value::from)),
            ("stalled_ms", scene.stalled().map(in_ms)),
        ]),
        advice: Advice::new(move || {
            vec![format!(
                "no process can act on it any more, and it goes by itself; if such sockets pile up, net.ipv4.tcp_orphan_retries={attempts} \
                 lets the kernel drop them after as many attempts as this one has made"
            )]
        }),
    }
}

fn summary(scene: &Scene<'_>, attempts: u64) -> String {
    let socket = &scene.facts.socket;
    let left =
        if socket.owner_exited == Some(true) { "which has exited" } else { "which no longer holds it" };
    let unacked = scene.facts.tcp.unacked_bytes.filter(|bytes| *bytes > 0);
    let unacked = unacked.map_or_else(
        || "the connection's end".to_owned(),
        |bytes| format!("{} and the connection's end", words::plural(bytes, "byte")),
    );
    format!(
        "the connection of {}, {left}, cannot be closed: {} has not acknowledged {unacked}{}, {} went unanswered{}",
        words::owner(socket),
        words::peer(socket),
        words::lasting(scene.stalled()),
        words::plural(attempts, "attempt"),
        words::gives_up(scene.gives_up_in_ms())
    )
}

#[cfg(test)]
mod tests {
    use crate::detect::story::{
        closed_by, details, expected, findings, lost, on, orphaned, progress, resent, reset_received,
        reset_sent, shed, state, verdict, verdicts, window_probe, with, words_of,
    };
    use crate::record::{Errno, Event, Record, State};

    fn closing(event: Event) -> Event {
        with(orphaned(event), |tcp| tcp.state = Some(State::FIN_WAIT1))
    }

    /// Closed after 1 s with 24 bytes unacknowledged; the process exits.
    fn stuck_at_3_4_s() -> Vec<Record> {
        let closes = with(state(State::ESTABLISHED, State::FIN_WAIT1), |tcp| tcp.unacked_bytes = Some(24));
        [
            (2_000, closes),
            (2_200, closing(resent(1))),
            (2_600, closing(resent(2))),
            (3_400, closing(resent(3))),
        ]
        .map(|(ms, event)| on(ms, event))
        .into()
    }

    fn then<const N: usize>(more: [(u64, Event); N]) -> Vec<Record> {
        stuck_at_3_4_s().into_iter().chain(more.map(|(ms, event)| on(ms, event))).collect()
    }

    fn dropped(errno: Option<&'static str>) -> Event {
        let ended = closed_by(|it| {
            it.from = State::FIN_WAIT1;
            it.errno = errno.map(Errno::named);
            it.fin_unacked = true;
        });
        with(orphaned(ended), |tcp| tcp.unacked_bytes = Some(24))
    }

    const OPENED: (u64, &str) = (3_400, "orphan_stuck opened");

    #[test]
    fn it_needs_three_time_outs_of_a_socket_without_a_process() {
        assert_eq!(verdicts(&stuck_at_3_4_s()), expected([OPENED]));
        assert_eq!(verdicts(&stuck_at_3_4_s()[..3]), expected([]));
        let held = with(resent(3), |tcp| tcp.state = Some(State::FIN_WAIT1));
        assert_eq!(verdicts(&[on(0, held)]), expected([]));
        let half_closed = with(orphaned(resent(3)), |tcp| tcp.state = Some(State::FIN_WAIT2));
        assert_eq!(verdicts(&[on(0, half_closed)]), expected([]));
    }

    #[test]
    fn it_names_the_owner_that_was_and_what_to_change() {
        let mut records = stuck_at_3_4_s();
        records.pop();
        let third = with(closing(resent(3)), |tcp| {
            tcp.stalled_ms = Some(1_400);
            tcp.gives_up_in_ms = Some(101_000);
        });
        records.push(on(3_400, third));
        let findings = findings(&records);
        assert_eq!(
            details(&findings[0]),
            (
                2_000,
                r#"{"attempts":3,"gives_up_in_ms":101000,"owner_exited":true,"stalled_ms":1400}"#.to_owned(),
                "the connection of curl (pid 812), which has exited, cannot be closed: 10.0.1.4:443 (from 10.0.0.2:50000) has not \
                 acknowledged 24 bytes and the connection's end for 1.4 s, 3 attempts went unanswered; the kernel will give up in 1 min 41 s"
                    .to_owned()
            )
        );
        assert_eq!(
            verdict(&findings[0]).advice,
            [
                "no process can act on it any more, and it goes by itself; if such sockets pile up, net.ipv4.tcp_orphan_retries=3 \
              lets the kernel drop them after as many attempts as this one has made"
            ]
        );
    }

    #[test]
    fn an_acknowledgement_after_all_ends_it() {
        let finished = with(state(State::FIN_WAIT1, State::FIN_WAIT2), |tcp| tcp.retransmits = None);
        for recovered in [closing(progress(3)), orphaned(finished), closing(resent(0))] {
            assert_eq!(
                verdicts(&then([(4_000, recovered)])),
                expected([OPENED, (4_000, "orphan_stuck closed recovered")])
            );
        }
    }

    #[test]
    fn it_ends_with_the_connection() {
        assert_eq!(
            verdicts(&then([(105_000, dropped(Some("ETIMEDOUT")))])),
            expected([
                OPENED,
                (105_000, "orphan_stuck closed silent_death"),
                (105_000, "silent_death closed")
            ])
        );
        let dropped_quietly = with(dropped(None), |tcp| tcp.unacked_bytes = Some(0));
        assert_eq!(
            verdicts(&then([(5_000, dropped_quietly)])),
            expected([OPENED, (5_000, "orphan_stuck closed closed")])
        );
        for reset in [reset_received(), reset_sent("ABORT_ON_MEMORY")] {
            assert_eq!(
                verdicts(&then([
                    (5_000, closing(with(reset, |tcp| tcp.retransmits = Some(3)))),
                    (5_000, dropped(None))
                ])),
                expected([OPENED, (5_000, "orphan_stuck closed reset")])
            );
        }
    }

    #[test]
    fn probes_of_an_open_window_count_while_nothing_moves() {
        let open = |probe, unsent_bytes| {
            with(closing(window_probe(probe, None)), |tcp| {
                tcp.send_window_bytes = Some(10);
                tcp.unsent_bytes = Some(unsent_bytes);
            })
        };
        let stuck = [on(200, open(1, 100)), on(600, open(2, 100)), on(1_400, open(3, 100))];
        assert_eq!(verdicts(&stuck), expected([(1_400, "orphan_stuck opened")]));
        let closed = [1, 2, 3].map(|probe| on(u64::from(probe) * 200, closing(window_probe(probe, None))));
        let another_story = expected([(600, "zero_window_stall opened")]);
        assert_eq!(verdicts(&closed), another_story, "a closed window");
        let moving = [on(200, open(1, 100)), on(600, open(2, 100)), on(1_400, open(3, 90))];
        assert_eq!(verdicts(&moving), expected([]));
    }

    #[test]
    fn probes_counted_before_their_hook_went_prove_nothing() {
        let open = |probe| with(window_probe(probe, None), |tcp| tcp.send_window_bytes = Some(10));
        let probed = [on(200, open(1)), on(600, open(2)), on(1_400, open(3))];
        let closes = || on(9_000, closing(resent(1)));
        let stale = [&probed[..], &[closes()]].concat();
        assert_eq!(verdicts(&stale), expected([(9_000, "orphan_stuck opened")]), "with the hook");
        let without = [&probed[..], &[shed(2_000, "timers", &["keepalive", "persist"]), closes()]].concat();
        assert_eq!(verdicts(&without), expected([]));
    }

    #[test]
    fn probes_counted_before_a_loss_prove_nothing() {
        let open = |probe| with(closing(window_probe(probe, None)), |tcp| tcp.send_window_bytes = Some(10));
        let records = [
            on(200, open(1)),
            on(600, open(2)),
            lost(700, 9),
            on(1_400, open(3)),
            on(3_000, open(4)),
            on(6_200, open(5)),
        ];
        let findings = findings(&records);
        assert_eq!(words_of(&findings), expected([(6_200, "orphan_stuck opened")]));
        assert_eq!(details(&findings[0]).1, r#"{"attempts":3,"lost_before":9,"owner_exited":true}"#);
    }
}
