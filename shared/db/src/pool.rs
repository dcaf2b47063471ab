//! The connection pool, with a bound on every wait.

use std::{str::FromStr, time::Duration};

use authsome_core::secret::SecretUrl;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::DbError;

/// How a program uses the database.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Shown in `pg_stat_activity`.
    pub application_name: &'static str,
    /// Connections at most.
    pub max_connections: u32,
    /// How long a caller waits for a connection.
    pub acquire_timeout: Duration,
    /// How long a statement may run, enforced by the server.
    pub statement_timeout: Duration,
}

impl PoolOptions {
    /// 10 connections, 3 s for a connection, 10 s for a statement.
    pub fn new(application_name: &'static str) -> Self {
        Self {
            application_name,
            max_connections: 10,
            acquire_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(10),
        }
    }
}

/// A pool that connects when it is first used. Must be called inside a tokio runtime, and used on that one.
pub fn lazy(url: &SecretUrl, options: &PoolOptions) -> Result<PgPool, DbError> {
    let connect = PgConnectOptions::from_str(url.expose())?
        .application_name(options.application_name)
        .options([
            ("statement_timeout", options.statement_timeout.as_millis().to_string()),
            // A transaction whose owner died without closing its socket must not hold locks for hours.
            ("idle_in_transaction_session_timeout", "60000".to_owned()),
            ("timezone", "UTC".to_owned()),
            // Our statements read few rows each. Where a table was never analysed the estimate can be high enough for the compiler of
            // expressions, which then takes over a second for three rows.
            ("jit", "off".to_owned()),
        ]);
    Ok(PgPoolOptions::new()
        .max_connections(options.max_connections)
        .acquire_timeout(options.acquire_timeout)
        .connect_lazy_with(connect))
}

/// Does the database answer? Bounded by the pool's acquire timeout.
pub async fn ping(pool: &PgPool) -> Result<(), DbError> {
    sqlx::query("SELECT 1").execute(pool).await?;
    Ok(())
}
