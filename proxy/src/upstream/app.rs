//! What the edge remembers of one application's instances, whatever its record says at the moment.
//!
//! Owns the health of its endpoints (an endpoint is its address, so it survives every change of the record), the number of its
//! requests that are on their way, and its budget of retries. Bounded: addresses that no set names any more are kept up to
//! [`MAX_KNOWN`], so that one which comes back soon is recognised.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::budget::{Budget, BudgetPolicy};
use super::endpoint::Endpoint;
use super::health::Health;
use super::probe::ProbeTarget;
use super::resolve::{Named, ServiceName};
use super::set::Set;

/// Addresses that are remembered though they are in no set.
pub const MAX_KNOWN: usize = 256;

/// One application.
#[derive(Debug)]
pub struct Upstream {
    /// When the last request came, milliseconds since the edge started.
    used: AtomicU64,
    requests: AtomicUsize,
    streams: AtomicUsize,
    pub(super) budget: Budget,
    known: Mutex<Known>,
    /// By the record that was last prepared.
    target: ArcSwapOption<ProbeTarget>,
}

#[derive(Debug, Default)]
struct Known {
    endpoints: HashMap<SocketAddr, Arc<Endpoint>>,
    /// The name that its endpoints come from, if they come from one.
    named: Option<Arc<Named>>,
}

/// Which of the two counts a request is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It ends.
    Request,
    /// It may go on for hours: an event stream or an upgraded connection.
    Stream,
}

/// A request in the count of its application, for as long as it lives.
#[derive(Debug)]
pub struct Permit {
    upstream: Arc<Upstream>,
    kind: Kind,
}

impl Upstream {
    pub(super) fn new(retry: BudgetPolicy, now: Duration) -> Self {
        Self {
            used: AtomicU64::new(millis(now)),
            requests: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            budget: Budget::new(retry, now),
            known: Mutex::default(),
            target: ArcSwapOption::empty(),
        }
    }

    /// Counts a request in, unless there are `cap` already.
    pub(super) fn enter(self: &Arc<Self>, kind: Kind, cap: usize, now: Duration) -> Option<Permit> {
        let now = millis(now);
        // Nobody needs it more exactly, and a store for each request would move the line between processors.
        if now.saturating_sub(self.used.load(Ordering::Relaxed)) >= 1000 {
            self.used.store(now, Ordering::Relaxed);
        }
        if self.count(kind).fetch_add(1, Ordering::Relaxed) >= cap {
            self.count(kind).fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Permit {
            upstream: Arc::clone(self),
            kind,
        })
    }

