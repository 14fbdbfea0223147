//! What `/proc/PID/task/*/syscall` says: the call that a thread is in, and where the descriptors are that the call is about.

use std::collections::BTreeSet;
use std::path::Path;

use nix::libc;

use super::memory;

/// A call about descriptors.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Its name.
    pub(super) name: &'static str,
    /// The descriptors it is about.
    pub(super) descriptors: Descriptors,
}

/// Where the descriptors of a call are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Descriptors {
    /// There is one, the first argument.
    One(u32),
    /// In so many `struct pollfd` from this address on.
    PollFds { address: u64, count: u32 },
    /// In up to three `fd_set`, each at its address or, if there is none, at 0. All are below this number.
    FdSets { addresses: [u64; 3], below: u32 },
    /// Not told.
    Unknown,
}

impl Call {
    /// The call of a line such as `45 0x3 0x7ffe… 0x1000 0x0 0x0 0x0 0x7ffe… 0x7f12…`; `None` for a thread that is in no call
    /// (`running`, `-1 …`) or in one that is not about descriptors.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let number: i64 = fields.next()?.parse().ok()?;
        let (_, name, arguments) = CALLS.iter().find(|(known, ..)| *known == number)?;
        let mut argument = || u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok();
        let descriptors = match arguments {
            Arguments::Descriptor => Descriptors::One(low_half(argument()?)),
            Arguments::PollFds => Descriptors::PollFds { address: argument()?, count: low_half(argument()?) },
            Arguments::FdSets => {
                let below = low_half(argument()?);
                Descriptors::FdSets { addresses: [argument()?, argument()?, argument()?], below }
            }
            Arguments::Former => Descriptors::Unknown,
        };
        Some(Self { name, descriptors })
    }
}

/// More are an event loop's, which waits for whatever comes.
const MAX_WAITED_FOR: u32 = 64;
/// As many as an `fd_set` of the C library has room for.
const MAX_FD_SET: u32 = 1024;

impl Descriptors {
    /// The descriptors, where need be from the memory of the thread whose directory in `/proc` this is. None at all of an event loop;
    /// `None` where they cannot be told.
    pub(super) fn read(&self, thread: &Path) -> Option<BTreeSet<u32>> {
        match *self {
            Self::One(fd) => Some([fd].into()),
            Self::PollFds { count, .. } if count > MAX_WAITED_FOR => Some(BTreeSet::new()),
            Self::PollFds { address, count } => {
                let bytes = memory::read(thread, address, count as usize * size_of::<libc::pollfd>())?;
                Some(in_poll_fds(&bytes).collect())
            }
            Self::FdSets { below, .. } if below > MAX_FD_SET => Some(BTreeSet::new()),
            Self::FdSets { addresses, below } => {
                let mut all = BTreeSet::new();
                for address in addresses.into_iter().filter(|address| *address != 0) {
                    let bytes =
                        memory::read(thread, address, below.div_ceil(u64::BITS) as usize * size_of::<u64>())?;
                    all.extend(in_fd_set(&bytes).filter(|fd| *fd < below));
                }
                Some(if all.len() > MAX_WAITED_FOR as usize { BTreeSet::new() } else { all })
            }
            Self::Unknown => None,
        }
    }
}

/// The descriptors of an array of `struct pollfd`, each a descriptor of 32 bits and two sets of events of 16. The kernel passes over
/// negative ones.
fn in_poll_fds(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let (elements, _) = bytes.as_chunks::<{ size_of::<libc::pollfd>() }>();
    elements.iter().filter_map(|[a, b, c, d, ..]| i32::from_ne_bytes([*a, *b, *c, *d]).try_into().ok())
}

/// The descriptors of an `fd_set`: a bit for each, in words of the width of this architecture's registers.
fn in_fd_set(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let (words, _) = bytes.as_chunks::<{ size_of::<u64>() }>();
    let words = (0..).step_by(64).zip(words.iter().map(|word| u64::from_ne_bytes(*word)));
    words
        .flat_map(|(first, word)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit))
}

/// The kernel takes no more of an argument of 32 bits.
fn low_half(argument: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the high half means nothing")]
    let low = argument as u32;
    low
}

/// What the arguments of a call are.
enum Arguments {
    /// The first is a descriptor.
    Descriptor,
    /// An array of `struct pollfd`, and how many it has.
    PollFds,
    /// A number that is above all descriptors, and three `fd_set`.
    FdSets,
    /// Those of another call, which a signal interrupted and which goes on. `poll` is one of those that do, and nothing tells which it is.
    Former,
}

/// By this architecture's numbers. Younger architectures have neither `poll` nor `select`: their libraries use the other two.
const CALLS: &[(i64, &str, Arguments)] = &[
    (libc::SYS_read, "read", Arguments::Descriptor),
    (libc::SYS_readv, "readv", Arguments::Descriptor),
    (libc::SYS_preadv2, "preadv2", Arguments::Descriptor),
    (libc::SYS_write, "write", Arguments::Descriptor),
    (libc::SYS_writev, "writev", Arguments::Descriptor),
    (libc::SYS_pwritev2, "pwritev2", Arguments::Descriptor),
    (libc::SYS_recvfrom, "recvfrom", Arguments::Descriptor),
    (libc::SYS_recvmsg, "recvmsg", Arguments::Descriptor),
    (libc::SYS_recvmmsg, "recvmmsg", Arguments::Descriptor),
    (libc::SYS_sendto, "sendto", Arguments::Descriptor),
    (libc::SYS_sendmsg, "sendmsg", Arguments::Descriptor),
    (libc::SYS_sendmmsg, "sendmmsg", Arguments::Descriptor),
    (libc::SYS_sendfile, "sendfile", Arguments::Descriptor),
    (libc::SYS_splice, "splice", Arguments::Descriptor),
    (libc::SYS_connect, "connect", Arguments::Descriptor),
    (libc::SYS_accept, "accept", Arguments::Descriptor),
    (libc::SYS_accept4, "accept4", Arguments::Descriptor),
    (libc::SYS_close, "close", Arguments::Descriptor),
    (libc::SYS_shutdown, "shutdown", Arguments::Descriptor),
    (libc::SYS_ioctl, "ioctl", Arguments::Descriptor),
    (libc::SYS_fcntl, "fcntl", Arguments::Descriptor),
    (libc::SYS_getsockopt, "getsockopt", Arguments::Descriptor),
    (libc::SYS_setsockopt, "setsockopt", Arguments::Descriptor),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll", Arguments::PollFds),
    (libc::SYS_ppoll, "ppoll", Arguments::PollFds),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, "select", Arguments::FdSets),
    (libc::SYS_pselect6, "pselect6", Arguments::FdSets),
    (libc::SYS_restart_syscall, "restart_syscall", Arguments::Former),
];

