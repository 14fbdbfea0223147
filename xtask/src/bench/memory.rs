//! What a tool has resident, at rest and beside many sockets that were made under its eyes.

use std::fs;

use anyhow::{Context as _, Result};

use super::compare::number;
use super::crowd::Crowd;
use super::namespace::Namespace;
use super::table::{Column, Measured, Row, Table, median};
use super::tool::{Count, Tool};
use super::{Bench, interrupted};

const SOCKETS: usize = 200_000;

const TOOLS: &[Tool] = &[
    tool("`zsock trace -o json`", &["zsock", "trace", "-o", "json"]),
    tool("`zsock trace --events all -o json`", &["zsock", "trace", "--events", "all", "-o", "json"]),
    tool(
        "bpftrace",
        &["bpftrace", "-e", "tracepoint:sock:inet_sock_set_state { printf(\"%d\\n\", args->newstate); }"],
    ),
    tool("bcc `tcplife`", &["tcplife-bpfcc"]),
    tool("libbpf `tcpstates`", &["tcpstates"]),
];

const fn tool(name: &'static str, command: &'static [&'static str]) -> Tool {
    Tool { name, command, count: Count::Lines("127.66."), told_of_each: None }
}

/// Measures it.
///
/// # Errors
/// When the sockets cannot be made, or on Ctrl-C.
pub(crate) fn run(bench: &Bench) -> Result<Table> {
    let mut rows = Vec::new();
    for tool in TOOLS {
        eprintln!("xtask: memory: {}", tool.name);
        let mut rounds = Vec::new();
        let mut refused = None;
        for _ in 0..bench.rounds {
            interrupted()?;
            match measure(bench, tool)? {
                Ok(cells) => rounds.push(cells),
                Err(why) => {
                    refused = Some(why);
                    break;
                }
            }
        }
        let medians = || (0..3).map(|column| median(rounds.iter().map(|round| round[column]))).collect();
        rows.push(Row { name: tool.name.to_owned(), cells: refused.map_or_else(|| Ok(medians()), Err) });
    }
    let column = |key, title, decimals| Column { key, title, decimals };
    Ok(Table {
        question: "memory",
        title: format!("Resident at rest, and growth beside {SOCKETS} sockets that were made meanwhile."),
        columns: vec![
            column("resident_mib", "VmRSS at rest, MiB", 1),
            column("anonymous_mib", "RssAnon at rest, MiB", 1),
            column("bytes_per_socket", "growth a socket, bytes", 0),
        ],
        rows,
    })
}

fn measure(bench: &Bench, tool: &Tool) -> Result<Measured<[f64; 3]>> {
    let namespace = Namespace::new()?;
    let mut running = match tool.start(bench, &namespace)? {
        Ok(running) => running,
        Err(why) => return Ok(Err(why)),
    };
    let memory = |pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the tool is gone")?;
        ["VmRSS:", "RssAnon:"]
            .map(|name| kib(&status, name))
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .context("no RSS")
    };
    let before = memory(running.id())?;
    let crowd = Crowd::new(&namespace, SOCKETS)?;
    if let Err(why) = running.drain()? {
        return Ok(Err(why));
    }
    let after = memory(running.id())?;
    running.stop()?;
    drop(crowd);
    let growth = number(after[0].saturating_sub(before[0]) * 1024);
    let sockets = number(SOCKETS as u64);
    Ok(Ok([number(before[0]) / 1024.0, number(before[1]) / 1024.0, growth / sockets]))
}

/// A line of `/proc/PID/status`.
fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::kib;

    #[test]
    fn a_size_is_found_by_its_name() {
        let status = "VmHWM:\t   9999 kB\nVmRSS:\t   1234 kB\nRssAnon:\t    56 kB\n";
        assert_eq!(kib(status, "VmRSS:"), Some(1234));
        assert_eq!(kib(status, "RssFile:"), None);
    }
}
