//! Stories of one process with a limit of 1,000, and of real ones.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rlimit::Resource;

use super::proc::{soft_limit, table_size};
use super::*;
use crate::detect::story::at;

fn watched() -> Watched {
    Watched::new(&Process { pid: 0, start_ns: 0, cgroup_id: 0, comm: "".into(), comm_hex: None })
}

/// At which second of these counts there was something to tell.
fn told(watched: &mut Watched, counts: &[u64]) -> Vec<u64> {
    let with_dead: Vec<_> = counts.iter().map(|open_fds| (*open_fds, 0)).collect();
    told_with_dead(watched, &with_dead)
}

fn told_with_dead(watched: &mut Watched, counts: &[(u64, u64)]) -> Vec<u64> {
    let worth = |(second, (open_fds, dead_fds)): (u64, &(u64, u64))| {
        let usage = Usage { open_fds: *open_fds, limit: 1_000 };
        let news = watched.step(at(second * 1_000), usage, *dead_fds, 80)?;
        watched.tell(news);
        Some(second)
    };
    (0..).zip(counts).filter_map(worth).collect()
}

#[test]
fn a_process_is_told_as_it_comes_near_reaches_the_threshold_and_leaves() {
    let mut process = watched();
    assert_eq!(told(&mut process, &[600, 750, 751, 755, 799, 800, 800, 795, 750, 700, 740]), [2, 4, 5, 7, 8]);
    assert!(process.told.is_none() && process.is_worth_watching());
    assert_eq!(told(&mut process, &[500]), [0; 0]);
    assert!(!process.is_worth_watching());
}

#[test]
fn it_is_told_again_when_a_number_has_moved_by_a_point() {
    let counts = [(900, 0), (905, 0), (909, 0), (910, 0), (901, 0), (900, 0), (900, 9), (900, 10), (900, 10)];
    assert_eq!(told_with_dead(&mut watched(), &counts), [0, 3, 5, 7]);
}

#[test]
fn after_a_failed_accept_it_is_followed_and_told_once_more() {
    let mut process = watched();
    let news = process.fail(at(0), Usage { open_fds: 30, limit: 1_000 }, 0, 80);
    process.tell(news);
    assert_eq!(told(&mut process, &[30; 20]), [11]);
    assert!(!process.is_worth_watching());
    let news = process.fail(at(0), Usage { open_fds: 1_000, limit: 1_000 }, 0, 80);
    process.tell(news);
    assert_eq!(told(&mut process, &[1_000, 400, 400, 400]), [1], "relief is told at once");
}

#[test]
fn growth_is_that_of_the_last_half_minute() {
    let mut process = watched();
    told(&mut process, &[600]);
    assert_eq!(process.growth_per_minute(), None, "one number grows by nothing");
    told(&mut process, &[600, 610, 620]);
    assert_eq!(process.growth_per_minute(), Some(600));
    told(&mut process, &[vec![100; 60], (1..=31).map(|second| 500 - second).collect()].concat());
    assert_eq!(process.growth_per_minute(), Some(-60));
}

#[test]
fn nobody_hears_of_the_end_of_a_process_that_nobody_heard_of() {
    assert_eq!(watched().exited(), None);
}

#[test]
fn numbers_of_any_size_are_taken() {
    for open_fds in [0, 1, u64::MAX] {
        for limit in [0, 1, u64::MAX] {
            let mut process = watched();
            for ms in [0, 0, 1_000] {
                process.step(at(ms), Usage { open_fds, limit }, u64::MAX, 80);
            }
            process.growth_per_minute();
        }
    }
}

