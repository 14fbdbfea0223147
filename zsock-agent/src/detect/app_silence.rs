//! `app_silence`: the peer's host acknowledged a request, and its process does not answer.
//!
//! Only on a connection that we opened and on which requests were answered before, and only after a wait many times longer than those
//! answers took: a long poll or a subscription has never answered quickly (its usual time is long, or it has no answers before), so its
//! silence is its ordinary way and it is not accused.

use std::time::Duration;

use serde_json::Value;

use super::{Advice, Condition, Grounds, Scene, Span, ended, evidence, in_ms, words};
use crate::record::{Outcome, Request, Sample, Severity, State, VerdictName};

/// 30 s: the time limit of most clients that have one; whoever still waits has none, or a long one.
pub(super) const WAITING: Duration = Duration::from_secs(30);

/// 10 times the usual answer time: slow is not silent.
const TIMES_THE_USUAL: u32 = 10;

/// 3 requests answered in a row make a pattern; one answer may have been a greeting.
const ANSWERED_BEFORE: u32 = 3;

pub(super) const CONDITION: Condition = Condition {
    name: VerdictName::AppSilence,
    severity: Severity::Warning,
    counts: "waiting_ms",
    noun: "the unanswered request",
    holds,
    grounds,
    summary,
    ends,
    span: Some(Span { at_a_look: without_an_answer, breaks: Outcome::Answered }),
};

fn holds(scene: &Scene<'_>) -> Option<u64> {
    let request = scene.look()?.request?;
    let waiting = Duration::from_millis(request.waiting_ms);
    let stands = scene.lives() && scene.facts.state == Some(State::ESTABLISHED);
    let silent = request.answered_before >= ANSWERED_BEFORE && waiting >= bound(scene, request);
    (stands && silent).then_some(request.waiting_ms)
}

/// A wait as long as this is silence.
fn bound(scene: &Scene<'_>, request: Request) -> Duration {
    let usual = Duration::from_millis(request.usual_ms);
    scene.thresholds.app_silence.max(usual.saturating_mul(TIMES_THE_USUAL))
}

/// The wait lasts until data comes from the peer, whatever else is sent meanwhile; where it is not known when data came last, as long as
/// the look shows a request.
fn without_an_answer(scene: &Scene<'_>, sample: &Sample) -> Option<u64> {
    scene.event.tcp.last_data_received_ms.or(sample.request.map(|request| request.waiting_ms))
}

fn ends(scene: &Scene<'_>) -> Option<Outcome> {
    let left = scene.lives() && scene.facts.state != Some(State::ESTABLISHED);
    ended(scene).or(left.then_some(Outcome::Closed))
}

fn grounds(scene: &Scene<'_>, waiting_ms: u64) -> Grounds {
    let waiting = Duration::from_millis(waiting_ms);
    let request = scene.look().and_then(|sample| sample.request);
    let usual = request.map(|request| Duration::from_millis(request.usual_ms));
    let answered_before = request.map(|request| request.answered_before);
    Grounds {
        since: scene.at.before(waiting),
        evidence: evidence([
            ("waiting_ms", Some(in_ms(waiting))),
            ("usual_ms", usual.map(in_ms)),
            ("answered_before", answered_before.map(Value::from)),
        ]),
        advice: request.map_or_else(|| Advice::new(Vec::new), |request| advice(scene, bound(scene, request))),
    }
}

fn summary(scene: &Scene<'_>, waiting_ms: u64) -> String {
    let socket = &scene.facts.socket;
    let request = scene.look().and_then(|sample| sample.request);
    let before = request.map_or_else(String::new, |request| {
        let usual = words::duration(Duration::from_millis(request.usual_ms));
        format!("; the {} requests before it were answered, usually within {usual}", request.answered_before)
    });
    format!(
        "{} has had no answer from {} for {} to what it sent last, which the host there has acknowledged{before}",
        words::owner(socket),
        words::peer(socket),
        words::duration(Duration::from_millis(waiting_ms)),
    )
}

