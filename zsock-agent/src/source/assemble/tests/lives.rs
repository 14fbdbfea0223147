//! Sockets that connect a second time, or listen after that.

use zsock_common::wire::flag;

use super::*;

const CURL: Process = named(30, "curl");

/// `actor` connects: the socket has no port yet, though it shows the one that it had.
fn connects(ms: u32, actor: Process) -> Raw {
    turns(ms, State::CLOSE, State::SYN_SENT, |record| {
        record.actor = actor;
        record.head.flags = flag::UNBOUND;
    })
}

/// The peer refuses what came from this port.
fn is_refused(ms: u32, port: u16) -> Raw {
    turns(ms, State::SYN_SENT, State::CLOSE, |record| record.endpoints.local_port = port)
}

fn local_port(event: &Event) -> Option<u16> {
    event.socket.local.map(|local| local.port())
}

#[test]
fn whoever_connects_again_is_the_owner_and_nobody_of_the_life_before() {
    let mut assembler = assembler();
    last_event(&mut assembler, &[connects(0, NGINX)]);
    assembler.begin_look();
    assembler.learn(&holds(CHILD));
    let refused = is_refused(10, 40_000);
    assembler.end_look(&refused);
    let pid = |event: Event| event.socket.pid;
    assert_eq!(pid(last_event(&mut assembler, &[refused])), Some(CHILD.tgid));
    assert_eq!(pid(last_event(&mut assembler, &[connects(200, CURL)])), Some(CURL.tgid));
    let established = turns(201, State::SYN_SENT, State::ESTABLISHED, |_| ());
    assert_eq!(pid(last_event(&mut assembler, &[established])), Some(CURL.tgid));
}

#[test]
fn a_connection_without_a_port_does_not_get_that_of_the_next_one() {
    let mut assembler = assembler();
    let lives = [connects(0, NGINX), is_refused(1, 40_000), connects(2, NGINX), is_refused(3, 40_002)];
    assembler.begin_look();
    assembler.end_look(&lives[3]);
    let ports = lives.map(|raw| local_port(&last_event(&mut assembler, &[raw])));
    assert_eq!(ports, [None, Some(40_000), None, Some(40_002)]);
}

#[test]
fn a_listener_has_not_the_peer_of_the_connection_before() {
    let mut assembler = assembler();
    last_event(&mut assembler, &[connects(0, NGINX), is_refused(1, 40_000)]);
    let listens = turns(500, State::CLOSE, State::LISTEN, |record| {
        record.actor = NGINX;
        record.endpoints.remote = [0; 16];
        (record.endpoints.local_port, record.endpoints.remote_port) = (443, 0);
    });
    let listener = last_event(&mut assembler, &[listens]);
    assert_eq!((local_port(&listener), listener.socket.remote), (Some(443), None));
}
