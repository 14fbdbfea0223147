//! One connection on loopback that carries as much as it goes.

use anyhow::Result;

use super::Bench;
use super::compare::{Question, Scene};
use super::load::Ready;
use super::namespace::Namespace;
use super::table::Column;
use super::tool::{Count, FILE, Tool};

const TOOLS: &[Tool] = &[
    Tool {
        name: "`zsock trace -o json`",
        command: &["zsock", "trace", "-o", "json"],
        count: Count::Json("127.66.0."),
        told_of_each: None,
    },
    Tool {
        name: "bcc `tcptop`",
        command: &["tcptop-bpfcc", "-C"],
        count: Count::Lines("127.66.0."),
        told_of_each: None,
    },
    Tool {
        name: "tcpdump, SYN, FIN and RST",
        command: &["tcpdump", "-i", "lo", "-w", FILE, "tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0"],
        count: Count::Packets,
        told_of_each: None,
    },
];

/// The question.
pub(crate) fn question(bench: &Bench) -> Question {
    let column = |key, title, decimals| Column { key, title, decimals };
    Question {
        name: "bulk",
        title: format!(
            "One connection on loopback that carries as much as it goes, for {} s.",
            bench.seconds
        ),
        tools: TOOLS,
        scene,
        compares_load: true,
        columns: vec![
            column("load_ratio", "load's rate ÷ without", 3),
            column("load_mib_per_s", "MiB a second", 0),
            column("without_mib_per_s", "without", 0),
        ],
        cells: |_, trial, alone| {
            let rate = |load: &[f64]| load[0] / load[1] / f64::from(1 << 20);
            let (with, without) = (rate(&trial.load), rate(alone));
            vec![Some(with / without), Some(with), Some(without)]
        },
    }
}

fn scene(bench: &Bench) -> Result<Scene> {
    let namespace = Namespace::new()?;
    let load = Ready::start(&namespace, &["bulk", &bench.seconds.to_string()])?;
    Ok(Scene { load, namespaces: vec![namespace] })
}
