//! The audit trail as it is read, checked and dropped. It is written by [`authsome_db::audit`]; a trigger chains it.

use authsome_core::id::WorkspaceId;
use authsome_db::DbError;
use futures::Stream;
use futures::StreamExt;
use serde_json::Value;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use time::OffsetDateTime;

/// An event as its team reads it.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migrations")]
pub struct Event {
    pub id: String,
    pub seq: i64,
    pub hash: Vec<u8>,
    pub application_id: Option<String>,
    pub actor_id: Option<String>,
    pub actor_type: String,
    pub action: String,
    pub resource: String,
    pub resource_id: Option<String>,
    pub changes: Value,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
    pub status: String,
    pub request_id: Option<String>,
    pub created_at: OffsetDateTime,
}

/// Which events are asked for.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Filter {
    pub action: Option<String>,
    pub actor: Option<String>,
    pub resource_id: Option<String>,
    pub application: Option<String>,
    pub status: Option<String>,
    pub since: Option<OffsetDateTime>,
    pub until: Option<OffsetDateTime>,
}

/// The events of a workspace that are asked for. Made of the filters that are given, and planned for their values: a plan that
/// is good for every filter at once is good for none at ten million events.
fn chosen(workspace: WorkspaceId, filter: &Filter) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::<Postgres>::new(
        "SELECT id, seq, hash, application_id, actor_id, actor_type, action, resource, resource_id, changes, \
                host(ip_address) AS ip_address, user_agent, status, request_id, created_at \
         FROM audit_events WHERE chain = ",
    );
    query.push_bind(workspace.to_string());
    for (column, value) in [
        (" AND action = ", &filter.action),
        (" AND actor_id = ", &filter.actor),
        (" AND resource_id = ", &filter.resource_id),
        (" AND application_id = ", &filter.application),
        (" AND status = ", &filter.status),
    ] {
        if let Some(value) = value {
            query.push(column).push_bind(value.clone());
        }
    }
    if let Some(since) = filter.since {
        query.push(" AND created_at >= ").push_bind(since);
    }
    if let Some(until) = filter.until {
        query.push(" AND created_at < ").push_bind(until);
    }
    query
}

/// Events of a workspace before this one, newest first, at most `limit`.
pub async fn before(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    filter: &Filter,
    before: i64,
    limit: i64,
) -> Result<Vec<Event>, DbError> {
    let mut query = chosen(workspace, filter);
    query.push(" AND seq < ").push_bind(before);
    query.push(" ORDER BY seq DESC LIMIT ").push_bind(limit);
    let query = query.build_query_as::<Event>().persistent(false);
    Ok(query.fetch_all(connection).await?)
}

/// Events of a workspace after this one, oldest first, at most `limit`: for an export.
pub async fn after(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    filter: &Filter,
    after: i64,
    limit: i64,
) -> Result<Vec<Event>, DbError> {
    let mut query = chosen(workspace, filter);
    query.push(" AND seq > ").push_bind(after);
    query.push(" ORDER BY seq LIMIT ").push_bind(limit);
    let query = query.build_query_as::<Event>().persistent(false);
    Ok(query.fetch_all(connection).await?)
}

/// A chain: where it ends, and up to where it was dropped.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Chain {
    pub chain: String,
    pub seq: i64,
    pub hash: Vec<u8>,
    pub dropped_seq: i64,
    pub dropped_hash: Vec<u8>,
}

/// Every chain, by name.
pub async fn chains(connection: &mut PgConnection) -> Result<Vec<Chain>, DbError> {
    Ok(sqlx::query_as!(
        Chain,
        "SELECT chain, seq, hash, dropped_seq, dropped_hash FROM audit_chains ORDER BY chain",
    )
    .fetch_all(connection)
    .await?)
}

/// Events of chains that are not there, as the first of each such chain.
pub async fn strays(connection: &mut PgConnection) -> Result<Vec<(String, i64)>, DbError> {
    let strays = sqlx::query!(
        r#"SELECT e.chain, min(e.seq) AS "seq!" FROM audit_events e
           WHERE NOT EXISTS (SELECT FROM audit_chains c WHERE c.chain = e.chain)
           GROUP BY e.chain ORDER BY e.chain LIMIT 1000"#,
    )
    .fetch_all(connection)
    .await?;
    Ok(strays.into_iter().map(|stray| (stray.chain, stray.seq)).collect())
}

/// One chain.
pub async fn chain(connection: &mut PgConnection, chain: &str) -> Result<Option<Chain>, DbError> {
    Ok(sqlx::query_as!(
        Chain,
        "SELECT chain, seq, hash, dropped_seq, dropped_hash FROM audit_chains WHERE chain = $1",
        chain,
    )
    .fetch_optional(connection)
    .await?)
}

/// An event as it is hashed: its number, its hash, and each field as text in the order in which they are hashed.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migrations")]
pub struct Hashed {
    pub chain: String,
    pub seq: i64,
    pub hash: Vec<u8>,
    pub id: String,
    pub fields: Vec<Option<String>>,
}

