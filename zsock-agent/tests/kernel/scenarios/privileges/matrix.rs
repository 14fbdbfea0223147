//! Each capability taken away in turn: what still works, and what zsock says of it. The table is that of README.md.

use std::collections::BTreeSet;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use caps::{Capability, CapsHashSet};
use zsock_agent::privileges::capabilities::{NEEDS, When};

use super::{CLOSE_WAIT, as_nobody, threads};
use crate::net::{Namespace, Net};
use crate::peer::Peer;
use crate::proc::await_state;
use crate::story::{Line, Recording};
use crate::zsock::{Zsock, fail_by};

const README: &str = include_str!("../../../../../README.md");

/// What a capability may be needed for, as README.md heads its columns.
const FEATURES: [&str; 7] = [
    "events, with the process",
    "silent sockets in its own network namespace",
    "in mounted ones",
    "in those of containers",
    "`fd_pressure`",
    "its `socket_fds` and `peers`",
    "`blocked_threads`",
];

/// Zsock, as nobody, in the network namespace of the server, whose process is root's.
pub(in super::super) fn each_capability_taken_away() {
    let stage = Stage::set();
    let mut table =
        format!("| capabilities | {} |\n|---|{}\n", FEATURES.join(" | "), ":-:|".repeat(FEATURES.len()));
    let has_count = counts_descriptors();
    for (title, held, mut expected) in cases() {
        if let Some([.., pressure, _, _]) = &mut expected {
            *pressure = has_count || held.contains(&Capability::CAP_DAC_READ_SEARCH);
        }
        let row = if let Some(expected) = expected {
            let Some(works) = stage.try_with(&held, expected) else { return };
            assert_eq!(works, expected, "of {FEATURES:?} with {title}");
            works.map(|works| if works { "yes" } else { "–" }).join(" | ")
        } else {
            let Some(missing) = refusal(&held) else { return };
            format!("no: {missing} missing{}", " | –".repeat(FEATURES.len() - 1))
        };
        table.extend(["| ", &title, " | ", &row, " |\n"]);
    }
    println!("{table}");
    // README.md tells of kernels that count.
    assert!(!has_count || README.contains(&table), "README.md has another table than\n{table}");
}

/// Whether the kernel tells how many descriptors a process has without showing them (6.2 and later).
fn counts_descriptors() -> bool {
    fs::metadata("/proc/self/fd").is_ok_and(|directory| directory.len() > 0)
}

/// What is held, in words and as a set, and which of [`FEATURES`] that gives; nothing where zsock does not start.
fn cases() -> Vec<(String, CapsHashSet, Option<[bool; FEATURES.len()]>)> {
    use Capability::{
        CAP_BPF, CAP_DAC_READ_SEARCH, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_PTRACE,
    };
    let all =
        || CapsHashSet::from([CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH]);
    let without = |taken: &[Capability]| &all() - &taken.iter().copied().collect();
    let everything = Some([true; FEATURES.len()]);
    let least = Some([true, true, false, false, true, false, false]);
    vec![
        ("BPF, PERFMON, SYS_ADMIN, SYS_PTRACE, DAC_READ_SEARCH".to_owned(), all(), everything),
        (
            "these without SYS_ADMIN".to_owned(),
            without(&[CAP_SYS_ADMIN]),
            Some([true, true, false, false, true, true, true]),
        ),
        (
            "without SYS_PTRACE".to_owned(),
            without(&[CAP_SYS_PTRACE]),
            Some([true, true, true, false, true, false, false]),
        ),
        (
            "without DAC_READ_SEARCH".to_owned(),
            without(&[CAP_DAC_READ_SEARCH]),
            Some([true, true, true, true, true, false, false]),
        ),
        ("without BPF (SYS_ADMIN serves)".to_owned(), without(&[CAP_BPF]), everything),
        ("without PERFMON (SYS_ADMIN serves)".to_owned(), without(&[CAP_PERFMON]), everything),
        ("without SYS_ADMIN and BPF".to_owned(), without(&[CAP_SYS_ADMIN, CAP_BPF]), None),
        ("without SYS_ADMIN and PERFMON".to_owned(), without(&[CAP_SYS_ADMIN, CAP_PERFMON]), None),
        ("BPF, PERFMON, NET_ADMIN".to_owned(), [CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN].into(), least),
        ("BPF, PERFMON".to_owned(), [CAP_BPF, CAP_PERFMON].into(), least),
        ("none".to_owned(), CapsHashSet::new(), None),
    ]
}

