//! Stories of connections that idle and of what kills them. Times are seconds.

use std::net::SocketAddr;

use crate::detect::Thresholds;
use crate::detect::story::{
    at, closed_by_reset, keepalive, lost, on, replayed, reset_received, state, timed_out, verdict, with,
};
use crate::engine::{Engine, Finding};
use crate::record::{
    Body, DestinationSample, Event, KeepaliveSettings, Record, Severity, SocketId, State, Subject, Tcp,
    VerdictName,
};

const DATABASE: &str = "10.0.5.7:5432";

/// Of one connection to `to`: it last heard at `heard`, sent at `sent` and was given up `sent + 20`.
fn silent(to: &str, heard: u64, sent: u64) -> Record {
    let died = sent + 20;
    let end = with(timed_out(), |tcp| {
        tcp.last_received_ms = Some((died - heard) * 1_000);
        tcp.stalled_ms = Some(20_000);
    });
    on(died * 1_000, of(to, heard, end))
}

/// The same of one whose sending was answered by a reset.
fn reset(to: &str, heard: u64, sent: u64) -> [Record; 2] {
    let met = with(reset_received(), |tcp| {
        tcp.last_received_ms = Some((sent - heard) * 1_000);
        tcp.last_sent_ms = Some(0);
    });
    [met, closed_by_reset()].map(|event| on(sent * 1_000, of(to, heard, event)))
}

/// An event of the connection to `to` that has this number.
fn of(to: &str, number: u64, mut event: Event) -> Event {
    event.socket_mut().id = SocketId(number);
    event.socket_mut().remote = Some(to.parse::<SocketAddr>().unwrap());
    event
}

/// At `now` it is known that one to `to` idled for `survived` and was answered.
fn survived(to: &str, now: u64, survived: u64) -> Record {
    let sample = DestinationSample { destination: to.parse().unwrap(), survived_ms: survived * 1_000 };
    Record::new(at(now * 1_000), &"web-1".into(), Body::Destination(Box::new(sample)))
}

fn inferred(records: &[Record]) -> Vec<Finding> {
    let mut engine = Engine::new(Thresholds::default());
    inferred_by(&mut engine, records)
}

fn inferred_by(engine: &mut Engine, records: &[Record]) -> Vec<Finding> {
    let is_inferred = |finding: &Finding| verdict(finding).verdict == VerdictName::IdleTimeoutInferred;
    records.iter().flat_map(|record| engine.push(record)).filter(is_inferred).collect()
}

/// Each verdict in short: when, of what, its phase and how many deaths after how long, how long was survived.
fn told(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(tell).collect()
}

fn tell(finding: &Finding) -> String {
    let seconds = finding.record.at.since(at(0)).as_secs();
    let verdict = verdict(finding);
    let Subject::Destination { destination } = verdict.subject else { panic!("of a destination") };
    let fact = |name: &str| {
        let ms = verdict.evidence.get(name).map(|value| value.as_u64().unwrap());
        ms.map_or_else(|| "-".to_owned(), |ms| (ms / 1_000).to_string())
    };
    let how = verdict.evidence["how"].as_str().unwrap();
    let (deaths, phase) = (&verdict.evidence["deaths"], verdict.phase);
    format!(
        "{seconds} {destination} {phase} {deaths} {how} {}/{}",
        fact("survived_ms"),
        fact("died_after_ms")
    )
}

