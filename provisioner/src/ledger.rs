//! The ledger of an operation: what was begun, done, failed and given up, as control and the dashboard show it.
//!
//! Owns the transactions that record progress. Each of them is conditional on the lease: a worker that was fenced records
//! nothing more. What belongs together is one transaction, so the end of an operation, the status of its application, the
//! last step and the audit event are never seen apart. When Postgres fails nothing is recorded: the operation stays
//! `running`, its lease runs out, and the next worker goes on with the same attempt.
//!
//! Attempts: an execution counts when it is begun from `queued`, and an operation gets [`ATTEMPTS`] of them. A recorded
//! failure puts it back to `queued`; a worker that was killed records nothing, so its successor's execution is the same
//! attempt, and kills burn none. An operation that kills its workers is bounded by its deadline. What takes something away has
//! no such bounds: it is tried until it is done.

use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::{Step, status::Event};
use authsome_contract::wire::job::JobKind;
use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use authsome_core::id::EventId;
use authsome_db::application::{TransitionError, transition};
use authsome_db::audit::{self, ActorType};
use authsome_db::operation::{Operation, OperationStatus};
use sqlx::{PgPool, Postgres, Transaction};

use crate::db::{self, RecordError};
use crate::lease::Fence;
use crate::plan::{Planned, StepStatus, Verdict, is_tried_until_done, stops_as};
use crate::step::Outcome;

/// Executions of an operation before it fails, unless it is tried until it is done.
pub const ATTEMPTS: i32 = 3;

/// The longest line of the operators' log for one failure, in bytes.
const LOG_LINE: usize = 4096;

/// One operation under one lease.
pub struct Ledger<'a> {
    /// The control database.
    pub pool: &'a PgPool,
    /// The lease that every record names.
    pub fence: &'a Fence,
    /// The operation.
    pub operation: &'a Operation,
    /// The time, for the ids of audit events.
    pub clock: &'a Arc<dyn Clock>,
    /// Randomness, for the same.
    pub entropy: &'a Arc<dyn Entropy>,
}

/// Whether an operation's end was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It was.
    Yes,
    /// The intent has moved on, or the operation has ended otherwise (cancelled, say); nothing was recorded.
    MovedOn,
}

