//! Numbers and addresses at the end of what is being written, without the detours of formatting.

use std::net::SocketAddr;

/// What text is appended to.
pub(super) trait Append {
    /// Appends a text.
    fn append(&mut self, text: &str);
}

impl Append for String {
    #[inline]
    fn append(&mut self, text: &str) {
        self.push_str(text);
    }
}

impl Append for Vec<u8> {
    #[inline]
    fn append(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

#[inline]
pub(super) fn number(to: &mut impl Append, value: impl Into<u64>) {
    to.append(itoa::Buffer::new().format(value.into()));
}

/// An address and port: `10.0.1.4:443`, `[2001:db8::1]:443`.
#[inline]
pub(super) fn address(to: &mut impl Append, address: SocketAddr) {
    match address {
        SocketAddr::V4(address) => {
            for (octet, mark) in address.ip().octets().into_iter().zip([".", ".", ".", ":"]) {
                number(to, octet);
                to.append(mark);
            }
            number(to, address.port());
        }
        SocketAddr::V6(address) => to.append(&address.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_the_standard_library_writes() {
        for text in ["0.0.0.0:0", "255.255.255.255:65535", "10.1.20.9:443", "[::]:0", "[2001:db8::1%3]:443"] {
            let mut written = String::new();
            address(&mut written, text.parse().unwrap());
            assert_eq!(written, text);
        }
    }
}