#[test]
fn two_deaths_that_nothing_but_a_time_out_explains_are_enough() {
    let records = [
        silent(DATABASE, 0, 400),
        survived(DATABASE, 420, 300),
        // It heard from its peer after the first had died.
        silent(DATABASE, 450, 820),
    ];
    let findings = inferred(&records);
    assert_eq!(told(&findings), ["840 10.0.5.7:5432 opened 2 silence 300/370"]);
    let verdict = verdict(&findings[0]);
    assert_eq!(
        serde_json::to_string(&verdict.evidence).unwrap(),
        r#"{"deaths":2,"died_after_ms":370000,"how":"silence","likely":"AWS Network Firewall or EC2 security groups","survived_ms":300000}"#
    );
    assert_eq!((verdict.since, verdict.severity), (at(400_000), Severity::Warning));
    assert_eq!(
        verdict.summary,
        "2 connections to 10.0.5.7:5432 that had idled for 6 min 10 s or longer got no answer to the next thing that they sent, while up to \
         5 min 0 s were answered: something forgets idle connections there, which fits AWS Network Firewall or EC2 security groups"
    );
    assert_eq!(
        verdict.advice,
        [
            "keep them known: SO_KEEPALIVE with TCP_KEEPIDLE at most 185 s and TCP_KEEPINTVL at most 61 s on sockets to 10.0.5.7:5432",
            "or close pooled connections to 10.0.5.7:5432 after at most 185 s without use",
            "set TCP_USER_TIMEOUT to 370000 (milliseconds) on these sockets, so that a process hears of a connection that was forgotten all \
             the same",
        ]
    );
}

#[test]
fn one_death_may_have_any_reason() {
    assert_eq!(told(&inferred(&[silent(DATABASE, 0, 400), survived(DATABASE, 450, 300)])), [""; 0]);
}

#[test]
fn what_one_moment_explains_is_no_time_out() {
    // The peer vanished, or was restarted, at 390: whatever the connections idled, they idled then.
    let vanished = [silent(DATABASE, 0, 400), silent(DATABASE, 380, 411), silent(DATABASE, 100, 900)];
    assert_eq!(told(&inferred(&vanished)), [""; 0]);
    let restarted = [reset(DATABASE, 0, 400), reset(DATABASE, 380, 411), reset(DATABASE, 100, 900)];
    assert_eq!(told(&inferred(restarted.as_flattened())), [""; 0]);
}

#[test]
fn what_shorter_idle_times_survive_no_single_moment_explains() {
    // All opened at once, behind a gateway that forgets after 4 s.
    let deaths = [silent(DATABASE, 0, 5), silent(DATABASE, 0, 6), silent(DATABASE, 0, 7)];
    let bracketed = [&deaths[..], &[survived(DATABASE, 30, 3)]].concat();
    assert_eq!(told(&inferred(&bracketed)), ["30 10.0.5.7:5432 opened 3 silence 3/5"]);
    // Two may have met one restart of the peer.
    assert_eq!(told(&inferred(&bracketed[1..])), [""; 0]);
    let far_below = [&deaths[..], &[survived(DATABASE, 30, 2)]].concat();
    assert_eq!(told(&inferred(&far_below)), [""; 0]);
    let contradicted = [&bracketed[..], &[survived(DATABASE, 40, 6)]].concat();
    assert_eq!(
        told(&inferred(&contradicted)),
        ["30 10.0.5.7:5432 opened 3 silence 3/5", "40 10.0.5.7:5432 updated 0 silence 6/-"]
    );
}

#[test]
fn a_connection_that_dies_in_the_midst_of_traffic_tells_of_an_outage() {
    let two_deaths = [silent(DATABASE, 0, 400), silent(DATABASE, 450, 820)];
    let too_late = [&two_deaths[..], &[silent(DATABASE, 819, 821)]].concat();
    assert_eq!(
        told(&inferred(&too_late)),
        ["840 10.0.5.7:5432 opened 2 silence -/370", "841 10.0.5.7:5432 updated 1 silence -/400"]
    );
    let busy = on(
        839_000,
        of(
            DATABASE,
            1,
            with(timed_out(), |tcp| {
                tcp.last_received_ms = Some(21_000);
                tcp.stalled_ms = Some(20_000);
            }),
        ),
    );
    let in_time = [two_deaths[0].clone(), busy, two_deaths[1].clone()];
    assert_eq!(told(&inferred(&in_time)), [""; 0]);
}

