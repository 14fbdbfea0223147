//! README.md stays true: its outputs are passages of a recorded run, and it names everything that a user can ask for.
//!
//! `data/forgotten_by_nat.ndjson` is what `zsock trace --comm checkout -o json` wrote of a client whose idle connection a NAT
//! gateway had forgotten. Blocks of README.md that begin with a fence marked `run` show what zsock makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clap::CommandFactory as _;
use zsock_agent::cli::Cli;
use zsock_agent::detect::Thresholds;
use zsock_agent::engine::Engine;
use zsock_agent::record::{
    AcceptQueue, Action, Actions, Answer, ArmedTimer, Body, Check, ClockRecord, DamageRecord, Deed, Done,
    EntryRecord, Errno, Errored, Examined, Found, GapRecord, Group, HookCheck, IncidentRecord, Noticed,
    OtherEnd, Patient, Process, Record, RefusedWay, ReportRecord, RunRecord, SettingCheck, Severity, Shed,
    ShedRecord, Socket, Standing, State, Summary, SysctlCheck, Tcp, TimelineRecord, TimerKind, VerdictName,
    What,
};
use zsock_agent::recording::read::Next;
use zsock_agent::report::{Builder, Options};
use zsock_agent::sink::report::ReportText;
use zsock_agent::sink::{Batch, Ndjson, Palette, Renderer, Text};
use zsock_agent::source::kernel::hooks;
use zsock_agent::time::Time;

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
    let json = rendered(Renderer::Ndjson(Ndjson::default()));
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
    let arguments = command.get_subcommands().flat_map(clap::Command::get_arguments);
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

