//! README.md stays true: its outputs are passages of a recorded run, and it names everything that a user can ask for.
//!
//! `data/forgotten_by_nat.ndjson` is what `zsock trace --comm checkout -o json` wrote of a client whose idle connection a NAT
//! gateway had forgotten. Blocks of README.md that begin with a fence marked `run` show what zsock makes of it.

use std::collections::BTreeSet;

use clap::CommandFactory as _;
use zsock_agent::cli::Cli;
use zsock_agent::detect::Thresholds;
use zsock_agent::engine::Engine;
use zsock_agent::record::{Body, Record, VerdictName};
use zsock_agent::sink::{Palette, Renderer, Text};
use zsock_agent::source::kernel::hooks;

const README: &str = include_str!("../../README.md");
const RUN: &str = include_str!("data/forgotten_by_nat.ndjson");

#[test]
fn the_run_is_judged_again_as_it_was_live() {
    let live: Vec<_> = recorded().iter().filter_map(judgement).collect();
    let mut engine = Engine::new(Thresholds::default());
    let findings = happened().into_iter().flat_map(|record| engine.push(&record));
    let again: Vec<_> = findings.filter_map(|finding| judgement(&finding.record)).collect();
    assert_eq!(again, live);
    assert_eq!(live.len(), 4, "stuck_retransmission opens, is updated, and closes after silent_death");
}

#[test]
fn the_text_in_the_readme_is_what_the_run_gives() {
    let text = rendered(Renderer::Text(Text::new(Palette::PLAIN)));
    let blocks = blocks("```text run\n");
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        assert!(
            !block.is_empty() && text.contains(block),
            "README.md shows\n{block}\nbut the run gives\n{text}"
        );
    }
}

#[test]
fn the_json_in_the_readme_is_what_the_run_gives() {
    let json = rendered(Renderer::Ndjson);
    let lines: Vec<&str> = blocks("```json run\n").into_iter().flat_map(str::lines).collect();
    assert_eq!(lines.len(), 2);
    for line in lines {
        assert!(
            json.lines().any(|given| given == line),
            "README.md shows\n{line}\nbut the run gives\n{json}"
        );
    }
}

#[test]
fn the_readme_names_every_verdict_threshold_option_and_hook() {
    let verdicts = VerdictName::ALL.iter().map(|verdict| verdict.name().to_owned());
    let settings = Thresholds::default().settings();
    let thresholds = settings.iter().map(|(name, value)| {
        let measured = |suffix| Some((name.strip_suffix(suffix)?, value.as_u64()?));
        match (measured("_ms"), measured("_percent")) {
            (Some(("assume_idle_timeout", ms)), _) => format!("--assume-idle-timeout {}s", ms / 1000),
            (Some((verdict, ms)), _) => format!("{verdict}={}s", ms / 1000),
            (_, Some((verdict, percent))) => format!("{verdict}={percent}%"),
            (None, None) => format!("{name}={value}"),
        }
    });
    let command = Cli::command();
    let told = command
        .get_subcommands()
        .filter(|command| ["trace", "keepalive", "kill"].contains(&command.get_name()));
    let arguments = told.flat_map(clap::Command::get_arguments);
    let options = arguments.filter_map(|option| Some(format!("--{}", option.get_long()?)));
    let hooks = hooks::ALL.iter().flat_map(|hook| {
        let rungs = hook.rungs.iter().map(|rung| rung.label.to_owned());
        rungs.chain([hook.name.to_owned()])
    });
    let names: BTreeSet<String> = verdicts.chain(thresholds).chain(options).chain(hooks).collect();
    let quoted: BTreeSet<&str> = README.split('`').skip(1).step_by(2).collect();
    let missing: Vec<_> = names.iter().filter(|name| !quoted.contains(name.as_str())).collect();
    assert_eq!(missing, Vec::<&String>::new());
}

/// The records of the run.
fn recorded() -> Vec<Record> {
    let record = |line| serde_json::from_str(line).expect("zsock wrote this line");
    RUN.lines().map(record).collect()
}

/// The same without the verdicts that were given live.
fn happened() -> Vec<Record> {
    recorded().into_iter().filter(|record| !matches!(record.body, Body::Verdict(_))).collect()
}

/// What a verdict claims; its words may change.
fn judgement(record: &Record) -> Option<impl PartialEq + std::fmt::Debug + use<>> {
    let Body::Verdict(verdict) = &record.body else { return None };
    Some((
        record.at,
        verdict.verdict,
        verdict.phase,
        verdict.outcome,
        verdict.since,
        verdict.evidence.clone(),
    ))
}

/// All that zsock prints of the run.
fn rendered(mut renderer: Renderer) -> String {
    let mut engine = Engine::new(Thresholds::default());
    let mut output = Vec::new();
    let mut print = |bytes: &[u8]| output.extend_from_slice(bytes);
    for record in happened() {
        renderer.render(&record, None, &mut print);
        for finding in engine.push(&record) {
            renderer.render(&finding.record, Some(&finding.timeline), &mut print);
        }
        renderer.flush(record.at, &mut print);
    }
    String::from_utf8(output).expect("zsock writes UTF-8")
}

/// The contents of README.md's blocks that begin with `fence`.
fn blocks(fence: &str) -> Vec<&'static str> {
    let block = |rest: &'static str| rest.split_once("```").expect("every block of README.md ends").0;
    README.split(fence).skip(1).map(block).collect()
}
