//! What `zsock doctor` says, against what a trace does and what the kernel does.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;
use zsock_agent::record::SocketId;
use zsock_agent::source::diag;

use super::{Client, echo_server};
use crate::net::{Ip, Namespace, Net};
use crate::now;
use crate::story::{Line, assert_near};
use crate::zsock::{Zsock, is_left_out, program};

/// How a trace attached its hooks is how doctor said that it would.
pub(super) fn hooks_are_those_of_a_trace() {
    let zsock = Zsock::start(&[]);
    let Some(told) = examine() else { return };
    let Some(seen) = zsock.stop() else { return };
    let start = seen.of_type("start").next().expect("a recording has a start");
    let hooks = start.get("hooks").and_then(Value::as_object).expect("start tells its hooks");
    let doctor: Vec<&Line> = told.iter().filter(|line| line.text("type") == Some("hook")).collect();
    assert_eq!(doctor.len(), hooks.len());
    for hook in doctor {
        let name = hook.text("name").expect("a hook has a name");
        let how = hooks.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("no {name} in {start:?}"));
        match hook.text("answer") {
            Some("yes") => assert_eq!(hook.text("how"), Some(how), "{}", hook.record),
            Some("no") => assert!(how.starts_with("no: "), "{how}, but {}", hook.record),
            _ => panic!("root can tell: {}", hook.record),
        }
    }
    let trace = told.iter().find(|line| line.text("name") == Some("trace"));
    assert_eq!(trace.and_then(|line| line.text("answer")), Some("yes"));
}

/// Not even the one that listens where doctor aims at.
pub(super) fn whether_sockets_can_be_destroyed_is_found_without_destroying_one() {
    let namespace = Namespace::new("aimed-at");
    let place = (Ipv4Addr::LOCALHOST, 1);
    let (told, connected) = namespace.enter(|| {
        let _listener = TcpListener::bind(place).expect("nobody else is in the namespace");
        (examine(), TcpStream::connect(place))
    });
    connected.expect("the listener is alive");
    let Some(told) = told else { return };
    let check = told.iter().find(|line| line.text("name") == Some("sock_destroy")).expect("a check");
    let is_built_in = match check.text("answer") {
        Some("yes") => true,
        Some("no") => !check.text("why").is_some_and(|why| why.contains("CONFIG_INET_DIAG_DESTROY")),
        _ => panic!("root can tell: {}", check.record),
    };
    // What the kernel says of one that is really to be destroyed.
    let destroyed = namespace.enter(destroy_a_listener);
    assert_eq!(is_built_in, destroyed, "{}", check.record);
}

/// Whether the kernel destroys a listener of this thread's network namespace.
fn destroy_a_listener() -> bool {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
    let local = listener.local_addr().expect("it is bound");
    let id = SocketId(SockRef::from(&listener).cookie().expect("every kernel of zsock's has cookies"));
    let outcome = diag::destroy(&diag::Target { id, local, remote: None, v4mapped: false });
    outcome.expect("sock_diag answers") == diag::Outcome::Destroyed
}

/// Two network namespaces with other settings than each other, and two connections that die when these say.
pub(super) fn deaths_come_when_the_settings_say() {
    let net = Net::routed();
    let set = [
        ("net.ipv4.tcp_keepalive_time", 2),
        ("net.ipv4.tcp_keepalive_intvl", 1),
        ("net.ipv4.tcp_keepalive_probes", 3),
        ("net.ipv4.tcp_retries2", 2),
        ("net.ipv4.tcp_fin_timeout", 7),
        ("net.core.somaxconn", 77),
    ];
    for (name, value) in set {
        net.client.sysctl(&name.replace('.', "/"), value);
    }
    net.server.sysctl("net/ipv4/tcp_keepalive_time", 61);
    let told = examine();
    let (_server, server_port) = echo_server(&net);
    let address = Ip::V4.server(server_port);
    let mut idle = Client::connect(&net, "idle", &address);
    let mut busy = Client::connect(&net, "busy", &address);
    // Keepalive counts from what came last.
    idle.peer.ask("guard").expect("guarded");
    let answered = idle.peer.exchange();
    net.block();
    let wrote = now();
    busy.peer.ask("write 100").expect("wrote");
    // The one that dies first: when it did is known only while somebody waits for it.
    let hung_for = busy.await_death().since(wrote);
    let idle_for = idle.await_death().since(answered);

    let Some(told) = told else { return };
    for (name, value) in set {
        assert_eq!(setting(&told, &net.client, name).figure("value"), u64::from(value), "{name}");
    }
    let other = setting(&told, &net.server, "net.ipv4.tcp_keepalive_time");
    assert_eq!(other.figure("value"), 61);
    assert_eq!(other.get("change"), None, "{}", other.record);
    for (name, lasted) in [("net.ipv4.tcp_retries2", hung_for), ("net.ipv4.tcp_keepalive_time", idle_for)] {
        let foretold = setting(&told, &net.client, name).millis("after_ms");
        let tolerance = (foretold / 20).max(Duration::from_millis(250));
        assert_near(name, lasted, foretold, tolerance);
    }
    let queue = setting(&told, &net.client, "net.core.somaxconn");
    assert_eq!(queue.text("change"), Some("sysctl -w net.core.somaxconn=4096"));
}

/// What is told of a setting of a network namespace, which is told once.
#[track_caller]
fn setting<'a>(told: &'a [Line], namespace: &Namespace, name: &str) -> &'a Line {
    let mut found = told
        .iter()
        .filter(|line| line.text("name") == Some(name) && line.number("netns") == Some(namespace.inode()));
    let first = found.next().unwrap_or_else(|| panic!("no {name} of {} in {told:#?}", namespace.inode()));
    assert!(found.next().is_none(), "{name} is told twice");
    first
}

/// What doctor tells a pipeline; `None` in a dry run.
fn examine() -> Option<Vec<Line>> {
    if is_left_out() {
        return None;
    }
    let mut command = Command::new(program());
    let ended = command.args(["doctor", "-o", "json"]).stdin(Stdio::null()).output().expect("it starts");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), &*said), (Some(0), ""));
    let text = String::from_utf8(ended.stdout).expect("JSON is UTF-8");
    Some(text.lines().map(|line| Line::new(line, now())).collect())
}
