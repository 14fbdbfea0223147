//! Events in the very form in which zsock writes them, read fast: a recording may hold tens of millions.
//!
//! The form is JSON without spaces and escapes, its fields in the order of the types in [`crate::record`]. Whatever differs is left to
//! the way that reads any JSON, so this one says nothing of what is wrong: it need not know all that is right.

use std::sync::Arc;

use super::cursor::Cursor;
use super::names::Names;
use crate::record::{
    Body, Closed, Errored, Event, Fact, Keepalive, KeepaliveAnswered, KeepaliveSettings, Progress, Record,
    Reset, Retransmit, SCHEMA, Sample, Socket, StateChange, Tcp, What, ZeroWindowProbe,
};

/// A field's name as it stands in a line. Its length is known when this is compiled, which makes it quick to compare.
macro_rules! key {
    ($name:literal) => {
        const {
            const KEY: &[u8] = concat!("\"", $name, "\":").as_bytes();
            KEY.first_chunk::<{ KEY.len() }>().unwrap()
        }
    };
}

/// The event in a line; `None` where it is another record, or not in this form.
pub(super) fn event(line: &[u8], names: &mut Names) -> Option<Record> {
    let mut line = Cursor::new(line, names);
    line.open()?;
    line.required(key!("schema"), Cursor::u32).filter(|schema| *schema == SCHEMA)?;
    let at = line.required(key!("ts"), Cursor::time)?;
    let host = line.required(key!("host"), Cursor::name)?;
    let what = what(&mut line)?;
    line.key(key!("socket"))?;
    let socket = socket(&mut line)?;
    line.key(key!("tcp"))?;
    let event = Box::new(Event {
        what,
        socket: Arc::new(socket),
        tcp: tcp(&mut line)?,
        replayed: line.flag(key!("replayed"))?,
        inferred: line.flag(key!("inferred"))?,
    });
    line.close()?;
    line.is_at_end().then_some(Record { schema: SCHEMA, at, host, body: Body::Event(event) })
}

fn what(line: &mut Cursor<'_, '_>) -> Option<What> {
    Some(match line.required(key!("type"), Cursor::text)? {
        b"state" => What::State(StateChange {
            from: line.required(key!("from"), Cursor::state)?,
            to: line.required(key!("to"), Cursor::state)?,
        }),
        b"closed" => What::Closed(Box::new(closed(line)?)),
        b"retransmit" => What::Retransmit(Retransmit {
            cause: line.optional(key!("cause"), Cursor::cause)?,
            fin: line.flag(key!("fin"))?,
            attempt: line.optional(key!("attempt"), Cursor::u32)?,
            next_ms: line.optional(key!("next_ms"), Cursor::u64)?,
            failed: line.flag(key!("failed"))?,
            errno: line.optional(key!("errno"), Cursor::errno)?,
        }),
        b"keepalive" => What::Keepalive(Keepalive {
            probe: line.required(key!("probe"), Cursor::u32)?,
            of: line.optional(key!("of"), Cursor::u32)?,
            next_ms: line.optional(key!("next_ms"), Cursor::u64)?,
        }),
        b"keepalive_answered" => What::KeepaliveAnswered(KeepaliveAnswered {
            after_probes: line.required(key!("after_probes"), Cursor::u32)?,
        }),
        b"zero_window_probe" => What::ZeroWindowProbe(ZeroWindowProbe {
            probe: line.required(key!("probe"), Cursor::u32)?,
            answered: line.optional(key!("answered"), Cursor::bool)?,
            next_ms: line.optional(key!("next_ms"), Cursor::u64)?,
        }),
        b"progress" => What::Progress(Progress {
            stalled_ms: line.optional(key!("stalled_ms"), Cursor::u64)?,
            attempts: line.required(key!("attempts"), Cursor::u32)?,
        }),
        b"error" => What::Error(Errored { errno: line.required(key!("errno"), Cursor::errno)? }),
        b"reset_received" => What::ResetReceived(reset(line)?),
        b"reset_sent" => What::ResetSent(reset(line)?),
        b"sample" => What::Sample(Box::new(sample(line)?)),
        _ => return None,
    })
}

