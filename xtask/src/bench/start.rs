//! How long a tool takes until it is at work.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Result};

use super::crowd::Crowd;
use super::load::now;
use super::namespace::Namespace;
use super::process::Process;
use super::seen::reason;
use super::table::{Column, DoesNotRun, Measured, Row, Table, median};
use super::tool::{Count, Tool};
use super::{Bench, interrupted};

const SOCKETS: [usize; 2] = [100, 200_000];

/// Each with what the line contains that it prints when it is at work; of one that ends by itself, nothing.
const TOOLS: &[(Tool, &str)] = &[
    (tool("`zsock trace`", &["zsock", "trace", "-o", "json"]), "\"type\":\"start\""),
    (
        tool(
            "bpftrace, to its end",
            &[
                "bpftrace",
                "-e",
                "tracepoint:sock:inet_sock_set_state { @ = count(); } interval:ms:1 { exit(); }",
            ],
        ),
        "",
    ),
    (tool("bcc `tcplife`", &["tcplife-bpfcc"]), "PID"),
    (tool("libbpf `tcpstates`", &["stdbuf", "-oL", "tcpstates"]), "SKADDR"),
];

const fn tool(name: &'static str, command: &'static [&'static str]) -> Tool {
    Tool { name, command, count: Count::Unread, told_of_each: None }
}

/// Measures it.
///
/// # Errors
/// When the sockets cannot be made, or on Ctrl-C.
pub(crate) fn run(bench: &Bench) -> Result<Table> {
    let mut times: Vec<[Vec<f64>; SOCKETS.len()]> = TOOLS.iter().map(|_| Default::default()).collect();
    let mut refused: Vec<Option<DoesNotRun>> = vec![None; TOOLS.len()];
    for (which, sockets) in SOCKETS.into_iter().enumerate() {
        eprintln!("xtask: start, beside {sockets} sockets");
        let namespace = Namespace::new()?;
        let crowd = Crowd::new(&namespace, sockets)?;
        for round in 0..bench.rounds {
            for turn in 0..TOOLS.len() {
                interrupted()?;
                let place = (turn + round) % TOOLS.len();
                let (tool, says) = &TOOLS[place];
                match begin(bench, tool, says, &namespace)? {
                    Ok(ms) => times[place][which].push(ms),
                    Err(why) => refused[place] = Some(why),
                }
            }
        }
        drop(crowd);
    }
    let rows = TOOLS.iter().zip(times).zip(refused).map(|(((tool, _), times), refused)| Row {
        name: tool.name.to_owned(),
        cells: refused.map_or_else(|| Ok(times.into_iter().map(median).collect()), Err),
    });
    let column = |key, title| Column { key, title, decimals: 0 };
    Ok(Table {
        question: "start",
        title: "Milliseconds from the call of a tool until it is at work.".to_owned(),
        columns: vec![
            column("ms_beside_100", "beside 100 sockets"),
            column("ms_beside_200000", "beside 200,000"),
        ],
        rows: rows.collect(),
    })
}

/// The milliseconds that it takes.
fn begin(bench: &Bench, tool: &Tool, says: &str, namespace: &Namespace) -> Result<Measured<f64>> {
    let mut command = tool.prepare(bench, namespace);
    let waits = command.get_program() != bench.zsock.as_os_str();
    command.env("PYTHONUNBUFFERED", "1").stdin(Stdio::null());
    let mut began = now();
    let mut process = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let (stdout, stderr) = process.outputs()?;
    let mut stderr = BufReader::new(stderr);
    if waits {
        // Its surroundings are set up, and no part of the tool.
        stderr.read_line(&mut String::new()).context("cannot read from a tool")?;
        began = now();
    }
    let complaints = std::thread::spawn(move || std::io::read_to_string(stderr).unwrap_or_default());
    let mut lines = BufReader::new(stdout).lines();
    let is_there = if says.is_empty() {
        lines.by_ref().for_each(drop);
        process.wait()?.success()
    } else {
        lines.any(|line| line.is_ok_and(|line| line.contains(says)))
    };
    let elapsed = began.elapsed();
    if is_there {
        process.interrupt()?;
        return Ok(Ok(elapsed.as_secs_f64() * 1e3));
    }
    Ok(Err(DoesNotRun(reason(&complaints.join().unwrap_or_default()))))
}
