//! Idle connections and what would find out that one of them is dead: nothing, keepalive too late, or keepalive in time.

use std::thread::sleep;
use std::time::Duration;

use zsock_agent::time::Time;

use super::{Pair, assert_claim};
use crate::net::{Forgotten, Net};
use crate::story::{Connection, Line, assert_at, assert_near};
use crate::zsock::Zsock;

const IDLE: Duration = Duration::from_secs(2);

/// The gateway forgets after two seconds; keepalive, first after six, then every second, ends the server's side after eight.
pub(super) fn a_death_behind_a_gateway_is_noticed_when_foretold() {
    let net = Net::nat(2, Forgotten::Dropped);
    let zsock = Zsock::start_in(&net, &["unguarded_idle=2s"], &["--assume-idle-timeout", "3s"]);
    let mut pair = Pair::connect(&net, "sleeper", "server");
    pair.server.ask("keepalive 6 1 2").expect("set");
    zsock.wait_for_verdict(&net.server, pair.port, "unguarded_idle", "opened");
    let death = pair.server.ask("read 1");
    assert_eq!(death.expect("error"), "ETIMEDOUT");
    assert_near("death", death.at.since(pair.connected), Duration::from_secs(8), Duration::from_millis(300));

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let server = pair.server_end(&seen, &net);
    server.until("verdict unguarded_idle opened").assert_story(&[
        "state LISTEN SYN_RECV replayed",
        "state SYN_RECV ESTABLISHED replayed",
        "sample idle",
        "verdict unguarded_idle opened",
    ]);
    Connection { lines: server.of_type("verdict") }.assert_story(&[
        "verdict unguarded_idle opened",
        "verdict unguarded_idle closed spoke",
        "verdict keepalive_unanswered opened",
        "verdict keepalive_unanswered closed silent_death",
        "verdict silent_death closed",
    ]);
    let opened = server.only("verdict unguarded_idle opened");
    assert_idle(opened, &pair, pair.connected);
    let foretold = opened.ts().after(opened.millis("evidence.would_be_noticed_ms"));
    assert_at("the death", death.at, foretold, Duration::from_millis(150));
}

/// Without keepalive nothing would ever notice: three connections, and how it ends with each.
pub(super) fn without_keepalive_nothing_would_notice() {
    let net = Net::routed();
    let zsock = Zsock::start_in(&net, &["unguarded_idle=2s"], &["--assume-idle-timeout", "20s"]);
    let mut speaks = Pair::connect(&net, "speaker", "first-server");
    let mut leaves = Pair::connect(&net, "patient", "second-server");
    let mut resets = Pair::connect(&net, "aborter", "third-server");
    for pair in [&speaks, &leaves, &resets] {
        zsock.wait_for_verdict(&net.server, pair.port, "unguarded_idle", "opened");
    }
    let spoke = speaks.client.ask("write 100").at;
    leaves.server.ask("close").expect("closed");
    resets.client.ask("reset-on-close").expect("set");
    resets.client.ask("close").expect("closed");
    for (pair, outcome) in [(&speaks, "spoke"), (&leaves, "closed"), (&resets, "reset")] {
        zsock.wait_for_verdict(&net.server, pair.port, "unguarded_idle", outcome);
    }
    // It idles again, until its server has it guarded.
    zsock.wait_for("the second verdict", second_opening(&net, speaks.port));
    speaks.server.ask("keepalive 15 1 3").expect("set");
    zsock.wait_for_verdict(&net.server, speaks.port, "unguarded_idle", "guarded");

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let server = speaks.server_end(&seen, &net).of_verdict("unguarded_idle");
    server.assert_story(&[
        "verdict unguarded_idle opened",
        "verdict unguarded_idle closed spoke",
        "verdict unguarded_idle opened",
        "verdict unguarded_idle closed guarded",
    ]);
    assert_idle(server.lines[0], &speaks, speaks.connected);
    let closed = server.only("verdict unguarded_idle closed spoke");
    let idle = closed.millis("evidence.idle_ms");
    assert_near("idle", idle, spoke.since(speaks.connected), Duration::from_millis(200));
    for (pair, outcome) in [(&leaves, "closed"), (&resets, "reset")] {
        let server = pair.server_end(&seen, &net).of_verdict("unguarded_idle");
        let closed = format!("verdict unguarded_idle closed {outcome}");
        server.assert_story(&["verdict unguarded_idle opened", &closed]);
        assert_idle(server.lines[0], pair, pair.connected);
        assert_eq!(server.lines[0].get("evidence.would_be_noticed_ms"), None);
    }
}

/// One probes each second, the other will in time.
pub(super) fn a_guarded_connection_is_left_alone() {
    let net = Net::routed();
    let zsock = Zsock::start_in(&net, &["unguarded_idle=2s"], &["--assume-idle-timeout", "20s"]);
    let mut pairs = ["1 1 3", "15 1 3"].map(|settings| {
        let mut pair = Pair::connect(&net, "sleeper", "server");
        pair.server.ask(&format!("keepalive {settings}")).expect("set");
        pair
    });
    sleep(2 * IDLE);
    for pair in &mut pairs {
        pair.server.ask("close").expect("closed");
    }

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    for pair in &pairs {
        pair.server_end(&seen, &net).assert_story(&[""; 0]);
    }
}

/// Whether the server's end of a connection is found unguarded for the second time.
fn second_opening(net: &Net, port: u16) -> impl FnMut(&Line) -> bool {
    let (netns, port) = (net.server.inode(), format!(":{port}"));
    let mut was_closed = false;
    // It is asked of all lines from the first one each time.
    move |line| {
        was_closed &= line.text("type") != Some("start");
        let remote = line.text("socket.remote").unwrap_or_default();
        if line.text("verdict") != Some("unguarded_idle")
            || line.number("socket.netns") != Some(netns)
            || !remote.ends_with(&port)
        {
            return false;
        }
        was_closed |= line.text("phase") == Some("closed");
        was_closed && line.text("phase") == Some("opened")
    }
}

#[track_caller]
fn assert_idle(opened: &Line, pair: &Pair, last_heard: Time) {
    assert_claim(opened, last_heard, last_heard.after(IDLE));
    let idle = opened.millis("evidence.idle_ms");
    assert_near("idle", idle, opened.ts().since(last_heard), Duration::from_millis(200));
    assert_eq!(opened.number("socket.pid"), Some(u64::from(pair.server.pid())), "in {}", opened.record);
}
