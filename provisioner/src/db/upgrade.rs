//! The rows of image upgrades, and the images that applications get from them.

use std::str::FromStr;

use authsome_contract::model::UnknownName;
use authsome_core::id::{ApplicationId, OperationId, WorkspaceId};
use authsome_db::DbError;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::upgrade::decision::Counts;
use crate::upgrade::wave::Wave;
use crate::upgrade::{Member, State, Status, Upgrade};

/// An upgrade to begin.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct NewUpgrade<'a> {
    pub region: &'a str,
    pub image: &'a str,
    pub waves: &'a [Wave],
    pub soak: std::time::Duration,
    pub parallel: u32,
    pub max_failures: u32,
    pub total: u32,
}

/// Writes it. [`DbError::Duplicate`] where the region has one that is not over.
pub async fn insert(connection: &mut PgConnection, new: &NewUpgrade<'_>) -> Result<i64, DbError> {
    let waves: Vec<String> = new.waves.iter().map(ToString::to_string).collect();
    let id = sqlx::query_scalar!(
        "INSERT INTO image_upgrades (region, image, waves, soak_seconds, parallel, max_failures, total)
         VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
        new.region,
        new.image,
        &waves,
        i32::try_from(new.soak.as_secs()).unwrap_or(i32::MAX),
        narrow(new.parallel),
        narrow(new.max_failures),
        narrow(new.total),
    )
    .fetch_one(connection)
    .await?;
    Ok(id)
}

/// The upgrade of a region that is not over, its row locked; `None` also where another provisioner has it.
pub async fn open_unless_held(connection: &mut PgConnection, region: &str) -> Result<Option<Upgrade>, DbError> {
    let row = sqlx::query_as!(
        Row,
        "SELECT id, region, image, status, waves, wave, settled_at, soak_seconds, parallel, max_failures, forgiven, total,
                reason, created_at, finished_at
         FROM image_upgrades WHERE region = $1 AND status IN ('running', 'paused', 'halted', 'taking_back')
         FOR NO KEY UPDATE SKIP LOCKED",
        region,
    )
    .fetch_optional(connection)
    .await?;
    row.map(Row::into_upgrade).transpose()
}

/// The last upgrade of a region, over or not, its row locked.
pub async fn last(connection: &mut PgConnection, region: &str) -> Result<Option<Upgrade>, DbError> {
    let row = sqlx::query_as!(
        Row,
        "SELECT id, region, image, status, waves, wave, settled_at, soak_seconds, parallel, max_failures, forgiven, total,
                reason, created_at, finished_at
         FROM image_upgrades WHERE region = $1 ORDER BY id DESC LIMIT 1 FOR NO KEY UPDATE",
        region,
    )
    .fetch_optional(connection)
    .await?;
    row.map(Row::into_upgrade).transpose()
}

