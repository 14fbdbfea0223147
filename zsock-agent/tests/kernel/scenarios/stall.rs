//! A server that stops reading: its peer is told no window, and its own process is told of what it leaves unread.

use std::thread::sleep;
use std::time::Duration;

use super::{Pair, assert_claim, assert_owner, assert_prompt};
use crate::net::{Ip, Net};
use crate::peer::Peer;
use crate::proc::await_closed_window;
use crate::story::{Connection, Line};
use crate::zsock::Zsock;

const STALL: Duration = Duration::from_secs(2);

/// The window is probed after 0.2, 0.6 and 1.4 s; what is unread is judged after two seconds and more: the second verdict.
pub(super) fn a_server_that_stops_reading() {
    let net = Net::routed();
    let zsock = Zsock::start_in(&net, &["receiver_stall=2s"], &[]);
    let mut pair = Pair::connect(&net, "writer", "hoarder");
    let wrote = pair.client.ask("write-all");
    let bytes = wrote.expect("wrote");
    await_closed_window(&net.client, pair.port);
    zsock.wait_for_verdict(&net.client, pair.port, "zero_window_stall", "opened");
    zsock.wait_for_verdict(&net.server, pair.port, "receiver_stall", "opened");
    let read = pair.server.ask(&format!("read {bytes}"));
    assert_eq!(read.expect("read"), bytes);
    zsock.wait_for_verdict(&net.client, pair.port, "zero_window_stall", "opened_window");
    zsock.wait_for_verdict(&net.server, pair.port, "receiver_stall", "read");

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let mut client = pair.client_end(&seen, &net);
    // Whether the server's buffer still takes the last segments that its window had promised is a race.
    client.lines.retain(|line| line.text("type") != Some("retransmit"));
    client.until("verdict zero_window_stall opened").assert_story(&[
        "state CLOSE SYN_SENT replayed",
        "state SYN_SENT ESTABLISHED replayed",
        "zero_window_probe 1",
        "zero_window_probe 2",
        "zero_window_probe 3",
        "verdict zero_window_stall opened",
    ]);
    Connection { lines: client.of_type("verdict") }.assert_story(&[
        "verdict zero_window_stall opened",
        "verdict zero_window_stall closed opened_window",
    ]);
    let server = pair.server_end(&seen, &net);
    server.assert_story(&[
        "state LISTEN SYN_RECV replayed",
        "state SYN_RECV ESTABLISHED replayed",
        "sample idle unread",
        "verdict receiver_stall opened",
        "sample idle",
        "verdict receiver_stall closed read",
    ]);

    let stalled = client.only("verdict zero_window_stall opened");
    assert_prompt(stalled, client.only("zero_window_probe 3"));
    assert_claim(stalled, wrote.at, client.only("zero_window_probe 3").ts());
    assert_owner(&Connection { lines: vec![stalled] }, pair.client.pid(), "writer");
    assert_eq!((stalled.figure("evidence.probes"), stalled.figure("tcp.send_window_bytes")), (3, 0));
    let unread = server.only("verdict receiver_stall opened");
    assert_claim(unread, wrote.at, wrote.at.after(STALL).after(Duration::from_secs(1)));
    assert_owner(&Connection { lines: vec![unread] }, pair.server.pid(), "hoarder");
    let [here, there, under_way] = [
        (unread, "evidence.unread_bytes"),
        (stalled, "evidence.unsent_bytes"),
        (stalled, "tcp.unacked_bytes"),
    ]
    .map(|(verdict, path)| verdict.figure(path));
    assert_eq!((here + there + under_way).to_string(), bytes, "{}\n{}", unread.record, stalled.record);

    assert_names(unread, "writer", pair.client.pid(), stalled);
    let updated = client.of_verdict("zero_window_stall");
    let updated = updated.lines.iter().find(|line| line.get("evidence.peer_process").is_some());
    let updated = updated.unwrap_or_else(|| panic!("no peer in {:#?}", client.lines));
    assert_eq!(updated.text("phase"), Some("updated"));
    assert_names(updated, "hoarder", pair.server.pid(), unread);
}

/// The window closes again and again, and each time it opens before the third probe.
pub(super) fn a_slow_reader_is_left_alone() {
    const BYTES: u32 = 40_000;
    const TIMES: u32 = 20;
    let net = Net::routed();
    let zsock = Zsock::start_in(&net, &["receiver_stall=2s"], &[]);
    let mut pair = Pair::connect(&net, "writer", "slow-reader");
    // A window opens once a sixteenth of the buffer is free: each sip is more than that.
    pair.server.ask("receive-buffer 100000").expect("set");
    // Before it is accepted nobody could read it.
    let mut late = Peer::start(&net.server, "late");
    let mut early = Peer::start(&net.client, "early");
    let late_port = late.listen();
    early.ask(&format!("connect {}", Ip::V4.server(late_port))).expect("connected");
    early.ask("write 100").expect("wrote");
    // Sipped at once and to the end, so that the window is closed for no longer than the sips leave it.
    pair.client.tell("write 4000000");
    let sipped = pair.server.ask(&format!("sip {BYTES} {TIMES}"));
    assert!(
        sipped.expect("sipped").parse::<u32>().is_ok_and(|bytes| bytes > BYTES * TIMES / 2),
        "{sipped:?}"
    );
    pair.server.tell(&format!("sip {BYTES} {}", 3 * TIMES));
    await_closed_window(&net.client, pair.port);

    late.ask("accept").expect("accepted");
    sleep(Duration::from_millis(1200));
    late.ask("read 100").expect("read");

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    for end in [
        seen.of_local_port(&net.server, late_port),
        pair.client_end(&seen, &net),
        pair.server_end(&seen, &net),
    ] {
        Connection { lines: end.of_type("verdict") }.assert_story(&[""; 0]);
    }
}

/// Checks that a verdict names the process at the connection's other end, and its socket.
#[track_caller]
fn assert_names(verdict: &Line, comm: &str, pid: u32, peer: &Line) {
    let named = verdict.text("evidence.peer_process").unwrap_or_default();
    let (comm, pid) = (named.contains(comm), named.contains(&pid.to_string()));
    assert!(comm && pid, "evidence.peer_process in {}", verdict.record);
    assert_eq!(verdict.text("evidence.peer_socket"), peer.text("socket.id"), "in {}", verdict.record);
}
