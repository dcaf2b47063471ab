//! One address of an application, with what is believed of it.
//!
//! Owns the lock around the state machine. An endpoint without a blemish is used without it: one flag says that there is
//! nothing to look up and nothing to change.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use authsome_core::entropy::Entropy;

use super::health::{Admission, Change, Health, HealthPolicy, Outcome};

/// An address and its health. At most one is alive for an address of an application.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    /// [`Health::is_plain`] of what the lock holds.
    plain: AtomicBool,
    health: Mutex<Health>,
    /// Sets that it is in.
    sets: AtomicUsize,
    /// It is among those that are probed.
    attended: AtomicBool,
}

impl Endpoint {
    pub(super) fn new(address: SocketAddr, health: Health) -> Self {
        Self {
            address,
            plain: AtomicBool::new(health.is_plain()),
            health: Mutex::new(health),
            sets: AtomicUsize::new(0),
            attended: AtomicBool::new(false),
        }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does it get no ordinary requests?
    pub fn is_ejected(&self) -> bool {
        !self.is_plain() && self.lock().is_ejected()
    }

    /// Is it among the endpoints of its application now?
    pub(super) fn is_listed(&self) -> bool {
        self.sets.load(Ordering::Relaxed) > 0
    }

    /// Puts it among those that are probed; true if it is there already.
    pub(super) fn attend(&self) -> bool {
        self.attended.swap(true, Ordering::AcqRel)
    }

    /// It is no longer among those that are probed.
    pub(super) fn discharge(&self) {
        self.attended.store(false, Ordering::Release);
    }

    pub(super) fn join_set(&self) {
        self.sets.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave_set(&self) {
        self.sets.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn admit(&self, now: Instant, policy: &HealthPolicy, entropy: &dyn Entropy) -> Option<Admission> {
        if self.is_plain() {
            return Some(Admission::Open);
        }
        self.change(|health| health.admit(now, policy, entropy))
    }

    pub(super) fn probe_at(&self) -> Option<Instant> {
        self.lock().probe_at()
    }

    pub(super) fn probe(&self, now: Instant) -> bool {
        self.change(|health| health.probe(now))
    }

    pub(super) fn probed(
        &self,
        outcome: Outcome,
        now: Instant,
        policy: &HealthPolicy,
        entropy: &dyn Entropy,
    ) -> Option<Change> {
        self.change(|health| health.probed(outcome, now, policy, entropy))
    }

    fn is_plain(&self) -> bool {
        self.plain.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        // Every change leaves a valid state, so one that panicked did too.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Health) -> T) -> T {
        let mut health = self.lock();
        let result = change(&mut health);
        self.plain.store(health.is_plain(), Ordering::Relaxed);
        result
    }
}

/// A request on its way to an endpoint. What it met is said once; dropped, it says nothing.
#[derive(Debug)]
pub struct Attempt {
    endpoint: Arc<Endpoint>,
    admission: Option<Admission>,
    began: Instant,
    settled: bool,
}

impl Attempt {
    pub(super) fn new(endpoint: Arc<Endpoint>, admission: Option<Admission>, began: Instant) -> Self {
        Self {
            endpoint,
            admission,
            began,
            settled: false,
        }
    }

    /// Another attempt at the same endpoint, in the same place: the first one never reached it.
    pub(super) fn again(self) -> Self {
        // A trial that said nothing is over with this one, and the next may already be under way.
        Self::new(Arc::clone(&self.endpoint), None, Instant::now())
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Says how it went. Only the first word counts. `now` and randomness are asked for only if they matter.
    pub(super) fn settle(
        &mut self,
        outcome: Outcome,
        policy: &HealthPolicy,
        now: impl FnOnce() -> Instant,
        entropy: &dyn Entropy,
    ) -> Option<Change> {
        if std::mem::replace(&mut self.settled, true) {
            return None;
        }
        if outcome != Outcome::Failed && self.endpoint.is_plain() {
            return None;
        }
        let now = now();
        self.endpoint
            .change(|health| health.observe(outcome, self.admission, self.began, now, policy, entropy))
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.settled && self.admission == Some(Admission::Trial) {
            let began = self.began;
            self.endpoint.change(|health| health.release(began));
        }
    }
}
