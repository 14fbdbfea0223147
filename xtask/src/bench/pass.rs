//! What the periodic pass costs: against a walk that does nothing, and while nothing happens in many namespaces.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::crowd::Crowd;
use super::namespace::Namespace;
use super::table::{Column, Row, Table, median};
use super::tool::{Count, Tool};
use super::{Bench, interrupted};
use crate::command;
use crate::workspace::Workspace;

const CONNECTIONS: [u32; 3] = [5_000, 25_000, 100_000];
/// Network namespaces, and idle connections in each.
const IDLE_SCENES: [(usize, usize); 4] = [(1, 0), (50, 0), (50, 3), (500, 0)];

const ZSOCK: Tool = Tool {
    name: "`zsock trace`",
    command: &["zsock", "trace", "-o", "json"],
    count: Count::Json("{"),
    told_of_each: None,
};

/// Has `cargo bench` compare both.
///
/// # Errors
/// When the benchmark fails.
pub(crate) fn walk(workspace: &Workspace) -> Result<Table> {
    let mut rows = Vec::new();
    for connections in CONNECTIONS {
        interrupted()?;
        eprintln!("xtask: pass, {connections} connections");
        let mut cargo = workspace.cargo();
        cargo.args(["bench", "--locked", "--package=zsock-agent", "--bench=pass", "--"]);
        let said = command::output(cargo.arg(connections.to_string()))?;
        let line = said.lines().last().unwrap_or_default();
        let times = times(line).with_context(|| format!("the benchmark said {line:?}"))?;
        let [bare, pass] = times;
        rows.push(Row {
            name: format!("{} sockets", 2 * connections),
            cells: Ok([bare, pass, pass / bare].map(Some).into()),
        });
    }
    let column = |key, title, decimals| Column { key, title, decimals };
    Ok(Table {
        question: "pass",
        title: "Processor time of a pass over all sockets, and of a walk that does nothing.".to_owned(),
        columns: vec![
            column("bare_ms", "bare walk, ms", 1),
            column("pass_ms", "pass, ms", 1),
            column("ratio", "pass ÷ bare walk", 2),
        ],
        rows,
    })
}

/// Reads zsock's processor time while nothing happens.
///
/// # Errors
/// When namespaces cannot be made, or zsock does not run.
pub(crate) fn namespaces(bench: &Bench) -> Result<Table> {
    let mut rows = Vec::new();
    let mut made = Vec::new();
    for (count, connections) in IDLE_SCENES {
        while made.len() < count {
            interrupted()?;
            made.push(Namespace::new()?);
        }
        let crowds = made.iter().map(|namespace| Crowd::new(namespace, 2 * connections));
        let _crowds = crowds.collect::<Result<Vec<_>>>()?;
        eprintln!("xtask: pass, {count} network namespaces, {connections} idle connections in each");
        let running = ZSOCK.start(bench, &made[0])?;
        let cells = match running {
            Ok(running) => {
                let mut percents = Vec::new();
                for _ in 0..bench.rounds {
                    interrupted()?;
                    let before = running.cpu()?;
                    thread::sleep(IDLE);
                    let used = running.cpu()?.saturating_sub(before);
                    percents.push(100.0 * used.as_secs_f64() / IDLE.as_secs_f64());
                }
                running.stop()?;
                Ok(vec![median(percents)])
            }
            Err(why) => Err(why),
        };
        rows.push(Row {
            name: format!("{count} network namespaces, {connections} idle connections in each"),
            cells,
        });
    }
    Ok(Table {
        question: "idle",
        title: "zsock's processor time while nothing happens.".to_owned(),
        columns: vec![Column { key: "cpu_percent", title: "% of one processor", decimals: 1 }],
        rows,
    })
}

/// For how long each round reads it: a pass over many namespaces comes every few seconds.
const IDLE: Duration = Duration::from_secs(20);

/// Milliseconds of the bare walk and of the pass, as the benchmark prints them.
fn times(line: &str) -> Option<[f64; 2]> {
    let after = |word: &str| milliseconds(line.split_once(word)?.1.split([' ', ',']).next()?);
    Some([after("bare iteration ")?, after("pass ")?])
}

/// A `Duration` as `{:?}` shows it.
fn milliseconds(shown: &str) -> Option<f64> {
    let (number, unit) = shown.split_at(shown.find(|c: char| c != '.' && !c.is_ascii_digit())?);
    let scale = match unit {
        "s" => 1e3,
        "ms" => 1.0,
        "µs" => 1e-3,
        "ns" => 1e-6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    use super::times;

    #[test]
    fn the_line_of_the_benchmark_is_read_with_its_units() {
        let line = "20000 sockets: bare iteration 9.01ms, pass 1.10s of CPU: 1.22 times";
        assert_eq!(times(line), Some([9.01, 1100.0]));
        assert_eq!(times("20000 sockets: bare iteration 9.01, pass 11.00ms of CPU"), None);
    }
}
