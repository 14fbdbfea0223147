//! Reading kernel memory: the only place that dereferences it.
//!
//! A pointer whose type the verifier knows is read directly, one instruction a field, and a wrong offset is refused when
//! the program is loaded. Where no typed pointer exists (a socket behind its timer) `bpf_probe_read_kernel` reads at the
//! same offsets.

use core::ffi::c_void;
use core::mem::{self, MaybeUninit};
use core::ptr;

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_probe_read_kernel, bpf_skc_to_tcp_sock};
use zsock_common::offsets::{ABSENT, bit_field};
use zsock_common::wire::{Endpoints, Remote, TcpFacts};

use crate::by_address;
use crate::rodata::{offset, setting};

const AF_INET6: u16 = 10;
/// A state, and the form in which sockets in it are kept.
pub(crate) const TIME_WAIT: u8 = 6;
/// `sk_protocol` of TCP.
pub(crate) const IPPROTO_TCP: u16 = 6;
const SOCK_STREAM: u16 = 1;
/// `S_IFMT` and `S_IFSOCK` of `i_mode`.
const FILE_TYPE: u16 = 0o170_000;
const SOCKET: u16 = 0o140_000;
const IPV4_MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// A `struct sock *` of a tracepoint or iterator, whose type the verifier knows.
#[derive(Clone, Copy)]
pub(crate) struct Sock(*mut c_void);

/// A way to load from kernel memory.
pub(crate) trait Read {
    /// The `T` at byte `offset` of the structure at `base`.
    ///
    /// # Safety
    /// For [`Direct`] the verifier must know the type of `base`. Any address will do for [`Probed`].
    unsafe fn load<T: Copy>(base: *const c_void, offset: u32) -> T;
}

/// Plain loads, checked by the verifier.
pub(crate) struct Direct;

/// Loads through `bpf_probe_read_kernel`; an address that cannot be read gives zeros.
pub(crate) struct Probed;

impl Read for Direct {
    #[inline(always)]
    unsafe fn load<T: Copy>(base: *const c_void, offset: u32) -> T {
        // SAFETY: the verifier checks this very access against the kernel's type of `base`.
        unsafe { base.byte_add(offset as usize).cast::<T>().read_volatile() }
    }
}

impl Read for Probed {
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a field has a few bytes")]
    unsafe fn load<T: Copy>(base: *const c_void, offset: u32) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        let from = (base as usize).wrapping_add(offset as usize) as *const c_void;
        // SAFETY: writes `size_of::<T>()` bytes into `value`, zeros where `from` cannot be read; `T` is an integer.
        unsafe {
            bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from);
            value.assume_init()
        }
    }
}

/// More than the largest [`bit_field`](zsock_common::offsets::bit_field). To compare with [`ABSENT`] takes two instructions.
const BEYOND: u32 = 1 << 28;
const _: () = assert!(bit_field(0xffff, 0xff, 8) < BEYOND);

/// Whether this kernel lacks the field whose offset this is.
#[inline(always)]
fn is_absent(offset: u32) -> bool {
    offset > BEYOND
}

/// The field at `offset`, its default where this kernel has none.
#[inline(always)]
pub(crate) fn field<R: Read, T: Copy + Default>(base: *const c_void, offset: u32) -> T {
    if is_absent(offset) || base.is_null() {
        return T::default();
    }
    // SAFETY: `base` comes from a hook's arguments or from a field of pointer type that was loaded from one.
    unsafe { R::load(base, offset) }
}

/// The pointer at `offset`, null where this kernel has none.
#[inline(always)]
pub(crate) fn pointer<R: Read>(base: *const c_void, offset: u32) -> *const c_void {
    if is_absent(offset) || base.is_null() {
        return ptr::null();
    }
    // SAFETY: as in `field`; the verifier knows the type of a pointer that is loaded directly.
    unsafe { R::load(base, offset) }
}

/// The bit field described by `offset`.
#[inline(always)]
pub(crate) fn bits<R: Read>(base: *const c_void, offset: u32) -> u8 {
    let byte: u8 = if is_absent(offset) { 0 } else { field::<R, u8>(base, offset & 0xffff) };
    let (shift, width) = (offset >> 16 & 0xff, offset >> 24);
    if is_absent(offset) || width == 0 { byte } else { (byte >> shift) & (u8::MAX >> (8 - width)) }
}

