//! The whole table: in pages, their versions alone, and what has changed past a position. On two connections of its own, so
//! that a flood of misses cannot delay a revocation and this cannot delay a miss.

use std::time::Duration;

use authsome_contract::model::route::{AppRow, KeyRow};
use authsome_contract::model::{AppRecord, KeyRecord, Version};
use authsome_contract::wire::{Change, Versioned};
use authsome_core::id::{ApplicationId, KeyId, WorkspaceId};
use authsome_core::key::Digest;
use authsome_core::secret::SecretUrl;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Connection, PgConnection};

use super::{PostgresAddressError, PostgresError, options};

/// For one page or question; a server that does not answer within it counts as away.
const ANSWER: Duration = Duration::from_secs(5);
const CONNECTIONS: u32 = 2;

/// More changes than this at once are read as a whole table.
pub(in crate::routing) const MOST_CHANGES: i64 = 10_000;

/// Where the database stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::routing) struct Head {
    /// Restore epoch.
    pub(in crate::routing) epoch: u64,
    /// Last position that was given out.
    pub(in crate::routing) position: u64,
    /// The database's clock, milliseconds since the Unix epoch.
    pub(in crate::routing) database_ms: i64,
}

/// What has changed since the last question.
#[derive(Debug)]
pub(in crate::routing) struct News {
    pub(in crate::routing) head: Head,
    /// Oldest transaction that was open: what is committed later belongs to this one or a later one.
    pub(in crate::routing) horizon: u64,
    /// Applications before keys and hosts.
    pub(in crate::routing) changes: Vec<Change>,
}

/// The answer to what has changed.
#[derive(Debug)]
pub(in crate::routing) enum Asked {
    /// This, and nothing else.
    News(News),
    /// The outbox no longer holds everything past the position, or too much: the whole table must be read.
    TooMuch,
}

/// Rows of the outbox as they announce something.
struct Announced {
    topic: String,
    reference: String,
    version: Version,
}

pub(in crate::routing) struct WholeSource {
    pool: PgPool,
}

impl WholeSource {
    /// Connects when first asked.
    pub(in crate::routing) fn connect(address: &SecretUrl) -> Result<Self, PostgresAddressError> {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ANSWER)
            .idle_timeout(Duration::from_mins(1))
            .connect_lazy_with(options(address, ANSWER)?);
        Ok(Self { pool })
    }

    /// Where the database stands.
    pub(in crate::routing) async fn head(&self) -> Result<Head, PostgresError> {
        self.bounded(async |connection| head(connection).await).await
    }

    /// What was committed past `position` (of `epoch`), and what has no position yet and was not committed before
    /// `horizon`. One snapshot of the outbox; the records are read after it and may be newer.
    pub(in crate::routing) async fn news(
        &self,
        epoch: u64,
        position: u64,
        horizon: u64,
    ) -> Result<Asked, PostgresError> {
        self.bounded(async |connection| {
            let outline = outline(connection, position, horizon).await?;
            let Some((head, next_horizon, announced)) = outline else {
                return Ok(Asked::TooMuch);
            };
            if head.epoch != epoch || head.position < position {
                return Ok(Asked::TooMuch);
            }
            let changes = records(connection, &announced).await?;
            Ok(Asked::News(News {
                head,
                horizon: next_horizon,
                changes,
            }))
        })
        .await
    }

    /// Applications after `after` by id, at most `limit`. A row that is not understood is left out and told of.
    pub(in crate::routing) async fn apps(
        &self,
        after: &str,
        limit: i64,
    ) -> Result<Page<AppRecord, String>, PostgresError> {
        let rows = self
            .bounded(async |connection| apps_page(connection, after, limit).await)
            .await?;
        let next = rows.last().map(|row| row.id.to_string());
        let records = rows
            .into_iter()
            .filter_map(|row| understood(row.into_record()))
            .collect();
        Ok(Page { records, next })
    }

    /// Keys after `after` by digest, at most `limit`. As [`Self::apps`].
    pub(in crate::routing) async fn keys(
        &self,
        after: &[u8],
        limit: i64,
    ) -> Result<Page<KeyRecord, Vec<u8>>, PostgresError> {
        let rows = self
            .bounded(async |connection| keys_page(connection, after, limit).await)
            .await?;
        let next = rows.last().map(|row| row.digest.clone());
        let records = rows
            .into_iter()
            .filter_map(|row| understood(row.into_record()))
            .collect();
        Ok(Page { records, next })
    }

    /// Versions of the applications after `after` by id, at most `limit`.
    pub(in crate::routing) async fn app_versions(
        &self,
        after: &str,
        limit: i64,
    ) -> Result<Vec<(ApplicationId, Version)>, PostgresError> {
        self.bounded(async |connection| {
            let rows = sqlx::query!(
                r#"SELECT id AS "id!: ApplicationId", epoch AS "epoch!", version AS "version!"
                   FROM edge_apps WHERE id > $1 ORDER BY id LIMIT $2"#,
                after,
                limit,
            )
            .fetch_all(connection)
            .await?;
            let named = rows.into_iter();
            Ok(named
                .map(|row| (row.id, Version::from_columns(row.epoch, row.version)))
                .collect())
        })
        .await
    }

    /// Versions of the keys whose digest is after `after` and not after `last`, at most `limit`.
    pub(in crate::routing) async fn key_versions(
        &self,
        after: &[u8],
        last: &[u8],
        limit: i64,
    ) -> Result<Vec<(Digest, Version)>, PostgresError> {
        self.bounded(async |connection| {
            let rows = sqlx::query!(
                r#"SELECT digest AS "digest!", epoch AS "epoch!", version AS "version!"
                   FROM edge_keys WHERE digest > $1 AND digest <= $2 ORDER BY digest LIMIT $3"#,
                after,
                last,
                limit,
            )
            .fetch_all(connection)
            .await?;
            let named = rows.into_iter().filter_map(|row| {
                let digest = Digest::try_from(row.digest.as_slice()).ok()?;
                Some((digest, Version::from_columns(row.epoch, row.version)))
            });
            Ok(named.collect())
        })
        .await
    }

    /// A connection that failed or did not answer is not used again.
    pub(super) async fn bounded<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, PostgresError>,
    ) -> Result<T, PostgresError> {
        let answer = async {
            let mut lent = super::Lent(Some(self.pool.acquire().await?));
            let answer = work(lent.connection()?).await;
            lent.give_back_after(&answer);
            answer
        };
        tokio::time::timeout(ANSWER, answer)
            .await
            .map_err(|_| PostgresError::Silent)?
    }
}

