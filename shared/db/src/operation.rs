//! Operations and their steps: what control starts and shows, and the provisioner carries out.

use authsome_contract::{
    model::{Step, UnknownName},
    wire::job::JobKind,
};
use authsome_core::id::{ApplicationId, OperationId, UserId, WorkspaceId};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::DbError;

/// An operation as it stands.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Operation {
    pub id: OperationId,
    pub workspace_id: WorkspaceId,
    pub application_id: ApplicationId,
    pub kind: JobKind,
    pub status: OperationStatus,
    pub generation: i64,
    pub attempts: i32,
    pub next_attempt_at: OffsetDateTime,
    pub reason: Option<String>,
    pub remediation: Option<String>,
    pub requested_by: Option<UserId>,
    pub created_at: OffsetDateTime,
    pub started_at: Option<OffsetDateTime>,
    pub finished_at: Option<OffsetDateTime>,
    pub deadline_at: OffsetDateTime,
}

/// Where an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationStatus {
    /// Waits for a provisioner.
    Queued,
    /// A provisioner works on it.
    Running,
    /// Done.
    Succeeded,
    /// Given up; the reason says why.
    Failed,
    /// Taken back before it was done.
    Cancelled,
    /// A newer generation took its place.
    Superseded,
}

impl OperationStatus {
    /// Every status.
    pub const ALL: &'static [Self] = &[
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Superseded,
    ];

    /// Name in SQL and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
        }
    }

    /// Will it not change any more?
    pub const fn is_finished(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

impl std::str::FromStr for OperationStatus {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let known = Self::ALL.iter().copied().find(|status| status.as_str() == name);
        known.ok_or_else(|| UnknownName {
            set: "operation status",
            name: name.to_owned(),
        })
    }
}

/// A step of an operation.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct StepRow {
    pub step: Step,
    /// `pending`, `running`, `done`, `skipped`, `failed` or `undone`.
    pub status: String,
    pub attempts: i32,
    pub detail: Option<String>,
    pub started_at: Option<OffsetDateTime>,
    pub finished_at: Option<OffsetDateTime>,
}

/// A new operation. It starts as `queued`; its job goes into the outbox beside it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct NewOperation {
    pub id: OperationId,
    pub workspace_id: WorkspaceId,
    pub application_id: ApplicationId,
    pub kind: JobKind,
    pub generation: i64,
    pub requested_by: Option<UserId>,
    pub deadline_at: OffsetDateTime,
}

/// Writes a new operation with the steps it will take.
pub async fn insert(connection: &mut PgConnection, new: &NewOperation, steps: &[Step]) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO operations (id, workspace_id, application_id, kind, generation, requested_by, deadline_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        new.id as OperationId,
        new.workspace_id as WorkspaceId,
        new.application_id as ApplicationId,
        new.kind.as_str(),
        new.generation,
        new.requested_by as Option<UserId>,
        new.deadline_at,
    )
    .execute(&mut *connection)
    .await?;
    let names: Vec<String> = steps.iter().map(|step| step.as_str().to_owned()).collect();
    let ordinals: Vec<i32> = steps.iter().map(|step| step.ordinal()).collect();
    sqlx::query!(
        "INSERT INTO provisioning_steps (operation_id, step, ordinal)
         SELECT $1, step, ordinal FROM unnest($2::text[], $3::integer[]) AS s (step, ordinal)",
        new.id as OperationId,
        &names,
        &ordinals,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A newer intent, of `generation`, took the place of what waits for an older one: nobody has to look at it first to learn that.
pub async fn supersede_queued(
    connection: &mut PgConnection,
    application: ApplicationId,
    generation: i64,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE operations SET status = 'superseded', finished_at = now()
         WHERE application_id = $1 AND status = 'queued' AND generation < $2",
        application as ApplicationId,
        generation,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The operation, if there is one.
pub async fn get(connection: &mut PgConnection, id: OperationId) -> Result<Option<Operation>, DbError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: OperationId", workspace_id AS "workspace_id: WorkspaceId",
                  application_id AS "application_id: ApplicationId", kind, status, generation, attempts, next_attempt_at,
                  reason, remediation, requested_by AS "requested_by: UserId", created_at, started_at, finished_at, deadline_at
           FROM operations WHERE id = $1"#,
        id as OperationId,
    )
    .fetch_optional(connection)
    .await?;
    row.map(Row::into_operation).transpose()
}

/// Which operations to list.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Filter {
    pub kind: Option<JobKind>,
    pub status: Option<OperationStatus>,
    /// At most as many.
    pub limit: i64,
    /// After as many.
    pub offset: i64,
}

