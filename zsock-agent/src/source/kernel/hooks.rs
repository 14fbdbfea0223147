//! The hooks and the rungs on which each may be attached, best first.

use std::fmt;
use std::str::FromStr;

/// A need of zsock and the ways in which a kernel may serve it.
#[derive(Debug)]
pub struct Hook {
    /// Its name in `start.hooks`.
    pub name: &'static str,
    /// Ways to attach it, best first.
    pub rungs: &'static [Rung],
    /// What is lost without it.
    pub loss: &'static str,
}

/// One way to attach a hook.
#[derive(Debug)]
pub struct Rung {
    /// Its name in `--hooks`.
    pub name: &'static str,
    /// How it is written in `start.hooks`.
    pub label: &'static str,
    /// Programs that must all attach, with what they attach to.
    pub programs: &'static [(&'static str, &'static str)],
    /// The timer that the timer tracepoints must then look for, a bit of `zsock_common::wire::timer`.
    pub timer: u32,
}

impl Hook {
    /// The rung that the last of `choices` about this hook names.
    #[must_use]
    pub fn chosen(&self, choices: &[Choice]) -> Option<&'static Rung> {
        choices.iter().rev().find(|choice| choice.hook == self.name).map(|choice| choice.rung)
    }
}

/// How a hook came to be attached, or why it is not.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The hook.
    pub hook: &'static Hook,
    /// The rung that it is attached by; `None` where the kernel refuses all of them.
    pub rung: Option<&'static Rung>,
    /// The rungs that the kernel refuses, of those that were tried.
    pub refused: Vec<Refusal>,
}

/// That the kernel refuses a rung.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// [`Rung::label`].
    pub way: &'static str,
    /// What the kernel said.
    pub why: String,
}

impl Attachment {
    /// One that was had by `rung`.
    pub(super) fn by(hook: &'static Hook, rung: &'static Rung) -> Self {
        Self { hook, rung: Some(rung), refused: Vec::new() }
    }
}

/// As `start.hooks` has it: how it is attached, or `no: ` and the reasons.
impl fmt::Display for Attachment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rung) = self.rung {
            return formatter.write_str(rung.label);
        }
        let refused: Vec<String> =
            self.refused.iter().map(|refusal| format!("{}: {}", refusal.way, refusal.why)).collect();
        write!(formatter, "no: {}; without it no {}", refused.join("; "), self.hook.loss)
    }
}

/// A rung that somebody asks for: `--hooks keepalive=kprobe`.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// [`Hook::name`].
    pub hook: &'static str,
    /// One of its rungs.
    pub rung: &'static Rung,
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((hook, rung)) = text.split_once('=') else {
            return Err("a hook and one of its rungs, such as keepalive=kprobe".to_owned());
        };
        let names = |list: &mut dyn Iterator<Item = &'static str>| list.collect::<Vec<_>>().join(", ");
        let known = || std::iter::once(&SOCKETS).chain(ALL);
        let Some(found) = known().find(|known| known.name == hook) else {
            return Err(format!("no such hook; there are {}", names(&mut known().map(|hook| hook.name))));
        };
        let Some(rung) = found.rungs.iter().find(|known| known.name == rung) else {
            let rungs = names(&mut found.rungs.iter().map(|rung| rung.name));
            return Err(format!("{} can be attached by {rungs}", found.name));
        };
        Ok(Self { hook: found.name, rung })
    }
}

macro_rules! tracepoint {
    ($name:literal, $tracepoint:literal, $loss:literal) => {
        Hook {
            name: $name,
            rungs: &[Rung {
                name: "tp_btf",
                label: concat!("tp_btf/", $tracepoint),
                programs: &[($tracepoint, $tracepoint)],
                timer: 0,
            }],
            loss: $loss,
        }
    };
}

macro_rules! timer {
    ($name:literal, $function:literal, [$fentry:literal, $fexit:literal, $kprobe:literal, $kretprobe:literal], $bit:expr, $loss:literal) => {
        Hook {
            name: $name,
            rungs: &[
                Rung {
                    name: "fentry",
                    label: concat!("fentry/", $function),
                    programs: &[($fentry, $function), ($fexit, $function)],
                    timer: 0,
                },
                Rung {
                    name: "kprobe",
                    label: concat!("kprobe/", $function),
                    programs: &[($kprobe, $function), ($kretprobe, $function)],
                    timer: 0,
                },
                Rung {
                    name: "timer",
                    label: concat!("tp_btf/timer_expire_entry+exit for ", $function),
                    programs: &[
                        ("timer_expire_entry", "timer_expire_entry"),
                        ("timer_expire_exit", "timer_expire_exit"),
                    ],
                    timer: $bit,
                },
            ],
            loss: $loss,
        }
    };
}

