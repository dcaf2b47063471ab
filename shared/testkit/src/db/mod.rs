//! The few statements that prepare databases on a server of our own. Names are quoted identifiers, never text.

pub mod population;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

/// One short-lived connection. Its statements are not logged: some carry passwords.
pub(crate) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    options.clone().disable_statement_logging().connect().await
}

/// Whether the server answers queries.
pub(crate) async fn ping(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    let mut connection = connect(options).await?;
    sqlx::query("SELECT 1").execute(&mut connection).await?;
    connection.close().await
}

/// Creates an empty database; one that exists is fine, and not an error in the server's log.
pub(crate) async fn create_database(options: &PgConnectOptions, name: &str) -> Result<(), sqlx::Error> {
    let mut connection = connect(options).await?;
    let exists = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(name)
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    if exists {
        return Ok(());
    }
    execute_create(options, format!("CREATE DATABASE {}", quoted(name))).await
}

/// Creates a database as a copy of `template`, which must have no connections; one that exists is fine.
pub(crate) async fn copy_database(options: &PgConnectOptions, name: &str, template: &str) -> Result<(), sqlx::Error> {
    execute_create(
        options,
        format!("CREATE DATABASE {} TEMPLATE {}", quoted(name), quoted(template)),
    )
    .await
}

async fn execute_create(options: &PgConnectOptions, statement: String) -> Result<(), sqlx::Error> {
    let mut connection = connect(options).await?;
    let created = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await;
    connection.close().await?;
    match created {
        // 42P04: duplicate database.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P04") => Ok(()),
        other => other.map(|_| ()),
    }
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
