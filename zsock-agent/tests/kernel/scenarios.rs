//! The scenarios. Each plays a story in the kernel first, which a dry run checks too, and then judges what zsock told of it.

use std::time::Duration;

use zsock_agent::time::Time;

use crate::net::{Ip, Net};
use crate::patience;
use crate::peer::Peer;
use crate::slowness;
use crate::story::{Connection, Line, Recording, assert_at};
use crate::unseen;

mod accept_queue;
mod act;
mod audit;
mod close_wait;
mod closing;
mod connect;
mod cost;
mod crowd;
mod descriptors;
mod diag;
mod doctor;
mod exit;
mod fields;
mod hostile;
mod idle_timeout;
mod keepalive;
mod lives;
mod look;
mod metrics;
mod nat;
mod owners;
mod postgres;
mod privileges;
mod quiet;
mod record;
mod recovery;
mod redis;
mod report;
mod selectors;
mod silence;
mod stall;
mod stress;
mod unguarded;
mod ways;

macro_rules! scenarios {
    ($($module:ident::$name:ident),+ $(,)?) => {
        vec![$((concat!(stringify!($module), "::", stringify!($name)), $module::$name as fn())),+]
    };
}

/// Scenarios in which zsock acts on sockets.
fn of_acting() -> Vec<(&'static str, fn())> {
    scenarios![
        redis::a_subscriber_learns_of_the_death_of_its_server,
        act::what_is_set_is_what_the_process_reads,
        act::a_death_that_nothing_would_notice_is_noticed,
        act::the_first_probe_comes_when_the_new_settings_say,
        act::the_traps_are_told_where_they_apply,
        act::one_of_two_threads_that_hang_is_freed,
        act::of_two_namespaces_the_one_that_is_named,
        act::what_is_not_meant_is_left_alone,
        act::the_socket_that_it_was_given_is_its_own,
        act::what_a_verdict_is_on_is_killed,
        act::sockets_that_come_later_are_set_once,
        act::a_run_that_follows_ends_where_its_maximum_is_reached,
    ]
}

/// Scenarios of recordings.
fn of_recording() -> Vec<(&'static str, fn())> {
    scenarios![
        record::it_keeps_what_trace_tells,
        record::kill_9_costs_the_last_second_at_most,
        record::a_disk_that_fails_is_told_and_recording_goes_on_after_it,
        privileges::the_unit_of_the_recorder_grants_what_it_takes,
        report::both_ends_of_a_black_hole_are_one_timeline,
        record::a_directory_that_is_removed_is_made_again_within_its_bounds,
    ]
}

/// Scenarios of those who ask zsock for metrics.
fn of_metrics() -> Vec<(&'static str, fn())> {
    scenarios![
        metrics::numbers_are_those_of_the_records_and_of_the_kernel,
        metrics::whoever_asks_badly_is_in_nobodys_way,
        metrics::only_metrics_are_served_and_only_read,
        metrics::promtool_finds_no_fault,
        metrics::prometheus_reads_them,
        cost::the_end_tells_what_zsock_took,
        cost::beyond_its_limit_it_does_without_and_stays_true,
        cost::without_the_timers_hooks_passes_look_at_probes,
        cost::passes_leave_out_a_namespace_at_rest,
        cost::passes_hand_a_stuck_socket_over_when_it_has_changed,
    ]
}

