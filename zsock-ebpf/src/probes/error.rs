//! Errors that the kernel reports on a socket, `tp_btf/inet_sk_error_report`.
//!
//! kernel: `(const struct sock *sk)`, 5.14 and later; not for orphans. 5.10 shows `sk_err` at the change to CLOSE only.

use core::ffi::c_void;

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use zsock_common::wire::Kind;

use crate::probes::report_trouble;
use crate::read::{self, Direct, Sock};
use crate::rodata::offset;

#[btf_tracepoint(function = "inet_sk_error_report")]
fn inet_sk_error_report(ctx: BtfTracePointContext) -> u32 {
    let sk: *mut c_void = ctx.arg(0);
    if let Some(sk) = Sock::tcp(sk) {
        let errno = read::field::<Direct, u32>(sk.as_ptr(), offset!(sk_err));
        if errno != 0 {
            report_trouble(&ctx, sk, Kind::Error, errno, 0);
        }
    }
    0
}