/// Which capabilities are missing by zsock's own words, where it does not start.
fn refusal(held: &CapsHashSet) -> Option<String> {
    let (status, said) = fail_by(as_nobody(held), &[])?;
    assert_eq!(status.code(), Some(1), "{said}");
    let error = said.lines().next().unwrap_or_default();
    let missing = error
        .strip_prefix("error: load the eBPF programs: ")
        .and_then(|rest| rest.split(" missing: ").next());
    let missing = missing.unwrap_or_else(|| panic!("no capability is said to be missing:\n{said}"));
    let named: BTreeSet<&str> = missing.split(' ').filter(|word| word.starts_with("CAP_")).collect();
    let needed = NEEDS.iter().filter(|need| need.when == When::ToStart && !need.is_met_by(held));
    let needed: Vec<String> = needed.map(|need| need.capability.to_string()).collect();
    assert_eq!(named, needed.iter().map(String::as_str).collect(), "{said}");
    Some(missing.to_owned())
}

/// Sockets that wait in network namespaces of three kinds, and a process near its limit of descriptors.
struct Stage {
    net: Net,
    own: HalfClosed,
    mounted: HalfClosed,
    contained: HalfClosed,
    /// Of the namespace that no mount shows any more.
    contained_inode: u64,
    _namespace: Namespace,
}

impl Stage {
    fn set() -> Self {
        let net = Net::routed();
        let own = HalfClosed::set(&net.server, "own-keeper");
        let mounted = HalfClosed::set(&net.client, "far-keeper");
        let namespace = Namespace::new("contained");
        let contained = HalfClosed::set(&namespace, "box-keeper");
        let contained_inode = namespace.inode();
        namespace.hide();
        let open = fs::read_dir(format!("/proc/{}/fd", own.server.pid())).expect("root may look").count();
        let mut stage = Self { net, own, mounted, contained, contained_inode, _namespace: namespace };
        stage.own.server.ask(&format!("nofile {open}")).expect("set");
        stage
    }

    /// Which of [`FEATURES`] work with these capabilities; `None` in a dry run. Waits for what is expected, and for what is not.
    fn try_with(
        &self,
        held: &CapsHashSet,
        expected: [bool; FEATURES.len()],
    ) -> Option<[bool; FEATURES.len()]> {
        let arguments = ["-v", "--events", "all", "--threshold", "close_wait_leak=1s"];
        let zsock = self.net.server.enter(|| Zsock::start_by(as_nobody(held), &arguments));
        let mut client = Peer::start(&self.net.client, "fresh");
        let port = client.connect(&format!("127.0.0.1:{}", self.mounted.port));
        let fresh = (client.pid(), port);
        for (feature, _) in FEATURES.iter().enumerate().filter(|(feature, _)| expected[*feature]) {
            zsock.wait_for(FEATURES[feature], |line| self.shows(line, feature, fresh));
        }
        // Two more passes, in which anything else would come.
        sleep(Duration::from_millis(2500));
        let threads = zsock.pid().map(threads);
        drop(client);
        let (seen, said) = zsock.stop_and_hear()?;
        assert_said(held, &said);
        assert_kept(held, &threads?, &said);
        let start = seen.of_type("start").next().expect("a recording has a start");
        let accept_failed = start.text("hooks.accept_failed").expect("start tells its hooks");
        assert!(!accept_failed.starts_with("no: "), "{accept_failed}\n{said}");
        let mut works = [false; FEATURES.len()];
        for (feature, works) in works.iter_mut().enumerate() {
            *works = seen_anywhere(&seen, |line| self.shows(line, feature, fresh));
        }
        Some(works)
    }