/// Literals name every field, so that a new one does not compile until it stands here, and then has to stand in README.
#[test]
fn the_readme_names_every_field_of_the_records_of_commands_that_answer_and_end() {
    let standing = Standing { state: Some(State::CLOSE), keepalive: None, user_timeout_ms: Some(1) };
    let socket: Socket =
        serde_json::from_str(r#"{"id":"1","family":"ipv4"}"#).expect("no more has to be known");
    let found = Found {
        socket: socket.clone(),
        tcp: Tcp::default(),
        idle_ms: Some(1),
        timer: Some(ArmedTimer { kind: TimerKind::Persist, in_ms: 1 }),
        unaccepted: true,
        accepted: true,
        accept_queue: Some(AcceptQueue { queue: 1, backlog: 1, oldest_ms: Some(1), full_for_ms: Some(1) }),
        verdict: Some(VerdictName::UnguardedIdle),
        noticed: Some(Noticed::Hours),
        noticed_in_ms: Some(1),
    };
    let end = "10.0.5.7:5432".parse().ok();
    let counts = BTreeMap::from([(Noticed::Never, 1)]);
    let process = Process { pid: 1, comm: None, comm_hex: None, cgroup: None, container: None };
    let summary = Summary {
        sockets: 1,
        states: BTreeMap::new(),
        noticed: counts.clone(),
        noticed_on_loopback: counts.clone(),
        noticed_unknown: 1,
        verdicts: BTreeMap::from([("unguarded_idle".into(), 1)]),
        orphans: 1,
        unaccepted: 1,
        groups: vec![Group {
            process: Some(process),
            destination: end,
            accepted_on: end,
            sockets: 1,
            noticed: counts,
        }],
        other_groups: 1,
        namespaces: 1,
        namespaces_not_seen: 1,
        source: "iterators".into(),
        not_told: vec!["uid".into()],
        duration_ms: 1,
    };
    let action = Action {
        action: Deed::Kill,
        outcome: Done::Failed,
        socket,
        tcp: Tcp::default(),
        verdict: Some(VerdictName::UnguardedIdle),
        before: Some(standing),
        after: Some(standing),
        warnings: vec![String::new()],
        error: Some(String::new()),
    };
    let answers = [Answer::yes(""), Answer::unknown("")];
    let [check, hook] = answers.map(|answer| {
        let check =
            Check { name: String::new(), netns: Some(1), answer: answer.clone(), lost: Some(String::new()) };
        let refused = vec![RefusedWay { way: "", why: String::new() }];
        (Examined::Check(check), Examined::Hook(HookCheck { name: "", answer, refused, lost: "" }))
    });
    let setting = SettingCheck {
        name: "",
        value: 1,
        consequence: Some(String::new()),
        after_ms: Some(1),
        change: Some(String::new()),
    };
    let patient = Patient { version: "", kernel: Some(String::new()), boot_id: Some(String::new()) };
    let examined = [Examined::Doctor(patient), Examined::Sysctl(SysctlCheck { netns: 1, setting })];
    let records = [json(&found), json(&summary), json(&action), json(&Actions::none(Deed::Kill))].into_iter();
    let records =
        records.chain([check, hook].into_iter().flat_map(|(check, hook)| [json(&check), json(&hook)]));
    let mut missing = BTreeSet::new();
    let mut rows = BTreeSet::new();
    for record in records.chain(examined.iter().map(json)) {
        let kind = record["type"].as_str().expect("every record has a type");
        let row = README.lines().find(|line| line.starts_with(&format!("| `{kind}` |")));
        let row = row.unwrap_or_else(|| panic!("README has no row for {kind}"));
        let mut quoted: BTreeSet<&str> = row.split('`').skip(1).step_by(2).collect();
        // What a row says that is the same as another's.
        quoted.extend(if kind == "hook" { vec!["name", "answer", "how", "lost"] } else { Vec::new() });
        let fields = record.as_object().expect("a record is an object").keys();
        let told_of_all = ["type", "socket", "tcp"];
        let untold =
            fields.filter(|name| !told_of_all.contains(&name.as_str()) && !quoted.contains(name.as_str()));
        missing.extend(untold.map(|name| format!("{kind}.{name}")));
        rows.insert(kind.to_owned());
    }
    assert_eq!(missing, BTreeSet::new());
    assert_eq!(rows.len(), 8, "{rows:?}");
}

/// As above, of what `zsock report` tells beside verdicts.
#[test]
fn the_readme_names_every_field_of_the_records_of_a_report() {
    let at = Time::from_unix_ns(0);
    let end = "10.0.5.7:5432".parse().ok();
    let process = Process { pid: 1, comm: None, comm_hex: None, cgroup: None, container: None };
    let socket: Socket =
        serde_json::from_str(r#"{"id":"1","family":"ipv4"}"#).expect("no more has to be known");
    let what = What::Error(Errored { errno: Errno::named("ETIMEDOUT") });
    let name = Arc::from("");
    let incident = IncidentRecord {
        verdict: VerdictName::SilentDeath,
        severity: Severity::Critical,
        process: Some(&process),
        destination: end,
        accepted_on: end,
        until: at,
        count: 1,
        sockets: vec![socket.id],
        summary: "",
        advice: &[],
    };
    let entry = EntryRecord {
        ts: at,
        what: &what,
        state: Some(State::CLOSE),
        rto_ms: Some(1),
        unacked_bytes: Some(1),
        unsent_bytes: Some(1),
        last_received_ms: Some(1),
        replayed: true,
        inferred: true,
    };
    let other_end = Some(OtherEnd { host: "", id: socket.id, summary: Some("") });
    let timeline = TimelineRecord {
        socket: &socket,
        until: at,
        entries: vec![entry],
        omitted: Some(1),
        omitted_after: Some(1),
        other_end,
    };
    let clock = ClockRecord { reference: "", ahead_us: 1, uncertainty_us: 1, changes: 1 };
    let shed = Shed {
        what: "passes".into(),
        hooks: vec!["error".into()],
        interval_ms: Some(1),
        cpu_percent: 1.0,
        max_cpu_percent: 1,
        poorer: vec!["silent_death".into()],
        lost: "".into(),
    };
    let run = RunRecord {
        boot_id: Some(&name),
        kernel: Some(&name),
        until: at,
        records: 1,
        lost: 1,
        gaps: vec![GapRecord { since: at, until: at }],
        shed: vec![ShedRecord { ts: at, shed: &shed }],
        repeated: true,
        ended: true,
    };
    let damage = DamageRecord { input: "", at_byte: 1, line: Some(1), why: "" };
    let report = ReportRecord {
        records: 1,
        verdicts: 1,
        incidents: 1,
        unjoined: &[String::new()],
        damages: 1,
        stories_dropped: 1,
        sockets_dropped: 1,
    };
    let records = [json(&incident), json(&timeline), json(&clock), json(&run), json(&damage), json(&report)];
    let mut missing = BTreeSet::new();
    for record in &records {
        let kind = record["type"].as_str().expect("every record has a type");
        let row = README.lines().find(|line| line.starts_with(&format!("| `{kind}` |")));
        let row = row.unwrap_or_else(|| panic!("README has no row for {kind}"));
        let quoted: BTreeSet<&str> = row.split('`').skip(1).step_by(2).collect();
        let inner = ["/entries/0", "/gaps/0", "/other_end"];
        let objects = inner.iter().filter_map(|place| record.pointer(place)).chain([record]);
        let fields = objects.filter_map(|object| object.as_object()).flat_map(|object| object.keys());
        // Those of every record, and those of the entry's own type.
        let told_of_all = ["type", "schema", "errno"];
        let untold =
            fields.filter(|name| !told_of_all.contains(&name.as_str()) && !quoted.contains(name.as_str()));
        missing.extend(untold.map(|name| format!("{kind}.{name}")));
    }
    assert_eq!(missing, BTreeSet::new());
}

#[test]
fn the_report_in_the_readme_is_what_the_run_gives() {
    let mut builder = Builder::new(Options::default());
    for record in recorded() {
        builder.push(Next::Record(record));
    }
    let mut text = String::new();
    let shown = ReportText { palette: Palette::PLAIN, columns: Some(80), limit: None, is_selective: false };
    shown.tell(&builder.finish(), &mut |piece| text.push_str(piece));
    let blocks = blocks("```text report\n");
    assert_eq!(blocks.len(), 1);
    assert!(
        blocks[0].len() > 500 && text.contains(blocks[0]),
        "README.md shows\n{}\nbut the run gives\n{text}",
        blocks[0]
    );
}

fn json(record: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(record).expect("a record can be written")
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
    let mut output = Batch::default();
    for record in happened() {
        renderer.render(&record, None, &mut output);
        for finding in engine.push(&record) {
            renderer.render(&finding.record, Some(&finding.timeline), &mut output);
        }
        renderer.flush(record.at, &mut output);
    }
    str::from_utf8(output.as_bytes()).expect("zsock writes UTF-8").to_owned()
}

/// The contents of README.md's blocks that begin with `fence`.
fn blocks(fence: &str) -> Vec<&'static str> {
    let block = |rest: &'static str| rest.split_once("```").expect("every block of README.md ends").0;
    README.split(fence).skip(1).map(block).collect()
}
