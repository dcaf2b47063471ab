//! The one question that is put to the control database directly: where the demo application's instances are. The API does
//! not tell addresses, and asking through the edge would be metered as the customer's own request.

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
