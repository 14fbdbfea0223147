//! The census: every TCP socket and every descriptor of one, for `zsock audit`, `keepalive` and `kill`.
//!
//! Rows go to whoever reads the iterator (`bpf_seq_write`): a row that finds the buffer full is made again at the next read, so
//! that none can be lost. Nothing is remembered of any socket but the cookie that the kernel makes when it is asked.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_seq_write, bpf_sock_from_file};
use zsock_common::offsets::ABSENT;
use zsock_common::wire::{CensusHolder, CensusRecord, Head};

use crate::by_address::Unnamed;
use crate::looks::holders::FileRow;
use crate::looks::pass::Queue;
use crate::looks::sockets::{SEQ, TcpRow};
use crate::read::{self, Direct, Probed, Sock, TIME_WAIT};
use crate::rodata::{offset, setting};
use crate::{emit, filter, process, words};

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn census_sockets(row: *const TcpRow) -> i32 {
    // SAFETY: the kernel passes its `struct bpf_iter__tcp`, which this mirrors.
    let (meta, sk_common, uid) = unsafe { ((*row).meta, (*row).sk_common, (*row).uid) };
    if sk_common.is_null() {
        return 0;
    }
    let tp = Sock::of_row(sk_common).tcp_sock();
    let mut record = MaybeUninit::<CensusRecord>::uninit();
    // SAFETY: every field is written below, by the one or the other function.
    let record = unsafe { &mut *record.as_mut_ptr() };
    if tp.is_null() {
        small(record, sk_common, uid);
        if !filter::wants_endpoints(&record.endpoints) {
            return 0;
        }
    } else {
        if !filter::wants::<Direct>(tp) {
            return 0;
        }
        full(record, tp);
    }
    head(&mut record.head, sk_common);
    write(meta, record);
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn census_holders(row: *const FileRow) -> i32 {
    // SAFETY: the kernel passes its `struct bpf_iter__task_file`, which this mirrors.
    let (meta, task, fd, file) = unsafe { ((*row).meta, (*row).task, (*row).fd, (*row).file) };
    if task.is_null() || file.is_null() {
        return 0;
    }
    let Some(cookie) = cookie_of_file(file) else { return 0 };
    let mut holder = MaybeUninit::<CensusHolder>::uninit();
    // SAFETY: every field is written below.
    let holder = unsafe { &mut *holder.as_mut_ptr() };
    holder.time_ns = emit::now_ns();
    holder.jiffies = emit::jiffies();
    holder.cookie = cookie;
    holder.fd = fd;
    holder.reserved = 0;
    words::clear(&mut holder.process);
    process::write::<Direct>(&mut holder.process, task);
    write(meta.cast_mut(), holder);
    0
}

/// What the bare walks write of each socket.
const BARE: [u64; 25] = [0; 25];

/// Walks and writes 200 bytes of each socket: what a census costs is measured against it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn bare_sockets(row: *const TcpRow) -> i32 {
    // SAFETY: the kernel passes its `struct bpf_iter__tcp`, which this mirrors.
    let (meta, sk_common) = unsafe { ((*row).meta, (*row).sk_common) };
    if !sk_common.is_null() {
        let nothing = BARE;
        write(meta, &nothing);
    }
    0
}

/// The same of each descriptor of a socket.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn bare_holders(row: *const FileRow) -> i32 {
    // SAFETY: the kernel passes its `struct bpf_iter__task_file`, which this mirrors.
    let (meta, file) = unsafe { ((*row).meta, (*row).file) };
    if !file.is_null() && !read::socket_of_file::<Direct>(file).is_null() {
        let nothing = BARE;
        write(meta.cast_mut(), &nothing);
    }
    0
}

/// The cookie of the TCP socket behind a file, 0 while it has none; `None` for a file that is none.
#[inline(always)]
fn cookie_of_file(file: *mut c_void) -> Option<u64> {
    if setting!(by_address) != 0 {
        return Unnamed::of_file(file).map(|sk| read::field::<Probed, u64>(sk.as_ptr(), offset!(skc_cookie)));
    }
    // SAFETY: `file` is an iterator's file, which the verifier knows.
    let socket: *const c_void = unsafe { bpf_sock_from_file(file.cast()) }.cast_const().cast();
    if socket.is_null() {
        return None;
    }
    let sk = Sock::tcp(read::pointer::<Direct>(socket, offset!(socket_sk)).cast_mut())?;
    read::is_stream::<Direct>(sk.as_ptr()).then(|| cookie(sk.as_ptr()))
}

/// The cookie of a socket that the verifier knows. Where programs may not ask for one it is 0 until somebody else has.
#[inline(always)]
fn cookie(sk: *mut c_void) -> u64 {
    let known = read::field::<Direct, u64>(sk, offset!(skc_cookie));
    if known != 0 || setting!(by_address) != 0 {
        return known;
    }
    // SAFETY: `sk` is a socket that the verifier knows.
    unsafe { bpf_get_socket_cookie(sk) }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "records carry the low half of jiffies")]
fn head(head: &mut Head, sk_common: *mut c_void) {
    head.time_ns = emit::now_ns();
    head.cookie = cookie(sk_common);
    head.kind = 0;
    head.flags = 0;
    head.jiffies = emit::jiffies() as u32;
}

/// A full socket. `tp` is its `struct tcp_sock`.
#[inline(always)]
fn full(record: &mut CensusRecord, tp: *const c_void) {
    read::endpoints::<Direct>(&mut record.endpoints, tp);
    read::tcp_facts::<Direct>(&mut record.tcp, tp);
    let queue = Queue::of(tp);
    record.queue = queue.length;
    record.backlog = read::field::<Direct, u32>(tp, offset!(sk_max_ack_backlog));
    record.oldest = queue.oldest;
    record.expires = 0;
    record.expires_flags = 0;
    record.is_full = 1;
}

/// What is no full socket, of which the verifier knows a `struct sock_common`.
#[inline(always)]
fn small(record: &mut CensusRecord, sk_common: *const c_void, uid: u32) {
    words::clear(&mut record.tcp);
    read::common_endpoints(&mut record.endpoints, sk_common);
    let is_time_wait = read::field::<Direct, u8>(sk_common, offset!(skc_state)) == TIME_WAIT;
    record.tcp.state = read::common_state(sk_common);
    record.endpoints.uid = uid;
    let timer = if is_time_wait { offset!(time_wait_timer) } else { offset!(request_timer) };
    record.expires = of_timer(sk_common, timer, offset!(timer_expires));
    record.expires_flags = of_timer(sk_common, timer, offset!(timer_flags));
    record.queue = 0;
    record.backlog = 0;
    record.oldest = 0;
    record.is_full = 0;
}

#[inline(always)]
fn of_timer(sk_common: *const c_void, timer: u32, member: u32) -> u32 {
    if timer == ABSENT || member == ABSENT {
        0
    } else {
        read::field::<Probed, u32>(sk_common, timer + member)
    }
}

/// Writes a row, all of whose bytes are its fields'.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a row has a few hundred bytes")]
fn write<T: Copy>(meta: *mut c_void, row: &T) {
    let seq = read::pointer::<Direct>(meta, SEQ).cast_mut();
    // Older verifiers do not know that it never is.
    if seq.is_null() {
        return;
    }
    // SAFETY: `seq` is the iterator's own, which the verifier knows, and the row has so many bytes.
    unsafe { bpf_seq_write(seq.cast(), core::ptr::from_ref(row).cast(), size_of::<T>() as u32) };
}
