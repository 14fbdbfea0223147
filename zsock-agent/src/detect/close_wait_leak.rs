//! `close_wait_leak`: the peer has closed, and our process neither closes nor uses what is left.
//!
//! Half-closed connections that still carry data are sound: the time begins anew whenever data is sent or read. Reading the end of file is
//! not reading data, for that is what a process that leaks has done too.

use std::time::Duration;

use serde_json::Value;

use super::{Advice, Condition, Grounds, Scene, Span, evidence, in_ms, words};
use crate::record::{Outcome, Severity, State, VerdictName};

/// 1 min: what ends in order closes within milliseconds of the peer; whoever answers slowly to a half-closed peer moves data within a minute.
pub(super) const HALF_CLOSED: Duration = Duration::from_mins(1);

const NO_SETTING: &str = "no kernel setting closes a descriptor that a process holds: until the program is mended, restarting it is \
     what frees them";

pub(super) const CONDITION: Condition = Condition {
    name: VerdictName::CloseWaitLeak,
    severity: Severity::Warning,
    counts: "waiting_ms",
    noun: "the standstill in CLOSE_WAIT",
    holds,
    grounds,
    summary,
    ends,
    span: Some(Span { at_a_look: |_, sample| sample.half_closed_ms, breaks: Outcome::Moved }),
};

fn holds(scene: &Scene<'_>) -> Option<u64> {
    let half_closed_ms = scene.look()?.half_closed_ms?;
    let applies = scene.is_held() && scene.facts.state == Some(State::CLOSE_WAIT);
    let long = Duration::from_millis(half_closed_ms) >= scene.thresholds.close_wait_leak;
    (applies && long).then_some(half_closed_ms)
}

fn ends(scene: &Scene<'_>) -> Option<Outcome> {
    (scene.facts.state != Some(State::CLOSE_WAIT)).then_some(Outcome::Closed)
}

fn grounds(scene: &Scene<'_>, waiting_ms: u64) -> Grounds {
    let waiting = Duration::from_millis(waiting_ms);
    let holder = words::Holder::of(&scene.facts.socket);
    Grounds {
        since: scene.at.before(waiting),
        evidence: evidence([
            ("waiting_ms", Some(in_ms(waiting))),
            ("unread_bytes", scene.facts.tcp.unread_bytes.map(Value::from)),
        ]),
        advice: Advice::new(move || {
            let close = format!(
                "{}: where reading gives the end of file (0 bytes), the program has to close the socket",
                holder.check()
            );
            vec![close, NO_SETTING.to_owned()]
        }),
    }
}

fn summary(scene: &Scene<'_>, waiting_ms: u64) -> String {
    let socket = &scene.facts.socket;
    let unread = scene.facts.tcp.unread_bytes.filter(|bytes| *bytes > 0);
    let unread =
        unread.map_or_else(String::new, |bytes| format!(", with {} unread", words::plural(bytes, "byte")));
    format!(
        "{} has not closed its connection with {}, which the peer has closed: nothing was sent or read for {}{unread}, and it holds a \
         file descriptor and its port until the process closes it",
        words::owner(socket),
        words::peer(socket),
        words::duration(Duration::from_millis(waiting_ms)),
    )
}

#[cfg(test)]
mod tests {
    use crate::detect::Thresholds;
    use crate::detect::story::{
        closed_by, details, expected, findings, findings_with, found, look, lost, on, orphaned, state,
        verdict, verdicts, with, words_of,
    };
    use crate::record::{Event, Record, State};

    /// Half-closed for so long, with 10 bytes unread.
    fn half_closed(ms: u64) -> Event {
        with(found(|sample| sample.half_closed_ms = Some(ms)), |tcp| {
            tcp.state = Some(State::CLOSE_WAIT);
            tcp.unread_bytes = Some(10);
        })
    }

    /// The peer closes after 1 s.
    fn leaked_at_61_s() -> Vec<Record> {
        vec![on(1_000, state(State::ESTABLISHED, State::CLOSE_WAIT)), on(61_000, half_closed(60_000))]
    }

    fn then<const N: usize>(more: [(u64, Event); N]) -> Vec<Record> {
        leaked_at_61_s().into_iter().chain(more.map(|(ms, event)| on(ms, event))).collect()
    }

    const OPENED: (u64, &str) = (61_000, "close_wait_leak opened");

