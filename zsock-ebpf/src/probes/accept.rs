//! Accepts that fail for want of descriptors or memory, by the best rung that the kernel has: `fexit` or `kretprobe` on
//! `__sys_accept4`, the tracepoints of the two system calls, else the one of every system call.
//!
//! kernel: `int __sys_accept4(int fd, struct sockaddr *, int *, int flags)`; `tp_btf/sys_exit` has `(struct pt_regs *regs, long ret)`;
//! `syscalls/sys_exit_*` shows the number at byte 8 and the result at byte 16. All of it 5.10 to 7.3. An accept by `io_uring` is no
//! system call of its own and passes none of them.
//!
//! No hook is told the listener's address: the descriptor leads to it, through the caller's table of files.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::EbpfContext;
use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
use aya_ebpf::macros::{btf_map, btf_tracepoint, fexit, kretprobe, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, FExitContext, RetProbeContext, TracePointContext};
use zsock_common::offsets::ABSENT;
use zsock_common::wire::{AcceptFailures, Kind, Process, accept_key, flag};

use crate::emit::{self, Event};
use crate::probes::timer;
use crate::read::{self, Direct, Probed};
use crate::rodata::offset;
use crate::{filter, maps, process};

/// Records a second for one process and errno; what fails beyond them is counted in [`ACCEPT_FAILURES`]. A server that spins on a
/// full table of descriptors fails a million times a second.
const RECORDS_PER_SECOND: u64 = 16;
const SECOND_NS: u64 = 1_000_000_000;

const LISTEN: u8 = 10;
/// `__USER_CS`: x86 runs the caller's 64-bit code. The registers of a 32-bit caller mean something else.
const CODE_64_BIT: u16 = 0x33;

/// Every failure is counted here, by [`accept_key`].
#[btf_map]
static ACCEPT_FAILURES: LruHashMap<u64, AcceptFailures, 4096> = LruHashMap::new();

#[fexit(function = "__sys_accept4")]
fn accept_fexit(ctx: FExitContext) -> u32 {
    // The result comes after the four arguments.
    let (fd, returned): (u32, i32) = (ctx.arg(0), ctx.arg(4));
    if let Some(errno) = shortage(returned.into()) {
        failed(&Context(ctx.as_ptr()), errno, fd);
    }
    0
}

#[kretprobe(function = "__sys_accept4")]
fn accept_kretprobe(ctx: RetProbeContext) -> u32 {
    let returned: i32 = ctx.ret();
    if let Some(errno) = shortage(returned.into()) {
        failed_in_call(&Context(ctx.as_ptr()), errno, callers_registers());
    }
    0
}

#[tracepoint]
fn accept_tracepoint(ctx: TracePointContext) -> u32 {
    // SAFETY: `struct syscall_trace_exit` has its `long ret` there.
    let returned: i64 = unsafe { ctx.as_ptr().byte_add(16).cast::<i64>().read_volatile() };
    if let Some(errno) = shortage(returned) {
        failed_in_call(&Context(ctx.as_ptr()), errno, callers_registers());
    }
    0
}

#[btf_tracepoint(function = "sys_exit")]
fn sys_exit(ctx: BtfTracePointContext) -> u32 {
    let (registers, returned): (*const c_void, i64) = (ctx.arg(0), ctx.arg(1));
    if let Some(errno) = shortage(returned)
        && is_accept(registers)
    {
        failed_in_call(&Context(ctx.as_ptr()), errno, registers);
    }
    0
}

/// The context of whichever program it is, so that [`failed`] exists once.
struct Context(*mut c_void);

impl EbpfContext for Context {
    fn as_ptr(&self) -> *mut c_void {
        self.0
    }
}

/// The errno of a result that tells of a shortage: ENOMEM, ENFILE, EMFILE or ENOBUFS.
#[inline(always)]
fn shortage(returned: i64) -> Option<u32> {
    match returned {
        -12 => Some(12),
        -23 => Some(23),
        -24 => Some(24),
        -105 => Some(105),
        _ => None,
    }
}