/// Every scenario by name.
pub(crate) fn all() -> Vec<(&'static str, fn())> {
    let mut all = of_acting();
    all.extend(of_metrics());
    all.extend(of_recording());
    all.extend(scenarios![
        audit::settings_are_what_getsockopt_says,
        audit::a_silent_death_is_noticed_when_foretold,
        audit::a_closed_window_is_given_up_when_foretold,
        audit::every_kind_of_socket_is_told_for_what_it_is,
        audit::without_rights_it_tells_less_and_says_so,
        nat::a_pooled_client_dies_of_its_user_timeout,
        nat::a_pooled_client_dies_of_its_user_timeout_over_ipv6,
        nat::a_pooled_client_dies_of_its_user_timeout_over_mapped_ipv4,
        nat::a_hang_that_began_before_zsock_is_told_at_once,
        nat::a_gateway_that_forgot_answers_with_a_reset,
        keepalive::a_vanished_peer_is_given_up_after_three_probes,
        keepalive::a_vanished_peer_is_given_up_after_three_probes_over_ipv6,
        keepalive::a_vanished_peer_is_given_up_after_three_probes_over_mapped_ipv4,
        keepalive::every_probe_is_told_on_demand,
        keepalive::a_peer_that_comes_back_answers,
        connect::a_connection_that_comes_about_after_all,
        connect::a_connection_that_times_out,
        connect::a_connection_that_its_application_abandons,
        closing::an_orphan_that_cannot_say_goodbye,
        recovery::two_timeouts_are_no_verdict,
        recovery::five_timeouts_are_and_it_recovers,
        quiet::a_tenth_of_the_packets_lost,
        quiet::orderly_connections_are_not_mentioned,
        quiet::resets_that_were_asked_for,
        lives::a_refused_socket_connects_again,
        lives::on_demand_every_change_is_told_once,
        owners::a_worker_connects_the_socket_it_was_given,
        owners::a_worker_accepts_from_the_listener_it_was_given,
        owners::a_connection_in_the_accept_queue_has_none,
        owners::of_two_holders_the_one_that_opened_it,
        owners::the_holder_that_is_left,
        owners::a_connection_older_than_zsock,
        owners::the_process_and_not_its_thread,
        stall::a_server_that_stops_reading,
        stall::a_slow_reader_is_left_alone,
        close_wait::a_connection_that_is_never_closed,
        close_wait::a_server_that_speaks_after_all,
        close_wait::a_half_closed_connection_in_use_is_left_alone,
        close_wait::a_namespace_younger_than_zsock_is_looked_at,
        silence::a_request_that_is_answered_late,
        silence::those_who_wait_for_nothing_or_always_long_are_left_alone,
        accept_queue::a_server_that_accepts_nothing,
        accept_queue::a_server_that_accepts_nothing_and_exits,
        accept_queue::a_listener_that_is_drained_is_left_alone,
        descriptors::a_server_with_fifty_clients,
        descriptors::a_server_that_exits_under_pressure_and_one_with_room,
        look::without_bpf_it_tells_what_the_kernel_does,
        look::without_any_right_it_tells_of_sockets_and_what_it_cannot_tell,
        diag::one_of_two_connections_is_destroyed,
        diag::a_connection_bound_to_an_interface_is_destroyed,
        diag::the_very_one_of_listeners_that_share_a_port_is_destroyed,
        diag::of_an_orphan_it_is_told_whether_it_is_gone,
        diag::of_a_closed_connection_it_is_told_whether_it_is_gone,
        diag::without_the_right_nothing_is_destroyed,
        unguarded::a_death_behind_a_gateway_is_noticed_when_foretold,
        unguarded::without_keepalive_nothing_would_notice,
        unguarded::a_guarded_connection_is_left_alone,
        idle_timeout::a_gateway_that_drops_what_it_forgot,
        idle_timeout::a_gateway_that_resets_what_it_forgot,
        postgres::a_pool_behind_a_gateway_that_forgets,
        selectors::each_kind_selects_by_what_it_names,
        fields::each_is_where_the_kept_types_have_it,
        fields::those_that_are_missing_keep_no_program_from_loading,
        hostile::names_of_processes_hosts_and_namespaces_reach_no_terminal,
        hostile::names_of_control_groups_reach_no_terminal,
        exit::sigint_and_sigterm_end_it_in_order,
        exit::whatever_the_signals_it_ends_once_and_in_order,
        exit::a_full_disk_is_a_failure_that_says_what_to_do,
        exit::without_privileges_it_says_what_to_do,
        exit::a_closed_stderr_changes_nothing,
        exit::colour_is_for_terminals_or_on_demand,
        exit::an_open_verdict_stays_open,
        exit::it_ends_when_its_time_is_up,
        exit::a_closed_stdout_ends_it_quietly,
        exit::a_blocked_stdout_loses_records_and_says_so,
        privileges::root_gives_up_what_it_needs_no_more,
        privileges::each_capability_taken_away,
        privileges::a_process_that_proc_hides_has_not_exited,
        privileges::a_kill_leaves_nothing_in_the_kernel,
        privileges::two_side_by_side_tell_the_same,
        ways::to_follow_the_timers,
        ways::to_see_accepts_fail,
        ways::to_know_a_socket,
        doctor::hooks_are_those_of_a_trace,
        doctor::whether_sockets_can_be_destroyed_is_found_without_destroying_one,
        doctor::deaths_come_when_the_settings_say,
        crowd::every_one_of_a_hundred_thousand_is_judged,
        stress::a_storm_of_connections_and_a_reader_that_stalls,
        stress::what_the_kernel_and_the_reader_lose_is_counted,
        stress::five_thousand_retransmit_at_once,
        stress::a_crowd_is_tracked,
        stress::namespaces_and_processes_come_and_go,
        stress::the_clock_is_stepped,
        stress::within_a_control_group_of_128_mib,
    ]);
    all
}

