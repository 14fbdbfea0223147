//! Selectors, evaluated before any work. A fact that is not known yet lets the event through: the agent selects again with
//! all the facts.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use zsock_common::settings::{MAX_VALUES, Prefix};
use zsock_common::wire::Endpoints;

use crate::read::{self, Direct, Read, Sock};
use crate::rodata::{SETTINGS, setting};

/// Whether the socket at `sk` may be among those selected by addresses, ports and network namespace.
#[inline(always)]
pub(crate) fn wants<R: Read>(sk: *const c_void) -> bool {
    if !is_set() {
        return true;
    }
    let mut endpoints = MaybeUninit::<Endpoints>::uninit();
    // SAFETY: `endpoints` writes every field.
    let endpoints = unsafe { &mut *endpoints.as_mut_ptr() };
    read::endpoints::<R>(endpoints, sk);
    wants_endpoints(endpoints)
}

/// The same for a socket of which only a `struct sock` is known: a `struct tcp_sock` is asked for only where a selector wants it.
#[inline(always)]
pub(crate) fn wants_socket(sk: Sock) -> bool {
    if !is_set() {
        return true;
    }
    let tp = sk.tcp_sock();
    !tp.is_null() && wants::<Direct>(tp)
}

/// The same for what may be no full socket, of which only a `struct sock_common` is known.
#[inline(always)]
pub(crate) fn wants_common(sk_common: *const c_void) -> bool {
    if !is_set() {
        return true;
    }
    let mut endpoints = MaybeUninit::<Endpoints>::uninit();
    // SAFETY: `common_endpoints` writes every field.
    let endpoints = unsafe { &mut *endpoints.as_mut_ptr() };
    read::common_endpoints(endpoints, sk_common);
    wants_endpoints(endpoints)
}

/// The same for a request that is not a full socket yet.
#[inline(always)]
pub(crate) fn wants_endpoints(endpoints: &Endpoints) -> bool {
    wants_netns(endpoints.netns)
        && wants_port(endpoints.local_port, endpoints.remote_port)
        && wants_end(endpoints.local, endpoints.local_port, setting!(filter.local_count), |i| {
            // SAFETY: `i` is below MAX_VALUES.
            unsafe { (&raw const SETTINGS.filter.local[i]).read_volatile() }
        })
        && wants_end(endpoints.remote, endpoints.remote_port, setting!(filter.remote_count), |i| {
            // SAFETY: `i` is below MAX_VALUES.
            unsafe { (&raw const SETTINGS.filter.remote[i]).read_volatile() }
        })
}

/// Whether a socket opened by process `tgid` may be selected; 0 for an unknown one.
#[inline(always)]
pub(crate) fn wants_process(tgid: u32) -> bool {
    let count = setting!(filter.pid_count);
    count == 0 || tgid == 0 || (0..MAX_VALUES).any(|i| i < count as usize && setting!(filter.pids[i]) == tgid)
}

#[inline(always)]
fn is_set() -> bool {
    setting!(filter.netns_count) != 0
        || setting!(filter.port_count) != 0
        || setting!(filter.local_count) != 0
        || setting!(filter.remote_count) != 0
}

#[inline(always)]
fn wants_netns(netns: u32) -> bool {
    let count = setting!(filter.netns_count);
    count == 0
        || netns == 0
        || (0..MAX_VALUES).any(|i| i < count as usize && setting!(filter.netns[i]) == netns)
}

#[inline(always)]
fn wants_port(local: u16, remote: u16) -> bool {
    let count = setting!(filter.port_count);
    // A port of 0 has not been chosen yet.
    count == 0
        || local == 0
        || remote == 0
        || (0..MAX_VALUES).any(|i| {
            let port = setting!(filter.ports[i]);
            i < count as usize && (port == local || port == remote)
        })
}

#[inline(always)]
fn wants_end(address: [u8; 16], port: u16, count: u32, prefix: impl Fn(usize) -> Prefix) -> bool {
    // SAFETY: same size, and every bit pattern is an integer.
    let halves: [u64; 2] = unsafe { core::mem::transmute(address) };
    count == 0
        || port == 0
        || (0..MAX_VALUES).any(|i| {
            let Prefix { address, mask, port: wanted, reserved: _ } = prefix(i);
            i < count as usize
                && (wanted == 0 || wanted == port)
                && halves[0] & mask[0] == address[0]
                && halves[1] & mask[1] == address[1]
        })
}
