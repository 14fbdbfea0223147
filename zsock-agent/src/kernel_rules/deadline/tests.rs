//! Rules and their edges; `measured` holds them against real sockets, `laws` against any facts whatever.

mod laws;
mod measured;

use std::num::NonZeroU32;

use super::*;

const HZ: u32 = 250;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn jiffies() -> Jiffies {
    Jiffies::new(NonZeroU32::new(HZ).expect("250 is not zero"))
}

/// An idle connection with the kernel's defaults, at a tick as good as any.
fn idle() -> Timers {
    Timers {
        jiffies: jiffies(),
        now: 491_000,
        moment: Moment::AtRest,
        state: State::ESTABLISHED,
        orphan: false,
        in_flight: false,
        unsent: false,
        window_closed: false,
        retransmits: 0,
        backoff: 0,
        probes_out: 0,
        rto: ms(204),
        rto_max: ms(120_000),
        pending: None,
        timer_in: None,
        keepalive_timer_in: None,
        since_first_retransmission: None,
        since_first_probe: None,
        since_received: Some(ms(20)),
        keepalive_enabled: false,
        keepalive_idle: ms(7_200_000),
        keepalive_interval: ms(75_000),
        keepalive_probes: 9,
        user_timeout: None,
        retries2: 15,
        orphan_retries: 0,
        syn_retries: 6,
        syn_linear_timeouts: 4,
        soft_error: false,
        thin_linear: false,
    }
}

/// One with data in flight and this timer pending, at tick `now`, armed to expire `ticks` later in `level` of the wheel.
fn sent(pending: Pending, now: u32, ticks: u32, level: u32) -> Timers {
    let timer_in = Some(fires(now, ticks, level));
    Timers { in_flight: true, pending: Some(pending), now, timer_in, ..idle() }
}

fn blocked(now: u32, ticks: u32, level: u32) -> Timers {
    Timers { in_flight: false, unsent: true, window_closed: true, ..sent(Pending::Probe, now, ticks, level) }
}

fn connecting(now: u32, ticks: u32) -> Timers {
    let state = State::SYN_SENT;
    let began = Some(ms(16));
    Timers {
        state,
        rto: ms(1_000),
        since_first_retransmission: began,
        ..sent(Pending::Retransmit, now, ticks, 1)
    }
}

fn guarded(idle_ms: u64, interval_ms: u64, probes: u32) -> Timers {
    Timers {
        keepalive_enabled: true,
        keepalive_idle: ms(idle_ms),
        keepalive_interval: ms(interval_ms),
        keepalive_probes: probes,
        ..idle()
    }
}

fn watched(timers: Timers, now: u32, ticks: u32, level: u32) -> Timers {
    Timers { now, keepalive_timer_in: Some(fires(now, ticks, level)), ..timers }
}

fn fires(now: u32, ticks: u32, level: u32) -> Duration {
    jiffies().until_fired(now, now + ticks, (level * 64) << 22)
}

/// Until the next act and until the end, in milliseconds.
fn foretold(timers: &Timers) -> (Option<u128>, Option<u128>) {
    let forecast = forecast(timers);
    (forecast.next.map(|next| next.as_millis()), forecast.gives_up_in.map(|end| end.as_millis()))
}

#[test]
fn a_connection_that_no_timer_will_end_has_no_end() {
    assert_eq!(foretold(&idle()), (None, None));
    // Corked or blocked with no timer armed; in flight with no timer armed.
    assert_eq!(foretold(&Timers { unsent: true, ..idle() }), (None, None));
    assert_eq!(foretold(&Timers { in_flight: true, ..idle() }), (None, None));
    // Keepalive leaves a connection alone while anything waits.
    let guarded = watched(guarded(1_000, 1_000, 2), 491_593, 245, 1);
    assert_eq!(foretold(&Timers { unsent: true, ..guarded }), (None, None));
    // A user timeout alone starts no probes.
    assert_eq!(foretold(&Timers { user_timeout: Some(ms(1)), ..idle() }), (None, None));
    for state in [State::CLOSE, State::LISTEN, State::TIME_WAIT, State::NEW_SYN_RECV, State(77)] {
        assert_eq!(foretold(&Timers { state, ..guarded }), (None, None));
    }
}

