//! What zsock needs of the host, each with what is lost without it.

use caps::Capability;
use nix::errno::Errno;
use nix::sys::resource::RLIM_INFINITY;

use super::Trial;
use crate::privileges::capabilities::{NEEDS, Need};
use crate::record::{Answer, Check};
use crate::sink::quantity::{bytes, count};
use crate::source::assemble::known::Loss;
use crate::source::diag;
use crate::source::host::Host;

mod confinement;

/// Its number in every kernel, `PROC_USER_INIT_INO`.
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Maps and programs, and the ring buffer of 8 MiB.
const LOCKED_BYTES: u64 = 40 << 20;

/// What everything rests on is lost without.
const EVERYTHING: &str = "nothing works";
const KEEPALIVE: &str = "`zsock keepalive` cannot reach the sockets of running processes";

/// What the kernel's description of its own types tells.
#[derive(Clone, Debug)]
pub struct TypeFacts {
    /// What is not told for want of fields.
    pub losses: Vec<Loss>,
    /// Whether there is a ring buffer for BPF programs.
    pub has_ring_buffer: bool,
    /// Whether memory of BPF is counted against `RLIMIT_MEMLOCK`.
    pub counts_locked_memory: bool,
}

/// Network namespaces that were looked for.
#[derive(Clone, Debug)]
pub struct Namespaces {
    /// How many were found.
    pub found: usize,
    /// How many of them could not be entered, and what the kernel said of the last.
    pub closed: Option<(usize, Errno)>,
}

/// All checks, the weightiest first. `types` are the kernel's types, or the answer why there are none.
#[must_use]
pub fn all(
    host: &Host,
    trial: &Trial,
    types: Result<&TypeFacts, &Answer>,
    namespaces: &Namespaces,
    open_files: Result<(), String>,
) -> Vec<Check> {
    let mut checks = vec![
        check("trace", can_trace(trial), "neither events nor verdicts"),
        check("btf", types.map_or_else(Clone::clone, |_| Answer::yes("/sys/kernel/btf/vmlinux")), EVERYTHING),
        fields(types),
        check("ring_buffer", ring_buffer(trial, types), EVERYTHING),
    ];
    checks.extend(NEEDS.iter().map(|need| capability(need, host)));
    checks.extend([
        check("initial_user_namespace", user_namespace(host), EVERYTHING),
        check("initial_pid_namespace", confinement::pid_namespace(host), confinement::OUTSIDE),
        check("proc_shows_all", confinement::proc_shows_all(host), confinement::HIDDEN),
        check("no_lockdown", confinement::lockdown(&host.lockdown, host.has_securityfs, trial), EVERYTHING),
        check("system_calls", confinement::system_calls(&host.status, trial), EVERYTHING),
        check("locked_memory", locked_memory(host, types), EVERYTHING),
        check("open_files", open_files.map_or_else(Answer::no, |()| Answer::Yes { how: None }), EVERYTHING),
        check(
            "network_namespaces",
            network_namespaces(host, namespaces),
            "sockets and settings of those that are missed",
        ),
        check(
            "sock_diag",
            sock_diag(&host.sock_destroy),
            "`zsock audit` needs the iterators, and `zsock kill` does not work",
        ),
        check("sock_destroy", sock_destroy(host), "`zsock kill` does not work"),
        check("pidfd_getfd", pidfd_getfd(host), KEEPALIVE),
    ]);
    checks
}

fn check(name: &str, answer: Answer, lost: &str) -> Check {
    let is_there = matches!(answer, Answer::Yes { .. });
    Check { name: name.to_owned(), netns: None, lost: (!is_there).then(|| lost.to_owned()), answer }
}

fn can_trace(trial: &Trial) -> Answer {
    match trial {
        Trial::Impossible { why } => Answer::no(why),
        Trial::Refused { remedy, .. } => Answer::no(remedy),
        Trial::Done(attachments) => {
            let missing: Vec<&str> =
                attachments.iter().filter(|it| it.rung.is_none()).map(|it| it.hook.name).collect();
            match missing.as_slice() {
                [] => Answer::yes(format!("with all {} hooks", attachments.len())),
                missing if missing.contains(&"state") => Answer::no("state changes cannot be followed"),
                missing => Answer::yes(format!("without {}", missing.join(", "))),
            }
        }
    }
}