/// Whether the scenario sets the clock of the whole machine: it is only played where `ZSOCK_MAY_SET_CLOCK=1` says that nobody minds.
pub(crate) fn sets_the_clock(name: &str) -> bool {
    name == "stress::the_clock_is_stepped"
}

/// Scenarios that start zsock many times and ask nothing of the kernel.
const OF_THE_PROCESS: [&str; 4] = [
    "exit::whatever_the_signals_it_ends_once_and_in_order",
    "exit::a_full_disk_is_a_failure_that_says_what_to_do",
    "exit::a_closed_stderr_changes_nothing",
    "exit::colour_is_for_terminals_or_on_demand",
];

/// What this machine lacks for the scenario of this name, if anything.
pub(crate) fn lacking(name: &str) -> Option<String> {
    let group = name.split("::").next();
    if slowness() > 1 && matches!(group, Some("crowd" | "stress")) && !sets_the_clock(name) {
        return Some("needs more work in a second than an emulated processor does".to_owned());
    }
    if slowness() > 1 && OF_THE_PROCESS.contains(&name) {
        return Some(
            "is about the process and not the kernel, and each start takes an emulated processor seconds"
                .to_owned(),
        );
    }
    if slowness() > 1 && name == "record::kill_9_costs_the_last_second_at_most" {
        return Some("takes fifty starts, each of which takes an emulated processor seconds".to_owned());
    }
    match group {
        Some("postgres") => postgres::lacking(),
        Some("redis") => redis::lacking(),
        Some("crowd") => crowd::lacking(),
        Some("stress") => stress::lacking(name),
        Some("hostile") => hostile::lacking(name),
        Some("metrics") => metrics::lacking(name),
        _ => None,
    }
}

/// A process that answers every request, and its port.
fn echo_server(net: &Net) -> (Peer, u16) {
    let mut server = Peer::start(&net.server, "echo-server");
    let port = server.serve();
    (server, port)
}

/// A process that has connected, and had one answer.
struct Client {
    peer: Peer,
    port: u16,
    /// When `connect` returned.
    connected: Time,
    /// When the answer had come.
    answered: Time,
}

impl Client {
    fn connect(net: &Net, name: &str, address: &str) -> Self {
        let mut peer = Peer::start(&net.client, name);
        let reply = peer.ask(&format!("connect {address}"));
        let port = reply.expect("connected").parse().expect("a peer tells its port");
        let answered = peer.exchange();
        Self { peer, port, connected: reply.at, answered }
    }

    /// Reads until the kernel gives the connection up, and tells when that was.
    fn await_death(&mut self) -> Time {
        let reply = self.peer.ask("read 1");
        assert_eq!(reply.expect("error"), "ETIMEDOUT");
        unseen::note_death(self.peer.pid(), self.port);
        reply.at
    }
}

/// Two processes with one connection, whose server does only what it is told.
struct Pair {
    client: Peer,
    server: Peer,
    /// The client's: it tells the connection from others at both ends.
    port: u16,
    /// The listener's.
    server_port: u16,
    /// When `connect` returned.
    connected: Time,
}

impl Pair {
    fn connect(net: &Net, client: &str, server: &str) -> Self {
        let mut server = Peer::start(&net.server, server);
        let server_port = server.listen();
        let mut client = Peer::start(&net.client, client);
        let reply = client.ask(&format!("connect {}", Ip::V4.server(server_port)));
        let port = reply.expect("connected").parse().expect("a peer tells its port");
        server.ask("accept").expect("accepted");
        Self { client, server, port, server_port, connected: reply.at }
    }

