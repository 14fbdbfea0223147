//! A real Redis client that waits for messages from a real Redis server.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread::{self, sleep};
use std::time::Duration;

use super::act::{settings, zsock};
use crate::net::{Ip, Net};
use crate::peer::Peer;
use crate::story::assert_near;
use crate::{await_some, now};

const PORT: u16 = 6379;
/// The server by its second name: it is whichever of the two it is called by. Debian's package with the first name starts one for the host.
const SERVER: &str = "redis-check-rdb";
/// How long either may take to start. No claim: the machine may be slow.
const LIMIT: Duration = Duration::from_secs(30);

/// `redis-cli` guards its connections itself, which other clients do not, so that is taken away first; from then on nothing would tell it.
pub(super) fn a_subscriber_learns_of_the_death_of_its_server() {
    let net = Net::routed();
    let _server = Killed(net.server.enter(|| {
        let mut server = Command::new(SERVER);
        server.arg0("redis-server").args([
            "--port",
            &PORT.to_string(),
            "--save",
            "",
            "--protected-mode",
            "no",
        ]);
        quiet(&mut server).stdout(Stdio::null()).spawn().expect("redis-server was found")
    }));
    let mut probe = Peer::start(&net.client, "probe");
    await_some("Redis to listen", LIMIT, || {
        let reply = probe.ask(&format!("connect {}", Ip::V4.server(PORT)));
        reply.is("connected").then_some(()).or_else(|| {
            // The socket of a refused connection is of no more use.
            probe.ask("close").expect("closed");
            None
        })
    });
    let mut client = net.client.enter(|| {
        let mut client = Command::new("redis-cli");
        client.args(["-h", "10.77.2.2", "-p", &PORT.to_string(), "SUBSCRIBE", "news"]);
        Killed(
            quiet(&mut client)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("redis-cli was found"),
        )
    });
    let mut output = BufReader::new(client.0.stdout.take().expect("stdout is piped"));
    let mut subscribed = String::new();
    output.read_line(&mut subscribed).expect("a pipe can be read");
    assert_eq!(subscribed, "subscribe\n");
    let pid = client.0.id().to_string();
    let Some(off) = zsock(&["keepalive", "--pid", &pid, "--remote", ":6379", "--off", "--yes"]) else {
        return;
    };
    assert!(settings(off.only(), "after").starts_with("false,"), "in {}", off.only().record);

    net.block();
    let mut errors = client.0.stderr.take().expect("stderr is piped");
    let (send, ended) = channel();
    let reader = thread::spawn(move || {
        let mut said = String::new();
        // What could be read before an error is all that there is to tell.
        let _ = errors.read_to_string(&mut said);
        // The test may have given up.
        let _ = send.send((said, now()));
    });
    sleep(Duration::from_secs(5));
    assert!(ended.try_recv().is_err(), "the client does not know of the death");
    let guard = [
        "keepalive",
        "--pid",
        &pid,
        "--remote",
        ":6379",
        "--idle",
        "1s",
        "--interval",
        "1s",
        "--probes",
        "3",
        "--yes",
    ];
    let set = zsock(&guard).expect("this is no dry run");
    assert_eq!(settings(set.only(), "after"), "true,1000,1000,3,0");
    let (said, at) = ended.recv_timeout(LIMIT).expect("the client learns of the death of its server");
    reader.join().expect("the reader does not panic");
    // What its library makes of ETIMEDOUT on a read.
    assert_eq!(said, "Error: recv timeout\n");
    assert_near("death", at.since(set.only().ts()), Duration::from_secs(3), Duration::from_millis(400));
}

/// Why this cannot be played here, if it cannot.
pub(super) fn lacking() -> Option<String> {
    let lacks = |program: &&str| Command::new(program).arg("--version").output().is_err();
    let missing = [SERVER, "redis-cli"].into_iter().find(lacks)?;
    Some(format!("needs Redis: there is no `{missing}`"))
}

/// What it says ends up nowhere, but for stdout, and it writes nothing of its own.
fn quiet(command: &mut Command) -> &mut Command {
    let null = File::options().write(true).open("/dev/null").expect("every Linux has it");
    command.current_dir(std::env::temp_dir()).stdin(Stdio::null()).stderr(null)
}

/// A process that ends with this value.
pub(super) struct Killed(pub(super) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
