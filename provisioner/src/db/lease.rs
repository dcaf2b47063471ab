//! The rows of `application_leases`. All times are the database's.

use std::time::Duration;

use authsome_core::id::ApplicationId;
use authsome_db::DbError;
use sqlx::{PgConnection, PgPool};

use super::RecordError;
use crate::lease::{Fence, Fenced};

/// What asking for a lease came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Take {
    /// It is the caller's, at this epoch.
    Epoch(i64),
    /// Another holder has it for this long.
    Busy(Duration),
}

/// Takes the lease if nobody has it or it has run out. Released leases keep their row, so that epochs only grow.
pub async fn take(
    pool: &PgPool,
    application_id: ApplicationId,
    holder: &str,
    lifetime: Duration,
) -> Result<Take, DbError> {
    let epoch = sqlx::query_scalar!(
        "INSERT INTO application_leases (application_id, holder, expires_at)
         VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
         ON CONFLICT (application_id) DO UPDATE
            SET holder = EXCLUDED.holder, epoch = application_leases.epoch + 1, expires_at = EXCLUDED.expires_at
            WHERE application_leases.expires_at <= clock_timestamp()
         RETURNING epoch",
        application_id as ApplicationId,
        holder,
        lifetime.as_secs_f64(),
    )
    .fetch_optional(pool)
    .await?;
    if let Some(epoch) = epoch {
        return Ok(Take::Epoch(epoch));
    }
    let seconds = sqlx::query_scalar!(
        r#"SELECT extract(epoch FROM expires_at - clock_timestamp())::double precision AS "seconds!"
           FROM application_leases WHERE application_id = $1"#,
        application_id as ApplicationId,
    )
    .fetch_optional(pool)
    .await?;
    // Released between the two statements: free at once.
    Ok(Take::Busy(
        Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).unwrap_or(Duration::ZERO),
    ))
}

/// Moves the end of the lease; false if it has run out or another holder has it. One that ran out is not revived: the
/// worker has already been told to stop.
pub async fn renew(pool: &PgPool, fence: &Fence, lifetime: Duration) -> Result<bool, DbError> {
    let renewed = sqlx::query!(
        "UPDATE application_leases SET expires_at = clock_timestamp() + make_interval(secs => $4)
         WHERE application_id = $1 AND holder = $2 AND epoch = $3 AND expires_at > clock_timestamp()",
        fence.application_id() as ApplicationId,
        fence.holder(),
        fence.epoch(),
        lifetime.as_secs_f64(),
    )
    .execute(pool)
    .await?;
    Ok(renewed.rows_affected() == 1)
}

/// Ends the lease now, if it is still the caller's.
pub async fn release(pool: &PgPool, fence: &Fence) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE application_leases SET expires_at = clock_timestamp()
         WHERE application_id = $1 AND holder = $2 AND epoch = $3 AND expires_at > clock_timestamp()",
        fence.application_id() as ApplicationId,
        fence.holder(),
        fence.epoch(),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Makes sure, at the start of a transaction that records something, that the lease is the caller's; nobody can take it
/// over before the transaction ends, since its row is locked.
pub async fn hold(connection: &mut PgConnection, fence: &Fence) -> Result<(), RecordError> {
    sqlx::query_scalar!(
        r#"SELECT 1 AS "held!" FROM application_leases
           WHERE application_id = $1 AND holder = $2 AND epoch = $3 AND expires_at > clock_timestamp()
           FOR SHARE"#,
        fence.application_id() as ApplicationId,
        fence.holder(),
        fence.epoch(),
    )
    .fetch_optional(connection)
    .await?
    .map(|_| ())
    .ok_or(RecordError::Fenced(Fenced))
}
