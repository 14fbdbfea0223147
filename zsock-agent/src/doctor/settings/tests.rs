//! The kernel's defaults, and the edges.

use super::*;
use crate::source::sysctl::NAMES;

/// The defaults of a kernel that has every setting.
const DEFAULTS: [u32; 11] = [7200, 75, 9, 15, 3, 120_000, 0, 60, 6, 4, 4096];

/// The defaults but for these.
fn with(changed: &[(&str, u32)]) -> Settings {
    for (suffix, _) in changed {
        assert!(NAMES.iter().any(|name| name.ends_with(suffix)), "no setting {suffix}");
    }
    let value = |name, default| {
        let changed = changed.iter().find(|(suffix, _)| str::ends_with(name, suffix));
        Ok(changed.map_or(default, |(_, value)| *value))
    };
    NAMES.into_iter().zip(DEFAULTS).map(|(name, default)| (name, value(name, default))).collect()
}

/// What is said of the setting whose name ends so.
fn told(settings: &Settings, suffix: &str) -> SettingCheck {
    judge(settings).into_iter().find(|check| check.name.ends_with(suffix)).unwrap()
}

/// Its consequence, and the value of the change.
fn said(changed: &[(&str, u32)], suffix: &str) -> (String, Option<String>) {
    let SettingCheck { consequence, change, .. } = told(&with(changed), suffix);
    (consequence.unwrap(), change)
}

/// After how many milliseconds.
fn after(changed: &[(&str, u32)], suffix: &str) -> u64 {
    told(&with(changed), suffix).after_ms.unwrap()
}

#[test]
fn every_setting_that_is_read_has_a_rule() {
    assert_eq!(RULES.map(|(name, _)| name), NAMES);
}

#[test]
fn the_defaults_of_the_kernel_are_told() {
    let lines = judge(&with(&[])).into_iter().map(|check| {
        let SettingCheck { name, value, consequence, change, .. } = check;
        let change = change.map(|change| format!("\n    {change}")).unwrap_or_default();
        format!("{name} = {value}: {}{change}\n", consequence.unwrap())
    });
    insta::assert_snapshot!(lines.collect::<String>());
}

#[test]
fn keepalive_is_told_by_its_three_settings_together() {
    let settings = [("_time", 60), ("_intvl", 10), ("_probes", 6)];
    assert_eq!(
        said(&settings, "_time"),
        (
            "a socket with keepalive asks its silent peer for the first time after 1 min, and notices after 2 min that it is dead"
                .to_owned(),
            None
        )
    );
    assert_eq!(after(&settings, "_time"), 120_000);
    assert_eq!(after(&settings, "_intvl"), 60_000);
    // As long as what is assumed to forget, and longer.
    assert_eq!(said(&[("_time", 350)], "_time").1, None);
    assert_eq!(said(&[("_time", 351)], "_time").1.unwrap(), "sysctl -w net.ipv4.tcp_keepalive_time=175");
    assert_eq!(said(&[("_intvl", 20), ("_probes", 6)], "_intvl").1, None);
    assert_eq!(
        said(&[("_intvl", 21), ("_probes", 6)], "_intvl").1.unwrap(),
        "sysctl -w net.ipv4.tcp_keepalive_intvl=10"
    );
    // No interval helps against so many probes.
    assert_eq!(said(&[("_intvl", 1), ("_probes", 255)], "_intvl").1, None);
}

#[test]
fn without_probes_keepalive_ends_what_is_idle_unasked() {
    let none = [("_probes", 0)];
    assert_eq!(said(&none, "_time").0, "a socket with keepalive is given up after 2 h of silence, unasked");
    assert_eq!(told(&with(&none), "_intvl").consequence, None);
    assert_eq!(
        said(&none, "_probes"),
        (
            "keepalive asks nobody: it ends connections that are merely idle".to_owned(),
            Some("sysctl -w net.ipv4.tcp_keepalive_probes=9".to_owned())
        )
    );
    assert!(
        said(&[("_probes", 1)], "_probes").0.starts_with("a connection ends after 1 keepalive probe without")
    );
}

/// A limit is a time, looked at when the next retransmission is due: at 0.2, 0.6, 1.4, 3.0, 6.2 s … after the loss
/// probe, which is sent after 0.2 s.
#[test]
fn a_request_hangs_until_the_first_timeout_past_the_limit() {
    let hangs = [0, 1, 3, 5, 8].map(|retries| after(&[("retries2", retries)], "retries2"));
    for (hangs, expected) in hangs.into_iter().zip([820, 1_640, 6_600, 13_200, 105_000_u64]) {
        assert!(hangs.abs_diff(expected) < expected / 10, "{hangs} ms, not {expected}");
    }
}

#[test]
fn fifteen_minutes_are_too_long_and_the_hundred_seconds_of_rfc_1122_are_not() {
    let change = |retries| said(&[("retries2", retries)], "retries2").1;
    assert_eq!(change(15).unwrap(), "sysctl -w net.ipv4.tcp_retries2=8");
    assert_eq!(change(255).unwrap(), "sysctl -w net.ipv4.tcp_retries2=8");
    assert_eq!(change(8), None);
    assert_eq!(change(0), None);
    assert!(said(&[("retries2", 5)], "retries2").0.contains("RFC 1122 asks for 100 s"));
    assert!(!said(&[("retries2", 8)], "retries2").0.contains("RFC"));
}

