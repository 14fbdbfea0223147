//! `receiver_stall`: data has come in and our process does not read it.
//!
//! A process that reads, however slowly, is not accused: the time begins anew whenever it takes something. Nothing here of a connection that
//! waits to be accepted (`accept_queue_full`), of one that no process holds, or of one whose peer has closed (`close_wait_leak`).

use std::time::Duration;

use serde_json::Value;

use super::{Advice, Condition, Grounds, Peer, Scene, Span, evidence, in_ms, words};
use crate::record::{Outcome, Severity, State, VerdictName};

/// 30 s: longer than a garbage collection, a slow disk or a query in between; by then the peers' own time limits begin to strike.
pub(super) const UNREAD: Duration = Duration::from_secs(30);

pub(super) const CONDITION: Condition = Condition {
    name: VerdictName::ReceiverStall,
    severity: Severity::Warning,
    counts: "stalled_ms",
    noun: "the standstill in reading",
    holds,
    grounds,
    summary,
    ends,
    span: Some(Span { at_a_look: |_, sample| sample.unread_for_ms, breaks: Outcome::Read }),
};

fn holds(scene: &Scene<'_>) -> Option<u64> {
    let unread_for_ms = scene.look()?.unread_for_ms?;
    let applies = scene.is_held() && peer_may_send(scene);
    let long = Duration::from_millis(unread_for_ms) >= scene.thresholds.receiver_stall;
    (applies && long && scene.facts.tcp.unread_bytes != Some(0)).then_some(unread_for_ms)
}

/// Whether the peer has not closed yet.
fn peer_may_send(scene: &Scene<'_>) -> bool {
    let states = [State::ESTABLISHED, State::FIN_WAIT1, State::FIN_WAIT2];
    scene.facts.state.is_some_and(|state| states.contains(&state))
}

fn ends(scene: &Scene<'_>) -> Option<Outcome> {
    let has_read = scene.lives() && scene.event.tcp.unread_bytes == Some(0);
    let is_closed = scene.facts.socket.orphan || !peer_may_send(scene);
    has_read.then_some(Outcome::Read).or(is_closed.then_some(Outcome::Closed))
}

fn grounds(scene: &Scene<'_>, stalled_ms: u64) -> Grounds {
    let stalled = Duration::from_millis(stalled_ms);
    let peer = scene.peer_under(VerdictName::ZeroWindowStall);
    let holder = words::Holder::of(&scene.facts.socket);
    Grounds {
        since: scene.at.before(stalled),
        evidence: evidence([
            ("unread_bytes", scene.facts.tcp.unread_bytes.map(Value::from)),
            ("stalled_ms", Some(in_ms(stalled))),
            ("peer_process", peer.and_then(Peer::process)),
            ("peer_socket", peer.map(Peer::socket)),
        ]),
        advice: Advice::new(move || {
            vec![
                holder.check(),
                "a larger SO_RCVBUF or net.ipv4.tcp_rmem is no cure: it only fills later".to_owned(),
            ]
        }),
    }
}

fn summary(scene: &Scene<'_>, stalled_ms: u64) -> String {
    let socket = &scene.facts.socket;
    let peer = scene.peer_under(VerdictName::ZeroWindowStall);
    let unread =
        scene.facts.tcp.unread_bytes.map_or_else(|| "data".to_owned(), |bytes| words::plural(bytes, "byte"));
    format!(
        "{} has read nothing for {} on its connection with {}: {unread} of what came in stay unread{}",
        words::owner(socket),
        words::duration(Duration::from_millis(stalled_ms)),
        words::peer(socket),
        peer.map_or_else(String::new, |peer| peer.clause("cannot send")),
    )
}

#[cfg(test)]
mod tests {
    use crate::detect::Thresholds;
    use crate::detect::story::{
        closed, details, expected, findings, findings_with, found, lost, on, orphaned, state, verdict,
        verdicts, with, words_of,
    };
    use crate::record::{Event, Record, State};

    /// 4,096 bytes of which nothing was read for so long.
    fn unread(ms: u64) -> Event {
        with(found(|sample| sample.unread_for_ms = Some(ms)), |tcp| tcp.unread_bytes = Some(4_096))
    }

    fn stalled_at_40_s() -> Vec<Record> {
        vec![on(40_000, unread(30_000))]
    }

    fn then<const N: usize>(more: [(u64, Event); N]) -> Vec<Record> {
        stalled_at_40_s().into_iter().chain(more.map(|(ms, event)| on(ms, event))).collect()
    }

    const OPENED: (u64, &str) = (40_000, "receiver_stall opened");

    #[test]
    fn it_needs_thirty_seconds_in_which_nothing_was_read() {
        assert_eq!(verdicts(&stalled_at_40_s()), expected([OPENED]));
        assert_eq!(verdicts(&[on(40_000, unread(29_999))]), expected([]));
        let nothing = with(unread(30_000), |tcp| tcp.unread_bytes = Some(0));
        assert_eq!(verdicts(&[on(40_000, nothing)]), expected([]));
        let mut thresholds = Thresholds::default();
        thresholds.set("receiver_stall=2s").unwrap();
        let sooner = findings_with(thresholds, &[on(3_000, unread(2_000))]);
        assert_eq!(words_of(&sooner), expected([(3_000, "receiver_stall opened")]));
    }