#[test]
fn looks_take_a_twentieth_of_the_time() {
    let mut budget = Budget { clock: Clock::start().unwrap(), left_ns: 0, filled_at: None };
    let mut may_look_at = |ms, left_ns| {
        budget.left_ns = left_ns;
        let looked = budget.spend(at(ms), || ()).is_some();
        (looked, budget.left_ns <= MAX_BUDGET_NS)
    };
    let debt = -5_000_000;
    let looked = [(0, 0), (1, 0), (100, debt), (201, debt), (9_000, 0), (9_000, 0)];
    assert_eq!(
        looked.map(|(ms, left_ns)| may_look_at(ms, left_ns)),
        [false, true, false, true, true, false].map(|looked| (looked, true))
    );
}

/// A process that holds two connections to `listener`.
fn holder(listener: &TcpListener) -> Child {
    let connect = || Stdio::from(OwnedFd::from(TcpStream::connect(listener.local_addr().unwrap()).unwrap()));
    let holder = Command::new("sleep").arg("60").stdin(connect()).stdout(connect()).spawn().unwrap();
    // Once it sleeps it opens no more files.
    let call = format!("/proc/{}/syscall", holder.id());
    let sleeps = [libc::SYS_clock_nanosleep, libc::SYS_nanosleep].map(|number| format!("{number} "));
    while !sleeps.iter().any(|sleep| std::fs::read_to_string(&call).unwrap().starts_with(sleep)) {
        std::thread::yield_now();
    }
    holder
}

fn limit_files(child: &Child, soft: u64) {
    let (mut old, mut hard) = (0, 0);
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    rlimit::prlimit(pid, Resource::NOFILE, None, Some((&mut old, &mut hard))).unwrap();
    rlimit::prlimit(pid, Resource::NOFILE, Some((soft, hard)), None).unwrap();
}

/// What is told of the children alone: other processes may be near their limits as well.
fn of(children: &[u32], samples: Vec<ProcessSample>) -> Vec<ProcessSample> {
    let is_ours = |sample: &ProcessSample| children.contains(&sample.process.pid);
    samples.into_iter().filter(is_ours).collect()
}

#[test]
fn a_real_process_is_told_with_its_numbers_and_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut child = holder(&listener);
    let pid = child.id();
    let mut watch = FdWatch { is_active: true, ..FdWatch::new(80, Clock::start().unwrap()) };
    // Whoever runs the tests may have left it descriptors of its own.
    let open_fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    assert_eq!(of(&[pid], watch.pass(at(0), &|_| 1)), []);
    limit_files(&child, open_fds);
    let samples = of(&[pid], watch.pass(at(1_000), &|_| 1));
    let [sample] = samples.as_slice() else { panic!("{samples:?}") };
    assert_eq!(sample.process.comm.as_deref(), Some("sleep"));
    assert_eq!((sample.open_fds, sample.limit, sample.dead_fds), (Some(open_fds), Some(open_fds), Some(1)));
    assert!(sample.socket_fds >= Some(2) && sample.peers.is_empty() && !sample.exited, "{sample:?}");
    assert_eq!(of(&[pid], watch.pass(at(2_000), &|_| 1)), [], "nothing has changed");

    let failed = watch.sample_of(&sample.process, at(2_500), &|_| 1).unwrap();
    let to_listener = failed.peers.iter().find(|peer| peer.remote == listener.local_addr().unwrap().ip());
    assert!(to_listener.is_some_and(|peer| peer.sockets >= 2), "{failed:?}");

    child.kill().unwrap();
    child.wait().unwrap();
    let samples = of(&[pid], watch.pass(at(3_000), &|_| 0));
    let [end] = samples.as_slice() else { panic!("{samples:?}") };
    assert_eq!((end.exited, end.open_fds, &end.process), (true, None, &sample.process));
    assert_eq!(of(&[pid], watch.pass(at(4_000), &|_| 0)), []);
    assert_eq!(watch.sample_of(&end.process, at(4_000), &|_| 0).as_ref(), Some(end));
}

