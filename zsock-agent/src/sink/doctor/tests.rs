//! The page as a whole, as wide as it likes and fitted to terminals.

use super::*;
use crate::doctor::group;
use crate::record::RefusedWay;
use crate::source::sysctl::{NAMES, Settings};

/// The kernel's defaults but for keepalive's time.
fn settings(keepalive_time: u32) -> Settings {
    let values = [keepalive_time, 75, 9, 15, 3, 120_000, 0, 60, 6, 4, 4096];
    NAMES.into_iter().zip(values.map(Ok)).collect()
}

fn diagnosis() -> Diagnosis {
    let check = |name: &str, answer, lost: Option<&str>| Check {
        name: name.to_owned(),
        netns: None,
        answer,
        lost: lost.map(str::to_owned),
    };
    let checks = vec![
        check("trace", Answer::yes("without error"), None),
        check("CAP_BPF", Answer::Yes { how: None }, None),
        check("locked_memory", Answer::no("RLIMIT_MEMLOCK allows 64.0 KiB"), Some("nothing works")),
        check("no_lockdown", Answer::unknown("lockdown says \u{1b}[2J"), Some("nothing works")),
    ];
    let refused = |way, why: &str| RefusedWay { way, why: why.to_owned() };
    let hooks = vec![
        HookCheck {
            name: "keepalive",
            answer: Answer::yes("kprobe/tcp_keepalive_timer"),
            refused: vec![refused("fentry/tcp_keepalive_timer", "Operation not permitted (os error 1)")],
            lost: "keepalive probes: keepalive_unanswered",
        },
        HookCheck {
            name: "error",
            answer: Answer::no("this kernel refuses every way"),
            refused: vec![refused("tp_btf/inet_sk_error_report", "no BTF type")],
            lost: "error records; the error at the end of a connection is still seen",
        },
    ];
    let mut odd = settings(60);
    odd.insert("net.ipv4.tcp_retries2", Err("read it: denied".to_owned()));
    odd.remove("net.ipv4.tcp_rto_max_ms");
    let mut namespaces: Vec<_> =
        (4_026_532_000..4_026_532_007).map(|netns| (netns, Ok(settings(7200)))).collect();
    namespaces.push((4_026_532_100, Ok(odd)));
    namespaces.push((4_026_532_200, Err("it cannot be entered: Operation not permitted".to_owned())));
    Diagnosis {
        patient: Patient { version: "0.1.0", kernel: Some("6.12.107".to_owned()), boot_id: None },
        checks,
        hooks,
        groups: group(Some(4_026_532_002), namespaces),
    }
}

fn page(palette: Palette, width: Option<usize>) -> String {
    render(&diagnosis(), "web-1\u{7}", palette, width)
}

#[test]
fn all_is_told_to_a_person() {
    insta::assert_snapshot!(page(Palette::PLAIN, None));
}

#[test]
fn on_a_terminal_lines_end_in_time_but_for_commands_and_names() {
    insta::assert_snapshot!(page(Palette::PLAIN, Some(100)));
    for width in [40, 60, 80, 100, 200] {
        for line in page(Palette::PLAIN, Some(width)).lines() {
            let words = line.split_whitespace().count();
            let is_whole = words == 1 || line.contains("sysctl -w ");
            assert!(line.chars().count() <= width || is_whole, "{width}: {line:?}");
        }
    }
}

#[test]
fn colours_are_all_that_a_terminal_is_told() {
    let coloured = page(Palette::COLOURED, Some(100));
    assert!(coloured.contains("\u{1b}["));
    let stripped = without_colours(&coloured);
    assert_eq!(stripped, page(Palette::PLAIN, Some(100)));
}

/// Without what sets colours.
fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once('m').expect("a colour ends").1;
    }
    plain + rest
}

#[test]
fn whatever_the_width_nothing_is_lost() {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let wide = words(&page(Palette::PLAIN, None));
    for width in [0, 1, 7, 40, 77, 79, 80, 81, 500] {
        assert_eq!(words(&page(Palette::PLAIN, Some(width))), wide, "{width}");
    }
}
