//! The relay's view of the outbox: positions, cursors, lag and the removal of what every target has received.
//!
//! Positions are given to whatever is committed and has none yet. Nothing waits for older transactions that are still
//! open: their rows get later positions when they commit. Two changes of the same row are still in order, because the
//! second waits for the row lock of the first, so no snapshot shows it without the first and its id is the greater one.
//! Waiting for `pg_snapshot_xmin` instead would let one long transaction anywhere in the cluster, a customer's included,
//! hold back every revocation.

use authsome_db::DbError;
use sqlx::PgConnection;

/// Advisory lock of the relay's leader ("relay" in ASCII).
const LEADER_LOCK: i64 = 0x72_656c_6179;

/// What a row of the outbox announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// An application's record.
    App,
    /// A key's record.
    Key,
    /// A host's record.
    Host,
    /// Work for a provisioner.
    Job,
}

/// A row of the outbox with its position.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Primary key; names the row for deduplication.
    pub id: i64,
    /// Dense position in the order of delivery.
    pub position: i64,
    /// What it announces.
    pub topic: Topic,
    /// Application id, digest in hex, host name or operation id.
    pub reference: String,
    /// Restore epoch of the announced version.
    pub epoch: i64,
    /// Row version that is announced; the row may be newer by now.
    pub version: i64,
    /// The job, for jobs.
    pub payload: Option<serde_json::Value>,
}

/// A receiver of the outbox with a cursor of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// The table in Redis.
    Redis,
    /// The table as a JetStream stream.
    Stream,
    /// The provisioners' work queue.
    Jobs,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Redis, Self::Stream, Self::Jobs];

    /// Name in SQL, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Stream => "stream",
            Self::Jobs => "jobs",
        }
    }
}

/// What the database says of itself at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// Restore epoch.
    pub epoch: i64,
    /// Last position given out.
    pub last: i64,
    /// The database's clock, milliseconds since the Unix epoch.
    pub database_time_ms: i64,
    /// The last request to write Redis anew, while it is open.
    pub rebuild_redis: Option<i64>,
    /// The same for the stream.
    pub rebuild_stream: Option<i64>,
}

impl Pulse {
    /// The open request to write `target` anew.
    pub const fn rebuild(&self, target: Target) -> Option<i64> {
        match target {
            Target::Redis => self.rebuild_redis,
            Target::Stream => self.rebuild_stream,
            Target::Jobs => None,
        }
    }
}

/// A place in the order of delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Restore epoch.
    pub epoch: i64,
    /// Position.
    pub position: i64,
}

/// How far a target is behind.
#[derive(Debug, Clone)]
pub struct Lag {
    /// Which target.
    pub target: String,
    /// Positions that it has not received.
    pub rows: i64,
    /// Age of the oldest of them, in seconds; 0 when there is none.
    pub seconds: f64,
}

/// Prepares the session that holds the leader's lock. The server ends it after 10 s without a statement, so that a leader
/// that is frozen, or whose machine is gone without a word, is succeeded.
pub async fn prepare_leader_session(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query("SET idle_session_timeout = '10s'")
        .execute(connection)
        .await?;
    Ok(())
}

/// Tries to become the leader. The lock lasts as long as this session.
pub async fn try_lead(connection: &mut PgConnection) -> Result<bool, DbError> {
    Ok(
        sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "held!""#, LEADER_LOCK)
            .fetch_one(connection)
            .await?,
    )
}

/// Gives positions to at most `limit` committed rows, by id. Returns how many. Runs on the session that holds the lock, so
/// that a deposed leader cannot.
pub async fn give_positions(connection: &mut PgConnection, limit: i64) -> Result<u64, DbError> {
    let given = sqlx::query_scalar!(
        r#"WITH base AS (SELECT last FROM outbox_position
                         WHERE EXISTS (SELECT FROM outbox WHERE position IS NULL) FOR UPDATE),
                fresh AS (SELECT id, row_number() OVER (ORDER BY id) AS n
                          FROM (SELECT id FROM outbox WHERE position IS NULL ORDER BY id LIMIT $1) AS unpositioned),
                given AS (UPDATE outbox SET position = base.last + fresh.n FROM fresh, base
                          WHERE outbox.id = fresh.id RETURNING 1),
                moved AS (UPDATE outbox_position SET last = last + (SELECT count(*) FROM given)
                          WHERE EXISTS (SELECT FROM given))
           SELECT count(*) AS "given!" FROM given"#,
        limit,
    )
    .fetch_one(connection)
    .await?;
    Ok(u64::try_from(given).unwrap_or(0))
}

