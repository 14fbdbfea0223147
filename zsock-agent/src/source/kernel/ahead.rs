//! Programs are loaded before their hooks are attached, on two threads: the verifier takes most of the time until zsock is at work, and
//! attaching has an order.

use std::collections::HashMap;
use std::sync::Mutex;
use std::thread;

use aya::programs::Program;
use aya::{Btf, Ebpf};

use super::attach;
use super::hooks::{ALL, Choice, Hook, LOOK_AT_HOLDERS, LOOK_AT_SOCKETS, Rung};
use super::trial::lacks;
use crate::source::btf::Types;

/// Loads of every hook the programs of the best rung that the kernel takes. Whoever attaches a hook loads what is missing, and says why.
pub(super) fn load(ebpf: &mut Ebpf, choices: &[Choice], types: &Types, btf: &Btf) {
    let wanted: Vec<Vec<&Rung>> = by_cost().map(|hook| rungs(hook, choices, types)).collect();
    let wanted = Mutex::new(wanted.into_iter());
    let programs: Mutex<HashMap<&str, &mut Program>> = Mutex::new(ebpf.programs_mut().collect());
    let take = |name: &str| programs.lock().ok()?.remove(name);
    let takes_all = |rung: &Rung| {
        let is_taken = |(name, target): &(&str, &str)| match take(name) {
            Some(program) => attach::load(program, target, btf).is_ok(),
            // Another hook has the same one.
            None => true,
        };
        rung.programs.iter().all(is_taken)
    };
    let work = || {
        while let Some(rungs) = wanted.lock().ok().and_then(|mut wanted| wanted.next()) {
            let _ = rungs.iter().any(|rung| takes_all(rung));
        }
    };
    thread::scope(|scope| {
        // Without a thread more it takes longer.
        let _ = thread::Builder::new().spawn_scoped(scope, work);
        work();
    });
}

/// Those first whose programs take the verifier longest, so that neither thread waits long for the other at the end.
fn by_cost() -> impl Iterator<Item = &'static Hook> {
    let is_long = |hook: &&Hook| matches!(hook.name, "state" | "keepalive" | "accept_failed");
    let (long, short): (Vec<_>, Vec<_>) = ALL.iter().partition(is_long);
    [&LOOK_AT_SOCKETS].into_iter().chain(long).chain([&LOOK_AT_HOLDERS]).chain(short)
}

/// The rungs by which a hook may be attached, best first, as far as the kernel's types tell.
fn rungs(hook: &'static Hook, choices: &[Choice], types: &Types) -> Vec<&'static Rung> {
    let chosen = hook.chosen(choices);
    let is_possible = |rung: &&Rung| {
        chosen.is_none_or(|chosen| chosen.name == rung.name) && lacks(hook, rung, types).is_none()
    };
    hook.rungs.iter().filter(is_possible).collect()
}
