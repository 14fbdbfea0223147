//! The words for what an event says. There may be many events: their words are put where they are wanted, one after the other.

use crate::append;
use crate::engine::Standing;
use crate::record::{
    AcceptQueue, Cause, Closed, Errno, Fact, Keepalive, Progress, Request, Retransmit, Sample, State, What,
    ZeroWindowProbe, printable,
};
use crate::sink::quantity::{UNKNOWN, append_bytes, append_count, append_milliseconds, milliseconds};

/// The numbers of an event, and those of TCP that matter with it.
pub(in crate::sink) fn details(what: &What, standing: Standing) -> String {
    let mut text = String::new();
    append_details(&mut text, what, standing);
    text
}

/// Appends them.
pub(super) fn append_details(text: &mut String, what: &What, standing: Standing) {
    let mut phrases = Phrases { start: text.len(), text };
    match what {
        What::State(change) => {
            phrases.with("", Some(change.from), append_state);
            phrases.text.push_str(" → ");
            append_state(phrases.text, change.to);
        }
        What::Retransmit(it) => retransmit(it, standing, &mut phrases),
        What::Keepalive(it) => keepalive(it, standing, &mut phrases),
        What::KeepaliveAnswered(it) => phrases.with("after ", Some(it.after_probes), append_probes),
        What::ZeroWindowProbe(it) => zero_window_probe(*it, standing, &mut phrases),
        What::Progress(it) => progress(*it, &mut phrases),
        What::Error(it) => phrases.say(&printable(it.errno.name())),
        What::ResetReceived(it) | What::ResetSent(it) => {
            phrases.with("reason ", it.reason.as_deref(), append_printable);
        }
        What::AcceptFailed(it) => {
            phrases.say(&printable(it.errno.name()));
            append_count(phrases.next(), it.count, "time");
        }
        What::Closed(it) => closed(it, &mut phrases),
        What::Sample(it) => sample(it, standing, &mut phrases),
    }
}

/// Phrases with commas between them.
struct Phrases<'a> {
    text: &'a mut String,
    start: usize,
}

impl Phrases<'_> {
    /// Where the next phrase goes.
    fn next(&mut self) -> &mut String {
        if self.text.len() > self.start {
            self.text.push_str(", ");
        }
        self.text
    }

    fn say(&mut self, phrase: &str) {
        self.next().push_str(phrase);
    }

    /// A name and a value, or the dash for one that is not known.
    fn with<T>(&mut self, name: &str, value: Option<T>, append: impl FnOnce(&mut String, T)) {
        let text = self.next();
        text.push_str(name);
        match value {
            Some(value) => append(text, value),
            None => text.push_str(UNKNOWN),
        }
    }

    /// What stands around a value, where that is known.
    fn known<T>(&mut self, around: [&str; 2], value: Option<T>, append: impl FnOnce(&mut String, T)) {
        let [before, after] = around;
        if value.is_some() {
            self.with(before, value, append);
            self.text.push_str(after);
        }
    }

    fn next_ms(&mut self, next_ms: Option<u64>) {
        self.with("next in ", next_ms, append_milliseconds);
    }

    fn last_heard(&mut self, standing: Standing) {
        self.known(["last heard ", " ago"], standing.last_received_ms, append_milliseconds);
    }
}

fn append_state(text: &mut String, state: State) {
    match state.name() {
        Some(name) => text.push_str(name),
        None => text.push_str(&state.to_string()),
    }
}

fn append_printable(text: &mut String, chosen: &str) {
    text.push_str(&printable(chosen));
}

fn append_probes(text: &mut String, probes: u32) {
    append_count(text, probes.into(), "probe");
}

