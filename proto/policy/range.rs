//! Ranges of addresses, as `10.0.0.0/8`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses that begin alike. Ordered by family, then address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// The first address of it.
    first: IpAddr,
    /// Bits that all of them share.
    bits: u8,
}

/// A text that is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no range of addresses: {problem}; write it as 10.0.0.0/8, fd00::/8 or one address")]
pub struct RangeError {
    text: String,
    problem: &'static str,
}

impl Range {
    /// The range of this one address.
    #[must_use]
    pub fn single(address: IpAddr) -> Self {
        Self {
            first: address,
            bits: width(address),
        }
    }

    /// Whether an address lies in it. Those of the other family never do.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && masked(address, self.bits) == self.first
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |problem| RangeError {
            text: text.to_owned(),
            problem,
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong("its address cannot be read"))?;
        let is_mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        if is_mapped {
            return Err(wrong("it is an IPv4 address written as IPv6"));
        }
        let bits = match bits {
            None => width(address),
            Some(bits) if !bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err(wrong("the number behind its slash cannot be read"));
            }
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|bits| *bits <= width(address))
                .ok_or_else(|| wrong("the number behind its slash is too large"))?,
        };
        if masked(address, bits) != address {
            return Err(wrong("its address has bits behind those that count"));
        }
        Ok(Self { first: address, bits })
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn range_holds_its_first_and_last_address_and_not_their_neighbours() {
        for (text, inside, outside) in [
            (
                "10.96.0.0/12",
                ["10.96.0.0", "10.111.255.255"],
                ["10.95.255.255", "10.112.0.0"],
            ),
            ("fd00:1::/32", ["fd00:1::", "fd00:1:ffff::1"], ["fd00::1", "fd00:2::"]),
            (
                "192.168.1.1",
                ["192.168.1.1", "192.168.1.1"],
                ["192.168.1.0", "192.168.1.2"],
            ),
        ] {
            for address in inside {
                assert!(range(text).contains(address.parse().unwrap()), "{text} {address}");
            }
            for address in outside {
                assert!(!range(text).contains(address.parse().unwrap()), "{text} {address}");
            }
        }
    }

    #[test]
    fn range_of_no_bits_holds_its_family_alone() {
        assert!(range("0.0.0.0/0").contains("255.255.255.255".parse().unwrap()));
        assert!(!range("0.0.0.0/0").contains("::1".parse().unwrap()));
        assert!(range("::/0").contains("ffff::1".parse().unwrap()));
    }

    #[test]
    fn range_reads_back_as_it_is_written() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "fd00::/8", "10.1.2.3/32"] {
            assert_eq!(range(text).to_string(), text);
        }
        assert_eq!(range("10.1.2.3").to_string(), "10.1.2.3/32");
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "10.0.0.1/8",
            "fd00::/129",
            "pods",
            "::ffff:10.0.0.0/104",
        ] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }
}