    /// How long ago the last request came, to the second.
    pub(super) fn idle_for(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.used.load(Ordering::Relaxed)))
    }

    /// How many requests there are now.
    pub fn in_flight(&self, kind: Kind) -> usize {
        self.count(kind).load(Ordering::Relaxed)
    }

    fn count(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::Request => &self.requests,
            Kind::Stream => &self.streams,
        }
    }

    /// These addresses as endpoints, with what is known of them. One that joins others may still be warming up.
    pub(super) fn set(&self, addresses: &[SocketAddr], now: Instant) -> Set {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let joins = addresses.iter().any(|address| known.endpoints.contains_key(address));
        let endpoints = addresses
            .iter()
            .take(super::set::MAX_ENDPOINTS)
            .map(|address| {
                let new = || {
                    let health = if joins { Health::joining(now) } else { Health::new() };
                    Arc::new(Endpoint::new(*address, health))
                };
                Arc::clone(known.endpoints.entry(*address).or_insert_with(new))
            })
            .collect();
        let set = Set::new(endpoints);
        if known.endpoints.len() > MAX_KNOWN {
            known.endpoints.retain(|_, endpoint| endpoint.is_listed());
        }
        set
    }

    /// How its endpoints are probed from now on.
    pub(super) fn probed_at(&self, target: ProbeTarget) {
        self.target.store(Some(Arc::new(target)));
    }

    pub(super) fn probe_target(&self) -> Option<Arc<ProbeTarget>> {
        self.target.load_full()
    }

    /// The follower of this name; the same one for as long as the name is. `beside` are further addresses.
    pub(super) fn named(self: &Arc<Self>, name: &ServiceName, beside: &[SocketAddr]) -> Arc<Named> {
        let named = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            match &known.named {
                Some(named) if named.name() == name => Arc::clone(named),
                _ => {
                    let named = Arc::new(Named::new(name.clone(), Arc::downgrade(self)));
                    known.named = Some(Arc::clone(&named));
                    named
                }
            }
        };
        named.put_beside(beside, Instant::now());
        named
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.known.lock().unwrap().endpoints.len()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.upstream.count(self.kind).fetch_sub(1, Ordering::Relaxed);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use authsome_core::entropy::SeededEntropy;

    use super::*;
    use crate::upstream::endpoint::Attempt;
    use crate::upstream::health::{HealthPolicy, Outcome};
    use crate::upstream::set::Tried;

    const RETRY: BudgetPolicy = BudgetPolicy {
        percent: 20,
        burst: 1,
        floor: 0,
    };

    fn upstream() -> Arc<Upstream> {
        Arc::new(Upstream::new(RETRY, Duration::ZERO))
    }

    fn address(number: u16) -> SocketAddr {
        let [high, low] = number.to_be_bytes();
        SocketAddr::from(([10, 0, high, low], 80))
    }

    #[test]
    fn no_more_requests_than_the_cap_are_let_in_and_streams_are_counted_by_themselves() {
        let upstream = upstream();
        let enter = |kind| upstream.enter(kind, 2, Duration::ZERO);
        let (first, second) = (enter(Kind::Request), enter(Kind::Request));
        assert!(first.is_some() && second.is_some());
        assert!(enter(Kind::Request).is_none());
        let stream = enter(Kind::Stream);
        assert!(stream.is_some());
        drop(first);
        assert!(
            enter(Kind::Request).is_some(),
            "room again, and the one refused took none"
        );
        assert_eq!(upstream.in_flight(Kind::Request), 1);
        drop((second, stream));
        assert_eq!(
            (upstream.in_flight(Kind::Request), upstream.in_flight(Kind::Stream)),
            (0, 0)
        );
    }

    #[test]
    fn what_is_known_of_an_endpoint_survives_every_change_of_the_record() {
        let (upstream, now) = (upstream(), Instant::now());
        let (policy, entropy) = (HealthPolicy::default(), SeededEntropy::new(1));
        let first = upstream.set(&[address(1), address(2)], now);
        let pick = |set: &Set| set.pick(&Tried::default(), now, &policy, &entropy).unwrap();
        let bad = loop {
            let mut attempt: Attempt = pick(&first);
            if attempt.endpoint().address() == address(1) {
                attempt.settle(Outcome::Failed, &policy, || now, &entropy);
            }
            if attempt.endpoint().is_ejected() {
                break Arc::clone(attempt.endpoint());
            }
        };
        drop(first);
        drop(upstream.set(&[address(3)], now));
        let later = upstream.set(&[address(1), address(2)], now);
        assert!(bad.is_ejected() && bad.is_listed());
        for _ in 0..10 {
            assert_eq!(pick(&later).endpoint().address(), address(2));
        }
    }

    #[test]
    fn endpoints_that_come_to_others_start_slowly_and_the_first_ones_do_not() {
        let (upstream, now) = (upstream(), Instant::now());
        let (policy, entropy) = (HealthPolicy::default(), SeededEntropy::new(1));
        let share = |set: &Set, of: u16| {
            (0..1000)
                .filter(|_| {
                    let attempt = set.pick(&Tried::default(), now, &policy, &entropy).unwrap();
                    attempt.endpoint().address() == address(of)
                })
                .count()
        };
        assert!(share(&upstream.set(&[address(1), address(2)], now), 2).abs_diff(500) < 10);
        let three = upstream.set(&[address(1), address(2), address(3)], now);
        assert!(share(&three, 3) < 100, "a tenth of a third");
    }

    #[test]
    fn addresses_that_nobody_names_are_forgotten_before_they_are_many() {
        let (upstream, now) = (upstream(), Instant::now());
        for number in 0..10_000 {
            drop(upstream.set(&[address(number)], now));
            assert!(upstream.known() <= MAX_KNOWN + 1);
        }
        let many: Vec<SocketAddr> = (0..5_000).map(address).collect();
        let set = upstream.set(&many, now);
        assert_eq!(set.len(), super::super::set::MAX_ENDPOINTS);
    }
}
