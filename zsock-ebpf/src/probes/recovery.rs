//! The end of a loss episode, `tp_btf/tcp_cong_state_set`: what was sent again has been acknowledged.
//!
//! kernel: `(struct sock *sk, const u8 ca_state)`, after 5.10; fires before the state is set. It is no hook on the ACK path: it
//! fires when the congestion state changes.

use core::ffi::c_void;

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use zsock_common::wire::Kind;

use crate::emit::{self, Event};
use crate::memory;
use crate::read::{self, Direct, Sock};
use crate::rodata::offset;

const OPEN: u8 = 0;
const RECOVERY: u8 = 3;

#[btf_tracepoint(function = "tcp_cong_state_set")]
fn tcp_cong_state_set(ctx: BtfTracePointContext) -> u32 {
    let sk: *mut c_void = ctx.arg(0);
    let to: u8 = ctx.arg(1);
    if to == OPEN
        && let Some(sk) = Sock::tcp(sk)
    {
        opened(&ctx, sk);
    }
    0
}

#[inline(always)]
fn opened(ctx: &BtfTracePointContext, sk: Sock) {
    let tp = sk.tcp_sock();
    if tp.is_null() {
        return;
    }
    let from = read::bits::<Direct>(tp, offset!(icsk_ca_state));
    if from < RECOVERY || !memory::of(sk).is_some_and(|past| memory::is_announced(past)) {
        return;
    }
    let mut event = Event::now(Kind::Recovered, sk.cookie());
    event.detail = u32::from(from);
    emit::trouble::<Direct>(ctx, tp, &event);
}
