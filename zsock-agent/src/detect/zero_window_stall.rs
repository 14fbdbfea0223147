//! `zero_window_stall`: the peer's window is closed, and data waits for it to open.
//!
//! The peer's host answers, its process does not read. Nothing here of the probes of an open window (their peer is silent: `orphan_stuck`,
//! `silent_death`), and nothing of a window that opened between two probes.

use std::time::Duration;

use serde_json::Value;

use super::{Advice, Condition, Grounds, Scene, ending, evidence, in_ms, silent_death, words};
use crate::record::{Outcome, Severity, VerdictName};

/// 3: 1.4 s after the window closed at an RTO of 200 ms (0.2 + 0.4 + 0.8). A reader that is merely busy opens it within one or two.
pub(super) const PROBES: u32 = 3;

pub(super) const CONDITION: Condition = Condition {
    name: VerdictName::ZeroWindowStall,
    severity: Severity::Warning,
    counts: "probes",
    noun: "the wait at the closed window",
    holds,
    grounds,
    summary,
    ends,
    span: None,
};

fn holds(scene: &Scene<'_>) -> Option<u64> {
    let probes = scene.facts.window_probes.closed_window;
    (scene.lives() && probes >= scene.thresholds.zero_window_stall).then_some(probes.into())
}

fn ends(scene: &Scene<'_>) -> Option<Outcome> {
    if let Some(closed) = scene.closed() {
        let outcome = ending(scene)?;
        return Some(if outcome == Outcome::Recovered {
            Outcome::OpenedWindow
        } else if outcome == Outcome::Closed && silent_death::in_spite_of_answers(scene, closed) {
            Outcome::TimedOut
        } else {
            outcome
        });
    }
    let opened = scene.facts.moved || scene.event.tcp.send_window_bytes > Some(0);
    (scene.lives() && opened).then_some(Outcome::OpenedWindow)
}

fn grounds(scene: &Scene<'_>, probes: u64) -> Grounds {
    let peer = scene.peer_under(VerdictName::ReceiverStall);
    let stalled = stalled(scene);
    Grounds {
        since: stalled.map_or(scene.at, |stalled| scene.at.before(stalled)),
        evidence: evidence([
            ("probes", Some(probes.into())),
            ("answered", scene.facts.window_probes.answered.map(Value::from)),
            ("stalled_ms", stalled.map(in_ms)),
            ("unsent_bytes", scene.facts.tcp.unsent_bytes.map(Value::from)),
            ("gives_up_in_ms", scene.gives_up_in_ms().map(Value::from)),
            ("peer_process", peer.and_then(super::Peer::process)),
            ("peer_socket", peer.map(super::Peer::socket)),
        ]),
        advice: advice(scene, stalled),
    }
}

fn summary(scene: &Scene<'_>, probes: u64) -> String {
    let socket = &scene.facts.socket;
    let tcp = &scene.facts.tcp;
    let peer = scene.peer_under(VerdictName::ReceiverStall);
    let (owner, remote) = (words::owner(socket), words::peer(socket));
    let what = if socket.orphan {
        format!("what {owner} has left to send does not get to {remote}")
    } else {
        format!("{owner} cannot send to {remote}")
    };
    let waiting = tcp.unsent_bytes.zip(tcp.unacked_bytes);
    let waiting = waiting
        .map(|(unsent, unacked)| unsent.saturating_add(unacked))
        .filter(|bytes| *bytes > 0)
        .map_or_else(String::new, |bytes| format!(" while {} of ours wait", words::plural(bytes, "byte")));
    let answered = scene.facts.window_probes.answered;
    let answered = answered.map_or_else(String::new, |answered| format!(", {answered} answered"));
    format!(
        "{what}: its window has been closed{}{waiting} ({}{answered}){}{}",
        words::lasting(stalled(scene)),
        words::plural(probes, "probe"),
        words::gives_up(scene.gives_up_in_ms()),
        peer.map_or_else(String::new, |peer| peer.clause("does not read")),
    )
}

/// How long data has waited for the window.
fn stalled(scene: &Scene<'_>) -> Option<Duration> {
    let closed_since = scene.facts.window_probes.closed_since;
    scene.stalled().or_else(|| closed_since.map(|since| scene.at.since(since)))
}

