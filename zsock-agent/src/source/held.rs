//! A socket that another process holds, through a copy of its descriptor.
//!
//! Invariant: nothing is read or set before the kernel's cookie has shown the copy to be that very socket.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use nix::libc;
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::process::{ForeignRawFd, Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use thiserror::Error;

use crate::keepalive::Setting;
use crate::record::{KeepaliveSettings, SocketId, Standing};
use crate::source::census::Holder;
use crate::time::milliseconds;

/// A copy of another process's descriptor of a socket.
#[derive(Debug)]
pub struct HeldSocket(OwnedFd);

/// Why a process's socket is out of reach.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OutOfReach {
    /// There is no such process any more.
    #[error("process {0} has ended")]
    Ended(u32),
    /// Its descriptor leads to no socket, or to another.
    #[error("descriptor {fd} of process {pid} leads to it no more")]
    LetGo {
        /// Whose.
        pid: u32,
        /// Which.
        fd: u32,
    },
    /// Whether it is the same process cannot be told.
    #[error(
        "whether process {0} is still the same cannot be told, for /proc does not show it: run zsock in the host's PID namespace, as root"
    )]
    Unknown(u32),
    /// The kernel refused.
    #[error("{step} of process {pid}: {errno}{}", advice(*errno))]
    Refused {
        /// What was tried.
        step: &'static str,
        /// Of whom.
        pid: u32,
        /// What the kernel said.
        errno: Errno,
    },
}

impl OutOfReach {
    /// Whether there is nothing left to be reached.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::LetGo { .. })
    }
}

/// What to do about an error, as the end of a sentence.
fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM | Errno::ACCESS => {
            "; run zsock as root, or with CAP_SYS_PTRACE for the processes of other users"
        }
        Errno::NOSYS => "; it takes Linux 5.6 or later",
        Errno::INVAL => "; it takes Linux 6.9 or later to reach what a thread has open for itself alone",
        Errno::MFILE | Errno::NFILE => "; allow zsock more open files (`ulimit -n`)",
        _ => "",
    }
}

/// `PIDFD_THREAD`: of a thread that leads no process, since Linux 6.9.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::PIDFD_THREAD);

impl HeldSocket {
    /// The socket with this cookie, through the descriptor by which it was found to be held.
    ///
    /// # Errors
    /// When it is not to be had, or is another by now.
    pub fn open(holder: &Holder, id: SocketId) -> Result<Self, OutOfReach> {
        let pid = holder.process.pid;
        let refused = |step| move |errno| OutOfReach::Refused { step, pid, errno };
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(OutOfReach::Ended(pid))?;
        let process = pidfd_open(number, PidfdFlags::empty()).map_err(|errno| match errno {
            Errno::SRCH => OutOfReach::Ended(pid),
            errno => refused("open")(errno),
        })?;
        // The process that was found holding the socket runs still, so its id was nobody else's at the moment it was opened by.
        match holder.process.has_exited() {
            Some(false) => {}
            Some(true) => return Err(OutOfReach::Ended(pid)),
            None => return Err(OutOfReach::Unknown(pid)),
        }
        match Self::copy(process, holder, id) {
            // Of a process whose first thread has ended the kernel says that it has.
            Err(error) if error.is_gone() => Self::of_a_thread(holder, id).unwrap_or(Err(error)),
            copied => copied,
        }
    }

    /// The socket with this cookie, through the holder's descriptor in a process or thread.
    fn copy(of: impl AsFd, holder: &Holder, id: SocketId) -> Result<Self, OutOfReach> {
        let (pid, fd) = (holder.process.pid, holder.fd);
        let refused = |step| move |errno| OutOfReach::Refused { step, pid, errno };
        let number = ForeignRawFd::try_from(fd).map_err(|_| OutOfReach::LetGo { pid, fd })?;
        let copy = pidfd_getfd(of, number, PidfdGetfdFlags::empty()).map_err(|errno| match errno {
            Errno::BADF => OutOfReach::LetGo { pid, fd },
            Errno::SRCH => OutOfReach::Ended(pid),
            errno => refused("copy a descriptor")(errno),
        })?;
        match sockopt::socket_cookie(&copy) {
            Ok(cookie) if cookie == id.0 => Ok(Self(copy)),
            Ok(_) | Err(Errno::NOTSOCK) => Err(OutOfReach::LetGo { pid, fd }),
            Err(errno) => Err(refused("read the cookie of a socket")(errno)),
        }
    }

