//! How an instance is connected to.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::TransportConnector;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::net::TcpStream;

use super::relay::{AboveTls, Relay};
use super::tls::TlsIdentity;
use super::tunnel::{Held, Hold};
use crate::trailers::Trailers;

/// Deadlines of the way to an instance; every one is set on every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For the TCP connection.
    pub connect: Duration,
    /// For the TLS handshake, where there is one.
    pub tls: Duration,
    /// From the end of the request to the first byte of its answer.
    pub first_byte: Duration,
    /// Between two reads of an answer.
    pub read: Duration,
    /// The same on upgraded connections and event streams, which are silent by nature.
    pub stream_idle: Duration,
    /// For one write.
    pub write: Duration,
    /// How long an idle connection is kept: shorter than the instance keeps it, or the two close and reuse it at once.
    pub idle: Duration,
    /// For a whole request, from its head to the end of the answer; streams are exempt.
    pub total: Duration,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy)]
pub struct Purpose<'a> {
    /// Whose connection it is: those of different applications are never exchanged.
    pub group_key: u64,
    /// The name of the instance's certificate; `None` is plain TCP.
    pub server_name: Option<&'a str>,
    /// May the answer be silent for long?
    pub streaming: bool,
    /// Not out of the pool, nor into it.
    pub fresh: Option<u64>,
    /// For a connection that is looked at on its way: says when its answer may be read, and can end it.
    pub hold: Option<&'a Arc<Hold>>,
    /// Trailers that are passed on; only with a hold.
    pub trailers: Option<Carried<'a>>,
    /// What is left of the time for the whole request.
    pub left: Duration,
}

/// Trailers, and who speaks TLS below them.
#[derive(Clone, Copy)]
pub struct Carried<'a> {
    /// Of the request.
    pub trailers: &'a Arc<Trailers>,
    /// Makes the connection where the instance speaks TLS: the trailers are above it, and the library's way to a connection has
    /// no place for them there.
    pub secure: Option<&'a Arc<TransportConnector>>,
}

impl std::fmt::Debug for Carried<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carried")
            .field("trailers", &self.trailers)
            .field("secure", &self.secure.is_some())
            .finish()
    }
}

/// A connection to this address.
pub fn peer(address: SocketAddr, purpose: &Purpose<'_>, timeouts: &Timeouts, tls: &TlsIdentity) -> HttpPeer {
    // A socket address, never a name: names would be resolved here, blocking the thread. And never TLS without a name: the
    // library would then trust anybody.
    let name = purpose.server_name.filter(|name| !name.is_empty());
    let mut peer = HttpPeer::new(address, name.is_some(), name.unwrap_or_default().to_owned());
    // A key that no connection in the pool has, since there is one for each such attempt.
    peer.group_key = purpose
        .fresh
        .map_or(purpose.group_key, |salt| purpose.group_key ^ (salt | 1));
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    options.read_timeout = Some(if purpose.streaming {
        timeouts.stream_idle
    } else {
        timeouts.read.min(purpose.left)
    });
    options.write_timeout = Some(timeouts.write);
    options.idle_timeout = Some(if purpose.fresh.is_some() {
        Duration::ZERO
    } else {
        timeouts.idle
    });
    if name.is_some() {
        // The library has one deadline for both steps; this one is then for the handshake alone.
        options.connection_timeout = Some(timeouts.tls);
        options.total_connection_timeout = Some(timeouts.connect.saturating_add(timeouts.tls));
        options.ca.clone_from(&tls.ca);
        peer.client_cert_key.clone_from(&tls.certificate);
    }
    let (hold, carried) = (purpose.hold.cloned(), purpose.trailers);
    if name.is_some()
        && let (Some(hold), Some(carried)) = (&hold, carried)
        && let Some(connector) = carried.secure
    {
        peer.options.custom_l4 = Some(Arc::new(Dial::plain(timeouts.connect)));
        return above_tls(
            address,
            AboveTls {
                peer,
                connector: Arc::clone(connector),
                hold: Arc::clone(hold),
                trailers: Arc::clone(carried.trailers),
            },
        );
    }
    if name.is_some() || hold.is_some() {
        peer.options.custom_l4 = Some(Arc::new(Dial {
            hold,
            trailers: carried.map(|carried| Arc::clone(carried.trailers)),
            ..Dial::plain(timeouts.connect)
        }));
    }
    peer
}

/// A connection with TLS, as if it were plain.
fn above_tls(address: SocketAddr, above: AboveTls) -> HttpPeer {
    let mut plain = HttpPeer::new(address, false, String::new());
    plain.group_key = above.peer.group_key;
    plain.options = above.peer.options.clone();
    plain.options.custom_l4 = Some(Arc::new(above));
    plain
}

/// Connects, within this time.
#[derive(Debug)]
struct Dial {
    within: Duration,
    hold: Option<Arc<Hold>>,
    trailers: Option<Arc<Trailers>>,
}