/// Makes the calling thread one of a user without rights, to whom `/proc` shows no other user's process. Takes root, and that the host
/// lets it mount `/proc`.
fn hide_others() -> nix::Result<()> {
    let (proc, nothing) = (Some("proc"), None::<&str>);
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    mount(proc, "/proc", proc, MsFlags::empty(), Some("hidepid=2"))?;
    let nobody: libc::c_long = 65_534;
    // The C library would make all threads that user's.
    // SAFETY: of these calls only the first has a pointer, to no groups.
    let done = unsafe {
        [
            libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()),
            libc::syscall(libc::SYS_setresgid, nobody, nobody, nobody),
            libc::syscall(libc::SYS_setresuid, nobody, nobody, nobody),
        ]
    };
    assert_eq!(done, [0; 3]);
    Ok(())
}

#[test]
fn a_process_that_proc_does_not_show_has_not_exited() {
    // It ends when nobody writes to it any more.
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let Found::Runs(process) = Process::find(pid) else { panic!("it runs") };
    let mut watch = FdWatch { is_active: true, ..FdWatch::new(80, Clock::start().unwrap()) };
    let mut known = Watched::new(&process);
    known.step(at(0), Usage { open_fds: 9, limit: 10 }, 0, 80);
    known.told_as = Some(process.as_record());
    known.told = known.now;
    watch.watched.insert(pid, known);
    let hidden = || {
        hide_others()?;
        let told = (Process::find(pid), process.has_exited(), process::proc_hides_others());
        let sampled = watch.sample_of(&process.as_record(), at(1_000), &|_| 0);
        let passed = of(&[pid], watch.pass(at(2_000), &|_| 0));
        child.wait().unwrap();
        let ended = of(&[pid], watch.pass(at(3_000), &|_| 0));
        Ok::<_, nix::Error>((told, (sampled, passed), (Process::find(pid), process.has_exited(), ended)))
    };
    let told = std::thread::scope(|scope| scope.spawn(hidden).join()).unwrap();
    let Ok((hidden, samples, (found, has_exited, ended))) = told else {
        println!("nobody can be hidden from: {:?}", told.err());
        return;
    };
    let has_our_ids = process::proc_has_our_ids();
    assert_eq!(hidden, (Found::Unknown, None, has_our_ids));
    assert_eq!(samples, (None, vec![]));
    assert_eq!((found, has_exited), (Found::Gone, has_our_ids.then_some(true)));
    assert_eq!(ended.iter().map(|sample| sample.exited).collect::<Vec<_>>(), [true]);
}

#[test]
fn every_process_is_found_and_counted() {
    let own = std::process::id();
    let pids: BTreeSet<u32> = process::pids().collect();
    assert!(pids.contains(&own));
    let usage = Counter::new().usage(own, true).unwrap();
    assert!(usage.open_fds >= 3 && usage.limit > 0, "{usage:?}");
}

#[test]
fn the_size_of_a_table_is_read_whatever_the_process_is_called() {
    assert_eq!(table_size(b"Name:\ta\xffb\nUmask:\t0022\nFDSize:\t256\nGroups:\t\n"), Some(256));
    for broken in [&b""[..], b"FDSize:", b"FDSize:\tx\n", b"\xff"] {
        assert_eq!(table_size(broken), None);
    }
}

#[test]
fn the_soft_limit_is_read_and_a_broken_table_has_none() {
    let table = |soft: &str| {
        format!("Limit  Soft Limit  Hard Limit  Units\nMax open files   {soft}   4096   files\n")
    };
    assert_eq!(soft_limit(table("1024").as_bytes()), Some(1024));
    for broken in ["unlimited", "-1", "x"] {
        let broken = table(broken);
        assert_eq!(soft_limit(broken.as_bytes()), None, "{broken}");
    }
    let own = std::fs::read("/proc/self/limits").unwrap();
    assert_eq!(soft_limit(&own), Resource::NOFILE.get_soft().ok());
    assert_eq!(soft_limit(b""), None, "a reader that takes columns by their place panics here");
}
