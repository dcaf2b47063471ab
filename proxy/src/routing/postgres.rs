//! L3: the truth. The three views that the edge reads, on a small pool behind as many permits; the table as a whole is
//! `whole`'s.
//!
//! A query that gets no permit or no answer within the fill's deadline is no answer at all, never "does not exist". After
//! failures in a row a short circuit refuses at once for a moment.

use std::str::FromStr;
use std::time::Duration;

use authsome_contract::model::route::{AppRow, InconsistentRow, KeyRow};
use authsome_contract::model::{AppRecord, KeyRecord};
use authsome_core::id::{ApplicationId, KeyId, WorkspaceId};
use authsome_core::key::Digest;
use authsome_core::secret::SecretUrl;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{PgConnection, Postgres};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::circuit::Circuit;

mod hosts;
mod whole;

pub(super) use whole::{Asked, Head, WholeSource};

const CIRCUIT_THRESHOLD: u32 = 3;
const CIRCUIT_PAUSE: Duration = Duration::from_millis(500);

/// The address cannot be used. Says nothing of its user or password.
#[derive(Debug, thiserror::Error)]
#[error("Postgres address {address} is not understood")]
pub struct PostgresAddressError {
    address: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostgresError {
    #[error("left alone after failures")]
    CircuitOpen,
    #[error("no answer in time")]
    Silent,
    #[error("query: {0}")]
    Query(#[from] sqlx::Error),
    #[error(transparent)]
    Row(#[from] InconsistentRow),
}

/// A row, and the database's clock when it was read (milliseconds since the Unix epoch).
#[derive(Debug)]
pub(super) struct Dated<T> {
    pub(super) value: T,
    pub(super) database_ms: i64,
}

pub(super) struct PostgresSource {
    pool: PgPool,
    /// For a permit.
    patience: Duration,
    permits: Semaphore,
    circuit: Circuit,
}

impl PostgresSource {
    /// Connects when first asked. Must be called in the runtime that will use it.
    pub(super) fn connect(address: &SecretUrl, permits: u32, deadline: Duration) -> Result<Self, PostgresAddressError> {
        let pool = PgPoolOptions::new()
            .max_connections(permits)
            .acquire_timeout(deadline)
            .idle_timeout(Duration::from_mins(5))
            // A ping before each query would double the latency; a broken connection shows in the query, which is repeated.
            .test_before_acquire(false)
            .connect_lazy_with(options(address, deadline)?);
        Ok(Self {
            pool,
            patience: deadline / 2,
            permits: Semaphore::new(permits as usize),
            circuit: Circuit::new(CIRCUIT_THRESHOLD, CIRCUIT_PAUSE),
        })
    }

    /// The key and its application, in one round trip.
    pub(super) async fn key(&self, digest: &Digest) -> Result<Option<Dated<(KeyRecord, AppRecord)>>, PostgresError> {
        let question = self.admitted().await?;
        let mut answer = self.key_once(digest).await;
        if is_broken_connection(&answer) {
            answer = self.key_once(digest).await;
        }
        question.answered(answer)
    }

    /// The application.
    pub(super) async fn app(&self, id: &ApplicationId) -> Result<Option<Dated<AppRecord>>, PostgresError> {
        let question = self.admitted().await?;
        let mut answer = self.app_once(*id).await;
        if is_broken_connection(&answer) {
            answer = self.app_once(*id).await;
        }
        question.answered(answer)
    }

    async fn key_once(&self, digest: &Digest) -> Result<Option<Dated<(KeyRecord, AppRecord)>>, PostgresError> {
        let mut lent = Lent(Some(self.pool.acquire().await?));
        let answer = key_with_application(lent.connection()?, digest).await;
        lent.give_back_after(&answer);
        answer
    }

    async fn app_once(&self, id: ApplicationId) -> Result<Option<Dated<AppRecord>>, PostgresError> {
        let mut lent = Lent(Some(self.pool.acquire().await?));
        let answer = application(lent.connection()?, id).await;
        lent.give_back_after(&answer);
        answer
    }

    /// Waits for a permit for half of the deadline, which is not the server's failure; what follows is. In a flood a question
    /// that got its permit just before the deadline would be given up in the middle and cost a connection.
    async fn admitted(&self) -> Result<Question<'_>, PostgresError> {
        if self.circuit.is_open() {
            return Err(PostgresError::CircuitOpen);
        }
        // The semaphore is never closed.
        let permit = tokio::time::timeout(self.patience, self.permits.acquire())
            .await
            .map_err(|_| PostgresError::Silent)?
            .map_err(|_| PostgresError::CircuitOpen)?;
        if self.circuit.is_open() {
            return Err(PostgresError::CircuitOpen);
        }
        Ok(Question {
            circuit: &self.circuit,
            open: true,
            _permit: permit,
        })
    }
}

/// How every connection is made. The server itself gives up a statement after `deadline`.
fn options(address: &SecretUrl, deadline: Duration) -> Result<PgConnectOptions, PostgresAddressError> {
    let options = PgConnectOptions::from_str(address.expose()).map_err(|_| PostgresAddressError {
        address: address.to_string(),
    })?;
    Ok(options
        .application_name("authsome-proxy")
        .options([("statement_timeout", format!("{}ms", deadline.as_millis()))]))
}

/// The pool held a connection that had died while idle: worth one more try.
fn is_broken_connection<T>(answer: &Result<T, PostgresError>) -> bool {
    matches!(
        answer,
        Err(PostgresError::Query(sqlx::Error::Io(_) | sqlx::Error::Protocol(_)))
    )
}

/// A question under its permit. One that is given up at the caller's deadline counts as a failure.
struct Question<'a> {
    circuit: &'a Circuit,
    open: bool,
    _permit: SemaphorePermit<'a>,
}

impl Question<'_> {
    fn answered<T>(mut self, answer: Result<T, PostgresError>) -> Result<T, PostgresError> {
        self.open = false;
        match &answer {
            Ok(_) | Err(PostgresError::Row(_)) => self.circuit.succeeded(),
            Err(error) => self.failed(error),
        }
        answer
    }

