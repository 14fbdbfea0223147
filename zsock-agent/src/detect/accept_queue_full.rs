//! `accept_queue_full`: a server is up, and nobody gets in.
//!
//! Has no threshold: the kernel's own rule (`sk_acceptq_is_full`) says when a listener's queue is full, with one connection more than its
//! backlog. From then on it drops the last step of every new handshake.

use std::time::Duration;

use serde_json::Value;

use super::{Advice, Condition, Grounds, Scene, evidence, words};
use crate::record::{AcceptQueue, Outcome, Severity, State, VerdictName};

pub(super) const CONDITION: Condition = Condition {
    name: VerdictName::AcceptQueueFull,
    severity: Severity::Critical,
    counts: "queue",
    noun: "the full accept queue",
    holds,
    grounds,
    summary,
    ends,
    span: None,
};

fn holds(scene: &Scene<'_>) -> Option<u64> {
    let queue = scene.look()?.accept_queue.filter(is_full).filter(|queue| queue.full_for_ms.is_some())?;
    (scene.facts.state == Some(State::LISTEN)).then_some(queue.queue.into())
}

fn is_full(queue: &AcceptQueue) -> bool {
    queue.queue > queue.backlog
}

fn ends(scene: &Scene<'_>) -> Option<Outcome> {
    if scene.facts.state != Some(State::LISTEN) {
        return Some(Outcome::Closed);
    }
    let drained = !scene.look()?.accept_queue.as_ref().is_some_and(is_full);
    drained.then_some(Outcome::Drained)
}

fn grounds(scene: &Scene<'_>, queue: u64) -> Grounds {
    let accept_queue = scene.look().and_then(|sample| sample.accept_queue);
    let full_for = accept_queue.and_then(|it| it.full_for_ms).map_or(Duration::ZERO, Duration::from_millis);
    Grounds {
        since: scene.at.before(full_for),
        evidence: evidence([
            ("queue", Some(queue.into())),
            ("backlog", accept_queue.map(|it| it.backlog.into())),
            ("oldest_ms", accept_queue.and_then(|it| it.oldest_ms).map(Value::from)),
        ]),
        advice: advice(scene, queue),
    }
}

fn summary(scene: &Scene<'_>, queue: u64) -> String {
    let socket = &scene.facts.socket;
    let accept_queue = scene.look().and_then(|sample| sample.accept_queue);
    let place = socket.local.map_or_else(|| "its address".to_owned(), |local| local.to_string());
    let of = accept_queue.map_or_else(String::new, |it| format!(" (backlog {})", it.backlog));
    let oldest = accept_queue.and_then(|it| it.oldest_ms).map_or_else(String::new, |ms| {
        format!(", the oldest has waited for {}", words::duration(Duration::from_millis(ms)))
    });
    format!(
        "{} does not accept what comes to {place}: its accept queue is full with {}{of}{oldest}, and new ones are dropped until it does",
        words::owner(socket),
        words::plural(queue, "connection"),
    )
}

fn advice(scene: &Scene<'_>, queue: u64) -> Advice {
    let room = queue.saturating_mul(2).next_power_of_two();
    let holder = words::Holder::of(&scene.facts.socket);
    Advice::new(move || {
        vec![
            format!("{}: one of them should be in accept", holder.check()),
            format!(
                "only if it accepts steadily and what comes in bursts is too much, raise the backlog that it gives to listen() to {room}, with \
                 net.core.somaxconn at least as much"
            ),
        ]
    })
}

#[cfg(test)]
mod tests {
    use crate::detect::story::{
        closed_by, details, expected, findings, found, look, lost, on, verdict, verdicts, with, words_of,
    };
    use crate::record::{AcceptQueue, Event, Record, Severity, State};

    fn listening(event: Event) -> Event {
        let mut event = with(event, |tcp| tcp.state = Some(State::LISTEN));
        event.socket_mut().local = Some("0.0.0.0:443".parse().unwrap());
        event.socket_mut().remote = None;
        event.socket_mut().comm = Some("nginx".into());
        event
    }

