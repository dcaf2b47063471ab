//! How an instance is connected to.

use std::net::SocketAddr;
use std::time::Duration;

use pingora::upstreams::peer::HttpPeer;

/// Deadlines of the way to an instance; every one is set on every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For the TCP connection.
    pub connect: Duration,
    /// Between two reads of an answer.
    pub read: Duration,
    /// The same on upgraded connections and event streams, which are silent by nature.
    pub stream_idle: Duration,
    /// For one write.
    pub write: Duration,
    /// How long an idle connection is kept: shorter than the instance keeps it, or the two close and reuse it at once.
    pub idle: Duration,
}

/// A connection to this address, on behalf of the application with this group key. `streaming`: the answer may be silent
/// for long.
pub fn peer(address: SocketAddr, group_key: u64, timeouts: &Timeouts, streaming: bool) -> HttpPeer {
    // A socket address, never a name: names would be resolved here, blocking the thread.
    let mut peer = HttpPeer::new(address, false, String::new());
    peer.group_key = group_key;
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    options.read_timeout = Some(if streaming { timeouts.stream_idle } else { timeouts.read });
    options.write_timeout = Some(timeouts.write);
    options.idle_timeout = Some(timeouts.idle);
    peer
}

#[cfg(test)]
mod tests {
    use pingora::upstreams::peer::Peer;

    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        connect: Duration::from_secs(1),
        read: Duration::from_secs(2),
        stream_idle: Duration::from_secs(3),
        write: Duration::from_secs(4),
        idle: Duration::from_secs(5),
    };

    #[test]
    fn two_applications_never_share_a_connection_to_one_address() {
        let address = "10.0.0.1:8080".parse().unwrap();
        let hash = |group| peer(address, group, &TIMEOUTS, false).reuse_hash();
        assert_ne!(hash(1), hash(2));
        assert_eq!(hash(1), peer(address, 1, &TIMEOUTS, true).reuse_hash());
    }

    #[test]
    fn every_deadline_is_set() {
        let peer = peer("10.0.0.1:8080".parse().unwrap(), 1, &TIMEOUTS, true);
        assert_eq!(peer.connection_timeout(), Some(TIMEOUTS.connect));
        assert_eq!(peer.total_connection_timeout(), Some(TIMEOUTS.connect));
        assert_eq!(peer.options.read_timeout, Some(TIMEOUTS.stream_idle));
        assert_eq!(peer.options.write_timeout, Some(TIMEOUTS.write));
        assert_eq!(peer.idle_timeout(), Some(TIMEOUTS.idle));
    }
}
