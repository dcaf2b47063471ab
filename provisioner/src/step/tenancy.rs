//! A share of what applications have in common, kept apart from the others by recorded credentials.
//!
//! Owns the order in which such a share is made and taken away, the same whatever it is a share of. A dependency that is
//! away is [`StepError::Retry`]; the engine tries again.

use async_trait::async_trait;
use authsome_contract::model::Step;

use super::waiting::unless_hindered;
use super::{Observed, Outcome, StepAction, StepContext, StepError, observed};
use crate::credentials::{self, Credentials};
use crate::db;

/// One kind of share. All methods may be called any number of times.
#[async_trait]
pub(super) trait Tenancy: Send + Sync {
    /// The step that makes it.
    const STEP: Step;
    /// What the customer reads beside the step once it is there.
    const DONE: &'static str;

    /// What is missing or different.
    async fn differences(&self, cx: &StepContext<'_>, credentials: &Credentials) -> Result<Vec<String>, StepError>;

    /// Makes it so.
    async fn ensure(&self, cx: &StepContext<'_>, credentials: &Credentials) -> Result<(), StepError>;

    /// Takes it away, while the lease is held.
    async fn remove(&self, cx: &StepContext<'_>) -> Result<(), StepError>;

    /// Clears up what nobody can reach any more after [`Self::remove`]. The lease is not held.
    async fn clear(&self, _cx: &StepContext<'_>) -> Result<(), StepError> {
        Ok(())
    }
}

#[async_trait]
impl<T: Tenancy> StepAction for T {
    fn step(&self) -> Step {
        T::STEP
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Observed, StepError> {
        let ring = &cx.facilities.ring;
        let Some(credentials) = credentials::recorded(cx.pool, ring, cx.intent.application_id).await? else {
            return Ok(Observed::Needed("no credentials are recorded".to_owned()));
        };
        Ok(observed(&self.differences(cx, &credentials).await?))
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<Outcome, StepError> {
        let facilities = cx.facilities;
        cx.record_strategies().await?;
        // Recorded first: a worker that dies in the next line leaves passwords that its successor knows.
        let credentials = credentials::ensure(cx.pool, &facilities.ring, cx.fence, &*facilities.entropy).await?;
        unless_hindered(cx, T::STEP, T::STEP, self.ensure(cx, &credentials)).await?;
        Ok(Outcome::done(T::DONE))
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        // While this transaction lives, nobody can take the lease over and begin to build what is being destroyed.
        let mut hold = cx.pool.begin().await.map_err(db::RecordError::from)?;
        db::lease::hold(&mut hold, cx.fence).await?;
        self.remove(cx).await?;
        hold.commit().await.map_err(db::RecordError::from)?;
        self.clear(cx).await
    }
}
