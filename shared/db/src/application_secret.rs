//! The rows of `application_secrets`: sealed by control, which writes them, and opened by the provisioner, which gives them to
//! instances.

use authsome_contract::model::SecretName;
use authsome_core::id::ApplicationId;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::DbError;

/// What may be told of a secret.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Listed {
    pub name: String,
    pub last_four: Option<String>,
    pub set_at: OffsetDateTime,
}

/// A sealed value as it is stored.
#[derive(Clone)]
pub struct Stored {
    /// The environment variable of the instance.
    pub name: SecretName,
    /// The sealed value.
    pub sealed: Vec<u8>,
}

/// The secrets of an application without their values, by name.
pub async fn list(connection: &mut PgConnection, application: ApplicationId) -> Result<Vec<Listed>, DbError> {
    Ok(sqlx::query_as!(
        Listed,
        "SELECT name, last_four, set_at FROM application_secrets WHERE application_id = $1 ORDER BY name",
        application as ApplicationId,
    )
    .fetch_all(connection)
    .await?)
}

/// Writes a value in the place of the one before.
pub async fn put(
    connection: &mut PgConnection,
    application: ApplicationId,
    new: &Stored,
    last_four: Option<&str>,
    set_at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO application_secrets (application_id, name, sealed, last_four, set_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (application_id, name)
         DO UPDATE SET sealed = excluded.sealed, last_four = excluded.last_four, set_at = excluded.set_at",
        application as ApplicationId,
        new.name.as_str(),
        new.sealed,
        last_four,
        set_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes one; `false` where there is none.
pub async fn remove(
    connection: &mut PgConnection,
    application: ApplicationId,
    name: &SecretName,
) -> Result<bool, DbError> {
    let removed = sqlx::query!(
        "DELETE FROM application_secrets WHERE application_id = $1 AND name = $2",
        application as ApplicationId,
        name.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(removed.rows_affected() > 0)
}

/// Removes all of them.
pub async fn remove_all(connection: &mut PgConnection, application: ApplicationId) -> Result<(), DbError> {
    sqlx::query!(
        "DELETE FROM application_secrets WHERE application_id = $1",
        application as ApplicationId,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The sealed values of an application, by name.
pub async fn sealed(connection: &mut PgConnection, application: ApplicationId) -> Result<Vec<Stored>, DbError> {
    let rows = sqlx::query!(
        "SELECT name, sealed FROM application_secrets WHERE application_id = $1 ORDER BY name",
        application as ApplicationId,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let name = row.name.parse().map_err(|_| DbError::Inconsistent {
                table: "application_secrets",
                column: "name",
                row: application.to_string(),
                detail: format!("{:?} is not a name that this release knows", row.name),
            })?;
            Ok(Stored {
                name,
                sealed: row.sealed,
            })
        })
        .collect()
}

/// Puts the same value under another key in the place of `before`, unless somebody has written another value meanwhile.
pub async fn reseal(
    connection: &mut PgConnection,
    application: ApplicationId,
    before: &Stored,
    after: &[u8],
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE application_secrets SET sealed = $4 WHERE application_id = $1 AND name = $2 AND sealed = $3",
        application as ApplicationId,
        before.name.as_str(),
        before.sealed,
        after,
    )
    .execute(connection)
    .await?;
    Ok(())
}
