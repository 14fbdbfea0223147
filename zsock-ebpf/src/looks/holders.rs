//! Every process that holds a TCP socket, in all network namespaces, `iter/task_file`.
//!
//! kernel: `struct bpf_iter__task_file { meta, task, fd, file }`, 5.10 to 7.3. Threads that share their files come once.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_sock_from_file;
use zsock_common::offsets::ABSENT;
use zsock_common::wire::{ClockRecord, Control, HolderRecord, Kind, Past, Process, look, past_flag, timer};

use crate::by_address::Unnamed;
use crate::looks::Row;
use crate::looks::sockets::{Seq, WALKED_BYTES};
use crate::maps::{self, KEEPALIVE_FUNCTION, TROUBLED, WANTED, WRITE_FUNCTION};
use crate::read::{self, Direct, Probed, Read, Sock};
use crate::rodata::{offset, setting};
use crate::{emit, memory, process, words};

#[repr(C)]
pub(super) struct FileRow {
    pub(super) meta: *const c_void,
    pub(super) task: *const c_void,
    pub(super) fd: u32,
    pub(super) file: *mut c_void,
}

/// `bpf_iter_meta.seq_num`.
const SEQ_NUM: u32 = 16;

/// With each so many files the reader's buffer fills by [`WALKED_BYTES`], so that the reader gets its turn.
const WALKED: u64 = 64;

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn look_at_holders(row: *const FileRow) -> i32 {
    // SAFETY: the kernel passes its `struct bpf_iter__task_file`, which this mirrors.
    let (meta, task, file) = unsafe { ((*row).meta, (*row).task, (*row).file) };
    let Some(control) = maps::control() else { return 0 };
    let is_seed = control.look == look::SEED;
    let number = read::field::<Direct, u64>(meta, SEQ_NUM);
    if number % WALKED == WALKED - 1
        && let Some(seq) = Seq::of(meta)
    {
        seq.fill(WALKED_BYTES);
    }
    if is_seed && number == 0 {
        tell_clock(&Row(row));
    }
    if task.is_null() || file.is_null() {
        return 0;
    }
    if setting!(by_address) != 0 {
        if let Some(sk) = Unnamed::of_file(file) {
            looked(&Row(row), sk, task, control);
        }
        return 0;
    }
    // SAFETY: `file` is an iterator's file, which the verifier knows.
    let socket: *const c_void = unsafe { bpf_sock_from_file(file.cast()) }.cast_const().cast();
    if socket.is_null() {
        return 0;
    }
    if let Some(sk) = Sock::tcp(read::pointer::<Direct>(socket, offset!(socket_sk)).cast_mut())
        && read::is_stream::<Direct>(sk.as_ptr())
    {
        looked(&Row(row), sk, task, control);
    }
    0
}

/// A socket that a process holds.
trait Held: Copy {
    /// How its fields are read.
    type Read: Read;

    /// It as a `struct tcp_sock *`; null where it is none.
    fn tcp_sock(self) -> *const c_void;
    /// Its cookie, or the number that stands for it; 0 where it has none yet.
    fn known_cookie(self) -> u64;
    /// Its memory, if it has any.
    fn memory(self) -> Option<&'static mut Past>;
    /// Its memory, made if it has none.
    fn memory_or_new(self) -> Option<&'static mut Past>;
}

impl Held for Sock {
    type Read = Direct;

    #[inline(always)]
    fn tcp_sock(self) -> *const c_void {
        self.tcp_sock()
    }

    #[inline(always)]
    fn known_cookie(self) -> u64 {
        self.known_cookie()
    }

    #[inline(always)]
    fn memory(self) -> Option<&'static mut Past> {
        memory::of(self)
    }

    #[inline(always)]
    fn memory_or_new(self) -> Option<&'static mut Past> {
        memory::of_or_new(self)
    }
}

impl Held for Unnamed {
    type Read = Probed;

    #[inline(always)]
    fn tcp_sock(self) -> *const c_void {
        self.as_ptr()
    }

    #[inline(always)]
    fn known_cookie(self) -> u64 {
        read::cookie_behind(self.as_ptr())
    }

