//! One end of a connection, as far as the user cares: `ADDR[/LEN][:PORT]`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::record::printable;

/// Addresses and ports at one end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The addresses, without host bits; `None` for all. IPv4 as IPv4 even if it was written as IPv4-mapped IPv6,
    /// because records write it so.
    pub prefix: Option<IpNet>,
    /// The port; `None` for all.
    pub port: Option<u16>,
}

impl Endpoint {
    /// Whether `address` is one of these.
    #[must_use]
    pub fn contains(&self, address: SocketAddr) -> bool {
        self.prefix.is_none_or(|prefix| prefix.contains(&address.ip()))
            && self.port.is_none_or(|port| port == address.port())
    }
}

/// The shortest form that is read back as the same.
impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(prefix) = self.prefix {
            let address = prefix.addr();
            if address.is_ipv6() && self.port.is_some() {
                write!(out, "[{address}]")?;
            } else {
                write!(out, "{address}")?;
            }
            if prefix.prefix_len() < prefix.max_prefix_len() {
                write!(out, "/{}", prefix.prefix_len())?;
            }
        }
        self.port.map_or(Ok(()), |port| write!(out, ":{port}"))
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bracketed = text.starts_with('[');
        let (address, rest) = if bracketed {
            text[1..].split_once(']').ok_or("the bracket `[` is never closed")?
        } else if text.parse::<IpAddr>().is_ok() {
            // All of it, although the colons of an IPv6 address look like the one before a port.
            (text, "")
        } else if let Some(slash) = text.find('/') {
            text.split_at(slash)
        } else {
            text.split_at(text.rfind(':').unwrap_or(text.len()))
        };
        let (length, port) = rest.split_once(':').map_or((rest, None), |(length, port)| (length, Some(port)));
        let port = port.map(parse_port).transpose()?;

        let any_address = matches!(address, "" | "*") && length.is_empty() && port.is_some();
        if any_address && !bracketed {
            return Ok(Self { prefix: None, port });
        }
        let address: IpAddr =
            address.parse().map_err(|_| format!("`{}` is no IP address", printable(address)))?;
        if bracketed && address.is_ipv4() || !bracketed && address.is_ipv6() && port.is_some() {
            return Err(
                "brackets are for IPv6, and needed where a port follows: [2001:db8::1]:443".to_owned()
            );
        }
        Ok(Self { prefix: Some(parse_prefix(address, length)?), port })
    }
}

/// A port that a connection can have.
///
/// # Errors
/// Anything else, with the rule.
pub fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("`{}` is no port: a port is a number from 1 to 65535", printable(text))),
    }
}

/// The prefix of `address` that `length`, empty or `/LEN`, says.
fn parse_prefix(address: IpAddr, length: &str) -> Result<IpNet, String> {
    let (family, most) = if address.is_ipv4() { ("IPv4", 32) } else { ("IPv6", 128) };
    let rule = || {
        let length = printable(length);
        format!("`{length}` is no prefix length: after an {family} address it is a number from 0 to {most}")
    };
    let length = match length.strip_prefix('/') {
        Some(number) => number.parse().map_err(|_| rule())?,
        None if length.is_empty() => most,
        None => return Err(format!("`{}` after the address is neither /LEN nor :PORT", printable(length))),
    };
    let mapped = match address {
        // The first 96 bits say only that it is IPv4.
        IpAddr::V6(six) if (96..=128).contains(&length) => {
            six.to_ipv4_mapped().map(|four| (four.into(), length - 96))
        }
        IpAddr::V6(_) | IpAddr::V4(_) => None,
    };
    let (address, length) = mapped.unwrap_or((address, length));
    IpNet::new(address, length).map(|prefix| prefix.trunc()).map_err(|_| rule())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_is_read_and_written_back_in_its_shortest() {
        let forms = [
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1/32", "10.0.0.1"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.0.0.1:443", "10.0.0.1:443"),
            ("10.0.0.0/8:443", "10.0.0.0/8:443"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("[2001:db8::]/32:443", "[2001:db8::]/32:443"),
            ("::1", "::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("[::ffff:10.0.0.0]/104:443", "10.0.0.0/8:443"),
            ("::/0", "::/0"),
            (":443", ":443"),
            ("*:443", ":443"),
        ];
        for (text, written) in forms {
            assert_eq!(
                text.parse::<Endpoint>().map(|endpoint| endpoint.to_string()),
                Ok(written.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_the_rule() {
        let no_port = |text| format!("`{text}` is no port: a port is a number from 1 to 65535");
        let brackets = "brackets are for IPv6, and needed where a port follows: [2001:db8::1]:443".to_owned();
        let cases = [
            ("", "`` is no IP address".to_owned()),
            ("*", "`*` is no IP address".to_owned()),
            ("[]:443", "`` is no IP address".to_owned()),
            ("example.org", "`example.org` is no IP address".to_owned()),
            ("example.org:443", "`example.org` is no IP address".to_owned()),
            ("10.0.0", "`10.0.0` is no IP address".to_owned()),
            ("/8:443", "`` is no IP address".to_owned()),
            ("10.0.0.1:0", no_port("0")),
            ("10.0.0.1:70000", no_port("70000")),
            ("10.0.0.1:", no_port("")),
            (":http", no_port("http")),
            (
                "10.0.0.0/40",
                "`/40` is no prefix length: after an IPv4 address it is a number from 0 to 32".to_owned(),
            ),
            (
                "10.0.0.0/:443",
                "`/` is no prefix length: after an IPv4 address it is a number from 0 to 32".to_owned(),
            ),
            (
                "2001:db8::/129",
                "`/129` is no prefix length: after an IPv6 address it is a number from 0 to 128".to_owned(),
            ),
            (
                "::ffff:10.0.0.1/300",
                "`/300` is no prefix length: after an IPv6 address it is a number from 0 to 128".to_owned(),
            ),
            ("[2001:db8::1", "the bracket `[` is never closed".to_owned()),
            ("[2001:db8::1]443", "`443` after the address is neither /LEN nor :PORT".to_owned()),
            ("[10.0.0.1]:443", brackets.clone()),
            ("2001:db8::/32:443", brackets),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Endpoint>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_port_alone_means_every_address() {
        let endpoint: Endpoint = ":443".parse().unwrap();
        assert!(endpoint.contains("10.0.0.1:443".parse().unwrap()));
        assert!(endpoint.contains("[2001:db8::1]:443".parse().unwrap()));
        assert!(!endpoint.contains("10.0.0.1:80".parse().unwrap()));
    }

    fn endpoints() -> impl Strategy<Value = Endpoint> {
        let four = (any::<Ipv4Addr>(), 0..=32_u8).prop_map(|(address, length)| (IpAddr::V4(address), length));
        let six = (any::<Ipv6Addr>(), 0..=128_u8)
            .prop_filter("mapped addresses are read as IPv4", |(address, _)| {
                address.to_ipv4_mapped().is_none()
            })
            .prop_map(|(address, length)| (IpAddr::V6(address), length));
        let prefix = prop_oneof![four, six]
            .prop_map(|(address, length)| IpNet::new(address, length).expect("the length fits").trunc());
        (proptest::option::of(prefix), proptest::option::of(1..=u16::MAX))
            .prop_filter("nothing at all is no endpoint", |(prefix, port)| prefix.is_some() || port.is_some())
            .prop_map(|(prefix, port)| Endpoint { prefix, port })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_as_the_same(endpoint in endpoints()) {
            prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "[0-9a-f:./\\[\\]*]{0,24}") {
            let _ = text.parse::<Endpoint>();
        }
    }
}
