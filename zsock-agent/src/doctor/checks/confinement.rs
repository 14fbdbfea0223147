//! What may keep zsock from what its capabilities allow.

use std::io;

use super::super::Trial;
use crate::record::{Answer, printable};
use crate::source::host::{Content, Host};

/// What is lost in a PID namespace.
pub(super) const OUTSIDE: &str = "owners of sockets that processes outside of it hold already or accept, fd_pressure with its numbers, \
                                  blocked_threads, owner_exited";

/// What is lost where `/proc` hides processes.
pub(super) const HIDDEN: &str = "of other users' processes: fd_pressure before an accept fails, blocked_threads, whether they have exited";

pub(super) fn pid_namespace(host: &Host) -> Answer {
    if host.proc_has_our_ids {
        Answer::Yes { how: None }
    } else {
        Answer::no(
            "zsock runs in a PID namespace: run it in the host's (`docker run --pid=host`, `hostPID: true`)",
        )
    }
}

pub(super) fn proc_shows_all(host: &Host) -> Answer {
    if !host.proc_has_our_ids {
        Answer::unknown("zsock runs in a PID namespace")
    } else if host.proc_hides_others {
        Answer::no(
            "/proc hides other users' processes (its mount option hidepid): grant CAP_SYS_PTRACE, or a group for which /proc is mounted (gid=)",
        )
    } else {
        Answer::Yes { how: None }
    }
}

/// `content` is that of the file `lockdown`, which names every level and has brackets around the one in force.
pub(super) fn lockdown(content: &Content, has_securityfs: bool, trial: &Trial) -> Answer {
    let text = match content {
        Ok(text) => text,
        // Under the strictest level no program loads that reads the kernel's memory, and all of zsock's do.
        Err(_) if trial.has_attached("state") => return Answer::yes("programs of zsock's could be loaded"),
        Err(error) if error.kind() == io::ErrorKind::NotFound && has_securityfs => {
            return Answer::yes("the kernel was built without");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Answer::unknown("/sys/kernel/security is not mounted");
        }
        Err(error) => return Answer::unknown(format!("read /sys/kernel/security/lockdown: {error}")),
    };
    let level = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(level, _)| level);
    match level {
        Some("none") => Answer::Yes { how: None },
        Some("integrity") => Answer::yes("integrity, which forbids nothing that zsock does"),
        Some("confidentiality") => Answer::no(
            "confidentiality: BPF programs may not read the kernel's memory (kernel parameter lockdown=)",
        ),
        _ => {
            let begins: String = text.trim().chars().take(40).collect();
            Answer::unknown(format!("/sys/kernel/security/lockdown says {:?}", printable(&begins)))
        }
    }
}

/// Whether a filter of system calls (seccomp) is in the way. `status` is that of zsock itself.
pub(super) fn system_calls(status: &Content, trial: &Trial) -> Answer {
    let status = match status {
        Ok(status) => status,
        Err(error) => return Answer::unknown(format!("read /proc/self/status: {error}")),
    };
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:")).map(str::trim);
    match (mode, trial) {
        (None | Some("0"), _) => Answer::yes("no filter is in force"),
        (Some(_), Trial::Done(_)) => Answer::yes("a seccomp filter is in force, and lets bpf(2) through"),
        (Some(_), Trial::Refused { .. } | Trial::Impossible { .. }) => Answer::unknown(
            "a seccomp filter is in force, which may refuse bpf(2) (docker: `--security-opt seccomp=unconfined`)",
        ),
    }
}
