//! Numbers and addresses at the end of what is being written, without the detours of formatting.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

/// What text is appended to.
pub(crate) trait Append {
    /// Appends a text.
    fn append(&mut self, text: &str);

    /// Appends a character of ASCII.
    fn append_ascii(&mut self, character: u8);
}

impl Append for String {
    #[inline]
    fn append(&mut self, text: &str) {
        self.push_str(text);
    }

    #[inline]
    fn append_ascii(&mut self, character: u8) {
        self.push(char::from(character));
    }
}

impl Append for Vec<u8> {
    #[inline]
    fn append(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }

    #[inline]
    fn append_ascii(&mut self, character: u8) {
        self.push(character);
    }
}

/// A number in decimal.
#[inline]
pub(crate) fn number(to: &mut impl Append, value: impl Into<u64>) {
    let value = value.into();
    match u8::try_from(value) {
        // Most counters of a healthy connection are zero.
        Ok(digit @ 0..10) => to.append_ascii(b'0' + digit),
        Ok(_) | Err(_) => to.append(itoa::Buffer::new().format(value)),
    }
}

/// A number in hexadecimal.
#[inline]
pub(crate) fn hexadecimal(to: &mut impl Append, value: impl Into<u64>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let value = value.into();
    let length = (u64::BITS - value.leading_zeros()).div_ceil(4).max(1);
    for place in (0..length).rev() {
        let [lowest, ..] = (value >> (4 * place)).to_le_bytes();
        to.append_ascii(DIGITS[usize::from(lowest % 16)]);
    }
}

/// An address and port: `10.0.1.4:443`, `[2001:db8::1]:443`.
#[inline]
pub(crate) fn address(to: &mut impl Append, address: SocketAddr) {
    match address {
        SocketAddr::V4(address) => ipv4(to, *address.ip()),
        SocketAddr::V6(address) => {
            to.append_ascii(b'[');
            ipv6(to, *address.ip());
            if address.scope_id() != 0 {
                to.append_ascii(b'%');
                number(to, address.scope_id());
            }
            to.append_ascii(b']');
        }
    }
    to.append_ascii(b':');
    number(to, address.port());
}

#[inline]
fn ipv4(to: &mut impl Append, address: Ipv4Addr) {
    let [first, rest @ ..] = address.octets();
    number(to, first);
    for octet in rest {
        to.append_ascii(b'.');
        number(to, octet);
    }
}

/// As RFC 5952 says: the longest run of zeros, the first of these, is left out.
fn ipv6(to: &mut impl Append, address: Ipv6Addr) {
    if let Some(mapped) = address.to_ipv4_mapped() {
        to.append("::ffff:");
        return ipv4(to, mapped);
    }
    let segments = address.segments();
    let zeros = longest_zeros(segments);
    for (at, segment) in segments.into_iter().enumerate() {
        if zeros.start == at && !zeros.is_empty() {
            to.append("::");
        } else if !zeros.contains(&at) {
            if at > 0 && at != zeros.end {
                to.append_ascii(b':');
            }
            hexadecimal(to, segment);
        }
    }
}

/// Where the longest run of zeros is; one alone is no run.
fn longest_zeros(segments: [u16; 8]) -> Range<usize> {
    let (mut longest, mut run) = (0..1, 0..0);
    for (at, segment) in segments.into_iter().enumerate() {
        if segment == 0 {
            run.end = at + 1;
            if run.len() > longest.len() {
                longest = run.clone();
            }
        } else {
            run = at + 1..at + 1;
        }
    }
    if longest.len() > 1 { longest } else { 0..0 }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn addresses_are_those_that_the_standard_library_writes(
            is_ipv6 in any::<bool>(),
            words in any::<[u16; 8]>(),
            kept in any::<u8>(),
            port in any::<u16>(),
            scope in prop_oneof![3 => Just(0), 1 => any::<u32>()],
        ) {
            let mut words = words;
            words.iter_mut().enumerate().filter(|(at, _)| kept & 1 << at == 0).for_each(|(_, word)| *word = 0);
            let ipv6 = Ipv6Addr::from(words);
            let mapped = Ipv4Addr::from(u32::from(words[0]) << 16 | u32::from(words[1]));
            for ip in [ipv6, mapped.to_ipv6_mapped()] {
                let ip = if is_ipv6 { SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)) } else { (mapped, port).into() };
                let mut written = String::new();
                address(&mut written, ip);
                prop_assert_eq!(written, ip.to_string());
            }
        }

        #[test]
        fn decimal_numbers_are_those_that_the_standard_library_writes(number in any::<u64>(), length in 0_u32..64) {
            for number in [number >> length, 0] {
                let (mut text, mut bytes) = (String::new(), Vec::new());
                super::number(&mut text, number);
                super::number(&mut bytes, number);
                prop_assert_eq!(&text, &number.to_string());
                prop_assert_eq!(text.as_bytes(), bytes);
            }
        }

        #[test]
        fn hexadecimal_numbers_are_those_that_the_standard_library_writes(number in any::<u64>(), length in 0_u32..64) {
            for number in [number >> length, 0] {
                let mut written = String::new();
                hexadecimal(&mut written, number);
                prop_assert_eq!(written, format!("{number:x}"));
            }
        }
    }
}
