//! The audit trail of a workspace: list, export, head.

use std::sync::Arc;

use authsome_core::error::Failure;
use authsome_core::id::{Workspace as WorkspaceKind, WorkspaceId};
use axum::Json as Answer;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::fault::{ErrorEnvelope, Refusals};
use super::moment::moment;
use super::page::{Continued, CursorQuery};
use crate::audit::verify;
use crate::db::audit_trail::{self, Filter};
use crate::error::{Fields, Outcome};
use crate::identity::{self, Action, Caller};
use crate::server::extract::{PathId, Query};
use crate::state::App;

/// Events of one page of an export.
const EXPORT_PAGE: i64 = 500;

/// Which events to list or to export.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Such as `application.create`.
    action: Option<String>,
    /// Id of who did it.
    actor: Option<String>,
    /// Id of what it was done to.
    resource_id: Option<String>,
    /// Id of an application.
    application: Option<String>,
    /// `success` or `failure`.
    #[param(value_type = Option<crate::names::AuditStatus>, inline)]
    status: Option<String>,
    /// Not before: RFC 3339, or how long ago (`90s`, `15m`, `6h`, `7d`).
    #[param(max_length = 64, example = "6h")]
    since: Option<String>,
    /// Before: likewise.
    #[param(max_length = 64, example = "15m")]
    until: Option<String>,
}

impl AuditQuery {
    /// What it asks for at `now`. What is wrong with it stands in `fields`.
    fn filter(self, now: OffsetDateTime, fields: &mut Fields) -> Filter {
        fields.require(
            self.status
                .as_deref()
                .is_none_or(|status| matches!(status, "success" | "failure")),
            "status",
            "must be success or failure",
        );
        let given = [&self.action, &self.actor, &self.resource_id, &self.application];
        for (name, text) in ["action", "actor", "resourceId", "application"].into_iter().zip(given) {
            fields.require(
                text.as_deref()
                    .is_none_or(|text| text.len() <= 200 && !text.contains('\0')),
                name,
                "must be at most 200 characters long, without NUL",
            );
        }
        let mut time = |name, text: Option<&str>| text.and_then(|text| fields.take(name, moment(text, now)));
        let (since, until) = (
            time("since", self.since.as_deref()),
            time("until", self.until.as_deref()),
        );
        Filter {
            action: self.action,
            actor: self.actor,
            resource_id: self.resource_id,
            application: self.application,
            status: self.status,
            since,
            until,
        }
    }
}

/// Events, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuditPage {
    data: Vec<AuditEvent>,
    /// For the next page; `null` where this is the last.
    next_cursor: Option<String>,
}

/// What happened, by whom, from where.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuditEvent {
    #[schema(example = "evt_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// Its number in the chain of the workspace.
    seq: i64,
    /// Of itself and of everything before it, SHA-256 in hex.
    hash: String,
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
    /// Who did it; `null` where that could not be told.
    actor: Option<String>,
    #[schema(value_type = crate::names::ActorType)]
    actor_type: String,
    #[schema(example = "application.create")]
    action: String,
    resource: String,
    resource_id: Option<String>,
    application_id: Option<String>,
    /// Names and settings, never a secret.
    #[schema(value_type = Object)]
    changes: Value,
    ip_address: Option<String>,
    user_agent: Option<String>,
    #[schema(value_type = crate::names::AuditStatus)]
    status: String,
    request_id: Option<String>,
}

/// Where the chain of a workspace ends. Kept elsewhere, it proves later that nothing before it was changed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditHead {
    /// The workspace.
    chain: String,
    /// The number of its last event.
    seq: i64,
    /// The hash of that, in hex.
    hash: String,
}

impl From<audit_trail::Event> for AuditEvent {
    fn from(row: audit_trail::Event) -> Self {
        Self {
            id: row.id,
            seq: row.seq,
            hash: verify::hex(&row.hash),
            timestamp: row.created_at,
            actor: row.actor_id,
            actor_type: row.actor_type,
            action: row.action,
            resource: row.resource,
            resource_id: row.resource_id,
            application_id: row.application_id,
            changes: row.changes,
            ip_address: row.ip_address,
            user_agent: row.user_agent,
            status: row.status,
            request_id: row.request_id,
        }
    }
}

