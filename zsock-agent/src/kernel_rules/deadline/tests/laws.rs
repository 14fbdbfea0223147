//! What holds of every forecast.

use proptest::prelude::*;

use super::*;

fn any_state() -> impl Strategy<Value = State> {
    (0_u8..=13).prop_map(State)
}

prop_compose! {
    fn any_duration()(shift in 0_u32..64, low in any::<u64>()) -> Duration {
        Duration::from_nanos(low >> shift)
    }
}

prop_compose! {
    fn any_timers()(
        (hz, now, state, moment, pending) in (
            prop::sample::select(vec![100_u32, 250, 300, 1000, 1200]),
            any::<u32>(),
            any_state(),
            prop::sample::select(vec![
                Moment::AtRest,
                Moment::InRetransmissionTimeout,
                Moment::InTailLossProbe,
                Moment::InHeadRetransmission,
            ]),
            prop::option::of(prop::sample::select(vec![
                Pending::Retransmit,
                Pending::Probe,
                Pending::LossProbe,
                Pending::ReorderTimeout,
            ])),
        ),
        flags in prop::array::uniform7(any::<bool>()),
        counts in prop::array::uniform8(prop_oneof![0_u32..20, any::<u32>()]),
        durations in prop::array::uniform4(any_duration()),
        optional in prop::array::uniform6(prop::option::of(any_duration())),
    ) -> Timers {
        let [orphan, in_flight, unsent, window_closed, keepalive_enabled, soft_error, thin_linear] = flags;
        let [
            retransmits, backoff, probes_out, keepalive_probes,
            retries2, orphan_retries, syn_retries, syn_linear_timeouts,
        ] = counts;
        let [rto, rto_max, keepalive_idle, keepalive_interval] = durations;
        let [
            timer_in, keepalive_timer_in, since_first_retransmission,
            since_first_probe, since_received, user_timeout,
        ] = optional;
        Timers {
            jiffies: Jiffies::new(NonZeroU32::new(hz).expect("rates are not zero")),
            now, moment, state, orphan, in_flight, unsent, window_closed, retransmits, backoff, probes_out, rto,
            rto_max, pending, timer_in, keepalive_timer_in, since_first_retransmission, since_first_probe,
            since_received, keepalive_enabled, keepalive_idle, keepalive_interval, keepalive_probes, user_timeout,
            retries2, orphan_retries, syn_retries, syn_linear_timeouts, soft_error, thin_linear,
        }
    }
}

proptest! {
    #[test]
    fn whatever_a_socket_shows_the_forecast_ends_and_the_end_is_not_before_the_next_act(timers in any_timers()) {
        let forecast = forecast(&timers);
        if let Some(end) = forecast.gives_up_in {
            prop_assert!(forecast.next.is_some_and(|next| next <= end), "{forecast:?}");
        }
    }

    #[test]
    fn looked_at_later_the_forecast_is_shorter_by_exactly_the_difference(
        which in 0_usize..6,
        now in 1_000_000_u32..2_000_000,
        ticks in 1_u32..500,
        later in 0_u32..500,
        user_timeout in prop::option::of((1_u64..60_000).prop_map(ms)),
    ) {
        let later = later.min(ticks);
        let early = [
            sent(Pending::Retransmit, now, ticks, 1),
            sent(Pending::LossProbe, now, ticks, 1),
            connecting(now, ticks),
            blocked(now, ticks, 1),
            Timers { orphan: true, ..sent(Pending::Retransmit, now, ticks, 1) },
            watched(guarded(3_000, 5_000, 3), now, ticks, 1),
        ][which];
        let early = Timers { user_timeout, ..early };
        let passed = jiffies().duration(u64::from(later));
        let since = |duration: Option<Duration>| duration.map(|duration| duration + passed);
        let until = |duration: Option<Duration>| duration.map(|duration| duration.saturating_sub(passed));
        let late = Timers {
            now: now + later,
            timer_in: until(early.timer_in),
            keepalive_timer_in: until(early.keepalive_timer_in),
            since_first_retransmission: since(early.since_first_retransmission),
            since_first_probe: since(early.since_first_probe),
            since_received: since(early.since_received),
            ..early
        };
        let (early, late) = (forecast(&early), forecast(&late));
        prop_assert!(early.gives_up_in.is_some());
        prop_assert_eq!(late, Forecast { next: until(early.next), gives_up_in: until(early.gives_up_in) });
    }
}
