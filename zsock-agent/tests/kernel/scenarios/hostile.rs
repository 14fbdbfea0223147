//! Names that want to be no part of the output: of processes, control groups, hosts and network namespaces.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::id;
use std::thread;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::sethostname;
use zsock_agent::record::printable;

use super::{Client, echo_server};
use crate::bytes::Bytes;
use crate::net::{Ip, Net};
use crate::now;
use crate::proc::await_timeouts;
use crate::story::Line;

/// Escape sequences, line ends, quotes, markup, C1 controls, bytes that are not UTF-8, directions of writing and line separators.
const NAMES: [&[u8]; 3] = [
    b"\x1b[2J\x07\r\n\"'\\x",
    b"<script>&\xff\xc3\x9b31m",
    "\u{9b}31m\u{85}\u{202e}\u{2028}\u{61c}".as_bytes(),
];

/// No line end: the kernel lets no control group have one.
const GROUP: &[u8] = b"\x1b]0;owned\x07 \"'\\<script>\xff\xc2\x9b31m\xe2\x80\xae";

pub(super) fn names_of_processes_hosts_and_namespaces_reach_no_terminal() {
    for (number, name) in NAMES.into_iter().enumerate() {
        tell_of_trouble(name, None, number == 1);
    }
}

pub(super) fn names_of_control_groups_reach_no_terminal() {
    let group = Group::make(GROUP).unwrap_or_else(|why| panic!("{why}"));
    let with_line_end = group.directory.join("a\nb");
    let refused =
        fs::create_dir(with_line_end).expect_err("a kernel that takes it needs a name with one in GROUP");
    assert_eq!(refused.raw_os_error(), Some(Errno::EINVAL as i32));
    tell_of_trouble(b"in-a-group", Some(&group), false);
}

/// Why no control group can be made here, if so. The other scenario needs none.
pub(super) fn lacking(name: &str) -> Option<String> {
    let needs_group = name.ends_with("names_of_control_groups_reach_no_terminal");
    needs_group.then(|| Group::make(b"probe").err()).flatten()
}

/// A connection whose process is called so gets into trouble; zsock tells it in JSON, in text with all that it has to say of itself, and
/// selected by these very names.
fn tell_of_trouble(name: &[u8], group: Option<&Group>, is_host_hostile: bool) {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let mut client = Client::connect(&net, "plain", &Ip::V4.server(server_port));
    client.peer.ask(&format!("call-yourself {}", hex(name))).expect("called");
    if let Some(group) = group {
        group.take_in(client.peer.pid());
    }
    let shown_name = String::from_utf8_lossy(name).into_owned();
    let namespace = HostileNamespace::mount(client.peer.pid(), name);
    let path = namespace.path.as_os_str();

    let common = ["--threshold", "stuck_retransmission=2", "--netns"].map(OsStr::new);
    let with = |more: &[&str]| -> Vec<OsString> {
        common.iter().copied().chain([path]).chain(more.iter().map(OsStr::new)).map(OsString::from).collect()
    };
    let mut selected = vec!["-o", "json", "--comm", &shown_name];
    let shown_group = group.map(Group::shown);
    selected.extend(shown_group.iter().flat_map(|group| ["--cgroup", group]));
    let arguments = [with(&["-o", "json"]), with(&["--color", "never", "-vv"]), with(&selected)];
    let running = arguments.map(|arguments| on_a_host(is_host_hostile, || Bytes::start(&arguments)));
    net.block();
    client.peer.ask("write 100").expect("wrote");
    await_timeouts(&net.client, client.port, 2);
    for zsock in running.iter().flatten() {
        zsock.wait_for("the verdict", "stuck_retransmission opened", "\"verdict\":\"stuck_retransmission\"");
    }
    let [Some(json), Some(text), Some(selected)] =
        running.map(|zsock| zsock.map(|it| it.stop_with(&[Signal::SIGINT])))
    else {
        return;
    };

    for left in [&json, &text, &selected] {
        left.assert_in_order();
        assert_shows(&left.stdout);
        assert_shows(&left.stderr);
    }
    assert!(!text.stderr.is_empty(), "-vv has something to say");
    for left in [&json, &selected] {
        assert_names(&left.stdout, name, shown_group.as_deref(), client.peer.pid(), is_host_hostile);
    }
    let told = String::from_utf8(text.stdout).expect("text is UTF-8");
    let whose = format!("{}[{}]", printable(&shown_name), client.peer.pid());
    assert!(told.contains(&whose), "no {whose} in {told}");
    if let Some(group) = &shown_group {
        let group = format!("cgroup {}", printable(group));
        assert!(told.contains(&group), "no {group} in {told}");
    }
}

