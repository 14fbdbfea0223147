//! The story of an event: what came before it that is told only now, then the event itself.

use std::sync::Arc;

use zsock_common::wire::{Kind, Past, Process, SocketRecord, Transition};

use crate::record::{Body, Event, Fact, Record, Sample, Socket, State, StateChange, Tcp, What};
use crate::source::assemble::facts::Units;
use crate::source::assemble::tracked::{Tracked, is_birth};
use crate::source::assemble::what;
use crate::source::clock::Clock;
use crate::time::Time;

/// Records of one event in the making.
pub(super) struct Story<'a> {
    pub(super) host: &'a Arc<str>,
    pub(super) socket: Arc<Socket>,
    pub(super) records: &'a mut Vec<Record>,
}

impl Story<'_> {
    pub(super) fn tell(&mut self, at: Time, what: What, tcp: Tcp) {
        self.add(at, what, tcp, false, false);
    }

    fn add(&mut self, at: Time, what: What, tcp: Tcp, replayed: bool, inferred: bool) {
        let mut socket = Arc::clone(&self.socket);
        if (replayed || inferred) && socket.orphan {
            // It was not one yet.
            let socket = Arc::make_mut(&mut socket);
            socket.orphan = false;
            socket.owner_exited = None;
        }
        let event = Event { what, socket, tcp, replayed, inferred };
        self.records.push(Record::new(at, self.host, Body::Event(Box::new(event))));
    }

    /// Tells what comes last, which mostly is all.
    #[inline]
    pub(super) fn end(self, at: Time, what: What, tcp: Tcp) {
        let Self { host, socket, records } = self;
        let event = Event { what, socket, tcp, replayed: false, inferred: false };
        records.push(Record::new(at, host, Body::Event(Box::new(event))));
    }
}

/// The state changes before the first sign of trouble, and the end where that came before it: a connection that the application
/// resets is healthy until the reset goes out. What is still to come as an event of its own is left to it.
pub(super) fn tell_past(
    story: &mut Story<'_>,
    tracked: &mut Tracked,
    kind: Kind,
    record: &SocketRecord,
    units: &Units,
    clock: Clock,
) {
    let Some(told) = tracked.past.take() else { return };
    let is_over = |transition: &Transition| kind != Kind::State || transition.time_ns < record.head.time_ns;
    for transition in last_life(&told.past).iter().filter(|transition| is_over(transition)) {
        let at = clock.at(transition.time_ns);
        let (from, to) = (State(transition.from), State(transition.to));
        let tcp = Tcp { state: Some(to), ..Tcp::default() };
        if is_birth(from, to) {
            tracked.birth = Some(at);
        }
        if from == to {
            continue;
        }
        tracked.stall.note_state(to, at);
        story.add(at, What::State(StateChange { from, to }), tcp.clone(), true, false);
        if to == State::CLOSE && !tracked.is_closed {
            tracked.is_closed = true;
            let ending = tracked.ending(from, at, told.past.closer != Process::NONE);
            story.add(at, what::closed(record, &ending, units), tcp, true, false);
        }
    }
}

/// The state changes of the connection that the socket has now. One that was refused may have connected again; where the socket
/// has had more changes than it remembers, none of them is known to belong to the present one.
fn last_life(past: &Past) -> &[Transition] {
    let Some(changes) = past.transitions.get(..past.count as usize) else { return &[] };
    let is_beginning = |change: &Transition| is_birth(State(change.from), State(change.to));
    changes.iter().rposition(is_beginning).map_or(changes, |beginning| &changes[beginning..])
}

/// What the kernel still knows of a socket that is older than zsock.
pub(super) fn tell_inferred(
    story: &mut Story<'_>,
    kind: Kind,
    record: &SocketRecord,
    at: Time,
    units: &Units,
) {
    let (head, tcp) = (&record.head, &record.tcp);
    let state = State(tcp.state);
    let is_resending = kind == Kind::Retransmit;
    let is_stalled = tcp.retransmits > u8::from(is_resending);
    let received = units.since_received(head, tcp, state);
    let facts = [
        (Fact::LastReceived, received),
        // A retransmission has overwritten when payload was last sent.
        (Fact::LastSent, units.since_sent(head, tcp).filter(|_| !is_resending)),
        (Fact::RetransmittingSince, units.since_first_retransmission(head, tcp).filter(|_| is_stalled)),
    ];
    let mut known: Vec<_> =
        facts.into_iter().filter_map(|(fact, passed)| Some((at.before(passed?), fact))).collect();
    known.sort_by_key(|(at, _)| *at);
    for (at, fact) in known {
        let retransmits = (fact == Fact::RetransmittingSince).then_some(tcp.retransmits.into());
        let tcp = Tcp { state: Some(state), retransmits, ..Tcp::default() };
        let sample = Sample { fact: Some(fact), ..Sample::default() };
        story.add(at, What::Sample(Box::new(sample)), tcp, false, true);
    }
}
