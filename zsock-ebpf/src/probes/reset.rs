//! Resets, `tp_btf/tcp_receive_reset` and `tp_btf/tcp_send_reset`.
//!
//! kernel: `(struct sock *sk)` and `(const struct sock *sk, const struct sk_buff *skb)`, the latter with
//! `const enum sk_rst_reason reason` from 6.12 on. A reset may go out for a `TIME_WAIT` socket, a listener or none at all: those belong
//! to no connection and are left out.

use core::ffi::c_void;

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use zsock_common::wire::Kind;

use crate::probes::report_trouble;
use crate::read::{self, Direct, Sock};
use crate::rodata::{offset, setting};

const LISTEN: u8 = 10;

#[btf_tracepoint(function = "tcp_receive_reset")]
fn tcp_receive_reset(ctx: BtfTracePointContext) -> u32 {
    let sk: *mut c_void = ctx.arg(0);
    if let Some(sk) = Sock::tcp(sk) {
        report_trouble(&ctx, sk, Kind::ResetReceived, 0, 0);
    }
    0
}

#[btf_tracepoint(function = "tcp_send_reset")]
fn tcp_send_reset(ctx: BtfTracePointContext) -> u32 {
    let sk: *mut c_void = ctx.arg(0);
    let has_reason = setting!(reset_has_reason);
    let reason: u32 = if has_reason != 0 { ctx.arg(2) } else { 0 };
    if let Some(sk) = Sock::tcp(sk)
        && read::field::<Direct, u8>(sk.as_ptr(), offset!(skc_state)) != LISTEN
    {
        report_trouble(&ctx, sk, Kind::ResetSent, reason, has_reason);
    }
    0
}
