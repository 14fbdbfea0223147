//! Connections that idle for longer and shorter than a NAT gateway remembers them: its time-out lies between.

use std::thread::sleep;
use std::time::Duration;

use super::{Client, echo_server};
use crate::net::{Forgotten, Ip, Net};
use crate::story::Line;
use crate::zsock::Zsock;
use crate::{now, slowness};

const TIMEOUT_S: u32 = 4;
/// How long connections idle before they speak, seconds: those of the first row again and again, as long as the test takes, which
/// shows that the server is neither away nor another one; those of the second in vain.
const REMEMBERED_S: [u64; 2] = [2, 3];
const FORGOTTEN_S: [u64; 3] = [5, 6, 7];

pub(super) fn a_gateway_that_drops_what_it_forgot() {
    is_inferred(Forgotten::Dropped, "silence", "ETIMEDOUT");
}

pub(super) fn a_gateway_that_resets_what_it_forgot() {
    is_inferred(Forgotten::Reset, "reset", "ECONNRESET");
}

fn is_inferred(gateway: Forgotten, how: &str, errno: &str) {
    let net = Net::nat(TIMEOUT_S, gateway);
    let (_server, server_port) = echo_server(&net);
    let destination = Ip::V4.server(server_port);
    let zsock = Zsock::start(&["--threshold", "stale_reset=1s"]);
    let mut connect = |idle_s: u64| {
        let mut client = Client::connect(&net, &format!("idle-{idle_s}"), &destination);
        client.peer.ask("user-timeout 1000").expect("set");
        (idle_s, client)
    };
    let mut remembered = REMEMBERED_S.map(&mut connect);
    let mut forgotten = FORGOTTEN_S.map(&mut connect);
    let began = now();
    for second in 1..=FORGOTTEN_S[2] {
        // What the exchanges take does not add up.
        sleep(began.after(Duration::from_secs(second)).since(now()));
        for (_, client) in remembered.iter_mut().filter(|(idle_s, _)| second % idle_s == 0) {
            client.peer.exchange();
        }
        for (_, client) in forgotten.iter_mut().filter(|(idle_s, _)| second == *idle_s) {
            client.peer.ask("write 100").expect("wrote");
        }
    }
    for (_, client) in &mut forgotten {
        assert_eq!(client.peer.ask("read 1").expect("error"), errno);
    }
    zsock.wait_for("both bounds", |line| {
        line.text("destination") == Some(&*destination)
            && line.number("evidence.survived_ms").is_some_and(|survived| survived >= 3000)
    });

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let verdicts = seen.of_destination(&destination).of_verdict("idle_timeout_inferred");
    verdicts.assert_story(&["verdict idle_timeout_inferred opened"]);
    for verdict in &verdicts.lines {
        assert_holds_the_timeout(verdict, how);
    }
    let last = verdicts.lines.last().expect("it opened");
    let bounds = [last.figure("evidence.survived_ms"), last.figure("evidence.died_after_ms")];
    let tolerance = 250 * u64::from(slowness());
    assert!((3000..3000 + tolerance).contains(&bounds[0]), "{}", last.record);
    assert!((5000 - 50..5000 + tolerance).contains(&bounds[1]), "{}", last.record);
}

#[track_caller]
fn assert_holds_the_timeout(verdict: &Line, how: &str) {
    let timeout_ms = u64::from(TIMEOUT_S) * 1000;
    assert_eq!(verdict.text("evidence.how"), Some(how), "in {}", verdict.record);
    assert!(verdict.figure("evidence.died_after_ms") >= timeout_ms, "{}", verdict.record);
    let survived = verdict.number("evidence.survived_ms");
    assert!(survived.is_none_or(|survived| survived <= timeout_ms), "{}", verdict.record);
    assert!(verdict.figure("evidence.deaths") >= 2, "{}", verdict.record);
    assert_eq!(verdict.get("socket"), None, "in {}", verdict.record);
    for field in ["summary", "advice"] {
        let text = verdict.get(field).map(ToString::to_string);
        assert!(text.is_some_and(|text| text.len() > 4), "{field} of {}", verdict.record);
    }
}