fn advice(scene: &Scene<'_>, bound: Duration) -> Advice {
    let unguarded = scene.facts.tcp.keepalive.is_some_and(|keepalive| !keepalive.enabled);
    let remote = scene.facts.socket.remote;
    Advice::new(move || {
        let remote = words::remote(remote);
        let mut advice = vec![
            format!(
                "look at what the process behind {remote} does with the request: its host has received it"
            ),
            format!(
                "give such requests a time limit of about {} in the client (a read time-out): no TCP timer runs while an answer is awaited",
                words::duration(bound)
            ),
        ];
        advice.extend(unguarded.then(|| {
            format!(
                "set SO_KEEPALIVE with TCP_KEEPIDLE {} s on the socket: without it the wait never ends where {remote} dies meanwhile",
                words::half_in_seconds(bound)
            )
        }));
        advice
    })
}

#[cfg(test)]
mod tests {
    use crate::detect::Thresholds;
    use crate::detect::story::{
        closed, closed_by_reset, details, established, expected, findings, findings_with, found, keepalive,
        lost, on, reset_received, state, timed_out, verdict, verdicts, with, words_of,
    };
    use crate::record::{Event, KeepaliveSettings, Record, Request, State};

    fn request(waiting_ms: u64, usual_ms: u64, answered_before: u32) -> Event {
        let request = Request { waiting_ms, usual_ms, answered_before };
        found(|sample| sample.request = Some(request))
    }

    /// After 12 answers in at most 40 ms, none for so long.
    fn waiting(ms: u64) -> Event {
        request(ms, 40, 12)
    }

    /// Data came last so long ago.
    fn heard(event: Event, ms: u64) -> Event {
        with(event, |tcp| tcp.last_data_received_ms = Some(ms))
    }

    /// Asked after 10 s.
    fn silent_at_40_s() -> Vec<Record> {
        vec![on(0, established()), on(40_000, waiting(30_000))]
    }

    fn then<const N: usize>(more: [(u64, Event); N]) -> Vec<Record> {
        silent_at_40_s().into_iter().chain(more.map(|(ms, event)| on(ms, event))).collect()
    }

    const OPENED: (u64, &str) = (40_000, "app_silence opened");

    #[test]
    fn it_needs_thirty_seconds_and_ten_times_the_usual_after_three_answers() {
        let at_40_s = |event| verdicts(&[on(40_000, event)]);
        assert_eq!(at_40_s(request(30_000, 3_000, 3)), expected([OPENED]));
        assert_eq!(at_40_s(request(29_999, 3_000, 3)), expected([]), "not for long");
        assert_eq!(at_40_s(request(30_000, 3_001, 3)), expected([]), "slow answers are usual");
        assert_eq!(at_40_s(request(30_000, 3_000, 2)), expected([]), "no pattern");
        let half_closed = with(waiting(30_000), |tcp| tcp.state = Some(State::CLOSE_WAIT));
        assert_eq!(at_40_s(half_closed), expected([]));
        let mut thresholds = Thresholds::default();
        thresholds.set("app_silence=2s").unwrap();
        let sooner = findings_with(thresholds, &[on(3_000, waiting(2_000))]);
        assert_eq!(words_of(&sooner), expected([(3_000, "app_silence opened")]));
    }

    #[test]
    fn a_long_poll_is_as_silent_as_ever() {
        let polls: Vec<_> = (1..60).map(|n| on(n * 55_000, request(50_000, 50_000, 20))).collect();
        assert_eq!(verdicts(&polls), expected([]));
    }

    #[test]
    fn it_says_what_was_usual_and_what_ends_such_a_wait() {
        let off = KeepaliveSettings { enabled: false, ..keepalive() };
        let unguarded = with(request(60_000, 4_000, 12), |tcp| tcp.keepalive = Some(off));
        let findings = findings(&[on(70_000, unguarded)]);
        assert_eq!(
            details(&findings[0]),
            (
                10_000,
                r#"{"answered_before":12,"usual_ms":4000,"waiting_ms":60000}"#.to_owned(),
                "curl (pid 812) has had no answer from 10.0.1.4:443 (from 10.0.0.2:50000) for 1 min 0 s to what it sent last, which the host \
                 there has acknowledged; the 12 requests before it were answered, usually within 4.0 s"
                    .to_owned()
            )
        );
        assert_eq!(
            verdict(&findings[0]).advice,
            [
                "look at what the process behind 10.0.1.4:443 does with the request: its host has received it",
                "give such requests a time limit of about 40.0 s in the client (a read time-out): no TCP timer runs while an answer is awaited",
                "set SO_KEEPALIVE with TCP_KEEPIDLE 20 s on the socket: without it the wait never ends where 10.0.1.4:443 dies meanwhile",
            ]
        );
    }

