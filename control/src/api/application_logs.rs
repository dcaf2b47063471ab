//! What the instances of an application wrote to their logs.

use authsome_contract::wire::{LogEntry, LogLevel, LogRequest};
use authsome_core::error::Failure;
use authsome_core::id::Application as ApplicationKind;
use axum::Json as Answer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::fault::{ErrorEnvelope, Refusals};
use super::moment::moment;
use crate::db::applications;
use crate::error::{Fields, Outcome};
use crate::identity::{self, Action, Caller};
use crate::server::extract::{PathId, Query};
use crate::state::App;

/// Which lines.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogsQuery {
    /// Not before: RFC 3339, or how long ago (`90s`, `15m`, `6h`, `7d`).
    #[param(max_length = 64, example = "15m")]
    since: Option<String>,
    /// How many lines: the last ones, or with a `cursor` the next ones.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    tail: Option<u32>,
    /// At least of this level. Lines that have none count as `info`.
    #[param(value_type = Option<crate::names::LogLevel>, inline)]
    level: Option<String>,
    /// `nextCursor` of an answer, for what was written since; `start` for the oldest lines that are kept.
    #[param(max_length = 512)]
    cursor: Option<String>,
}

/// Lines in the order in which they were written.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogLines {
    logs: Vec<LogLine>,
    /// Ask with it for what comes after these lines, also where there is nothing yet.
    next_cursor: String,
    /// Asked with a cursor: there are more lines after these already. Without one: there are older lines.
    has_more: bool,
}

/// One line. Secrets of the application that were found in it are `***`.
#[derive(Debug, Serialize, ToSchema)]
struct LogLine {
    /// `null` where neither the line nor one before it says.
    #[serde(with = "time::serde::rfc3339::option")]
    timestamp: Option<OffsetDateTime>,
    /// `null` where the line has none.
    #[schema(value_type = Option<crate::names::LogLevel>)]
    level: Option<LogLevel>,
    #[schema(example = "listening")]
    message: String,
    /// What else is in the line.
    #[schema(value_type = Object)]
    fields: Map<String, Value>,
}

impl From<LogEntry> for LogLine {
    fn from(entry: LogEntry) -> Self {
        Self {
            timestamp: entry.timestamp,
            level: entry.level,
            message: entry.message,
            fields: entry.fields,
        }
    }
}

/// What the instances of an application wrote
///
/// Without a `cursor`, the newest lines; with the `nextCursor` of an answer, those after it, so that asking again and again
/// follows the log. Places stay good when instances restart. What is kept is a few megabytes for each instance.
#[utoipa::path(get, path = "/applications/{applicationId}/logs", tag = "applications", operation_id = "getApplicationLogs",
    security(("bearer" = [])), params(("applicationId" = String, Path), LogsQuery),
    responses((status = 200, body = LogLines), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member"),
        (status = 504, body = ErrorEnvelope, description = "The logs were not read in time; try again after `Retry-After`")))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<ApplicationKind>,
    Query(query): Query<LogsQuery>,
) -> Outcome<Answer<LogLines>> {
    let region = {
        let mut connection = app.pool().acquire().await?;
        identity::application(&mut connection, &caller, id, Action::ReadLogs).await?;
        let region = applications::whereabouts(&mut connection, id).await?;
        region
            .ok_or_else(|| Failure::not_found("Application not found"))?
            .region
    };
    let mut fields = Fields::new();
    let limit = query.tail.unwrap_or(100);
    fields.require(
        (1..=LogRequest::LIMIT_MAX).contains(&limit),
        "tail",
        "must be from 1 to 1000",
    );
    let since = query
        .since
        .as_deref()
        .and_then(|text| fields.take("since", moment(text, app.clock().now())));
    let level = query.level.as_deref().and_then(|text| {
        fields.take(
            "level",
            text.parse().map_err(|_| "must be trace, debug, info, warn or error"),
        )
    });
    let short = |cursor: &String| (1..=LogRequest::CURSOR_MAX).contains(&cursor.len());
    fields.require(
        query.cursor.as_ref().is_none_or(short),
        "cursor",
        "must be the nextCursor of an answer, or start",
    );
    fields.finish()?;
    let request = LogRequest {
        application_id: id,
        since,
        level,
        limit,
        cursor: query.cursor,
    };
    let page = app.instance_logs().fetch(&region, &request).await?;
    Ok(Answer(LogLines {
        logs: page.entries.into_iter().map(LogLine::from).collect(),
        next_cursor: page.cursor,
        has_more: page.has_more,
    }))
}
