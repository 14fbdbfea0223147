//! The other end of a connection on the same host: while data is stuck between the two, each end's verdict names the other's process.

use serde_json::Value;

use super::{Open, words};
use crate::record::{Socket, SocketId, VerdictName};

/// The socket at the other end of a connection, where that is on this host, with a stall of its own.
#[derive(Debug)]
pub(crate) struct Peer {
    socket: SocketId,
    /// Its process; absent where that is not known.
    process: Option<String>,
    stalls: Vec<VerdictName>,
}

impl Peer {
    /// The socket as the other end; `None` where nothing is stalled there.
    pub(crate) fn of(socket: &Socket, open: &[Open]) -> Option<Self> {
        let stalls: Vec<_> =
            open.iter().map(|open| open.condition.name).filter(|name| opposite(*name).is_some()).collect();
        let is_known = socket.pid.is_some() || socket.comm.is_some();
        let process = is_known.then(|| words::owner(socket));
        (!stalls.is_empty()).then_some(Self { socket: socket.id, process, stalls })
    }

    /// Whether it has this verdict.
    pub(crate) fn is_under(&self, stall: VerdictName) -> bool {
        self.stalls.contains(&stall)
    }

    /// For the evidence: the process.
    pub(super) fn process(&self) -> Option<Value> {
        self.process.clone().map(Value::from)
    }

    /// For the evidence: the socket.
    pub(super) fn socket(&self) -> Value {
        Value::from(self.socket.to_string())
    }

    /// For the end of a sentence: the process and what it does.
    pub(super) fn clause(&self, does: &str) -> String {
        let process = self.process.as_deref().unwrap_or("a process that is not known");
        format!("; at the other end, on this host too, {process} {does}")
    }
}