#[test]
fn it_is_told_again_as_the_bound_narrows() {
    let records = [
        silent(DATABASE, 0, 1_000),
        silent(DATABASE, 1_100, 2_100),
        survived(DATABASE, 2_200, 50),
        survived(DATABASE, 2_300, 300),
        silent(DATABASE, 2_400, 3_300),
        silent(DATABASE, 3_400, 3_900),
        silent(DATABASE, 4_000, 5_500),
    ];
    assert_eq!(
        told(&inferred(&records)),
        [
            "2120 10.0.5.7:5432 opened 2 silence -/1000",
            "2300 10.0.5.7:5432 updated 2 silence 300/1000",
            "3320 10.0.5.7:5432 updated 3 silence 300/900",
            "3920 10.0.5.7:5432 updated 4 silence 300/500",
        ]
    );
}

#[test]
fn an_answer_after_longer_takes_deaths_back() {
    let two_deaths = [silent(DATABASE, 0, 400), silent(DATABASE, 450, 820)];
    let findings =
        inferred(&[&two_deaths[..], &[survived(DATABASE, 900, 380), survived(DATABASE, 950, 390)]].concat());
    assert_eq!(
        told(&findings),
        ["840 10.0.5.7:5432 opened 2 silence -/370", "900 10.0.5.7:5432 updated 1 silence 380/400"]
    );
    let taken_back = verdict(&findings[1]);
    assert_eq!(taken_back.severity, Severity::Info);
    assert_eq!(
        taken_back.summary,
        "no idle time-out can be told of 10.0.5.7:5432 any more: one that had idled for 6 min 20 s was answered, 1 death left too few to tell"
    );
    let first = [&[survived(DATABASE, 1, 380)], &two_deaths[..], &[survived(DATABASE, 900, 380)]].concat();
    assert_eq!(
        told(&inferred(&first)),
        ["840 10.0.5.7:5432 opened 2 silence -/370", "900 10.0.5.7:5432 updated 1 silence 380/400"]
    );
}

#[test]
fn it_can_hold_again_after_it_was_taken_back() {
    let records = [
        silent(DATABASE, 0, 400),
        silent(DATABASE, 450, 820),
        survived(DATABASE, 900, 500),
        silent(DATABASE, 1_000, 1_600),
        silent(DATABASE, 1_700, 2_300),
    ];
    assert_eq!(
        told(&inferred(&records)),
        [
            "840 10.0.5.7:5432 opened 2 silence -/370",
            "900 10.0.5.7:5432 updated 0 silence 500/-",
            "2320 10.0.5.7:5432 updated 2 silence 500/600",
        ]
    );
}

#[test]
fn deaths_by_reset_and_by_silence_are_kept_apart() {
    let [first_reset, second_reset] = [reset(DATABASE, 0, 400), reset(DATABASE, 450, 820)];
    let one_of_each = [&first_reset[..], &[silent(DATABASE, 450, 820)]].concat();
    assert_eq!(told(&inferred(&one_of_each)), [""; 0]);
    let two_of_each = [&one_of_each[..], &second_reset, &[silent(DATABASE, 900, 1_300)]].concat();
    assert_eq!(
        told(&inferred(&two_of_each)),
        ["820 10.0.5.7:5432 opened 2 reset -/370", "1320 10.0.5.7:5432 opened 2 silence -/370"]
    );
}

#[test]
fn a_neighbourhood_speaks_where_no_address_can() {
    let one_each = [silent("10.0.5.7:5432", 0, 400), silent("10.0.5.8:5432", 450, 820)];
    assert_eq!(told(&inferred(&one_each)), ["840 10.0.5.0/24:5432 opened 2 silence -/370"]);
    let other_port = [silent("10.0.5.7:5432", 0, 400), silent("10.0.5.8:6379", 450, 820)];
    assert_eq!(told(&inferred(&other_port)), [""; 0]);
    let contradicted = [
        silent("10.0.5.7:5432", 0, 400),
        survived("10.0.5.9:5432", 430, 380),
        silent("10.0.5.8:5432", 450, 820),
    ];
    assert_eq!(told(&inferred(&contradicted)), [""; 0]);
    let two_of_its_own = [
        silent("[2001:db8::1]:443", 0, 400),
        silent("[2001:db8::1]:443", 450, 820),
        silent("[2001:db8::2]:443", 900, 1_400),
    ];
    assert_eq!(told(&inferred(&two_of_its_own)), ["840 [2001:db8::1]:443 opened 2 silence -/370"]);
}

