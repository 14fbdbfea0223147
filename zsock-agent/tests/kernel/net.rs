//! Networks of namespaces: a client and a server, each behind one leg of a router that can drop what it forwards.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::linux::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};

/// Which addresses a connection uses.
#[derive(Clone, Copy)]
pub(crate) enum Ip {
    V4,
    V6,
    /// IPv4 through an IPv6 socket.
    Mapped,
}

impl Ip {
    /// The server's address as a client gives it to `connect`.
    pub(crate) fn server(self, port: u16) -> String {
        match self {
            Self::V4 => format!("10.77.2.2:{port}"),
            Self::V6 => format!("[fd77:2::2]:{port}"),
            Self::Mapped => format!("[::ffff:10.77.2.2]:{port}"),
        }
    }
}

/// What a NAT gateway does with a packet of a connection that it has forgotten.
#[derive(Clone, Copy)]
pub(crate) enum Forgotten {
    /// Nothing, as most cloud NAT gateways do.
    Dropped,
    /// Answers in the server's name with a reset.
    Reset,
}

/// Client, router and server.
pub(crate) struct Net {
    pub(crate) client: Namespace,
    pub(crate) router: Namespace,
    pub(crate) server: Namespace,
}

impl Net {
    /// A router that only forwards.
    pub(crate) fn routed() -> Self {
        Self::with_rules("", "")
    }

    /// A NAT gateway that forgets an idle connection after `idle_s` seconds.
    pub(crate) fn nat(idle_s: u32, forgotten: Forgotten) -> Self {
        let verdict = match forgotten {
            Forgotten::Dropped => "drop",
            Forgotten::Reset => "reject with tcp reset",
        };
        let net = Self::with_rules(&nat_forward_rules(verdict), &nat_chains(verdict));
        net.router.sysctl("net/netfilter/nf_conntrack_tcp_timeout_established", idle_s);
        net.router.sysctl("net/netfilter/nf_conntrack_tcp_loose", 0);
        net
    }

    fn with_rules(forward: &str, chains: &str) -> Self {
        let [client, router, server] = ["client", "router", "server"].map(Namespace::new);
        join(&client, "client0", 1, &router);
        join(&server, "server0", 2, &router);
        router.sysctl("net/ipv4/ip_forward", 1);
        router.sysctl("net/ipv6/conf/all/forwarding", 1);
        router.nft(&ruleset(forward, chains));
        Self { client, router, server }
    }

    /// Drops everything that the router should forward, both ways, without a word.
    pub(crate) fn block(&self) {
        self.router.nft("add rule inet gate block drop");
    }

    /// Drops everything on its way to the client.
    pub(crate) fn block_answers(&self) {
        self.router.nft("add rule inet gate block oifname \"client0\" drop");
    }

    /// Drops each packet towards the server with a chance of one in ten.
    pub(crate) fn lose_a_tenth(&self) {
        self.router.nft("add rule inet gate block oifname \"server0\" numgen random mod 100 < 10 drop");
    }

    /// Forwards everything again.
    pub(crate) fn unblock(&self) {
        self.router.nft("flush chain inet gate block");
    }
}

/// Hides the client behind the router's address. What the server sends to that address and no connection is known for gets `verdict`.
fn nat_chains(verdict: &str) -> String {
    format!(
        "chain leave {{ type nat hook postrouting priority 100; oifname \"server0\" masquerade; }}
         chain arrive {{ type filter hook input priority 0; iifname \"server0\" meta l4proto tcp {verdict}; }}"
    )
}

fn nat_forward_rules(verdict: &str) -> String {
    format!(
        "meta l4proto tcp ct state invalid {verdict}; tcp flags & (syn|ack) != syn ct state new {verdict};"
    )
}

fn ruleset(forward: &str, chains: &str) -> String {
    format!(
        "table inet gate {{
             chain block {{ }}
             chain forward {{ type filter hook forward priority 0; jump block; {forward} }}
             {chains}
         }}"
    )
}

/// What `nft` says of the rules that the scenarios need, if this kernel refuses them. Changes nothing.
pub(crate) fn refused_rules() -> Option<String> {
    ["drop", "reject with tcp reset"].into_iter().find_map(|verdict| {
        let forward = nat_forward_rules(verdict) + "numgen random mod 100 < 10 drop;";
        let rules = ruleset(&forward, &nat_chains(verdict));
        nft(&["--check", "-f", "-"], &rules).err().map(|why| format!("nft refuses the rules: {why}"))
    })
}

