//! The edges that a revocation must reach, as the replicas of control agree on them.

use authsome_db::DbError;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// Advisory lock under which replicas write what they heard ("edges" in ASCII): they write the same rows.
const WRITE_LOCK: i64 = 0x65_6467_6573;

/// An edge as some replica last wrote it down.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct EdgeRow {
    pub id: Uuid,
    pub name: String,
    pub region: String,
    pub version: String,
    pub epoch: i64,
    pub position: i64,
    pub keys: i64,
    pub apps: i64,
    pub bytes: i64,
    pub last_report_at: OffsetDateTime,
    /// It said goodbye.
    pub left: bool,
}

/// Writes down what was heard, each edge with the age of its last report in milliseconds. Rows that another replica wrote
/// in the last `fresh_seconds` are left alone; an edge that has left stays so. Call in a transaction.
pub async fn hear(connection: &mut PgConnection, heard: &[(EdgeRow, i64)], fresh_seconds: f64) -> Result<(), DbError> {
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", WRITE_LOCK)
        .execute(&mut *connection)
        .await?;
    let text = |of: fn(&EdgeRow) -> &str| heard.iter().map(|(row, _)| of(row).to_owned()).collect::<Vec<_>>();
    let number = |of: fn(&EdgeRow) -> i64| heard.iter().map(|(row, _)| of(row)).collect::<Vec<_>>();
    sqlx::query!(
        "INSERT INTO edges AS e (id, name, region, version, epoch, position, keys, apps, bytes, last_report_at)
         SELECT id, name, region, version, epoch, position, keys, apps, bytes, now() - age_ms * interval '1 ms'
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
                     $9::bigint[], $10::bigint[])
                  AS heard (id, name, region, version, epoch, position, keys, apps, bytes, age_ms)
         ON CONFLICT (id) DO UPDATE
         SET epoch = excluded.epoch, position = excluded.position, keys = excluded.keys, apps = excluded.apps,
             bytes = excluded.bytes, last_report_at = excluded.last_report_at
         WHERE e.left_at IS NULL AND e.last_report_at < excluded.last_report_at - make_interval(secs => $11)",
        &heard.iter().map(|(row, _)| row.id).collect::<Vec<_>>(),
        &text(|row| &row.name),
        &text(|row| &row.region),
        &text(|row| &row.version),
        &number(|row| row.epoch),
        &number(|row| row.position),
        &number(|row| row.keys),
        &number(|row| row.apps),
        &number(|row| row.bytes),
        &heard.iter().map(|(_, age_ms)| *age_ms).collect::<Vec<_>>(),
        fresh_seconds,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// These edges said goodbye.
pub async fn leave(connection: &mut PgConnection, ids: &[Uuid]) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE edges SET left_at = now() WHERE id = ANY ($1) AND left_at IS NULL",
        ids
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// All edges that reported in the last `seconds`, those that left in that time included.
pub async fn heard_within(connection: &mut PgConnection, seconds: f64) -> Result<Vec<EdgeRow>, DbError> {
    Ok(sqlx::query_as!(
        EdgeRow,
        r#"SELECT id, name, region, version, epoch, position, keys, apps, bytes, last_report_at,
                  left_at IS NOT NULL AS "left!"
           FROM edges WHERE last_report_at > now() - make_interval(secs => $1)"#,
        seconds,
    )
    .fetch_all(connection)
    .await?)
}

/// Forgets edges that have been silent for longer than `seconds`.
pub async fn forget(connection: &mut PgConnection, seconds: f64) -> Result<(), DbError> {
    sqlx::query!(
        "DELETE FROM edges WHERE last_report_at < now() - make_interval(secs => $1)",
        seconds
    )
    .execute(connection)
    .await?;
    Ok(())
}
