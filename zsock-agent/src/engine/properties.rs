//! What holds for every sequence of records, sensible or not.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{Engine, Finding, Timeline};
use crate::detect::Thresholds;
use crate::detect::story::{
    closed_by, event, found, keepalive, look, lost, on, past, probe, probe_answered, progress, resent,
    reset_received, reset_sent, state, syn, verdict, window_probe, with,
};
use crate::record::{
    AcceptQueue, Body, Errno, Event, Fact, KeepaliveSettings, Phase, Record, Request, SocketId, State, Tcp,
    What,
};

fn states() -> impl Strategy<Value = State> {
    (1_u8..13).prop_map(State)
}

fn errnos() -> impl Strategy<Value = Option<Errno>> {
    let names = vec!["ETIMEDOUT", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ECONNABORTED", "EPIPE"];
    option::of(prop::sample::select(names).prop_map(Errno::named))
}

/// What the periodic pass may find, in states in which it matters.
fn found_by_the_pass() -> impl Strategy<Value = Event> {
    let times = || option::of(0_u64..1_000_000);
    let request = option::of((0_u64..1_000_000, 0_u64..9_000, 0_u32..9));
    let queue = option::of((0_u32..4, 0_u32..3, times()));
    (times(), times(), times(), request, queue).prop_map(
        |(idle_ms, unread_for_ms, half_closed_ms, request, queue)| {
            found(|sample| {
                sample.idle_ms = idle_ms;
                sample.unread_for_ms = unread_for_ms;
                sample.half_closed_ms = half_closed_ms;
                sample.request = request.map(|(waiting_ms, usual_ms, answered_before)| Request {
                    waiting_ms,
                    usual_ms,
                    answered_before,
                });
                sample.accept_queue = queue.map(|(queue, backlog, oldest_ms)| AcceptQueue {
                    queue,
                    backlog,
                    oldest_ms,
                    full_for_ms: oldest_ms,
                });
            })
        },
    )
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
        found_by_the_pass(),
        found_by_the_pass(),
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
    (option::of(states()), counts, any::<bool>(), prop::array::uniform10(numbers())).prop_map(
        |(state, (retransmits, probes_out), guarded, numbers)| {
            let [unacked_bytes, unsent_bytes, send_window_bytes, last_sent_ms, ..] = numbers;
            let [.., unread_bytes, last_data_received_ms, _, _, _, _] = numbers;
            let [.., last_received_ms, user_timeout_ms, gives_up_in_ms, stalled_ms] = numbers;
            Tcp {
                state,
                retransmits,
                probes_out,
                unacked_bytes,
                unsent_bytes,
                unread_bytes,
                send_window_bytes,
                last_sent_ms,
                last_data_received_ms,
                last_received_ms,
                user_timeout_ms,
                gives_up_in_ms,
                stalled_ms,
                keepalive: Some(KeepaliveSettings { enabled: guarded, ..keepalive() }),
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
            event.socket_mut().id = SocketId(id);
            if id % 2 == 1 {
                let socket = event.socket_mut();
                std::mem::swap(&mut socket.local, &mut socket.remote);
            }
            event.socket_mut().orphan = orphan && rarely;
            event.replayed = replayed && rarely;
            event.inferred = happening.inferred || (inferred && rarely);
            on(ms, event)
        },
    );
    prop_oneof![20 => events, 1 => (0_u64..100_000, any::<u64>()).prop_map(|(ms, count)| lost(ms, count))]
}

fn is_end(event: &Event) -> bool {
    matches!(event.what, What::Closed(_)) && !event.replayed
}

/// What happens to a socket, as far as it matters to who makes room.
#[derive(Clone, Copy, Debug)]
enum Turning {
    Tells,
    Opens,
    Recovers,
    Ends,
}

impl Turning {
    fn event(self) -> Event {
        match self {
            // One that tells nothing of TCP, not even that a stall is over.
            Self::Tells => with(look(), |tcp| *tcp = Tcp::default()),
            Self::Opens => resent(4),
            Self::Recovers => progress(4),
            Self::Ends => closed_by(|_| {}),
        }
    }
}

fn turnings() -> impl Strategy<Value = Turning> {
    prop_oneof![
        4 => Just(Turning::Tells),
        2 => Just(Turning::Opens),
        1 => Just(Turning::Recovers),
        1 => Just(Turning::Ends),
    ]
}

/// Sockets in the order of their last events, and whether each has an open verdict.
#[derive(Default)]
struct Followed {
    sockets: Vec<(u64, bool)>,
    dropped: u64,
}

impl Followed {
    fn push(&mut self, id: u64, turning: Turning, capacity: usize) {
        let known = self.sockets.iter().position(|(known, _)| *known == id);
        if known.is_none() && self.sockets.len() >= capacity {
            self.dropped += 1;
            let Some(idle) = self.sockets.iter().position(|(_, is_open)| !is_open) else { return };
            self.sockets.remove(idle);
        }
        let was_open = known.is_some_and(|place| self.sockets.remove(place).1);
        match turning {
            Turning::Tells => self.sockets.push((id, was_open)),
            Turning::Opens => self.sockets.push((id, true)),
            Turning::Recovers => self.sockets.push((id, false)),
            Turning::Ends => {}
        }
    }
}

proptest! {
    #[test]
    fn who_makes_room_is_the_one_longest_without_an_event_that_has_no_open_verdict(
        happenings in vec((0_u64..9, turnings()), 0..200),
        capacity in 0_usize..7,
    ) {
        let mut engine = Engine::with_capacity(Thresholds::default(), capacity);
        let mut followed = Followed::default();
        for (ms, (id, turning)) in (0..).zip(happenings) {
            let mut event = turning.event();
            event.socket_mut().id = SocketId(id);
            engine.push(&on(ms, event));
            followed.push(id, turning, capacity);
            let kept: Vec<u64> = (0..9).filter(|id| engine.timeline_of(SocketId(*id)).is_some()).collect();
            let mut expected: Vec<u64> = followed.sockets.iter().map(|(id, _)| *id).collect();
            expected.sort_unstable();
            prop_assert_eq!(kept, expected);
            prop_assert_eq!(engine.counters().sockets_dropped, followed.dropped);
        }
    }

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
                prop_assert!(matches!(record.body, Body::Event(_) | Body::Destination(_) | Body::Process(_)));
                prop_assert!(verdict.evidence.values().all(|value| !value.is_null()));
                prop_assert!(!verdict.advice.is_empty() && !verdict.summary.is_empty());
            }
            if let Some(event) = record.event().filter(|event| is_end(event)) {
                prop_assert!(open.iter().all(|(id, ..)| *id != Some(event.socket.id)), "it has ended");
            }
        }
        let counters = engine.counters();
        prop_assert_eq!((counters.verdicts, counters.open_verdicts), (opened, open.len() as u64));
    }

    #[test]
    fn verdicts_are_the_same_whether_timelines_are_kept_or_not(records in vec(records(), 0..200)) {
        let mut engine = Engine::new(Thresholds::default());
        let mut without = Engine::new(Thresholds::default()).without_timelines();
        for record in &records {
            let (told, bare) = (engine.push(record), without.push(record));
            prop_assert!(bare.iter().all(|finding| finding.timeline == Timeline::default()));
            let records = |findings: Vec<Finding>| findings.into_iter().map(|finding| finding.record);
            prop_assert_eq!(records(told).collect::<Vec<_>>(), records(bare).collect::<Vec<_>>());
        }
    }
}
