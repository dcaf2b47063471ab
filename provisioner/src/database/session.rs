//! Sessions on the tenant server, every wait of which is bounded: by its own limit, and by what is left of the lease.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};

use super::DatabaseError;
use super::db::statement::{self, Statement};
use crate::lease::{CallError, Fence};
use crate::step::LONGEST_CALL;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a look at the catalog may take.
const LOOK: Duration = Duration::from_secs(5);

/// One session. Opened for one piece of work and closed after it: provisioning is rare.
pub(super) struct Session<'a> {
    connection: PgConnection,
    fence: &'a Fence,
}

/// What every administrative session is like: no statement is logged by the driver, none outlives its caller by much, and
/// nothing that a tenant made is found under an unqualified name.
pub(super) fn administrative(options: PgConnectOptions) -> PgConnectOptions {
    // The server gives up first, and so says why.
    let statement_timeout = LONGEST_CALL
        .saturating_sub(Duration::from_secs(2))
        .as_millis()
        .to_string();
    options
        .application_name("authsome-provisioner")
        .disable_statement_logging()
        .options([
            ("statement_timeout", statement_timeout.as_str()),
            ("lock_timeout", "10000"),
            ("search_path", "pg_catalog"),
            ("timezone", "UTC"),
        ])
}

impl<'a> Session<'a> {
    pub(super) async fn open(options: &PgConnectOptions, fence: &'a Fence) -> Result<Self, DatabaseError> {
        let connection = bounded(fence, CONNECT, "connect", options.connect()).await?;
        Ok(Self { connection, fence })
    }

    /// Looks at something.
    pub(super) async fn look<T>(
        &mut self,
        what: &'static str,
        look: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, DatabaseError> {
        bounded(self.fence, LOOK, what, look(&mut self.connection)).await
    }

    /// Looks at something of every tenant.
    pub(super) async fn measure<T>(
        &mut self,
        look: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, DatabaseError> {
        bounded(
            self.fence,
            LONGEST_CALL,
            "measure what tenants use",
            look(&mut self.connection),
        )
        .await
    }

    /// Changes something.
    pub(super) async fn run(&mut self, change: &Statement) -> Result<(), DatabaseError> {
        bounded(
            self.fence,
            LONGEST_CALL,
            change.what,
            statement::run(&mut self.connection, change),
        )
        .await
    }

    pub(super) async fn close(self) {
        // A server that does not take the farewell notices the closed socket.
        let _ = tokio::time::timeout(Duration::from_secs(1), statement::close(self.connection)).await;
    }
}

async fn bounded<T>(
    fence: &Fence,
    limit: Duration,
    what: &'static str,
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, DatabaseError> {
    match fence.call(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(DatabaseError::from_sqlx(what, source)),
        Err(CallError::Fenced(fenced)) => Err(fenced.into()),
        Err(CallError::TimedOut(limit)) => Err(DatabaseError::TimedOut { what, limit }),
    }
}
