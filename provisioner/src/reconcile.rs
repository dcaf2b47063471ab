//! The reconciler: what makes messages optional.
//!
//! Every few seconds it asks Postgres for operations that are due and that nobody works on, and carries them out: those
//! whose job message was lost, those to be tried again, those that a killed worker left behind, those past their deadline.
//! It takes no input but the database, so the way that is taken rarely is the way that is always taken. Without Postgres it
//! warns and looks again at the next tick; without NATS it does all the work.

use std::sync::Arc;
use std::time::Duration;

use authsome_core::error::Chain;
use authsome_core::id::OperationId;
use authsome_core::retry::Backoff;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::db;
use crate::execution::{Engine, Execution};

/// How long one look at Postgres may take.
const LOOK: Duration = Duration::from_secs(10);

/// Due operations read at a time.
const PAGE: i64 = 256;

/// Carries out what is due.
pub struct Reconciler {
    /// Carries out one operation.
    pub engine: Arc<Engine>,
    /// The region whose applications are this provisioner's.
    pub region: String,
    /// One permit for each operation at a time, shared with the consumer.
    pub permits: Arc<Semaphore>,
    /// Time between two looks; the real one is up to a quarter longer.
    pub tick: Duration,
}

impl Reconciler {
    /// Looks and carries out until `soft`; then waits for what was begun, which ends after its present step.
    pub async fn run(self, soft: CancellationToken) {
        let mut executions = JoinSet::new();
        loop {
            self.look(&mut executions).await;
            let pause = self.tick + jitter(self.tick / 4, &self.engine);
            tokio::select! {
                () = soft.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            while executions.try_join_next().is_some() {}
        }
        while executions.join_next().await.is_some() {}
    }

    /// One look: begins as many due operations as there are permits. An operation that is in this process's hands already
    /// has a lease, and so is not due.
    pub async fn look(&self, executions: &mut JoinSet<()>) {
        let looking = async {
            self.engine
                .metrics
                .due(db::ledger::count_due(&self.engine.pool, &self.region).await?);
            db::ledger::due(&self.engine.pool, &self.region, PAGE).await
        };
        let error = match tokio::time::timeout(LOOK, looking).await {
            Ok(Ok(mut due)) => {
                // Where there are more than can be begun, those that cannot be carried out must not keep the others out for
                // ever by having been due the longest.
                if due.len() > self.permits.available_permits() {
                    let shift = usize::try_from(self.engine.entropy.next_u64() >> 33).unwrap_or(0) % due.len();
                    due.rotate_left(shift);
                }
                for id in due {
                    let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
                        return;
                    };
                    let engine = Arc::clone(&self.engine);
                    executions.spawn(async move {
                        carry_out(&engine, id).await;
                        drop(permit);
                    });
                }
                return;
            }
            Ok(Err(error)) => Chain(&error).to_string(),
            Err(_) => format!("no answer within {LOOK:?}"),
        };
        self.engine.metrics.error("reconciler");
        tracing::warn!(%error, "cannot look for due operations; looking again");
    }
}

/// Executes for nobody who waits: the result goes to the log and the next look.
async fn carry_out(engine: &Engine, id: OperationId) {
    let _executing = engine.metrics.executing();
    match engine.execute(id).await {
        Ok(Execution::Over) => tracing::debug!(operation = %id, "reconciled"),
        Ok(execution) => tracing::debug!(operation = %id, ?execution, "not over yet"),
        Err(error) => {
            engine.metrics.error("reconciler");
            tracing::warn!(operation = %id, error = %Chain(&error), "operation not carried out; looking again");
        }
    }
}

/// A random time up to `bound`, so that provisioners do not look in step.
fn jitter(bound: Duration, engine: &Engine) -> Duration {
    Backoff {
        base: bound,
        factor: 1.0,
        max: bound,
    }
    .delay(0, &*engine.entropy)
}
