//! All applications' ways to their instances, and the edge's policy for them.
//!
//! Knows nothing of who forwards: every forwarding path takes its permits, its endpoints and its retries here, and says here
//! how its attempts went. An application is remembered for as long as its record is in use, and some minutes longer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use authsome_core::entropy::Entropy;
use authsome_core::id::ApplicationId;
use pingora::connectors::TransportConnector;
use tokio::sync::mpsc;

use super::app::{Kind, Permit, Upstream};
use super::budget::Budget;
use super::endpoint::{Attempt, Endpoint};
use super::health::{Change, Outcome};
use super::metrics::UpstreamMetrics;
use super::probe::Admissions;
use super::resolve::{self, Named};
use super::retry::{self, Failed, Next};
use super::set::Tried;
use super::settings::UpstreamSettings;
use super::tls::{Stamp, TlsFileError, TlsIdentity};
use super::{Prepared, Source};

/// An application that nobody asked for in this time, and whose record is no longer in use, is forgotten.
const REMEMBERED: Duration = Duration::from_mins(10);
/// Of more than this, those whose record is not in use are forgotten at once.
const MAX_UNUSED: usize = 65_536;

/// The ways to all instances.
pub struct Upstreams {
    settings: UpstreamSettings,
    entropy: Arc<dyn Entropy>,
    metrics: UpstreamMetrics,
    started: Instant,
    apps: Mutex<HashMap<ApplicationId, Arc<Upstream>>>,
    budget: Budget,
    wanted: mpsc::Sender<Arc<Named>>,
    admissions: Admissions,
    tls: ArcSwap<TlsIdentity>,
    /// Makes connections with TLS.
    secure: OnceLock<Arc<TransportConnector>>,
    /// Of the files when they were read first.
    tls_read: Stamp,
}

/// Names whose endpoints are wanted; for the service that resolves them.
pub type Wanted = mpsc::Receiver<Arc<Named>>;

impl Upstreams {
    /// None yet. `Wanted` belongs to the [service](super::service::UpstreamService).
    pub fn new(
        settings: UpstreamSettings,
        entropy: Arc<dyn Entropy>,
        metrics: UpstreamMetrics,
    ) -> Result<(Arc<Self>, Wanted), TlsFileError> {
        let (wanted, queue) = mpsc::channel(resolve::WANTED);
        let upstreams = Self {
            // Before they are read: a change meanwhile makes them be read again.
            tls_read: settings.tls.stamp(),
            budget: Budget::new(settings.retry_all, Duration::ZERO),
            tls: ArcSwap::from_pointee(settings.tls.load()?),
            secure: OnceLock::new(),
            settings,
            entropy,
            metrics,
            started: Instant::now(),
            apps: Mutex::default(),
            wanted,
            admissions: Admissions::default(),
        };
        Ok((Arc::new(upstreams), queue))
    }