impl Sock {
    /// The socket of a hook's argument; `None` for null and for what is not a full TCP socket.
    #[inline(always)]
    pub(crate) fn tcp(sk: *mut c_void) -> Option<Self> {
        if sk.is_null() {
            return None;
        }
        let state: u8 = field::<Direct, u8>(sk, offset!(skc_state));
        // TIME_WAIT and NEW_SYN_RECV are smaller than a `struct sock` and end before the next field.
        if state == 6 || state == 12 {
            return None;
        }
        (field::<Direct, u16>(sk, offset!(sk_protocol)) == IPPROTO_TCP).then_some(Self(sk))
    }

    /// The socket of an iterator's row, whose type is the smaller `struct sock_common`.
    #[inline(always)]
    pub(crate) fn of_row(sk_common: *mut c_void) -> Self {
        Self(sk_common)
    }

    /// For helpers.
    #[inline(always)]
    pub(crate) fn as_ptr(self) -> *mut c_void {
        self.0
    }

    /// The socket's cookie, made by the kernel at the first call, or the number that stands for it.
    #[inline(always)]
    pub(crate) fn cookie(self) -> u64 {
        if setting!(by_address) != 0 {
            return by_address::cookie_or_new(self);
        }
        let known = self.known_cookie();
        if known != 0 {
            return known;
        }
        // SAFETY: `self.0` is a socket that the verifier knows.
        unsafe { bpf_get_socket_cookie(self.0) }
    }

    /// The socket's cookie, or the number that stands for it; 0 where it has neither yet, or no more.
    #[inline(always)]
    pub(crate) fn known_cookie(self) -> u64 {
        if setting!(by_address) != 0 {
            return by_address::cookie(self);
        }
        field::<Direct, u64>(self.0, offset!(skc_cookie))
    }

    /// The same socket as a `struct tcp_sock *`; null where it is not one.
    #[inline(always)]
    pub(crate) fn tcp_sock(self) -> *const c_void {
        // SAFETY: `self.0` is a socket that the verifier knows.
        unsafe { bpf_skc_to_tcp_sock(self.0) }.cast_const().cast()
    }
}

/// The cookie of the socket at `sk`, whose type the verifier does not know, or the number that stands for it; 0 where it has none.
#[inline(always)]
pub(crate) fn cookie_behind(sk: *const c_void) -> u64 {
    if setting!(by_address) != 0 {
        return by_address::cookie_behind(sk);
    }
    field::<Probed, u64>(sk, offset!(skc_cookie))
}

/// Whether the socket is of the kind that TCP's are: raw sockets and netlink's may bear the number of TCP as well.
#[inline(always)]
pub(crate) fn is_stream<R: Read>(sk: *const c_void) -> bool {
    offset!(sk_type) == ABSENT || field::<R, u16>(sk, offset!(sk_type)) == SOCK_STREAM
}

/// The socket behind an open file; null for a file that is no socket. The verifier knows no type of it.
#[inline(always)]
pub(crate) fn socket_of_file<R: Read>(file: *const c_void) -> *const c_void {
    let inode = pointer::<R>(file, offset!(file_inode));
    if field::<R, u16>(inode, offset!(inode_mode)) & FILE_TYPE != SOCKET {
        return ptr::null();
    }
    pointer::<Probed>(pointer::<R>(file, offset!(file_private)), offset!(socket_sk))
}

/// Fills in between whom.
#[inline(always)]
pub(crate) fn endpoints<R: Read>(into: &mut Endpoints, sk: *const c_void) {
    let family: u16 = field::<R, u16>(sk, offset!(skc_family));
    into.family = family;
    into.reserved = 0;
    if family == AF_INET6 {
        into.local = bytes(field::<R, [u64; 2]>(sk, offset!(skc_v6_rcv_saddr)));
        into.remote = bytes(field::<R, [u64; 2]>(sk, offset!(skc_v6_daddr)));
    } else {
        into.local = bytes(mapped(field::<R, u32>(sk, offset!(skc_rcv_saddr))));
        into.remote = bytes(mapped(field::<R, u32>(sk, offset!(skc_daddr))));
    }
    let number: u16 = field::<R, u16>(sk, offset!(skc_num));
    // At the change to CLOSE the port has been put back already; the inet_sock still has it.
    into.local_port =
        if number == 0 { u16::from_be(field::<R, u16>(sk, offset!(inet_sport))) } else { number };
    into.remote_port = u16::from_be(field::<R, u16>(sk, offset!(skc_dport)));
    into.netns = netns::<R>(sk);
    into.uid = field::<R, u32>(sk, offset!(sk_uid));
}

