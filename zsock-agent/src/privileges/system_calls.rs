//! System calls that a running zsock has no use for, refused by a filter (seccomp): whoever takes zsock over gets no further.
//!
//! Landlock would be the shorter way to say "write nothing", but a thread under it may not look into any process outside of it: no
//! network namespaces, no descriptors, no blocked threads.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use anyhow::{Context, Result};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

/// What is refused, for a person.
pub const REFUSED: &str = "writing or changing files, sockets, other programs and processes, signals, eBPF programs and maps that are new";

/// Refused whatever their arguments are.
#[rustfmt::skip]
const NEVER: &[libc::c_long] = &[
    // Files: their names, contents and attributes; calls that a filter cannot look into.
    libc::SYS_mkdirat, libc::SYS_mknodat, libc::SYS_renameat2, libc::SYS_linkat, libc::SYS_symlinkat, libc::SYS_unlinkat,
    libc::SYS_truncate, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchmodat2, libc::SYS_fchown, libc::SYS_fchownat,
    libc::SYS_utimensat, libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr, libc::SYS_removexattr,
    libc::SYS_lremovexattr, libc::SYS_fremovexattr, libc::SYS_openat2, libc::SYS_open_by_handle_at, libc::SYS_io_uring_setup,
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_move_mount, libc::SYS_open_tree, libc::SYS_fsopen, libc::SYS_fsconfig,
    libc::SYS_fsmount, libc::SYS_fspick, libc::SYS_mount_setattr, libc::SYS_pivot_root, libc::SYS_chroot, libc::SYS_swapon,
    libc::SYS_swapoff, libc::SYS_acct, libc::SYS_quotactl, libc::SYS_memfd_create,
    // The network. Sockets that are open already can be used.
    libc::SYS_socket, libc::SYS_socketpair, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen,
    // What processes share beside files.
    libc::SYS_mq_open, libc::SYS_mq_unlink, libc::SYS_msgget, libc::SYS_msgsnd, libc::SYS_msgctl, libc::SYS_semget, libc::SYS_semop,
    libc::SYS_semtimedop, libc::SYS_semctl, libc::SYS_shmget, libc::SYS_shmat, libc::SYS_shmctl,
    // Other programs and processes.
    libc::SYS_execve, libc::SYS_execveat, libc::SYS_ptrace, libc::SYS_process_vm_writev, libc::SYS_process_madvise,
    libc::SYS_kill, libc::SYS_tkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo, libc::SYS_pidfd_send_signal,
    libc::SYS_pidfd_getfd, libc::SYS_unshare, libc::SYS_userfaultfd, libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key,
    // The host.
    libc::SYS_perf_event_open, libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_kexec_load,
    libc::SYS_reboot, libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_adjtimex, libc::SYS_clock_adjtime,
    libc::SYS_sethostname, libc::SYS_setdomainname,
];

/// Calls that the C library's lists do not have everywhere: `quotactl_fd`, `memfd_secret`, `setxattrat`, `removexattrat`, `open_tree_attr`,
/// `file_setattr`. Their numbers are the same on every architecture.
const NEVER_OF_LATE: [libc::c_long; 6] = [443, 447, 463, 466, 467, 469];

/// Those that newer architectures no longer have, or under other numbers.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const NEVER_OF_OLD: &[libc::c_long] = &[
    libc::SYS_creat, libc::SYS_mkdir, libc::SYS_mknod, libc::SYS_rename, libc::SYS_renameat, libc::SYS_link, libc::SYS_symlink,
    libc::SYS_unlink, libc::SYS_rmdir, libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime, libc::SYS_utimes,
    libc::SYS_futimesat, libc::SYS_setrlimit, libc::SYS_fork, libc::SYS_vfork, libc::SYS_kexec_file_load, libc::SYS_iopl,
    libc::SYS_ioperm,
];
/// `renameat`, `setrlimit` and `kexec_file_load` where calls are numbered as on every newer architecture.
#[cfg(not(target_arch = "x86_64"))]
const NEVER_OF_OLD: &[libc::c_long] = &[38, 164, 294];

/// Flags of `clone` that lead into a new namespace. A thread may be started, but not there.
const NEW_NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// From here on `x86_64` numbers the calls of its x32 ABI: the same calls again, told from its own by the number alone.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