    fn failed(&self, error: &dyn std::fmt::Display) {
        if self.circuit.failed() {
            tracing::warn!(%error, "Postgres does not answer; unknown keys get 503 until it does");
        }
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if self.open {
            self.failed(&"no answer within the deadline");
        }
    }
}

/// A connection that goes back to the pool only after an answer. One that failed or was given up may hang for ever (a
/// server that vanished behind a partition), so it is closed.
struct Lent(Option<PoolConnection<Postgres>>);

impl Lent {
    fn connection(&mut self) -> Result<&mut PgConnection, PostgresError> {
        self.0.as_deref_mut().ok_or(PostgresError::CircuitOpen)
    }

    fn give_back_after<T>(&mut self, answer: &Result<T, PostgresError>) {
        if matches!(answer, Ok(_) | Err(PostgresError::Row(_))) {
            drop(self.0.take());
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

async fn key_with_application(
    connection: &mut PgConnection,
    digest: &Digest,
) -> Result<Option<Dated<(KeyRecord, AppRecord)>>, PostgresError> {
    let row = sqlx::query!(
        r#"SELECT k.digest AS "digest!", k.id AS "id!: KeyId", k.application_id AS "application_id!: ApplicationId",
                  k.type AS "type!", k.epoch AS "epoch!", k.version AS "version!", k.scopes AS "scopes!",
                  k.networks AS "networks!", k.origins AS "origins!", k.enabled AS "enabled!",
                  (extract(epoch FROM k.expires_at) * 1000)::bigint AS expires_at_ms,
                  (k.revoked_at IS NOT NULL) AS "revoked!",
                  a.workspace_id AS "app_workspace_id!: WorkspaceId", a.epoch AS "app_epoch!",
                  a.version AS "app_version!", a.environment AS "app_environment!", a.region AS "app_region!",
                  a.status AS "app_status!", a.activated AS "app_activated!", a.endpoints AS "app_endpoints!",
                  a.base_path AS "app_base_path!", a.edge_credentials AS app_edge_credentials,
                  a.origins AS "app_origins!", a.path_policy AS "app_path_policy!",
                  a.quota_exhausted AS "app_quota_exhausted!", a.plan AS "app_plan!",
                  a.strict_seconds AS app_strict_seconds,
                  a.secret_from_browsers AS "app_secret_from_browsers!", a.edge_limits AS app_edge_limits,
                  a.cache_policy AS "app_cache_policy!", a.cache_purges AS "app_cache_purges!",
                  a.instance_service AS app_instance_service, a.instance_tls AS app_instance_tls,
                  a.workspace_status AS "app_workspace_status!",
                  (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS "database_ms!"
           FROM edge_keys k JOIN edge_apps a ON a.id = k.application_id
           WHERE k.digest = $1"#,
        digest.as_bytes().as_slice(),
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let app = AppRow {
        id: row.application_id,
        workspace_id: row.app_workspace_id,
        epoch: row.app_epoch,
        version: row.app_version,
        environment: row.app_environment,
        region: row.app_region,
        status: row.app_status,
        activated: row.app_activated,
        endpoints: row.app_endpoints,
        base_path: row.app_base_path,
        edge_credentials: row.app_edge_credentials,
        origins: row.app_origins,
        path_policy: row.app_path_policy,
        quota_exhausted: row.app_quota_exhausted,
        strict_seconds: row.app_strict_seconds,
        secret_from_browsers: row.app_secret_from_browsers,
        edge_limits: row.app_edge_limits,
        cache_policy: row.app_cache_policy,
        cache_purges: row.app_cache_purges,
        instance_service: row.app_instance_service,
        instance_tls: row.app_instance_tls,
        plan: row.app_plan,
        workspace_status: row.app_workspace_status,
    };
    let key = KeyRow {
        digest: row.digest,
        id: row.id,
        application_id: row.application_id,
        r#type: row.r#type,
        epoch: row.epoch,
        version: row.version,
        scopes: row.scopes,
        networks: row.networks,
        origins: row.origins,
        enabled: row.enabled,
        expires_at_ms: row.expires_at_ms,
        revoked: row.revoked,
    };
    Ok(Some(Dated {
        value: (key.into_record()?, app.into_record()?),
        database_ms: row.database_ms,
    }))
}

async fn application(
    connection: &mut PgConnection,
    id: ApplicationId,
) -> Result<Option<Dated<AppRecord>>, PostgresError> {
    let row = sqlx::query!(
        r#"SELECT a.id AS "id!: ApplicationId", a.workspace_id AS "workspace_id!: WorkspaceId", a.epoch AS "epoch!",
                  a.version AS "version!", a.environment AS "environment!", a.region AS "region!", a.status AS "status!",
                  a.activated AS "activated!", a.endpoints AS "endpoints!", a.base_path AS "base_path!",
                  a.edge_credentials, a.origins AS "origins!", a.path_policy AS "path_policy!",
                  a.quota_exhausted AS "quota_exhausted!", a.plan AS "plan!", a.workspace_status AS "workspace_status!",
                  a.strict_seconds, a.secret_from_browsers AS "secret_from_browsers!", a.edge_limits,
                  a.cache_policy AS "cache_policy!", a.cache_purges AS "cache_purges!", a.instance_service,
                  a.instance_tls,
                  (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS "database_ms!"
           FROM edge_apps a WHERE a.id = $1"#,
        id as ApplicationId,
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let database_ms = row.database_ms;
    let app = AppRow {
        id: row.id,
        workspace_id: row.workspace_id,
        epoch: row.epoch,
        version: row.version,
        environment: row.environment,
        region: row.region,
        status: row.status,
        activated: row.activated,
        endpoints: row.endpoints,
        base_path: row.base_path,
        edge_credentials: row.edge_credentials,
        origins: row.origins,
        path_policy: row.path_policy,
        quota_exhausted: row.quota_exhausted,
        strict_seconds: row.strict_seconds,
        secret_from_browsers: row.secret_from_browsers,
        edge_limits: row.edge_limits,
        cache_policy: row.cache_policy,
        cache_purges: row.cache_purges,
        instance_service: row.instance_service,
        instance_tls: row.instance_tls,
        plan: row.plan,
        workspace_status: row.workspace_status,
    };
    Ok(Some(Dated {
        value: app.into_record()?,
        database_ms,
    }))
}
