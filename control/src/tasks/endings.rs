//! Does what deletions lead to in time: stops the applications of a deleted workspace and starts them when it is had back, destroys
//! applications seven days and workspaces thirty days after their deletion.
//!
//! Every replica looks once a minute; each decision is made again under the lock of the application's row, so it does not matter who
//! comes first. What cannot be done now (Postgres away) is done by a later look. The provisioner does the destroying, and tries
//! until everything is gone.

use authsome_core::error::Chain;
use tokio_util::sync::CancellationToken;

use super::TaskError;
use crate::command::ending;
use crate::db::endings;
use crate::error::{Outcome, Problem};
use crate::state::App;

/// Applications, or workspaces, of one look.
const BATCH: i64 = 100;

/// What the task works with.
pub struct Endings {
    /// The platform.
    pub app: App,
}

impl Endings {
    /// Looks until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), TaskError> {
        let failed = |problem: &Problem| {
            tracing::warn!(error = %Chain(problem.failure()), "deleted applications and workspaces wait; trying again");
        };
        super::sweep(stop, BATCH, || self.look(), failed).await;
        Ok(())
    }

    /// One look. Returns how much was done.
    pub async fn look(&self) -> Outcome<usize> {
        let app = &self.app;
        let now = app.clock().now();
        let mut connection = app.pool().acquire().await?;
        let purge = endings::to_purge(&mut connection, now, BATCH).await?;
        let stop = endings::to_stop(&mut connection, BATCH).await?;
        let start = endings::to_start(&mut connection, BATCH).await?;
        let workspaces = endings::workspaces_to_purge(&mut connection, now, BATCH).await?;
        drop(connection);
        let mut done = 0;
        for id in &purge {
            done += usize::from(ending::purge(app, *id).await?);
        }
        for id in stop.iter().filter(|id| !purge.contains(id)) {
            done += usize::from(ending::stop(app, *id).await?);
        }
        for id in &start {
            done += usize::from(ending::start(app, *id).await?);
        }
        for id in &workspaces {
            done += usize::from(ending::purge_workspace(app, *id).await?);
        }
        Ok(done)
    }
}
