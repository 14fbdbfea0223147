//! Selectors: of two connections the one that is named, by each kind of selector.

use super::echo_server;
use crate::net::{Ip, Net};
use crate::peer::Peer;
use crate::proc::await_only_listener;
use crate::zsock::Zsock;

/// Two clients of two servers; every selector names the first client's connection.
pub(super) fn each_kind_selects_by_what_it_names() {
    let net = Net::routed();
    let (_first_server, first_port) = echo_server(&net);
    let (_second_server, second_port) = echo_server(&net);
    let mut first = Peer::start(&net.client, "first-client");
    let mut second = Peer::start(&net.client, "second-client");
    let first_pid = first.pid().to_string();
    let first_remote = Ip::V4.server(first_port);
    let client_netns = net.client.inode().to_string();
    let first_port_text = first_port.to_string();
    let first_end = format!(":{first_port}");
    let selectors: [&[&str]; 6] = [
        &["--port", &first_port_text],
        &["--remote", &first_remote],
        &["--pid", &first_pid],
        &["--comm", "first-client"],
        &["--netns", &client_netns, "--port", &first_port_text],
        &["--local", "10.77.1.0/24", "--remote", &first_end],
    ];
    for selector in selectors {
        let arguments: Vec<&str> = ["--events", "all"].iter().chain(selector).copied().collect();
        let zsock = Zsock::start(&arguments);
        let port = first.connect(&first_remote);
        first.exchange();
        first.ask("close").expect("closed");
        second.connect(&Ip::V4.server(second_port));
        second.exchange();
        second.ask("close").expect("closed");
        await_only_listener(&net.server, first_port);
        await_only_listener(&net.server, second_port);

        let Some(seen) = zsock.stop() else { continue };
        let seen = seen.complete();
        // Without a port of its own a connection is not known to be selected by its local end yet.
        let mut client = seen.of_local_port(&net.client, port);
        client.lines.retain(|line| line.text("to") != Some("SYN_SENT"));
        client.assert_story(&[
            "state SYN_SENT ESTABLISHED",
            "state ESTABLISHED FIN_WAIT1",
            "state FIN_WAIT1 FIN_WAIT2",
            "state FIN_WAIT2 CLOSE",
            "closed peer_closed",
        ]);
        let others = seen.of_remote_port(&net.client, second_port);
        assert!(others.lines.is_empty(), "{selector:?} leaves out the second client's connection");
    }
}