/// Where a connection goes. `sk` is a `struct tcp_sock`.
#[inline(always)]
pub(crate) fn remote(sk: *const c_void) -> Remote {
    let is_ipv6 = field::<Direct, u16>(sk, offset!(skc_family)) == AF_INET6;
    let address = if is_ipv6 {
        field::<Direct, [u64; 2]>(sk, offset!(skc_v6_daddr))
    } else {
        mapped(field::<Direct, u32>(sk, offset!(skc_daddr)))
    };
    Remote {
        address: bytes(address),
        port: u32::from(u16::from_be(field::<Direct, u16>(sk, offset!(skc_dport)))),
    }
}

/// The same of a request that is not a full socket yet. The listener is a `struct tcp_sock`.
#[inline(always)]
pub(crate) fn request_endpoints(into: &mut Endpoints, request: *const c_void, listener: *const c_void) {
    common_ends(into, request);
    into.netns = netns::<Direct>(listener);
    into.uid = field::<Direct, u32>(listener, offset!(sk_uid));
}

/// The same of what may be no full socket: all that a `struct sock_common` has. Its user is not there.
#[inline(always)]
pub(crate) fn common_endpoints(into: &mut Endpoints, sk_common: *const c_void) {
    common_ends(into, sk_common);
    into.netns = netns::<Direct>(sk_common);
    into.uid = 0;
}

#[inline(always)]
fn netns<R: Read>(sk: *const c_void) -> u32 {
    field::<R, u32>(pointer::<R>(sk, offset!(skc_net)), offset!(netns_inode))
}

#[inline(always)]
fn common_ends(into: &mut Endpoints, sk_common: *const c_void) {
    let family: u16 = field::<Direct, u16>(sk_common, offset!(skc_family));
    into.family = family;
    into.reserved = 0;
    if family == AF_INET6 {
        into.local = bytes(field::<Direct, [u64; 2]>(sk_common, offset!(skc_v6_rcv_saddr)));
        into.remote = bytes(field::<Direct, [u64; 2]>(sk_common, offset!(skc_v6_daddr)));
    } else {
        into.local = bytes(mapped(field::<Direct, u32>(sk_common, offset!(skc_rcv_saddr))));
        into.remote = bytes(mapped(field::<Direct, u32>(sk_common, offset!(skc_daddr))));
    }
    into.local_port = field::<Direct, u16>(sk_common, offset!(skc_num));
    into.remote_port = u16::from_be(field::<Direct, u16>(sk_common, offset!(skc_dport)));
}

/// The state of what is no full socket, of which the verifier knows a `struct sock_common`. `FIN_WAIT2` without a process is kept in the same
/// small form as `TIME_WAIT`.
#[inline(always)]
pub(crate) fn common_state(sk_common: *const c_void) -> u8 {
    let state = field::<Direct, u8>(sk_common, offset!(skc_state));
    let kept_as =
        if state == TIME_WAIT { field::<Probed, u8>(sk_common, offset!(time_wait_state)) } else { 0 };
    if kept_as == 0 { state } else { kept_as }
}

#[inline(always)]
fn bytes(address: [u64; 2]) -> [u8; 16] {
    // SAFETY: same size, and every bit pattern is a byte.
    unsafe { mem::transmute(address) }
}

#[inline(always)]
fn mapped(address: u32) -> [u64; 2] {
    [0, u64::from(IPV4_MAPPED) | u64::from(address) << 32]
}

/// Fills in how TCP stands. `sk` is a `struct tcp_sock`.
#[inline(always)]
pub(crate) fn tcp_facts<R: Read>(into: &mut TcpFacts, sk: *const c_void) {
    timers::<R>(into, sk);
    sequence::<R>(into, sk);
    socket::<R>(into, sk);
    namespace::<R>(into, pointer::<R>(sk, offset!(skc_net)));
    into.sent_before = 0;
}

