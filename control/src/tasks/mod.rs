//! What runs beside the API in every replica: the outbox relay, the usage aggregator, the mailer, and what edges say of themselves and of
//! keys.
//!
//! Each task retries for ever by itself; a dependency that is down costs latency and shows in its metrics. They return
//! when the process stops, and fail only for what no retry can mend.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::{Outcome, Problem};

pub mod aggregator;
pub mod audit_keeper;
pub mod connect;
pub mod edges;
pub mod endings;
pub mod host_checks;
pub mod key_uses;
pub mod mailer;
pub mod operation_feed;
pub mod relay;
pub mod webhooks;

/// Between two looks of a task that finds its work in the database.
const LOOK: Duration = Duration::from_mins(1);

/// Looks for work once a minute until `stop`, and again at once after a look that did a whole `batch`: there may be more. `look` says
/// how much it did, not how much it found: what cannot be done now waits for the next minute.
async fn sweep<F: Future<Output = Outcome<usize>>>(
    stop: CancellationToken,
    batch: i64,
    look: impl Fn() -> F,
    failed: impl Fn(&Problem),
) {
    let keep = async {
        loop {
            match look().await {
                Ok(done) if i64::try_from(done).unwrap_or(batch) >= batch => continue,
                Ok(_) => {}
                Err(problem) => failed(&problem),
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    stop.run_until_cancelled(keep).await;
}

/// Why a task cannot run at all.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The address of Redis is not one.
    #[error("the address of Redis cannot be used: {0}")]
    Redis(#[source] fred::error::Error),
    /// The address of NATS is not one.
    #[error("the address of NATS cannot be used: {0}")]
    Nats(#[source] std::io::Error),
    /// A metric clashes with another of the same name.
    #[error("cannot register a metric: {0}")]
    Metric(#[from] prometheus::Error),
}
