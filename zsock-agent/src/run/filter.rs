//! Selectors as the kernel side evaluates them.
//!
//! It is asked to let through at least what is selected; the agent selects again with all the facts. So a kind with more values
//! than it takes is left to the agent, and so are names, control groups, states and verdicts: a process may be renamed or
//! moved after it opened its socket, and the engine needs every state to judge by. One exception: a healthy connection that
//! was passed to a selected process, not inherited by it, is known there by its opener alone.

use std::fs;

use zsock_common::settings::{Filter, MAX_VALUES, Prefix};

use crate::select::{Endpoint, Selectors};

/// The filter that lets at least the selected sockets through.
pub(super) fn of(selectors: &Selectors) -> Filter {
    let mut filter = Filter::NONE;
    let pids: Vec<u32> = selectors.pids.iter().flat_map(|pid| with_ancestors(*pid, parent_of)).collect();
    filter.pid_count = fill(&mut filter.pids, &pids);
    filter.port_count = fill(&mut filter.ports, &selectors.ports);
    filter.netns_count = fill(&mut filter.netns, &selectors.netns);
    filter.local_count = fill(&mut filter.local, &prefixes(&selectors.local));
    filter.remote_count = fill(&mut filter.remote, &prefixes(&selectors.remote));
    filter
}

/// Fills in `values` and counts them; none where there are more than fit.
fn fill<T: Copy>(into: &mut [T; MAX_VALUES], values: &[T]) -> u32 {
    if values.len() > MAX_VALUES {
        return 0;
    }
    into[..values.len()].copy_from_slice(values);
    u32::try_from(values.len()).unwrap_or(0)
}

fn prefixes(endpoints: &[Endpoint]) -> Vec<Prefix> {
    endpoints.iter().map(prefix).collect()
}

fn prefix(endpoint: &Endpoint) -> Prefix {
    let port = endpoint.port.unwrap_or(0);
    let Some(net) = endpoint.prefix else { return Prefix { port, ..Prefix::ANY } };
    // The kernel side sees IPv4 as ::ffff:a.b.c.d.
    let (address, length) = match net {
        ipnet::IpNet::V4(net) => (net.network().to_ipv6_mapped(), 96 + u32::from(net.prefix_len())),
        ipnet::IpNet::V6(net) => (net.network(), u32::from(net.prefix_len())),
    };
    let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0).to_be_bytes();
    Prefix { address: halves(address.octets()), mask: halves(mask), port, reserved: [0; 3] }
}

/// The two halves of an address as the kernel side loads them.
fn halves(bytes: [u8; 16]) -> [u64; 2] {
    let half = |at: usize| u64::from_ne_bytes(std::array::from_fn(|byte| bytes[at + byte]));
    [half(0), half(8)]
}

/// A process and those that it descends from: it may hold what an ancestor opened before it was born.
fn with_ancestors(pid: u32, parent: impl Fn(u32) -> Option<u32>) -> Vec<u32> {
    std::iter::successors(Some(pid), |pid| parent(*pid).filter(|parent| *parent != 0)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    parent_in(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The parent in `/proc/PID/stat`: field 4. The name before the last parenthesis may hold anything.
pub(super) fn parent_in(stat: &[u8]) -> Option<u32> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    std::str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_cover_ipv4_as_it_is_mapped() {
        let of = |text: &str| prefix(&text.parse().unwrap());
        let ten = of("10.0.0.0/8:443");
        let address = halves(std::net::Ipv4Addr::new(10, 1, 2, 3).to_ipv6_mapped().octets());
        assert_eq!(ten.port, 443);
        assert!((0..2).all(|half| address[half] & ten.mask[half] == ten.address[half]));
        let other = halves(std::net::Ipv4Addr::new(11, 1, 2, 3).to_ipv6_mapped().octets());
        assert_ne!(other[1] & ten.mask[1], ten.address[1]);
        assert_eq!(of("2001:db8::/32").mask, halves(((u128::MAX) << 96).to_be_bytes()));
        assert_eq!(of(":80").mask, [0, 0]);
        assert_eq!(of("::/0").mask, [0, 0]);
    }

    #[test]
    fn more_values_than_the_kernel_side_takes_are_left_to_the_agent() {
        let selectors = Selectors { ports: (1..=9).collect(), netns: vec![7], ..Selectors::default() };
        let filter = of(&selectors);
        assert_eq!((filter.port_count, filter.netns_count, filter.netns[0]), (0, 1, 7));
    }

    #[test]
    fn a_parent_is_found_whatever_the_child_is_called() {
        assert_eq!(parent_in(b"7 (a) R 1 b\xff) S 42 7 7 0"), Some(42));
        for broken in [&b""[..], b")", b"7 (a", b"7 (a) S", b"7 (a) S x"] {
            assert_eq!(parent_in(broken), None);
        }
    }

    #[test]
    fn a_process_comes_with_its_ancestors() {
        let parent = |pid| match pid {
            30 => Some(20),
            20 => Some(1),
            _ => Some(0),
        };
        assert_eq!(with_ancestors(30, parent), [30, 20, 1]);
    }
}
