//! Wakes those who watch operations.
//!
//! One connection of this replica listens to what Postgres says of operations, and tells everybody who watches one here.
//! Whoever watches also looks by itself every few seconds, so a lost connection makes events late, and loses none.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use authsome_contract::wire::names;
use authsome_core::id::OperationId;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use super::TaskError;

/// Wake-ups that a slow watcher may be behind; past them it looks anyway.
const BEHIND: usize = 256;
/// Watchers of one replica.
const WATCHERS: usize = 1_000;
/// Before listening again.
const RETRY: Duration = Duration::from_secs(1);

/// Tells of operations. Clones are the same.
#[derive(Clone)]
pub struct OperationFeed {
    wakes: broadcast::Sender<OperationId>,
    watchers: Arc<Semaphore>,
    closed: CancellationToken,
}

/// Somebody who watches.
pub struct Watch {
    wakes: broadcast::Receiver<OperationId>,
    closed: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Default for OperationFeed {
    fn default() -> Self {
        Self {
            wakes: broadcast::Sender::new(BEHIND),
            watchers: Arc::new(Semaphore::new(WATCHERS)),
            closed: CancellationToken::new(),
        }
    }
}

impl OperationFeed {
    /// Begins to watch; `None` when there are as many watchers as one replica has.
    pub fn watch(&self) -> Option<Watch> {
        Some(Watch {
            _permit: Arc::clone(&self.watchers).try_acquire_owned().ok()?,
            wakes: self.wakes.subscribe(),
            closed: self.closed.clone(),
        })
    }

    /// Listens until `stop`; then every watcher is sent away, to another replica.
    pub async fn run(self, pool: PgPool, stop: CancellationToken) -> Result<(), TaskError> {
        stop.run_until_cancelled(self.listen(&pool)).await;
        self.closed.cancel();
        Ok(())
    }

    async fn listen(&self, pool: &PgPool) -> Infallible {
        loop {
            if let Err(error) = self.follow(pool).await {
                tracing::debug!(%error, "cannot listen for operations; trying again");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn follow(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(names::OPERATIONS_CHANNEL).await?;
        while let Some(notification) = listener.try_recv().await? {
            if let Ok(id) = notification.payload().parse() {
                // Nobody may be watching.
                let _ = self.wakes.send(id);
            }
        }
        Ok(())
    }
}

impl Watch {
    /// Waits until something may have become of the operation, at most `patience`; false when this replica is stopping.
    pub async fn changed(&mut self, operation: OperationId, patience: Duration) -> bool {
        let heard = async {
            loop {
                match self.wakes.recv().await {
                    Ok(id) if id != operation => {}
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                    // Ours, or some were missed.
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                }
            }
        };
        tokio::select! {
            () = self.closed.cancelled() => false,
            _ = tokio::time::timeout(patience, heard) => true,
        }
    }
}
