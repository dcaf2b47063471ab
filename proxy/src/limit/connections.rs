//! How many connections one address holds open.
//!
//! Owns a count for each network that has any, in shards of a short lock each. What is counted is bounded by the connections
//! that are open. Takes a lock once when a connection is accepted and once when it ends, never on a request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Limiter;
use super::network::Network;
use crate::filter::client_address::TrustedProxies;

const SHARDS: usize = 64;

type Shard = Mutex<HashMap<Network, usize>>;

/// Whose connections are accepted.
pub struct Callers {
    /// How many each address has open.
    pub connections: Connections,
    /// These may have any number: everybody's connections come from a proxy that stands in front.
    pub trusted: TrustedProxies,
    /// Counts those that were too many.
    pub limiter: Limiter,
}

/// The address has as many connections open as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Callers {
    /// Counts a connection from `peer`, unless that is trusted.
    ///
    /// # Errors
    /// [`TooMany`]: it is to be closed.
    pub fn open(&self, peer: IpAddr) -> Result<Option<Open>, TooMany> {
        if self.trusted.contain(peer) {
            return Ok(None);
        }
        let open = self.connections.open(peer);
        if open.is_none() {
            self.limiter.metrics().connections_refused.inc();
        }
        open.map(Some).ok_or(TooMany)
    }
}

/// The counts. Clones share them.
#[derive(Debug, Clone)]
pub struct Connections {
    shards: Arc<[Shard]>,
    bound: usize,
}

/// One open connection, for as long as it lives.
#[derive(Debug)]
pub struct Open {
    shards: Arc<[Shard]>,
    network: Network,
}

impl Connections {
    /// At most `bound` for each network.
    pub fn new(bound: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            bound,
        }
    }

    /// Counts a connection from this address. `None`: it has as many as it may.
    pub fn open(&self, address: IpAddr) -> Option<Open> {
        let network = Network::from(address);
        let mut shard = lock(&self.shards, network);
        let count = shard.entry(network).or_insert(0);
        if *count >= self.bound {
            return None;
        }
        *count += 1;
        drop(shard);
        Some(Open {
            shards: Arc::clone(&self.shards),
            network,
        })
    }

    #[cfg(test)]
    fn networks(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}

fn lock(shards: &[Shard], network: Network) -> MutexGuard<'_, HashMap<Network, usize>> {
    // Within the bounds of what `new` made; a count is changed in one step, so a panic elsewhere leaves it whole.
    shards[network.shard(shards.len())]
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut shard = lock(&self.shards, self.network);
        if let Some(count) = shard.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_number_and_gets_it_back() {
        let connections = Connections::new(2);
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let held: Vec<Open> = (0..2).map(|_| connections.open(one).unwrap()).collect();
        assert!(connections.open(one).is_none());
        assert!(connections.open(other).is_some());
        drop(held);
        assert!(connections.open(one).is_some());
        assert_eq!(
            connections.networks(),
            0,
            "an address without connections costs nothing"
        );
    }

    #[test]
    fn many_threads_never_hold_more() {
        let connections = Connections::new(10);
        let address = "2001:db8::1".parse().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let held: Vec<Open> = std::iter::from_fn(|| connections.open(address)).collect();
                        assert!(held.len() <= 10);
                    }
                });
            }
        });
        assert_eq!(connections.networks(), 0);
    }
}
