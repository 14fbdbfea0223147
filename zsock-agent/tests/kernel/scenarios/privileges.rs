//! What zsock may do, what it can do with less, what it keeps once it runs and what it leaves behind.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use caps::{CapSet, CapsHashSet};
use nix::libc::{ENOENT, ESRCH};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use zsock_agent::privileges::capabilities::{NEEDS, Need, When};

use super::{Client, Pair, echo_server};
use crate::await_some;
use crate::net::{Ip, Net};
use crate::proc::{await_recovery, await_state, await_timeouts};
use crate::zsock::{Zsock, program};

mod hidden;
mod matrix;
mod unit;

pub(super) use hidden::a_process_that_proc_hides_has_not_exited;
pub(super) use matrix::each_capability_taken_away;
pub(super) use unit::the_unit_of_the_recorder_grants_what_it_takes;

/// The kernel's number of the state.
const CLOSE_WAIT: u8 = 8;

/// Root has everything and keeps little; with that it goes on to see what it has to.
pub(super) fn root_gives_up_what_it_needs_no_more() {
    let net = Net::routed();
    let mut pair = Pair::connect(&net, "leaver", "keeper");
    let zsock = Zsock::start_in(&net, &["close_wait_leak=1s"], &["-v"]);
    let threads = zsock.pid().map(threads);
    pair.client.ask("shutdown").expect("shut");
    await_state(&net.server, pair.server_port, CLOSE_WAIT);
    zsock.wait_for_verdict(&net.server, pair.port, "close_wait_leak", "opened");

    let Some(((_, said), threads)) = zsock.stop_and_hear().zip(threads) else { return };
    let held = caps::read(None, CapSet::Permitted).expect("the kernel tells");
    let is_kept = |need: &&Need| need.when != When::ToStart && held.contains(&need.capability);
    let kept: CapsHashSet = NEEDS.iter().filter(is_kept).map(|need| need.capability).collect();
    let names: BTreeSet<&str> = threads.iter().map(|thread| &*thread.name).collect();
    assert_eq!(names, ["zsock", "zsock-output"].into());
    for thread in &threads {
        let nothing = CapsHashSet::new();
        let expected = [&kept, &kept, &nothing, &nothing, &nothing];
        assert_eq!(thread.sets.each_ref(), expected, "permitted, effective, … of {}\n{said}", thread.name);
        assert_eq!((thread.no_new_privs, thread.is_filtered), (true, true), "{}\n{said}", thread.name);
    }
    assert!(said.contains("refused from now on: writing or changing files"), "{said}");
    assert!(
        said.contains("the output thread is confined (Landlock") || said.contains("no Landlock"),
        "{said}"
    );
}

/// A killed zsock cannot tidy up; the kernel does.
pub(super) fn a_kill_leaves_nothing_in_the_kernel() {
    let zsock = Zsock::start(&[]);
    let Some(pid) = zsock.pid() else { return };
    let own = objects_of(pid);
    let kinds: BTreeSet<&str> = own.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, ["link_id", "map_id", "prog_id"].into(), "{own:?}");
    let there = objects();
    // A program attached by a link that is none of bpf(2), and iterators between two looks, are known by their programs.
    assert!(own.is_subset(&there), "{own:?} in {there:?}");
    zsock.kill();
    await_some("the kernel to let go", Duration::from_secs(30), || objects().is_disjoint(&own).then_some(()));
}

/// Two that run at once hear the same of a connection.
pub(super) fn two_side_by_side_tell_the_same() {
    let net = Net::routed();
    let (_server, server_port) = echo_server(&net);
    let first = Zsock::start_with_all_events(&net);
    let second = Zsock::start_with_all_events(&net);
    let mut client = Client::connect(&net, "watched-twice", &Ip::V4.server(server_port));
    net.block();
    client.peer.ask("write 100").expect("wrote");
    await_timeouts(&net.client, client.port, 5);
    net.unblock();
    await_recovery(&net.client, client.port);
    client.peer.ask("read 100").expect("read");
    for zsock in [&first, &second] {
        zsock.wait_for_verdict(&net.client, client.port, "stuck_retransmission", "recovered");
    }

    let (Some(first), Some(second)) = (first.stop(), second.stop()) else { return };
    let told = [first, second].map(|seen| {
        // Each says what it did not hear; then there is nothing to compare.
        let seen = seen.complete();
        // Without cookies each gives the sockets numbers of its own.
        let start = seen.of_type("start").next().expect("a recording has a start");
        let has_cookies = start.text("hooks.sockets") == Some("by cookie");
        let connections =
            [seen.of_local_port(&net.client, client.port), seen.of_remote_port(&net.server, client.port)];
        connections.map(|connection| {
            let owners = connection.lines.iter().map(|line| line.number("socket.pid")).collect::<Vec<_>>();
            let ids = connection.lines.iter().map(|line| line.text("socket.id").map(str::to_owned));
            let ids = ids.collect::<BTreeSet<_>>();
            assert_eq!(ids.len(), 1, "{ids:?}");
            (connection.story(), owners, has_cookies.then_some(ids))
        })
    });
    let [[(story, ..), _], _] = &told;
    assert!(story.iter().any(|line| line == "verdict stuck_retransmission closed recovered"), "{story:#?}");
    assert_eq!(told[0], told[1]);
}

