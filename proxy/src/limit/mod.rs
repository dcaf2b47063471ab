//! How much callers may ask for: rates, quotas, requests at once, connections.
//!
//! [`Limiter::judge`] decides about an admitted request from memory, with one compare-and-swap on the cell beside its key; it
//! knows nothing of how requests are forwarded. What several edges divide among themselves is negotiated in the background
//! ([`Leaser`]); Redis away, each has an equal share. Nothing here fails, and nothing a request calls waits.

mod address;
mod allowance;
mod cell;
mod connections;
pub mod gcra;
mod lease;
mod metrics;
mod month;
mod network;
mod overload;
mod settings;
mod share;
mod standing;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use authsome_contract::model::{AppRecord, Plan};
use http::HeaderValue;

use crate::admission::Admission;
use crate::error::Refusal;
use address::Addresses;
use gcra::{Moment, Verdict};
use lease::Active;
use metrics::Limited;
use overload::Load;
use share::Edges;

pub use allowance::{Allowed, LEAST_BURST};
pub use cell::{Cell, Seat, Subject};
pub use connections::{Callers, Connections, Open, TooMany};
pub use gcra::{Allowance, Share};
pub use lease::Leaser;
pub use metrics::LimitMetrics;
pub use overload::Occupied;
pub use settings::LimitSettings;
pub use standing::{By, Standing};

/// An admitted request whose cell has less than this part of its burst left is worth a lease.
const WORTH_A_LEASE: u32 = 4;

/// When a request is judged.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Milliseconds since the Unix epoch, for what the calendar decides.
    pub unix_ms: i64,
    /// For rates: a clock that is never set.
    pub moment: Moment,
}

/// What limits say of a request.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// Where its caller stands now.
    pub standing: Standing,
    /// Why it must not pass, if it must not.
    pub refusal: Option<Refusal>,
}

/// What limits keep beside an application, through every change of its record.
#[derive(Debug, Default)]
pub struct AppLimits {
    allowed: OnceLock<Box<Allowed>>,
    keyless: Seat,
}

impl AppLimits {
    /// What its record allows; worked out by the first request.
    pub fn allowed(&self, record: &AppRecord) -> &Allowed {
        self.allowed.get_or_init(|| Box::new(Allowed::of(record)))
    }

    /// For the successor of the record.
    #[must_use]
    pub fn handed_over(&self) -> Self {
        Self {
            allowed: OnceLock::new(),
            keyless: self.keyless.handed_over(),
        }
    }
}

/// Judges requests. Clones share everything.
#[derive(Clone)]
pub struct Limiter(Arc<Inner>);

struct Inner {
    began: Instant,
    addresses: Addresses,
    load: Load,
    /// Of [`Edges`]: the count, with [`LEASING`] while there are leases.
    edges: AtomicU32,
    active: Active,
    metrics: LimitMetrics,
}

const LEASING: u32 = 1 << 31;

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter")
            .field("edges", &self.edges())
            .finish_non_exhaustive()
    }
}

impl Limiter {
    /// A limiter whose time begins at `began`.
    pub fn new(settings: &LimitSettings, metrics: LimitMetrics, began: Instant) -> Self {
        Self(Arc::new(Inner {
            began,
            addresses: Addresses::new(settings.refusals_per_address),
            load: Load::new(settings.in_flight),
            edges: AtomicU32::new(settings.assumed_edges),
            active: Active::new(),
            metrics,
        }))
    }