/// Every event of a chain, in its order.
pub fn hashed<'c>(
    connection: &'c mut PgConnection,
    chain: &'c str,
) -> impl Stream<Item = Result<Hashed, DbError>> + 'c {
    sqlx::query!(
        r#"SELECT chain, seq, hash, id,
                  ARRAY[chain, seq::text, id, workspace_id, application_id, actor_id, actor_type, action, resource,
                        resource_id, changes::text, host(ip_address), user_agent, status, request_id, metadata::text,
                        ((extract(epoch FROM created_at) * 1000000)::bigint)::text] AS "fields!: Vec<Option<String>>"
           FROM audit_events WHERE chain = $1 ORDER BY seq"#,
        chain,
    )
    .fetch(connection)
    .map(|row| {
        let row = row?;
        Ok(Hashed {
            chain: row.chain,
            seq: row.seq,
            hash: row.hash,
            id: row.id,
            fields: row.fields,
        })
    })
}

/// A signed head.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Checkpoint {
    pub chain: String,
    pub seq: i64,
    pub hash: Vec<u8>,
    pub signed_at: OffsetDateTime,
    pub public_key: Vec<u8>,
    pub signature: Vec<u8>,
}

/// The checkpoints of a chain, in their order.
pub async fn checkpoints(connection: &mut PgConnection, chain: &str) -> Result<Vec<Checkpoint>, DbError> {
    Ok(sqlx::query_as!(
        Checkpoint,
        "SELECT chain, seq, hash, signed_at, public_key, signature FROM audit_checkpoints WHERE chain = $1 ORDER BY seq",
        chain,
    )
    .fetch_all(connection)
    .await?)
}

/// Chains that have grown since their last checkpoint, at most `limit`.
pub async fn unsigned(connection: &mut PgConnection, limit: i64) -> Result<Vec<Chain>, DbError> {
    Ok(sqlx::query_as!(
        Chain,
        "SELECT chain, seq, hash, dropped_seq, dropped_hash FROM audit_chains c
         WHERE seq > coalesce((SELECT max(p.seq) FROM audit_checkpoints p WHERE p.chain = c.chain), 0)
         ORDER BY chain LIMIT $1",
        limit,
    )
    .fetch_all(connection)
    .await?)
}

/// Keeps a checkpoint; one that is there stays.
pub async fn sign(connection: &mut PgConnection, checkpoint: &Checkpoint) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO audit_checkpoints (chain, seq, hash, signed_at, public_key, signature)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (chain, seq) DO NOTHING",
        checkpoint.chain,
        checkpoint.seq,
        checkpoint.hash,
        checkpoint.signed_at,
        checkpoint.public_key,
        checkpoint.signature,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A range that is to be dropped: everything of the chain up to this checkpoint.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Range {
    pub chain: String,
    pub seq: i64,
    pub hash: Vec<u8>,
}

/// The greatest checkpoint of each workspace's chain before whose end no event is younger than its plan keeps them, at most
/// `limit`. What belongs to no workspace is kept as long as the longest of plans.
pub async fn expired(
    connection: &mut PgConnection,
    free: OffsetDateTime,
    pro: OffsetDateTime,
    enterprise: OffsetDateTime,
    limit: i64,
) -> Result<Vec<Range>, DbError> {
    Ok(sqlx::query_as!(
        Range,
        r#"SELECT DISTINCT ON (p.chain) p.chain, p.seq, p.hash
           FROM audit_checkpoints p
           JOIN audit_chains c ON c.chain = p.chain
           LEFT JOIN workspaces w ON w.id = p.chain
           WHERE p.seq > c.dropped_seq
             AND p.signed_at < CASE w.plan WHEN 'free' THEN $1::timestamptz WHEN 'pro' THEN $2::timestamptz
                                           ELSE $3::timestamptz END
           ORDER BY p.chain, p.seq DESC LIMIT $4"#,
        free,
        pro,
        enterprise,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

/// Drops a range, and keeps where the chain begins from then on. Returns how many events it held.
pub async fn drop_range(connection: &mut PgConnection, range: &Range) -> Result<u64, DbError> {
    let moved = sqlx::query!(
        "UPDATE audit_chains SET dropped_seq = $2, dropped_hash = $3 WHERE chain = $1 AND dropped_seq < $2",
        range.chain,
        range.seq,
        range.hash,
    )
    .execute(&mut *connection)
    .await?;
    if moved.rows_affected() == 0 {
        return Ok(0);
    }
    let dropped = sqlx::query!(
        "DELETE FROM audit_events WHERE chain = $1 AND seq <= $2",
        range.chain,
        range.seq
    )
    .execute(connection)
    .await?;
    Ok(dropped.rows_affected())
}

/// Is this transaction the one that signs and drops?
pub async fn try_keep(connection: &mut PgConnection) -> Result<bool, DbError> {
    Ok(
        sqlx::query_scalar!(r#"SELECT pg_try_advisory_xact_lock(hashtextextended('audit keeper', 0)) AS "held!""#)
            .fetch_one(connection)
            .await?,
    )
}

/// This transaction sees one moment, and changes nothing. To be called first.
pub async fn one_moment(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query!("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(connection)
        .await?;
    Ok(())
}