/// The commands of `bpf(2)` by which a running zsock reads its maps, tells its programs what to look for and opens iterators:
/// `BPF_MAP_{LOOKUP,UPDATE,DELETE}_ELEM`, `BPF_MAP_GET_NEXT_KEY`, `BPF_LINK_CREATE`, `BPF_ITER_CREATE`; and by which it has runs counted for a
/// while: `BPF_ENABLE_STATS`.
const BPF_COMMANDS: [u64; 7] = [1, 2, 3, 4, 28, 33, 32];

/// What a thread takes that records: files to make, to rename, to date and to remove. Landlock says where.
#[rustfmt::skip]
const WRITING: &[libc::c_long] = &[
    libc::SYS_mkdirat, libc::SYS_unlinkat, libc::SYS_renameat2, libc::SYS_utimensat,
    #[cfg(target_arch = "x86_64")] libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")] libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")] libc::SYS_rename,
    #[cfg(target_arch = "x86_64")] libc::SYS_renameat,
    #[cfg(not(target_arch = "x86_64"))] 38, // `renameat`
];

/// Refuses, in this thread and those that it starts, what a running zsock has no use for.
///
/// # Errors
/// On a kernel without seccomp filters, and on processors for which none can be written.
pub fn refuse() -> Result<()> {
    seccompiler::apply_filter(&filter(reading_only()?)?).context("install a filter of system calls")
}

/// The same, but for what it takes to write files.
///
/// # Errors
/// As [`refuse`].
pub fn refuse_but_writing() -> Result<()> {
    let mut rules = always();
    for call in WRITING {
        rules.remove(call);
    }
    seccompiler::apply_filter(&filter(rules)?).context("install a filter of system calls")
}

/// The calls that are refused whatever their arguments are.
fn always() -> BTreeMap<i64, Vec<SeccompRule>> {
    NEVER.iter().chain(NEVER_OF_OLD).chain(&NEVER_OF_LATE).map(|call| (*call, Vec::new())).collect()
}

/// With those that open files to write to them.
fn reading_only() -> Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut rules = always();
    rules.insert(libc::SYS_openat, opens_to_write(2)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, opens_to_write(1)?);
    Ok(rules)
}

/// The filter with these rules and those for every thread, in the kernel's language.
fn filter(mut rules: BTreeMap<i64, Vec<SeccompRule>>) -> Result<BpfProgram> {
    let no_command = BPF_COMMANDS.iter().map(|command| condition(0, SeccompCmpOp::Ne, *command));
    rules.insert(libc::SYS_bpf, vec![all(no_command)?]);
    // The process may end itself (abort), and ask for limits; to set them is another matter.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![all([condition(0, SeccompCmpOp::Ne, own)])?]);
    let sets_limit = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0);
    rules.insert(libc::SYS_prlimit64, vec![all([sets_limit])?]);
    // No namespace but a network's is entered.
    let network = u64::from(libc::CLONE_NEWNET.cast_unsigned());
    rules.insert(libc::SYS_setns, vec![all([condition(1, SeccompCmpOp::Ne, network)])?]);
    rules.insert(libc::SYS_clone, starts_more_than_a_thread()?);
    // Nobody else is sent a signal when a file is ready.
    let owners = [libc::F_SETOWN, F_SETOWN_EX].map(|command| u64::from(command.cast_unsigned()));
    let sets_owner = owners.map(|command| all([condition(1, SeccompCmpOp::Eq, command)]));
    rules.insert(libc::SYS_fcntl, sets_owner.into_iter().collect::<Result<_>>()?);
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, ARCH.try_into()?)?;
    let filter: BpfProgram = filter.try_into()?;
    Ok(first_answers().into_iter().chain(filter).collect())
}

/// `F_SETOWN_EX`, which the C library's list does not have.
const F_SETOWN_EX: libc::c_int = 15;

