//! A pool of connections to a real `PostgreSQL`, behind a NAT gateway that forgets them while they idle.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, id};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};

use super::{assert_blocked, assert_owner, assert_prompt};
use crate::await_some;
use crate::net::{Forgotten, Ip, Namespace, Net};
use crate::peer::Peer;
use crate::proc::await_timeouts;
use crate::story::Connection;
use crate::zsock::Zsock;

const PORT: u16 = 5432;
/// How long it may take to start. No claim: the machine may be slow.
const LIMIT: Duration = Duration::from_secs(30);
/// The user that its package makes: it refuses to run as root.
const USER: &str = "postgres";

/// The query goes into the void; its connection and the one that idles on are both dead for the server.
pub(super) fn a_pool_behind_a_gateway_that_forgets() {
    let net = Net::nat(2, Forgotten::Dropped);
    let database = Database::start(&net.server);
    let zsock = Zsock::start_in(&net, &["unguarded_idle=3s"], &[]);
    let mut client = Peer::start(&net.client, "pool");
    let pooled = client.ask(&format!("pool {} 2", Ip::V4.server(PORT)));
    let members: Vec<(u16, u32)> = pooled.expect("pooled").split(',').filter_map(member).collect();
    let [(port, backend), (idle_port, idle_backend)] = members[..] else { panic!("{pooled:?}") };
    for port in [port, idle_port] {
        zsock.wait_for_verdict(&net.server, port, "unguarded_idle", "opened");
    }
    sleep(Duration::from_secs(4));
    client.tell("query");
    await_timeouts(&net.client, port, 4);
    zsock.wait_for_verdict(&net.client, port, "stuck_retransmission", "opened");

    let Some(seen) = zsock.stop() else { return };
    let seen = seen.complete();
    let hung = seen.of_local_port(&net.client, port);
    let stuck = hung.of_verdict("stuck_retransmission");
    stuck.assert_story(&["verdict stuck_retransmission opened"]);
    let stuck = stuck.lines[0];
    assert_owner(&Connection { lines: vec![stuck] }, client.pid(), "pool");
    assert_prompt(stuck, hung.only("retransmit rto 4"));
    assert_blocked(stuck, 1, "recvfrom");
    let advice = stuck.get("advice").map(ToString::to_string).unwrap_or_default();
    assert!(advice.contains("TCP_USER_TIMEOUT") && advice.contains("pool"), "advice in {}", stuck.record);

    // PostgreSQL turns keepalive on and leaves its times to the kernel: two hours, and eleven minutes of probes.
    for (port, backend) in [(port, backend), (idle_port, idle_backend)] {
        let server = seen.of_remote_port(&net.server, port).of_verdict("unguarded_idle");
        server.assert_story(&["verdict unguarded_idle opened"]);
        assert_owner(&server, backend, "postgres");
        let noticed = server.lines[0].millis("evidence.would_be_noticed_ms");
        // The kernel's timers of hours are late by as much as two minutes, and it knows it.
        assert!((7860..8030).contains(&noticed.as_secs()), "{noticed:?} in {}", server.lines[0].record);
    }
    drop(database);
}

/// Why these scenarios cannot be played here, if they cannot.
pub(super) fn lacking() -> Option<String> {
    if programs().is_none() {
        return Some("needs PostgreSQL's programs in /usr/lib/postgresql/*/bin".to_owned());
    }
    let user = User::from_name(USER).ok().flatten();
    user.is_none().then(|| format!("needs a user {USER:?} to run PostgreSQL"))
}

/// The port of a pooled connection and the process that serves it.
fn member(text: &str) -> Option<(u16, u32)> {
    let (port, backend) = text.split_once(':')?;
    Some((port.parse().ok()?, backend.parse().ok()?))
}

/// Where Debian puts `initdb` and `postgres`; of several versions the last one.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("postgres").is_file()).max()
}

/// A `PostgreSQL` server with a cluster of its own, both gone with this value.
struct Database {
    server: Child,
    directory: PathBuf,
}

impl Database {
    fn start(namespace: &Namespace) -> Self {
        let programs = programs().expect("the scenario is skipped without");
        let user = User::from_name(USER).ok().flatten().expect("the scenario is skipped without");
        let directory = std::env::temp_dir().join(format!("zt-{}-postgres", id()));
        fs::create_dir(&directory).expect("a directory for the cluster can be made");
        chown(&directory, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("root may give it away");
        let command = |program: &str| {
            let mut command = Command::new(programs.join(program));
            command.arg("-D").arg(&directory).current_dir(&directory);
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).stdin(Stdio::null());
            command
        };
        let mut initdb = command("initdb");
        let made = initdb.args(["-U", USER, "-A", "trust", "-N"]).output().expect("initdb was found");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        allow_clients(&directory);
        let mut server = command("postgres");
        server.args(["-p", &PORT.to_string(), "-c", "listen_addresses=*", "-c", "unix_socket_directories="]);
        server.stdout(Stdio::null()).stderr(Stdio::null());
        let server = namespace.enter(|| server.spawn().expect("postgres was found"));
        let database = Self { server, directory };
        // It listens before it lets anybody in; the last line of this file says when it does.
        let status = database.directory.join("postmaster.pid");
        await_some("PostgreSQL to be ready", LIMIT, || {
            fs::read_to_string(&status).ok()?.lines().last().filter(|line| line.trim() == "ready").map(|_| ())
        });
        database
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // SIGQUIT ends it and its children at once. It may have ended by itself; then there is nothing to do.
        let _ = kill(Pid::from_raw(self.server.id().cast_signed()), Signal::SIGQUIT);
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Lets clients in from everywhere.
fn allow_clients(directory: &Path) {
    let file = directory.join("pg_hba.conf");
    fs::write(&file, "host all all all trust\n").expect("root may write everywhere");
}
