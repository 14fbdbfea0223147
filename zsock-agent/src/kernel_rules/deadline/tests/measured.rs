//! Real sockets on 6.18.44 at 250 Hz, with black holes and closed windows between network namespaces: what the kernel showed
//! of them, and how much later, in milliseconds, the connection really ended. The measuring looked every 12 to 15 ms.

use super::*;

fn assert_foretold(measured: &[(&str, Timers, u128)]) {
    let off: Vec<_> = measured
        .iter()
        .filter_map(|(what, timers, measured_ms)| {
            let foretold = foretold(timers).1;
            let near = foretold.is_some_and(|foretold| foretold.abs_diff(*measured_ms) <= 16);
            (!near).then_some((*what, foretold, *measured_ms))
        })
        .collect();
    assert_eq!(off, []);
}

#[test]
fn data_that_meets_a_black_hole_ended_when_foretold() {
    assert_foretold(&[
        ("24 bytes, retries2=3", Timers { retries2: 3, ..sent(Pending::LossProbe, 491_038, 48, 0) }, 6_793),
        ("24 bytes, retries2=5", Timers { retries2: 5, ..sent(Pending::LossProbe, 491_160, 47, 0) }, 13_470),
        ("24 bytes, retries2=8", Timers { retries2: 8, ..sent(Pending::LossProbe, 491_201, 47, 0) }, 107_772),
        (
            "the same after seven timeouts",
            Timers {
                retransmits: 7,
                backoff: 7,
                rto: ms(26_112),
                since_first_retransmission: Some(ms(35_076)),
                retries2: 8,
                ..sent(Pending::Retransmit, 500_070, 4_315, 3)
            },
            72_295,
        ),
        (
            "thin stream, retries2=5, after two timeouts",
            Timers {
                retransmits: 2,
                since_first_retransmission: Some(ms(223)),
                thin_linear: true,
                retries2: 5,
                ..sent(Pending::Retransmit, 618_445, 48, 0)
            },
            14_029,
        ),
        (
            "RTO bounded at 2 s",
            Timers { retries2: 8, rto_max: ms(2_000), ..sent(Pending::LossProbe, 491_278, 45, 0) },
            15_404,
        ),
        (
            "user timeout 2.5 s",
            Timers { user_timeout: Some(ms(2_500)), ..sent(Pending::LossProbe, 491_355, 47, 0) },
            2_932,
        ),
        (
            "user timeout 20 s beyond retries2=3",
            Timers {
                user_timeout: Some(ms(20_000)),
                retries2: 3,
                ..sent(Pending::LossProbe, 491_460, 47, 0)
            },
            20_463,
        ),
        (
            "user timeout 100 ms",
            Timers { user_timeout: Some(ms(100)), ..sent(Pending::LossProbe, 491_580, 47, 0) },
            506,
        ),
        ("FIN, retries2=4", Timers { retries2: 4, ..sent(Pending::LossProbe, 563_097, 47, 0) }, 6_811),
    ]);
}

#[test]
fn keepalive_that_meets_a_black_hole_ended_when_foretold() {
    assert_foretold(&[
        ("keepalive 1/1/2", watched(guarded(1_000, 1_000, 2), 491_593, 245, 1), 3_033),
        ("keepalive 3/5/3", watched(guarded(3_000, 5_000, 3), 491_679, 745, 2), 18_561),
        ("keepalive 20/17/2", watched(guarded(20_000, 17_000, 2), 491_771, 4_994, 3), 58_392),
        (
            "user timeout 2.5 s instead of nine probes",
            Timers { user_timeout: Some(ms(2_500)), ..watched(guarded(1_000, 1_000, 9), 491_855, 245, 1) },
            3_041,
        ),
        (
            "user timeout 10 s instead of one probe",
            Timers { user_timeout: Some(ms(10_000)), ..watched(guarded(2_000, 3_000, 1), 491_947, 495, 1) },
            11_348,
        ),
    ]);
}

#[test]
fn a_syn_that_meets_a_black_hole_ended_when_foretold() {
    assert_foretold(&[
        ("SYN, one retry", Timers { syn_retries: 1, ..connecting(492_039, 246) }, 3_048),
        (
            "SYN, two retries, none linear",
            Timers { syn_retries: 2, syn_linear_timeouts: 0, ..connecting(492_147, 246) },
            7_219,
        ),
        (
            "SYN, two retries although the user timeout is 30 s",
            Timers {
                syn_retries: 2,
                syn_linear_timeouts: 0,
                user_timeout: Some(ms(30_000)),
                ..connecting(679_772, 246)
            },
            7_054,
        ),
        ("SYN, three retries", Timers { syn_retries: 3, ..connecting(492_271, 246) }, 19_524),
        (
            "SYN, user timeout 2.5 s",
            Timers { user_timeout: Some(ms(2_500)), ..connecting(492_372, 246) },
            2_511,
        ),
    ]);
}