    /// So many wait at a listener with a backlog of 128, the oldest for 35 s.
    fn waiting(queue: u32) -> Event {
        let queue = AcceptQueue { queue, backlog: 128, oldest_ms: Some(35_000), full_for_ms: Some(900) };
        listening(found(|sample| sample.accept_queue = Some(queue)))
    }

    fn full_at_10_s() -> Vec<Record> {
        vec![on(10_000, waiting(129))]
    }

    fn then<const N: usize>(more: [(u64, Event); N]) -> Vec<Record> {
        full_at_10_s().into_iter().chain(more.map(|(ms, event)| on(ms, event))).collect()
    }

    const OPENED: (u64, &str) = (10_000, "accept_queue_full opened");

    #[test]
    fn it_needs_one_more_than_the_backlog_at_a_listener() {
        assert_eq!(verdicts(&full_at_10_s()), expected([OPENED]));
        assert_eq!(verdicts(&[on(10_000, waiting(128))]), expected([]));
        let connected = with(waiting(129), |tcp| tcp.state = Some(State::ESTABLISHED));
        assert_eq!(verdicts(&[on(10_000, connected)]), expected([]));
    }

    #[test]
    fn it_names_the_server_and_the_port() {
        let findings = findings(&full_at_10_s());
        assert_eq!(
            details(&findings[0]),
            (
                9_100,
                r#"{"backlog":128,"oldest_ms":35000,"queue":129}"#.to_owned(),
                "nginx (pid 812) does not accept what comes to 0.0.0.0:443: its accept queue is full with 129 connections (backlog 128), the oldest \
                 has waited for 35.0 s, and new ones are dropped until it does"
                    .to_owned()
            )
        );
        let verdict = verdict(&findings[0]);
        assert_eq!(verdict.severity, Severity::Critical);
        assert_eq!(
            verdict.advice,
            [
                "look at what the threads of nginx (pid 812) do, for instance with gdb -p 812 or cat /proc/812/task/*/stack: one of them \
                 should be in accept",
                "only if it accepts steadily and what comes in bursts is too much, raise the backlog that it gives to listen() to 512, with \
                 net.core.somaxconn at least as much",
            ]
        );
    }

    #[test]
    fn it_ends_with_the_first_one_that_gets_in() {
        let drained = expected([OPENED, (14_000, "accept_queue_full closed drained")]);
        assert_eq!(verdicts(&then([(14_000, waiting(128))])), drained);
        assert_eq!(verdicts(&then([(14_000, listening(look()))])), drained);
        assert_eq!(verdicts(&then([(14_000, waiting(130))])), expected([OPENED]));
    }

    #[test]
    fn it_ends_with_the_listener_and_the_last_word_has_the_longest_queue() {
        let gone = closed_by(|it| it.from = State::LISTEN);
        let mut gone = listening(gone);
        gone.tcp.state = Some(State::CLOSE);
        let findings = findings(&then([(12_000, waiting(131)), (14_000, gone)]));
        assert_eq!(words_of(&findings), expected([OPENED, (14_000, "accept_queue_full closed closed")]));
        assert_eq!(
            details(&findings[1]),
            (
                9_100,
                r#"{"backlog":128,"oldest_ms":35000,"queue":131}"#.to_owned(),
                "the full accept queue of nginx (pid 812) at 0.0.0.0:443 ended after 4.9 s: the socket was closed".to_owned()
            )
        );
    }

    #[test]
    fn loss_in_the_middle_changes_nothing() {
        let records =
            [full_at_10_s(), vec![lost(11_000, 9), on(12_000, waiting(129)), on(14_000, waiting(0))]]
                .concat();
        assert_eq!(verdicts(&records), expected([OPENED, (14_000, "accept_queue_full closed drained")]));
    }
}
