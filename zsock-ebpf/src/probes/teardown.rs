//! The end of a socket's life, `tp_btf/tcp_destroy_sock`.
//!
//! kernel: `(struct sock *sk)`, 5.10 to 7.3.

use core::ffi::c_void;

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

use crate::maps::TROUBLED;
use crate::read::Sock;
use crate::{emit, memory};

#[btf_tracepoint(function = "tcp_destroy_sock")]
fn tcp_destroy_sock(ctx: BtfTracePointContext) -> u32 {
    let sk: *mut c_void = ctx.arg(0);
    if let Some(sk) = Sock::tcp(sk) {
        if memory::of(sk).is_some_and(|past| memory::is_announced(past)) {
            let cookie = sk.cookie();
            let _ = TROUBLED.remove(cookie);
            emit::destroyed(&ctx, cookie);
        }
        memory::release(sk);
    }
    0
}
