//! Each way to attach a hook tells the same of the same packets: one zsock for each way that this kernel offers, side by side.

use std::collections::BTreeSet;
use std::path::Path;

use zsock_agent::source::btf::{Types, VMLINUX};
use zsock_agent::source::kernel::hooks;

use super::{Client, Pair, echo_server};
use crate::net::{Ip, Net};
use crate::peer::Peer;
use crate::proc::{await_closed_window, await_probes};
use crate::story::{Line, Recording};
use crate::zsock::Zsock;

/// The keepalive timer, its answer, the persist timer and the end by a timer.
pub(super) fn to_follow_the_timers() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let sides = Side::start_all(&["keepalive", "persist"], &all_events(&net));
    let mut client = Client::connect(&net, "idle-client", &Ip::V4.server(server_port));
    let mut writer = Pair::connect(&net, "writer", "hoarder");
    let bytes = writer.client.ask("write-all").expect("wrote").to_owned();
    await_closed_window(&net.client, writer.port);
    for side in &sides {
        side.zsock.wait_for_verdict(&net.client, writer.port, "zero_window_stall", "opened");
    }
    writer.server.ask(&format!("read {bytes}")).expect("read");
    net.block();
    client.peer.ask("keepalive 1 1 5").expect("set");
    await_probes(&net.client, client.port, 2);
    net.unblock();
    await_probes(&net.client, client.port, 0);
    net.block();
    client.await_death();

    let told = Side::stop_all(sides, |seen| {
        let both = [client.port, writer.port].map(|port| seen.of_local_port(&net.client, port).lines);
        events(&both.concat())
    });
    let Some(told) = told else { return };
    for needed in ["keepalive", "keepalive_answered", "zero_window_probe", "verdict"] {
        assert!(told.iter().any(|event| event.starts_with(needed)), "no {needed} in {told:#?}");
    }
}

/// A server with too few descriptors, whose accepts fail.
pub(super) fn to_see_accepts_fail() {
    const LIMIT: usize = 40;
    let net = Net::routed();
    let sides = Side::start_all(&["accept_failed"], &[]);
    let mut server = Peer::start(&net.server, "full-server");
    server.ask(&format!("nofile {LIMIT}")).expect("set");
    let port = server.listen();
    let mut clients = Peer::start(&net.client, "clients");
    clients.ask(&format!("dial {} {LIMIT}", Ip::V4.server(port))).expect("dialled");
    assert_eq!(server.ask("accept-all").expect("error"), "EMFILE");
    for side in &sides {
        side.zsock.wait_for("the failure", |line| {
            line.text("type") == Some("accept_failed")
                && line.number("socket.pid") == Some(server.pid().into())
        });
    }

    Side::stop_all(sides, |seen| events(&seen.of_listener(&net.server, port).of_type("accept_failed")));
}

/// Sockets known by cookie and by address: births, ends, an error, trouble and an orphan.
pub(super) fn to_know_a_socket() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let address = Ip::V4.server(server_port);
    let mut old = Client::connect(&net, "older", &address);
    let sides = Side::start_all(&["sockets"], &all_events(&net));
    let mut brief = Client::connect(&net, "brief", &address);
    brief.peer.ask("close").expect("closed");
    let mut stuck = Client::connect(&net, "stuck", &address);
    net.block();
    for client in [&mut old, &mut stuck] {
        client.peer.ask("user-timeout 2500").expect("set");
        client.peer.ask("write 100").expect("wrote");
    }
    stuck.await_death();
    old.await_death();

    let told = Side::stop_all(sides, |seen| {
        let ports = [old.port, brief.port, stuck.port];
        events(&ports.map(|port| seen.of_local_port(&net.client, port).lines).concat())
    });
    let Some(told) = told else { return };
    assert!(told.iter().any(|event| event.starts_with("verdict silent_death")), "{told:#?}");
}

/// Options for every event of the sockets in `net`.
fn all_events(net: &Net) -> Vec<String> {
    let namespaces = [&net.client, &net.server].map(|namespace| format!("--netns={}", namespace.inode()));
    ["--events=all".to_owned()].into_iter().chain(namespaces).collect()
}

/// One zsock, with every hook in question attached in one way.
struct Side {
    way: String,
    zsock: Zsock,
}

impl Side {
    /// Starts one for each way that any of these hooks has and this kernel offers for all of them.
    fn start_all(hooks: &[&str], options: &[String]) -> Vec<Self> {
        let known = std::iter::once(&hooks::SOCKETS).chain(hooks::ALL);
        let ways: BTreeSet<&str> = known
            .filter(|hook| hooks.contains(&hook.name))
            .flat_map(|hook| hook.rungs)
            .map(|rung| rung.name)
            .collect();
        let mut sides = Vec::new();
        for way in ways {
            let choices: Vec<String> = hooks.iter().map(|hook| format!("{hook}={way}")).collect();
            let chosen = choices.iter().flat_map(|choice| ["--hooks", choice]);
            let all = options.iter().map(String::as_str).chain(chosen).collect::<Vec<_>>();
            match Zsock::start_if_offered(&all) {
                Ok(zsock) => sides.push(Self { way: choices.join(" "), zsock }),
                Err(why) => {
                    assert!(!is_expected(way), "this kernel should offer {choices:?}: {why}");
                    println!("not offered here: {}: {why}", choices.join(" "));
                }
            }
        }
        assert!(!sides.is_empty(), "this kernel offers no way to attach {hooks:?}");
        sides
    }

    /// Stops all, and checks that `told` finds the same in what each of them wrote. Returns that; `None` in a dry run.
    fn stop_all(sides: Vec<Self>, told: impl Fn(&Recording) -> Vec<String>) -> Option<Vec<String>> {
        let mut first: Option<(String, Vec<String>)> = None;
        for Self { way, zsock } in sides {
            let seen = zsock.stop()?.complete_beside_others();
            let found = told(&seen);
            assert!(!found.is_empty(), "{way} told nothing");
            println!("{way}: {} records", found.len());
            match &first {
                None => first = Some((way, found)),
                Some((other, expected)) => {
                    assert!(
                        *expected == found,
                        "{other} told\n    {}\nbut {way} told\n    {}",
                        expected.join("\n    "),
                        found.join("\n    ")
                    );
                }
            }
        }
        first.map(|(_, told)| told)
    }
}

/// Whether this kernel has what the way needs, told by other means than trying it.
fn is_expected(way: &str) -> bool {
    let types = Types::read(Path::new(VMLINUX)).expect("a kernel that zsock runs on shows its types");
    // One with kprobes has what fentry needs as well; without them it may be either.
    let has_probes = Path::new("/sys/bus/event_source/devices/kprobe").exists();
    let has_registers = types.has_function("bpf_task_pt_regs");
    match way {
        "timer" | "address" | "sys_exit" => true,
        "cookie" => types.has_function("bpf_get_socket_ptr_cookie"),
        "tracepoint" => has_registers,
        "kretprobe" => has_probes && has_registers,
        "fentry" | "fexit" | "kprobe" => has_probes,
        unknown => panic!("say what {unknown} needs"),
    }
}

/// Records as they are told, with whose they are; without what depends on the moment of a pass.
fn events(lines: &[&Line]) -> Vec<String> {
    let lasting = lines
        .iter()
        .filter(|line| line.text("type") != Some("sample") && line.text("phase") != Some("updated"));
    lasting
        .map(|line| {
            format!("{} of {:?} {:?}", line.told(), line.text("socket.comm"), line.number("socket.pid"))
        })
        .collect()
}