    /// The same in a thread that has descriptors of its own (`unshare(CLONE_FILES)`), or has survived the first of its process: a look tells
    /// of the process alone. `None` where there is no such thread.
    fn of_a_thread(holder: &Holder, id: SocketId) -> Option<Result<Self, OutOfReach>> {
        let (pid, fd) = (holder.process.pid, holder.fd);
        let file = |thread: u32| fs::read_link(format!("/proc/{pid}/task/{thread}/fd/{fd}")).ok();
        let of_process = file(pid);
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let threads = threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok());
        for thread in threads.filter(|thread| file(*thread).is_some_and(|file| Some(file) != of_process)) {
            let Some(number) = i32::try_from(thread).ok().and_then(Pid::from_raw) else { continue };
            match pidfd_open(number, PIDFD_THREAD).map(|thread| Self::copy(thread, holder, id)) {
                Ok(Err(OutOfReach::LetGo { .. } | OutOfReach::Ended(_))) | Err(Errno::SRCH) => {}
                Ok(copied) => return Some(copied),
                Err(errno) => return Some(Err(OutOfReach::Refused { step: "open a thread", pid, errno })),
            }
        }
        None
    }

    /// Its settings, as `getsockopt` tells them.
    ///
    /// # Errors
    /// When the kernel does not tell one of them.
    pub fn settings(&self) -> rustix::io::Result<Standing> {
        let socket = &self.0;
        let keepalive = KeepaliveSettings {
            enabled: sockopt::socket_keepalive(socket)?,
            idle_ms: milliseconds(sockopt::tcp_keepidle(socket)?),
            interval_ms: milliseconds(sockopt::tcp_keepintvl(socket)?),
            probes: sockopt::tcp_keepcnt(socket)?,
        };
        let user_timeout = sockopt::tcp_user_timeout(socket)?;
        Ok(Standing {
            state: None,
            keepalive: Some(keepalive),
            user_timeout_ms: Some(user_timeout).filter(|ms| *ms > 0).map(u64::from),
        })
    }

    /// Sets one of them.
    ///
    /// # Errors
    /// When the kernel refuses, with the name of the option.
    pub fn set(&self, setting: Setting) -> Result<(), (&'static str, Errno)> {
        let socket = &self.0;
        let (name, set) = match setting {
            Setting::Enabled(enabled) => ("SO_KEEPALIVE", sockopt::set_socket_keepalive(socket, enabled)),
            Setting::Idle(idle) => ("TCP_KEEPIDLE", sockopt::set_tcp_keepidle(socket, idle)),
            Setting::Interval(interval) => ("TCP_KEEPINTVL", sockopt::set_tcp_keepintvl(socket, interval)),
            Setting::Probes(probes) => ("TCP_KEEPCNT", sockopt::set_tcp_keepcnt(socket, probes)),
            Setting::UserTimeout(ms) => ("TCP_USER_TIMEOUT", sockopt::set_tcp_user_timeout(socket, ms)),
        };
        set.map_err(|errno| (name, errno))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::{AsFd, AsRawFd as _};
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::Duration;

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::keepalive::Asked;
    use crate::source::process::{Found, Process};

    /// This process, by a descriptor of its own.
    fn held_by_us(descriptor: impl AsFd) -> Holder {
        let Found::Runs(process) = Process::find(std::process::id()) else { panic!("this process runs") };
        let fd = u32::try_from(descriptor.as_fd().as_raw_fd()).unwrap();
        Holder { process: Arc::new(process), fd }
    }

    fn connection() -> (TcpStream, TcpStream, SocketId) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let id = SocketId(sockopt::socket_cookie(&client).unwrap());
        (client, server, id)
    }

    #[test]
    fn what_is_set_is_what_the_holder_reads() {
        let (client, _server, id) = connection();
        let held = HeldSocket::open(&held_by_us(&client), id).unwrap();
        let before = held.settings().unwrap();
        let asked = Asked {
            enabled: Some(true),
            idle: Some(Duration::from_secs(32_767)),
            interval: Some(Duration::from_secs(1)),
            probes: Some(127),
            user_timeout_ms: Some(2_147_483_647),
        };
        for setting in asked.settings() {
            held.set(setting).unwrap();
        }
        assert_eq!(held.settings().unwrap(), asked.over(&before));
        assert!(sockopt::socket_keepalive(&client).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&client).unwrap(), Duration::from_secs(32_767));
        assert_eq!(sockopt::tcp_keepcnt(&client).unwrap(), 127);
        assert_eq!(sockopt::tcp_user_timeout(&client).unwrap(), 2_147_483_647);
        held.set(Setting::UserTimeout(0)).unwrap();
        assert_eq!(held.settings().unwrap().user_timeout_ms, None);
    }

    #[test]
    fn another_socket_is_never_taken_for_it() {
        let (client, server, id) = connection();
        let pid = std::process::id();
        let refused = |holder: &Holder| HeldSocket::open(holder, id).map(drop);
        for other in [held_by_us(&server), held_by_us(File::open("/dev/null").unwrap())] {
            assert_eq!(refused(&other), Err(OutOfReach::LetGo { pid, fd: other.fd }));
        }
        let later = Process { start_ns: 1, ..(*held_by_us(&client).process).clone() };
        let of_before = Holder { process: Arc::new(later), ..held_by_us(&client) };
        assert_eq!(refused(&of_before), Err(OutOfReach::Ended(pid)));
        let none = Holder { fd: 1 << 20, ..held_by_us(&client) };
        assert_eq!(refused(&none), Err(OutOfReach::LetGo { pid, fd: 1 << 20 }));
    }

    #[test]
    fn what_a_thread_has_open_for_itself_alone_is_reached() {
        let (told, known) = mpsc::channel();
        let (leave, left) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_FILES).unwrap();
            let (client, server, id) = connection();
            told.send((client.as_raw_fd(), id)).unwrap();
            let _ = left.recv();
            drop(server);
            sockopt::tcp_keepcnt(&client).unwrap()
        });
        let (fd, id) = known.recv().unwrap();
        let holder = Holder { fd: u32::try_from(fd).unwrap(), ..held_by_us(std::io::stdin()) };
        match HeldSocket::open(&holder, id) {
            Ok(held) => {
                held.set(Setting::Probes(11)).unwrap();
                drop(leave);
                assert_eq!(thread.join().unwrap(), 11);
            }
            // Before Linux 6.9.
            Err(error) => assert!(!error.is_gone() && error.to_string().contains("Linux 6.9"), "{error}"),
        }
    }
}