/// Moves it. A final status ends it.
pub async fn set_status(
    connection: &mut PgConnection,
    id: i64,
    status: Status,
    reason: Option<&str>,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE image_upgrades
         SET status = $2, reason = $3, settled_at = NULL,
             finished_at = CASE WHEN $2 IN ('succeeded', 'taken_back', 'aborted') THEN now() END
         WHERE id = $1",
        id,
        status.as_str(),
        reason,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The failures so far are accepted.
pub async fn forgive(connection: &mut PgConnection, id: i64, failures: u32) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE image_upgrades SET forgiven = $2 WHERE id = $1",
        id,
        narrow(failures)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The wave that is under way, and since when nothing of it is.
pub async fn set_wave(
    connection: &mut PgConnection,
    id: i64,
    wave: usize,
    settled_at: Option<OffsetDateTime>,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE image_upgrades SET wave = $2, settled_at = $3 WHERE id = $1",
        id,
        i32::try_from(wave).unwrap_or(i32::MAX),
        settled_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How many applications of it are where.
pub async fn states(connection: &mut PgConnection, id: i64) -> Result<Vec<(State, bool, u32)>, DbError> {
    let rows = sqlx::query!(
        r#"SELECT state, failed, count(*) AS "count!" FROM image_upgrade_members WHERE upgrade_id = $1 GROUP BY state, failed
           ORDER BY state, failed"#,
        id,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let state =
                State::named(&row.state).ok_or_else(|| unknown("image_upgrade_members", "state", &row.state))?;
            Ok((state, row.failed, u32::try_from(row.count).unwrap_or(u32::MAX)))
        })
        .collect()
}

/// The same, summed up.
pub async fn counts(connection: &mut PgConnection, id: i64) -> Result<Counts, DbError> {
    Ok(Counts::of(states(connection, id).await?))
}

/// Its applications in these states, in the order in which they were begun, at most `limit`.
pub async fn members(
    connection: &mut PgConnection,
    id: i64,
    states: &[State],
    wave: Option<usize>,
    limit: u32,
) -> Result<Vec<Member>, DbError> {
    let states: Vec<String> = states.iter().map(|state| state.as_str().to_owned()).collect();
    let rows = sqlx::query_as!(
        MemberRow,
        r#"SELECT m.application_id AS "application: ApplicationId", m.wave, m.state, m.failed, m.previous, m.generation,
                  m.operation_id AS "operation: OperationId", m.reason, a.status, a.observed_generation,
                  a.failure_reason AS failure
           FROM image_upgrade_members m JOIN applications a ON a.id = m.application_id
           WHERE m.upgrade_id = $1 AND m.state = ANY ($2) AND ($3::integer IS NULL OR m.wave = $3)
           ORDER BY m.changed_at, m.application_id LIMIT $4"#,
        id,
        &states,
        wave.map(|wave| i32::try_from(wave).unwrap_or(i32::MAX)),
        i64::from(limit),
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(MemberRow::into_member).collect()
}

/// Those that failed, for a report.
pub async fn failures(connection: &mut PgConnection, id: i64) -> Result<Vec<Member>, DbError> {
    let rows = sqlx::query_as!(
        MemberRow,
        r#"SELECT m.application_id AS "application: ApplicationId", m.wave, m.state, m.failed, m.previous, m.generation,
                  m.operation_id AS "operation: OperationId", m.reason, a.status, a.observed_generation,
                  a.failure_reason AS failure
           FROM image_upgrade_members m JOIN applications a ON a.id = m.application_id
           WHERE m.upgrade_id = $1 AND (m.failed OR m.state = 'stuck') ORDER BY m.changed_at, m.application_id LIMIT 200"#,
        id,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(MemberRow::into_member).collect()
}

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

/// The workspace of an application, held so that it does not change before the application does: control locks the workspace
/// first, too.
pub async fn hold_workspace(connection: &mut PgConnection, id: ApplicationId) -> Result<Option<WorkspaceId>, DbError> {
    let workspace = sqlx::query_scalar!(
        r#"SELECT w.id AS "id: WorkspaceId" FROM workspaces w JOIN applications a ON a.workspace_id = w.id
           WHERE a.id = $1 FOR KEY SHARE OF w"#,
        id as ApplicationId,
    )
    .fetch_optional(connection)
    .await?;
    Ok(workspace)
}

/// A new intent: this image. Returns its generation; operations that wait for an older one are superseded.
pub async fn intend(connection: &mut PgConnection, id: ApplicationId, image: Option<&str>) -> Result<i64, DbError> {
    let generation = sqlx::query_scalar!(
        "UPDATE applications SET fleet_image = $2, generation = generation + 1 WHERE id = $1 RETURNING generation",
        id as ApplicationId,
        image,
    )
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query!(
        "UPDATE operations SET status = 'superseded', finished_at = now()
         WHERE application_id = $1 AND status = 'queued' AND generation < $2",
        id as ApplicationId,
        generation,
    )
    .execute(connection)
    .await?;
    Ok(generation)
}

/// The image that an application which is stopped starts with.
pub async fn set_image(connection: &mut PgConnection, id: ApplicationId, image: Option<&str>) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE applications SET fleet_image = $2 WHERE id = $1",
        id as ApplicationId,
        image,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// An application becomes part of it, its update under way.
pub async fn add_member(
    connection: &mut PgConnection,
    upgrade: &Upgrade,
    application: ApplicationId,
    previous: Option<&str>,
    (generation, operation): (i64, OperationId),
) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO image_upgrade_members (upgrade_id, application_id, wave, state, previous, generation, operation_id)
         VALUES ($1, $2, $3, 'updating', $4, $5, $6)",
        upgrade.id,
        application as ApplicationId,
        i32::try_from(upgrade.wave).unwrap_or(i32::MAX),
        previous,
        generation,
        operation as OperationId,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What becomes of a member: `failed` and the reason stay once they are there.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Change<'a> {
    pub state: State,
    pub failed: bool,
    pub reason: Option<&'a str>,
    pub begun: Option<(i64, OperationId)>,
}

/// Writes it.
pub async fn change_member(
    connection: &mut PgConnection,
    upgrade: i64,
    application: ApplicationId,
    change: Change<'_>,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE image_upgrade_members
         SET state = $3, failed = failed OR $4, reason = coalesce($5, reason), generation = coalesce($6, generation),
             operation_id = coalesce($7, operation_id), changed_at = now()
         WHERE upgrade_id = $1 AND application_id = $2",
        upgrade,
        application as ApplicationId,
        change.state.as_str(),
        change.failed,
        change.reason,
        change.begun.map(|(generation, _)| generation),
        change.begun.map(|(_, operation)| operation) as Option<OperationId>,
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

fn narrow(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn wide(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn unknown(table: &'static str, column: &'static str, value: &str) -> DbError {
    DbError::Inconsistent {
        table,
        column,
        row: String::new(),
        detail: format!("{value:?} is not known"),
    }
}

struct Row {
    id: i64,
    region: String,
    image: String,
    status: String,
    waves: Vec<String>,
    wave: i32,
    settled_at: Option<OffsetDateTime>,
    soak_seconds: i32,
    parallel: i32,
    max_failures: i32,
    forgiven: i32,
    total: i32,
    reason: Option<String>,
    created_at: OffsetDateTime,
    finished_at: Option<OffsetDateTime>,
}

impl Row {
    fn into_upgrade(self) -> Result<Upgrade, DbError> {
        let waves = self.waves.iter().map(|wave| Wave::from_str(wave));
        let waves = waves
            .collect::<Result<_, _>>()
            .map_err(|error| unknown("image_upgrades", "waves", &error.to_string()))?;
        Ok(Upgrade {
            status: Status::named(&self.status).ok_or_else(|| unknown("image_upgrades", "status", &self.status))?,
            id: self.id,
            region: self.region,
            image: self.image,
            waves,
            wave: usize::try_from(self.wave).unwrap_or(0),
            settled_at: self.settled_at,
            soak: time::Duration::seconds(i64::from(self.soak_seconds)),
            parallel: wide(self.parallel),
            max_failures: wide(self.max_failures),
            forgiven: wide(self.forgiven),
            total: wide(self.total),
            reason: self.reason,
            created_at: self.created_at,
            finished_at: self.finished_at,
        })
    }
}

struct MemberRow {
    application: ApplicationId,
    wave: i32,
    state: String,
    failed: bool,
    previous: Option<String>,
    generation: Option<i64>,
    operation: Option<OperationId>,
    reason: Option<String>,
    status: String,
    observed_generation: i64,
    failure: Option<String>,
}

impl MemberRow {
    fn into_member(self) -> Result<Member, DbError> {
        let id = self.application;
        let status = |error: UnknownName| DbError::unknown_name("applications", "status", id, &error);
        Ok(Member {
            application: id,
            wave: usize::try_from(self.wave).unwrap_or(0),
            state: State::named(&self.state).ok_or_else(|| unknown("image_upgrade_members", "state", &self.state))?,
            failed: self.failed,
            previous: self.previous,
            generation: self.generation.unwrap_or(0),
            operation: self.operation,
            reason: self.reason,
            status: self.status.parse().map_err(status)?,
            observed_generation: self.observed_generation,
            failure: self.failure,
        })
    }
}
