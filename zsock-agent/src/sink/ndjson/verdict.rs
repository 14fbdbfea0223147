//! Verdicts, in the same way as events: where thousands of connections are hit at once, each of them has one.

use super::again::Repeated;
use super::event::{append_socket, append_tcp};
use super::line::{Line, key};
use crate::record::{Record, Subject, Verdict};

/// Appends a record, which carries this verdict, without its line end.
pub(super) fn append(record: &Record, verdict: &Verdict, repeated: &mut Repeated, lines: &mut Vec<u8>) {
    let Record { schema, at, host, body: _ } = record;
    let Verdict { verdict, phase, outcome, severity, subject, since, evidence, summary, advice } = verdict;
    Line::at_the_end_of(lines).object(|line| {
        line.number(key!("schema"), *schema);
        line.time(key!("ts"), *at);
        repeated.host.append(line, host, |line| line.text(key!("host"), host));
        line.word(key!("type"), "verdict");
        line.word(key!("verdict"), verdict.name());
        line.word(key!("phase"), phase.name());
        if let Some(outcome) = outcome {
            line.word(key!("outcome"), outcome.name());
        }
        line.word(key!("severity"), severity.name());
        append_subject(subject, repeated, line);
        line.time(key!("since"), *since);
        line.key(key!("evidence"));
        line.object(|line| evidence.iter().for_each(|(name, value)| line.fact(name, value)));
        line.text(key!("summary"), summary);
        line.texts(key!("advice"), advice);
    });
}

fn append_subject(subject: &Subject, repeated: &mut Repeated, line: &mut Line<'_>) {
    match subject {
        Subject::Socket { socket, tcp } => {
            append_socket(socket, repeated, line);
            line.key(key!("tcp"));
            line.object(|line| append_tcp(tcp, repeated, line));
        }
        Subject::Process { process } => line.any(key!("process"), process),
        Subject::Destination { destination } => line.any(key!("destination"), destination),
    }
}
