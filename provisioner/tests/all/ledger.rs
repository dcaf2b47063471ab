//! What is recorded, and that a fenced worker records nothing.

use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::{AppStatus, Step};
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::entropy::Entropy;
use authsome_db::operation::OperationStatus;
use authsome_provisioner::db::RecordError;
use authsome_provisioner::ledger::{Ledger, Recorded};
use authsome_provisioner::plan::{Mode, Planned, Verdict};
use authsome_provisioner::step::Outcome;

use crate::engine::{Control, entropy};
use crate::lease::{run_out, take};

const LONG: Duration = Duration::from_mins(1);

fn plan() -> Vec<Planned> {
    Step::PROVISION
        .iter()
        .map(|&step| Planned {
            step,
            mode: Mode::Settle,
        })
        .collect()
}

fn verdict() -> Verdict {
    Verdict {
        reason: "The database cannot be made.".to_owned(),
        remediation: "Ask support.".to_owned(),
    }
}

/// Tries every way of recording and returns what each came to.
async fn record_everything(ledger: &Ledger<'_>) -> Vec<Result<(), RecordError>> {
    let (done, step) = (Outcome::done("Ready."), Step::Database);
    vec![
        ledger.begin(&plan()).await.map(|_| ()),
        ledger.begin_step(step).await,
        ledger.settle_step(step, &done).await,
        ledger.retry(step, "Not now.", "refused", Duration::ZERO).await,
        ledger.fail(Some(step), &verdict(), "refused").await.map(|_| ()),
        ledger.succeed(Some((Step::Activate, &done))).await.map(|_| ()),
        ledger.supersede().await.map(|_| ()),
    ]
}

#[tokio::test]
async fn a_worker_whose_lease_was_taken_over_or_ran_out_records_nothing() {
    for taken_over in [true, false] {
        let control = Control::start().await;
        let wanted = control.wanted().await;
        let first = take(&control.pool, wanted.application, "a", LONG).await.unwrap();
        run_out(&control.pool, wanted.application).await;
        if taken_over {
            std::mem::forget(take(&control.pool, wanted.application, "a", LONG).await.unwrap());
        }
        let operation = control.load(wanted.operation).await;
        let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) = (Arc::new(SystemClock), Arc::new(entropy()));
        let ledger = Ledger {
            pool: &control.pool,
            fence: first.fence(),
            operation: &operation,
            clock: &clock,
            entropy: &entropy,
        };
        for result in record_everything(&ledger).await {
            assert!(matches!(result, Err(RecordError::Fenced(_))), "{result:?}");
        }
        let operation = control.load(wanted.operation).await;
        assert_eq!((operation.status, operation.attempts), (OperationStatus::Queued, 0));
        for row in control.steps(wanted.operation).await {
            assert_eq!((row.status.as_str(), row.attempts, row.detail), ("pending", 0, None));
        }
        assert_eq!(
            control.column(wanted.application, "status").await.unwrap(),
            "provisioning"
        );
        assert!(control.audit(wanted.application).await.is_empty());
    }
}

#[tokio::test]
async fn an_operation_that_was_cancelled_meanwhile_is_not_revived_by_its_end() {
    let control = Control::start().await;
    let wanted = control.wanted().await;
    let lease = take(&control.pool, wanted.application, "a", LONG).await.unwrap();
    let operation = control.load(wanted.operation).await;
    let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) = (Arc::new(SystemClock), Arc::new(entropy()));
    let ledger = Ledger {
        pool: &control.pool,
        fence: lease.fence(),
        operation: &operation,
        clock: &clock,
        entropy: &entropy,
    };
    assert_eq!(ledger.begin(&plan()).await.unwrap(), 1);
    sqlx::query("UPDATE operations SET status = 'cancelled', finished_at = now() WHERE id = $1")
        .bind(wanted.operation)
        .execute(&control.pool)
        .await
        .unwrap();
    assert_eq!(ledger.succeed(None).await.unwrap(), Recorded::MovedOn);
    assert_eq!(ledger.fail(None, &verdict(), "late").await.unwrap(), Recorded::MovedOn);
    assert_eq!(control.load(wanted.operation).await.status, OperationStatus::Cancelled);
    // The status of the application is untouched as well: one transaction.
    assert_eq!(
        control.column(wanted.application, "status").await.unwrap(),
        "provisioning"
    );
}

#[tokio::test]
async fn an_end_is_seen_whole_or_not_at_all() {
    let control = Control::start().await;
    let wanted = control.wanted().await;
    let lease = take(&control.pool, wanted.application, "a", LONG).await.unwrap();
    let operation = control.load(wanted.operation).await;
    let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) = (Arc::new(SystemClock), Arc::new(entropy()));
    let ledger = Ledger {
        pool: &control.pool,
        fence: lease.fence(),
        operation: &operation,
        clock: &clock,
        entropy: &entropy,
    };
    ledger.begin(&plan()).await.unwrap();
    // The application was deleted in between: its success cannot be recorded, and no part of it is.
    control.delete(wanted.application).await;
    let done = Outcome::done("Ready.");
    assert_eq!(
        ledger.succeed(Some((Step::Activate, &done))).await.unwrap(),
        Recorded::MovedOn
    );
    assert_eq!(
        control.column(wanted.application, "status").await.unwrap(),
        AppStatus::Deleting.as_str()
    );
    assert_eq!(control.column(wanted.application, "activated_at").await, None);
    let activate = control.steps(wanted.operation).await.pop().unwrap();
    assert_eq!((activate.step, activate.status.as_str()), (Step::Activate, "pending"));
    assert_eq!(control.load(wanted.operation).await.status, OperationStatus::Running);
}
