//! What looks tell.

use zsock_common::wire::{condition, watch_flag};

use super::*;

#[test]
fn a_look_tells_what_came_to_hold_and_what_ceased_and_nothing_else() {
    let idle = |ms, holds, told| {
        finds(ms, |look| {
            (look.event.detail, look.event.detail2) = (holds, told);
            look.watch.active = jiffies(1_000);
        })
    };
    let mut assembler = assembler();
    let quiet = idle(2_000, 0, 0);
    // The first record of a socket is a look in any case.
    assert_eq!(told(&mut assembler, &[quiet]), [r#"2000 {"type":"sample","idle_ms":1000}"#]);
    let all = [
        idle(4_000, condition::IDLE, 0),
        idle(5_000, condition::IDLE | condition::TROUBLE, condition::IDLE),
        idle(6_000, 0, condition::IDLE),
    ];
    let expected = [r#"4000 {"type":"sample","idle_ms":3000}"#, r#"6000 {"type":"sample","idle_ms":5000}"#];
    assert_eq!(told(&mut assembler, &all), expected);
}

#[test]
fn a_look_tells_all_that_holds() {
    let request = finds(9_000, |look| {
        look.event.detail = condition::SILENCE;
        look.event.tcp.rcv_nxt = 10;
        (look.event.tcp.lsndtime, look.watch.active) = (jiffies(4_000), jiffies(4_040));
        (look.watch.flags, look.watch.answered, look.watch.usual) = (watch_flag::WAITING, 5, 12 * 8);
        look.watch.unread_since = jiffies(8_000);
    });
    let half_closed = finds(9_500, |look| {
        look.event.detail = condition::CLOSE_WAIT;
        look.event.tcp.state = State::CLOSE_WAIT.0;
        look.watch.quiet_since = jiffies(7_000);
    });
    let listener = |queue| {
        finds(9_600, |look| {
            look.event.detail = if queue > 2 { condition::QUEUE } else { 0 };
            look.event.tcp.state = State::LISTEN.0;
            (look.queue, look.backlog, look.oldest) = (queue, 2, jiffies(9_000));
            look.watch.passed = jiffies(8_700);
        })
    };
    let of = |raw: Raw| serde_json::to_string(&last_event(&mut assembler(), &[raw]).what).unwrap();
    let expected = [
        r#"{"type":"sample","idle_ms":4960,"unread_for_ms":1000,"request":{"waiting_ms":5000,"usual_ms":12,"answered_before":5}}"#,
        r#"{"type":"sample","half_closed_ms":2500}"#,
        r#"{"type":"sample","accept_queue":{"queue":3,"backlog":2,"oldest_ms":600,"full_for_ms":900}}"#,
        r#"{"type":"sample","accept_queue":{"queue":0,"backlog":2}}"#,
    ];
    assert_eq!([of(request), of(half_closed), of(listener(3)), of(listener(0))], expected);
}

#[test]
fn what_a_closed_window_keeps_back_has_waited_since_the_timer_that_probed_it_was_armed() {
    let probes = |ms, first_ms| {
        happens(ms, Kind::WindowProbe, |record| {
            (record.tcp.snd_una, record.tcp.snd_nxt, record.tcp.write_seq) = (100, 100, 200);
            (record.tcp.snd_wnd, record.tcp.probes_tstamp) = (0, jiffies(first_ms));
        })
    };
    let stalled = |raws: &[Raw]| last_event(&mut assembler(), raws).tcp.stalled_ms;
    assert_eq!(stalled(&[probes(5_000, 5_000)]), Some(200));
    assert_eq!(stalled(&[probes(5_000, 5_000), probes(5_400, 5_000)]), Some(600));
    assert_eq!(stalled(&[probes(9_000, 5_000)]), Some(4_200), "older than zsock");
    let open = happens(9_500, Kind::ResetReceived, |_| ());
    assert_eq!(stalled(&[probes(9_000, 5_000), open]), None);
}

#[test]
fn probes_before_zsock_came_are_those_that_the_kernel_counts_and_that_fit_into_the_time() {
    let probes = |backoff, first_ms| {
        finds(9_000, |look| {
            let tcp = &mut look.event.tcp;
            (tcp.snd_una, tcp.snd_nxt, tcp.write_seq, tcp.snd_wnd) = (100, 100, 200, 0);
            (tcp.pending, tcp.backoff, tcp.probes_tstamp) = (3, backoff, jiffies(first_ms));
        })
    };
    let counted = |raw: Raw| {
        let What::Sample(sample) = last_event(&mut assembler(), &[raw]).what else { panic!("no sample") };
        sample.window_probes
    };
    // At 0, 400, 1200, 2800, 6000 ms after the first.
    assert_eq!(counted(probes(4, 3_000)), Some(4));
    assert_eq!(counted(probes(9, 3_000)), Some(5), "left over from time-outs before");
    assert_eq!(counted(probes(9, 9_000)), Some(1));
    assert_eq!(counted(finds(9_000, |_| ())), None);
}
