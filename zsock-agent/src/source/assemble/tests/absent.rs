//! A kernel that lacks a field: what needs it is absent, and nothing else is told in its place.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::num::NonZeroU32;

use serde_json::Value;
use zsock_common::offsets::{ABSENT, Field, Offsets};

use self::blank::without;
use self::story::{other_stories, story};
use super::*;
use crate::detect::Thresholds;
use crate::engine::Engine;
use crate::kernel_rules::Jiffies;
use crate::source::assemble::known;

mod blank;
mod story;

/// Fields that kernels lack without anything being lost, and why.
const HARMLESS: [(&str, &str); 11] = [
    ("icsk_timeout", "kernels that lack it keep no deadline beside the timer's own"),
    ("total_rto", "shows only how old the kernel is"),
    ("tcp_clock_cache", "the clock is read instead"),
    ("sk_type", "raw sockets are remembered beside TCP's, and nothing is told of them"),
    ("request_timer", "only the census tells it: the timer of a handshake"),
    ("time_wait_timer", "only the census tells it: the timer of a connection in TIME_WAIT"),
    ("time_wait_state", "only the census tells it: FIN_WAIT2 without a process is told as TIME_WAIT"),
    ("regs_first_argument", "registers have other names on other processors"),
    ("regs_code_segment", "registers have other names on other processors"),
    ("regs_number_x86", "registers have other names on other processors"),
    ("regs_number_arm", "registers have other names on other processors"),
];

/// Kernels since 6.16 have all but this.
const NEW_LACK: &[&str] = &["icsk_timeout"];
/// 6.1 has all but these.
const OLD_LACK: &[&str] = &["sk_ino", "icsk_rto_max", "usec_ts", "total_rto", "sysctl_syn_linear_timeouts"];

fn fields() -> Vec<&'static Field> {
    let mut fields = Vec::new();
    let Ok(_) = Offsets::resolve(|field| {
        fields.push(field);
        Ok::<_, Infallible>(0)
    });
    fields
}

fn assembler_without(lacking: &[&str]) -> Assembler {
    let Ok(offsets) =
        Offsets::resolve(|field| Ok::<_, Infallible>(if lacking.contains(&field.name) { ABSENT } else { 0 }));
    let hz = NonZeroU32::new(1000).expect("1000 is not zero");
    let reasons = BTreeMap::from([(3, "TCP_ABORT_ON_CLOSE".to_owned())]);
    Assembler::new(
        Arc::from("web-1"),
        Clock::fixed(0),
        Units::new(Jiffies::new(hz), &offsets),
        reasons,
        1_000,
    )
}

/// Whether all that `few` says is said by `all` too.
fn is_part(few: &Value, all: &Value) -> bool {
    match (few, all) {
        (Value::Object(few), Value::Object(all)) => {
            few.iter().all(|(key, value)| all.get(key).is_some_and(|other| is_part(value, other)))
        }
        _ => few == all,
    }
}

/// The records of a story, as JSON, and the names of the verdicts on them.
fn told_without(lacking: &[&str], field: Option<&str>, raws: &[Raw]) -> (Vec<Value>, BTreeSet<String>) {
    let lacking: Vec<_> = lacking.iter().copied().chain(field).collect();
    let mut assembler = assembler_without(&lacking);
    let mut engine = Engine::new(Thresholds::default());
    let (mut records, mut verdicts) = (Vec::new(), BTreeSet::new());
    for raw in raws {
        let raw = lacking.iter().fold(raw.clone(), |raw, field| without(field, raw));
        assembler.learn(&raw);
        for record in assembled(&mut assembler, &raw) {
            let findings = engine.push(&record);
            verdicts.extend(findings.iter().map(|finding| json(&finding.record)["verdict"].to_string()));
            records.push(json(&record));
        }
    }
    (records, verdicts)
}

fn json(record: &Record) -> Value {
    let bytes = serde_json::to_vec(record).expect("records are JSON");
    let mut json: Value = serde_json::from_slice(&bytes).expect("records are JSON");
    // A handshake has an id made of its ends.
    if let Some(socket) = json.get_mut("socket").and_then(Value::as_object_mut) {
        socket.remove("id");
    }
    json
}

#[test]
fn without_a_field_nothing_is_told_that_would_not_be_told_with_it() {
    let fields = fields();
    let optional = fields.iter().filter(|field| !field.is_required).map(|field| field.name);
    for (lacking, usec_ts) in [(NEW_LACK, 1), (OLD_LACK, 0)] {
        let mut stories = other_stories(usec_ts);
        stories.extend(
            [(false, false), (true, false), (true, true)].map(|(own, user)| story(own, user, usec_ts)),
        );
        for story in &stories {
            let (all, verdicts) = told_without(lacking, None, story);
            for field in optional.clone() {
                let (few, fewer_verdicts) = told_without(lacking, Some(field), story);
                for record in few {
                    let same =
                        |other: &&Value| other["ts"] == record["ts"] && other["type"] == record["type"];
                    let is_told = all.iter().filter(same).any(|other| is_part(&record, other));
                    assert!(is_told, "without {field}: {record:#}\nwith it: {:#?}", all.iter().find(same));
                }
                assert!(fewer_verdicts.is_subset(&verdicts), "without {field}: {fewer_verdicts:?}");
            }
        }
    }
}

#[test]
fn every_field_that_a_kernel_may_lack_is_part_of_a_fact_or_known_to_be_harmless() {
    let of_facts: BTreeSet<_> = known::FACTS.iter().flat_map(|fact| fact.fields).copied().collect();
    let harmless = BTreeSet::from(HARMLESS.map(|(field, _)| field));
    let optional: BTreeSet<_> =
        fields().iter().filter(|field| !field.is_required).map(|field| field.name).collect();
    assert_eq!(&of_facts | &harmless, optional);
    assert_eq!(&of_facts & &harmless, BTreeSet::new());
}

#[test]
fn people_are_told_what_a_missing_field_takes_from_them() {
    let losses = |lacking: &[&'static str]| {
        let Ok(offsets) = Offsets::resolve(|field| {
            Ok::<_, Infallible>(if lacking.contains(&field.name) { ABSENT } else { 0 })
        });
        known::losses(&offsets, lacking).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(losses(&["sk_uid", "icsk_timeout"]), ["this kernel's types lack sk_uid; without it no uid"]);
    assert_eq!(losses(OLD_LACK), [""; 0]);
    // A kernel that counts time-outs has stamps of either unit, and says which.
    let unknown_unit = losses(&["usec_ts", "icsk_timeout"]);
    assert!(
        unknown_unit.iter().all(|loss| loss.starts_with("this kernel's types lack usec_ts; without it no "))
    );
    assert!(unknown_unit.iter().any(|loss| loss.ends_with("when it gives up")), "{unknown_unit:?}");
}