    /// Whether a line shows that a feature works.
    fn shows(&self, line: &Line, feature: usize, (pid, port): (u32, u16)) -> bool {
        let leaks = |inode, stage: &HalfClosed| {
            line.text("verdict") == Some("close_wait_leak")
                && line.number("socket.netns") == Some(inode)
                && line.number("socket.pid") == Some(u64::from(stage.server.pid()))
        };
        let own = || leaks(self.net.server.inode(), &self.own);
        let pressure = || {
            line.text("verdict") == Some("fd_pressure")
                && line.number("process.pid") == Some(u64::from(self.own.server.pid()))
        };
        match feature {
            0 => {
                line.text("to") == Some("ESTABLISHED")
                    && line.number("socket.pid") == Some(u64::from(pid))
                    && line.text("socket.local").is_some_and(|local| local.ends_with(&format!(":{port}")))
            }
            1 => own(),
            2 => leaks(self.net.client.inode(), &self.mounted),
            3 => leaks(self.contained_inode, &self.contained),
            4 => pressure(),
            5 => pressure() && line.get("evidence.socket_fds").is_some(),
            _ => own() && line.get("evidence.blocked_threads").is_some(),
        }
    }
}

fn seen_anywhere(seen: &Recording, is_it: impl Fn(&Line) -> bool) -> bool {
    seen.of_type("state").chain(seen.of_type("verdict")).any(is_it)
}

/// Every capability that is missing is said to be, once, and no other.
fn assert_said(held: &CapsHashSet, said: &str) {
    for need in NEEDS.iter().filter(|need| need.when == When::ToSee) {
        let line = format!("WARN ] without {}: {}", need.capability, need.loss);
        let times = said.lines().filter(|told| told.ends_with(&line)).count();
        assert_eq!(times, usize::from(!need.is_met_by(held)), "{line} in\n{said}");
    }
    assert!(!said.contains("cannot be looked into"), "told twice:\n{said}");
}

/// No thread has more than what zsock goes on to need.
fn assert_kept(held: &CapsHashSet, threads: &[super::Thread], said: &str) {
    let lasting = NEEDS.iter().filter(|need| need.when != When::ToStart).map(|need| need.capability);
    let kept: CapsHashSet = lasting.filter(|capability| held.contains(capability)).collect();
    // Before Linux 5.19 these go on to be asked for.
    let to_start = CapsHashSet::from([Capability::CAP_BPF, Capability::CAP_PERFMON]);
    assert!(threads.len() >= 2, "the output thread is one of them");
    for thread in threads {
        let [permitted, effective, inheritable, _, ambient] = &thread.sets;
        assert_eq!(permitted, effective, "{}", thread.name);
        assert!(permitted.is_superset(&kept), "{permitted:?}\n{said}");
        assert!(permitted.is_subset(&(&kept | &(held & &to_start))), "{permitted:?}\n{said}");
        assert!(inheritable.is_empty() && ambient.is_empty(), "{}", thread.name);
        assert!(thread.no_new_privs && thread.is_filtered, "{}\n{said}", thread.name);
    }
}

/// A connection over a namespace's loopback device whose client says that it is done, and whose server does not care.
struct HalfClosed {
    server: Peer,
    _client: Peer,
    port: u16,
}

impl HalfClosed {
    fn set(namespace: &Namespace, name: &str) -> Self {
        let mut server = Peer::start(namespace, name);
        let port = server.listen();
        let mut client = Peer::start(namespace, "leaver");
        client.connect(&format!("127.0.0.1:{port}"));
        server.ask("accept").expect("accepted");
        client.ask("shutdown").expect("shut");
        await_state(namespace, port, CLOSE_WAIT);
        Self { server, _client: client, port }
    }
}
