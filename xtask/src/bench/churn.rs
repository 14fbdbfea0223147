//! Connections made and closed as fast as it goes.

use anyhow::Result;

use super::Bench;
use super::compare::{Question, Scene, number};
use super::load::{CHURN_ADDRESSES as ADDRESSES, Ready};
use super::namespace::Namespace;
use super::table::Column;
use super::tool::{Count, Tool};

/// The state changes of both ends of a connection: each is created, gets established and passes two more states to its end.
const CHANGES: f64 = 10.0;
/// The same and the two ends, which zsock tells of by themselves.
const RECORDS: f64 = CHANGES + 2.0;

/// The one-liner that prints what a user would want of each state change.
const BPFTRACE: &str = "tracepoint:sock:inet_sock_set_state { printf(\"%llx %s:%d %s:%d %d %d\\n\", args->skaddr, \
     ntop(args->family, args->saddr), args->sport, ntop(args->family, args->daddr), args->dport, \
     args->oldstate, args->newstate); }";

/// The least that bpftrace can do at a state change: it tells nobody of it.
const COUNTING: &str = "tracepoint:sock:inet_sock_set_state { @ = count(); }";

/// A state change as zsock tells it; its addresses are those of the load.
const TOOLS: &[Tool] = &[
    Tool {
        name: "`zsock trace -o json`",
        command: &["zsock", "trace", "-o", "json"],
        count: Count::Json(ADDRESSES),
        told_of_each: None,
    },
    Tool {
        name: "`zsock trace --events all -o json`",
        command: &["zsock", "trace", "--events", "all", "-o", "json"],
        count: Count::Json(ADDRESSES),
        told_of_each: Some(RECORDS),
    },
    Tool {
        name: "`zsock trace --events all`",
        command: &["zsock", "trace", "--events", "all"],
        count: Count::Lines(ADDRESSES),
        told_of_each: Some(RECORDS),
    },
    Tool {
        name: "`zsock trace --events all -o json`, nobody reads",
        command: &["zsock", "trace", "--events", "all", "-o", "json"],
        count: Count::Unread,
        told_of_each: None,
    },
    Tool {
        name: "bpftrace, `inet_sock_set_state`",
        command: &["bpftrace", "-e", BPFTRACE],
        count: Count::Lines(ADDRESSES),
        told_of_each: Some(CHANGES),
    },
    Tool {
        name: "bpftrace, `inet_sock_set_state` counted in the kernel",
        command: &["bpftrace", "-e", COUNTING],
        count: Count::Lines(ADDRESSES),
        told_of_each: None,
    },
    Tool {
        name: "bcc `tcplife`",
        command: &["tcplife-bpfcc"],
        count: Count::Lines(ADDRESSES),
        told_of_each: Some(2.0),
    },
    Tool {
        name: "bcc `tcpstates`",
        command: &["tcpstates-bpfcc"],
        count: Count::Lines(ADDRESSES),
        told_of_each: Some(CHANGES),
    },
    Tool {
        name: "libbpf `tcplife`",
        command: &["tcplife"],
        count: Count::Lines(ADDRESSES),
        told_of_each: Some(2.0),
    },
    Tool {
        name: "libbpf `tcpstates`",
        command: &["tcpstates"],
        count: Count::Lines(ADDRESSES),
        told_of_each: Some(CHANGES),
    },
    Tool {
        name: "`ss -E`",
        command: &["ss", "-tnE"],
        count: Count::Lines(ADDRESSES),
        told_of_each: Some(2.0),
    },
    Tool {
        name: "tcpdump, SYN, FIN and RST",
        command: &[
            "tcpdump",
            "-i",
            "lo",
            "-w",
            super::tool::FILE,
            "tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0",
        ],
        count: Count::Packets,
        told_of_each: Some(4.0),
    },
    Tool {
        name: "perf record, `inet_sock_set_state`",
        command: &["perf", "record", "-a", "-e", "sock:inet_sock_set_state", "-o", super::tool::FILE],
        count: Count::Samples,
        told_of_each: Some(CHANGES),
    },
];

/// The question.
pub(crate) fn question(bench: &Bench) -> Question {
    let column = |key, title, decimals| Column { key, title, decimals };
    Question {
        name: "churn",
        title: format!(
            "Connections made and closed as fast as it goes, for {} s, on every processor.",
            bench.seconds
        ),
        tools: TOOLS,
        scene,
        compares_load: true,
        columns: vec![
            column("load_ratio", "load's rate ÷ without", 2),
            column("load_per_s", "connections a second", 0),
            column("without_per_s", "without", 0),
            column("cpu_s_per_million", "CPU s per million told", 3),
            column("told", "told", 0),
            column("lost_percent", "not told, %", 1),
            column("said_lost", "loss that it says", 0),
        ],
        cells: |tool, trial, alone| {
            let rate = |load: &[f64]| load[0] / load[1];
            let made = trial.load[0];
            vec![
                Some(rate(&trial.load) / rate(alone)),
                Some(rate(&trial.load)),
                Some(rate(alone)),
                // Where nothing has to be told: of the state changes that happened.
                trial.cpu_of_million(tool, CHANGES * made),
                trial.told(tool),
                trial.lost_percent(tool, made),
                trial.seen.said_lost.map(number),
            ]
        },
    }
}

fn scene(bench: &Bench) -> Result<Scene> {
    let namespace = Namespace::new()?;
    let load = Ready::start(&namespace, &["churn", &bench.seconds.to_string()])?;
    Ok(Scene { load, namespaces: vec![namespace] })
}
