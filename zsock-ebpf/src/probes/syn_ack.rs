//! SYN-ACKs sent again, `tp_btf/tcp_retransmit_synack`.
//!
//! kernel: `(const struct sock *sk, const struct request_sock *req)`, 5.10 to 7.3; `sk` is the listener.

use core::ffi::c_void;

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use zsock_common::wire::{Kind, SynAckRecord};

use crate::read::{self, Direct, Sock};
use crate::rodata::offset;
use crate::{emit, filter};

#[btf_tracepoint(function = "tcp_retransmit_synack")]
fn tcp_retransmit_synack(ctx: BtfTracePointContext) -> u32 {
    let (listener, request): (*mut c_void, *const c_void) = (ctx.arg(0), ctx.arg(1));
    if let Some(listener) = Sock::tcp(listener) {
        retransmitted(&ctx, listener, request);
    }
    0
}

#[inline(always)]
fn retransmitted(ctx: &BtfTracePointContext, listener: Sock, request: *const c_void) {
    let tp = listener.tcp_sock();
    if tp.is_null() {
        return;
    }
    let Some(mut entry) = emit::reserve::<SynAckRecord>(ctx, Kind::SynAckRetransmit) else { return };
    // SAFETY: the slot is ours until it is submitted, and every field is written below.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    let time_ns = emit::now_ns();
    emit::head(&mut record.head, Kind::SynAckRetransmit, listener.cookie(), time_ns, 0);
    read::request_endpoints(&mut record.endpoints, request, tp);
    record.num_timeout = u32::from(read::bits::<Direct>(request, offset!(request_num_timeout)));
    record.timeout = read::field::<Direct, u32>(request, offset!(request_timeout));
    if filter::wants_endpoints(&record.endpoints) {
        emit::submit_trouble(entry, time_ns);
    } else {
        entry.discard(0);
    }
}