/// Checks that nothing but line ends is there that a terminal obeys or does not show.
#[track_caller]
fn assert_shows(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).expect("zsock writes UTF-8");
    for line in text.split('\n') {
        assert_eq!(printable(line), line);
    }
}

/// Checks that each line is JSON and names the process, its control group and the host as documented.
#[track_caller]
fn assert_names(stdout: &[u8], name: &[u8], group: Option<&str>, pid: u32, is_host_hostile: bool) {
    let text = std::str::from_utf8(stdout).expect("JSON is UTF-8");
    let lines: Vec<Line> = text.lines().map(|line| Line::new(line, now())).collect();
    assert!(lines.iter().all(|line| line.record.is_object()), "a line that is no JSON in {text}");
    let of_socket: Vec<_> = lines.iter().filter(|line| line.get("socket").is_some()).collect();
    assert!(of_socket.iter().any(|line| line.text("type") == Some("verdict")), "no verdict in {text}");
    let shown = String::from_utf8_lossy(name);
    let bytes = std::str::from_utf8(name).is_err().then(|| hex(name));
    for line in of_socket {
        assert_eq!(line.number("socket.pid"), Some(pid.into()), "in {}", line.record);
        assert_eq!(line.text("socket.comm"), Some(&*shown), "in {}", line.record);
        assert_eq!(line.text("socket.comm_hex"), bytes.as_deref(), "in {}", line.record);
        if group.is_some() {
            assert_eq!(line.text("socket.cgroup"), group, "in {}", line.record);
        }
    }
    let host = String::from_utf8_lossy(NAMES[0]);
    let is_told = lines.iter().all(|line| line.text("host") == Some(&*host));
    assert_eq!(is_told, is_host_hostile, "the host's name in {text}");
}

/// Does `start` where the host has a name of this kind.
fn on_a_host<T: Send>(is_hostile: bool, start: impl FnOnce() -> T + Send) -> T {
    if !is_hostile {
        return start();
    }
    let renamed = || {
        unshare(CloneFlags::CLONE_NEWUTS).expect("root may have a host name of its own");
        sethostname(OsStr::from_bytes(NAMES[0])).expect("a host may be called anything");
        start()
    };
    thread::scope(|scope| scope.spawn(renamed).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}

/// The network namespace of a process under a name of any bytes, removed with this value.
struct HostileNamespace {
    path: PathBuf,
}

impl HostileNamespace {
    fn mount(pid: u32, name: &[u8]) -> Self {
        const NOTHING: Option<&str> = None;
        let mut file = format!("/run/netns/zt-{}-", id()).into_bytes();
        file.extend(name.iter().filter(|byte| **byte != b'/'));
        let path = PathBuf::from(OsString::from_vec(file));
        File::create(&path).expect("a file may be called anything");
        mount(Some(&*format!("/proc/{pid}/ns/net")), &path, NOTHING, MsFlags::MS_BIND, NOTHING)
            .expect("root may mount a namespace");
        Self { path }
    }
}

impl Drop for HostileNamespace {
    fn drop(&mut self) {
        // What is left has the name of this process, and is removed with the next run.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.path);
    }
}

/// A control group below that of this process, removed with this value.
struct Group {
    directory: PathBuf,
    /// Its path in the hierarchy, as bytes.
    path: Vec<u8>,
}

impl Group {
    /// Makes one, or says why it cannot be made.
    fn make(name: &[u8]) -> Result<Self, String> {
        // Other scenarios mount what is not UTF-8.
        let mounts = fs::read("/proc/self/mountinfo").map_err(|error| error.to_string())?;
        let mounts = String::from_utf8_lossy(&mounts);
        let unified = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let unified = unified.and_then(|line| line.split(' ').nth(4)).ok_or("no cgroup2 is mounted")?;
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::")).ok_or("no group of cgroup2")?;
        let mut path = format!("{}/zt-{}-", own.trim_end_matches('/'), id()).into_bytes();
        path.extend_from_slice(name);
        let directory = Path::new(unified).join(OsStr::from_bytes(&path[1..]));
        fs::create_dir(&directory)
            .map_err(|error| format!("cannot make a control group below {unified}: {error}"))?;
        Ok(Self { directory, path })
    }

    fn take_in(&self, pid: u32) {
        fs::write(self.directory.join("cgroup.procs"), pid.to_string()).expect("root may move a process");
    }

    /// The path as records have it.
    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its process has just been killed, and leaves it a moment later.
        for _ in 0..100 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
