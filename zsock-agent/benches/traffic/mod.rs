//! The traffic of a busy host, as records.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use zsock_agent::record::{
    Body, Cause, Closed, Errno, Event, Family, KeepaliveSettings, Record, Retransmit, Socket, SocketId,
    State, StateChange, Tcp, What,
};
use zsock_agent::time::Time;

/// Connections at once.
const CONNECTIONS: u64 = 1_000;

/// From one record to the next.
const PACE: Duration = Duration::from_micros(200);

/// One connection of so many is in trouble.
const IN_TROUBLE: u64 = 100;

/// The states of a healthy one.
const LIFE: [State; 6] =
    [State::CLOSE, State::SYN_SENT, State::ESTABLISHED, State::FIN_WAIT1, State::FIN_WAIT2, State::CLOSE];

/// Time-outs in a row before the end of one in trouble, which comes to ESTABLISHED first.
const TIMEOUTS: usize = 8;

/// Events of many connections without end, in turn.
pub(crate) struct Traffic {
    now: Time,
    host: Arc<str>,
    owners: Vec<(Arc<str>, Arc<str>)>,
    live: VecDeque<Connection>,
    next_id: u64,
}

#[derive(Clone, Copy)]
struct Connection {
    id: u64,
    step: usize,
}

impl Default for Traffic {
    fn default() -> Self {
        let owner = |number| {
            (format!("worker-{number}").into(), format!("/system.slice/pool-{number}.service").into())
        };
        Self {
            now: Time::from_unix_ns(1_700_000_000_000_000_000),
            host: "db-client-1.example".into(),
            owners: (0..20).map(owner).collect(),
            live: (1..=CONNECTIONS).map(|id| Connection { id, step: 0 }).collect(),
            next_id: CONNECTIONS + 1,
        }
    }
}

impl Iterator for Traffic {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let mut connection = self.live.pop_front()?;
        self.now = self.now.after(PACE);
        let (what, tcp, is_last) = connection.event();
        let event = Event {
            what,
            socket: Arc::new(self.socket(connection.id)),
            tcp,
            replayed: false,
            inferred: false,
        };
        connection.step += 1;
        if is_last {
            connection = Connection { id: self.next_id, step: 0 };
            self.next_id += 1;
        }
        self.live.push_back(connection);
        Some(Record::new(self.now, &self.host, Body::Event(Box::new(event))))
    }
}

impl Traffic {
    #[expect(clippy::cast_possible_truncation, reason = "the numbers are reduced to their range")]
    fn socket(&self, id: u64) -> Socket {
        let (comm, cgroup) = &self.owners[(id % self.owners.len() as u64) as usize];
        Socket {
            id: SocketId(0x10_0000 + id),
            family: Family::Ipv4,
            local: Some(([10, 0, 1, 4], 32_768 + (id % 28_000) as u16).into()),
            remote: Some(([10, 0, 5, (id % 200) as u8], 5_432).into()),
            v4mapped: false,
            netns: Some(4_026_531_840),
            pid: Some(1_000 + (id % self.owners.len() as u64) as u32),
            comm: Some(Arc::clone(comm)),
            comm_hex: None,
            uid: Some(33),
            inode: Some(3_000_000 + id),
            cgroup: Some(Arc::clone(cgroup)),
            container: None,
            orphan: false,
            owner_exited: None,
            listener: None,
        }
    }
}

impl Connection {
    /// What happens to it next, and whether that is its end.
    fn event(self) -> (What, Tcp, bool) {
        let is_in_trouble = self.id.is_multiple_of(IN_TROUBLE);
        let stands = 2;
        match self.step {
            step if is_in_trouble && (stands..stands + TIMEOUTS).contains(&step) => {
                self.timed_out(u32::try_from(step - stands + 1).unwrap_or(u32::MAX))
            }
            step if is_in_trouble && step >= stands => (
                closed(State::ESTABLISHED, Some(Errno::named("ETIMEDOUT"))),
                tcp(State::CLOSE, self.id, 8),
                true,
            ),
            step if step + 1 < LIFE.len() => {
                let change = StateChange { from: LIFE[step], to: LIFE[step + 1] };
                (What::State(change), tcp(change.to, self.id, 0), false)
            }
            _ => (closed(State::FIN_WAIT2, None), tcp(State::CLOSE, self.id, 0), true),
        }
    }

    fn timed_out(self, attempt: u32) -> (What, Tcp, bool) {
        let (attempts, next_ms) = (Some(attempt), Some(200 << attempt));
        let retransmit = Retransmit {
            cause: Some(Cause::Rto),
            fin: false,
            attempt: attempts,
            next_ms,
            failed: false,
            errno: None,
        };
        (What::Retransmit(retransmit), tcp(State::ESTABLISHED, self.id, attempt), false)
    }
}

fn closed(from: State, errno: Option<Errno>) -> What {
    What::Closed(Box::new(Closed {
        from,
        lifetime_ms: Some(1_000),
        bytes_sent: Some(672),
        bytes_received: Some(6_144),
        peer_closed: errno.is_none(),
        errno,
        reset: false,
        fd_open: false,
        fin_unacked: false,
    }))
}

/// How TCP stands after so many time-outs in a row.
fn tcp(state: State, id: u64, timeouts: u32) -> Tcp {
    let is_stalled = timeouts > 0;
    let since_ms = 200 * u64::from(timeouts);
    Tcp {
        state: Some(state),
        rto_ms: Some(204 << timeouts),
        srtt_us: Some(900 + id % 400),
        retransmits: Some(timeouts),
        backoff: Some(timeouts),
        total_retransmits: Some(timeouts),
        probes_out: Some(0),
        unacked_bytes: Some(if is_stalled { 312 } else { 0 }),
        unsent_bytes: Some(0),
        unread_bytes: Some(0),
        send_window_bytes: Some(65_536),
        cwnd: Some(10),
        last_sent_ms: (state != State::SYN_SENT).then_some(id % 90),
        last_received_ms: (state != State::SYN_SENT).then_some(since_ms + id % 90),
        last_data_received_ms: (state != State::SYN_SENT).then_some(since_ms + id % 90),
        keepalive: Some(KeepaliveSettings {
            enabled: true,
            idle_ms: 7_200_000,
            interval_ms: 75_000,
            probes: 9,
        }),
        user_timeout_ms: None,
        gives_up_in_ms: is_stalled.then_some(938_500),
        stalled_ms: is_stalled.then_some(since_ms),
    }
}
