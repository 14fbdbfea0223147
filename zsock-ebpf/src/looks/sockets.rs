//! Every TCP socket of a network namespace, `iter/tcp`.
//!
//! kernel: `struct bpf_iter__tcp { meta, sk_common, uid }`, 5.10 to 7.3. Walks the namespace of the thread that opens it; rows may be
//! `TIME_WAIT` and request sockets.

use core::ffi::c_void;

use zsock_common::wire::{Kind, look};

use crate::emit::{self, Event};
use crate::looks::Row;
use crate::maps::{self, TROUBLED};
use crate::read::{self, Direct, Sock};
use crate::rodata::offset;
use crate::{filter, memory};

#[repr(C)]
struct TcpRow {
    meta: *mut c_void,
    sk_common: *mut c_void,
    uid: u32,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn look_at_sockets(row: *const TcpRow) -> i32 {
    // SAFETY: the kernel passes its `struct bpf_iter__tcp`, which this mirrors.
    let sk_common = unsafe { (*row).sk_common };
    if !sk_common.is_null() {
        looked(&Row(row), Sock::of_row(sk_common));
    }
    0
}

#[inline(always)]
fn looked(ctx: &Row<TcpRow>, sk: Sock) {
    let tp = sk.tcp_sock();
    if tp.is_null() {
        return;
    }
    let is_seed = maps::control().look == look::SEED;
    // From here on the socket has a cookie, by which the timers' hooks know it.
    let cookie = sk.cookie();
    if is_seed {
        maps::count(|counters| counters.existed += 1);
    }
    if !filter::wants::<Direct>(tp) {
        return;
    }
    let is_announced = memory::of(sk).is_some_and(|past| memory::is_announced(past));
    let is_suspect = if is_seed { is_in_trouble(tp) } else { TROUBLED.get_ptr(cookie).is_some() };
    if !is_announced && !is_suspect {
        return;
    }
    let event = Event::now(Kind::Look, cookie);
    memory::announce(ctx, sk, cookie, event.time_ns);
    emit::socket_event::<Direct>(ctx, tp, &event);
}

/// A time-out, or a probe that went unanswered, or a window that had to be probed.
#[inline(always)]
fn is_in_trouble(tp: *const c_void) -> bool {
    let probes_out = read::field::<Direct, u8>(tp, offset!(icsk_probes_out));
    let is_waiting = read::field::<Direct, u32>(tp, offset!(write_seq))
        != read::field::<Direct, u32>(tp, offset!(snd_una));
    read::field::<Direct, u8>(tp, offset!(icsk_retransmits)) >= 1
        || probes_out >= 2
        || probes_out >= 1 && is_waiting
}
