//! The words of summaries and advice. Names that a process chose are made printable here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::append;
use crate::record::{Outcome, Socket, printable};

/// The process that holds a socket, or held it last.
pub(crate) fn owner(socket: &Socket) -> String {
    named(socket.comm.as_deref(), socket.pid)
}

fn named(comm: Option<&str>, pid: Option<u32>) -> String {
    match (comm.map(printable), pid) {
        (Some(comm), Some(pid)) => format!("{comm} (pid {pid})"),
        (Some(comm), None) => format!("{comm} (pid not known)"),
        (None, Some(pid)) => format!("process {pid}"),
        (None, None) => "a process that is not known".to_owned(),
    }
}

/// The peer's address, and ours where it is known.
pub(crate) fn peer(socket: &Socket) -> String {
    let remote = remote(socket.remote);
    match socket.local {
        Some(local) => format!("{remote} (from {})", address(local)),
        None => remote,
    }
}

/// The peer's address.
pub(super) fn remote(remote: Option<SocketAddr>) -> String {
    remote.map_or_else(|| "an address that is not known".to_owned(), address)
}

fn address(address: SocketAddr) -> String {
    let mut text = String::with_capacity(24);
    append::address(&mut text, address);
    text
}

/// A duration as a person says it: `850 ms`, `7.0 s`, `15 min 24 s`, `3 h 12 min`.
pub(crate) fn duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A number of things: `1 byte`, `24 bytes`.
pub(crate) fn plural(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// When the kernel will give up, as the end of a sentence; empty where that is not known.
pub(super) fn gives_up(in_ms: Option<u64>) -> String {
    in_ms.map_or_else(String::new, |ms| {
        format!("; the kernel will give up in {}", duration(Duration::from_millis(ms)))
    })
}

/// Half of an idle time in whole seconds, at least one, the least that `TCP_KEEPIDLE` takes: a probe in time meets a path that
/// was seen to forget after no more than `idle`.
pub(crate) fn half_in_seconds(idle: Duration) -> u64 {
    (idle.as_secs() / 2).max(1)
}

/// How long something has lasted, as a part of a sentence; empty where that is not known.
pub(super) fn lasting(known: Option<Duration>) -> String {
    known.map_or_else(String::new, |known| format!(" for {}", duration(known)))
}

/// How to keep a path from forgetting a connection that it may have forgotten after idling for `idle`. Below 2 s nothing forgets, and
/// no half of it would be a setting.
pub(super) fn keep_awake(idle: Duration) -> Option<String> {
    let at_most = half_in_seconds(idle);
    (idle >= Duration::from_secs(2)).then(|| {
        format!(
            "it had been idle for {}: if something on the path forgets idle connections, set SO_KEEPALIVE with TCP_KEEPIDLE at most \
             {at_most} s on the socket, or close pooled connections after at most {at_most} s without use",
            duration(idle)
        )
    })
}

/// How to hear of a dead peer within `bound` instead of the `limit` that holds now; nothing where that is no gain.
pub(super) fn hear_within(bound: Duration, limit: Option<Duration>) -> Vec<String> {
    // Shorter ones end connections that a lossy path would have recovered.
    let bound = Duration::from_secs(bound.as_secs()).max(Duration::from_secs(10));
    let user_timeout = || {
        format!(
            "set TCP_USER_TIMEOUT to {} (milliseconds) on the socket, so that its process hears of a silent peer after about {}",
            bound.as_millis(),
            duration(bound)
        )
    };
    // 8 is the least with which the kernel waits as long as RFC 1122 wants.
    let retries2 =
        "or net.ipv4.tcp_retries2=8, which bounds every connection of the network namespace at about 100 s";
    let mut advice = Vec::new();
    if limit.is_none_or(|limit| limit > bound) {
        advice.push(user_timeout());
    }
    if limit.is_none_or(|limit| limit > Duration::from_mins(2)) {
        advice.push(retries2.to_owned());
    }
    advice
}

/// Where to look when no setting is the reason.
pub(super) fn check_path(to: Option<SocketAddr>) -> String {
    format!("check {} and the way to it: what is sent there, or its answers, are lost", remote(to))
}

/// Whose socket it is, as far as words say it.
pub(super) struct Holder {
    comm: Option<Arc<str>>,
    pid: Option<u32>,
    inode: Option<u64>,
}

impl Holder {
    /// Who holds the socket.
    pub(super) fn of(socket: &Socket) -> Self {
        Self { comm: socket.comm.clone(), pid: socket.pid, inode: socket.inode }
    }

    /// Where to look when a process does not do its part.
    pub(super) fn check(&self) -> String {
        let found = match (self.pid, self.inode) {
            (Some(pid), _) => {
                return format!(
                    "look at what the threads of {} do, for instance with gdb -p {pid} or cat /proc/{pid}/task/*/stack",
                    named(self.comm.as_deref(), self.pid)
                );
            }
            (None, Some(inode)) => format!("socket:[{inode}] in /proc/*/fd"),
            (None, None) => "this socket in the output of ss -tanp".to_owned(),
        };
        format!("find the process that holds {found}, and look at what its threads do")
    }
}

/// The sentence that tells the end of a condition.
pub(super) fn ended(socket: &Socket, noun: &str, lasted: Duration, outcome: Outcome) -> String {
    let how = match outcome {
        Outcome::Connected => "the peer answered and the connection stands",
        Outcome::TimedOut => "the kernel gave up",
        Outcome::Refused => "the attempt was refused",
        Outcome::Closed if socket.remote.is_none() => "the socket was closed",
        Outcome::Closed => "the connection was closed",
        Outcome::Recovered => "an acknowledgement came",
        Outcome::SilentDeath => "the kernel gave the connection up without a word from the peer",
        Outcome::Reset => "a reset ended the connection",
        Outcome::Answered => "the peer answered",
        Outcome::OpenedWindow => "the peer's window opened",
        Outcome::Read => "the process read",
        Outcome::Moved => "data was sent or read",
        Outcome::Spoke => "a segment went over it",
        Outcome::Guarded => "keepalive was set",
        Outcome::Relieved => "there is room again",
        Outcome::Exited => "the process ended",
        Outcome::Drained => "the queue has room again",
    };
    let place = match (socket.remote, socket.local) {
        (None, Some(local)) => format!("at {local}"),
        _ => format!("with {}", peer(socket)),
    };
    format!("{noun} of {} {place} ended after {}: {how}", owner(socket), duration(lasted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::story::socket;

    #[test]
    fn durations_are_said_as_a_person_says_them() {
        let said = [0, 850, 1_000, 7_049, 59_999, 60_000, 924_600, 3_600_000, 11_520_000]
            .map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(
            said,
            [
                "0 ms",
                "850 ms",
                "1.0 s",
                "7.0 s",
                "59.9 s",
                "1 min 0 s",
                "15 min 24 s",
                "1 h 0 min",
                "3 h 12 min"
            ]
        );
    }

    #[test]
    fn the_end_of_a_condition_is_told_of_a_connection_or_of_a_listener() {
        let told = |remote| {
            let socket = Socket { remote, ..socket() };
            ended(&socket, "the wait", Duration::from_secs(2), Outcome::Closed)
        };
        assert_eq!(
            [told(socket().remote), told(None)],
            [
                "the wait of curl (pid 812) with 10.0.1.4:443 (from 10.0.0.2:50000) ended after 2.0 s: the connection was closed",
                "the wait of curl (pid 812) at 10.0.0.2:50000 ended after 2.0 s: the socket was closed",
            ]
        );
    }

    #[test]
    fn a_process_is_looked_for_by_what_is_known_of_it() {
        let with = |pid, inode| Holder::of(&Socket { pid, inode, ..socket() }).check();
        assert_eq!(
            [with(Some(812), None), with(None, Some(99_120)), with(None, None)],
            [
                "look at what the threads of curl (pid 812) do, for instance with gdb -p 812 or cat /proc/812/task/*/stack",
                "find the process that holds socket:[99120] in /proc/*/fd, and look at what its threads do",
                "find the process that holds this socket in the output of ss -tanp, and look at what its threads do",
            ]
        );
    }

    #[test]
    fn an_owner_is_named_as_far_as_known_and_cannot_move_the_cursor() {
        let with = |comm: Option<&str>, pid| owner(&Socket { comm: comm.map(Into::into), pid, ..socket() });
        assert_eq!(
            [
                with(Some("curl"), Some(812)),
                with(None, Some(812)),
                with(None, None),
                with(Some("a\u{1b}[2J"), None)
            ],
            ["curl (pid 812)", "process 812", "a process that is not known", "a\\u{1b}[2J (pid not known)"]
        );
    }
}