#[test]
fn an_orphan_in_fin_wait2_runs_out_and_does_not_die() {
    let orphan = Timers { state: State::FIN_WAIT2, orphan: true, ..idle() };
    assert_eq!(foretold(&Timers { keepalive_timer_in: Some(ms(8_000)), ..orphan }), (Some(8_000), None));
}

#[test]
fn a_closed_window_without_user_timeout_lasts_as_long_as_the_peer_answers() {
    let blocked = blocked(491_000, 100, 1);
    let of_probes =
        |backoff, probes_out, retries2| foretold(&Timers { backoff, probes_out, retries2, ..blocked }).1;
    // All answered; the last one not yet; where they are fast, the last two.
    assert_eq!([of_probes(5, 0, 8), of_probes(5, 1, 8), of_probes(3, 2, 8)], [None; 3]);
    // Two of the slow ones unanswered, or every one of them.
    assert!(of_probes(5, 2, 8).is_some() && of_probes(2, 2, 8).is_some());
    // The user timeout counts answered probes as well.
    assert!(foretold(&Timers { backoff: 5, user_timeout: Some(ms(60_000)), ..blocked }).1.is_some());
    let in_flight = Timers { in_flight: true, pending: Some(Pending::Retransmit), rto: ms(408), ..blocked };
    assert_eq!(foretold(&in_flight), (Some(416), None));
}

#[test]
fn the_default_limit_is_fifteen_minutes_and_up_to_one_timeout_more() {
    let end = forecast(&sent(Pending::Retransmit, 491_000, 51, 0)).gives_up_in.expect("retries2 ends it");
    let since_first_retransmission = end.saturating_sub(ms(208));
    assert!((924_600..924_600 + 120_000).contains(&since_first_retransmission.as_millis()), "{end:?}");
}

#[test]
fn a_syn_without_linear_timeouts_backs_off_from_the_start() {
    let ends_after_seconds = |syn_retries, syn_linear_timeouts| {
        let timers = Timers { syn_retries, syn_linear_timeouts, ..connecting(491_000, 246) };
        forecast(&timers).gives_up_in.map(|end| end.as_secs())
    };
    // One retry: 1 and 3 s, or 1, 2 and 3 s. Three: 1, 3, 7 and 15 s, or 1, 2, 3, 4, 5, 7, 11 and 19 s.
    assert_eq!([ends_after_seconds(1, 0), ends_after_seconds(1, 4)], [Some(3), Some(3)]);
    assert_eq!([ends_after_seconds(3, 0), ends_after_seconds(3, 4)], [Some(15), Some(19)]);
}

#[test]
fn an_icmp_error_ends_an_orphan_once_its_backoff_has_reached_the_bound() {
    let orphan = Timers {
        orphan: true,
        retransmits: 3,
        rto: ms(2_000),
        rto_max: ms(2_000),
        orphan_retries: 8,
        since_first_retransmission: Some(ms(2_000)),
        ..sent(Pending::Retransmit, 491_000, 25, 0)
    };
    assert_eq!(foretold(&Timers { soft_error: true, ..orphan }), (Some(104), Some(104)));
    assert!(foretold(&orphan).1 > Some(10_000));
}

#[test]
fn a_thin_stream_does_not_back_off_for_six_timeouts() {
    let thin = Timers { thin_linear: true, retries2: 3, ..sent(Pending::Retransmit, 491_000, 51, 0) };
    // The limit is 3 s after the first timeout. Seven 0.2 s apart, then 0.4, 0.8 and 1.6 s; or 0.4, 0.8, 1.6 and 3.3 s.
    assert_eq!(foretold(&thin), (Some(208), Some(4_384)));
    assert_eq!(foretold(&Timers { thin_linear: false, ..thin }), (Some(208), Some(6_432)));
}

#[test]
fn inside_of_a_timeout_the_forecast_is_that_of_the_moment_before() {
    for (user_timeout, retries2) in [(None, 5), (Some(ms(9_000)), 15)] {
        let before = Timers { user_timeout, retries2, ..sent(Pending::Retransmit, 491_000, 51, 0) };
        let inside = Timers {
            moment: Moment::InRetransmissionTimeout,
            now: before.now + 52,
            retransmits: 1,
            pending: None,
            timer_in: None,
            since_received: Some(ms(20 + 208)),
            ..before
        };
        let (before, inside) = (forecast(&before), forecast(&inside));
        assert_eq!(before.next, Some(ms(208)));
        assert_eq!(inside.next, Some(ms(432)));
        assert_eq!(inside.gives_up_in, before.gives_up_in.map(|end| end.saturating_sub(ms(208))));
    }
}

