//! The hooks, one file each.

mod accept;
mod error;
mod recovery;
mod reset;
mod retransmit;
mod state;
mod syn_ack;
mod teardown;
mod timer;

use aya_ebpf::programs::BtfTracePointContext;
use zsock_common::wire::Kind;

use crate::emit::{self, Event};
use crate::read::{Direct, Sock};
use crate::{filter, memory};

/// Announces `sk` and sends an event of it.
#[inline(always)]
fn report_trouble(ctx: &BtfTracePointContext, sk: Sock, kind: Kind, detail: u32, detail2: u32) {
    let tp = sk.tcp_sock();
    if tp.is_null() || !filter::wants::<Direct>(tp) {
        return;
    }
    let cookie = sk.cookie();
    let mut event = Event::now(kind, cookie);
    memory::announce(ctx, sk, cookie, event.time_ns);
    event.detail = detail;
    event.detail2 = detail2;
    emit::socket_event::<Direct>(ctx, tp, &event);
}
