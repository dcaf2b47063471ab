//! The client's address, through load balancers that the operator trusts and no others.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

/// The address that the audit trail and the access log name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// The peer itself, unless it is trusted: then the last address of `X-Forwarded-For` that is not trusted. What lies
    /// before that one is written by the client and believed by nobody.
    pub fn of(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
        let mut client = peer.to_canonical();
        let lines: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let mut hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
        while is_trusted(&client) {
            let Some(hop) = hops.next().and_then(|hop| hop.trim().parse::<IpAddr>().ok()) else {
                break;
            };
            client = hop.to_canonical();
        }
        Self(client)
    }
}

/// What belongs to one client: an IPv4 address, or the /64 of an IPv6 address, all of which one client may use.
pub fn network_of(address: IpAddr) -> IpNet {
    let bits = match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 64,
    };
    IpNet::new_assert(address, bits).trunc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_client_are_one() {
        let of = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(of("192.0.2.7"), "192.0.2.7/32");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
    }

    fn of(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        ClientAddress::of(peer.parse().unwrap(), &headers, &trusted)
            .0
            .to_string()
    }

    #[test]
    fn a_stranger_cannot_choose_its_own_address() {
        assert_eq!(of("203.0.113.9", &["1.2.3.4"], &["10.0.0.0/8"]), "203.0.113.9");
        assert_eq!(
            of("10.0.0.1", &["1.2.3.4, 203.0.113.9"], &["10.0.0.0/8"]),
            "203.0.113.9"
        );
    }

    #[test]
    fn trusted_hops_are_walked_from_the_last_one() {
        assert_eq!(
            of("10.0.0.1", &["1.2.3.4", "203.0.113.9, 10.0.0.2"], &["10.0.0.0/8"]),
            "203.0.113.9"
        );
        assert_eq!(of("::ffff:10.0.0.1", &["2001:db8::1"], &["10.0.0.0/8"]), "2001:db8::1");
        assert_eq!(of("10.0.0.1", &["nonsense"], &["10.0.0.0/8"]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &[], &["10.0.0.0/8"]), "10.0.0.1");
    }
}