/// The verdict that the other end has of the same stall: one side cannot send because the other does not read.
pub(crate) fn opposite(stall: VerdictName) -> Option<VerdictName> {
    let pair = [VerdictName::ZeroWindowStall, VerdictName::ReceiverStall];
    let place = pair.iter().position(|name| *name == stall)?;
    Some(pair[1 - place])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::story::{
        closed, details, established, expected, findings, found, on, verdict, window_probe, with, words_of,
    };
    use crate::engine::Finding;
    use crate::record::{Event, Record};

    /// The event at the other end: the socket of nginx, which curl is connected to.
    fn at_the_server(event: Event) -> Event {
        let mut event = event;
        let socket = event.socket_mut();
        socket.id = SocketId(0x1f);
        std::mem::swap(&mut socket.local, &mut socket.remote);
        socket.pid = Some(900);
        socket.comm = Some("nginx".into());
        event
    }

    /// The same in another network namespace.
    fn in_netns(netns: u32, id: u64, event: Event) -> Event {
        let mut event = event;
        event.socket_mut().netns = Some(netns);
        event.socket_mut().id = SocketId(id);
        event
    }

    fn cannot_send(probe: u32) -> Event {
        window_probe(probe, (probe > 1).then_some(true))
    }

    fn unread(ms: u64) -> Event {
        at_the_server(with(found(|sample| sample.unread_for_ms = Some(ms)), |tcp| {
            tcp.unread_bytes = Some(4_096);
        }))
    }

    fn sender_stalls() -> Vec<Record> {
        [(1_200, cannot_send(1)), (1_600, cannot_send(2)), (2_400, cannot_send(3))]
            .map(|(ms, event)| on(ms, event))
            .into()
    }

    /// To whom, by process id, which verdict was given.
    fn told(findings: &[Finding]) -> Vec<(u32, String)> {
        let pid = |finding: &Finding| verdict(finding).socket().unwrap().0.pid.unwrap();
        findings.iter().map(pid).zip(words_of(findings).into_iter().map(|(_, said)| said)).collect()
    }

    fn names_a_peer(finding: &Finding) -> bool {
        verdict(finding).evidence.contains_key("peer_socket")
    }

    #[test]
    fn the_two_ends_of_one_stall_name_each_other() {
        let findings = findings(&[sender_stalls(), vec![on(31_000, unread(30_000))]].concat());
        assert_eq!(
            told(&findings),
            [
                (812, "zero_window_stall opened".to_owned()),
                (900, "receiver_stall opened".to_owned()),
                (812, "zero_window_stall updated".to_owned()),
            ]
        );
        assert_eq!(
            details(&findings[1]),
            (
                1_000,
                r#"{"peer_process":"curl (pid 812)","peer_socket":"7","stalled_ms":30000,"unread_bytes":4096}"#.to_owned(),
                "nginx (pid 900) has read nothing for 30.0 s on its connection with 10.0.0.2:50000 (from 10.0.1.4:443): 4096 bytes of what came \
                 in stay unread; at the other end, on this host too, curl (pid 812) cannot send"
                    .to_owned()
            )
        );
        assert_eq!(
            details(&findings[2]),
            (
                1_200,
                r#"{"answered":2,"peer_process":"nginx (pid 900)","peer_socket":"1f","probes":3,"stalled_ms":29800,"unsent_bytes":100}"#
                    .to_owned(),
                "curl (pid 812) cannot send to 10.0.1.4:443 (from 10.0.0.2:50000): its window has been closed \
                 for 29.8 s while 100 bytes of ours wait (3 probes, 2 answered); at the other end, on this host too, nginx (pid 900) does not \
                 read"
                    .to_owned()
            )
        );
        let tcp = verdict(&findings[2]).socket().unwrap().1;
        assert_eq!(
            (tcp.state.map(|state| state.to_string()), tcp.last_received_ms),
            (Some("ESTABLISHED".into()), None)
        );
    }

    #[test]
    fn whichever_end_comes_first_is_told_of_the_other() {
        let receiver_first = [vec![on(500, unread(30_000))], sender_stalls()].concat();
        let findings = findings(&receiver_first);
        assert_eq!(
            told(&findings),
            [
                (900, "receiver_stall opened".to_owned()),
                (812, "zero_window_stall opened".to_owned()),
                (900, "receiver_stall updated".to_owned()),
            ]
        );
        assert_eq!(
            details(&findings[2]).1,
            r#"{"peer_process":"curl (pid 812)","peer_socket":"7","stalled_ms":31900,"unread_bytes":4096}"#
        );
    }

    #[test]
    fn an_end_without_a_stall_is_not_named() {
        let peer_is_well = [on(0, at_the_server(established()))];
        let findings = findings(&[&peer_is_well[..], &sender_stalls()].concat());
        assert_eq!(words_of(&findings), expected([(2_400, "zero_window_stall opened")]));
        assert!(!names_a_peer(&findings[0]));
    }

    #[test]
    fn where_it_is_not_certain_which_socket_is_the_other_end_none_is_named() {
        let one = on(31_000, in_netns(1, 21, unread(30_000)));
        let other = on(31_000, in_netns(2, 22, unread(30_000)));
        let ambiguous = [vec![one.clone(), other], sender_stalls()].concat();
        assert!(!findings(&ambiguous).iter().any(names_a_peer));
        let certain = findings(&[vec![one], sender_stalls()].concat());
        assert_eq!(certain.iter().filter(|finding| names_a_peer(finding)).count(), 2);
    }

    #[test]
    fn a_connection_that_has_ended_is_the_other_end_of_none() {
        let with_id = |id, event| in_netns(1, id, event);
        let ended = on(100, with_id(21, at_the_server(closed())));
        let records = vec![on(90, with_id(21, unread(30_000))), ended, on(500, with_id(22, unread(30_000)))];
        let findings = findings(&[records, sender_stalls()].concat());
        assert_eq!(verdict(&findings[3]).evidence["peer_socket"], "16");
    }

    #[test]
    fn on_loopback_the_other_end_is_in_the_same_network_namespace() {
        let on_loopback = |netns, event: Event| {
            let mut event = event;
            event.socket_mut().netns = Some(netns);
            event.socket_mut().local = event.socket.local.map(|end| ([127, 0, 0, 1], end.port()).into());
            event.socket_mut().remote = event.socket.remote.map(|end| ([127, 0, 0, 1], end.port()).into());
            event
        };
        let stalls = |server_netns| {
            let mut records = vec![on(500, on_loopback(server_netns, unread(30_000)))];
            let probes = [(1_200, 1), (1_600, 2), (2_400, 3)];
            records.extend(probes.map(|(ms, probe)| on(ms, on_loopback(5, cannot_send(probe)))));
            findings(&records).iter().filter(|finding| names_a_peer(finding)).count()
        };
        assert_eq!((stalls(5), stalls(6)), (2, 0));
    }

    #[test]
    fn a_name_that_a_process_chose_cannot_move_the_cursor() {
        let mut evil = unread(30_000);
        evil.socket_mut().comm = Some("a\u{1b}[2J".into());
        let findings = findings(&[vec![on(500, evil)], sender_stalls()].concat());
        assert_eq!(verdict(&findings[1]).evidence["peer_process"], "a\\u{1b}[2J (pid 900)");
        assert!(!verdict(&findings[1]).summary.contains('\u{1b}'));
    }

    #[test]
    fn a_process_that_is_not_known_is_no_evidence() {
        let mut unknown = unread(30_000);
        unknown.socket_mut().pid = None;
        unknown.socket_mut().comm = None;
        let findings = findings(&[vec![on(500, unknown)], sender_stalls()].concat());
        let evidence = &verdict(&findings[1]).evidence;
        assert_eq!((evidence.get("peer_process"), evidence.get("peer_socket")), (None, Some(&"1f".into())));
    }
}
