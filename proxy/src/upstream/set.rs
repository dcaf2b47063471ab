//! The endpoints of an application at one moment, and whose turn it is.
//!
//! Owns the choice. Turns go round; who is not admitted is passed over; where nobody is admitted everybody is used, since
//! refusing all would be certain failure. One endpoint alone is used without asking about anything.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use authsome_core::entropy::Entropy;
use pingora::lb::Backend;
use pingora::lb::Extensions;
use pingora::lb::selection::{BackendIter, BackendSelection, RoundRobin};
use pingora::protocols::l4::socket::SocketAddr as PeerAddress;

use super::endpoint::{Attempt, Endpoint};
use super::health::HealthPolicy;
use super::retry::TRIES;

/// Of more addresses than this the rest is ignored: no application has as many instances.
pub const MAX_ENDPOINTS: usize = 1024;

/// The endpoints that a request has tried.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried([Option<SocketAddr>; TRIES]);

impl Tried {
    /// Remembers one more.
    pub fn add(&mut self, address: SocketAddr) {
        if let Some(free) = self.0.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(address);
        }
    }

    fn has(&self, address: SocketAddr) -> bool {
        self.0.contains(&Some(address))
    }

    fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }
}

/// Some endpoints.
pub struct Set {
    endpoints: Box<[Arc<Endpoint>]>,
    /// `None` for one endpoint or none.
    turns: Option<Arc<RoundRobin>>,
}

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.addresses()).finish()
    }
}

impl Set {
    /// Of these. An address counts once.
    pub(super) fn new(mut endpoints: Vec<Arc<Endpoint>>) -> Self {
        endpoints.sort_unstable_by_key(|endpoint| endpoint.address());
        endpoints.dedup_by_key(|endpoint| endpoint.address());
        endpoints.truncate(MAX_ENDPOINTS);
        for endpoint in &endpoints {
            endpoint.join_set();
        }
        let turns = (endpoints.len() > 1).then(|| {
            let backends: BTreeSet<Backend> = endpoints
                .iter()
                .map(|endpoint| {
                    let mut ext = Extensions::new();
                    ext.insert(Arc::clone(endpoint));
                    Backend {
                        addr: PeerAddress::Inet(endpoint.address()),
                        weight: 1,
                        ext,
                    }
                })
                .collect();
            Arc::new(RoundRobin::build(&backends))
        });
        Self {
            endpoints: endpoints.into(),
            turns,
        }
    }

    /// Is there nobody?
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Where they are.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.endpoints.iter().map(|endpoint| endpoint.address())
    }

    /// Does this authority, as an instance may name itself, lead to one of them?
    pub fn is_named_by(&self, authority: &str) -> bool {
        super::is_endpoint(self.addresses(), authority)
    }

    /// An endpoint for the next attempt of a request: one that is admitted and was not tried, else one that is admitted, else
    /// any. `None` only if there is none at all.
    pub(super) fn pick(
        &self,
        tried: &Tried,
        now: Instant,
        policy: &HealthPolicy,
        entropy: &dyn Entropy,
    ) -> Option<Attempt> {
        let Some(turns) = &self.turns else {
            // Whatever is believed of it, there is no other. That it failed and answers is still worth knowing.
            return Some(Attempt::new(Arc::clone(self.endpoints.first()?), None, now));
        };
        let admitted = |endpoint: &Arc<Endpoint>| {
            let admission = endpoint.admit(now, policy, entropy)?;
            Some(Attempt::new(Arc::clone(endpoint), Some(admission), now))
        };
        let mut turn = turns.iter(&[]);
        let first = Arc::clone(next(&mut turn)?);
        if !tried.has(first.address())
            && let Some(attempt) = admitted(&first)
        {
            return Some(attempt);
        }
        // Requests beside this one move the turn on, so it does not pass by everybody; the places after it do.
        let place = self.endpoints.iter().position(|other| Arc::ptr_eq(other, &first))?;
        let others = || self.endpoints[place..].iter().chain(&self.endpoints[..place]);
        let untried = || others().filter(|endpoint| !tried.has(endpoint.address()));
        if let Some(attempt) = untried()
            .skip(usize::from(!tried.has(first.address())))
            .find_map(admitted)
        {
            return Some(attempt);
        }
        if !tried.is_empty()
            && let Some(attempt) = others()
                .filter(|endpoint| tried.has(endpoint.address()))
                .find_map(admitted)
        {
            return Some(attempt);
        }
        let anybody = untried().next().unwrap_or(&first);
        Some(Attempt::new(Arc::clone(anybody), None, now))
    }
}

fn next(turn: &mut impl BackendIter) -> Option<&Arc<Endpoint>> {
    turn.next()?.ext.get::<Arc<Endpoint>>()
}

impl Drop for Set {
    fn drop(&mut self) {
        for endpoint in &self.endpoints {
            endpoint.leave_set();
        }
    }
}

#[cfg(test)]
mod tests;
