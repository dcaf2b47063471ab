//! Carrying out one operation: lease, intent, plan, then step by step observe, apply, record.
//!
//! Owns the order of things and what each failure leads to. It may be killed at any instruction: whatever was done is found
//! by observing, whatever was recorded is in the ledger, and the lease runs out. A step that fails is tried again later
//! with the operation, [`ATTEMPTS`] times in all, or until it is done where something is taken away; a lost lease stops everything at once and records nothing. Without Postgres
//! nothing is begun, and what is under way stops when its lease runs out.

mod attempt;

use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::Step;
use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use authsome_core::id::{ApplicationId, OperationId};
use authsome_core::retry::Backoff;
use authsome_db::DbError;
use authsome_db::operation::{self, Operation};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use attempt::Attempt;
pub(crate) use attempt::caught;

use crate::db::{self, RecordError};
use crate::lease::{Fence, Lease, Taken};
use crate::ledger::{ATTEMPTS, Ledger, Recorded};
use crate::metrics::{Metrics, OperationOutcome};
use crate::plan::{self, Decision, Intent, Planned, Verdict};
use crate::step::{self, Facilities, StepAction, StepContext};

/// How long Postgres may take to answer before a lease is held. Under a lease, the lease bounds everything.
const LOOK: Duration = Duration::from_secs(10);

/// The wait after the first failed attempt is at most 5 s, after the second at most 15 s.
pub const RETRY: Backoff = Backoff {
    base: Duration::from_secs(5),
    factor: 3.0,
    max: Duration::from_mins(1),
};

/// How much longer the longest wait is between attempts of what is tried until it is done.
const LASTING: u32 = 10;

/// Where the actions of steps come from.
pub trait Actions: Send + Sync {
    /// The action of a step.
    fn of(&self, step: Step) -> &dyn StepAction;
}

/// The actions that this program has.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuiltIn;

impl Actions for BuiltIn {
    fn of(&self, step: Step) -> &dyn StepAction {
        step::action(step)
    }
}

/// What executions need; one for the process.
pub struct Engine {
    /// The control database.
    pub pool: PgPool,
    /// The name of this worker in leases. Unique for every start of a process.
    pub holder: Arc<str>,
    /// The steps.
    pub actions: Arc<dyn Actions>,
    /// What steps work with.
    pub facilities: Arc<Facilities>,
    /// How long a lease lasts unless renewed.
    pub lease_lifetime: Duration,
    /// The wait between attempts.
    pub retry: Backoff,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for ids and jitter.
    pub entropy: Arc<dyn Entropy>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Once cancelled, no further step begins.
    pub stop: CancellationToken,
}

/// What carrying out an operation came to, for whoever brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execution {
    /// Nothing is left to do: it ended now or before, or it does not exist.
    Over,
    /// It is due again after this long.
    Later(Duration),
    /// Another worker has the application, for at most this long unless it renews.
    Busy(Duration),
    /// The process is stopping; another worker may go on at once.
    Stopped,
    /// The lease was lost on the way. Another worker goes on.
    Fenced,
}

/// Why an operation could not be looked at, or its progress not be recorded. It is looked at again later.
#[derive(Debug, thiserror::Error)]
pub enum ExecutionError {
    /// The control database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The control database did not answer.
    #[error("the control database did not answer within {LOOK:?}")]
    Silent,
    /// The ledger and the application's status contradict each other.
    #[error("cannot record the end of the operation: {0}")]
    Record(#[source] RecordError),
}

impl Engine {
    /// Carries the operation out as far as it goes now. Safe to call any number of times, from any number of workers.
    pub async fn execute(&self, id: OperationId) -> Result<Execution, ExecutionError> {
        let Some(operation) = look(self.operation(id)).await? else {
            tracing::warn!(operation = %id, "no such operation");
            return Ok(Execution::Over);
        };
        if let Some(execution) = self.not_now(&operation) {
            return Ok(execution);
        }
        let application = operation.application_id;
        let taking = Lease::take(&self.pool, application, &self.holder, self.lease_lifetime);
        let lease = match look(taking).await? {
            Taken::Lease(lease) => lease,
            Taken::Busy(remaining) => return Ok(Execution::Busy(remaining)),
        };
        let fence = lease.fence().clone();
        let result = tokio::select! {
            biased;
            () = fence.lost() => Ok(Execution::Fenced),
            result = self.under_lease(&fence, id) => result,
        };
        if let Ok(Execution::Fenced) = result {
            self.metrics.lease_lost();
            tracing::warn!(operation = %id, application = %application, "stopped: the lease is another's or too short");
        }
        lease.release().await;
        result
    }