fn retransmit(it: &Retransmit, standing: Standing, phrases: &mut Phrases<'_>) {
    match it.cause {
        Some(cause) => phrases.say(cause.name()),
        None => phrases.with("cause ", None, append_printable),
    }
    if it.fin {
        phrases.say("FIN");
    }
    // Only a timer counts its attempts and knows the next.
    if it.attempt.is_some() || matches!(it.cause, Some(Cause::Rto | Cause::Syn | Cause::SynAck)) {
        phrases.with("attempt ", it.attempt, append::number);
        phrases.next_ms(it.next_ms);
    }
    phrases.known(["rto ", ""], standing.rto_ms, append_milliseconds);
    phrases.known(["", " unacknowledged"], standing.unacked_bytes, append_bytes);
    if it.failed {
        let errno = it.errno.as_ref().map(Errno::name);
        phrases.with("did not leave this host: ", errno, append_printable);
    }
}

fn keepalive(it: &Keepalive, standing: Standing, phrases: &mut Phrases<'_>) {
    phrases.with("probe ", Some(it.probe), append::number);
    if let Some(of) = it.of {
        phrases.text.push_str(" of ");
        append::number(phrases.text, of);
    }
    phrases.next_ms(it.next_ms);
    phrases.last_heard(standing);
}

fn zero_window_probe(it: ZeroWindowProbe, standing: Standing, phrases: &mut Phrases<'_>) {
    phrases.with("probe ", Some(it.probe), append::number);
    if let Some(answered) = it.answered {
        phrases.say(if answered { "the one before was answered" } else { "the one before was not answered" });
    }
    phrases.next_ms(it.next_ms);
    phrases.known(["", " unsent"], standing.unsent_bytes, append_bytes);
}

fn progress(it: Progress, phrases: &mut Phrases<'_>) {
    phrases.with("stalled ", it.stalled_ms, append_milliseconds);
    append_count(phrases.next(), it.attempts.into(), "time-out");
}

fn closed(it: &Closed, phrases: &mut Phrases<'_>) {
    let flags = [
        (it.peer_closed, "the peer closed"),
        (it.reset, "reset"),
        (it.fin_unacked, "FIN never acknowledged"),
        (it.fd_open, "a process still holds the descriptor"),
    ];
    phrases.with("from ", Some(it.from), append_state);
    if let Some(errno) = &it.errno {
        phrases.say(&printable(errno.name()));
    }
    phrases.with("lived ", it.lifetime_ms, append_milliseconds);
    phrases.with("sent ", it.bytes_sent, append_bytes);
    phrases.with("received ", it.bytes_received, append_bytes);
    flags.iter().filter(|(is, _)| *is).for_each(|(_, phrase)| phrases.say(phrase));
}

fn sample(it: &Sample, standing: Standing, phrases: &mut Phrases<'_>) {
    if let Some(fact) = it.fact {
        phrases.say(match fact {
            Fact::LastReceived => "the last segment came from the peer",
            Fact::LastSent => "payload was last sent",
            Fact::RetransmittingSince => "the first retransmission of this stall",
            Fact::ProbingSince => "the first unanswered keepalive probe",
        });
    }
    phrases.known(["", ""], standing.state, append_state);
    phrases.known(["idle for ", ""], it.idle_ms, append_milliseconds);
    phrases.known(["data unread for ", ""], it.unread_for_ms, append_milliseconds);
    phrases.known(["half-closed for ", ""], it.half_closed_ms, append_milliseconds);
    if let Some(it) = it.request {
        phrases.say(&request(it));
    }
    if let Some(it) = it.accept_queue {
        phrases.say(&accept_queue(it));
    }
    phrases.last_heard(standing);
}

fn request(it: Request) -> String {
    let (waiting, usual) = (milliseconds(it.waiting_ms), milliseconds(it.usual_ms));
    let answered = it.answered_before;
    format!("no answer for {waiting} (usual after {usual}, {answered} answered before)")
}

fn accept_queue(it: AcceptQueue) -> String {
    let oldest = it.oldest_ms.map_or_else(String::new, |ms| format!(", the oldest for {}", milliseconds(ms)));
    format!("{} waiting to be accepted (backlog {}){oldest}", it.queue, it.backlog)
}