/// A page, and where the next one begins; `None` after the last.
#[derive(Debug)]
pub(in crate::routing) struct Page<T, N> {
    pub(in crate::routing) records: Vec<T>,
    pub(in crate::routing) next: Option<N>,
}

fn understood<T>(record: Result<T, authsome_contract::model::route::InconsistentRow>) -> Option<T> {
    record
        .inspect_err(|error| tracing::error!(%error, "a routing record cannot be used"))
        .ok()
}

async fn head(connection: &mut PgConnection) -> Result<Head, PostgresError> {
    let row = sqlx::query!(
        r#"SELECT p.epoch, o.last, (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS "database_ms!"
           FROM platform p, outbox_position o"#,
    )
    .fetch_one(connection)
    .await?;
    Ok(Head {
        epoch: row.epoch.unsigned_abs(),
        position: row.last.unsigned_abs(),
        database_ms: row.database_ms,
    })
}

/// What the outbox announces past `position`; `None` when it does not hold all of it any more, or holds too much.
async fn outline(
    connection: &mut PgConnection,
    position: u64,
    horizon: u64,
) -> Result<Option<(Head, u64, Vec<Announced>)>, PostgresError> {
    let position = i64::try_from(position).unwrap_or(i64::MAX);
    // One snapshot for all: a row must not get its position between two statements.
    let mut transaction = connection
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let head = head(&mut transaction).await?;
    let found = sqlx::query!(
        r#"SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS "horizon!",
                  (SELECT count(*) FROM outbox WHERE position > $1) AS "positioned!""#,
        position,
    )
    .fetch_one(&mut *transaction)
    .await?;
    let last = i64::try_from(head.position).unwrap_or(i64::MAX);
    if found.positioned != (last - position).max(0) {
        return Ok(None);
    }
    let rows = sqlx::query!(
        r#"SELECT topic, ref AS reference, epoch, version FROM outbox
           WHERE (position > $1 OR (position IS NULL AND xid >= $2::text::xid8)) AND topic IN ('app', 'key', 'host')
           ORDER BY id LIMIT $3"#,
        position,
        horizon.to_string(),
        MOST_CHANGES,
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    if i64::try_from(rows.len()).unwrap_or(i64::MAX) >= MOST_CHANGES {
        return Ok(None);
    }
    let announced = rows.into_iter().map(|row| Announced {
        topic: row.topic,
        reference: row.reference,
        version: Version::from_columns(row.epoch, row.version),
    });
    // A horizon that cannot be read asks for everything without a position again.
    Ok(Some((head, found.horizon.parse().unwrap_or(0), announced.collect())))
}

/// The announced records as they now are; a row that is gone is a tombstone of the announced version.
async fn records(connection: &mut PgConnection, announced: &[Announced]) -> Result<Vec<Change>, PostgresError> {
    let of = |topic: &'static str| announced.iter().filter(move |row| row.topic == topic);
    let ids: Vec<String> = of("app").map(|row| row.reference.clone()).collect();
    let named: Vec<(Digest, Version)> = of("key")
        .filter_map(|row| Some((row.reference.parse().ok()?, row.version)))
        .collect();
    let mut changes = Vec::with_capacity(announced.len());
    let hosts: Vec<(&str, Version)> = of("host").map(|row| (row.reference.as_str(), row.version)).collect();
    let mut found = std::collections::HashSet::new();
    if !ids.is_empty() {
        for row in apps_by_id(connection, &ids).await? {
            let id = row.id;
            let version = Version::from_columns(row.epoch, row.version);
            found.insert(id.to_string());
            let record = understood(row.into_record());
            changes.push(Change::App(id, Versioned { version, record }));
        }
        for row in of("app").filter(|row| !found.contains(&row.reference)) {
            if let Ok(id) = row.reference.parse() {
                let gone = Versioned {
                    version: row.version,
                    record: None,
                };
                changes.push(Change::App(id, gone));
            }
        }
    }
    if !named.is_empty() {
        let digests: Vec<Vec<u8>> = named.iter().map(|(digest, _)| digest.as_bytes().to_vec()).collect();
        let mut found = std::collections::HashSet::new();
        for row in keys_by_digest(connection, &digests).await? {
            let Ok(digest) = Digest::try_from(row.digest.as_slice()) else {
                continue;
            };
            let version = Version::from_columns(row.epoch, row.version);
            found.insert(digest);
            let record = understood(row.into_record());
            changes.push(Change::Key(digest, Versioned { version, record }));
        }
        for (digest, version) in named.into_iter().filter(|(digest, _)| !found.contains(digest)) {
            changes.push(Change::Key(digest, Versioned { version, record: None }));
        }
    }
    changes.extend(super::hosts::announced(connection, &hosts).await?);
    Ok(changes)
}

async fn apps_page(connection: &mut PgConnection, after: &str, limit: i64) -> Result<Vec<AppRow>, PostgresError> {
    Ok(sqlx::query_as!(
        AppRow,
        r#"SELECT id AS "id!: ApplicationId", workspace_id AS "workspace_id!: WorkspaceId", epoch AS "epoch!",
                  version AS "version!", environment AS "environment!", region AS "region!", status AS "status!",
                  activated AS "activated!", endpoints AS "endpoints!", base_path AS "base_path!", edge_credentials,
                  origins AS "origins!", path_policy AS "path_policy!", quota_exhausted AS "quota_exhausted!",
                  plan AS "plan!", workspace_status AS "workspace_status!", strict_seconds,
                  secret_from_browsers AS "secret_from_browsers!", edge_limits, cache_policy AS "cache_policy!",
                  cache_purges AS "cache_purges!", instance_service, instance_tls
           FROM edge_apps WHERE id > $1 ORDER BY id LIMIT $2"#,
        after,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

async fn apps_by_id(connection: &mut PgConnection, ids: &[String]) -> Result<Vec<AppRow>, PostgresError> {
    Ok(sqlx::query_as!(
        AppRow,
        r#"SELECT id AS "id!: ApplicationId", workspace_id AS "workspace_id!: WorkspaceId", epoch AS "epoch!",
                  version AS "version!", environment AS "environment!", region AS "region!", status AS "status!",
                  activated AS "activated!", endpoints AS "endpoints!", base_path AS "base_path!", edge_credentials,
                  origins AS "origins!", path_policy AS "path_policy!", quota_exhausted AS "quota_exhausted!",
                  plan AS "plan!", workspace_status AS "workspace_status!", strict_seconds,
                  secret_from_browsers AS "secret_from_browsers!", edge_limits, cache_policy AS "cache_policy!",
                  cache_purges AS "cache_purges!", instance_service, instance_tls
           FROM edge_apps WHERE id = ANY ($1)"#,
        ids,
    )
    .fetch_all(connection)
    .await?)
}

async fn keys_page(connection: &mut PgConnection, after: &[u8], limit: i64) -> Result<Vec<KeyRow>, PostgresError> {
    Ok(sqlx::query_as!(
        KeyRow,
        r#"SELECT digest AS "digest!", id AS "id!: KeyId", application_id AS "application_id!: ApplicationId",
                  type AS "type!", epoch AS "epoch!", version AS "version!", scopes AS "scopes!", networks AS "networks!",
                  origins AS "origins!", enabled AS "enabled!",
                  floor(extract(epoch FROM expires_at) * 1000)::bigint AS expires_at_ms,
                  revoked_at IS NOT NULL AS "revoked!"
           FROM edge_keys WHERE digest > $1 ORDER BY digest LIMIT $2"#,
        after,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

async fn keys_by_digest(connection: &mut PgConnection, digests: &[Vec<u8>]) -> Result<Vec<KeyRow>, PostgresError> {
    Ok(sqlx::query_as!(
        KeyRow,
        r#"SELECT digest AS "digest!", id AS "id!: KeyId", application_id AS "application_id!: ApplicationId",
                  type AS "type!", epoch AS "epoch!", version AS "version!", scopes AS "scopes!", networks AS "networks!",
                  origins AS "origins!", enabled AS "enabled!",
                  floor(extract(epoch FROM expires_at) * 1000)::bigint AS expires_at_ms,
                  revoked_at IS NOT NULL AS "revoked!"
           FROM edge_keys WHERE digest = ANY ($1)"#,
        digests,
    )
    .fetch_all(connection)
    .await?)
}
