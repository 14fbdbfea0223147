//! Requests to the kernel that do nothing but show whether it would do them.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvmsg, sendmsg, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

/// Of `linux/sock_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;

/// The length of `struct nlmsghdr` and of `struct inet_diag_req_v2` behind it.
const REQUEST_BYTES: usize = 16 + 56;

/// The kernel answers at once, or something between it and zsock keeps the answer.
const ANSWER_WAIT: TimeVal = TimeVal::new(2, 0);

/// Asks for all TCP sockets in no state at all: an end without any comes back.
pub(super) fn for_no_socket() -> Result<(), Errno> {
    ask(SOCK_DIAG_BY_FAMILY, libc::NLM_F_REQUEST | libc::NLM_F_DUMP)
}

/// Asks to destroy the socket with port 0 at both ends and the cookie 0, of which there is none: a kernel that can do it finds no such
/// socket, one that cannot says so before it looks.
pub(super) fn to_destroy_no_socket() -> Result<(), Errno> {
    match ask(SOCK_DESTROY, libc::NLM_F_REQUEST | libc::NLM_F_ACK) {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

fn ask(kind: u16, flags: libc::c_int) -> Result<(), Errno> {
    let netlink =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    setsockopt(&netlink, sockopt::ReceiveTimeout, &ANSWER_WAIT)?;
    let request = request(kind, flags);
    let kernel = NetlinkAddr::new(0, 0);
    sendmsg(netlink.as_raw_fd(), &[IoSlice::new(&request)], &[], MsgFlags::empty(), Some(&kernel))?;
    let mut answer = [0; 4096];
    let mut slices = [IoSliceMut::new(&mut answer)];
    let received = recvmsg::<NetlinkAddr>(netlink.as_raw_fd(), &mut slices, None, MsgFlags::empty())?.bytes;
    outcome(answer.get(..received).unwrap_or_default())
}

/// A request about TCP over IPv4 with every other field zero: states, ports, addresses and cookie.
fn request(kind: u16, flags: libc::c_int) -> [u8; REQUEST_BYTES] {
    let mut request = [0; REQUEST_BYTES];
    let length = u32::try_from(REQUEST_BYTES).unwrap_or(u32::MAX);
    request[..4].copy_from_slice(&length.to_ne_bytes());
    request[4..6].copy_from_slice(&kind.to_ne_bytes());
    request[6..8].copy_from_slice(&u16::try_from(flags).unwrap_or(0).to_ne_bytes());
    let [family, protocol] =
        [libc::AF_INET, libc::IPPROTO_TCP].map(|number| u8::try_from(number).unwrap_or(0));
    request[16..18].copy_from_slice(&[family, protocol]);
    request
}

/// What an answer says: the number of an error behind its header, or the end of a list.
fn outcome(answer: &[u8]) -> Result<(), Errno> {
    let word = |at: usize| Some(i32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    let kind = answer.get(4..6).map(|kind| i32::from(u16::from_ne_bytes([kind[0], kind[1]])));
    match (kind, word(16)) {
        (Some(libc::NLMSG_ERROR | libc::NLMSG_DONE), Some(error)) if error < 0 => {
            Err(Errno::from_raw(error.checked_neg().unwrap_or(libc::EPROTO)))
        }
        (Some(libc::NLMSG_ERROR | libc::NLMSG_DONE), Some(0)) => Ok(()),
        _ => Err(Errno::EPROTO),
    }
}

/// Asks for a descriptor of zsock's own, which whoever may ask at all may have.
pub(super) fn for_own_descriptor() -> Result<(), Errno> {
    let own = |result: libc::c_long| {
        let fd = Errno::result(result).and_then(|fd| libc::c_int::try_from(fd).map_err(|_| Errno::EBADF))?;
        // SAFETY: the kernel has just made it for this process, and nobody else has it.
        Ok::<_, Errno>(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    // SAFETY: the call takes numbers and makes a descriptor.
    let process = own(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) })?;
    // SAFETY: as above.
    own(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), process.as_raw_fd(), 0) })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: libc::c_int, error: i32) -> Vec<u8> {
        let mut answer = vec![0; 20];
        answer[4..6].copy_from_slice(&u16::try_from(kind).unwrap().to_ne_bytes());
        answer[16..].copy_from_slice(&error.to_ne_bytes());
        answer
    }

    #[test]
    fn an_answer_is_an_error_an_end_or_not_understood() {
        assert_eq!(outcome(&answer(libc::NLMSG_ERROR, -libc::ENOENT)), Err(Errno::ENOENT));
        assert_eq!(outcome(&answer(libc::NLMSG_DONE, -libc::ENOENT)), Err(Errno::ENOENT));
        assert_eq!(outcome(&answer(libc::NLMSG_ERROR, 0)), Ok(()));
        assert_eq!(outcome(&answer(libc::NLMSG_DONE, 0)), Ok(()));
        let strange = [
            answer(77, 0),
            answer(libc::NLMSG_ERROR, 5),
            Vec::new(),
            vec![0; 7],
            answer(libc::NLMSG_DONE, 0)[..18].to_vec(),
        ];
        for strange in strange {
            assert_eq!(outcome(&strange), Err(Errno::EPROTO), "{strange:?}");
        }
        assert!(outcome(&answer(libc::NLMSG_ERROR, i32::MIN)).is_err());
    }

    #[test]
    fn a_request_names_tcp_and_no_socket() {
        let request = request(SOCK_DESTROY, libc::NLM_F_REQUEST);
        assert_eq!(u32::from_ne_bytes(request[..4].try_into().unwrap()), 72);
        assert_eq!(&request[16..18], &[2, 6]);
        assert!(request[18..].iter().all(|byte| *byte == 0));
    }

    /// Not even root is needed.
    #[test]
    fn the_kernel_answers() {
        assert_eq!(for_no_socket(), Ok(()));
        assert_eq!(for_own_descriptor(), Ok(()));
    }
}