impl Ledger<'_> {
    /// Begins an execution or goes on with an interrupted one, and returns its number from 1.
    pub async fn begin(&self, plan: &[Planned]) -> Result<i32, RecordError> {
        db::ledger::add_steps(
            self.pool,
            self.fence,
            self.operation.id,
            plan.iter().map(|planned| planned.step),
        )
        .await?;
        db::ledger::begin(self.pool, self.fence, self.operation.id).await
    }

    /// A step begins.
    pub async fn begin_step(&self, step: Step) -> Result<(), RecordError> {
        db::ledger::begin_step(self.pool, self.fence, self.operation.id, step).await
    }

    /// A step is settled.
    pub async fn settle_step(&self, step: Step, outcome: &Outcome) -> Result<(), RecordError> {
        let status = settled(outcome);
        db::ledger::end_step(self.pool, self.fence, self.operation.id, step, status, &outcome.detail).await
    }

    /// This attempt failed and another one is due after `delay`.
    pub async fn retry(&self, step: Step, reason: &str, log: &str, delay: Duration) -> Result<(), RecordError> {
        let mut tx = self.fenced().await?;
        db::ledger::end_step_within(&mut tx, self.operation.id, step, StepStatus::Failed, reason).await?;
        // Those that may go on for long say why they have not ended.
        let shown = is_tried_until_done(self.operation.kind).then_some(reason);
        db::ledger::requeue_within(&mut tx, self.operation.id, delay, cut(log), shown).await?;
        Ok(tx.commit().await?)
    }

    /// The operation is given up. The application fails with it where its status can.
    pub async fn fail(&self, step: Option<Step>, verdict: &Verdict, log: &str) -> Result<Recorded, RecordError> {
        let mut tx = self.fenced().await?;
        // The application's row first, as everywhere, so that two transactions never wait for each other.
        let moved = transition(
            &mut tx,
            self.operation.application_id,
            Event::Failed,
            self.operation.deadline_at,
        )
        .await;
        let failed = match moved {
            Ok(_) => true,
            Err(TransitionError::Illegal(_)) => false,
            Err(error) => return Err(error.into()),
        };
        if let Some(step) = step {
            db::ledger::end_step_within(&mut tx, self.operation.id, step, StepStatus::Failed, &verdict.reason).await?;
        }
        let (id, status) = (self.operation.id, OperationStatus::Failed);
        if !db::ledger::finish_within(&mut tx, id, status, Some(verdict), Some(cut(log))).await? {
            return Ok(Recorded::MovedOn);
        }
        if failed {
            db::ledger::failed_within(&mut tx, self.operation.application_id, id, verdict).await?;
        }
        self.audit(
            &mut tx,
            false,
            serde_json::json!({ "operationId": id, "reason": verdict.reason }),
        )
        .await?;
        tx.commit().await?;
        Ok(Recorded::Yes)
    }

    /// The operation reached its end: its last step (unless it was settled before), its own row, the application and the
    /// audit event, all at once.
    pub async fn succeed(&self, last: Option<(Step, &Outcome)>) -> Result<Recorded, RecordError> {
        let mut tx = self.fenced().await?;
        let application = self.operation.application_id;
        let generation = self.operation.generation;
        if let Some(status) = stops_as(self.operation.kind) {
            if !db::ledger::stopped_within(&mut tx, application, generation, status).await? {
                return Ok(Recorded::MovedOn);
            }
        } else {
            match transition(&mut tx, application, Event::Succeeded, self.operation.deadline_at).await {
                Ok(_) => {}
                Err(TransitionError::Illegal(_)) => return Ok(Recorded::MovedOn),
                Err(error) => return Err(error.into()),
            }
            let recorded = if self.operation.kind == JobKind::Purge {
                db::ledger::purged_within(&mut tx, application, generation).await?
            } else {
                db::ledger::observed_within(&mut tx, application, generation).await?
            };
            if !recorded {
                return Ok(Recorded::MovedOn);
            }
        }
        if let Some((step, outcome)) = last {
            let status = settled(outcome);
            db::ledger::end_step_within(&mut tx, self.operation.id, step, status, &outcome.detail).await?;
        }
        let (id, status) = (self.operation.id, OperationStatus::Succeeded);
        if !db::ledger::finish_within(&mut tx, id, status, None, None).await? {
            return Ok(Recorded::MovedOn);
        }
        self.audit(
            &mut tx,
            true,
            serde_json::json!({ "operationId": id, "generation": self.operation.generation }),
        )
        .await?;
        tx.commit().await?;
        Ok(Recorded::Yes)
    }

    /// A newer intent took the operation's place.
    pub async fn supersede(&self) -> Result<Recorded, RecordError> {
        let mut tx = self.fenced().await?;
        let finished =
            db::ledger::finish_within(&mut tx, self.operation.id, OperationStatus::Superseded, None, None).await?;
        tx.commit().await?;
        Ok(if finished { Recorded::Yes } else { Recorded::MovedOn })
    }

    /// A transaction during which nobody can take the lease over.
    async fn fenced(&self) -> Result<Transaction<'static, Postgres>, RecordError> {
        let mut tx = self.pool.begin().await?;
        db::lease::hold(&mut tx, self.fence).await?;
        Ok(tx)
    }

    async fn audit(
        &self,
        tx: &mut Transaction<'static, Postgres>,
        succeeded: bool,
        changes: serde_json::Value,
    ) -> Result<(), RecordError> {
        let application_id = self.operation.application_id.to_string();
        let event = audit::Event {
            id: EventId::generate(&**self.clock, &**self.entropy),
            workspace_id: Some(self.operation.workspace_id),
            application_id: Some(self.operation.application_id),
            actor_id: Some("provisioner"),
            actor_type: ActorType::Service,
            action: action(self.operation.kind),
            resource: "application",
            resource_id: Some(&application_id),
            changes,
            ip_address: None,
            user_agent: None,
            succeeded,
            request_id: None,
        };
        Ok(audit::record(tx, &event).await?)
    }
}

/// What the audit trail calls an operation of this kind; whether it succeeded is part of every event.
const fn action(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Provision => "application.provision",
        JobKind::Update => "application.roll_out",
        JobKind::Restart => "application.restart",
        JobKind::Suspend => "application.suspend",
        JobKind::Resume => "application.resume",
        JobKind::Delete => "application.delete",
        JobKind::Undelete => "application.undelete",
        JobKind::Purge => "application.purge",
        JobKind::Rotate => "application.rotate_credentials",
    }
}

fn settled(outcome: &Outcome) -> StepStatus {
    if outcome.undone {
        StepStatus::Undone
    } else if outcome.skipped {
        StepStatus::Skipped
    } else {
        StepStatus::Done
    }
}

/// The beginning of a text, at most [`LOG_LINE`] bytes.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LOG_LINE)]
}