/// The registers with which the running task entered the kernel.
#[inline(always)]
fn callers_registers() -> *const c_void {
    // SAFETY: the helper takes a task that the verifier knows.
    unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as *const c_void }
}

/// Whether the system call is accept or accept4.
#[inline(always)]
fn is_accept(registers: *const c_void) -> bool {
    if offset!(regs_number_x86) == ABSENT {
        let number: u32 = read::field::<Direct, u32>(registers, offset!(regs_number_arm));
        return number == 202 || number == 242;
    }
    let number: u32 = read::field::<Direct, u32>(registers, offset!(regs_number_x86));
    number == 43 || number == 288
}

/// The same as [`failed`] where the descriptor is the first argument of the caller's system call.
#[inline(always)]
fn failed_in_call(ctx: &Context, errno: u32, registers: *const c_void) {
    let segment = offset!(regs_code_segment);
    if offset!(regs_first_argument) == ABSENT {
        return;
    }
    if segment != ABSENT && read::field::<Probed, u16>(registers, segment) != CODE_64_BIT {
        return;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the kernel takes the low half for the descriptor")]
    let fd = read::field::<Probed, u64>(registers, offset!(regs_first_argument)) as u32;
    failed(ctx, errno, fd);
}

/// Counts the failure, and tells of it unless enough were told in this second.
#[inline(never)]
fn failed(ctx: &Context, errno: u32, fd: u32) {
    let listener = listener(fd);
    if listener.is_null() || !filter::wants::<Probed>(listener) {
        return;
    }
    let cookie = read::cookie_behind(listener);
    if cookie == 0 {
        emit::unnamed(ctx);
        return;
    }
    let mut caller = Process::NONE;
    process::write_current(&mut caller);
    let mut event = Event::now(Kind::AcceptFailed, cookie);
    let Some(total) = count(accept_key(caller.tgid, errno), event.time_ns) else { return };
    timer::suspect(listener, cookie, 0, false);
    event.detail = errno;
    event.detail2 = total;
    event.flags = flag::PAST_ELSEWHERE;
    event.actor = Some(&caller);
    emit::trouble::<Probed>(ctx, listener, &event);
}

/// Counts a failure; the low half of the total where it should be told.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the agent forms differences of the low half")]
fn count(key: u64, time_ns: u64) -> Option<u32> {
    if ACCEPT_FAILURES.get_ptr(key).is_none() {
        // Where another CPU was first, its count stays.
        let _ = ACCEPT_FAILURES.insert(key, AcceptFailures { total: 0, second_ns: time_ns, told: 0 }, 1);
    }
    // SAFETY: integers; only the total must be exact, and it is added to in one step.
    let failures = unsafe { &mut *ACCEPT_FAILURES.get_ptr_mut(key)? };
    maps::add(&raw mut failures.total, 1);
    let total = failures.total;
    if time_ns.wrapping_sub(failures.second_ns) >= SECOND_NS {
        failures.second_ns = time_ns;
        failures.told = 0;
    }
    if failures.told >= RECORDS_PER_SECOND {
        return None;
    }
    failures.told += 1;
    Some(total as u32)
}

/// The TCP listener behind descriptor `fd` of the running task; null where there is none.
#[inline(always)]
fn listener(fd: u32) -> *const c_void {
    let files = read::pointer::<Probed>(process::current(), offset!(task_files));
    let table = read::pointer::<Probed>(files, offset!(files_table));
    if fd >= read::field::<Probed, u32>(table, offset!(fdtable_size)) {
        return ptr::null();
    }
    let files = read::pointer::<Probed>(table, offset!(fdtable_files));
    let file = read::pointer::<Probed>(files.wrapping_byte_add(fd as usize * size_of::<u64>()), 0);
    let sk = read::socket_of_file::<Probed>(file);
    let is_listener = read::field::<Probed, u16>(sk, offset!(sk_protocol)) == read::IPPROTO_TCP
        && read::field::<Probed, u8>(sk, offset!(skc_state)) == LISTEN;
    if is_listener { sk } else { ptr::null() }
}