/// The operations of an application, newest first, and how many match in all.
pub async fn of_application(
    connection: &mut PgConnection,
    application: ApplicationId,
    filter: Filter,
) -> Result<(Vec<Operation>, i64), DbError> {
    let (kind, status) = (
        filter.kind.map(JobKind::as_str),
        filter.status.map(OperationStatus::as_str),
    );
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: OperationId", workspace_id AS "workspace_id: WorkspaceId",
                  application_id AS "application_id: ApplicationId", kind, status, generation, attempts, next_attempt_at,
                  reason, remediation, requested_by AS "requested_by: UserId", created_at, started_at, finished_at, deadline_at
           FROM operations
           WHERE application_id = $1 AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR status = $3)
           ORDER BY created_at DESC, id DESC LIMIT $4 OFFSET $5"#,
        application as ApplicationId,
        kind,
        status,
        filter.limit,
        filter.offset,
    )
    .fetch_all(&mut *connection)
    .await?;
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM operations
           WHERE application_id = $1 AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR status = $3)"#,
        application as ApplicationId,
        kind,
        status,
    )
    .fetch_one(connection)
    .await?;
    Ok((
        rows.into_iter().map(Row::into_operation).collect::<Result<_, _>>()?,
        total,
    ))
}

/// The operations of all applications of a workspace, newest first, and how many match in all.
pub async fn of_workspace(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    filter: Filter,
) -> Result<(Vec<Operation>, i64), DbError> {
    let (kind, status) = (
        filter.kind.map(JobKind::as_str),
        filter.status.map(OperationStatus::as_str),
    );
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: OperationId", workspace_id AS "workspace_id: WorkspaceId",
                  application_id AS "application_id: ApplicationId", kind, status, generation, attempts, next_attempt_at,
                  reason, remediation, requested_by AS "requested_by: UserId", created_at, started_at, finished_at, deadline_at
           FROM operations
           WHERE workspace_id = $1 AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR status = $3)
           ORDER BY created_at DESC, id DESC LIMIT $4 OFFSET $5"#,
        workspace as WorkspaceId,
        kind,
        status,
        filter.limit,
        filter.offset,
    )
    .fetch_all(&mut *connection)
    .await?;
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM operations
           WHERE workspace_id = $1 AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR status = $3)"#,
        workspace as WorkspaceId,
        kind,
        status,
    )
    .fetch_one(connection)
    .await?;
    Ok((
        rows.into_iter().map(Row::into_operation).collect::<Result<_, _>>()?,
        total,
    ))
}

/// The steps of an operation in their order.
pub async fn steps(connection: &mut PgConnection, id: OperationId) -> Result<Vec<StepRow>, DbError> {
    let rows = sqlx::query!(
        "SELECT step, status, attempts, detail, started_at, finished_at
         FROM provisioning_steps WHERE operation_id = $1 ORDER BY ordinal",
        id as OperationId,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let step = row
                .step
                .parse()
                .map_err(|e| DbError::unknown_name("provisioning_steps", "step", id, &e))?;
            Ok(StepRow {
                step,
                status: row.status,
                attempts: row.attempts,
                detail: row.detail,
                started_at: row.started_at,
                finished_at: row.finished_at,
            })
        })
        .collect()
}

struct Row {
    id: OperationId,
    workspace_id: WorkspaceId,
    application_id: ApplicationId,
    kind: String,
    status: String,
    generation: i64,
    attempts: i32,
    next_attempt_at: OffsetDateTime,
    reason: Option<String>,
    remediation: Option<String>,
    requested_by: Option<UserId>,
    created_at: OffsetDateTime,
    started_at: Option<OffsetDateTime>,
    finished_at: Option<OffsetDateTime>,
    deadline_at: OffsetDateTime,
}

impl Row {
    fn into_operation(self) -> Result<Operation, DbError> {
        let kind = self
            .kind
            .parse()
            .map_err(|e| DbError::unknown_name("operations", "kind", self.id, &e))?;
        let status = self
            .status
            .parse()
            .map_err(|e| DbError::unknown_name("operations", "status", self.id, &e))?;
        Ok(Operation {
            id: self.id,
            workspace_id: self.workspace_id,
            application_id: self.application_id,
            kind,
            status,
            generation: self.generation,
            attempts: self.attempts,
            next_attempt_at: self.next_attempt_at,
            reason: self.reason,
            remediation: self.remediation,
            requested_by: self.requested_by,
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            deadline_at: self.deadline_at,
        })
    }
}
