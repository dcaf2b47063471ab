//! What is done in the control database directly: asking where the demo application's instances are (the API does not tell
//! addresses, and asking through the edge would be metered as the customer's own request), and ending the leases of a
//! provisioner that was killed.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};

/// Addresses (`http://host:port`) and base path of an application's instances.
pub(crate) async fn instances(
    options: &PgConnectOptions,
    application: &str,
) -> Result<(Vec<String>, String), sqlx::Error> {
    let mut connection = options.clone().disable_statement_logging().connect().await?;
    let row = sqlx::query_as("SELECT endpoints, base_path FROM applications WHERE id = $1")
        .bind(application)
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(row)
}

/// Ends all leases on applications. Only while no provisioner runs: the next one then goes on at once with what a killed one
/// left, instead of waiting for half a minute until its leases have expired.
pub(crate) async fn end_leases(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    let mut connection = options.clone().disable_statement_logging().connect().await?;
    sqlx::query("UPDATE application_leases SET expires_at = now() WHERE expires_at > now()")
        .execute(&mut connection)
        .await?;
    connection.close().await
}
