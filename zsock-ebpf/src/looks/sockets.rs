//! Every TCP socket of a network namespace, `iter/tcp`.
//!
//! kernel: `struct bpf_iter__tcp { meta, sk_common, uid }`, 5.10 to 7.3. Walks the namespace of the thread that opens it; rows may be
//! `TIME_WAIT` and request sockets.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_seq_write;
use zsock_common::wire::{Control, Kind, LookRecord, Watch, condition, look, watch_flag};

use crate::emit::{self, Event};
use crate::looks::Row;
use crate::looks::pass::{self, Queue};
use crate::looks::{quiet, rest};
use crate::maps::{self, TROUBLED};
use crate::read::{self, Direct, Sock};
use crate::rodata::setting;
use crate::{filter, memory, words};

#[repr(C)]
pub(super) struct TcpRow {
    pub(super) meta: *mut c_void,
    pub(super) sk_common: *mut c_void,
    pub(super) uid: u32,
}

/// `bpf_iter_meta.seq` and `bpf_iter_meta.seq_num`.
pub(super) const SEQ: u32 = 0;
const SEQ_NUM: u32 = 16;

/// The iterator goes on until the reader's buffer is full: rows handed over and sockets walked past fill it, so that the reader
/// gets its turn.
const HANDED_OVER_BYTES: u32 = 4;
pub(super) const WALKED_BYTES: u32 = 64;
const WALKED: u64 = 256;

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn look_at_sockets(row: *const TcpRow) -> i32 {
    // SAFETY: the kernel passes its `struct bpf_iter__tcp`, which this mirrors.
    let (meta, sk_common) = unsafe { ((*row).meta, (*row).sk_common) };
    let Some(seq) = Seq::of(meta) else { return 0 };
    if read::field::<Direct, u64>(meta, SEQ_NUM) % WALKED == WALKED - 1 {
        seq.fill(WALKED_BYTES);
    }
    if !sk_common.is_null() && looked(&Row(row), Sock::of_row(sk_common)) {
        seq.fill(HANDED_OVER_BYTES);
    }
    0
}

/// Walks and does nothing: what a pass costs is measured against it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn walk_sockets(_row: *const TcpRow) -> i32 {
    0
}

/// What the reader's buffer is filled with. Not on the stack: the verifier would tell the one where it is from the one where it is not, and
/// look at all that follows twice.
static NOTHING: [u64; WALKED_BYTES as usize / 8] = [0; WALKED_BYTES as usize / 8];

/// The reader's buffer.
pub(super) struct Seq(*mut c_void);

impl Seq {
    /// The buffer of a row. To be asked for once: newer verifiers look through all of the kernel's types for each pointer that is followed here.
    #[inline(always)]
    pub(super) fn of(meta: *const c_void) -> Option<Self> {
        let seq = read::pointer::<Direct>(meta, SEQ).cast_mut();
        // Older verifiers do not know that it never is.
        (!seq.is_null()).then_some(Self(seq))
    }

    /// Fills it by so many bytes.
    #[inline(always)]
    pub(super) fn fill(&self, bytes: u32) {
        // SAFETY: the iterator's own buffer, which the verifier knows, and `NOTHING` has so many bytes.
        unsafe { bpf_seq_write(self.0.cast(), (&raw const NOTHING).cast_mut().cast(), bytes) };
    }
}

/// Returns whether the socket was handed over.
#[inline(always)]
fn looked(ctx: &Row<TcpRow>, sk: Sock) -> bool {
    let tp = sk.tcp_sock();
    let Some(control) = maps::control() else { return false };
    if tp.is_null() {
        count_small(sk);
        rest::ends(control);
        return false;
    }
    let is_wanted = filter::wants::<Direct>(tp);
    if is_wanted {
        maps::count_state(pass::state(tp), |states| &mut states.found);
    }
    // From here on the socket has a cookie, by which the timers' hooks know it.
    let may_name = setting!(by_address) == 0 || maps::has_room(memory::for_healthy());
    let cookie = if may_name { sk.cookie() } else { sk.known_cookie() };
    if cookie == 0 {
        emit::unnamed(ctx);
        rest::ends(control);
        return false;
    }
    if control.look == look::SEED {
        maps::count(|counters| &mut counters.existed);
        return false;
    }
    if !is_wanted {
        return false;
    }
    let is_handed_over = passed(ctx, sk, tp, cookie, control);
    if is_handed_over {
        rest::ends(control);
    } else {
        rest::note(sk, tp, cookie, control);
    }
    is_handed_over
}

/// Counts a `TIME_WAIT` or request socket, of which there is nothing more to know.
#[inline(always)]
fn count_small(sk: Sock) {
    if filter::wants_common(sk.as_ptr()) {
        maps::count_state(read::common_state(sk.as_ptr()), |states| &mut states.found);
    }
}

#[inline(always)]
fn passed(ctx: &Row<TcpRow>, sk: Sock, tp: *const c_void, cookie: u64, control: &Control) -> bool {
    quiet::begin(control);
    if quiet::is_settled(tp, cookie, control) {
        return false;
    }
    let queue = Queue::of(tp);
    let Some(past) = memory::of_or_new(sk) else { return false };
    past.watch.holds = 0;
    if Queue::is_of(tp) {
        queue.note(&mut past.watch);
    } else {
        pass::note_connection(tp, past, control);
    }
    let (holds, told) = pass::conditions(&past.watch);
    quiet::note_unread(cookie, holds & condition::UNREAD != 0, told & condition::UNREAD != 0);
    let is_restless = past.watch.flags & watch_flag::RESTLESS != 0;
    let is_unannounced =
        maps::has_unannounced() && !memory::is_announced(past) && TROUBLED.get_ptr(cookie).is_some();
    if holds == told && !is_restless && !is_unannounced {
        return false;
    }
    let mut event = Event::now(Kind::Look, cookie);
    memory::announce_past(ctx, past, cookie, event.time_ns);
    event.detail = holds;
    event.detail2 = told;
    hand_over(ctx, tp, &event, &mut past.watch, &queue);
    true
}

/// Tells of the conditions that hold. Where there is no room for that, the next pass tells it.
#[inline(always)]
fn hand_over(ctx: &Row<TcpRow>, tp: *const c_void, event: &Event, watch: &mut Watch, queue: &Queue) {
    let Some(mut entry) = emit::reserve::<LookRecord>(ctx, Kind::Look) else { return };
    // SAFETY: the slot is ours until it is submitted, and every field is written below.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    words::copy(&mut record.watch, watch);
    // The last use of the socket's memory: the verifier looks at the rest once, not once for each place where that may be.
    watch.told = event.detail;
    watch.flags &= !watch_flag::RESTLESS;
    emit::fill::<Direct>(&mut record.event, tp, event);
    record.queue = queue.length;
    record.backlog = queue.backlog;
    record.oldest = queue.oldest;
    record.reserved = 0;
    emit::submit(entry);
}