fn advice(scene: &Scene<'_>, stalled: Option<Duration>) -> Advice {
    let remote = scene.facts.socket.remote;
    let bound = stalled.filter(|_| !scene.facts.socket.orphan && scene.facts.tcp.user_timeout_ms.is_none());
    // Shorter ones end connections whose reader is merely slow.
    let bound =
        bound.map(|stalled| Duration::from_secs((stalled * 2).as_secs()).max(Duration::from_secs(10)));
    let user_timeout = |bound: Duration| {
        format!(
            "if the process here shall not wait for as long, set TCP_USER_TIMEOUT to {} (milliseconds) on the socket: the kernel then gives \
             up after {} at a closed window, although the peer answers",
            bound.as_millis(),
            words::duration(bound)
        )
    };
    Advice::new(move || {
        let look = format!(
            "look at the process behind {}: it reads nothing, or far less than is sent, and no setting on this side makes it read",
            words::remote(remote)
        );
        [look].into_iter().chain(bound.map(user_timeout)).collect()
    })
}

#[cfg(test)]
mod tests {
    use crate::detect::Thresholds;
    use crate::detect::story::{
        closed, closed_by, closed_by_reset, details, established, expected, findings, findings_with, found,
        look, lost, on, orphaned, progress, resent, reset_received, state, verdict, verdicts, window_probe,
        with, words_of,
    };
    use crate::record::{Cause, Errno, Event, Record, Retransmit, State, What};

    /// The window is closed after 1 s; each probe but the last was answered.
    fn stalled_at_2_4_s() -> Vec<Record> {
        vec![
            on(0, established()),
            on(1_200, window_probe(1, None)),
            on(1_600, window_probe(2, Some(true))),
            on(2_400, window_probe(3, Some(true))),
        ]
    }

    fn then<const N: usize>(more: [(u64, Event); N]) -> Vec<Record> {
        stalled_at_2_4_s().into_iter().chain(more.map(|(ms, event)| on(ms, event))).collect()
    }

    const OPENED: (u64, &str) = (2_400, "zero_window_stall opened");

    /// A time-out with 24 bytes in flight, towards a closed window.
    fn blocked(heard_ms_ago: Option<u64>) -> Event {
        with(resent(0), |tcp| {
            tcp.send_window_bytes = Some(0);
            tcp.last_received_ms = heard_ms_ago;
        })
    }

    #[test]
    fn it_needs_three_probes_in_a_row_of_a_closed_window() {
        assert_eq!(verdicts(&stalled_at_2_4_s()), expected([OPENED]));
        assert_eq!(verdicts(&stalled_at_2_4_s()[..3]), expected([]));
        let mut thresholds = Thresholds::default();
        thresholds.set("zero_window_stall=2").unwrap();
        let sooner = findings_with(thresholds, &stalled_at_2_4_s()[..3]);
        assert_eq!(words_of(&sooner), expected([(1_600, "zero_window_stall opened")]));
    }

    #[test]
    fn a_window_that_opened_between_two_probes_makes_the_count_begin_anew() {
        let mut records = stalled_at_2_4_s();
        records.insert(3, on(2_000, look()));
        assert_eq!(verdicts(&records), expected([]));
        let mut records = stalled_at_2_4_s();
        // It moved data and closed again, unseen.
        records.insert(2, on(1_400, window_probe(1, None)));
        assert_eq!(verdicts(&records), expected([(2_400, "zero_window_stall opened")]));
        assert_eq!(verdicts(&records[..4]), expected([]));
    }

    #[test]
    fn probes_of_an_open_window_are_another_story() {
        let open = |probe| with(window_probe(probe, None), |tcp| tcp.send_window_bytes = Some(10));
        let records = [1, 2, 3, 4].map(|probe| on(u64::from(probe) * 1_000, open(probe)));
        assert_eq!(verdicts(&records), expected([]));
    }

    #[test]
    fn time_outs_towards_a_closed_window_probe_it_too() {
        let records =
            [on(1_000, blocked(None)), on(1_400, blocked(Some(300))), on(2_200, blocked(Some(1_100)))];
        let findings = findings(&records);
        assert_eq!(words_of(&findings), expected([(2_200, "zero_window_stall opened")]));
        assert_eq!(
            details(&findings[0]).1,
            r#"{"answered":1,"probes":3,"stalled_ms":1200,"unsent_bytes":0}"#,
            "nothing came between 1.1 s and 2.2 s"
        );
        assert_eq!(
            verdict(&findings[0]).summary,
            "curl (pid 812) cannot send to 10.0.1.4:443 (from 10.0.0.2:50000): its window has been closed \
             for 1.2 s while 24 bytes of ours wait (3 probes, 1 answered)"
        );
    }

