//! What a look found, in the records' words.

use zsock_common::wire::{LookRecord, condition, sk_flag, watch_flag};

use crate::record::{AcceptQueue, Request, Sample, State};
use crate::source::assemble::facts::{Queues, Units};
use crate::time::milliseconds;

/// Whether a condition came to hold or ceased. Time-outs and probes have records of their own.
pub(super) fn is_news(look: &LookRecord) -> bool {
    (look.event.detail ^ look.event.detail2) & !condition::TROUBLE != 0
}

/// All that a look found.
pub(super) fn sample(look: &LookRecord, units: &Units) -> Sample {
    let (head, tcp, watch) = (&look.event.head, &look.event.tcp, &look.watch);
    let state = State(tcp.state);
    let since = |stamp: u32| milliseconds(units.jiffies.since(head.jiffies, stamp));
    let is_held = tcp.has_socket != 0 && tcp.sk_flags & sk_flag::DEAD == 0;
    let known = &units.known;
    let unread =
        is_held && known.unread_since && watch.unread_since != 0 && Queues::of(tcp, state).unread_bytes > 0;
    Sample {
        fact: None,
        idle_ms: (state == State::ESTABLISHED && known.idle && watch.active != 0)
            .then(|| since(watch.active)),
        unread_for_ms: unread.then(|| since(watch.unread_since)),
        half_closed_ms: (is_held
            && known.half_closed
            && watch.quiet_since != 0
            && state == State::CLOSE_WAIT)
            .then(|| since(watch.quiet_since)),
        // Only where the kernel side takes it for one: what is sent and not answered may be no request.
        request: (look.event.detail & condition::SILENCE != 0).then(|| request(look, units)).flatten(),
        window_probes: units.window_probes(head, tcp),
        accept_queue: accept_queue(look, units),
    }
}

fn request(look: &LookRecord, units: &Units) -> Option<Request> {
    let (event, watch) = (&look.event, &look.watch);
    let is_waiting = watch.flags & watch_flag::WAITING != 0 && watch.answered > 0 && watch.usual != 0;
    let is_acknowledged = event.tcp.snd_una == event.tcp.write_seq;
    (units.known.requests && is_waiting && is_acknowledged).then(|| Request {
        waiting_ms: milliseconds(units.jiffies.since(event.head.jiffies, event.tcp.lsndtime)),
        // Kept times 8.
        usual_ms: milliseconds(units.jiffies.until(0, watch.usual) / 8),
        answered_before: watch.answered,
    })
}

fn accept_queue(look: &LookRecord, units: &Units) -> Option<AcceptQueue> {
    (units.known.accept_queue && State(look.event.tcp.state) == State::LISTEN).then(|| AcceptQueue {
        queue: look.queue,
        backlog: look.backlog,
        oldest_ms: (look.queue > 0 && look.oldest != 0)
            .then(|| milliseconds(units.jiffies.since(look.event.head.jiffies, look.oldest))),
        full_for_ms: (look.event.detail & condition::QUEUE != 0)
            .then(|| milliseconds(units.jiffies.since(look.event.head.jiffies, look.watch.passed))),
    })
}