#[test]
fn a_connection_that_did_not_idle_for_the_threshold_does_not_count() {
    let mut thresholds = Thresholds::default();
    let records = [silent(DATABASE, 0, 29), silent(DATABASE, 50, 79)];
    assert_eq!(told(&inferred(&records)), [""; 0]);
    thresholds.set("stale_reset=20s").unwrap();
    thresholds.set("idle_timeout_inferred=3").unwrap();
    let mut engine = Engine::new(thresholds);
    assert_eq!(told(&inferred_by(&mut engine, &records)), [""; 0]);
    assert_eq!(
        told(&inferred_by(&mut engine, &[silent(DATABASE, 100, 130)])),
        ["150 10.0.5.7:5432 opened 3 silence -/29"]
    );
}

#[test]
fn a_keepalive_probe_is_a_sending_too() {
    let dead = |heard: u64| {
        let end = with(timed_out(), |tcp| {
            *tcp = Tcp {
                unacked_bytes: Some(0),
                keepalive: Some(KeepaliveSettings { idle_ms: 60_000, ..keepalive() }),
                last_received_ms: Some(63_000),
                ..tcp.clone()
            };
        });
        on((heard + 63) * 1_000, of(DATABASE, heard, end))
    };
    assert_eq!(told(&inferred(&[dead(0), dead(100)])), ["163 10.0.5.7:5432 opened 2 silence -/60"]);
}

#[test]
fn connections_that_this_host_accepted_say_nothing_of_a_destination() {
    let born = |heard: u64| {
        let birth = replayed(state(State::LISTEN, State::SYN_RECV));
        on(heard * 1_000, of(DATABASE, heard, birth))
    };
    let records = [born(0), silent(DATABASE, 0, 400), born(450), silent(DATABASE, 450, 820)];
    assert_eq!(told(&inferred(&records)), [""; 0]);
}

#[test]
fn loss_since_the_first_death_is_said() {
    let records = [lost(1_000, 7), silent(DATABASE, 0, 400), lost(500_000, 3), silent(DATABASE, 450, 820)];
    let findings = inferred(&records);
    assert_eq!(told(&findings), ["840 10.0.5.7:5432 opened 2 silence -/370"]);
    assert_eq!(verdict(&findings[0]).evidence["lost_before"], 3);
}

#[test]
fn many_deaths_are_counted_and_few_remembered() {
    let records: Vec<_> =
        (0..100).map(|number| silent(DATABASE, number * 1_000, number * 1_000 + 400 + number)).collect();
    let mut engine = Engine::new(Thresholds::default());
    let findings = inferred_by(&mut engine, &records);
    assert_eq!(told(&findings), ["1421 10.0.5.7:5432 opened 2 silence -/400"]);
    let narrowed = inferred_by(&mut engine, &[survived(DATABASE, 200_000, 399)]);
    assert_eq!(told(&narrowed), ["200000 10.0.5.7:5432 updated 100 silence 399/400"]);
}

#[test]
fn the_addresses_asked_about_are_bounded_and_the_oldest_is_forgotten() {
    let mut engine = Engine::new(Thresholds::default());
    for number in 0_u64..1_030 {
        let address = format!("10.{}.{}.7:5432", number / 250, number % 250);
        inferred_by(&mut engine, &[silent(&address, number, number + 400)]);
    }
    let suspects: Vec<_> = engine.suspects().map(|suspect| suspect.to_string()).collect();
    assert_eq!(suspects.len(), 1_024);
    assert_eq!(suspects[0], "10.0.6.7:5432");
    let alone = inferred_by(&mut engine, &[silent("10.0.0.7:5432", 2_000, 2_400)]);
    assert_eq!(told(&alone), [""; 0]);
}