impl Dial {
    fn plain(within: Duration) -> Self {
        Self {
            within,
            hold: None,
            trailers: None,
        }
    }
}

#[async_trait]
impl Connect for Dial {
    async fn connect(&self, address: &PeerAddress) -> Result<Stream> {
        let address = address
            .as_inet()
            .ok_or_else(|| Error::explain(ErrorType::InternalError, "not an internet address"))?;
        let stream = dial(*address, self.within).await?;
        let Some(hold) = &self.hold else {
            return Ok(Stream::from(stream));
        };
        let held = Held::new(stream, Arc::clone(hold));
        let socket: Box<dyn VirtualSocket> = match &self.trailers {
            None => Box::new(held),
            Some(trailers) => Box::new(Relay::new(held, Arc::clone(trailers))),
        };
        Ok(Stream::from(VirtualSocketStream::new(socket)))
    }
}

/// Connects to an address, within `limit`.
pub(crate) async fn dial(address: SocketAddr, limit: Duration) -> Result<TcpStream> {
    let connected = tokio::time::timeout(limit, TcpStream::connect(address))
        .await
        .or_err(ErrorType::ConnectTimedout, "while connecting")?;
    connected.map_err(|error| {
        let kind = match error.kind() {
            ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
            // No port is left on this side.
            ErrorKind::AddrNotAvailable => ErrorType::BindError,
            _ if is_short_of_sockets(&error) => ErrorType::SocketError,
            _ => ErrorType::ConnectError,
        };
        Error::because(kind, "while connecting", error)
    })
}

/// Is it this side that has no file descriptor or memory for a socket?
fn is_short_of_sockets(error: &std::io::Error) -> bool {
    use nix::errno::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}

#[cfg(test)]
mod tests {
    use pingora::upstreams::peer::Peer;

    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        connect: Duration::from_secs(1),
        tls: Duration::from_secs(7),
        first_byte: Duration::from_secs(2),
        read: Duration::from_secs(2),
        stream_idle: Duration::from_secs(3),
        write: Duration::from_secs(4),
        idle: Duration::from_secs(5),
        total: Duration::from_mins(1),
    };

    const PURPOSE: Purpose<'static> = Purpose {
        group_key: 1,
        server_name: None,
        streaming: false,
        fresh: None,
        hold: None,
        trailers: None,
        left: Duration::from_mins(1),
    };

    fn of(purpose: &Purpose<'_>) -> HttpPeer {
        peer(
            "10.0.0.1:8080".parse().unwrap(),
            purpose,
            &TIMEOUTS,
            &TlsIdentity::default(),
        )
    }

    #[test]
    fn two_applications_never_share_a_connection_to_one_address() {
        let hash = |group_key| of(&Purpose { group_key, ..PURPOSE }).reuse_hash();
        assert_ne!(hash(1), hash(2));
        assert_eq!(
            hash(1),
            of(&Purpose {
                streaming: true,
                ..PURPOSE
            })
            .reuse_hash()
        );
    }

    #[test]
    fn a_fresh_connection_is_neither_out_of_the_pool_nor_put_into_it() {
        let fresh = |salt| {
            of(&Purpose {
                fresh: Some(salt),
                ..PURPOSE
            })
        };
        assert_ne!(fresh(0).reuse_hash(), of(&PURPOSE).reuse_hash());
        assert_ne!(fresh(2).reuse_hash(), fresh(4).reuse_hash());
        assert_eq!(fresh(2).idle_timeout(), Some(Duration::ZERO));
    }

    #[test]
    fn every_deadline_is_set() {
        let peer = of(&Purpose {
            streaming: true,
            ..PURPOSE
        });
        assert_eq!(peer.connection_timeout(), Some(TIMEOUTS.connect));
        assert_eq!(peer.total_connection_timeout(), Some(TIMEOUTS.connect));
        assert_eq!(peer.options.read_timeout, Some(TIMEOUTS.stream_idle));
        assert_eq!(peer.options.write_timeout, Some(TIMEOUTS.write));
        assert_eq!(peer.idle_timeout(), Some(TIMEOUTS.idle));
        let hurried = of(&Purpose {
            left: Duration::from_millis(5),
            ..PURPOSE
        });
        assert_eq!(hurried.options.read_timeout, Some(Duration::from_millis(5)));
    }

    #[test]
    fn tls_has_a_name_a_deadline_of_its_own_and_is_never_without_a_name() {
        let secure = of(&Purpose {
            server_name: Some("instance.test"),
            ..PURPOSE
        });
        assert!(secure.is_tls());
        assert_eq!(secure.sni, "instance.test");
        assert_eq!(secure.connection_timeout(), Some(TIMEOUTS.tls));
        assert_eq!(secure.total_connection_timeout(), Some(TIMEOUTS.connect + TIMEOUTS.tls));
        assert!(secure.options.verify_cert && secure.options.verify_hostname);
        assert!(
            !of(&Purpose {
                server_name: Some(""),
                ..PURPOSE
            })
            .is_tls()
        );
    }
}