    #[test]
    fn an_answer_within_the_kernels_tick_is_one() {
        let heard = |heard_ms_ago| {
            let records = [
                on(1_000, blocked(None)),
                on(1_400, blocked(Some(heard_ms_ago))),
                on(2_200, blocked(Some(0))),
            ];
            verdict(&findings(&records)[0]).evidence["answered"].clone()
        };
        assert_eq!([heard(410), heard(411)], [2, 1]);
    }

    #[test]
    fn what_no_timer_sent_and_what_did_not_leave_this_host_probes_nothing() {
        let thrice = |change: fn(&mut Retransmit)| {
            let mut event = blocked(None);
            if let What::Retransmit(retransmit) = &mut event.what {
                change(retransmit);
            }
            verdicts(&[1_000, 1_400, 2_200].map(|ms| on(ms, event.clone())))
        };
        assert_eq!(thrice(|_| ()), expected([(2_200, "zero_window_stall opened")]));
        assert_eq!(thrice(|it| it.cause = None), expected([(2_200, "zero_window_stall opened")]));
        assert_eq!(thrice(|it| it.cause = Some(Cause::TailLossProbe)), expected([]));
        assert_eq!(thrice(|it| it.failed = true), expected([]));
    }

    #[test]
    fn it_says_who_does_not_read_and_how_to_bound_the_wait() {
        let mut records = stalled_at_2_4_s();
        records[3] = on(
            2_400,
            with(window_probe(3, Some(true)), |tcp| {
                tcp.stalled_ms = Some(1_450);
                tcp.gives_up_in_ms = Some(60_000);
            }),
        );
        let findings = findings(&records);
        assert_eq!(
            details(&findings[0]),
            (
                950,
                r#"{"answered":2,"gives_up_in_ms":60000,"probes":3,"stalled_ms":1450,"unsent_bytes":100}"#.to_owned(),
                "curl (pid 812) cannot send to 10.0.1.4:443 (from 10.0.0.2:50000): its window has been closed \
                 for 1.4 s while 100 bytes of ours wait (3 probes, 2 answered); the kernel will give up in 1 min 0 s"
                    .to_owned()
            )
        );
        assert_eq!(
            verdict(&findings[0]).advice,
            [
                "look at the process behind 10.0.1.4:443: it reads nothing, or far less than is sent, and no setting on this side makes it read",
                "if the process here shall not wait for as long, set TCP_USER_TIMEOUT to 10000 (milliseconds) on the socket: the kernel then \
                 gives up after 10.0 s at a closed window, although the peer answers",
            ]
        );
    }

    #[test]
    fn an_orphan_has_nobody_to_change_its_settings() {
        let orphaned = stalled_at_2_4_s().into_iter().map(|mut record| {
            if let crate::record::Body::Event(event) = &mut record.body {
                event.socket_mut().orphan = true;
                event.tcp.state = Some(State::FIN_WAIT1);
            }
            record
        });
        let findings = findings(&orphaned.collect::<Vec<_>>());
        assert_eq!(words_of(&findings), expected([OPENED]));
        assert_eq!(
            verdict(&findings[0]).summary,
            "what curl (pid 812) has left to send does not get to 10.0.1.4:443 (from 10.0.0.2:50000): \
             its window has been closed for 1.2 s while 100 bytes of ours wait (3 probes, 2 answered)"
        );
        assert_eq!(verdict(&findings[0]).advice.len(), 1);
    }

    #[test]
    fn it_ends_when_the_window_opens_whoever_tells_of_it() {
        let opened = |at| expected([OPENED, (at, "zero_window_stall closed opened_window")]);
        let told = [(4_000, window_probe(4, Some(true))), (5_000, look())];
        let findings = findings(&then(told));
        assert_eq!(words_of(&findings), opened(5_000));
        assert_eq!(
            details(&findings[1]),
            (
                1_200,
                r#"{"answered":3,"probes":4,"stalled_ms":3800,"unsent_bytes":100}"#.to_owned(),
                "the wait at the closed window of curl (pid 812) with 10.0.1.4:443 (from 10.0.0.2:50000) ended after 3.8 s: the peer's window \
                 opened"
                    .to_owned()
            )
        );
        let moved = with(progress(1), |tcp| tcp.send_window_bytes = Some(0));
        assert_eq!(verdicts(&then([(5_000, moved)])), opened(5_000));
        assert_eq!(verdicts(&then([(5_000, closed())])), opened(5_000), "everything was acknowledged");
        assert_eq!(verdicts(&then([(5_000, window_probe(4, Some(true)))])), expected([OPENED]));
    }

