//! API keys: digests, masked forms, and what each key may do.

use authsome_core::id::{ApplicationId, KeyId, UserId};
use authsome_core::key::{ApiKey, Digest, KeyType};
use authsome_db::DbError;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// A key as its team sees it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Key {
    pub id: KeyId,
    pub name: String,
    pub key_type: KeyType,
    /// What may always be shown: a public key whole, a secret one masked.
    pub shown: String,
    pub scopes: Vec<String>,
    pub networks: Vec<String>,
    pub origins: Vec<String>,
    pub enabled: bool,
    pub last_used_at: Option<OffsetDateTime>,
    pub expires_at: Option<OffsetDateTime>,
    pub created_at: OffsetDateTime,
}

/// A key to write. The key itself goes no further than its digest and masked form, unless it is public.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct NewKey<'a> {
    pub id: KeyId,
    pub application_id: ApplicationId,
    pub name: &'a str,
    pub key: &'a ApiKey,
    pub scopes: &'a [String],
    pub networks: &'a [String],
    pub origins: &'a [String],
    pub expires_at: Option<OffsetDateTime>,
    pub created_by: UserId,
    pub created_at: OffsetDateTime,
}

/// The times of a new key as Postgres keeps them: to the microsecond.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it ends.
    pub expires_at: Option<OffsetDateTime>,
}

/// Writes a new key.
pub async fn insert(connection: &mut PgConnection, new: &NewKey<'_>) -> Result<Stored, DbError> {
    let key_type = new.key.parsed().key_type();
    let public_key = (key_type == KeyType::Public).then(|| new.key.expose());
    let digest = new.key.digest();
    let row = sqlx::query!(
        "INSERT INTO api_keys (id, application_id, type, name, digest, masked, public_key, scopes, networks, origins,
                               expires_at, created_by, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         RETURNING created_at, expires_at",
        new.id as KeyId,
        new.application_id as ApplicationId,
        key_type.as_str(),
        new.name,
        digest.as_bytes(),
        new.key.masked(),
        public_key,
        new.scopes,
        new.networks,
        new.origins,
        new.expires_at,
        new.created_by as UserId,
        new.created_at,
    )
    .fetch_one(connection)
    .await?;
    Ok(Stored {
        created_at: row.created_at,
        expires_at: row.expires_at,
    })
}

/// The keys of an application that are not revoked, oldest first, and how many there are in all.
pub async fn of_application(
    connection: &mut PgConnection,
    application: ApplicationId,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Key>, i64), DbError> {
    let rows = sqlx::query!(
        r#"SELECT id AS "id: KeyId", name, type AS key_type, coalesce(public_key, masked) AS "shown!", scopes, networks,
                  origins, enabled, last_used_at, expires_at, created_at
           FROM api_keys WHERE application_id = $1 AND revoked_at IS NULL
           ORDER BY created_at, type, id LIMIT $2 OFFSET $3"#,
        application as ApplicationId,
        limit,
        offset,
    )
    .fetch_all(&mut *connection)
    .await?;
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM api_keys WHERE application_id = $1 AND revoked_at IS NULL"#,
        application as ApplicationId,
    )
    .fetch_one(connection)
    .await?;
    let keys = rows.into_iter().map(|row| {
        let key_type = row.key_type.parse().map_err(|_| DbError::Inconsistent {
            table: "api_keys",
            column: "type",
            row: row.id.to_string(),
            detail: format!("unknown type {:?}", row.key_type),
        })?;
        Ok(Key {
            id: row.id,
            name: row.name,
            key_type,
            shown: row.shown,
            scopes: row.scopes,
            networks: row.networks,
            origins: row.origins,
            enabled: row.enabled,
            last_used_at: row.last_used_at,
            expires_at: row.expires_at,
            created_at: row.created_at,
        })
    });
    Ok((keys.collect::<Result<_, DbError>>()?, total))
}

/// What revoking found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// It was usable until now.
    Now(Digest),
    /// It had been revoked before.
    Before(Digest),
    /// The application has no such key.
    Missing,
}

/// Revokes a key of an application, for good.
pub async fn revoke(
    connection: &mut PgConnection,
    application: ApplicationId,
    id: KeyId,
    at: OffsetDateTime,
) -> Result<Revoked, DbError> {
    let revoked = sqlx::query_scalar!(
        "UPDATE api_keys SET revoked_at = $3 WHERE id = $1 AND application_id = $2 AND revoked_at IS NULL RETURNING digest",
        id as KeyId,
        application as ApplicationId,
        at,
    )
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(digest) = revoked {
        return Ok(Revoked::Now(read(&digest, id)?));
    }
    let before = sqlx::query_scalar!(
        "SELECT digest FROM api_keys WHERE id = $1 AND application_id = $2",
        id as KeyId,
        application as ApplicationId,
    )
    .fetch_optional(connection)
    .await?;
    Ok(match before {
        Some(digest) => Revoked::Before(read(&digest, id)?),
        None => Revoked::Missing,
    })
}

fn read(digest: &[u8], id: KeyId) -> Result<Digest, DbError> {
    Digest::try_from(digest).map_err(|error| DbError::Inconsistent {
        table: "api_keys",
        column: "digest",
        row: id.to_string(),
        detail: error.to_string(),
    })
}