    #[test]
    fn it_needs_a_minute_after_the_peers_end() {
        assert_eq!(verdicts(&leaked_at_61_s()), expected([OPENED]));
        assert_eq!(verdicts(&[on(61_000, half_closed(59_999))]), expected([]));
        let mut thresholds = Thresholds::default();
        thresholds.set("close_wait_leak=2s").unwrap();
        let sooner = findings_with(thresholds, &[on(3_000, half_closed(2_000))]);
        assert_eq!(words_of(&sooner), expected([(3_000, "close_wait_leak opened")]));
    }

    #[test]
    fn only_a_process_can_leak() {
        assert_eq!(verdicts(&[on(61_000, orphaned(half_closed(60_000)))]), expected([]));
        let mut in_the_accept_queue = half_closed(60_000);
        in_the_accept_queue.socket_mut().inode = None;
        assert_eq!(verdicts(&[on(61_000, in_the_accept_queue)]), expected([]));
        let closing = with(half_closed(60_000), |tcp| tcp.state = Some(State::LAST_ACK));
        assert_eq!(verdicts(&[on(61_000, closing)]), expected([]));
    }

    #[test]
    fn it_says_what_it_costs_and_who_has_to_close() {
        let findings = findings(&leaked_at_61_s());
        assert_eq!(
            details(&findings[0]),
            (
                1_000,
                r#"{"unread_bytes":10,"waiting_ms":60000}"#.to_owned(),
                "curl (pid 812) has not closed its connection with 10.0.1.4:443 (from 10.0.0.2:50000), which the peer has closed: nothing was \
                 sent or read for 1 min 0 s, with 10 bytes unread, and it holds a file descriptor and its port until the process closes it"
                    .to_owned()
            )
        );
        assert_eq!(
            verdict(&findings[0]).advice,
            [
                "look at what the threads of curl (pid 812) do, for instance with gdb -p 812 or cat /proc/812/task/*/stack: where reading \
                 gives the end of file (0 bytes), the program has to close the socket",
                "no kernel setting closes a descriptor that a process holds: until the program is mended, restarting it is what frees them",
            ]
        );
    }

    #[test]
    fn it_ends_when_the_process_closes() {
        let finishes = (90_000, state(State::CLOSE_WAIT, State::LAST_ACK));
        let closed = expected([OPENED, (90_000, "close_wait_leak closed closed")]);
        assert_eq!(verdicts(&then([finishes])), closed);
        let reset = closed_by(|it| {
            it.from = State::CLOSE_WAIT;
            it.reset = true;
        });
        assert_eq!(verdicts(&then([(90_000, reset)])), closed);
    }

    #[test]
    fn it_ends_when_data_moves_and_says_for_how_long_none_did() {
        let findings = findings(&then([(71_000, half_closed(400))]));
        assert_eq!(words_of(&findings), expected([OPENED, (71_000, "close_wait_leak closed moved")]));
        assert_eq!(
            details(&findings[1]),
            (
                1_000,
                r#"{"unread_bytes":10,"waiting_ms":69600}"#.to_owned(),
                "the standstill in CLOSE_WAIT of curl (pid 812) with 10.0.1.4:443 (from 10.0.0.2:50000) ended after 1 min 9 s: data was sent \
                 or read"
                    .to_owned()
            )
        );
        let silent_look = with(look(), |tcp| tcp.state = Some(State::CLOSE_WAIT));
        assert_eq!(
            verdicts(&then([(71_000, silent_look)])),
            expected([OPENED, (71_000, "close_wait_leak closed moved")])
        );
    }

    #[test]
    fn it_goes_on_while_the_time_does_and_is_told_again_when_that_has_doubled() {
        let goes_on = then([(101_000, half_closed(99_990)), (121_000, half_closed(120_000))]);
        assert_eq!(verdicts(&goes_on), expected([OPENED, (121_000, "close_wait_leak updated")]));
    }

    #[test]
    fn what_was_lost_between_two_looks_is_told_by_the_second() {
        let mut records = leaked_at_61_s();
        records.extend([lost(80_000, 5), on(161_000, half_closed(90_000))]);
        let findings = findings(&records);
        assert_eq!(
            words_of(&findings),
            expected([
                OPENED,
                (161_000, "close_wait_leak closed moved"),
                (161_000, "close_wait_leak opened")
            ])
        );
        assert_eq!(
            [1, 2].map(|finding: usize| details(&findings[finding]).1),
            [
                r#"{"lost_before":5,"unread_bytes":10,"waiting_ms":70000}"#,
                r#"{"lost_before":5,"unread_bytes":10,"waiting_ms":90000}"#,
            ]
        );
    }
}
