//! Stories of the engine itself; those of each verdict stand with its detector.

use super::*;
use crate::detect::story::{
    at, closed, connecting, details, established, event, expected, look, lost, on, past, progress, replayed,
    resent, timed_out, verdict, with, words_of,
};
use crate::record::{Errno, Errored, Fact, SocketId, State, Tcp};

fn of(id: u64, event: Event) -> Event {
    let mut event = event;
    event.socket_mut().id = SocketId(id);
    event
}

fn error(state: Option<State>) -> Event {
    let what = What::Error(Errored { errno: Errno::named("ETIMEDOUT") });
    with(event(what), |tcp| *tcp = Tcp { state, ..Tcp::default() })
}

fn push_all(engine: &mut Engine, records: &[Record]) -> Vec<Finding> {
    records.iter().flat_map(|record| engine.push(record)).collect()
}

#[test]
fn it_counts_verdicts_and_sockets() {
    let mut engine = Engine::new(Thresholds::default());
    push_all(
        &mut engine,
        &[on(1, of(1, resent(4))), on(2, of(2, resent(4))), on(3, of(3, look())), on(4, of(2, timed_out()))],
    );
    // Two are stuck; one of them dies, which is a verdict of its own.
    let counters = Counters { verdicts: 3, open_verdicts: 1, sockets_seen: 3, sockets_dropped: 0 };
    assert_eq!(engine.counters(), counters);
}

#[test]
fn the_error_that_the_kernel_reports_after_the_end_revives_nothing() {
    let mut engine = Engine::with_capacity(Thresholds::default(), 1);
    let records = [
        on(0, established()),
        on(5_000, timed_out()),
        on(5_000, error(Some(State::CLOSE))),
        on(5_000, error(None)),
        on(6_000, of(8, resent(4))),
    ];
    let findings = push_all(&mut engine, &records);
    assert_eq!(
        words_of(&findings),
        expected([(5_000, "silent_death closed"), (6_000, "stuck_retransmission opened")])
    );
    let counters = Counters { verdicts: 2, open_verdicts: 1, sockets_seen: 2, sockets_dropped: 0 };
    assert_eq!(engine.counters(), counters);
}

#[test]
fn an_error_in_the_middle_of_a_life_belongs_to_the_timeline() {
    let mut engine = Engine::new(Thresholds::default());
    let findings = push_all(&mut engine, &[on(0, error(Some(State::ESTABLISHED))), on(1, resent(4))]);
    assert_eq!(findings[0].timeline.parts().0.len(), 2);
}

#[test]
fn a_syn_ack_sent_again_has_no_socket() {
    let mut engine = Engine::new(Thresholds::default());
    let mut syn_ack = resent(5);
    if let What::Retransmit(retransmit) = &mut syn_ack.what {
        retransmit.cause = Some(Cause::SynAck);
    }
    assert_eq!(engine.push(&on(0, syn_ack)), []);
    assert_eq!(engine.counters(), Counters::default());
}

#[test]
fn where_there_is_no_room_the_socket_longest_silent_without_a_verdict_makes_way() {
    let mut engine = Engine::with_capacity(Thresholds::default(), 3);
    let stuck_then_two = [on(0, of(1, resent(4))), on(1, of(2, connecting())), on(2, of(3, connecting()))];
    let touched_and_one_more = [on(3, of(2, established())), on(4, of(4, connecting()))];
    // 3 was let go with its birth, 1 and 2 were kept.
    let later = [on(5, of(2, resent(4))), on(6, of(3, resent(4))), on(7, of(1, progress(4)))];
    let findings = push_all(&mut engine, &[&stuck_then_two[..], &touched_and_one_more, &later].concat());
    let entries: Vec<_> = findings.iter().map(|finding| finding.timeline.parts().0.len()).collect();
    assert_eq!(
        words_of(&findings),
        expected([
            (0, "stuck_retransmission opened"),
            (5, "stuck_retransmission opened"),
            (6, "stuck_retransmission opened"),
            (7, "stuck_retransmission closed recovered"),
        ])
    );
    assert_eq!(entries, [1, 3, 1, 2]);
    let counters = Counters { verdicts: 3, open_verdicts: 2, sockets_seen: 5, sockets_dropped: 2 };
    assert_eq!(engine.counters(), counters);
}