/// A tracepoint of a system call slows every system call of the host, and one that sees them all does so twice as much: 32 and 75 ns
/// where a call took 100.
const ACCEPT_FAILED: Hook = Hook {
    name: "accept_failed",
    rungs: &[
        Rung {
            name: "fexit",
            label: "fexit/__sys_accept4",
            programs: &[("accept_fexit", "__sys_accept4")],
            timer: 0,
        },
        Rung {
            name: "kretprobe",
            label: "kretprobe/__sys_accept4",
            programs: &[("accept_kretprobe", "__sys_accept4")],
            timer: 0,
        },
        Rung {
            name: "tracepoint",
            label: "tracepoint/syscalls/sys_exit_accept+accept4",
            programs: &[
                ("accept_tracepoint", "syscalls/sys_exit_accept4"),
                ("accept_tracepoint", "syscalls/sys_exit_accept"),
            ],
            timer: 0,
        },
        Rung { name: "sys_exit", label: "tp_btf/sys_exit", programs: &[("sys_exit", "sys_exit")], timer: 0 },
    ],
    loss: "accepts that fail for want of descriptors: fd_pressure is found by counting alone",
};

/// By what the kernel side knows a socket: no hook of its own, but all of them rest on it.
pub const SOCKETS: Hook =
    Hook { name: "sockets", rungs: &[BY_COOKIE, BY_ADDRESS], loss: "way to tell sockets apart" };

/// Sockets are known by the kernel's cookies and keep their own memory.
pub const BY_COOKIE: Rung = Rung { name: "cookie", label: "by cookie", programs: &[], timer: 0 };

/// Before 5.12 programs may neither ask a socket for its cookie nor give it memory.
pub const BY_ADDRESS: Rung = Rung { name: "address", label: "by address", programs: &[], timer: 0 };

/// The look at every socket.
pub const LOOK_AT_SOCKETS: Hook = Hook {
    name: "look_at_sockets",
    rungs: &[Rung { name: "iter", label: "iter/tcp", programs: &[("look_at_sockets", "tcp")], timer: 0 }],
    loss: "sockets that are older than zsock, and no verdict on silent ones: close_wait_leak, unguarded_idle, receiver_stall, app_silence, \
           accept_queue_full",
};

/// The look at who holds them.
pub const LOOK_AT_HOLDERS: Hook = Hook {
    name: "look_at_holders",
    rungs: &[Rung {
        name: "iter",
        label: "iter/task_file",
        programs: &[("look_at_holders", "task_file")],
        timer: 0,
    }],
    loss: "owners of sockets that are older than zsock, or that were passed on",
};

/// Every hook.
pub const ALL: &[Hook] = &[
    // Before the hook that sees sockets begin: an address whose end is not seen would pass its memory on.
    tracepoint!("teardown", "tcp_destroy_sock", "end of a socket: the agent remembers it for longer"),
    tracepoint!(
        "state",
        "inet_sock_set_state",
        "state changes, births and ends of connections: every verdict"
    ),
    tracepoint!(
        "retransmit",
        "tcp_retransmit_skb",
        "retransmissions: connect_blackhole, stuck_retransmission, orphan_stuck"
    ),
    tracepoint!("syn_ack", "tcp_retransmit_synack", "SYN-ACKs sent again"),
    tracepoint!(
        "error",
        "inet_sk_error_report",
        "error records; the error at the end of a connection is still seen"
    ),
    tracepoint!("reset_received", "tcp_receive_reset", "resets from the peer: stale_reset"),
    tracepoint!("reset_sent", "tcp_send_reset", "resets that this host sends"),
    tracepoint!(
        "recovery",
        "tcp_cong_state_set",
        "recovery at the moment it happens: the next pass finds it"
    ),
    timer!(
        "keepalive",
        "tcp_keepalive_timer",
        ["keepalive_fentry", "keepalive_fexit", "keepalive_kprobe", "keepalive_kretprobe"],
        zsock_common::wire::timer::KEEPALIVE,
        "keepalive probes: keepalive_unanswered"
    ),
    timer!(
        "persist",
        "tcp_write_timer",
        ["write_fentry", "write_fexit", "write_kprobe", "write_kretprobe"],
        zsock_common::wire::timer::WRITE,
        "zero window probes, and retransmissions that fail on this host: zero_window_stall, silent_death at a closed window"
    ),
    ACCEPT_FAILED,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_hook_has_a_name_of_its_own_and_says_what_is_lost_without_it() {
        let names: BTreeSet<&str> = ALL.iter().map(|hook| hook.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|hook| !hook.loss.is_empty() && !hook.rungs.is_empty()));
    }

    #[test]
    fn a_rung_is_chosen_by_name_and_the_last_choice_counts() {
        let choices =
            ["keepalive=kprobe", "persist=timer", "keepalive=fentry"].map(|text| text.parse().unwrap());
        let chosen = ALL.iter().filter_map(|hook| Some((hook.name, hook.chosen(&choices)?.label)));
        assert_eq!(
            chosen.collect::<Vec<_>>(),
            [
                ("keepalive", "fentry/tcp_keepalive_timer"),
                ("persist", "tp_btf/timer_expire_entry+exit for tcp_write_timer")
            ]
        );
    }

    #[test]
    fn what_is_no_hook_or_no_rung_of_it_is_told_what_there_is() {
        let refused = |text: &str| text.parse::<Choice>().unwrap_err();
        assert_eq!(refused("keepalive"), "a hook and one of its rungs, such as keepalive=kprobe");
        assert!(refused("keep=fentry").starts_with("no such hook; there are sockets, teardown, state, "));
        assert_eq!(refused("keepalive="), "keepalive can be attached by fentry, kprobe, timer");
        assert_eq!(refused("state=kprobe"), "state can be attached by tp_btf");
    }
}