/// Any bytes in the place of a thread's call, and of the memory that it points to.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    let _ = Call::of_line(&String::from_utf8_lossy(bytes));
    assert!(in_poll_fds(bytes).count() <= bytes.len() / 8);
    assert!(in_fd_set(bytes).all(|fd| (fd as usize) < bytes.len() * 8));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A line as the kernel writes it, with these first arguments.
    fn line(number: i64, arguments: &str) -> String {
        format!("{number} {arguments} 0x0 0x7ffe12 0x7f34\n")
    }

    fn call_of(number: i64, arguments: &str) -> Option<(&'static str, Descriptors)> {
        Call::of_line(&line(number, arguments)).map(|call| (call.name, call.descriptors))
    }

    #[test]
    fn a_call_is_known_by_its_number_and_its_descriptors_by_their_place() {
        for (number, arguments, expected) in [
            (libc::SYS_recvfrom, "0x3 0x1000", ("recvfrom", Descriptors::One(3))),
            // Of a number of 32 bits the high half means nothing.
            (libc::SYS_recvfrom, "0xffffffff00000007", ("recvfrom", Descriptors::One(7))),
            (
                libc::SYS_ppoll,
                "0x7ffcb5c2ec68 0xffffffff00000002",
                ("ppoll", Descriptors::PollFds { address: 0x7ffc_b5c2_ec68, count: 2 }),
            ),
            (
                libc::SYS_pselect6,
                "0xffffffff00000400 0x1000 0x0 0x2000 0x3000",
                ("pselect6", Descriptors::FdSets { addresses: [0x1000, 0, 0x2000], below: 1024 }),
            ),
            (libc::SYS_restart_syscall, "0x1000", ("restart_syscall", Descriptors::Unknown)),
        ] {
            assert_eq!(call_of(number, arguments), Some(expected), "{arguments}");
        }
    }

    #[test]
    fn what_is_no_call_about_descriptors_is_none() {
        for line in ["running", "-1 0x7ffe 0x7f34", "", "x 0x3", "99999 0x3 0x0"] {
            assert_eq!(Call::of_line(line), None, "{line}");
        }
        for (number, too_few) in [
            (libc::SYS_recvfrom, ""),
            (libc::SYS_recvfrom, "3"),
            (libc::SYS_ppoll, "0x1000"),
            (libc::SYS_pselect6, "0x1 0x1000 0x2000"),
        ] {
            assert_eq!(Call::of_line(&format!("{number} {too_few}")), None, "{number} {too_few}");
        }
        let event_loop = line(libc::SYS_epoll_pwait, "0x3 0x7ffe 0x10 0xffffffff");
        assert_eq!(Call::of_line(&event_loop), None, "it waits for whatever comes");
    }

    #[test]
    fn no_number_has_two_names() {
        let numbers: BTreeSet<_> = CALLS.iter().map(|(number, ..)| number).collect();
        assert_eq!(numbers.len(), CALLS.len());
    }

    #[test]
    fn poll_passes_over_negative_descriptors() {
        let events = [1, 0, 0, 0];
        let bytes = [3, -1, 70_000, i32::MIN, 3].map(|fd: i32| [fd.to_ne_bytes(), events].concat()).concat();
        assert_eq!(in_poll_fds(&bytes).collect::<Vec<_>>(), [3, 70_000, 3]);
        assert_eq!(in_poll_fds(&bytes[..15]).collect::<Vec<_>>(), [3], "half an element is none");
    }

    #[test]
    fn each_bit_of_an_fd_set_is_a_descriptor() {
        let words = [1 | 1 << 5 | 1 << 63, 0, 1 << 1_u64];
        let bytes = words.map(u64::to_ne_bytes).concat();
        assert_eq!(in_fd_set(&bytes).collect::<Vec<_>>(), [0, 5, 63, 129]);
        assert_eq!(in_fd_set(&[0xff; 128]).collect::<Vec<_>>(), (0..1024).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn any_line_is_a_call_or_none(line in any::<String>(), at in 0..CALLS.len(), arguments: [u64; 4]) {
            let _ = Call::of_line(&line);
            let number = CALLS[at].0;
            let [a, b, c, d] = arguments;
            let call = Call::of_line(&format!("{number} {a:#x} {b:#x} {c:#x} {d:#x} {line}"));
            prop_assert!(call.is_some());
            let _ = Call::of_line(&format!("{number} {a:#x} {line}"));
            let _ = Call::of_line(&format!("{number} {line}"));
        }

        #[test]
        fn any_bytes_are_descriptors_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(in_poll_fds(&bytes).count() <= bytes.len() / 8);
            prop_assert!(in_fd_set(&bytes).all(|fd| (fd as usize) < bytes.len() * 8));
        }
    }
}
