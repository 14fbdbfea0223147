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
use zsock_common::wire::{Kind, sk_flag};

use crate::emit::{self, Event};
use crate::read::{self, Direct, Sock};
use crate::rodata::offset;
use crate::{filter, memory};

const CLOSE: u8 = 7;

/// Announces `sk`, unless the kernel has freed it already, and sends an event of it.
#[inline(always)]
fn report_trouble(ctx: &BtfTracePointContext, sk: Sock, kind: Kind, detail: u32, detail2: u32) {
    let tp = sk.tcp_sock();
    if tp.is_null() || !filter::wants::<Direct>(tp) {
        return;
    }
    // To data for an orphan that it has just freed the kernel answers with a reset. Nothing more will end what began here.
    let is_gone = is_dead(sk) && memory::of(sk).is_none();
    let cookie = if is_gone { sk.known_cookie() } else { sk.cookie() };
    if cookie == 0 {
        emit::unnamed(ctx);
        return;
    }
    let mut event = Event::now(kind, cookie);
    if !is_gone {
        memory::announce(ctx, sk, cookie, event.time_ns);
    }
    event.detail = detail;
    event.detail2 = detail2;
    emit::trouble::<Direct>(ctx, tp, &event);
}

/// Whether TCP is done with a socket that no process holds.
#[inline(always)]
fn is_dead(sk: Sock) -> bool {
    read::field::<Direct, u8>(sk.as_ptr(), offset!(skc_state)) == CLOSE
        && read::field::<Direct, u32>(sk.as_ptr(), offset!(skc_flags)) & sk_flag::DEAD != 0
}