    fn client_end<'a>(&self, seen: &'a Recording, net: &Net) -> Connection<'a> {
        seen.of_local_port(&net.client, self.port)
    }

    fn server_end<'a>(&self, seen: &'a Recording, net: &Net) -> Connection<'a> {
        seen.of_remote_port(&net.server, self.port)
    }
}

/// Checks that a verdict says in words what it means, when it began, and was written soon after its condition came to hold.
///
/// A pass finds it at most a second late; on top comes what a busy machine takes: passes that take long come less often.
#[track_caller]
fn assert_claim(verdict: &Line, since: Time, holds: Time) {
    for field in ["summary", "severity"] {
        assert!(verdict.text(field).is_some_and(|text| !text.is_empty()), "no {field} in {}", verdict.record);
    }
    let advice = verdict.get("advice").and_then(serde_json::Value::as_array);
    assert!(advice.is_some_and(|advice| !advice.is_empty()), "no advice in {}", verdict.record);
    assert_at("since", verdict.time("since"), since, Duration::from_millis(1200));
    let late = verdict.arrived.since(holds);
    assert!(late <= patience(Duration::from_secs(6)), "{late:?} after it held: {}", verdict.record);
}

/// Checks that a verdict names who sits in a system call on the socket: so many threads, in this call.
#[track_caller]
fn assert_blocked(verdict: &Line, threads: u64, call: &str) {
    assert_eq!(verdict.number("evidence.blocked_threads"), Some(threads), "in {}", verdict.record);
    let calls = verdict.get("evidence.blocked_in").map(ToString::to_string);
    assert_eq!(calls, (threads > 0).then(|| format!("[\"{call}\"]")), "in {}", verdict.record);
}

/// Checks the addresses in each record in which they are known.
#[track_caller]
fn assert_addresses(connection: &Connection<'_>, ip: Ip, client_port: u16, server_port: u16) {
    let (family, local, remote) = match ip {
        Ip::V4 | Ip::Mapped => ("ipv4", "10.77.1.2", "10.77.2.2"),
        Ip::V6 => ("ipv6", "[fd77:1::2]", "[fd77:2::2]"),
    };
    let (local, remote) = (format!("{local}:{client_port}"), format!("{remote}:{server_port}"));
    for line in &connection.lines {
        assert_eq!(line.text("socket.family"), Some(family), "in {}", line.record);
        assert!(line.text("socket.local").is_none_or(|told| told == local), "not {local} in {}", line.record);
        assert_eq!(line.text("socket.remote"), Some(&*remote), "in {}", line.record);
        let mapped = line.get("socket.v4mapped").is_some();
        assert_eq!(mapped, matches!(ip, Ip::Mapped), "v4mapped in {}", line.record);
    }
}

/// Checks that every record names this owner.
#[track_caller]
fn assert_owner(connection: &Connection<'_>, pid: u32, comm: &str) {
    for line in &connection.lines {
        let owner = (line.number("socket.pid"), line.text("socket.comm"));
        assert_eq!(owner, (Some(u64::from(pid)), Some(comm)), "in {}", line.record);
    }
}

/// Checks that a verdict told the end of the connection right: within 5 % or a quarter of a second.
#[track_caller]
fn assert_foretold(verdict: &Line, death: Time) {
    let left = verdict.millis("evidence.gives_up_in_ms");
    let tolerance = (left / 20).max(Duration::from_millis(250));
    assert_at("the moment of giving up", verdict.ts().after(left), death, tolerance);
}

/// Checks that a verdict was written within a second of the record that made its condition hold.
#[track_caller]
fn assert_prompt(verdict: &Line, cause: &Line) {
    let late = verdict.arrived.since(cause.ts());
    assert!(late <= patience(Duration::from_secs(1)), "{late:?} after {}: {}", cause.record, verdict.record);
}

/// Checks that each retransmission came when the one before had foretold, and the end after the last.
#[track_caller]
fn assert_next_foretold(retransmits: &[&Line], end: Time) {
    let moments = retransmits.iter().skip(1).map(|line| line.ts()).chain([end]);
    for (line, next) in retransmits.iter().zip(moments) {
        let foretold = line.ts().after(line.millis("next_ms"));
        assert_at(&format!("what follows {}", line.record), next, foretold, Duration::from_millis(150));
    }
}