/// The answers that come before the rules. `clone3` keeps what it is asked for where no filter can look: told that the kernel does not have
/// it, the C library starts its threads by `clone`. The calls of x32 are other ones to every rule, and zsock has no use for any.
#[expect(clippy::cast_possible_truncation, reason = "codes have 16 bits, and the numbers of calls are small")]
fn first_answers() -> Vec<sock_filter> {
    const LOAD_NUMBER: sock_filter =
        sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: 0 };
    let answer_if = |comparison: u32, number: u32, errno: i32| {
        let code = (libc::BPF_JMP | comparison | libc::BPF_K) as u16;
        let errno = libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
        [
            sock_filter { code, jt: 0, jf: 1, k: number },
            sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: errno },
        ]
    };
    let mut program = vec![LOAD_NUMBER];
    program.extend(answer_if(libc::BPF_JEQ, libc::SYS_clone3 as u32, libc::ENOSYS));
    #[cfg(target_arch = "x86_64")]
    program.extend(answer_if(libc::BPF_JGE, X32, libc::EPERM));
    program
}

/// Rules for flags of `clone` that start a process, or a thread in a namespace of its own.
fn starts_more_than_a_thread() -> Result<Vec<SeccompRule>> {
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    let namespaces = NEW_NAMESPACES.map(|flag| u64::from(flag.cast_unsigned())).map(|flag| (flag, flag));
    [(thread, 0)]
        .into_iter()
        .chain(namespaces)
        .map(|(mask, value)| all([condition(0, SeccompCmpOp::MaskedEq(mask), value)]))
        .collect()
}

/// Rules for flags of `open` that let more be done than read, in the argument of this number.
fn opens_to_write(argument: u8) -> Result<Vec<SeccompRule>> {
    let [access, write, read_write] =
        [libc::O_ACCMODE, libc::O_WRONLY, libc::O_RDWR].map(|flag| u64::from(flag.cast_unsigned()));
    let [create, truncate] = [libc::O_CREAT, libc::O_TRUNC].map(|flag| u64::from(flag.cast_unsigned()));
    // The third access mode, both bits, lets `ioctl` do things.
    [(access, write), (access, read_write), (access, access), (create, create), (truncate, truncate)]
        .map(|(mask, value)| all([condition(argument, SeccompCmpOp::MaskedEq(mask), value)]))
        .into_iter()
        .collect()
}

fn condition(
    argument: u8,
    is: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value)
}