fn fields(types: Result<&TypeFacts, &Answer>) -> Check {
    let losses = match types {
        Ok(facts) => &facts.losses,
        Err(_) => return check("fields", Answer::unknown("the kernel's types cannot be read"), EVERYTHING),
    };
    let mut missing: Vec<&str> = losses.iter().flat_map(|loss| loss.fields.iter().copied()).collect();
    missing.sort_unstable();
    missing.dedup();
    let lost: Vec<&str> = losses.iter().map(|loss| loss.of).collect();
    let answer = if losses.is_empty() {
        Answer::yes("all that zsock reads")
    } else {
        Answer::no(format!("this kernel's types lack {}", missing.join(", ")))
    };
    check("fields", answer, &lost.join("; "))
}

fn ring_buffer(trial: &Trial, types: Result<&TypeFacts, &Answer>) -> Answer {
    match (trial, types) {
        (Trial::Done(_), _) => Answer::yes("made one"),
        (_, Ok(TypeFacts { has_ring_buffer: true, .. })) => Answer::yes("by the kernel's types"),
        (_, Ok(_)) => Answer::no("this kernel has none"),
        (_, Err(_)) => Answer::unknown("the kernel's types cannot be read"),
    }
}

fn capability(need: &Need, host: &Host) -> Check {
    let serving = [need.capability].into_iter().chain(need.instead.iter().copied());
    let answer = match &host.held {
        Err(error) => Answer::unknown(format!("read the capabilities held: {error}")),
        Ok(held) => match serving.into_iter().find(|capability| held.contains(capability)) {
            Some(_) if is_in_user_namespace(host) => Answer::no("zsock holds it in its user namespace only"),
            Some(serving) if serving == need.capability => Answer::Yes { how: None },
            Some(other) => Answer::yes(format!("{other} serves")),
            None => Answer::no(format!("zsock does not hold it; it {}", need.used_for)),
        },
    };
    check(&need.capability.to_string(), answer, need.loss)
}

/// Whether a capability is held; the answer where it is not or cannot be told.
fn require(host: &Host, capability: Capability, why: &str) -> Result<(), Answer> {
    match &host.held {
        Err(error) => Err(Answer::unknown(format!("read the capabilities held: {error}"))),
        Ok(held) if !held.contains(&capability) => Err(Answer::no(format!("{capability} is missing: {why}"))),
        Ok(_) if is_in_user_namespace(host) => Err(Answer::unknown(format!(
            "zsock holds {capability} in its user namespace only: it counts for what belongs to that"
        ))),
        Ok(_) => Ok(()),
    }
}

fn is_in_user_namespace(host: &Host) -> bool {
    host.user_namespace.as_ref().is_ok_and(|inode| *inode != INITIAL_USER_NAMESPACE)
}

fn user_namespace(host: &Host) -> Answer {
    match &host.user_namespace {
        Ok(INITIAL_USER_NAMESPACE) => Answer::Yes { how: None },
        Ok(_) => Answer::no(
            "zsock runs in a user namespace, and the kernel lets it load BPF programs in the host's only",
        ),
        Err(error) => Answer::unknown(format!("look up /proc/self/ns/user: {error}")),
    }
}

fn locked_memory(host: &Host, types: Result<&TypeFacts, &Answer>) -> Answer {
    let counts = types.map(|facts| facts.counts_locked_memory);
    let may_raise = require(host, Capability::CAP_SYS_RESOURCE, "").is_ok();
    match (counts, host.locked_memory) {
        (Ok(false), _) => {
            Answer::yes("this kernel counts BPF memory by control groups, not against RLIMIT_MEMLOCK")
        }
        _ if may_raise => Answer::yes("zsock may raise RLIMIT_MEMLOCK"),
        (_, Ok(RLIM_INFINITY)) => Answer::yes("RLIMIT_MEMLOCK is unlimited"),
        (_, Ok(limit)) if limit >= LOCKED_BYTES => {
            Answer::yes(format!("RLIMIT_MEMLOCK allows {}", bytes(limit)))
        }
        (Ok(true), Ok(limit)) => Answer::no(format!(
            "RLIMIT_MEMLOCK allows {}, some {} are needed: `ulimit -l unlimited`, or LimitMEMLOCK=infinity in its unit",
            bytes(limit),
            bytes(LOCKED_BYTES)
        )),
        (Err(_), Ok(_)) => Answer::unknown(
            "the kernel's types cannot be read, which tell whether it counts against RLIMIT_MEMLOCK",
        ),
        (_, Err(errno)) => Answer::unknown(format!("read RLIMIT_MEMLOCK: {}", errno.desc())),
    }
}

