//! The images that applications get from upgrades: which can be given one, giving it, and what a region's is.

use authsome_core::id::{ApplicationId, WorkspaceId};
use authsome_db::{DbError, operation};
use sqlx::PgConnection;

use super::upgrade::set_status;
use crate::upgrade::{Status, Upgrade};

/// Applications that can be begun: they serve, follow the fleet, have another image and are not part of it yet. Those with least
/// at stake come first: by environment, then plan, then age. `own` is the installation's own image. With each, what it has now.
pub async fn candidates(
    connection: &mut PgConnection,
    upgrade: &Upgrade,
    own: Option<&str>,
    limit: u32,
) -> Result<Vec<(ApplicationId, Option<String>)>, DbError> {
    let rows = sqlx::query!(
        r#"SELECT a.id AS "id: ApplicationId", coalesce(a.fleet_image, f.image, $3) AS previous
           FROM applications a JOIN workspaces w ON w.id = a.workspace_id LEFT JOIN fleet_images f ON f.region = a.region
           WHERE a.region = $1 AND a.status = 'active' AND w.status = 'active' AND a.image IS NULL
             AND coalesce(a.fleet_image, f.image, $3) IS DISTINCT FROM $2
             AND NOT EXISTS (SELECT 1 FROM image_upgrade_members m WHERE m.upgrade_id = $4 AND m.application_id = a.id)
           ORDER BY array_position(ARRAY['development', 'staging', 'production'], a.environment),
                    array_position(ARRAY['free', 'pro', 'enterprise'], w.plan), a.id
           LIMIT $5"#,
        upgrade.region,
        upgrade.image,
        own,
        upgrade.id,
        i64::from(limit),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.previous)).collect())
}

/// How many could be begun now, and how many could be later, since something of their own is under way.
pub async fn waiting(
    connection: &mut PgConnection,
    region: &str,
    image: &str,
    own: Option<&str>,
    upgrade: Option<i64>,
) -> Result<(u32, u32), DbError> {
    let row = sqlx::query!(
        r#"SELECT count(*) FILTER (WHERE a.status = 'active') AS "now!",
                  count(*) FILTER (WHERE a.status <> 'active') AS "later!"
           FROM applications a JOIN workspaces w ON w.id = a.workspace_id LEFT JOIN fleet_images f ON f.region = a.region
           WHERE a.region = $1 AND a.status IN ('active', 'provisioning', 'updating', 'restarting') AND w.status = 'active'
             AND a.image IS NULL AND coalesce(a.fleet_image, f.image, $3) IS DISTINCT FROM $2
             AND NOT EXISTS (SELECT 1 FROM image_upgrade_members m WHERE m.upgrade_id = $4 AND m.application_id = a.id)"#,
        region,
        image,
        own,
        upgrade,
    )
    .fetch_one(connection)
    .await?;
    let count = |count: i64| u32::try_from(count).unwrap_or(u32::MAX);
    Ok((count(row.now), count(row.later)))
}

/// Which of an application's two images is meant.
#[derive(Debug, Clone, Copy)]
pub enum Image<'a> {
    /// The one that upgrades of the fleet give it.
    Fleet(Option<&'a str>),
    /// The one that it is pinned to, which goes before that.
    Own(Option<&'a str>),
}

/// The workspace of an application and its region; the workspace is held so that it does not change before the application does:
/// control locks the workspace first, too.
pub async fn hold_workspace(
    connection: &mut PgConnection,
    id: ApplicationId,
) -> Result<Option<(WorkspaceId, String)>, DbError> {
    let row = sqlx::query!(
        r#"SELECT w.id AS "id: WorkspaceId", a.region FROM workspaces w JOIN applications a ON a.workspace_id = w.id
           WHERE a.id = $1 FOR KEY SHARE OF w"#,
        id as ApplicationId,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| (row.id, row.region)))
}

/// The image that an application is pinned to. It is held until the transaction ends.
pub async fn pinned(connection: &mut PgConnection, id: ApplicationId) -> Result<Option<String>, DbError> {
    let image = sqlx::query_scalar!(
        "SELECT image FROM applications WHERE id = $1 FOR UPDATE",
        id as ApplicationId
    )
    .fetch_optional(connection)
    .await?;
    Ok(image.flatten())
}

/// A new intent: this image. Returns its generation; operations that wait for an older one are superseded.
pub async fn intend(connection: &mut PgConnection, id: ApplicationId, image: Image<'_>) -> Result<i64, DbError> {
    set_image(connection, id, image).await?;
    let generation = sqlx::query_scalar!(
        "UPDATE applications SET generation = generation + 1 WHERE id = $1 RETURNING generation",
        id as ApplicationId,
    )
    .fetch_one(&mut *connection)
    .await?;
    operation::supersede_queued(connection, id, generation).await?;
    Ok(generation)
}

/// The image alone: one that is stopped starts with it. One that is let go has what the region has, not what upgrades that left it
/// out had found.
pub async fn set_image(connection: &mut PgConnection, id: ApplicationId, image: Image<'_>) -> Result<(), DbError> {
    let (own, image) = match image {
        Image::Own(image) => (true, image),
        Image::Fleet(image) => (false, image),
    };
    sqlx::query!(
        "UPDATE applications
         SET image = CASE WHEN $3 THEN $2 ELSE image END,
             fleet_image = CASE WHEN $3 AND $2::text IS NOT NULL THEN fleet_image WHEN $3 THEN NULL ELSE $2 END
         WHERE id = $1",
        id as ApplicationId,
        image,
        own,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The image is the region's from now on. Applications that are stopped start with it; others that are not part of it, and serve
/// or may come back, keep what they have, whatever the region's image is.
pub async fn finish(connection: &mut PgConnection, upgrade: &Upgrade, own: Option<&str>) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO image_upgrade_members (upgrade_id, application_id, wave, state, previous, reason)
         SELECT $1, a.id, $2, CASE WHEN a.status = 'suspended' AND a.image IS NULL THEN 'set' ELSE 'left' END,
                coalesce(a.fleet_image, f.image, $5),
                CASE WHEN a.image IS NOT NULL THEN 'It is pinned to an image of its own.'
                     WHEN a.status = 'suspended' THEN 'It is stopped, and starts with the new image.'
                     WHEN a.status = 'failed' THEN 'It had failed before.'
                     WHEN a.status = 'deleting' THEN 'It is deleted.'
                     ELSE 'Its workspace is suspended.' END
         FROM applications a LEFT JOIN fleet_images f ON f.region = a.region
         WHERE a.region = $3 AND a.status NOT IN ('purging', 'deleted')
           AND coalesce(a.fleet_image, f.image, $5) IS DISTINCT FROM $4
         ON CONFLICT DO NOTHING",
        upgrade.id,
        i32::try_from(upgrade.wave).unwrap_or(i32::MAX),
        upgrade.region,
        upgrade.image,
        own,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "UPDATE applications a SET fleet_image = CASE WHEN m.state = 'set' THEN $2 ELSE m.previous END
         FROM image_upgrade_members m
         WHERE m.upgrade_id = $1 AND m.application_id = a.id AND m.operation_id IS NULL AND m.state IN ('set', 'left')",
        upgrade.id,
        upgrade.image,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "INSERT INTO fleet_images (region, image) VALUES ($1, $2)
         ON CONFLICT (region) DO UPDATE SET image = EXCLUDED.image, since = now()",
        upgrade.region,
        upgrade.image,
    )
    .execute(&mut *connection)
    .await?;
    set_status(connection, upgrade.id, Status::Succeeded, None).await
}
