//! What holds for every sequence of records, sensible or not.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::Engine;
use crate::detect::Thresholds;
use crate::detect::story::{
    closed_by, event, keepalive, look, lost, on, past, probe, probe_answered, progress, resent,
    reset_received, reset_sent, state, syn, verdict, window_probe,
};
use crate::record::{Body, Errno, Event, Fact, Phase, Record, SocketId, State, Tcp};

fn states() -> impl Strategy<Value = State> {
    (1_u8..13).prop_map(State)
}

fn errnos() -> impl Strategy<Value = Option<Errno>> {
    let names = vec!["ETIMEDOUT", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ECONNABORTED", "EPIPE"];
    option::of(prop::sample::select(names).prop_map(Errno::named))
}

fn happenings() -> impl Strategy<Value = Event> {
    let closed = (states(), errnos(), any::<[bool; 3]>()).prop_map(|(from, errno, flags)| {
        closed_by(|it| {
            it.from = from;
            it.errno = errno;
            [it.peer_closed, it.reset, it.fin_unacked] = flags;
        })
    });
    prop_oneof![
        (states(), states()).prop_map(|(from, to)| state(from, to)),
        (0_u32..9).prop_map(syn),
        (0_u32..9).prop_map(resent),
        (1_u32..9).prop_map(probe),
        (1_u32..9).prop_map(probe_answered),
        (1_u32..9, any::<Option<bool>>()).prop_map(|(probe, answered)| window_probe(probe, answered)),
        (0_u32..9).prop_map(progress),
        Just(reset_received()),
        Just(reset_sent("NOT_SPECIFIED")),
        Just(look()),
        Just(past(Fact::LastReceived)),
        Just(past(Fact::RetransmittingSince)),
        Just(past(Fact::ProbingSince)),
        closed,
    ]
}

/// Any number, the small and the extreme ones often.
fn numbers() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![Just(None), Just(Some(0)), (0_u64..60_000).prop_map(Some), Just(Some(u64::MAX))]
}

fn tcps() -> impl Strategy<Value = Tcp> {
    let counts = (option::of(0_u32..9), option::of(0_u32..9));
    (option::of(states()), counts, any::<bool>(), prop::array::uniform8(numbers())).prop_map(
        |(state, (retransmits, probes_out), guarded, numbers)| {
            let [unacked_bytes, unsent_bytes, send_window_bytes, last_sent_ms, ..] = numbers;
            let [.., last_received_ms, user_timeout_ms, gives_up_in_ms, stalled_ms] = numbers;
            Tcp {
                state,
                retransmits,
                probes_out,
                unacked_bytes,
                unsent_bytes,
                send_window_bytes,
                last_sent_ms,
                last_received_ms,
                user_timeout_ms,
                gives_up_in_ms,
                stalled_ms,
                keepalive: guarded.then(keepalive),
                ..Tcp::default()
            }
        },
    )
}

fn records() -> impl Strategy<Value = Record> {
    let events = (0_u64..4, 0_u64..100_000, happenings(), option::of(tcps()), any::<[bool; 4]>()).prop_map(
        |(id, ms, happening, tcp, [orphan, replayed, inferred, rarely])| {
            let mut event = event(happening.what);
            event.tcp = tcp.unwrap_or(happening.tcp);
            event.socket.id = SocketId(id);
            event.socket.orphan = orphan && rarely;
            event.replayed = replayed && rarely;
            event.inferred = happening.inferred || (inferred && rarely);
            on(ms, event)
        },
    );
    prop_oneof![20 => events, 1 => (0_u64..100_000, any::<u64>()).prop_map(|(ms, count)| lost(ms, count))]
}

proptest! {
    #[test]
    fn a_verdict_opens_before_it_closes_and_each_opening_closes_at_most_once(
        records in vec(records(), 0..200),
        capacity in 0_usize..5,
    ) {
        let mut engine = Engine::with_capacity(Thresholds::default(), capacity);
        let (mut opened, mut open) = (0, HashSet::new());
        for record in &records {
            for finding in engine.push(record) {
                let verdict = verdict(&finding);
                let socket = verdict.socket().map(|(socket, _)| socket.id);
                let key = (socket, verdict.verdict, verdict.evidence.get("how").cloned());
                match (verdict.phase, verdict.outcome) {
                    (Phase::Opened, outcome) => {
                        prop_assert_eq!(outcome, None);
                        prop_assert!(open.insert(key.clone()), "{:?} was open already", key);
                        opened += 1;
                    }
                    (Phase::Updated, outcome) => {
                        prop_assert_eq!(outcome, None);
                        prop_assert!(open.contains(&key), "{:?} was not open", key);
                    }
                    (Phase::Closed, Some(_)) => prop_assert!(open.remove(&key), "{:?} was not open", key),
                    // Without an outcome it is a final one.
                    (Phase::Closed, None) => opened += 1,
                }
                prop_assert_eq!(finding.record.at, record.at);
                prop_assert!(matches!(record.body, Body::Event(_)));
                prop_assert!(verdict.evidence.values().all(|value| !value.is_null()));
                prop_assert!(!verdict.advice.is_empty() && !verdict.summary.is_empty());
            }
        }
        let counters = engine.counters();
        prop_assert_eq!((counters.verdicts, counters.open_verdicts), (opened, open.len() as u64));
    }
}
