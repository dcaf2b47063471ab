//! Dividing rates among edges, in the background.
//!
//! Four times a second the edge says in Redis that it is there, and asks for a share of each subject that is active here, by
//! what is asked of it here. A share is the edge's own for one second from the moment it was asked for. Redis away: the
//! shares run out, and each edge has an equal share of every rate, by the number of edges that NATS tells of or that was last
//! known. Nothing here is ever waited for by a request.
//!
//! Declared error: one burst for each edge, and twice the rate for one second when Redis loses its data or while the number of
//! edges changes.

mod active;
mod census;
mod neighbours;
mod redis;

use std::sync::Arc;
use std::time::Duration;

use authsome_core::entropy::Entropy;
use authsome_core::secret::SecretUrl;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::Limiter;
use super::cell::Cell;
use super::gcra::{Allowance, Share};
use super::share::Edges;
use crate::redis::RedisAddressError;
use census::Census;
use neighbours::Neighbours;
use redis::{Away, Ledger, Want};

pub(super) use active::{Active, Offered};

/// Between two rounds.
const PACE: Duration = Duration::from_millis(250);
/// For how long a share is an edge's own.
const LEASE: Duration = Duration::from_secs(1);
const LEASE_MS: u32 = 1000;
/// For how long an edge counts that is silent.
const STAY: Duration = Duration::from_secs(3);
/// Subjects whose shares are negotiated at once. Others that are active have an equal share.
const SUBJECTS: usize = 4096;
/// Asked for in one pipeline.
const AT_ONCE: usize = 256;
/// A subject that was content without a lease for so many rounds is taken off the list.
const CONTENT_ROUNDS: u32 = 8;

/// One subject whose share is negotiated.
#[derive(Debug)]
struct Held {
    cell: Arc<Cell>,
    allowance: Allowance,
    /// [`Cell::asked`] at the last round.
    asked: u64,
    /// What is asked of this edge, in 4096ths of the rate.
    demand: u64,
    /// Number of the last answer.
    seen: u64,
    content: u32,
}

impl Held {
    fn new(offered: Offered) -> Self {
        let Offered { cell, allowance } = offered;
        Self {
            asked: cell.asked(),
            cell,
            allowance,
            // It has just used up a quarter of its burst.
            demand: u64::from(Share::PARTS) / 4,
            seen: 0,
            content: 0,
        }
    }

    /// Measures what was asked in the time since the last round. False once it needs no lease any more.
    fn measure(&mut self, elapsed: Duration, edges: Edges) -> bool {
        let asked = self.cell.asked();
        let new = asked.saturating_sub(self.asked);
        self.asked = asked;
        self.demand = smoothed(self.demand, parts(new, elapsed, self.allowance));
        if self.demand <= u64::from(edges.unleased().parts()) {
            self.content += 1;
        } else {
            self.content = 0;
        }
        self.content < CONTENT_ROUNDS
    }

    fn want(&self, edges: Edges) -> Want {
        Want {
            subject: self.cell.subject(),
            parts: self.demand.saturating_sub(u64::from(edges.unleased().parts())),
            seen: self.seen,
        }
    }
}

/// So many requests in this time, in 4096ths of the rate; at most all of it.
fn parts(requests: u64, elapsed: Duration, allowance: Allowance) -> u64 {
    let whole = u128::from(allowance.per_second()) * elapsed.as_millis().max(1);
    let parts = u128::from(requests) * 1000 * u128::from(Share::PARTS) / whole.max(1);
    u64::try_from(parts).unwrap_or(u64::MAX).min(u64::from(Share::PARTS))
}

/// Up at once, down by half in each round: requests come in bunches.
const fn smoothed(before: u64, measured: u64) -> u64 {
    let half = before.midpoint(measured);
    if measured > half { measured } else { half }
}

/// Negotiates for one edge. Runs in the store's runtime.
pub struct Leaser {
    limiter: Limiter,
    redis: SecretUrl,
    edge: String,
    assumed: u32,
}

impl Leaser {
    /// For this edge, whose name among the others is random; `assumed` edges share the limits until something else is known.
    pub fn new(limiter: Limiter, redis: SecretUrl, assumed: u32, entropy: &dyn Entropy) -> Self {
        Self {
            limiter,
            redis,
            edge: format!("{:016x}", entropy.next_u64()),
            assumed,
        }
    }

    /// Until `shutdown` holds true; then this edge leaves.
    ///
    /// # Errors
    /// An address that cannot be used.
    pub async fn run(
        self,
        nats: async_nats::Client,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<(), RedisAddressError> {
        let ledger = Ledger::connect(&self.redis, self.edge)?;
        let neighbours = Neighbours::default();
        let mut negotiation = Negotiation {
            limiter: self.limiter,
            census: Census::new(self.assumed),
            known: false,
            contact: None,
            away: false,
            held: Vec::new(),
            last: Instant::now(),
        };
        let mut rounds = tokio::time::interval(PACE);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let rounds = async {
            loop {
                rounds.tick().await;
                negotiation.round(&ledger, &neighbours).await;
            }
        };
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => {}
            () = neighbours.listen(&nats) => {}
            () = rounds => {}
        }
        // In vain or not: without it the others count this edge for a moment longer.
        let _ = ledger.edges(Duration::ZERO).await;
        Ok(())
    }
}