/// A thread's privileges, as the kernel tells them.
struct Thread {
    name: String,
    /// Permitted, effective, inheritable, bounding and ambient.
    sets: [CapsHashSet; 5],
    no_new_privs: bool,
    is_filtered: bool,
}

/// Every thread of a process, but for one that ends meanwhile: a pass has one for each network namespace that it enters.
fn threads(pid: u32) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let status = |task: std::io::Result<fs::DirEntry>| {
        let path = task.expect("a directory of /proc can be read").path().join("status");
        match fs::read_to_string(path) {
            Ok(status) => Some(status),
            Err(error) if matches!(error.raw_os_error(), Some(ENOENT | ESRCH)) => None,
            Err(error) => panic!("a thread's status can be read: {error}"),
        }
    };
    tasks.filter_map(status).map(|status| thread(&status)).collect()
}

fn thread(status: &str) -> Thread {
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        value.unwrap_or_else(|| panic!("no {name} in\n{status}")).to_owned()
    };
    let set = |name| {
        let mask = u64::from_str_radix(&field(name), 16).expect("the kernel writes hexadecimal");
        caps::all().into_iter().filter(|capability| mask & capability.bitmask() != 0).collect()
    };
    Thread {
        name: field("Name"),
        sets: ["CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb"].map(set),
        no_new_privs: field("NoNewPrivs") == "1",
        is_filtered: field("Seccomp") == "2",
    }
}

/// BPF objects of which a process has descriptors, by kind and id.
fn objects_of(pid: u32) -> BTreeSet<(&'static str, u32)> {
    const KINDS: [&str; 3] = ["prog_id", "map_id", "link_id"];
    let infos = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("the process runs").flatten();
    let infos: Vec<String> = infos.filter_map(|info| fs::read_to_string(info.path()).ok()).collect();
    let lines = infos.iter().flat_map(|info| info.lines());
    lines
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            let kind = KINDS.into_iter().find(|kind| *kind == name)?;
            Some((kind, value.trim().parse().expect("the kernel writes a number")))
        })
        .collect()
}

/// Every BPF object of the host, by kind and id.
fn objects() -> BTreeSet<(&'static str, u32)> {
    let programs = aya::programs::loaded_programs().flatten().map(|program| ("prog_id", program.id()));
    let maps = aya::maps::loaded_maps().flatten().map(|map| ("map_id", map.id()));
    let links = aya::programs::loaded_links().flatten().map(|link| ("link_id", link.id()));
    programs.chain(maps).chain(links).collect()
}

/// A command that runs zsock as user nobody with these capabilities and no others, as a service manager does.
fn as_nobody(held: &CapsHashSet) -> Command {
    // Opened here: nobody may not be able to find the way to it.
    let binary = File::open(program()).expect("zsock was built with this test");
    let mut command = Command::new(format!("/proc/self/fd/{}", binary.as_raw_fd()));
    let held = held.clone();
    let become_nobody = move || {
        let (user, group) = (Uid::from_raw(65_534), Gid::from_raw(65_534));
        let _still_open = &binary;
        // Kernels before 5.11 count maps against it, which is another matter. Where it cannot be raised, the start says what is missing.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
        caps::securebits::set_keepcaps(true).map_err(std::io::Error::other)?;
        setgroups(&[])?;
        setresgid(group, group, group)?;
        setresuid(user, user, user)?;
        for set in [CapSet::Inheritable, CapSet::Permitted] {
            caps::set(None, set, &held).map_err(std::io::Error::other)?;
        }
        for capability in &held {
            caps::raise(None, CapSet::Ambient, *capability).map_err(std::io::Error::other)?;
        }
        Ok(())
    };
    // SAFETY: the C library of this target keeps its allocator usable in the child of a process with threads, and the rest are system
    // calls.
    unsafe { command.pre_exec(become_nobody) };
    command
}