/// A rule for calls to which all of these conditions apply.
fn all(
    conditions: impl IntoIterator<Item = Result<SeccompCondition, seccompiler::BackendError>>,
) -> Result<SeccompRule> {
    let conditions = conditions.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(SeccompRule::new(conditions)?)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::io;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::process::Command;
    use std::thread;

    use nix::errno::Errno;
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    use super::*;

    /// On a thread of its own, which alone is confined: why each of these was not done.
    fn refusals<const N: usize>(deeds: [fn() -> io::Result<()>; N]) -> [Option<i32>; N] {
        let confined = || {
            seccompiler::apply_filter(&filter(reading_only().unwrap()).unwrap()).unwrap();
            deeds.map(|deed| deed().err().and_then(|error| error.raw_os_error()))
        };
        thread::scope(|scope| scope.spawn(confined).join()).unwrap()
    }

    fn path() -> std::path::PathBuf {
        std::env::temp_dir().join(format!("zsock-refused-{}", std::process::id()))
    }

    #[test]
    fn nothing_is_written_changed_or_started() {
        fs::write(path(), "kept").unwrap();
        let refused = refusals([
            || File::create(path()).map(drop),
            || OpenOptions::new().append(true).open(path()).map(drop),
            || OpenOptions::new().read(true).write(true).open(path()).map(drop),
            || fs::remove_file(path()),
            || fs::rename(path(), path().with_extension("new")),
            || fs::hard_link(path(), path().with_extension("new")),
            || fs::create_dir(path().with_extension("new")),
            || Command::new("/bin/true").status().map(drop),
            || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop),
            || TcpStream::connect((Ipv4Addr::LOCALHOST, 9)).map(drop),
            || Ok(unshare(CloneFlags::CLONE_NEWNS)?),
            || {
                let (soft, hard) = getrlimit(Resource::RLIMIT_CORE)?;
                Ok(setrlimit(Resource::RLIMIT_CORE, soft, hard)?)
            },
        ]);
        assert_eq!(fs::read_to_string(path()).unwrap(), "kept");
        fs::remove_file(path()).unwrap();
        assert_eq!(refused, [Some(libc::EPERM); 12]);
    }

    /// A system call by its number, none of whose arguments the kernel could do anything with.
    fn call(number: libc::c_long, first: libc::c_long, second: libc::c_long) -> io::Result<()> {
        // SAFETY: no pointer leads anywhere, so that the kernel refuses the call if the filter does not.
        let done = unsafe { libc::syscall(number, first, second, 0, 0, 0, 0) };
        if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    #[test]
    fn no_process_namespace_socket_or_shared_thing_is_made() {
        // Flags that the kernel takes together for no thread and no process: an unconfined caller gets EINVAL.
        const SIGNAL_HANDLERS_ALONE: libc::c_int = libc::CLONE_SIGHAND;
        const THREAD_ALONE: libc::c_int = libc::CLONE_THREAD;
        let refused = refusals([
            || call(libc::SYS_clone, SIGNAL_HANDLERS_ALONE.into(), 0),
            || call(libc::SYS_clone, (THREAD_ALONE | libc::CLONE_NEWNS).into(), 0),
            || call(libc::SYS_clone, (THREAD_ALONE | libc::CLONE_NEWUSER).into(), 0),
            || call(libc::SYS_socketpair, 0, 0),
            || call(libc::SYS_mq_open, 0, 0),
            || call(libc::SYS_mq_unlink, 0, 0),
            || call(libc::SYS_shmget, 0, -1),
            || call(libc::SYS_memfd_create, 0, 0),
            || call(443, -1, 0),
            || call(libc::SYS_fcntl, 0, F_SETOWN_EX.into()),
        ]);
        assert_eq!(refused, [Some(libc::EPERM); 10]);
        assert_eq!(refusals([|| call(libc::SYS_clone3, 0, 0)]), [Some(libc::ENOSYS)]);
        assert_eq!(refusals([|| call(libc::SYS_clone, THREAD_ALONE.into(), 0)]), [Some(libc::EINVAL)]);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn no_call_has_a_second_number() {
        // A kernel without x32 says ENOSYS to those that the filter lets through.
        let refused = refusals([
            || call(libc::c_long::from(X32) | libc::SYS_socket, -1, 0),
            || call(libc::c_long::from(X32) | libc::SYS_getpid, 0, 0),
            || call(libc::SYS_setrlimit, -1, 0),
            || call(libc::SYS_getpid, 0, 0),
        ]);
        let never = Some(libc::EPERM);
        assert_eq!(refused, [never, never, never, None]);
    }

    #[test]
    fn everything_can_be_read_and_threads_can_be_started() {
        let refused = refusals([
            || File::open("/proc/self/stat").map(drop),
            || fs::read_dir("/proc").map(drop),
            || fs::read_link("/proc/self/ns/net").map(drop),
            || Ok(getrlimit(Resource::RLIMIT_NOFILE).map(|_| ())?),
            || thread::Builder::new().spawn(|| ())?.join().map_err(|_| io::Error::other("panicked")),
        ]);
        assert_eq!(refused, [None; 5]);
    }

    #[test]
    fn no_bpf_program_or_map_can_be_made_and_maps_can_be_read() {
        /// `BPF_MAP_CREATE`, `BPF_MAP_LOOKUP_ELEM`, `BPF_PROG_LOAD`, `BPF_OBJ_PIN`.
        const COMMANDS: [libc::c_long; 4] = [0, 1, 5, 6];
        let confined = || {
            seccompiler::apply_filter(&filter(reading_only().unwrap()).unwrap()).unwrap();
            COMMANDS.map(|command| {
                // SAFETY: the kernel refuses a null pointer of no length, whatever the command.
                let done = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::null::<u8>(), 0) };
                (done, Errno::last())
            })
        };
        let answers = thread::scope(|scope| scope.spawn(confined).join()).unwrap();
        let [creates_map, reads_map, loads, pins] =
            answers.map(|(done, errno)| done == -1 && errno == Errno::EPERM);
        assert_eq!([creates_map, loads, pins], [true; 3], "{answers:?}");
        // The kernel itself may refuse it to anybody but root.
        assert!(!reads_map || !nix::unistd::geteuid().is_root(), "{answers:?}");
    }
}
