//! The lease on an application: who may work on it, and the proof of it that every step carries.
//!
//! Owns the renewal of a lease while it is held, and [`Fence`], which answers at any moment whether there is time left.
//! The lease itself is a row in Postgres, timed by Postgres' clock; here its end is reckoned from the moment before the
//! statement was sent, so this side always believes it ends earlier than it does. When Postgres cannot be reached the lease
//! runs out: the fence closes, the worker stops at once, and whoever takes the lease next observes and goes on.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use authsome_core::error::Chain;
use authsome_core::id::ApplicationId;
use authsome_db::DbError;
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::db;

/// How long a lease lasts unless it is renewed: a dead worker's application waits this long for the next one. Renewed every
/// third, it always has two thirds left, which is more than the longest call of a step
/// ([`LONGEST_CALL`](crate::step::LONGEST_CALL)) may take.
pub const LIFETIME: Duration = Duration::from_secs(40);

/// How long giving a lease back may take. One that is not given back runs out by itself.
const RELEASE: Duration = Duration::from_secs(3);

/// The lease is lost or has less time left than was asked for. Whoever sees it stops at once and records nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lease on the application is lost or too near its end")]
pub struct Fenced;

/// Why a bounded call under a lease has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The call was not made, or was dropped: see [`Fenced`].
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The call took longer than it may.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

/// The right to act for an application, at one epoch of its lease. Clones are the same.
#[derive(Clone)]
pub struct Fence(Arc<Inner>);

struct Inner {
    application_id: ApplicationId,
    holder: Arc<str>,
    epoch: i64,
    /// Moves with every renewal; `lost` is final.
    deadline: Mutex<Instant>,
    lost: CancellationToken,
}

impl Fence {
    fn new(application_id: ApplicationId, holder: Arc<str>, epoch: i64, deadline: Instant) -> Self {
        Self(Arc::new(Inner {
            application_id,
            holder,
            epoch,
            deadline: Mutex::new(deadline),
            lost: CancellationToken::new(),
        }))
    }

    /// For looking without a lease, for at most `limit`: its epoch is one that no lease has, so nothing can be recorded
    /// with it.
    pub fn observer(application_id: ApplicationId, limit: Duration) -> Self {
        Self::new(application_id, "observer".into(), 0, Instant::now() + limit)
    }

    /// The application that the lease is on.
    pub fn application_id(&self) -> ApplicationId {
        self.0.application_id
    }

    /// The worker that holds it, as in the row.
    pub fn holder(&self) -> &str {
        &self.0.holder
    }

    /// The fencing token. A write that names it is refused once another worker has taken over.
    pub fn epoch(&self) -> i64 {
        self.0.epoch
    }

    /// When the lease ends unless it is renewed.
    pub fn deadline(&self) -> Instant {
        *self.0.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much of the lease is left; zero once it is lost.
    pub fn remaining(&self) -> Duration {
        if self.0.lost.is_cancelled() {
            Duration::ZERO
        } else {
            self.deadline().saturating_duration_since(Instant::now())
        }
    }

    /// Is there enough of the lease left for a call that may take `needed`?
    pub fn check(&self, needed: Duration) -> Result<(), Fenced> {
        if self.remaining() > needed { Ok(()) } else { Err(Fenced) }
    }

    /// Makes a call outside the process: not at all with less lease left than `limit`, and for no longer than `limit`. The
    /// future is dropped when the lease is lost.
    pub async fn call<T>(&self, limit: Duration, call: impl Future<Output = T>) -> Result<T, CallError> {
        self.check(limit)?;
        tokio::select! {
            biased;
            () = self.0.lost.cancelled() => Err(CallError::Fenced(Fenced)),
            result = tokio::time::timeout(limit, call) => result.map_err(|_| CallError::TimedOut(limit)),
        }
    }

    /// Waits until the lease is lost. For a select beside what must then stop.
    pub async fn lost(&self) {
        self.0.lost.cancelled().await;
    }

    fn extend(&self, deadline: Instant) {
        *self.0.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Fence({} epoch {}, {:?} left)",
            self.0.application_id,
            self.0.epoch,
            self.remaining()
        )
    }
}

/// What asking for a lease came to.
#[derive(Debug)]
pub enum Taken {
    /// It is ours.
    Lease(Lease),
    /// Another worker has it, for at most this long unless it renews.
    Busy(Duration),
}