    /// This instant for [`Now::moment`].
    pub fn moment_of(&self, instant: Instant) -> Moment {
        let elapsed = instant.saturating_duration_since(self.0.began);
        // 584 years.
        Moment::after_nanos(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }

    fn moment(&self) -> Moment {
        self.moment_of(Instant::now())
    }

    /// Counts a request that has just come, whoever sent it.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`]: too many are under way already.
    pub fn enter(&self) -> Result<Occupied, Refusal> {
        self.0.load.enter().map_err(|_| {
            self.0.metrics.shed(None);
            Refusal::Overloaded
        })
    }

    /// May a request of this plan go on, with what else is under way?
    ///
    /// # Errors
    /// [`Refusal::Overloaded`]: what room there is is kept for higher plans.
    pub fn make_room(&self, plan: Plan) -> Result<(), Refusal> {
        if self.0.load.has_room_for(plan) {
            return Ok(());
        }
        self.0.metrics.shed(Some(plan));
        Err(Refusal::Overloaded)
    }

    /// Judges an admitted request. `client`: where it came from, if that is known.
    pub fn judge(&self, admission: &Admission, client: Option<IpAddr>, now: Now) -> Judgement {
        let app = &admission.app;
        let allowed = app.limits.allowed(&app.record);
        if app.record.quota_exhausted {
            return self.month_is_used_up(&app.record, now);
        }
        let edges = self.edges();
        let (by, cell) = if let Some(key) = &admission.key {
            (By::Key, key.limit.cell(|| Subject::Key(key.record.id), now.moment))
        } else {
            let refused = client.and_then(|client| self.keyless_refused(admission, client, allowed, now));
            if let Some(refused) = refused {
                return refused;
            }
            let subject = || Subject::Application(app.record.id);
            (By::Application, app.limits.keyless.cell(subject, now.moment))
        };
        let verdict = cell.take(allowed.each, edges.unleased(), now.moment);
        if edges.leases() && verdict.remaining < allowed.each.burst() - allowed.each.burst() / WORTH_A_LEASE {
            self.0.active.offer(cell, allowed.each);
        }
        let limited = match by {
            By::Key => Limited::Key,
            By::Application | By::Month => Limited::Application,
        };
        self.judged(by, allowed, allowed.each, &verdict, limited)
    }

    /// One address must not use up what an application allows to all that come without a key.
    fn keyless_refused(&self, admission: &Admission, client: IpAddr, allowed: &Allowed, now: Now) -> Option<Judgement> {
        let allowance = allowed.keyless_address;
        let id = admission.app.record.id;
        let verdict = self.0.addresses.keyless(id, client, allowance, now.moment);
        (!verdict.admitted).then(|| self.judged(By::Application, allowed, allowance, &verdict, Limited::KeylessAddress))
    }

    fn judged(
        &self,
        by: By,
        allowed: &Allowed,
        allowance: Allowance,
        verdict: &Verdict,
        limited: Limited,
    ) -> Judgement {
        let [key, application] = &allowed.policies;
        let policy = if by == By::Key { key } else { application };
        if !verdict.admitted {
            self.0.metrics.limited(limited);
        }
        Judgement {
            standing: Standing::new(by, policy.clone(), allowance, verdict),
            refusal: (!verdict.admitted).then(|| Refusal::RateLimited(wait_seconds(verdict))),
        }
    }

    fn month_is_used_up(&self, record: &AppRecord, now: Now) -> Judgement {
        self.0.metrics.limited(Limited::Month);
        let seconds = month::seconds_to_next(now.unix_ms);
        let contract = record.limits.and_then(|limits| limits.requests_per_month);
        let most = contract.map_or(record.plan.edge_limits().requests_per_month, |most| Some(most.get()));
        let policy = match most {
            Some(most) => HeaderValue::from_str(&format!("\"month\";q={most}")).ok(),
            None => None,
        };
        Judgement {
            standing: Standing::month_is_used_up(
                policy.unwrap_or(HeaderValue::from_static("\"month\"")),
                most.map_or(0, |most| u32::try_from(most).unwrap_or(u32::MAX)),
                seconds,
            ),
            // At most a month of seconds.
            refusal: Some(Refusal::QuotaExhausted(u32::try_from(seconds).unwrap_or(u32::MAX))),
        }
    }

    /// What is answered to credentials that were refused with `refusal`: the same, until their address has had too many of
    /// those.
    pub fn refused(&self, refusal: Refusal, client: Option<IpAddr>, now: Moment) -> Refusal {
        let Some(client) = client.filter(|_| refusal.asks_for_credential()) else {
            return refusal;
        };
        let verdict = self.0.addresses.refused(client, now);
        if verdict.admitted {
            return refusal;
        }
        self.0.metrics.limited(Limited::RefusalsAddress);
        Refusal::RateLimited(wait_seconds(&verdict))
    }

    fn edges(&self) -> Edges {
        let packed = self.0.edges.load(Ordering::Relaxed);
        Edges::new(packed & !LEASING, packed & LEASING != 0)
    }

    fn set_edges(&self, edges: Edges) {
        let leasing = if edges.leases() { LEASING } else { 0 };
        self.0
            .edges
            .store(edges.count() & !LEASING | leasing, Ordering::Relaxed);
    }

    fn active(&self) -> &Active {
        &self.0.active
    }

    /// What was counted.
    pub fn metrics(&self) -> &LimitMetrics {
        &self.0.metrics
    }
}

/// Whole seconds, at least one: a client that waits so long may pass.
fn wait_seconds(verdict: &Verdict) -> u32 {
    u32::try_from(verdict.retry_after_ms.div_ceil(1000))
        .unwrap_or(u32::MAX)
        .max(1)
}