/// Epoch, last position and time, in one look.
pub async fn pulse(connection: &mut PgConnection) -> Result<Pulse, DbError> {
    Ok(sqlx::query_as!(
        Pulse,
        r#"SELECT platform.epoch, outbox_position.last,
                  floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS "database_time_ms!",
                  (SELECT max(id) FROM relay_rebuilds WHERE target = 'redis' AND finished_at IS NULL) AS rebuild_redis,
                  (SELECT max(id) FROM relay_rebuilds WHERE target = 'stream' AND finished_at IS NULL) AS rebuild_stream
           FROM platform, outbox_position"#,
    )
    .fetch_one(connection)
    .await?)
}

/// The newest entry about this key that has no position yet: in the transaction that changed it, the entry of that change.
pub async fn unplaced_key(connection: &mut PgConnection, digest: &str) -> Result<Option<i64>, DbError> {
    let entry = sqlx::query_scalar!(
        "SELECT id FROM outbox WHERE position IS NULL AND topic = 'key' AND ref = $1 ORDER BY id DESC LIMIT 1",
        digest,
    )
    .fetch_optional(connection)
    .await?;
    Ok(entry)
}

/// The place of an entry, once the relay has given it one. One that was delivered and deleted counts as the last place given.
pub async fn place(connection: &mut PgConnection, entry: i64) -> Result<Option<Place>, DbError> {
    let row = sqlx::query!(
        r#"SELECT platform.epoch, o.id IS NULL AS "gone!", o.position AS "position?", outbox_position.last
           FROM platform CROSS JOIN outbox_position LEFT JOIN outbox o ON o.id = $1"#,
        entry,
    )
    .fetch_one(connection)
    .await?;
    let position = if row.gone { Some(row.last) } else { row.position };
    Ok(position.map(|position| Place {
        epoch: row.epoch,
        position,
    }))
}

/// How far `target` has received the outbox.
pub async fn cursor(connection: &mut PgConnection, target: Target) -> Result<i64, DbError> {
    let position = sqlx::query_scalar!("SELECT position FROM relay_cursors WHERE target = $1", target.as_str())
        .fetch_one(connection)
        .await?;
    Ok(position)
}

/// The position of the last entry up to `position` that announces a record; `None` if it is pruned already.
pub async fn last_record_position(connection: &mut PgConnection, position: i64) -> Result<Option<i64>, DbError> {
    let last = sqlx::query_scalar!(
        "SELECT position FROM outbox WHERE position <= $1 AND topic IN ('app', 'key', 'host') ORDER BY position DESC LIMIT 1",
        position,
    )
    .fetch_optional(connection)
    .await?;
    Ok(last.flatten())
}

/// `target` has everything up to `position`. A cursor never goes back.
pub async fn advance(connection: &mut PgConnection, target: Target, position: i64) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE relay_cursors SET position = $2, updated_at = now() WHERE target = $1 AND position < $2",
        target.as_str(),
        position,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Entries after `position` in order, at most `limit`.
pub async fn entries_after(connection: &mut PgConnection, position: i64, limit: i64) -> Result<Vec<Entry>, DbError> {
    let rows = sqlx::query!(
        r#"SELECT id, position AS "position!", topic, ref AS reference, epoch, version, payload
           FROM outbox WHERE position > $1 ORDER BY position LIMIT $2"#,
        position,
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let topic = match row.topic.as_str() {
                "app" => Topic::App,
                "key" => Topic::Key,
                "host" => Topic::Host,
                "job" => Topic::Job,
                name => {
                    return Err(DbError::Inconsistent {
                        table: "outbox",
                        column: "topic",
                        row: row.id.to_string(),
                        detail: format!("{name:?} is not a known topic"),
                    });
                }
            };
            Ok(Entry {
                id: row.id,
                position: row.position,
                topic,
                reference: row.reference,
                epoch: row.epoch,
                version: row.version,
                payload: row.payload,
            })
        })
        .collect()
}

/// How far each target is behind.
pub async fn lags(connection: &mut PgConnection) -> Result<Vec<Lag>, DbError> {
    Ok(sqlx::query_as!(
        Lag,
        r#"SELECT c.target, p.last - c.position AS "rows!",
                  coalesce(extract(epoch FROM clock_timestamp() - oldest.created_at), 0)::float8 AS "seconds!"
           FROM outbox_position p CROSS JOIN relay_cursors c
           LEFT JOIN LATERAL (SELECT created_at FROM outbox WHERE position > c.position ORDER BY position LIMIT 1) oldest
               ON true"#,
    )
    .fetch_all(connection)
    .await?)
}

/// Deletes at most `limit` entries that every target has received and that are older than `seconds`. Returns how many.
pub async fn prune(connection: &mut PgConnection, seconds: f64, limit: i64) -> Result<u64, DbError> {
    let done = sqlx::query!(
        "DELETE FROM outbox WHERE id IN (
             SELECT id FROM outbox
             WHERE position <= (SELECT min(position) FROM relay_cursors) AND created_at < now() - make_interval(secs => $1)
             ORDER BY position LIMIT $2)",
        seconds,
        limit,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