/// A lease that is held and renewed every third of its time. Dropped, it is renewed no more and runs out by itself, as if the
/// process had been killed; [`Lease::release`] gives it back at once.
#[derive(Debug)]
pub struct Lease {
    fence: Fence,
    pool: PgPool,
    renewal: JoinHandle<()>,
}

impl Lease {
    /// Takes the lease if it is free or has run out. The epoch grows with every taking.
    pub async fn take(
        pool: &PgPool,
        application_id: ApplicationId,
        holder: &Arc<str>,
        lifetime: Duration,
    ) -> Result<Taken, DbError> {
        let asked = Instant::now();
        let epoch = match db::lease::take(pool, application_id, holder, lifetime).await? {
            db::lease::Take::Epoch(epoch) => epoch,
            db::lease::Take::Busy(remaining) => return Ok(Taken::Busy(remaining)),
        };
        let fence = Fence::new(application_id, Arc::clone(holder), epoch, asked + lifetime);
        let renewal = tokio::spawn(renew(pool.clone(), fence.clone(), lifetime));
        Ok(Taken::Lease(Self {
            fence,
            pool: pool.clone(),
            renewal,
        }))
    }

    /// The proof that steps carry.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Gives the lease back, so that the next worker need not wait for its end.
    pub async fn release(self) {
        self.renewal.abort();
        self.fence.0.lost.cancel();
        let outcome = tokio::time::timeout(RELEASE, db::lease::release(&self.pool, &self.fence)).await;
        let error = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => Chain(&error).to_string(),
            Err(_) => format!("no answer within {RELEASE:?}"),
        };
        tracing::warn!(application = %self.fence.application_id(), %error, "lease not given back; it runs out by itself");
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

async fn renew(pool: PgPool, fence: Fence, lifetime: Duration) {
    let interval = lifetime / 3;
    let mut pause = interval;
    loop {
        tokio::time::sleep(pause).await;
        let asked = Instant::now();
        match tokio::time::timeout_at(fence.deadline(), db::lease::renew(&pool, &fence, lifetime)).await {
            Ok(Ok(true)) => {
                fence.extend(asked + lifetime);
                pause = interval;
                continue;
            }
            Ok(Ok(false)) => tracing::warn!(lease = ?fence, "lease taken over by another worker"),
            Ok(Err(error)) if fence.remaining() > Duration::ZERO => {
                tracing::warn!(lease = ?fence, error = %Chain(&error), "lease not renewed; trying again");
                pause = (interval / 4).min(fence.remaining());
                continue;
            }
            Ok(Err(_)) | Err(_) => tracing::warn!(lease = ?fence, "lease ran out before it could be renewed"),
        }
        fence.0.lost.cancel();
        return;
    }
}

#[cfg(test)]
mod tests {
    use authsome_core::clock::ManualClock;
    use authsome_core::entropy::SeededEntropy;

    use super::*;

    fn fence(remaining: Duration) -> Fence {
        let id = ApplicationId::generate(&ManualClock::default(), &SeededEntropy::new(1));
        Fence::new(id, "worker".into(), 7, Instant::now() + remaining)
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_starts_with_less_lease_left_than_its_limit() {
        let fence = fence(Duration::from_secs(10));
        let called = fence
            .call(Duration::from_secs(10), async { panic!("must not be polled") })
            .await;
        assert_eq!(called, Err::<(), _>(CallError::Fenced(Fenced)));
        assert_eq!(fence.call(Duration::from_secs(9), async { 3 }).await, Ok(3));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(fence.check(Duration::from_secs(9)), Err(Fenced));
        assert_eq!(fence.check(Duration::from_secs(4)), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_at_its_limit() {
        let limit = Duration::from_secs(2);
        let ended = fence(Duration::from_secs(10))
            .call(limit, std::future::pending::<()>())
            .await;
        assert_eq!(ended, Err(CallError::TimedOut(limit)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_lease_drops_the_call_and_leaves_no_time() {
        let fence = fence(Duration::from_secs(10));
        let losing = fence.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            losing.0.lost.cancel();
        });
        let ended = fence.call(Duration::from_secs(5), std::future::pending::<()>()).await;
        assert_eq!(ended, Err(CallError::Fenced(Fenced)));
        assert_eq!(
            (fence.remaining(), fence.check(Duration::ZERO)),
            (Duration::ZERO, Err(Fenced))
        );
    }
}