#[test]
fn a_socket_with_an_open_verdict_never_makes_way() {
    let mut engine = Engine::with_capacity(Thresholds::default(), 1);
    let findings =
        push_all(&mut engine, &[on(0, of(1, resent(4))), on(1, of(2, resent(4))), on(2, of(1, closed()))]);
    assert_eq!(
        words_of(&findings),
        expected([(0, "stuck_retransmission opened"), (2, "stuck_retransmission closed recovered")])
    );
    let counters = Counters { verdicts: 1, open_verdicts: 0, sockets_seen: 1, sockets_dropped: 1 };
    assert_eq!(engine.counters(), counters);
}

#[test]
fn the_timeline_tells_the_story_in_order_with_what_was_told_late() {
    let mut engine = Engine::new(Thresholds::default());
    let records = [
        on(100, replayed(connecting())),
        on(150, replayed(established())),
        on(8_000, past(Fact::LastSent)),
        on(5_000, past(Fact::LastReceived)),
        on(9_000, resent(4)),
    ];
    let findings = push_all(&mut engine, &records);
    let (entries, omitted, last) = findings[0].timeline.parts();
    let told: Vec<_> = entries.iter().map(|entry| (entry.at, entry.replayed, entry.inferred)).collect();
    assert_eq!(
        told,
        [
            (at(100), true, false),
            (at(150), true, false),
            (at(5_000), false, true),
            (at(8_000), false, true),
            (at(9_000), false, false),
        ]
    );
    assert_eq!((omitted, last), (0, &[][..]));
}

#[test]
fn what_was_known_earlier_is_used_with_the_time_that_has_passed() {
    let mut engine = Engine::new(Thresholds::default());
    let earlier = with(resent(3), |tcp| {
        tcp.stalled_ms = Some(1_400);
        tcp.gives_up_in_ms = Some(10_000);
    });
    let mut bare = with(resent(4), |tcp| *tcp = Tcp::default());
    bare.socket_mut().pid = None;
    bare.socket_mut().comm = None;
    let findings = push_all(&mut engine, &[on(4_400, earlier), on(6_000, bare)]);
    assert_eq!(
        details(&findings[0]),
        (
            3_000,
            r#"{"attempts":4,"gives_up_in_ms":8400,"next_ms":3200,"stalled_ms":3000,"unacked_bytes":24}"#.to_owned(),
            "curl (pid 812) has been waiting for 10.0.1.4:443 (from 10.0.0.2:50000) to acknowledge 24 bytes for 3.0 s: \
             4 retransmissions unanswered; the kernel will give up in 8.4 s"
                .to_owned()
        )
    );
    assert_eq!(verdict(&findings[0]).socket().unwrap().0.pid, Some(812));
}

#[test]
fn what_is_of_the_past_or_only_concluded_opens_nothing_and_ends_nothing() {
    let bare = || with(look(), |tcp| *tcp = Tcp::default());
    let told_late = Event { replayed: true, ..resent(4) };
    let concluded = Event { inferred: true, ..resent(4) };
    let mut engine = Engine::new(Thresholds::default());
    assert_eq!(push_all(&mut engine, &[on(0, established()), on(1, told_late), on(2, bare())]), []);
    assert_eq!(push_all(&mut engine, &[on(3, concluded)]), []);
    let findings = push_all(
        &mut engine,
        &[on(4, resent(4)), on(0, replayed(connecting())), on(1, replayed(closed())), on(5, bare())],
    );
    assert_eq!(words_of(&findings), expected([(4, "stuck_retransmission opened")]));
}

#[test]
fn a_state_told_late_does_not_undo_a_later_one() {
    let mut engine = Engine::new(Thresholds::default());
    let bare = with(resent(4), |tcp| *tcp = Tcp::default());
    let in_disorder = [on(150, with(established(), |tcp| tcp.state = None)), on(100, replayed(connecting()))];
    push_all(&mut engine, &in_disorder);
    let findings = push_all(&mut engine, &[on(6_000, bare)]);
    assert_eq!(words_of(&findings), expected([(6_000, "stuck_retransmission opened")]));
}

#[test]
fn a_socket_that_connects_anew_has_no_old_turn_to_go() {
    let mut engine = Engine::with_capacity(Thresholds::default(), 2);
    let anew = [on(0, of(1, connecting())), on(1, of(1, connecting())), on(2, of(1, resent(4)))];
    let others = [on(3, of(2, look())), on(4, of(3, look())), on(5, of(1, progress(4)))];
    let findings = push_all(&mut engine, &[anew, others].concat());
    assert_eq!(
        words_of(&findings),
        expected([(2, "stuck_retransmission opened"), (5, "stuck_retransmission closed recovered")])
    );
}