    async fn operation(&self, id: OperationId) -> Result<Option<Operation>, DbError> {
        operation::get(&mut *self.pool.acquire().await?, id).await
    }

    /// Is there nothing to do, or not yet? What is past its deadline is due, whatever the next attempt's time, if the deadline ends
    /// it.
    fn not_now(&self, operation: &Operation) -> Option<Execution> {
        let now = self.clock.now();
        if operation.status.is_finished() {
            return Some(Execution::Over);
        }
        let due = if plan::is_tried_until_done(operation.kind) {
            operation.next_attempt_at
        } else {
            operation.next_attempt_at.min(operation.deadline_at)
        };
        if due > now {
            let wait = due - now;
            Some(Execution::Later(wait.try_into().unwrap_or(Duration::ZERO)))
        } else {
            None
        }
    }

    /// Reads everything again, since it may have changed before the lease was ours, decides, and acts.
    async fn under_lease(&self, fence: &Fence, id: OperationId) -> Result<Execution, ExecutionError> {
        let mut connection = self.pool.acquire().await.map_err(DbError::from)?;
        let Some(operation) = operation::get(&mut connection, id).await? else {
            return Ok(Execution::Over);
        };
        if let Some(execution) = self.not_now(&operation) {
            return Ok(execution);
        }
        let Some(intent) = db::intent::load(&mut connection, operation.application_id).await? else {
            return Ok(Execution::Over);
        };
        let steps = db::ledger::statuses(id, &operation::steps(&mut connection, id).await?)?;
        drop(connection);

        let ledger = Ledger {
            pool: &self.pool,
            fence,
            operation: &operation,
            clock: &self.clock,
            entropy: &self.entropy,
        };
        let (kind, generation, deadline) = (operation.kind, operation.generation, operation.deadline_at);
        let recorded = match plan::decide(&intent, kind, generation, &steps, deadline, self.clock.now()) {
            Decision::Superseded => self.end_superseded(&ledger).await,
            Decision::Fail(verdict) => {
                self.end_failed(&ledger, None, &verdict, "given up before a step began")
                    .await
            }
            Decision::Run(plan) => self.attempt(&ledger, &plan).await,
        };
        match recorded {
            Ok(execution) => Ok(execution),
            Err(RecordError::Fenced(_)) => Ok(Execution::Fenced),
            Err(RecordError::Db(error)) => Err(error.into()),
            Err(error @ RecordError::Transition(_)) => Err(ExecutionError::Record(error)),
        }
    }