fn network_namespaces(host: &Host, namespaces: &Namespaces) -> Answer {
    let found = count(u64::try_from(namespaces.found).unwrap_or(u64::MAX), "network namespace");
    let lacks = |capability| require(host, capability, "").is_err();
    if let Some((closed, errno)) = namespaces.closed {
        let missing = if lacks(Capability::CAP_SYS_ADMIN) {
            " (it takes CAP_SYS_ADMIN in the host's user namespace)"
        } else {
            ""
        };
        return Answer::no(format!(
            "found {found}, of which {closed} cannot be entered: {}{missing}",
            errno.desc()
        ));
    }
    if lacks(Capability::CAP_SYS_PTRACE) {
        Answer::unknown(format!(
            "CAP_SYS_PTRACE is missing: found {found}, those of other users' processes are not looked for"
        ))
    } else if host.proc_has_our_ids {
        Answer::yes(format!("found and entered {found}"))
    } else {
        Answer::unknown(format!("zsock runs in a PID namespace: found {found}, there may be more outside"))
    }
}

fn sock_diag(answer: &Result<diag::Outcome, diag::Error>) -> Answer {
    match answer {
        Ok(_) => Answer::Yes { how: None },
        Err(error @ diag::Error::NoModule) => Answer::no(error.to_string()),
        Err(error @ (diag::Error::Refused { .. } | diag::Error::Malformed(_))) => {
            Answer::unknown(error.to_string())
        }
    }
}

fn sock_destroy(host: &Host) -> Answer {
    let why = "the kernel destroys sockets for those who hold it";
    let may_destroy = require(host, Capability::CAP_NET_ADMIN, why);
    match host.sock_destroy {
        Err(_) => Answer::unknown("sock_diag gives no answer, by which sockets are destroyed"),
        Ok(diag::Outcome::NotBuiltIn) => Answer::no("the kernel was built without CONFIG_INET_DIAG_DESTROY"),
        Ok(
            diag::Outcome::Gone
            | diag::Outcome::NotReached
            | diag::Outcome::Survived
            | diag::Outcome::Destroyed,
        ) => may_destroy.map_or_else(|answer| answer, |()| Answer::Yes { how: None }),
        // Where no socket is found the kernel does not get to its own question of capabilities: this is somebody else's word.
        Ok(diag::Outcome::NotPermitted) => may_destroy.map_or_else(
            |answer| answer,
            |()| {
                Answer::no(
                    "it is refused although zsock holds CAP_NET_ADMIN: a security module is in the way",
                )
            },
        ),
    }
}

fn pidfd_getfd(host: &Host) -> Answer {
    match host.pidfd_getfd {
        Ok(()) => {}
        Err(Errno::ENOSYS) => return Answer::no("this kernel has no pidfd_getfd, which came with Linux 5.6"),
        Err(errno) => {
            return Answer::no(format!(
                "pidfd_getfd is refused even for zsock's own descriptors: {}",
                errno.desc()
            ));
        }
    }
    if host.ptrace_scope.as_ref().is_ok_and(|scope| scope.trim() == "3") {
        return Answer::no("kernel.yama.ptrace_scope is 3, with which nobody may; only a reboot resets it");
    }
    let held = require(host, Capability::CAP_SYS_PTRACE, "it takes that to get at other users' processes");
    held.map_or_else(|answer| answer, |()| Answer::Yes { how: None })
}

#[cfg(test)]
mod tests;
