//! The hooks and the rungs on which each may be attached, best first.

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
    /// How it is written in `start.hooks`.
    pub label: &'static str,
    /// Programs that must all attach, with what they attach to.
    pub programs: &'static [(&'static str, &'static str)],
    /// The timer that the timer tracepoints must then look for, a bit of `zsock_common::wire::timer`.
    pub timer: u32,
}

macro_rules! tracepoint {
    ($name:literal, $tracepoint:literal, $loss:literal) => {
        Hook {
            name: $name,
            rungs: &[Rung {
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
                    label: concat!("fentry/", $function),
                    programs: &[($fentry, $function), ($fexit, $function)],
                    timer: 0,
                },
                Rung {
                    label: concat!("kprobe/", $function),
                    programs: &[($kprobe, $function), ($kretprobe, $function)],
                    timer: 0,
                },
                Rung {
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
        Rung { label: "fexit/__sys_accept4", programs: &[("accept_fexit", "__sys_accept4")], timer: 0 },
        Rung {
            label: "kretprobe/__sys_accept4",
            programs: &[("accept_kretprobe", "__sys_accept4")],
            timer: 0,
        },
        Rung {
            label: "tracepoint/syscalls/sys_exit_accept+accept4",
            programs: &[
                ("accept_tracepoint", "syscalls/sys_exit_accept4"),
                ("accept_tracepoint", "syscalls/sys_exit_accept"),
            ],
            timer: 0,
        },
        Rung { label: "tp_btf/sys_exit", programs: &[("sys_exit", "sys_exit")], timer: 0 },
    ],
    loss: "accepts that fail for want of descriptors: fd_pressure is found by counting alone",
};

/// Every hook.
pub const ALL: &[Hook] = &[
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
    tracepoint!("recovery", "tcp_cong_state_set", "recoveries are seen up to a second late"),
    tracepoint!("teardown", "tcp_destroy_sock", "the agent forgets ended sockets late"),
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
        "zero window probes, and retransmissions that fail on this host"
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
}
