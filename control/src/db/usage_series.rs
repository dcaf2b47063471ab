//! The edge's counters over time.

use authsome_core::id::ApplicationId;
use authsome_db::DbError;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// What was counted from this moment on, for one unit of time.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Point {
    pub at: OffsetDateTime,
    pub requests: i64,
    pub errors: i64,
    pub bytes_in: i64,
    pub bytes_out: i64,
}

/// The counters of an application from the hour of `since` on, summed by `unit` (`hour`, `day`) in UTC, oldest first.
pub async fn of_application(
    connection: &mut PgConnection,
    application: ApplicationId,
    since: OffsetDateTime,
    unit: &str,
) -> Result<Vec<Point>, DbError> {
    Ok(sqlx::query_as!(
        Point,
        r#"SELECT date_trunc($3, hour, 'UTC') AS "at!", sum(requests)::bigint AS "requests!",
                  sum(errors)::bigint AS "errors!", sum(bytes_in)::bigint AS "bytes_in!",
                  sum(bytes_out)::bigint AS "bytes_out!"
           FROM usage_counters
           WHERE application_id = $1 AND hour >= date_trunc('hour', $2::timestamptz, 'UTC')
           GROUP BY 1 ORDER BY 1"#,
        application as ApplicationId,
        since,
        unit,
    )
    .fetch_all(connection)
    .await?)
}