#[test]
fn an_end_that_was_only_concluded_closes_what_is_open_and_claims_nothing() {
    let mut engine = Engine::new(Thresholds::default());
    let concluded = Event { inferred: true, ..timed_out() };
    let findings = push_all(&mut engine, &[on(0, resent(4)), lost(1, 1), on(9_000, concluded)]);
    assert_eq!(
        words_of(&findings),
        expected([(0, "stuck_retransmission opened"), (9_000, "stuck_retransmission closed silent_death"),])
    );
}

/// As much as so many sockets take that have one event each.
fn room_for(sockets: usize) -> usize {
    let mut engine = Engine::with_memory(Thresholds::default(), usize::MAX);
    push_all(&mut engine, &[on(0, of(1, look()))]);
    engine.table.used_bytes() * sockets
}

#[test]
fn where_memory_is_short_healthy_sockets_go_then_stories_and_never_a_socket_under_a_verdict() {
    let bytes = room_for(4);
    let mut engine = Engine::with_memory(Thresholds::default(), bytes);
    let healthy: Vec<_> = (10..15).map(|id| on(id, of(id, look()))).collect();
    push_all(&mut engine, &healthy);
    assert_eq!(engine.counters().sockets_dropped, 1, "the fifth found no room beside the others");
    // A storm on two of them: their stories grow until nothing healthy is left, and then no further.
    let storm = |id| (4..80).map(move |attempt| on(100 + u64::from(attempt), of(id, resent(attempt))));
    let findings = push_all(&mut engine, &storm(20).chain(storm(21)).collect::<Vec<_>>());
    let opened = words_of(&findings).into_iter().filter(|(_, word)| word.ends_with(" opened")).count();
    assert_eq!(opened, 2);
    assert!(engine.table.used_bytes() <= bytes, "{} of {bytes}", engine.table.used_bytes());
    // What is told of one later still comes from all that is needed to end it.
    let findings = push_all(&mut engine, &[on(9_000, of(20, progress(79))), on(9_001, of(21, progress(79)))]);
    assert_eq!(
        words_of(&findings),
        expected([
            (9_000, "stuck_retransmission closed recovered"),
            (9_001, "stuck_retransmission closed recovered")
        ])
    );
}

#[test]
fn the_story_that_is_shortened_first_is_that_of_the_socket_longest_without_an_event() {
    let entries = |engine: &Engine, id| engine.timeline_of(SocketId(id)).map_or(0, |it| it.parts().0.len());
    let storm = |ms, id| (4..14).map(move |attempt| on(ms + u64::from(attempt), of(id, resent(attempt))));
    let stories: Vec<_> = storm(0, 20).chain(storm(100, 21)).chain(storm(200, 22)).collect();
    let mut engine = Engine::with_memory(Thresholds::default(), usize::MAX);
    push_all(&mut engine, &stories);
    // Just enough for them as they are, until 20 has had another event and 21 is the one silent for longest.
    let mut engine = Engine::with_memory(Thresholds::default(), engine.table.used_bytes());
    push_all(&mut engine, &stories);
    push_all(&mut engine, &[on(300, of(20, resent(14)))]);
    assert_eq!([20, 21, 22].map(|id| entries(&engine, id)), [11, 10, 10], "it had room left for one more");
    push_all(&mut engine, &[on(301, of(20, resent(15)))]);
    assert_eq!([20, 21, 22].map(|id| entries(&engine, id)), [12, 2, 10], "before as many of the latest");
    assert_eq!(engine.counters().sockets_dropped, 0);
}

#[test]
fn a_socket_that_was_let_go_is_unknown_and_not_new() {
    let mut engine = Engine::with_memory(Thresholds::default(), room_for(1));
    push_all(&mut engine, &[on(0, of(1, connecting())), on(1, of(1, established())), on(2, of(2, look()))]);
    assert!(engine.counters().sockets_dropped > 0);
    let findings = push_all(&mut engine, &[on(6_000, of(1, resent(4)))]);
    assert_eq!(words_of(&findings), expected([(6_000, "stuck_retransmission opened")]));
    let (first, omitted, last) = findings[0].timeline.parts();
    assert_eq!((first.len(), omitted, last.len()), (1, 0, 0), "only what was told since");
}