/// A change after which the same page would ask for another is none.
#[test]
fn with_a_lower_bound_of_the_back_off_it_takes_more_retries_for_the_hundred_seconds() {
    for (rto_max_ms, least) in [(60_000, "8"), (20_000, "10"), (1_000, "101")] {
        let bound = ("rto_max_ms", rto_max_ms);
        let change = said(&[bound, ("retries2", 200)], "retries2").1.unwrap();
        assert_eq!(change, format!("sysctl -w net.ipv4.tcp_retries2={least}"));
        let (consequence, change) = said(&[bound, ("retries2", least.parse().unwrap())], "retries2");
        assert!(!consequence.contains("RFC 1122") && change.is_none(), "{consequence} {change:?}");
    }
}

#[test]
fn the_bound_of_the_back_off_shortens_what_takes_long() {
    let hangs = |rto_max_ms| after(&[("rto_max_ms", rto_max_ms)], "retries2");
    assert!(hangs(120_000) > 920_000, "{}", hangs(120_000));
    assert!((50_000..200_000).contains(&hangs(10_000)), "{}", hangs(10_000));
    // Kernels without the setting have the default in its place.
    let mut settings = with(&[]);
    settings.remove("net.ipv4.tcp_rto_max_ms");
    assert_eq!(told(&settings, "retries2").after_ms, Some(hangs(120_000)));
}

#[test]
fn no_orphan_retries_are_eight() {
    assert_eq!(
        after(&[("orphan_retries", 0)], "orphan_retries"),
        after(&[("orphan_retries", 8)], "orphan_retries")
    );
    assert!(said(&[("orphan_retries", 0)], "orphan_retries").0.ends_with("(the kernel takes 0 for 8)"));
    assert!(!said(&[("orphan_retries", 8)], "orphan_retries").0.contains("takes 0"));
    assert!(after(&[("orphan_retries", 1)], "orphan_retries") < 2_000);
    assert_eq!(
        said(&[("orphan_retries", 15)], "orphan_retries").1.unwrap(),
        "sysctl -w net.ipv4.tcp_orphan_retries=0"
    );
}

#[test]
fn a_connection_attempt_is_told_with_and_without_its_linear_timeouts() {
    // 1, 2, 4 … 64 s.
    let doubling = after(&[("syn_retries", 6), ("linear_timeouts", 0)], "syn_retries");
    assert!((127_000..140_000).contains(&doubling), "{doubling}");
    // Four times 1 s, then 1, 2, 4 … s, until 127 s have passed or ten are sent.
    let linear = after(&[("syn_retries", 6)], "syn_retries");
    assert!((127_000..140_000).contains(&linear), "{linear}");
    assert_eq!(said(&[("syn_retries", 7)], "syn_retries").1.unwrap(), "sysctl -w net.ipv4.tcp_syn_retries=6");
    assert_eq!(said(&[("syn_retries", 6)], "syn_retries").1, None);
}

#[test]
fn however_short_its_timeout_fin_wait2_takes_as_long_as_a_few_retransmissions() {
    assert_eq!(
        [0, 1, 7].map(|timeout| after(&[("fin_timeout", timeout)], "fin_timeout")),
        [714, 1_000, 7_000]
    );
}

#[test]
fn what_is_usual_needs_no_change() {
    for suffix in ["retries1", "rto_max_ms", "orphan_retries", "fin_timeout", "linear_timeouts", "somaxconn"]
    {
        assert_eq!(said(&[], suffix).1, None, "{suffix}");
    }
    assert_eq!(
        said(&[("fin_timeout", 61)], "fin_timeout").1.unwrap(),
        "sysctl -w net.ipv4.tcp_fin_timeout=60"
    );
    assert_eq!(said(&[("somaxconn", 128)], "somaxconn").1.unwrap(), "sysctl -w net.core.somaxconn=4096");
}

#[test]
fn nothing_is_said_that_rests_on_a_value_that_is_not_known() {
    let mut settings = with(&[]);
    settings.insert("net.ipv4.tcp_keepalive_intvl", Err("denied".to_owned()));
    settings.insert("net.ipv4.tcp_rto_max_ms", Err("denied".to_owned()));
    settings.remove("net.core.somaxconn");
    for suffix in ["keepalive_time", "retries2", "orphan_retries", "syn_retries"] {
        assert_eq!((told(&settings, suffix).consequence, told(&settings, suffix).after_ms), (None, None));
    }
    assert!(
        judge(&settings)
            .iter()
            .all(|check| !check.name.ends_with("intvl") && !check.name.ends_with("somaxconn"))
    );
    assert_eq!(judge(&Settings::new()), []);
}

#[test]
fn any_values_are_told_without_end_or_panic() {
    for extreme in [0, 1, 255, 65_535, i32::MAX.unsigned_abs()] {
        let settings: Settings = NAMES.into_iter().map(|name| (name, Ok(extreme))).collect();
        assert_eq!(judge(&settings).len(), NAMES.len());
    }
}