    #[inline(always)]
    fn memory(self) -> Option<&'static mut Past> {
        self.memory()
    }

    #[inline(always)]
    fn memory_or_new(self) -> Option<&'static mut Past> {
        self.memory_or_new()
    }
}

#[inline(always)]
fn looked<H: Held>(ctx: &Row<FileRow>, sk: H, task: *const c_void, control: &Control) {
    let cookie = sk.known_cookie();
    if is_seed(control) {
        learn_timers(sk, control.timers);
    } else if WANTED.get_ptr(cookie).is_none() {
        return;
    }
    // Before the socket's memory is looked for: what follows is looked at by the verifier once for each place of that.
    let mut holder = Process::NONE;
    words::blank(&mut holder, cookie);
    process::write::<Direct>(&mut holder, task);
    let Some(past) = (if is_seed(control) { sk.memory_or_new() } else { sk.memory() }) else { return };
    found(past, &holder, control);
    if !is_seed(control) {
        held(ctx, sk, cookie, past, &holder);
    }
}

/// Whether this is the look at the start. Read anew wherever it is asked for, as the verifier would remember the answer.
#[inline(always)]
fn is_seed(control: &Control) -> bool {
    // SAFETY: points into `control`.
    unsafe { (&raw const control.look).read_volatile() == look::SEED }
}

/// Remembers who holds a socket that is older than zsock. Of several that the look at the start finds, the one that started first: the
/// others inherited it.
#[inline(always)]
fn found(past: &mut Past, holder: &Process, control: &Control) {
    let is_earlier = past.flags & past_flag::OPENER_FOUND != 0
        && holder.start_ns < past.opener.start_ns
        && is_seed(control);
    if past.opener.tgid == 0 || is_earlier {
        words::copy(&mut past.opener, holder);
        past.flags |= past_flag::OPENER_FOUND;
    }
}

/// Tells who holds a socket whose holders are wanted.
#[inline(always)]
fn held<H: Held>(ctx: &Row<FileRow>, sk: H, cookie: u64, past: &mut Past, holder: &Process) {
    let time_ns = emit::now_ns();
    if !memory::is_announced(past) && TROUBLED.get_ptr(cookie).is_some() {
        memory::announce_past(ctx, past, cookie, time_ns);
    }
    let Some(mut entry) = emit::reserve::<HolderRecord>(ctx, Kind::Holder) else { return };
    // SAFETY: the slot is ours until it is submitted, and every field is written below.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    emit::head(&mut record.head, Kind::Holder, cookie, time_ns, 0);
    words::copy(&mut record.holder, holder);
    record.inode = read::field::<H::Read, u64>(sk.tcp_sock(), offset!(sk_ino));
    emit::submit(entry);
}

/// Every TCP socket's timers have the same functions, and reading them here needs neither kallsyms nor its permissions.
#[inline(always)]
fn learn_timers<H: Held>(sk: H, wanted: u32) {
    let tp = sk.tcp_sock();
    if tp.is_null() || wanted == 0 || offset!(timer_function) == ABSENT {
        return;
    }
    if wanted & timer::KEEPALIVE != 0 && offset!(keepalive_timer) != ABSENT {
        KEEPALIVE_FUNCTION
            .store(read::field::<H::Read, u64>(tp, offset!(keepalive_timer) + offset!(timer_function)));
    }
    if wanted & timer::WRITE != 0 && offset!(write_timer) != ABSENT {
        WRITE_FUNCTION.store(read::field::<H::Read, u64>(tp, offset!(write_timer) + offset!(timer_function)));
    }
}

#[inline(always)]
fn tell_clock(ctx: &Row<FileRow>) {
    let Some(mut entry) = emit::reserve::<ClockRecord>(ctx, Kind::Clock) else { return };
    // SAFETY: the slot is ours until it is submitted, and every field is written below.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    let time_ns = emit::now_ns();
    emit::head(&mut record.head, Kind::Clock, 0, time_ns, 0);
    record.jiffies = emit::jiffies();
    emit::submit(entry);
}
