//! API keys: digests, masked forms, and what each key may do.

use authsome_contract::model::Version;
use authsome_core::id::{ApplicationId, KeyId, UserId, WorkspaceId};
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
    pub version: Version,
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
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: KeyId", name, type AS key_type, coalesce(public_key, masked) AS "shown!", scopes, networks,
                  origins, enabled, last_used_at, expires_at, created_at, epoch, version
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
    Ok((
        rows.into_iter().map(Row::into_key).collect::<Result<_, DbError>>()?,
        total,
    ))
}

/// A key of an application that is not revoked.
pub async fn find(
    connection: &mut PgConnection,
    application: ApplicationId,
    id: KeyId,
) -> Result<Option<Key>, DbError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: KeyId", name, type AS key_type, coalesce(public_key, masked) AS "shown!", scopes, networks,
                  origins, enabled, last_used_at, expires_at, created_at, epoch, version
           FROM api_keys WHERE id = $1 AND application_id = $2 AND revoked_at IS NULL"#,
        id as KeyId,
        application as ApplicationId,
    )
    .fetch_optional(connection)
    .await?;
    row.map(Row::into_key).transpose()
}

/// As [`find`], the row locked against other changes.
pub async fn lock(
    connection: &mut PgConnection,
    application: ApplicationId,
    id: KeyId,
) -> Result<Option<Key>, DbError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: KeyId", name, type AS key_type, coalesce(public_key, masked) AS "shown!", scopes, networks,
                  origins, enabled, last_used_at, expires_at, created_at, epoch, version
           FROM api_keys WHERE id = $1 AND application_id = $2 AND revoked_at IS NULL FOR NO KEY UPDATE"#,
        id as KeyId,
        application as ApplicationId,
    )
    .fetch_optional(connection)
    .await?;
    row.map(Row::into_key).transpose()
}

/// What a team may change of a key.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Change<'a> {
    pub name: &'a str,
    pub scopes: &'a [String],
    pub networks: &'a [String],
    pub origins: &'a [String],
    pub enabled: bool,
    pub expires_at: Option<OffsetDateTime>,
}

/// Writes a change; the version rises with every one, so that it is told by the entity tag.
pub async fn update(connection: &mut PgConnection, id: KeyId, change: &Change<'_>) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE api_keys SET name = $2, scopes = $3, networks = $4, origins = $5, enabled = $6, expires_at = $7,
                             version = version + 1
         WHERE id = $1",
        id as KeyId,
        change.name,
        change.scopes,
        change.networks,
        change.origins,
        change.enabled,
        change.expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whose a key is.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Owner {
    pub id: KeyId,
    pub application_id: ApplicationId,
    pub workspace_id: WorkspaceId,
    /// Neither revoked nor past its end, and its application is not gone.
    pub usable: bool,
}

/// Whose the key with this digest is, its row locked.
pub async fn owner(
    connection: &mut PgConnection,
    digest: &Digest,
    now: OffsetDateTime,
) -> Result<Option<Owner>, DbError> {
    Ok(sqlx::query_as!(
        Owner,
        r#"SELECT k.id AS "id: KeyId", k.application_id AS "application_id: ApplicationId",
                  a.workspace_id AS "workspace_id: WorkspaceId",
                  k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2) AND a.status <> 'deleted'
                      AS "usable!"
           FROM api_keys k JOIN applications a ON a.id = k.application_id
           WHERE k.digest = $1 FOR NO KEY UPDATE OF k"#,
        digest.as_bytes(),
        now,
    )
    .fetch_optional(connection)
    .await?)
}

struct Row {
    id: KeyId,
    name: String,
    key_type: String,
    shown: String,
    scopes: Vec<String>,
    networks: Vec<String>,
    origins: Vec<String>,
    enabled: bool,
    last_used_at: Option<OffsetDateTime>,
    expires_at: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
    epoch: i64,
    version: i64,
}

impl Row {
    fn into_key(self) -> Result<Key, DbError> {
        let key_type = self.key_type.parse().map_err(|_| DbError::Inconsistent {
            table: "api_keys",
            column: "type",
            row: self.id.to_string(),
            detail: format!("unknown type {:?}", self.key_type),
        })?;
        Ok(Key {
            id: self.id,
            name: self.name,
            key_type,
            shown: self.shown,
            scopes: self.scopes,
            networks: self.networks,
            origins: self.origins,
            enabled: self.enabled,
            last_used_at: self.last_used_at,
            expires_at: self.expires_at,
            created_at: self.created_at,
            version: Version::from_columns(self.epoch, self.version),
        })
    }
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

/// A key as a letter names it.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the tables, documented in their migrations")]
pub struct Named {
    pub name: String,
    pub masked: String,
    pub application_id: ApplicationId,
    pub application: String,
}

/// The names of a key and of its application.
pub async fn named(connection: &mut PgConnection, id: KeyId) -> Result<Option<Named>, DbError> {
    Ok(sqlx::query_as!(
        Named,
        r#"SELECT k.name, k.masked, a.id AS "application_id: ApplicationId", a.name AS application
           FROM api_keys k JOIN applications a ON a.id = k.application_id WHERE k.id = $1"#,
        id as KeyId,
    )
    .fetch_optional(connection)
    .await?)
}
