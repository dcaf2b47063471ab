//! The part of an address that is one customer's: an IPv4 address, or an IPv6 /64, within which anybody can change the
//! address at will.

use std::net::{IpAddr, Ipv6Addr};

/// A source of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Network(u64);

/// No IPv6 network that is in use anywhere begins so (`::/8` is reserved, RFC 4291).
const IPV4: u64 = 0x00ff_0000_0000_0000;

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(IPV4 | u64::from(address.to_bits())),
            IpAddr::V6(address) => Self(upper(address)),
        }
    }
}

impl Network {
    /// Which of `count` equal parts of all networks it belongs to.
    pub(super) fn shard(self, count: usize) -> usize {
        // Fibonacci hashing: neighbours are spread. The remainder is below `count`.
        let spread = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        usize::try_from(spread).unwrap_or(0) % count.max(1)
    }
}

fn upper(address: Ipv6Addr) -> u64 {
    let [a, b, c, d, ..] = address.segments();
    u64::from(a) << 48 | u64::from(b) << 32 | u64::from(c) << 16 | u64::from(d)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn an_ipv4_address_is_one_source_and_an_ipv6_network_is_one() {
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1:2:3"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_ne!(network("::"), network("0.0.0.0"));
    }
}