#[test]
fn a_retransmission_outside_of_a_timeout_is_followed_by_a_full_rto() {
    let probing = Timers { retries2: 3, ..sent(Pending::LossProbe, 491_000, 10, 0) };
    let inside = |moment| {
        let timers = Timers { moment, now: 491_011, timer_in: Some(Duration::ZERO), ..probing };
        foretold(&timers)
    };
    // The loss probe does not count as a retransmission, that of an ACK does: 3 s from it are over one timeout sooner.
    assert_eq!(foretold(&probing), (Some(44), Some(6_688)));
    assert_eq!(inside(Moment::InTailLossProbe), (Some(208), Some(6_644)));
    assert_eq!(inside(Moment::InHeadRetransmission), (Some(208), Some(3_124)));
}

#[test]
fn a_closed_window_over_data_in_flight_takes_two_longest_timeouts_of_silence() {
    let timers = Timers {
        window_closed: true,
        rto: ms(1_000),
        rto_max: ms(1_000),
        since_first_retransmission: Some(ms(5_000)),
        since_received: Some(ms(1_300)),
        ..sent(Pending::Retransmit, 491_000, 25, 0)
    };
    // 1.4 s of silence at the first firing, 2.4 s at the second.
    assert_eq!(foretold(&timers), (Some(104), Some(1_120)));
}

#[test]
fn a_probe_is_put_off_by_two_ticks_at_least() {
    let blocked = Timers { user_timeout: Some(ms(4)), ..blocked(491_000, 25, 0) };
    assert_eq!(foretold(&blocked), (Some(104), Some(116)));
}

#[test]
fn keepalive_kills_no_connection_without_a_probe_and_probes_none_that_spoke() {
    // The user timeout is over before the first probe.
    let guarded = Timers { user_timeout: Some(ms(1_000)), ..guarded(2_000, 3_000, 9) };
    assert_eq!(foretold(&watched(guarded, 491_000, 495, 1)), (Some(1_984), Some(5_152)));
    // Its timer looks 1 s after something came, 1 s too soon, and is put off without a probe.
    let spoke = Timers { since_received: Some(Duration::ZERO), ..guarded };
    assert_eq!(foretold(&watched(spoke, 491_000, 250, 1)), (Some(2_016), Some(5_152)));
}

#[test]
fn a_peer_that_answers_its_closed_window_is_not_given_up_until_it_falls_silent() {
    let probing = Timers {
        unsent: true,
        window_closed: true,
        pending: Some(Pending::Probe),
        timer_in: Some(ms(400)),
        backoff: 3,
        since_first_probe: Some(ms(2_800)),
        retries2: 4,
        ..idle()
    };
    let resending = Timers {
        in_flight: true,
        window_closed: true,
        rto: ms(1_632),
        backoff: 3,
        since_first_retransmission: Some(ms(1_500)),
        since_received: Some(ms(100)),
        ..sent(Pending::Retransmit, 491_000, 383, 1)
    };
    for timers in [probing, resending] {
        assert_eq!(forecast(&timers).gives_up_in, None, "{timers:?}");
        assert!(matches!(discovery(&timers), Discovery::In(_)), "{timers:?}");
    }
}

#[test]
fn only_where_nothing_is_sent_that_could_go_unanswered_a_death_is_never_found() {
    assert_eq!(discovery(&idle()), Discovery::Never);
    let guarded = Timers { keepalive_enabled: true, keepalive_timer_in: Some(ms(7_000_000)), ..idle() };
    assert_eq!(Some(discovery(&guarded)), forecast(&guarded).gives_up_in.map(Discovery::In));
    // Between two timers, as while a socket is locked by its process.
    assert_eq!(discovery(&Timers { in_flight: true, ..idle() }), Discovery::Unknown);
    assert_eq!(discovery(&Timers { unsent: true, ..idle() }), Discovery::Unknown);
    assert_eq!(discovery(&Timers { keepalive_enabled: true, ..idle() }), Discovery::Unknown);
}
