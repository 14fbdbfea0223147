//! Segments sent again, `tp_btf/tcp_retransmit_skb`.
//!
//! kernel: `(const struct sock *sk, const struct sk_buff *skb)` to 6.16, with `int err` from 6.18 on, where it fires for
//! attempts that failed too. Fires after the segment was sent.

use core::ffi::c_void;

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use zsock_common::offsets::ABSENT;
use zsock_common::wire::{DROPPED_HERE, Kind};

use crate::emit::{self, Event};
use crate::read::{self, Direct, Sock};
use crate::rodata::{offset, setting};
use crate::{filter, maps, memory};

#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn tcp_retransmit_skb(ctx: BtfTracePointContext) -> u32 {
    let (sk, skb): (*mut c_void, *const c_void) = (ctx.arg(0), ctx.arg(1));
    // The argument must not be touched where the kernel has none: the verifier sees the constant and drops the load.
    let error: i32 = if setting!(retransmit_has_error) != 0 { ctx.arg(2) } else { 0 };
    if let Some(sk) = Sock::tcp(sk) {
        retransmitted(&ctx, sk, skb, error);
    }
    0
}

#[inline(always)]
fn retransmitted(ctx: &BtfTracePointContext, sk: Sock, skb: *const c_void, error: i32) {
    let mut sent_before = 0;
    if let Some(mark) = maps::timer_mark()
        && mark.sk == sk.as_ptr() as u64
    {
        mark.retransmitted = 1;
        sent_before = mark.lsndtime;
    }
    let tp = sk.tcp_sock();
    if tp.is_null() || !filter::wants::<Direct>(tp) {
        return;
    }
    let cookie = sk.cookie();
    if cookie == 0 {
        emit::unnamed(ctx);
        return;
    }
    let mut event = Event::now(Kind::Retransmit, cookie);
    memory::announce(ctx, sk, cookie, event.time_ns);
    event.detail = u32::from(of_segment::<u8>(skb, offset!(tcp_flags))) | failure(error) << 16;
    event.sent_before = sent_before;
    event.detail2 = of_segment::<u32>(skb, offset!(skb_seq));
    emit::trouble::<Direct>(ctx, tp, &event);
}

/// The errno with which the attempt failed; 0 for none. What is positive is no errno but the verdict of a queueing discipline.
#[inline(always)]
fn failure(error: i32) -> u32 {
    if error > 0 { DROPPED_HERE } else { error.unsigned_abs() }
}

/// A member of the segment's `TCP_SKB_CB`. Of `tcp_flags` 6.16 and later have 16 bits; FIN is in the low half everywhere.
#[inline(always)]
fn of_segment<T: Copy + Default>(skb: *const c_void, member: u32) -> T {
    if offset!(skb_cb) == ABSENT || member == ABSENT {
        return T::default();
    }
    read::field::<Direct, T>(skb, offset!(skb_cb) + member)
}
