//! End to end: real connections between network namespaces, packets really dropped, and what `zsock trace` says of it.
//!
//! Needs root, `ip` and `nft`; a test that lacks them says SKIPPED and why (with `CI=true` that is a failure). With
//! `--dry` the scenarios run without zsock, so that only the network, the peers and the kernel's own figures are checked.
//! The same binary is also the peers: `kernel peer NAME` takes its orders from stdin (see `peer/program.rs`).

use std::env;
use std::panic::{catch_unwind, resume_unwind};
use std::process::{Command, ExitCode};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Conclusion, Failed, Trial};
use nix::time::{ClockId, clock_gettime};
use zsock_agent::time::{Time, nanoseconds};

mod again;
mod bytes;
mod cgroup;
mod kernel;
#[path = "../kernels/mod.rs"]
mod kernels;
mod net;
mod once;
mod peer;
mod proc;
mod recorder;
mod scenarios;
mod story;
mod unseen;
mod zsock;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = env::args().collect();
    if arguments.get(1).is_some_and(|first| first == "peer") {
        return peer::program(&arguments[2..]);
    }
    let all = arguments.len();
    arguments.retain(|argument| argument != "--dry");
    if arguments.len() < all {
        zsock::leave_out();
    }
    let mut arguments = Arguments::from_iter(arguments);
    // The scenarios wait more than they work, but their timings suffer where many of them share few cores.
    arguments.test_threads.get_or_insert(2);

    let lacking = if arguments.list { None } else { lacking_set_up() };
    if lacking.is_none() && !arguments.list {
        net::remove_those_of_the_dead();
    }
    let may_set_clock = env::var("ZSOCK_MAY_SET_CLOCK").is_ok_and(|value| value == "1");
    let trials = scenarios::all()
        .into_iter()
        .filter(|(name, _)| may_set_clock || !scenarios::sets_the_clock(name))
        .map(|(name, run)| {
            let lacking = lacking.clone();
            let lacks = move || lacking.or_else(|| scenarios::lacking(name));
            Trial::ignorable_test(name, move || match lacks() {
                None => {
                    let played = catch_unwind(|| unseen::play(name, run));
                    // In one piece, which the harness's own line is not: other threads may write into that.
                    println!("RESULT {name}: {}", if played.is_ok() { "passed" } else { "FAILED" });
                    played.map_or_else(|panic| resume_unwind(panic), |()| Ok(Completion::Completed))
                }
                Some(reason) => skip(name, reason),
            })
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        let Conclusion { num_passed, num_failed, num_ignored, .. } = conclusion;
        println!("{num_passed} passed, {num_failed} failed, {num_ignored} skipped");
    }
    conclusion.exit_code()
}

fn skip(name: &str, reason: String) -> Result<Completion, Failed> {
    if env::var("CI").is_ok_and(|ci| ci == "true") {
        return Err(
            format!("could not run for want of set-up, and CI=true forbids skipping: {reason}").into()
        );
    }
    println!("SKIPPED {name}: {reason}");
    Ok(Completion::ignored_with(reason))
}

/// Why the scenarios cannot be set up on this machine, if they cannot.
fn lacking_set_up() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root for network namespaces and tracing".to_owned());
    }
    for (tool, argument) in [("ip", "-V"), ("nft", "--version")] {
        if let Err(error) = Command::new(tool).arg(argument).output() {
            return Some(format!("needs `{tool}` in PATH: {error}"));
        }
    }
    net::refused_rules()
}

/// How many times slower than an ordinary machine this one is, by `ZSOCK_TEST_SLOWNESS`: one that is emulated in software says so.
///
/// It scales how much is done where the amount proves nothing, how soon things have to be done and how far off times may be: never which
/// records come, nor their order.
fn slowness() -> u32 {
    env::var("ZSOCK_TEST_SLOWNESS").map_or(1, |times| {
        times.parse().unwrap_or_else(|error| panic!("ZSOCK_TEST_SLOWNESS is {times:?}: {error}"))
    })
}

/// How long zsock, or a process of the test, may take for what takes `usual` on an ordinary machine.
fn patience(usual: Duration) -> Duration {
    usual * slowness()
}

/// The wall clock.
fn now() -> Time {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).expect("CLOCK_REALTIME is always readable");
    Time::from_unix_ns(nanoseconds(now.into()))
}

/// Looks every 10 ms until `look` finds something.
///
/// For facts that the kernel shows but announces to nobody.
fn await_some<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let limit = patience(limit);
    let end = now().after(limit);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < end, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