    /// What is configured.
    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// What is remembered of this application, from now on if nothing was.
    pub fn of(&self, id: ApplicationId) -> Arc<Upstream> {
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Upstream::new(self.settings.retry, self.elapsed()));
        Arc::clone(apps.entry(id).or_insert_with(new))
    }

    /// Counts a request in, at this moment. `None`: its application has as many as it may.
    pub fn enter(&self, prepared: &Prepared, kind: Kind, now: Instant) -> Option<Permit> {
        let (cap, shed) = match kind {
            Kind::Request => (prepared.cap, &self.metrics.shed[0]),
            Kind::Stream => (self.settings.caps.streams, &self.metrics.shed[1]),
        };
        let permit = prepared
            .upstream
            .enter(kind, cap, now.saturating_duration_since(self.started));
        if permit.is_none() {
            shed.inc();
        }
        permit
    }

    /// Are there endpoints? Waits only for the first answer about a name that nobody has needed lately.
    pub async fn has_endpoints(&self, prepared: &Prepared) -> bool {
        match &prepared.source {
            Source::Fixed(set) => !set.is_empty(),
            Source::Named(named) => {
                if !named.is_known() {
                    let limit = if named.has_others() {
                        Duration::ZERO
                    } else {
                        self.settings.dns.timeout
                    };
                    named.known(&self.wanted, limit).await;
                }
                named.current().is_some()
            }
        }
    }

    /// Where the next attempt of a request goes, at this moment. `None`: there is no endpoint.
    pub fn attempt(&self, prepared: &Prepared, tried: &Tried, now: Instant) -> Option<Attempt> {
        let (policy, entropy) = (&self.settings.health, &*self.entropy);
        match &prepared.source {
            Source::Fixed(set) => set.pick(tried, now, policy, entropy),
            Source::Named(named) => named.current().as_ref()?.pick(tried, now, policy, entropy),
        }
    }

    /// A request is on its way for the first time.
    pub fn began(&self, prepared: &Prepared) {
        prepared.upstream.budget.deposit();
        self.budget.deposit();
    }

    /// An attempt ended, or its answer has begun. Only the first word about it counts.
    pub fn settle(&self, prepared: &Prepared, attempt: &mut Attempt, outcome: Outcome) {
        let change = attempt.settle(outcome, &self.settings.health, Instant::now, &*self.entropy);
        if let Some(change) = change {
            self.changed(attempt.endpoint(), change);
        }
        if change == Some(Change::Ejected) {
            self.admissions.add(&prepared.upstream, attempt.endpoint());
        }
    }

    /// The outcome of an answer with this status.
    pub fn outcome_of(&self, status: u16) -> Outcome {
        if self.settings.server_errors && status >= 500 {
            Outcome::Failed
        } else {
            Outcome::Answered
        }
    }

    /// May a failed attempt be followed by another, and where? The budgets have paid for it then.
    pub fn retry(&self, prepared: &Prepared, failed: &Failed) -> Option<Next> {
        let next = retry::next(failed)?;
        let now = self.elapsed();
        let own = &prepared.upstream.budget;
        if !own.withdraw(now) {
            self.metrics.refused_by_budget();
            return None;
        }
        if !self.budget.withdraw(now) {
            own.give_back();
            self.metrics.refused_by_budget();
            return None;
        }
        self.metrics.retried(next);
        Some(next)
    }

    /// A number that no other attempt has.
    pub fn salt(&self) -> u64 {
        self.entropy.next_u64()
    }

    /// Whom to trust and as whom to appear.
    pub fn tls(&self) -> arc_swap::Guard<Arc<TlsIdentity>> {
        self.tls.load()
    }

    /// Makes connections with TLS that are not in the library's pool. Reads whom the system trusts when it is asked for first.
    pub fn secure(&self) -> &Arc<TransportConnector> {
        self.secure.get_or_init(|| Arc::new(TransportConnector::new(None)))
    }

    pub(super) fn tls_read(&self) -> Stamp {
        self.tls_read
    }

    pub(super) fn replace_tls(&self, identity: TlsIdentity) {
        self.tls.store(Arc::new(identity));
    }

    pub(super) fn probed(&self, endpoint: &Endpoint, outcome: Outcome) {
        self.metrics.probed(outcome);
        let change = endpoint.probed(outcome, Instant::now(), &self.settings.health, &*self.entropy);
        if let Some(change) = change {
            self.changed(endpoint, change);
        }
    }

    fn changed(&self, endpoint: &Endpoint, change: Change) {
        self.metrics.changed(change);
        tracing::info!(endpoint = %endpoint.address(), ?change, "an endpoint's health changed");
    }

    /// Forgets what nobody needs any more.
    pub(super) fn sweep(&self) {
        let now = self.elapsed();
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let crowded = apps.len() > MAX_UNUSED;
        apps.retain(|_, app| Arc::strong_count(app) > 1 || !(crowded || app.idle_for(now) > REMEMBERED));
        self.metrics
            .applications
            .set(i64::try_from(apps.len()).unwrap_or(i64::MAX));
    }

    /// Since the edge started.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn entropy(&self) -> &dyn Entropy {
        &*self.entropy
    }

    pub(super) fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    pub(super) fn admissions(&self) -> &Admissions {
        &self.admissions
    }
}
