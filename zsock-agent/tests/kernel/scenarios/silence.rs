//! Requests and answers, and then a request that is read and not answered.

use std::thread::sleep;
use std::time::Duration;

use super::{Pair, assert_blocked, assert_claim, assert_owner};
use crate::net::Net;
use crate::story::{Connection, assert_near};
use crate::zsock::Zsock;

const SILENCE: Duration = Duration::from_secs(2);

pub(super) fn a_request_that_is_answered_late() {
    let net = Net::routed();
    let zsock = Zsock::start_in(&net, &["app_silence=2s"], &[]);
    let mut pair = Pair::connect(&net, "asker", "thinker");
    // Some exchanges a pass apart, then some within a few milliseconds.
    for _ in 0..3 {
        exchange(&mut pair, 1);
        sleep(Duration::from_millis(500));
    }
    exchange(&mut pair, 5);
    let asked = pair.client.ask("write 100").at;
    pair.server.ask("read 100").expect("read");
    pair.client.tell("poll");
    zsock.wait_for_verdict(&net.client, pair.port, "app_silence", "opened");
    pair.server.ask("write 100").expect("wrote");
    pair.client.reply().expect("ready");
    pair.client.ask("read 100").expect("read");
    zsock.wait_for_verdict(&net.client, pair.port, "app_silence", "answered");

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let client = pair.client_end(&seen, &net);
    client.assert_story(&[
        "state CLOSE SYN_SENT replayed",
        "state SYN_SENT ESTABLISHED replayed",
        "sample idle request",
        "verdict app_silence opened",
        "sample idle",
        "verdict app_silence closed answered",
    ]);
    client.assert_replayed_first(pair.connected);
    assert_owner(&client, pair.client.pid(), "asker");
    pair.server_end(&seen, &net).assert_story(&[""; 0]);
    let opened = client.only("verdict app_silence opened");
    assert_claim(opened, asked, asked.after(SILENCE));
    assert_blocked(opened, 1, "poll");
    let waiting = opened.millis("evidence.waiting_ms");
    assert_near("waiting", waiting, opened.ts().since(asked), Duration::from_millis(100));
    assert_eq!(opened.figure("evidence.answered_before"), 8);
    assert!(opened.millis("evidence.usual_ms") <= SILENCE / 10, "usual_ms in {}", opened.record);
}

/// A long poll, a connection that idles after an answer, the server's end of one whose client thinks long, and connections that are
/// opened to be asked.
pub(super) fn those_who_wait_for_nothing_or_always_long_are_left_alone() {
    let net = Net::routed();
    let zsock = Zsock::start_in(&net, &["app_silence=1s"], &[]);
    let mut poll = Pair::connect(&net, "poller", "publisher");
    let mut idle = Pair::connect(&net, "idler", "answerer");
    let mut pushed = Pair::connect(&net, "subscriber", "pusher");
    poll.client.ask("write 100").expect("wrote");
    poll.server.ask("read 100").expect("read");
    exchange(&mut idle, 5);
    // The server speaks last, and what it says is no request.
    exchange(&mut pushed, 5);
    pushed.server.ask("write 100").expect("wrote");
    pushed.client.ask("read 100").expect("read");
    // Opened to be asked: one acknowledges what is pushed to it, one answers what its server wants.
    let mut consumer = Pair::connect(&net, "consumer", "queue");
    let mut agent = Pair::connect(&net, "agent", "controller");
    exchange(&mut consumer, 5);
    agent.client.ask("write 10").expect("wrote");
    agent.server.ask("read 10").expect("read");
    for _ in 0..4 {
        sleep(Duration::from_millis(1100));
        ask_the_client(&mut consumer);
    }
    for _ in 0..5 {
        ask_the_client(&mut agent);
    }
    sleep(Duration::from_secs(4));
    poll.server.ask("write 100").expect("wrote");
    poll.client.ask("read 100").expect("read");

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    for pair in [&poll, &idle, &pushed, &consumer, &agent] {
        for end in [pair.client_end(&seen, &net), pair.server_end(&seen, &net)] {
            Connection { lines: end.of_type("verdict") }.assert_story(&[""; 0]);
        }
    }
}

/// What the server sends is read and answered by the client.
fn ask_the_client(pair: &mut Pair) {
    pair.server.ask("write 100").expect("wrote");
    pair.client.ask("read 100").expect("read");
    pair.client.ask("write 10").expect("wrote");
    pair.server.ask("read 10").expect("read");
}

/// So many requests of the client's, each answered at once.
fn exchange(pair: &mut Pair, count: u32) {
    pair.server.tell(&format!("answer {count}"));
    pair.client.ask(&format!("converse {count}")).expect("conversed");
    pair.server.reply().expect("answered");
}