/// Removes the namespaces of test processes that no longer exist.
pub(crate) fn remove_those_of_the_dead() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("zt-").and_then(|rest| rest.split('-').next()) else { continue };
        if pid.parse::<u32>().is_ok() && !fs::exists(format!("/proc/{pid}")).unwrap_or(true) {
            // What `ip netns delete` does, for names of any bytes.
            let _ = umount2(&entry.path(), MntFlags::MNT_DETACH);
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A network namespace, removed with this value.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// A namespace with nothing but a loopback device.
    pub(crate) fn new(role: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("zt-{}-{}-{role}", id(), COUNT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name]);
        let namespace = Self { name };
        // Until duplicates of its own link-local address are ruled out, which takes two seconds, a router asks for no neighbour.
        namespace.sysctl("net/ipv6/conf/default/accept_dad", 0);
        ip(&["-n", &namespace.name, "link", "set", "lo", "up"]);
        namespace
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// The inode number that `socket.netns` shows.
    pub(crate) fn inode(&self) -> u64 {
        fs::metadata(self.path()).expect("the namespace exists as long as this value").st_ino()
    }

    /// It, open.
    pub(crate) fn file(&self) -> File {
        File::open(self.path()).expect("the namespace exists as long as this value")
    }

    /// Takes its mount away: from here on only processes show that it exists, and nobody else enters it.
    pub(crate) fn hide(&self) {
        umount2(&self.path(), MntFlags::MNT_DETACH).expect("root may unmount what it has mounted");
    }

    /// Runs `work` on a thread of its own inside this namespace.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = self.file();
        let inside = || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).expect("root may enter a network namespace");
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Sets one of `/proc/sys/KEY`.
    pub(crate) fn sysctl(&self, key: &str, value: u32) {
        let done = self.enter(|| fs::write(format!("/proc/sys/{key}"), value.to_string()));
        done.unwrap_or_else(|error| panic!("write {value} to /proc/sys/{key}: {error}"));
    }

    /// Makes the retransmission time-out of new IPv4 connections at least so long, as `ip-route(8)` writes it.
    pub(crate) fn raise_rto_min(&self, rto_min: &str) {
        let shown = Command::new("ip").args(["-n", &self.name, "route", "show", "default"]).output();
        let shown = shown.expect("`ip` was found at the start").stdout;
        let route = String::from_utf8(shown).expect("a route is ASCII");
        let change = ["-n", &self.name, "route", "change"].into_iter().chain(route.split_whitespace());
        ip(&change.chain(["rto_min", rto_min]).collect::<Vec<_>>());
    }

    fn nft(&self, script: &str) {
        self.enter(|| nft(&["-f", "-"], script)).unwrap_or_else(|why| panic!("nft {script}: {why}"));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Output and status are of no use here: the start of the next run removes what is left.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

/// Joins `end` to the router over the networks `10.77.NUMBER.0/24` and `fd77:NUMBER::/64`.
fn join(end: &Namespace, device: &str, number: u8, router: &Namespace) {
    let (end, router) = (&*end.name, &*router.name);
    ip(&["link", "add", device, "netns", end, "type", "veth", "peer", "name", device, "netns", router]);
    for (namespace, host) in [(router, 1), (end, 2)] {
        let v4 = format!("10.77.{number}.{host}/24");
        let v6 = format!("fd77:{number}::{host}/64");
        ip(&["-n", namespace, "address", "add", &v4, "dev", device]);
        ip(&["-n", namespace, "address", "add", &v6, "dev", device, "nodad"]);
        ip(&["-n", namespace, "link", "set", device, "up"]);
    }
    ip(&["-n", end, "route", "add", "default", "via", &format!("10.77.{number}.1")]);
    ip(&["-n", end, "route", "add", "default", "via", &format!("fd77:{number}::1")]);
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("`ip` was found at the start");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {said}", arguments.join(" "));
}

/// Feeds `script` to `nft`; returns what it complains of.
fn nft(arguments: &[&str], script: &str) -> Result<(), String> {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    // Where nft went away before it read all, its own words say why.
    let _ = child.stdin.take().map(|mut input| input.write_all(script.as_bytes()));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