#[inline(always)]
fn timers<R: Read>(into: &mut TcpFacts, sk: *const c_void) {
    into.icsk_rto = field::<R, u32>(sk, offset!(icsk_rto));
    into.icsk_rto_max = field::<R, u32>(sk, offset!(icsk_rto_max));
    into.retransmits = field::<R, u8>(sk, offset!(icsk_retransmits));
    into.pending = field::<R, u8>(sk, offset!(icsk_pending));
    into.backoff = field::<R, u8>(sk, offset!(icsk_backoff));
    into.probes_out = field::<R, u8>(sk, offset!(icsk_probes_out));
    into.ca_state = bits::<R>(sk, offset!(icsk_ca_state));
    into.syn_retries = field::<R, u8>(sk, offset!(icsk_syn_retries));
    into.probes_tstamp = field::<R, u32>(sk, offset!(icsk_probes_tstamp));
    into.user_timeout = field::<R, u32>(sk, offset!(icsk_user_timeout));
    into.retrans_stamp = field::<R, u32>(sk, offset!(retrans_stamp));
    into.usec_ts = bits::<R>(sk, offset!(usec_ts));
    into.total_retrans = field::<R, u32>(sk, offset!(total_retrans));
    into.total_rto = u32::from(field::<R, u16>(sk, offset!(total_rto)));
    into.keepalive_time = field::<R, u32>(sk, offset!(keepalive_time));
    into.keepalive_intvl = field::<R, u32>(sk, offset!(keepalive_intvl));
    into.keepalive_probes = field::<R, u8>(sk, offset!(keepalive_probes));
    // Where the kernel keeps a deadline of its own, the timer may fire early and be armed again.
    into.write_timer = if offset!(icsk_timeout) == ABSENT {
        of_timer::<R>(sk, offset!(write_timer), offset!(timer_expires))
    } else {
        field::<R, u32>(sk, offset!(icsk_timeout))
    };
    into.write_timer_flags = of_timer::<R>(sk, offset!(write_timer), offset!(timer_flags));
    into.keepalive_timer = of_timer::<R>(sk, offset!(keepalive_timer), offset!(timer_expires));
    into.keepalive_timer_flags = of_timer::<R>(sk, offset!(keepalive_timer), offset!(timer_flags));
}

#[inline(always)]
fn of_timer<R: Read>(sk: *const c_void, timer: u32, member: u32) -> u32 {
    if timer == ABSENT || member == ABSENT { 0 } else { field::<R, u32>(sk, timer + member) }
}

#[inline(always)]
fn sequence<R: Read>(into: &mut TcpFacts, sk: *const c_void) {
    into.bytes_sent = field::<R, u64>(sk, offset!(bytes_sent));
    into.bytes_retrans = field::<R, u64>(sk, offset!(bytes_retrans));
    into.bytes_received = field::<R, u64>(sk, offset!(bytes_received));
    into.snd_una = field::<R, u32>(sk, offset!(snd_una));
    into.snd_nxt = field::<R, u32>(sk, offset!(snd_nxt));
    into.write_seq = field::<R, u32>(sk, offset!(write_seq));
    into.rcv_nxt = field::<R, u32>(sk, offset!(rcv_nxt));
    into.copied_seq = field::<R, u32>(sk, offset!(copied_seq));
    into.snd_wnd = field::<R, u32>(sk, offset!(snd_wnd));
    into.snd_cwnd = field::<R, u32>(sk, offset!(snd_cwnd));
    into.srtt_us = field::<R, u32>(sk, offset!(srtt_us));
    into.lsndtime = field::<R, u32>(sk, offset!(lsndtime));
    into.rcv_tstamp = field::<R, u32>(sk, offset!(rcv_tstamp));
    into.lrcvtime = field::<R, u32>(sk, offset!(icsk_lrcvtime));
}

#[inline(always)]
fn socket<R: Read>(into: &mut TcpFacts, sk: *const c_void) {
    let socket = pointer::<R>(sk, offset!(sk_socket));
    into.has_socket = u8::from(!socket.is_null());
    into.inode = if offset!(sk_ino) != ABSENT {
        field::<R, u64>(sk, offset!(sk_ino))
    } else if socket.is_null() {
        0
    } else {
        let file = pointer::<R>(socket, offset!(socket_file));
        field::<R, u64>(pointer::<R>(file, offset!(file_inode)), offset!(inode_number))
    };
    into.sk_flags = field::<R, u32>(sk, offset!(skc_flags));
    into.sk_err = field::<R, i32>(sk, offset!(sk_err));
    into.sk_err_soft = field::<R, i32>(sk, offset!(sk_err_soft));
    into.state = field::<R, u8>(sk, offset!(skc_state));
    into.shutdown = field::<R, u8>(sk, offset!(sk_shutdown));
}

#[inline(always)]
fn namespace<R: Read>(into: &mut TcpFacts, net: *const c_void) {
    into.sysctl_keepalive_time = field::<R, u32>(net, offset!(sysctl_keepalive_time));
    into.sysctl_keepalive_intvl = field::<R, u32>(net, offset!(sysctl_keepalive_intvl));
    into.sysctl_keepalive_probes = field::<R, u8>(net, offset!(sysctl_keepalive_probes));
    into.sysctl_retries2 = field::<R, u8>(net, offset!(sysctl_retries2));
    into.sysctl_orphan_retries = field::<R, u8>(net, offset!(sysctl_orphan_retries));
    into.sysctl_syn_retries = field::<R, u8>(net, offset!(sysctl_syn_retries));
    into.sysctl_syn_linear_timeouts = field::<R, u8>(net, offset!(sysctl_syn_linear_timeouts));
}