/// The audit trail of a workspace, newest first
#[utoipa::path(get, path = "/workspaces/{workspaceId}/audit", tag = "audit", operation_id = "listAuditEvents",
    security(("bearer" = [])), params(("workspaceId" = String, Path), AuditQuery, CursorQuery),
    responses((status = 200, body = AuditPage), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace, or the caller is no member")))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    PathId(workspace): PathId<WorkspaceKind>,
    Continued { filter, place }: Continued<AuditQuery>,
) -> Outcome<Answer<AuditPage>> {
    let mut fields = Fields::new();
    let limit = place.limit.unwrap_or(50);
    fields.require((1..=100).contains(&limit), "limit", "must be from 1 to 100");
    let before = place.cursor.as_deref().map_or(Some(i64::MAX), |text| text.parse().ok());
    fields.require(
        before.is_some_and(|seq| seq > 0),
        "cursor",
        "must be the nextCursor of a page",
    );
    let filter = filter.filter(app.clock().now(), &mut fields);
    fields.finish()?;
    let mut connection = app.pool().acquire().await?;
    identity::workspace(&mut connection, &caller, workspace, Action::ReadAudit).await?;
    let limit = i64::from(limit);
    let mut rows = audit_trail::before(
        &mut connection,
        workspace,
        &filter,
        before.unwrap_or(i64::MAX),
        limit + 1,
    )
    .await?;
    let more = i64::try_from(rows.len()).unwrap_or(0) > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(0));
    let next_cursor = rows.last().filter(|_| more).map(|last| last.seq.to_string());
    Ok(Answer(AuditPage {
        data: rows.into_iter().map(AuditEvent::from).collect(),
        next_cursor,
    }))
}

/// The audit trail of a workspace, oldest first, an event a line
///
/// All of it, or what the filters of the list leave.
#[utoipa::path(get, path = "/workspaces/{workspaceId}/audit/export", tag = "audit", operation_id = "exportAuditEvents",
    security(("bearer" = [])), params(("workspaceId" = String, Path), AuditQuery),
    responses((status = 200, body = String, content_type = "application/x-ndjson", description = "JSON lines of `AuditEvent`"),
        Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace, or the caller is no member")))]
pub(super) async fn export(
    State(app): State<App>,
    caller: Caller,
    PathId(workspace): PathId<WorkspaceKind>,
    Query(query): Query<AuditQuery>,
) -> Outcome<Response> {
    let mut fields = Fields::new();
    let filter = Arc::new(query.filter(app.clock().now(), &mut fields));
    fields.finish()?;
    {
        let mut connection = app.pool().acquire().await?;
        identity::workspace(&mut connection, &caller, workspace, Action::ReadAudit).await?;
    }
    // Page by page, so that a slow reader holds no connection. A failure cuts the body off, which the client notices.
    let pages = futures::stream::try_unfold(Some(0), move |after| {
        let (app, filter) = (app.clone(), Arc::clone(&filter));
        async move {
            let Some(after) = after else { return Ok(None) };
            page(&app, workspace, &filter, after).await
        }
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((headers, Body::from_stream(pages)).into_response())
}

type NextPage = Option<(Bytes, Option<i64>)>;

async fn page(
    app: &App,
    workspace: WorkspaceId,
    filter: &Filter,
    after: i64,
) -> Result<NextPage, authsome_db::DbError> {
    let mut connection = app.pool().acquire().await?;
    let rows = audit_trail::after(&mut connection, workspace, filter, after, EXPORT_PAGE).await?;
    let last = rows.last().map(|row| row.seq);
    let whole = i64::try_from(rows.len()).unwrap_or(0) == EXPORT_PAGE;
    let mut lines = Vec::new();
    for row in rows {
        // Of strings, numbers and JSON values: it cannot fail.
        serde_json::to_writer(&mut lines, &AuditEvent::from(row)).unwrap_or_default();
        lines.push(b'\n');
    }
    Ok(last.map(|last| (lines.into(), whole.then_some(last))))
}

/// Where the chain of a workspace ends
///
/// Keep it outside of the platform: `authsome-control audit verify --head` tells whether it is still part of the chain.
#[utoipa::path(get, path = "/workspaces/{workspaceId}/audit/head", tag = "audit", operation_id = "getAuditHead",
    security(("bearer" = [])), params(("workspaceId" = String, Path)),
    responses((status = 200, body = AuditHead), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace, or the caller is no member")))]
pub(super) async fn head(
    State(app): State<App>,
    caller: Caller,
    PathId(workspace): PathId<WorkspaceKind>,
) -> Outcome<Answer<AuditHead>> {
    let mut connection = app.pool().acquire().await?;
    identity::workspace(&mut connection, &caller, workspace, Action::ReadAudit).await?;
    let chain = audit_trail::chain(&mut connection, &workspace.to_string()).await?;
    let chain = chain.ok_or_else(|| Failure::not_found("The workspace has no audit trail"))?;
    let head = verify::head(&chain);
    Ok(Answer(AuditHead {
        chain: head.chain,
        seq: head.seq,
        hash: head.hash,
    }))
}