#[test]
fn what_waits_for_a_window_or_is_dropped_on_the_way_out_ended_when_foretold() {
    assert_foretold(&[
        (
            "closed window, user timeout 9 s",
            Timers { rto: ms(208), user_timeout: Some(ms(9_000)), ..blocked(562_397, 28, 0) },
            9_356,
        ),
        (
            "closed window, two probes unanswered, retries2=5",
            Timers {
                rto: ms(208),
                backoff: 5,
                probes_out: 2,
                since_first_probe: Some(ms(11_896)),
                retries2: 5,
                ..blocked(497_122, 670, 2)
            },
            23_672,
        ),
        (
            "dropped on the way out, retries2=4",
            Timers { window_closed: false, retries2: 4, ..blocked(562_755, 47, 0) },
            6_642,
        ),
        (
            "orphan, dropped on the way out, three retries",
            Timers {
                window_closed: false,
                orphan: true,
                state: State::FIN_WAIT1,
                orphan_retries: 3,
                ..blocked(562_860, 48, 0)
            },
            3_119,
        ),
        (
            "orphan with a closed window, peer answering, RTO bounded at 4 s",
            Timers {
                orphan: true,
                state: State::FIN_WAIT1,
                rto: ms(208),
                rto_max: ms(4_000),
                backoff: 4,
                since_first_probe: Some(ms(3_244)),
                orphan_retries: 2,
                ..blocked(564_259, 765, 2)
            },
            7_283,
        ),
    ]);
}

#[test]
fn an_orphan_in_a_black_hole_and_data_under_a_closed_window_ended_when_foretold() {
    assert_foretold(&[
        (
            "orphan, two retries",
            Timers {
                orphan: true,
                state: State::FIN_WAIT1,
                orphan_retries: 2,
                ..sent(Pending::Retransmit, 492_945, 51, 0)
            },
            3_143,
        ),
        (
            "orphan, the default of eight retries",
            Timers { orphan: true, state: State::FIN_WAIT1, ..sent(Pending::Retransmit, 493_021, 49, 0) },
            106_644,
        ),
        (
            "orphan, five retries, RTO bounded at 1 s",
            Timers {
                orphan: true,
                state: State::FIN_WAIT1,
                orphan_retries: 5,
                rto_max: ms(1_000),
                ..sent(Pending::Retransmit, 493_197, 51, 0)
            },
            5_556,
        ),
        (
            "orphan, user timeout 4 s",
            Timers {
                orphan: true,
                state: State::FIN_WAIT1,
                user_timeout: Some(ms(4_000)),
                ..sent(Pending::Retransmit, 493_181, 51, 0)
            },
            4_245,
        ),
        (
            "window closed on data in flight, user timeout 3 s",
            Timers {
                window_closed: true,
                user_timeout: Some(ms(3_000)),
                ..sent(Pending::Retransmit, 493_289, 46, 0)
            },
            3_195,
        ),
        (
            "the same a second later, peer answering",
            Timers {
                window_closed: true,
                backoff: 2,
                rto: ms(816),
                since_first_retransmission: Some(ms(847)),
                since_received: Some(ms(432)),
                user_timeout: Some(ms(3_000)),
                ..sent(Pending::Retransmit, 493_548, 96, 1)
            },
            2_159,
        ),
        (
            "window closed on an orphan's data in flight, peer answering, two retries",
            Timers {
                orphan: true,
                state: State::FIN_WAIT1,
                window_closed: true,
                orphan_retries: 2,
                ..sent(Pending::Retransmit, 693_029, 48, 0)
            },
            3_125,
        ),
        (
            "window closed on data in flight, peer silent, RTO bounded at 1 s",
            Timers {
                window_closed: true,
                backoff: 2,
                rto: ms(816),
                rto_max: ms(1_000),
                since_first_retransmission: Some(ms(649)),
                since_received: Some(ms(860)),
                ..sent(Pending::Retransmit, 493_590, 150, 1)
            },
            1_640,
        ),
    ]);
}