    #[test]
    fn an_answer_ends_it_and_its_time_is_that_of_the_answer() {
        let answered = |at| expected([OPENED, (at, "app_silence closed answered")]);
        let findings = findings(&then([(55_900, heard(found(|_| ()), 800))]));
        assert_eq!(words_of(&findings), answered(55_900));
        assert_eq!(
            details(&findings[1]),
            (
                10_000,
                r#"{"answered_before":12,"usual_ms":40,"waiting_ms":45100}"#.to_owned(),
                "the unanswered request of curl (pid 812) with 10.0.1.4:443 (from 10.0.0.2:50000) ended after 45.1 s: the peer answered"
                    .to_owned()
            )
        );
        assert_eq!(verdicts(&then([(55_900, heard(waiting(700), 800))])), answered(55_900), "it asks again");
        assert_eq!(verdicts(&then([(55_900, found(|_| ()))])), answered(55_900));
        assert_eq!(verdicts(&then([(55_900, waiting(700))])), answered(55_900));
    }

    #[test]
    fn asking_again_is_no_answer() {
        let asks_again = [(55_000, heard(waiting(700), 45_000)), (56_000, heard(found(|_| ()), 46_000))];
        assert_eq!(verdicts(&then(asks_again.clone())), expected([OPENED]));
        let mut records = then(asks_again);
        records.push(on(80_000, heard(found(|_| ()), 400)));
        let findings = findings(&records);
        assert_eq!(words_of(&findings), expected([OPENED, (80_000, "app_silence closed answered")]));
        assert_eq!(details(&findings[1]).1, r#"{"answered_before":12,"usual_ms":40,"waiting_ms":69600}"#);
    }

    #[test]
    fn it_ends_with_the_connection() {
        let ended =
            |outcome: &str| expected([OPENED, (60_000, format!("app_silence closed {outcome}").as_str())]);
        assert_eq!(verdicts(&then([(60_000, closed())])), ended("closed"));
        for leaves in [State::CLOSE_WAIT, State::FIN_WAIT1] {
            assert_eq!(verdicts(&then([(60_000, state(State::ESTABLISHED, leaves))])), ended("closed"));
        }
        let reset = with(reset_received(), |tcp| tcp.unacked_bytes = Some(0));
        assert_eq!(verdicts(&then([(60_000, reset), (60_000, closed_by_reset())])), ended("reset"));
        let died = timed_out();
        assert_eq!(
            verdicts(&then([(60_000, died)])),
            expected([OPENED, (60_000, "app_silence closed silent_death"), (60_000, "silent_death closed")])
        );
    }

    #[test]
    fn it_is_told_again_when_the_wait_has_doubled() {
        let records = then([(69_000, waiting(59_000)), (70_000, waiting(60_000))]);
        assert_eq!(verdicts(&records), expected([OPENED, (70_000, "app_silence updated")]));
    }

    #[test]
    fn an_answer_that_was_lost_is_told_by_the_next_look() {
        let mut records = silent_at_40_s();
        records.extend([lost(50_000, 2), on(100_000, heard(waiting(35_000), 37_000))]);
        let findings = findings(&records);
        assert_eq!(
            words_of(&findings),
            expected([OPENED, (100_000, "app_silence closed answered"), (100_000, "app_silence opened")])
        );
        assert_eq!(
            details(&findings[1]).1,
            r#"{"answered_before":12,"lost_before":2,"usual_ms":40,"waiting_ms":53000}"#
        );
    }
}