    /// One attempt, and what is recorded of its end.
    async fn attempt(&self, ledger: &Ledger<'_>, plan: &[Planned]) -> Result<Execution, RecordError> {
        let operation = ledger.operation;
        let number = ledger.begin(plan).await?;
        tracing::info!(
            operation = %operation.id, application = %operation.application_id, kind = %operation.kind,
            attempt = number, epoch = ledger.fence.epoch(), "operation begins"
        );
        match self.take_steps(ledger, plan).await? {
            Attempt::Complete(last) => {
                let last = last.as_ref().map(|(step, outcome)| (*step, outcome));
                match ledger.succeed(last).await? {
                    Recorded::Yes => {
                        self.metrics.operation(operation.kind, OperationOutcome::Succeeded);
                        tracing::info!(
                            operation = %operation.id, application = %operation.application_id, "operation succeeded"
                        );
                        Ok(Execution::Over)
                    }
                    Recorded::MovedOn => self.end_superseded(ledger).await,
                }
            }
            Attempt::Retry { step, reason, log } if plan::is_tried_again(operation.kind, number, true) => {
                self.try_again(ledger, number, step, &reason, &log).await
            }
            Attempt::Fail { step, verdict, log } if plan::is_tried_again(operation.kind, number, false) => {
                self.try_again(ledger, number, step, &verdict.reason, &log).await
            }
            Attempt::Retry { step, reason, log } => {
                let verdict = Verdict::used_up(reason);
                self.end_failed(ledger, Some(step), &verdict, &format!("attempt {number}: {log}"))
                    .await
            }
            Attempt::Fail { step, verdict, log } => {
                self.end_failed(ledger, Some(step), &verdict, &format!("attempt {number}: {log}"))
                    .await
            }
            Attempt::MovedOn => self.end_superseded(ledger).await,
            Attempt::Stopped => Ok(Execution::Stopped),
            Attempt::Fenced => Ok(Execution::Fenced),
        }
    }

    /// The attempt of this number failed; another one follows.
    async fn try_again(
        &self,
        ledger: &Ledger<'_>,
        number: i32,
        step: Step,
        reason: &str,
        log: &str,
    ) -> Result<Execution, RecordError> {
        let operation = ledger.operation;
        let delay = self
            .pause_after(number)
            .delay(u32::try_from(number - 1).unwrap_or(0), &*self.entropy);
        tracing::warn!(
            operation = %operation.id, application = %operation.application_id, %step, attempt = number,
            retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), error = %log, "step failed"
        );
        ledger
            .retry(step, reason, &format!("attempt {number}: {log}"), delay)
            .await?;
        self.metrics.operation(operation.kind, OperationOutcome::Retried);
        Ok(Execution::Later(delay))
    }

    /// What is tried more often than others are waits longer: those that wait for somebody must not take all workers.
    fn pause_after(&self, number: i32) -> Backoff {
        if number <= ATTEMPTS {
            self.retry
        } else {
            Backoff {
                max: self.retry.max * LASTING,
                ..self.retry
            }
        }
    }

    /// What is wanted of an application right now.
    pub async fn intent(&self, application: ApplicationId) -> Result<Option<Intent>, DbError> {
        db::intent::load(&mut *self.pool.acquire().await?, application).await
    }

    /// What a step is given.
    pub fn context<'a>(&'a self, intent: &'a Intent, fence: &'a Fence) -> StepContext<'a> {
        StepContext {
            intent,
            fence,
            pool: &self.pool,
            facilities: &self.facilities,
        }
    }

    async fn end_superseded(&self, ledger: &Ledger<'_>) -> Result<Execution, RecordError> {
        let operation = ledger.operation;
        if ledger.supersede().await? == Recorded::Yes {
            self.metrics.operation(operation.kind, OperationOutcome::Superseded);
            tracing::info!(operation = %operation.id, generation = operation.generation, "operation superseded");
        }
        Ok(Execution::Over)
    }

    async fn end_failed(
        &self,
        ledger: &Ledger<'_>,
        step: Option<Step>,
        verdict: &Verdict,
        log: &str,
    ) -> Result<Execution, RecordError> {
        let operation = ledger.operation;
        if ledger.fail(step, verdict, log).await? == Recorded::Yes {
            self.metrics.operation(operation.kind, OperationOutcome::Failed);
            tracing::error!(
                operation = %operation.id, application = %operation.application_id, kind = %operation.kind,
                reason = verdict.reason, error = log, "operation failed"
            );
        }
        Ok(Execution::Over)
    }
}

/// Bounds a look at Postgres that no lease bounds.
async fn look<T>(looking: impl Future<Output = Result<T, DbError>>) -> Result<T, ExecutionError> {
    match tokio::time::timeout(LOOK, looking).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(ExecutionError::Silent),
    }
}