fn reset(line: &mut Cursor<'_, '_>) -> Option<Reset> {
    Some(Reset { reason: line.optional(key!("reason"), Cursor::name)? })
}

fn closed(line: &mut Cursor<'_, '_>) -> Option<Closed> {
    Some(Closed {
        from: line.required(key!("from"), Cursor::state)?,
        errno: line.optional(key!("errno"), Cursor::errno)?,
        lifetime_ms: line.optional(key!("lifetime_ms"), Cursor::u64)?,
        bytes_sent: line.optional(key!("bytes_sent"), Cursor::u64)?,
        bytes_received: line.optional(key!("bytes_received"), Cursor::u64)?,
        peer_closed: line.required(key!("peer_closed"), Cursor::bool)?,
        reset: line.required(key!("reset"), Cursor::bool)?,
        fd_open: line.required(key!("fd_open"), Cursor::bool)?,
        fin_unacked: line.flag(key!("fin_unacked"))?,
    })
}

/// A sample of a socket. Those with a request or an accept queue are few and left to the other way.
fn sample(line: &mut Cursor<'_, '_>) -> Option<Sample> {
    Some(Sample {
        fact: line.optional(key!("fact"), fact)?,
        idle_ms: line.optional(key!("idle_ms"), Cursor::u64)?,
        unread_for_ms: line.optional(key!("unread_for_ms"), Cursor::u64)?,
        half_closed_ms: line.optional(key!("half_closed_ms"), Cursor::u64)?,
        request: None,
        window_probes: line.optional(key!("window_probes"), Cursor::u32)?,
        accept_queue: None,
    })
}

fn fact(line: &mut Cursor<'_, '_>) -> Option<Fact> {
    Some(match line.text()? {
        b"last_received" => Fact::LastReceived,
        b"last_sent" => Fact::LastSent,
        b"retransmitting_since" => Fact::RetransmittingSince,
        b"probing_since" => Fact::ProbingSince,
        _ => return None,
    })
}

fn socket(line: &mut Cursor<'_, '_>) -> Option<Socket> {
    line.open()?;
    let socket = Socket {
        id: line.required(key!("id"), Cursor::socket_id)?,
        family: line.required(key!("family"), Cursor::family)?,
        local: line.optional(key!("local"), Cursor::address)?,
        remote: line.optional(key!("remote"), Cursor::address)?,
        v4mapped: line.flag(key!("v4mapped"))?,
        netns: line.optional(key!("netns"), Cursor::u32)?,
        pid: line.optional(key!("pid"), Cursor::u32)?,
        comm: line.optional(key!("comm"), Cursor::name)?,
        comm_hex: line.optional(key!("comm_hex"), Cursor::name)?,
        uid: line.optional(key!("uid"), Cursor::u32)?,
        inode: line.optional(key!("inode"), Cursor::u64)?,
        cgroup: line.optional(key!("cgroup"), Cursor::name)?,
        container: line.optional(key!("container"), Cursor::name)?,
        orphan: line.flag(key!("orphan"))?,
        owner_exited: line.optional(key!("owner_exited"), Cursor::bool)?,
        listener: line.optional(key!("listener"), Cursor::socket_id)?,
    };
    line.close()?;
    Some(socket)
}

