use super::*;
use crate::audit::samples::{
    accepted, all, found, guarded_late, listener, on_loopback, orphan, running_out, stuck, unaccepted,
};

fn coverage() -> Coverage {
    Coverage {
        namespaces: 3,
        failed: vec![(4_026_532_001, "permission denied".to_owned())],
        source: "iterators",
        not_told: vec!["when payload was last sent".to_owned()],
    }
}

fn summed(grouping: Grouping, sockets: &[Found]) -> Summary {
    let mut tally = Tally::new(grouping);
    for found in sockets {
        tally.add(found);
    }
    tally.summary(10, &coverage(), Duration::from_millis(12))
}

/// A group in a few words.
fn words(group: &Group) -> String {
    let process = group.process.as_ref().map_or("–".to_owned(), |process| process.pid.to_string());
    let end = match (group.destination, group.accepted_on) {
        (Some(destination), None) => format!("to {destination}"),
        (None, Some(local)) => format!("on {local}"),
        (None, None) => "–".to_owned(),
        (Some(_), Some(_)) => panic!("a group is of accepted connections or of others"),
    };
    let noticed: Vec<_> = group.noticed.iter().map(|(noticed, count)| format!("{count} {noticed}")).collect();
    format!("{process} {end} {}: {}", group.sockets, noticed.join(", "))
}

fn groups(grouping: Grouping, sockets: &[Found]) -> Vec<String> {
    summed(grouping, sockets).groups.iter().map(words).collect()
}

#[test]
fn everything_is_counted_where_it_belongs() {
    let summary = summed(Grouping::None, &all());
    let counts =
        |pairs: &[(&str, u64)]| pairs.iter().map(|(name, count)| (Arc::from(*name), *count)).collect();
    let expected = Summary {
        sockets: 10,
        states: counts(&[("ESTABLISHED", 7), ("FIN_WAIT1", 1), ("LISTEN", 1), ("TIME_WAIT", 1)]),
        noticed: BTreeMap::from([
            (Noticed::Never, 2),
            (Noticed::Hours, 1),
            (Noticed::Minutes, 2),
            (Noticed::Seconds, 2),
        ]),
        noticed_on_loopback: BTreeMap::from([(Noticed::Never, 1)]),
        noticed_unknown: 1,
        verdicts: counts(&[("orphan_stuck", 1), ("stuck_retransmission", 1), ("unguarded_idle", 2)]),
        orphans: 1,
        unaccepted: 1,
        groups: Vec::new(),
        other_groups: 0,
        namespaces: 3,
        namespaces_not_seen: 1,
        source: Arc::from("iterators"),
        not_told: vec![Arc::from("when payload was last sent")],
        duration_ms: 12,
    };
    assert_eq!(summary, expected);
}

/// It ends by a timer of its own, whatever the peer does: there is nothing to notice.
#[test]
fn what_is_running_out_is_no_connection_whose_end_is_not_known() {
    let mut whole = running_out(2);
    (whole.socket.orphan, whole.timer) = (true, None);
    let summary = summed(Grouping::Both, &[running_out(1), whole]);
    assert_eq!((summary.sockets, summary.noticed_unknown, summary.orphans), (2, 0, 1));
    assert_eq!(summary.groups, []);
    // While a process holds it keepalive is of use.
    let held = Found { timer: None, ..running_out(3) };
    assert_eq!(summed(Grouping::Both, &[held]).noticed_unknown, 1);
}

#[test]
fn no_sockets_are_all_zeroes() {
    let Summary { sockets, states, noticed, groups, .. } = summed(Grouping::Both, &[]);
    assert_eq!((sockets, states.len(), noticed.len(), groups.len()), (0, 0, 0, 0));
}

#[test]
fn groups_are_of_process_and_destination_and_the_worst_come_first() {
    let sockets = [
        accepted(1),
        on_loopback(2),
        on_loopback(3),
        stuck(4),
        found(5),
        guarded_late(6),
        orphan(7),
        unaccepted(8),
        listener(9),
    ];
    assert_eq!(
        groups(Grouping::Both, &sockets),
        [
            "812 to 10.0.5.7:5432 3: 1 minutes, 1 hours, 1 never",
            "– to 10.0.5.7:5432 1: 1 minutes",
            "– on 10.0.1.4:443 1: 1 seconds",
            "33 on 10.0.1.4:443 1: 1 seconds",
            "812 to [::1]:6379 2: 2 never",
        ]
    );
    assert_eq!(
        groups(Grouping::Destination, &sockets),
        [
            "– to 10.0.5.7:5432 4: 2 minutes, 1 hours, 1 never",
            "– on 10.0.1.4:443 2: 2 seconds",
            "– to [::1]:6379 2: 2 never",
        ]
    );
    assert_eq!(
        groups(Grouping::Process, &sockets),
        ["812 – 5: 1 minutes, 1 hours, 3 never", "– – 2: 1 seconds, 1 minutes", "33 – 1: 1 seconds",]
    );
    assert_eq!(groups(Grouping::None, &sockets), Vec::<String>::new());
}

#[test]
fn a_server_with_many_clients_is_one_group() {
    let clients: Vec<_> = (0..1_000).map(accepted).collect();
    let summary = summed(Grouping::Both, &clients);
    assert_eq!((summary.groups.len(), summary.other_groups, summary.groups[0].sockets), (1, 0, 1_000));
}

#[test]
fn groups_beyond_the_bound_are_counted_and_not_kept() {
    let to_port = |port: u16| {
        let mut found = found(1);
        found.socket.remote = Some(([10, 0, 0, 1], port).into());
        found
    };
    let mut tally = Tally::within(Grouping::Destination, 5);
    for port in (1..=20).chain(1..=20) {
        tally.add(&to_port(port));
    }
    assert_eq!((tally.groups.len(), tally.beyond.len()), (5, 15));
    let summary = tally.summary(3, &coverage(), Duration::ZERO);
    assert_eq!((summary.groups.len(), summary.other_groups), (3, 17));
    assert!(summary.groups.iter().all(|group| group.sockets == 2), "those that are kept are whole");
}

#[test]
fn how_many_are_at_least_so_bad_is_known_while_counting() {
    let mut tally = Tally::new(Grouping::None);
    for found in &all() {
        tally.add(found);
    }
    let at_least = Noticed::ALL.map(|noticed| tally.at_least(noticed));
    assert_eq!((at_least, tally.unknown()), ([2, 3, 5, 7], 1));
}
