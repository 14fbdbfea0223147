//! What to change where connections would hang for ever or for hours.

use std::time::Duration;

use crate::detect::words::{duration, half_in_seconds, plural};
use crate::record::{Group, Noticed, Summary};

/// What to change, most useful first; nothing where nothing would hang for longer than minutes. Connections whose peer is on this host are
/// left out: there the kernel tells one end of the other's death.
///
/// `forgets_after` is after how long without a segment the path is assumed to forget a connection.
#[must_use]
pub fn advice(summary: &Summary, forgets_after: Duration) -> Vec<String> {
    let elsewhere = |noticed| {
        let of =
            |counts: &std::collections::BTreeMap<Noticed, u64>| counts.get(&noticed).copied().unwrap_or(0);
        of(&summary.noticed).saturating_sub(of(&summary.noticed_on_loopback))
    };
    let (never, hours) = (elsewhere(Noticed::Never), elsewhere(Noticed::Hours));
    let idle = half_in_seconds(forgets_after);
    let half = format!("half of the {} after which the path is assumed to forget", duration(forgets_after));
    let mut advice = Vec::new();
    if never > 0 {
        advice.push(format!(
            "{} would never hear of it: have the program set SO_KEEPALIVE with TCP_KEEPIDLE at most {idle} s ({half}; a server sets it on \
             its listener, from which accepted sockets inherit it)",
            plural(never, "connection"),
        ));
    }
    if hours > 0 {
        advice.push(format!(
            "{} would hear of it only after an hour or more: set TCP_KEEPIDLE at most {idle} s{}, or net.ipv4.tcp_keepalive_time={idle} \
             for all that keep its default",
            plural(hours, "connection"),
            if never == 0 { format!(" ({half})") } else { String::new() },
        ));
    }
    if !advice.is_empty() {
        advice.push(format!(
            "on sockets that are open already: zsock keepalive {} --idle {idle}s --interval 10s --probes 6",
            selector(summary.groups.first()),
        ));
    }
    advice
}

/// How a group is selected on a command line; what a process chose is no part of it.
fn selector(group: Option<&Group>) -> String {
    let Some(group) = group else { return "SELECTOR".to_owned() };
    // A shell would take the brackets of IPv6 for a pattern.
    let quoted = |end: std::net::SocketAddr| if end.is_ipv6() { format!("'{end}'") } else { end.to_string() };
    let parts = [
        group.process.as_ref().map(|process| format!("--pid {}", process.pid)),
        group.destination.map(|end| format!("--remote {}", quoted(end))),
        group.accepted_on.map(|end| format!("--local {}", quoted(end))),
    ];
    let selectors: Vec<_> = parts.into_iter().flatten().collect();
    if selectors.is_empty() { "SELECTOR".to_owned() } else { selectors.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::samples::{accepted, found, guarded_late, on_loopback, stuck};
    use crate::audit::{Grouping, Tally};
    use crate::record::Found;
    use crate::source::census::Coverage;

    fn given(grouping: Grouping, sockets: &[Found]) -> Vec<String> {
        let mut tally = Tally::new(grouping);
        for found in sockets {
            tally.add(found);
        }
        advice(&tally.summary(10, &Coverage::default(), Duration::ZERO), Duration::from_secs(350))
    }

    #[test]
    fn what_hangs_for_ever_or_for_hours_is_told_what_to_set() {
        assert_eq!(
            given(Grouping::Both, &[found(1), found(2), guarded_late(3), on_loopback(4)]),
            [
                "2 connections would never hear of it: have the program set SO_KEEPALIVE with TCP_KEEPIDLE at most 175 s (half of the 5 min 50 s \
                 after which the path is assumed to forget; a server sets it on its listener, from which accepted sockets inherit it)",
                "1 connection would hear of it only after an hour or more: set TCP_KEEPIDLE at most 175 s, or \
                 net.ipv4.tcp_keepalive_time=175 for all that keep its default",
                "on sockets that are open already: zsock keepalive --pid 812 --remote 10.0.5.7:5432 --idle 175s --interval 10s --probes 6",
            ]
        );
        let hint = |grouping, found: Found| given(grouping, &[found]).pop().unwrap();
        assert!(hint(Grouping::None, found(1)).contains("keepalive SELECTOR --idle"));
        let served = Found { noticed: Some(Noticed::Never), ..accepted(1) };
        assert!(hint(Grouping::Both, served.clone()).contains("--pid 33 --local 10.0.1.4:443 --idle"));
        assert!(hint(Grouping::Process, served).contains("keepalive --pid 33 --idle"));
        let mut over_ipv6 = found(1);
        over_ipv6.socket.remote = Some("[2001:db8::1]:443".parse().unwrap());
        assert!(hint(Grouping::Destination, over_ipv6).contains("--remote '[2001:db8::1]:443' --idle"));
    }

    #[test]
    fn what_is_noticed_in_time_or_has_its_peer_on_this_host_gets_none() {
        assert_eq!(given(Grouping::Both, &[stuck(1), accepted(2), on_loopback(3)]), Vec::<String>::new());
    }
}
