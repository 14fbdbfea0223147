//! Who a task is.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_task, bpf_get_current_task_btf,
};
use zsock_common::offsets::ABSENT;
use zsock_common::wire::Process;

use crate::read::{self, Direct, Probed, Read};
use crate::rodata::{offset, setting};
use crate::words;

/// `PF_KTHREAD`: a kernel thread, such as the one that closes files late; nobody's process.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// Writes the process of the running task over [`Process::NONE`], which stays where it is one of the kernel's own threads.
#[inline(always)]
pub(crate) fn write_current(into: &mut Process) {
    if setting!(by_address) == 0 {
        write_with::<Direct>(into, current(), current_cgroup);
    } else {
        write_with::<Probed>(into, current(), current_cgroup);
    }
}

/// The running task. The verifier knows it for one unless sockets are known by address.
#[inline(always)]
pub(crate) fn current() -> *const c_void {
    if setting!(by_address) == 0 {
        // SAFETY: the helper takes nothing and can always be called.
        unsafe { bpf_get_current_task_btf() }.cast_const().cast()
    } else {
        // SAFETY: as above.
        unsafe { bpf_get_current_task() as *const c_void }
    }
}

/// The control group of the running task. Newer verifiers look through all of the kernel's types for each pointer of a task's that is followed.
#[inline(always)]
fn current_cgroup() -> u64 {
    // Without control groups the kernel has no such helper, and tasks no such field.
    if offset!(task_cgroups) == ABSENT {
        return 0;
    }
    // SAFETY: the helper takes nothing and can always be called.
    unsafe { bpf_get_current_cgroup_id() }
}

/// Writes the process of `task` over [`Process::NONE`].
#[inline(always)]
pub(crate) fn write<R: Read>(into: &mut Process, task: *const c_void) {
    write_with::<R>(into, task, || {
        let css = read::pointer::<R>(task, offset!(task_cgroups));
        let cgroup = read::pointer::<R>(css, offset!(css_set_cgroup));
        let node = read::pointer::<R>(cgroup, offset!(cgroup_node));
        read::field::<R, u64>(node, offset!(kernfs_id))
    });
}

#[inline(always)]
fn write_with<R: Read>(into: &mut Process, task: *const c_void, cgroup: impl FnOnce() -> u64) {
    if read::field::<R, u32>(task, offset!(task_flags)) & KERNEL_THREAD != 0 {
        return;
    }
    let leader = read::pointer::<R>(task, offset!(task_group_leader));
    let start_ns = read::field::<R, u64>(leader, offset!(task_start_boottime));
    let tgid = read::field::<R, u32>(task, offset!(task_tgid));
    let comm: [u64; 2] = read::field::<R, [u64; 2]>(leader, offset!(task_comm));
    words::write(into, [tgid.into(), start_ns, cgroup(), comm[0], comm[1]]);
}