fn tcp(line: &mut Cursor<'_, '_>) -> Option<Tcp> {
    line.open()?;
    let tcp = Tcp {
        state: line.optional(key!("state"), Cursor::state)?,
        rto_ms: line.optional(key!("rto_ms"), Cursor::u64)?,
        srtt_us: line.optional(key!("srtt_us"), Cursor::u64)?,
        retransmits: line.optional(key!("retransmits"), Cursor::u32)?,
        backoff: line.optional(key!("backoff"), Cursor::u32)?,
        total_retransmits: line.optional(key!("total_retransmits"), Cursor::u32)?,
        probes_out: line.optional(key!("probes_out"), Cursor::u32)?,
        unacked_bytes: line.optional(key!("unacked_bytes"), Cursor::u64)?,
        unsent_bytes: line.optional(key!("unsent_bytes"), Cursor::u64)?,
        unread_bytes: line.optional(key!("unread_bytes"), Cursor::u64)?,
        send_window_bytes: line.optional(key!("send_window_bytes"), Cursor::u64)?,
        cwnd: line.optional(key!("cwnd"), Cursor::u32)?,
        last_sent_ms: line.optional(key!("last_sent_ms"), Cursor::u64)?,
        last_received_ms: line.optional(key!("last_received_ms"), Cursor::u64)?,
        last_data_received_ms: line.optional(key!("last_data_received_ms"), Cursor::u64)?,
        keepalive: line.optional(key!("keepalive"), keepalive)?,
        user_timeout_ms: line.optional(key!("user_timeout_ms"), Cursor::u64)?,
        gives_up_in_ms: line.optional(key!("gives_up_in_ms"), Cursor::u64)?,
        stalled_ms: line.optional(key!("stalled_ms"), Cursor::u64)?,
    };
    line.close()?;
    Some(tcp)
}

fn keepalive(line: &mut Cursor<'_, '_>) -> Option<KeepaliveSettings> {
    line.open()?;
    let settings = KeepaliveSettings {
        enabled: line.required(key!("enabled"), Cursor::bool)?,
        idle_ms: line.required(key!("idle_ms"), Cursor::u64)?,
        interval_ms: line.required(key!("interval_ms"), Cursor::u64)?,
        probes: line.required(key!("probes"), Cursor::u32)?,
    };
    line.close()?;
    Some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{Ndjson, samples};

    #[test]
    fn every_event_that_zsock_writes_is_read_as_it_was_and_those_few_are_left_to_the_other_way() {
        let mut names = Names::default();
        let mut left = Vec::new();
        for record in samples::all() {
            let mut line = Vec::new();
            Ndjson::default().append(&record, &mut line);
            match event(line.trim_ascii_end(), &mut names) {
                Some(read) => assert_eq!(read, record),
                None => left.push(record),
            }
        }
        // Few and far between: not worth a second way. Nor are names that hold escapes.
        let is_left = |record: &&Record| {
            let Some(Event { what, socket, .. }) = record.event() else { return true };
            let is_rare = match what {
                What::Sample(sample) => sample.request.is_some() || sample.accept_queue.is_some(),
                What::State(change) => change.to.to_string().contains('('),
                What::AcceptFailed(_) => true,
                What::Retransmit(_)
                | What::Keepalive(_)
                | What::KeepaliveAnswered(_)
                | What::ZeroWindowProbe(_)
                | What::Progress(_)
                | What::Error(_)
                | What::ResetReceived(_)
                | What::ResetSent(_)
                | What::Closed(_) => false,
            };
            is_rare || socket.comm_hex.is_some()
        };
        let all = samples::all();
        assert_eq!(left.iter().collect::<Vec<_>>(), all.iter().filter(is_left).collect::<Vec<_>>());
    }

    /// Bytes that JSON, numbers, times, addresses and names are made of, and some that they are not.
    const BYTES: &[u8] = b"019aFeZ+-.:,]}\"\\ \t\x1f\x7f\xc3";

    #[test]
    fn whatever_byte_of_a_line_is_changed_it_is_read_as_the_other_way_reads_it_or_left_to_that() {
        let mut names = Names::default();
        let mut is_alike = |line: &[u8]| {
            let Some(read) = event(line, &mut names) else { return 0 };
            let slowly = serde_json::from_slice::<Record>(line).ok();
            assert_eq!(Some(read), slowly, "{}", String::from_utf8_lossy(line));
            1
        };
        let mut compared = 0;
        for record in samples::all() {
            let mut line = Vec::new();
            Ndjson::default().append(&record, &mut line);
            let line = line.trim_ascii_end();
            if is_alike(line) == 0 {
                continue;
            }
            for place in 0..line.len() {
                let (before, after) = line.split_at(place);
                compared += is_alike(&[before, &after[1..]].concat());
                for byte in BYTES {
                    compared += is_alike(&[before, &[*byte], after].concat());
                    compared += is_alike(&[before, &[*byte], &after[1..]].concat());
                }
            }
        }
        assert!(compared > 10_000, "only {compared} were read fast");
    }
}