    #[test]
    fn a_slow_reader_reads() {
        let looks: Vec<_> = (1..200).map(|second| on(second * 1_000, unread(second % 20 * 1_000))).collect();
        assert_eq!(verdicts(&looks), expected([]));
    }

    #[test]
    fn it_is_about_a_process_that_holds_a_connection_which_the_peer_has_not_closed() {
        assert_eq!(verdicts(&[on(40_000, orphaned(unread(30_000)))]), expected([]));
        let mut in_the_accept_queue = unread(30_000);
        in_the_accept_queue.socket_mut().inode = None;
        assert_eq!(verdicts(&[on(40_000, in_the_accept_queue)]), expected([]));
        let in_state = |state| verdicts(&[on(40_000, with(unread(30_000), |tcp| tcp.state = Some(state)))]);
        for state in [State::FIN_WAIT1, State::FIN_WAIT2] {
            assert_eq!(in_state(state), expected([OPENED]), "{state}");
        }
        for state in [State::CLOSE_WAIT, State::CLOSING, State::LISTEN] {
            assert_eq!(in_state(state), expected([]), "{state}");
        }
    }

    #[test]
    fn it_names_the_process_and_says_what_is_no_cure() {
        let findings = findings(&stalled_at_40_s());
        assert_eq!(
            details(&findings[0]),
            (
                10_000,
                r#"{"stalled_ms":30000,"unread_bytes":4096}"#.to_owned(),
                "curl (pid 812) has read nothing for 30.0 s on its connection with 10.0.1.4:443 (from 10.0.0.2:50000): 4096 bytes of what \
                 came in stay unread"
                    .to_owned()
            )
        );
        assert_eq!(
            verdict(&findings[0]).advice,
            [
                "look at what the threads of curl (pid 812) do, for instance with gdb -p 812 or cat /proc/812/task/*/stack",
                "a larger SO_RCVBUF or net.ipv4.tcp_rmem is no cure: it only fills later",
            ]
        );
    }

    #[test]
    fn it_ends_with_the_first_byte_that_is_read() {
        let read = |at| expected([OPENED, (at, "receiver_stall closed read")]);
        assert_eq!(verdicts(&then([(50_000, unread(300))])), read(50_000));
        assert_eq!(verdicts(&then([(50_000, found(|_| ()))])), read(50_000));
        let emptied = with(unread(40_000), |tcp| tcp.unread_bytes = Some(0));
        assert_eq!(verdicts(&then([(50_000, emptied)])), read(50_000));
        let findings = findings(&then([(50_000, unread(300))]));
        assert_eq!(
            details(&findings[1]),
            (
                10_000,
                r#"{"stalled_ms":39700,"unread_bytes":4096}"#.to_owned(),
                "the standstill in reading of curl (pid 812) with 10.0.1.4:443 (from 10.0.0.2:50000) ended after 39.7 s: the process read"
                    .to_owned()
            )
        );
    }

    #[test]
    fn it_ends_when_either_side_closes() {
        let ended = expected([OPENED, (50_000, "receiver_stall closed closed")]);
        let unread_still = |event| with(event, |tcp| tcp.unread_bytes = Some(4_096));
        assert_eq!(verdicts(&then([(50_000, unread_still(closed()))])), ended);
        let peer_closes = unread_still(state(State::ESTABLISHED, State::CLOSE_WAIT));
        assert_eq!(verdicts(&then([(50_000, peer_closes)])), ended);
        let let_go = unread_still(orphaned(state(State::ESTABLISHED, State::FIN_WAIT1)));
        assert_eq!(verdicts(&then([(50_000, let_go)])), ended);
    }

    #[test]
    fn the_last_word_has_what_was_unread_last() {
        let more = with(unread(40_000), |tcp| tcp.unread_bytes = Some(9_000));
        let records = then([(50_000, more), (70_000, unread(60_000)), (71_000, unread(0))]);
        let findings = findings(&records);
        assert_eq!(
            words_of(&findings),
            expected([OPENED, (70_000, "receiver_stall updated"), (71_000, "receiver_stall closed read")])
        );
        assert_eq!(details(&findings[2]).1, r#"{"stalled_ms":61000,"unread_bytes":4096}"#);
    }

    #[test]
    fn what_was_lost_between_two_looks_is_told_by_the_second() {
        let mut records = stalled_at_40_s();
        records.extend([lost(45_000, 5), on(50_000, unread(39_990)), on(90_000, unread(31_000))]);
        assert_eq!(
            verdicts(&records),
            expected([OPENED, (90_000, "receiver_stall closed read"), (90_000, "receiver_stall opened")])
        );
    }
}