struct Negotiation {
    limiter: Limiter,
    census: Census,
    /// Is the census from anything but an assumption?
    known: bool,
    /// When Redis last answered.
    contact: Option<Instant>,
    /// Was it said in the log that Redis is away?
    away: bool,
    held: Vec<Held>,
    last: Instant,
}

impl Negotiation {
    async fn round(&mut self, ledger: &Ledger, neighbours: &Neighbours) {
        match self.try_round(ledger).await {
            Ok(()) => {
                if std::mem::take(&mut self.away) {
                    tracing::info!(edges = self.census.count(), "shares of rate limits are leased again");
                }
            }
            Err(error) => self.failed(&error, neighbours),
        }
        self.tell();
        self.end_leases();
    }

    async fn try_round(&mut self, ledger: &Ledger) -> Result<(), Away> {
        let asked_at = Instant::now();
        let count = ledger.edges(STAY).await?;
        self.contact = Some(asked_at);
        self.heard_of(count);
        self.tell();
        let edges = self.edges();
        let elapsed = self.last.elapsed();
        self.last = Instant::now();
        self.enrol(edges);
        if !edges.leases() {
            self.held.drain(..).for_each(|held| held.cell.unlist());
            return Ok(());
        }
        self.held.retain_mut(|held| {
            let stays = held.measure(elapsed, edges);
            if !stays {
                held.cell.unlist();
            }
            stays
        });
        for held in self.held.chunks_mut(AT_ONCE) {
            let wants: Vec<Want> = held.iter().map(|held| held.want(edges)).collect();
            let now = self.limiter.moment();
            let shares = ledger.shares(&wants, LEASE).await?;
            let until = now.plus_millis(LEASE_MS);
            let now = self.limiter.moment();
            for (held, (number, parts)) in held.iter_mut().zip(shares) {
                held.seen = number;
                held.cell.lease(edges.leased(parts), until, held.allowance, now);
            }
        }
        Ok(())
    }

    /// Takes what requests have offered.
    fn enrol(&mut self, edges: Edges) {
        let now = self.limiter.moment();
        for offered in self.limiter.active().take() {
            if self.held.len() < SUBJECTS {
                self.held.push(Held::new(offered));
                continue;
            }
            // Offered again by its next request once this has run out.
            let until = now.plus_millis(LEASE_MS);
            offered.cell.lease(edges.equal(), until, offered.allowance, now);
            offered.cell.unlist();
            self.limiter.metrics().left_out.inc();
        }
    }

    fn failed(&mut self, error: &Away, neighbours: &Neighbours) {
        self.limiter.metrics().failures.inc();
        if self.is_leasing() {
            return;
        }
        if let Some(count) = neighbours.count(Instant::now()) {
            self.heard_of(count);
        }
        if !std::mem::replace(&mut self.away, true) {
            let edges = self.census.count();
            tracing::warn!(%error, edges, "shares of rate limits cannot be leased; every edge has an equal share");
        }
    }

    fn heard_of(&mut self, count: u32) {
        if std::mem::replace(&mut self.known, true) {
            self.census.heard_of(count, Instant::now());
        } else {
            self.census.begin(count);
        }
    }

    /// A lease that was given before the last answer may still hold for so long.
    fn is_leasing(&self) -> bool {
        self.contact.is_some_and(|at| at.elapsed() < LEASE)
    }

    fn edges(&self) -> Edges {
        Edges::new(self.census.count(), self.is_leasing())
    }

    /// Tells the requests.
    fn tell(&self) {
        let edges = self.edges();
        self.limiter.set_edges(edges);
        let metrics = self.limiter.metrics();
        metrics.edges.set(i64::from(edges.count()));
        metrics.leasing.set(i64::from(self.is_leasing()));
        metrics.leases.set(i64::try_from(self.held.len()).unwrap_or(i64::MAX));
    }

    fn end_leases(&self) {
        let (otherwise, now) = (self.edges().unleased(), self.limiter.moment());
        for held in &self.held {
            held.cell.end_lease(held.allowance, otherwise, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn demand_is_a_part_of_the_rate_and_never_more_than_all() {
        let hundred = NonZeroU32::new(100).unwrap();
        let allowance = Allowance::new(hundred, hundred);
        let quarter = Duration::from_millis(250);
        assert_eq!(parts(0, quarter, allowance), 0);
        assert_eq!(parts(5, quarter, allowance), 819, "20 a second of 100");
        assert_eq!(parts(25, quarter, allowance), 4096);
        assert_eq!(parts(u64::MAX, Duration::ZERO, allowance), 4096);
    }

    #[test]
    fn demand_rises_at_once_and_falls_by_halves() {
        assert_eq!(smoothed(0, 4000), 4000);
        assert_eq!(smoothed(4000, 0), 2000);
        assert_eq!(smoothed(1, 0), 0);
    }
}
