//! Segments sent again, `tp_btf/tcp_retransmit_skb`.
//!
//! kernel: `(const struct sock *sk, const struct sk_buff *skb)` to 6.16, with `int err` from 6.18 on, where it fires for
//! attempts that failed too. Fires after the segment was sent.

use core::ffi::c_void;

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use zsock_common::offsets::ABSENT;
use zsock_common::wire::Kind;

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
    if let Some(mark) = maps::timer_mark()
        && mark.sk == sk.as_ptr() as u64
    {
        mark.retransmitted = 1;
    }
    let tp = sk.tcp_sock();
    if tp.is_null() || !filter::wants::<Direct>(tp) {
        return;
    }
    let cookie = sk.cookie();
    memory::announce(ctx, sk, cookie);
    let mut event = Event::now(Kind::Retransmit, cookie);
    event.detail = u32::from(tcp_flags(skb));
    event.detail2 = error.unsigned_abs();
    emit::socket_event::<Direct>(ctx, tp, &event);
}

/// `TCP_SKB_CB(skb)->tcp_flags`, of which 6.16 and later have 16 bits; FIN is in the low half everywhere.
#[inline(always)]
fn tcp_flags(skb: *const c_void) -> u8 {
    if offset!(skb_cb) == ABSENT || offset!(tcp_flags) == ABSENT {
        return 0;
    }
    read::field::<Direct, u8>(skb, offset!(skb_cb) + offset!(tcp_flags))
}
