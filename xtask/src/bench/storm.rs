//! Thousands of connections that retransmit at once.

use anyhow::Result;

use super::Bench;
use super::compare::{Question, Scene, number};
use super::load::Ready;
use super::namespace::Namespace;
use super::table::Column;
use super::tool::{Count, FILE, Tool};

const CONNECTIONS: &str = "5000";
const SECONDS: &str = "10";
/// Far below the 200 ms of the kernel's default, so that many come in a second.
const RTO_MIN: &str = "20ms";

/// What each line has that tells of one of the retransmissions of this load.
const SERVER: &str = "10.66.0.2:9066";
const RECORD: &str = "\"type\":\"retransmit\".*10.66.0.2:9066";

const BPFTRACE: &str = "tracepoint:tcp:tcp_retransmit_skb { printf(\"%llx %s:%d %s:%d %d\\n\", args->skaddr, \
     ntop(args->saddr), args->sport, ntop(args->daddr), args->dport, args->state); }";

const TOOLS: &[Tool] = &[
    Tool {
        name: "`zsock trace -o json`",
        command: &["zsock", "trace", "-o", "json"],
        count: Count::Json(RECORD),
        told_of_each: Some(1.0),
    },
    Tool {
        name: "`zsock trace --events all -o json`",
        command: &["zsock", "trace", "--events", "all", "-o", "json"],
        count: Count::Json(RECORD),
        told_of_each: Some(1.0),
    },
    Tool {
        name: "bpftrace, `tcp_retransmit_skb`",
        command: &["bpftrace", "-e", BPFTRACE],
        count: Count::Lines(SERVER),
        told_of_each: Some(1.0),
    },
    Tool {
        name: "bcc `tcpretrans`",
        command: &["tcpretrans-bpfcc"],
        count: Count::Lines(SERVER),
        told_of_each: Some(1.0),
    },
    Tool {
        name: "perf record, `tcp_retransmit_skb`",
        command: &["perf", "record", "-a", "-e", "tcp:tcp_retransmit_skb", "-o", FILE],
        count: Count::Samples,
        told_of_each: Some(1.0),
    },
];

/// What does it cost when connections get stuck, each of them for good? Most of it is what is done once for each of them, and what is
/// done each second whatever happens.
pub(crate) fn once() -> Question {
    let title = format!(
        "{CONNECTIONS} connections that send when nothing gets through any more, with {RTO_MIN} to the first retransmission, for {SECONDS} s."
    );
    question("storm", title, |_| scene(&[]))
}

/// What does each retransmission cost, where many come for as long as that lasts?
pub(crate) fn in_waves() -> Question {
    let title = format!(
        "{CONNECTIONS} connections that send when nothing gets through for 200 ms, again and again, with {RTO_MIN} to the first \
         retransmission, for {SECONDS} s."
    );
    question("waves", title, |_| scene(&["--in-waves"]))
}

fn question(name: &'static str, title: String, scene: fn(&Bench) -> Result<Scene>) -> Question {
    let column = |key, title, decimals| Column { key, title, decimals };
    Question {
        name,
        title,
        tools: TOOLS,
        scene,
        compares_load: false,
        columns: vec![
            column("retransmissions", "retransmissions", 0),
            column("peak_per_s", "a second at the worst", 0),
            column("told", "told", 0),
            column("lost_percent", "not told, %", 1),
            column("said_lost", "loss that it says", 0),
            column("cpu_s", "CPU s", 2),
            column("cpu_s_per_million", "CPU s per million told", 3),
        ],
        cells: |tool, trial, _| {
            let happened = trial.load[0];
            vec![
                Some(happened),
                Some(trial.load[1]),
                trial.told(tool),
                trial.lost_percent(tool, happened),
                trial.seen.said_lost.map(number),
                Some(trial.cpu.as_secs_f64()),
                trial.cpu_of_million(tool, happened),
            ]
        },
    }
}

fn scene(options: &[&str]) -> Result<Scene> {
    let [client, server] = [Namespace::new()?, Namespace::new()?];
    client.join(&server, RTO_MIN)?;
    let path = server.path().display().to_string();
    let load = Ready::start(&client, &[&["storm", &path, CONNECTIONS, SECONDS], options].concat())?;
    Ok(Scene { load, namespaces: vec![client, server] })
}
