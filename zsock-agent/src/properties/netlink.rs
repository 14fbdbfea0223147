//! What the kernel says of sockets over netlink.

use crate::source::census::by_diag;
use crate::source::diag;

/// Bytes of `struct nlmsghdr` and of the part of `struct inet_diag_msg` that goes before `struct tcp_info`.
const BEFORE_FACTS: usize = 16 + 72;

/// Any datagram, and any facts of a socket in one that is whole.
///
/// # Panics
/// Where the property does not hold.
pub fn netlink(bytes: &[u8]) {
    diag::read_any(bytes);
    by_diag::read_any(bytes);
    for family in [2, 10] {
        let mut socket = bytes.to_vec();
        socket.resize(socket.len().max(BEFORE_FACTS), 0);
        socket[0] = family;
        let facts = socket.split_off(BEFORE_FACTS - 16);
        // An attribute of the kind INET_DIAG_INFO.
        let length = u16::try_from(facts.len() + 4).unwrap_or(u16::MAX);
        socket.extend(length.to_ne_bytes().into_iter().chain(2_u16.to_ne_bytes()).chain(facts));
        by_diag::read_any(&socket);
    }
}
