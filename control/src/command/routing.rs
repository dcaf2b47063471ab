//! What operators do to the routing table as a whole: write its copies anew, and tell the platform that its database was
//! restored to an earlier point.
//!
//! The relay's leader does the writing, whichever process that is; these commands leave a request in Postgres and wait. They
//! run a relay of their own beside, which leads only if no other does, so they work while control is down. Edges serve on
//! throughout. A command that is killed may be run again: a request that is left is fulfilled, and stamping a row twice
//! does no harm.

use std::time::Duration;

use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use authsome_core::id::EventId;
use authsome_db::DbError;
use authsome_db::audit::{ActorType, Event};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::db::rebuild::{self, Rebuild};
use crate::db::restore;
use crate::tasks::TaskError;
use crate::tasks::relay::Relay;

/// Between two looks at a request.
const LOOK: Duration = Duration::from_millis(250);

/// Rows that are stamped in one statement, so that no lock is held for long.
const STAMP: i64 = 1_000;

/// Why the table could not be written anew.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// Postgres, where requests and rows are.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The relay that runs beside.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// It ended though nobody stopped it.
    #[error("the relay ended")]
    RelayEnded,
    /// The request stands, and will be fulfilled.
    #[error("{unfinished} not written within {patience:?}; the request stands and the relay goes on trying{why}")]
    Late {
        /// Targets that are left.
        unfinished: String,
        /// What was waited.
        patience: Duration,
        /// What failed last.
        why: String,
    },
}

/// What is needed besides the running service.
pub struct Works<'a> {
    /// The control database.
    pub pool: &'a PgPool,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Randomness.
    pub entropy: &'a dyn Entropy,
    /// How long the relay may take.
    pub patience: Duration,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Records in Redis.
    pub redis: i64,
    /// Records in the stream.
    pub stream: i64,
}

/// What a restore led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The new restore epoch.
    pub epoch: i64,
    /// Applications, keys and hosts that were stamped with it.
    pub stamped: u64,
    /// What was written then.
    pub written: Written,
}

/// Writes Redis and the stream anew from Postgres.
///
/// # Errors
/// [`RoutingError`]; after [`RoutingError::Late`] the request still stands.
pub async fn rebuild(works: &Works<'_>, relay: Relay) -> Result<Written, RoutingError> {
    let ids = request(works).await?;
    fulfilled(works, relay, &ids).await
}

/// Raises the restore epoch, stamps every row that edges see with it, and writes the copies anew. To be run once after the
/// database was restored to an earlier point.
///
/// # Errors
/// As [`rebuild()`].
pub async fn restored(works: &Works<'_>, relay: Relay) -> Result<Restored, RoutingError> {
    let mut transaction = works.pool.begin().await.map_err(DbError::from)?;
    let epoch = restore::raise_epoch(&mut transaction).await?;
    audit(works, &mut transaction, "platform.restored", json!({ "epoch": epoch })).await?;
    transaction.commit().await.map_err(DbError::from)?;
    tracing::info!(epoch, "the restore epoch is raised");
    let stamped = stamp(works.pool, epoch).await?;
    tracing::info!(stamped, "applications, keys and hosts are stamped with it");
    let ids = request(works).await?;
    let written = fulfilled(works, relay, &ids).await?;
    Ok(Restored {
        epoch,
        stamped,
        written,
    })
}

async fn stamp(pool: &PgPool, epoch: i64) -> Result<u64, DbError> {
    let mut stamped = 0;
    let mut connection = pool.acquire().await?;
    loop {
        let done = restore::stamp_applications(&mut connection, epoch, STAMP).await?;
        stamped += done;
        if done == 0 {
            break;
        }
    }
    loop {
        let done = restore::stamp_keys(&mut connection, epoch, STAMP).await?;
        stamped += done;
        if done == 0 {
            break;
        }
    }
    loop {
        let done = restore::stamp_hosts(&mut connection, epoch, STAMP).await?;
        stamped += done;
        if done == 0 {
            return Ok(stamped);
        }
    }
}

async fn request(works: &Works<'_>) -> Result<Vec<i64>, DbError> {
    let mut transaction = works.pool.begin().await?;
    let ids = rebuild::request(&mut transaction).await?;
    audit(works, &mut transaction, "routing.rebuild", json!({})).await?;
    transaction.commit().await?;
    Ok(ids)
}

async fn fulfilled(works: &Works<'_>, relay: Relay, ids: &[i64]) -> Result<Written, RoutingError> {
    let stop = CancellationToken::new();
    tokio::select! {
        written = wait(works, ids) => written,
        ended = relay.run(stop) => {
            ended?;
            Err(RoutingError::RelayEnded)
        }
    }
}

async fn wait(works: &Works<'_>, ids: &[i64]) -> Result<Written, RoutingError> {
    let rows = rebuild::table_size(&mut *works.pool.acquire().await.map_err(DbError::from)?).await?;
    let mut seen: Vec<Rebuild> = Vec::new();
    let all_finished = async {
        loop {
            let now = rebuild::find(&mut *works.pool.acquire().await.map_err(DbError::from)?, ids).await?;
            for request in now.iter().filter(|request| !seen.contains(request)) {
                tell(request, rows);
            }
            seen = now;
            if seen.iter().all(|request| request.finished) {
                return Ok::<_, DbError>(());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let in_time = tokio::time::timeout(works.patience, all_finished).await;
    match in_time {
        Ok(finished) => finished?,
        Err(_) => return Err(late(&seen, works.patience)),
    }
    let records = |target: &str| {
        let of = seen.iter().find(|request| request.target == target);
        of.map_or(0, |request| request.records)
    };
    Ok(Written {
        redis: records("redis"),
        stream: records("stream"),
    })
}

fn tell(request: &Rebuild, rows: i64) {
    let (copy, records) = (request.target.as_str(), request.records);
    match &request.failure {
        Some(failure) => tracing::warn!(copy, records, of = rows, failure, "not written yet; trying again"),
        None if request.finished => tracing::info!(copy, records, "written"),
        None => tracing::info!(copy, records, of = rows, "writing"),
    }
}

fn late(seen: &[Rebuild], patience: Duration) -> RoutingError {
    let left: Vec<&Rebuild> = seen.iter().filter(|request| !request.finished).collect();
    let names: Vec<&str> = left.iter().map(|request| request.target.as_str()).collect();
    let why = left.iter().find_map(|request| request.failure.as_ref());
    RoutingError::Late {
        unfinished: names.join(" and "),
        patience,
        why: why.map_or_else(String::new, |why| format!(": {why}")),
    }
}

async fn audit(
    works: &Works<'_>,
    connection: &mut PgConnection,
    action: &'static str,
    changes: serde_json::Value,
) -> Result<(), DbError> {
    let event = Event {
        id: EventId::generate(works.clock, works.entropy),
        workspace_id: None,
        application_id: None,
        actor_id: None,
        actor_type: ActorType::Service,
        action,
        resource: "platform",
        resource_id: None,
        changes,
        ip_address: None,
        user_agent: None,
        succeeded: true,
        request_id: None,
    };
    authsome_db::audit::record(connection, &event).await
}
