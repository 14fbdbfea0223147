//! Network namespaces put together, and all that is told as records.

use super::*;
use crate::source::sysctl::NAMES;

/// Settings with this time of keepalive.
fn settings(keepalive_time: u32) -> Settings {
    let values = [keepalive_time, 75, 9, 15, 3, 120_000, 0, 60, 6, 4, 4096];
    NAMES.into_iter().zip(values.map(Ok)).collect()
}

fn found(groups: &[Group]) -> Vec<(Vec<u64>, bool, bool)> {
    let shown = |group: &Group| (group.namespaces.clone(), group.has_own, group.settings.is_ok());
    groups.iter().map(shown).collect()
}

#[test]
fn namespaces_are_told_together_where_the_same_is_to_be_said() {
    let denied = || Err("entering it: denied".to_owned());
    let namespaces = vec![
        (7, Ok(settings(60))),
        (5, Ok(settings(7200))),
        (9, denied()),
        (3, Ok(settings(60))),
        (4, Ok(settings(60))),
        (8, denied()),
        (6, Ok(settings(7200))),
    ];
    let groups = group(Some(6), namespaces.clone());
    let expected = [(vec![6, 5], true, true), (vec![3, 4, 7], false, true), (vec![8, 9], false, false)];
    assert_eq!(found(&groups), expected);
    // Of two strange ones the larger comes first, and no own one is made up.
    let groups = group(None, namespaces);
    let expected = [(vec![3, 4, 7], false, true), (vec![5, 6], false, true), (vec![8, 9], false, false)];
    assert_eq!(found(&groups), expected);
    assert_eq!(group(Some(1), Vec::new()), []);
}

#[test]
fn five_hundred_namespaces_alike_are_one_group_and_five_hundred_times_the_records() {
    let namespaces = (1..=500).map(|netns| (netns, Ok(settings(60)))).collect();
    let groups = group(Some(1), namespaces);
    assert_eq!(groups.len(), 1);
    let patient = Patient { version: "0.1.0", kernel: None, boot_id: None };
    let diagnosis = Diagnosis { patient, checks: Vec::new(), hooks: Vec::new(), groups };
    assert_eq!(diagnosis.records().count(), 1 + 500 * NAMES.len());
}

#[test]
fn each_thing_that_is_told_is_a_record_with_its_answer() {
    let mut odd = settings(60);
    odd.insert("net.core.somaxconn", Err("read it: denied".to_owned()));
    odd.retain(|name, _| ["net.core.somaxconn", "net.ipv4.tcp_fin_timeout"].contains(name));
    let namespaces = vec![(1, Ok(odd)), (2, Err("entering it: denied".to_owned()))];
    let patient = Patient { version: "0.1.0", kernel: Some("6.12".to_owned()), boot_id: None };
    let check = |answer, lost: Option<&str>| Check {
        name: "btf".to_owned(),
        netns: None,
        answer,
        lost: lost.map(str::to_owned),
    };
    let hook = HookCheck {
        name: "keepalive",
        answer: Answer::yes("kprobe/tcp_keepalive_timer"),
        refused: vec![crate::record::RefusedWay {
            way: "fentry/tcp_keepalive_timer",
            why: "denied".to_owned(),
        }],
        lost: "probes",
    };
    let checks = vec![
        check(Answer::Yes { how: None }, None),
        check(Answer::no("it is missing"), Some("all")),
        check(Answer::unknown("it cannot be read"), Some("all")),
    ];
    let diagnosis = Diagnosis { patient, checks, hooks: vec![hook], groups: group(Some(1), namespaces) };
    let lines = diagnosis.records().map(|record| serde_json::to_string(&record).unwrap() + "\n");
    insta::assert_snapshot!(lines.collect::<String>());
}
