//! Who the client is, when others stand between it and the edge.
//!
//! Owns the reading of `X-Forwarded-For`, `X-Forwarded-Proto` and `Forwarded` (RFC 7239). They are believed only when the
//! connection comes from a trusted proxy, and only as far back as the proxies that wrote them are trusted: the rightmost address
//! that is not a trusted proxy is the client. What stands left of it the client may have written itself. Pure; without trusted
//! proxies no header is read at all.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::lines::Fields;
use super::name::{self, Name, name};

static X_FORWARDED_FOR: Name = name!("x-forwarded-for");
static X_FORWARDED_PROTO: Name = name!("x-forwarded-proto");

/// Hops that are followed. A longer chain is no chain of proxies of ours.
const HOPS: usize = 32;

/// The header in which trusted proxies name the address that they were reached from. Only one is believed: a proxy that writes one
/// of them passes the other on as the client wrote it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedBy {
    /// `X-Forwarded-For`, and `X-Forwarded-Proto` for the scheme.
    #[default]
    XForwardedFor,
    /// `Forwarded`, with its `for` and `proto`.
    Forwarded,
}

/// The proxies that are believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    by: ForwardedBy,
}

/// Where a request really comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Client {
    /// The client's address, an IPv4 one never in its IPv6 form. `None`: not an internet connection.
    pub address: Option<IpAddr>,
    /// Does a trusted proxy say whether the client came by TLS?
    pub https: Option<bool>,
}

impl TrustedProxies {
    /// Believes these networks, in this header.
    pub fn new(networks: Vec<IpNet>, by: ForwardedBy) -> Self {
        // `::ffff:10.0.0.0/104` means 10.0.0.0/8; addresses are compared in their short form.
        let networks = networks.into_iter().map(canonical).collect();
        Self { networks, by }
    }

    /// Is this address one of theirs?
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The client of a request that came over a connection from `peer`.
    pub fn client(&self, peer: Option<IpAddr>, headers: &impl Fields) -> Client {
        let peer = peer.map(|peer| peer.to_canonical());
        let Some(nearest) = peer.filter(|peer| self.contain(*peer)) else {
            return Client {
                address: peer,
                https: None,
            };
        };
        match self.by {
            ForwardedBy::XForwardedFor => Client {
                address: Some(self.behind(nearest, x_forwarded_for(headers)).0),
                https: last_proto(headers),
            },
            ForwardedBy::Forwarded => {
                let (address, https) = self.behind(nearest, forwarded(headers));
                Client {
                    address: Some(address),
                    https,
                }
            }
        }
    }

    /// Follows the hops from the nearest to the first that is not trusted, or that is not said.
    fn behind(&self, nearest: IpAddr, hops: impl Iterator<Item = Hop>) -> (IpAddr, Option<bool>) {
        let (mut client, mut https) = (nearest, None);
        for hop in hops.take(HOPS) {
            // `unknown`, a made-up name or nonsense: nobody can tell what is behind the last proxy that spoke clearly.
            let Some(address) = hop.address else { break };
            client = address;
            https = hop.https;
            if !self.contain(address) {
                break;
            }
        }
        (client, https)
    }
}

fn canonical(network: IpNet) -> IpNet {
    if let IpNet::V6(six) = network
        && let (Some(four), Some(length)) = (six.network().to_ipv4_mapped(), six.prefix_len().checked_sub(96))
        && let Ok(four) = ipnet::Ipv4Net::new(four, length)
    {
        return IpNet::V4(four);
    }
    network
}

struct Hop {
    address: Option<IpAddr>,
    https: Option<bool>,
}

/// The elements of a list header, the last one first. Empty elements do not count (RFC 9110, 5.6.1).
fn from_the_right<'a>(headers: &'a impl Fields, name: &'a Name) -> impl Iterator<Item = &'a [u8]> {
    headers
        .all(name)
        .rev()
        .flat_map(|line| Elements(Some(line)))
        .filter(|element| !element.is_empty())
}

/// The elements of one line from its end. A comma within quotes separates nothing.
struct Elements<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.0.take()?;
        let mut quoted = false;
        let comma = line.iter().rposition(|b| {
            quoted ^= *b == b'"';
            *b == b',' && !quoted
        });
        Some(
            match comma {
                Some(comma) => {
                    self.0 = Some(&line[..comma]);
                    &line[comma + 1..]
                }
                None => line,
            }
            .trim_ascii(),
        )
    }
}

fn x_forwarded_for(headers: &impl Fields) -> impl Iterator<Item = Hop> {
    from_the_right(headers, &X_FORWARDED_FOR).map(|element| Hop {
        address: node(element),
        https: None,
    })
}

/// What the nearest proxy says; it either replaces what it was told or adds to it.
fn last_proto(headers: &impl Fields) -> Option<bool> {
    scheme(from_the_right(headers, &X_FORWARDED_PROTO).next()?)
}

fn forwarded(headers: &impl Fields) -> impl Iterator<Item = Hop> {
    from_the_right(headers, &name::FORWARDED).map(|element| {
        let mut hop = Hop {
            address: None,
            https: None,
        };
        for pair in element.split(|b| *b == b';') {
            let Some(equals) = pair.iter().position(|b| *b == b'=') else {
                continue;
            };
            let (name, value) = (pair[..equals].trim_ascii(), unquoted(pair[equals + 1..].trim_ascii()));
            if name.eq_ignore_ascii_case(b"for") {
                hop.address = node(value);
            } else if name.eq_ignore_ascii_case(b"proto") {
                hop.https = scheme(value);
            }
        }
        hop
    })
}

/// Without its quotes. An escape within them cannot be part of an address, and is left for the parser to refuse.
fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

fn scheme(value: &[u8]) -> Option<bool> {
    if value.eq_ignore_ascii_case(b"https") || value.eq_ignore_ascii_case(b"wss") {
        Some(true)
    } else if value.eq_ignore_ascii_case(b"http") || value.eq_ignore_ascii_case(b"ws") {
        Some(false)
    } else {
        None
    }
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn node(text: &[u8]) -> Option<IpAddr> {
    // The longest is 47 bytes: a bracketed IPv6 address with its port.
    let text = str::from_utf8(text.get(..text.len().min(64))?).ok()?;
    let address = match text.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => match text.parse::<SocketAddr>() {
            Ok(address) => address.ip(),
            Err(_) => text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok()?,
        },
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests;