    #[test]
    fn it_ends_with_the_connection() {
        let ended = |outcome: &str, more: Vec<Record>| {
            let records = [stalled_at_2_4_s(), more].concat();
            let found = verdicts(&records);
            assert_eq!(found[1], (60_000, format!("zero_window_stall closed {outcome}")));
            found.len()
        };
        let still = |event| {
            with(event, |tcp| {
                tcp.unsent_bytes = Some(100);
                tcp.send_window_bytes = Some(0);
            })
        };
        assert_eq!(ended("closed", vec![on(60_000, still(closed()))]), 2);
        let answered = with(reset_received(), |tcp| tcp.last_received_ms = Some(1_000));
        let reset = [answered, closed_by_reset()].map(|event| on(60_000, still(event)));
        assert_eq!(ended("reset", reset.into()), 2);
        let gave_up = |heard_ms_ago| {
            with(still(closed_by(|it| it.errno = Some(Errno::named("ETIMEDOUT")))), |tcp| {
                tcp.last_received_ms = Some(heard_ms_ago);
            })
        };
        assert_eq!(ended("timed_out", vec![on(60_000, gave_up(58_000))]), 2);
        let unanswered = vec![on(4_000, window_probe(4, Some(false))), on(60_000, gave_up(58_000))];
        assert_eq!(ended("silent_death", unanswered), 3, "and the death itself");
        let dies = state(State::ESTABLISHED, State::CLOSE);
        assert_eq!(ended("timed_out", vec![on(60_000, dies), on(60_000, gave_up(58_000))]), 2);
    }

    #[test]
    fn it_goes_on_without_a_process() {
        let let_go = with(orphaned(window_probe(4, Some(true))), |tcp| tcp.state = Some(State::FIN_WAIT1));
        assert_eq!(verdicts(&then([(4_000, let_go)])), expected([OPENED]));
    }

    #[test]
    fn loss_in_the_middle_leaves_the_count_of_probes_and_not_that_of_answers() {
        let records = [
            on(0, established()),
            on(1_200, window_probe(1, None)),
            lost(1_500, 1),
            on(2_400, window_probe(3, Some(true))),
            on(4_000, window_probe(4, Some(true))),
        ];
        let found = findings(&records);
        assert_eq!(words_of(&found), expected([OPENED]));
        assert_eq!(details(&found[0]).1, r#"{"lost_before":1,"probes":3,"stalled_ms":0,"unsent_bytes":100}"#);
        let reopened = [on(1_200, window_probe(1, None)), on(1_600, window_probe(2, None)), lost(1_700, 1)];
        let anew = [on(2_400, window_probe(1, None)), on(2_800, window_probe(2, Some(true)))];
        assert_eq!(verdicts(&[&reopened[..], &anew].concat()), expected([]));
    }

    #[test]
    fn a_look_in_the_middle_of_a_stall_is_enough() {
        let looked = |probes, window| {
            with(found(|sample| sample.window_probes = Some(probes)), |tcp| {
                tcp.send_window_bytes = Some(window);
                tcp.unsent_bytes = Some(100);
                tcp.stalled_ms = Some(90_000);
            })
        };
        assert_eq!(verdicts(&[on(100_000, looked(2, 0))]), expected([]));
        let findings = findings(&[on(100_000, looked(7, 0)), on(160_000, looked(7, 1_000))]);
        assert_eq!(
            words_of(&findings),
            expected([
                (100_000, "zero_window_stall opened"),
                (160_000, "zero_window_stall closed opened_window")
            ])
        );
        let said = details(&findings[0]);
        assert_eq!(
            (said.0, said.1),
            (10_000, r#"{"probes":7,"stalled_ms":90000,"unsent_bytes":100}"#.to_owned())
        );
    }
}
