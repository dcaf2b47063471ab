//! The rows of image upgrades and of their applications.

use std::str::FromStr;

use authsome_contract::model::UnknownName;
use authsome_core::id::{ApplicationId, OperationId};
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

/// Where the upgrade of a region is that is not over, if there is one.
pub async fn open_status(connection: &mut PgConnection, region: &str) -> Result<Option<Status>, DbError> {
    let status = sqlx::query_scalar!(
        "SELECT status FROM image_upgrades
         WHERE region = $1 AND status IN ('running', 'paused', 'halted', 'taking_back')",
        region,
    )
    .fetch_optional(connection)
    .await?;
    let known = |status: &String| Status::named(status).ok_or_else(|| unknown("image_upgrades", "status", status));
    status.as_ref().map(known).transpose()
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
