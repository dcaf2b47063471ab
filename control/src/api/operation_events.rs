//! Operations that are watched, and cancelled.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use authsome_core::error::{Chain, Failure};
use authsome_core::id::{Operation as OperationKind, OperationId};
use authsome_db::operation;
use axum::Json as Answer;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::fault::{ErrorEnvelope, Refusals};
use super::operations::Operation;
use crate::command;
use crate::db::operation_events;
use crate::error::{Outcome, Problem};
use crate::identity::{self, Action, Caller};
use crate::server::extract::PathId;
use crate::state::App;
use crate::tasks::operation_feed::Watch;

/// Events read at a time.
const PAGE: i64 = 100;
/// How late an event may be when nobody wakes us.
const LOOK: Duration = Duration::from_secs(5);
/// So that proxies do not take the silence for an end.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A stream ends after this; its client comes back with the last id, and is asked again who it is.
const LONGEST: Duration = Duration::from_mins(15);

/// One event of the stream, for the document: the stream is written as text.
#[derive(Serialize, ToSchema)]
pub(super) struct OperationEvent {
    /// For `Last-Event-ID`.
    id: String,
    #[schema(value_type = crate::names::OperationEventName)]
    event: String,
    /// JSON.
    data: String,
}

/// Cancels an operation that has not ended
///
/// Whoever works on it stops before its next step. An application that served before goes on serving as it was.
#[utoipa::path(post, path = "/operations/{operationId}/cancel", tag = "operations", operation_id = "cancelOperation",
    security(("bearer" = [])), params(("operationId" = String, Path)),
    responses((status = 200, body = Operation), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is none, or the caller is no member of its workspace"),
        (status = 409, body = ErrorEnvelope, description = "It has ended, or is one that its opposite takes back")))]
pub(super) async fn cancel(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<OperationKind>,
) -> Outcome<Answer<Operation>> {
    Ok(Answer(command::operation::cancel(&app, &caller, id).await?.into()))
}

/// The events of an operation, from its beginning to its end, as they happen
///
/// Server-sent events: `operation` with `status`, `attempts`, `reason`, `remediation`, and `step` with `name`, `status`,
/// `attempts`, `detail`; each with `operationId` and `at`. With `Last-Event-ID` the stream goes on after that event. It ends with
/// the operation; asked again after its end it answers 204, which tells a browser to stop.
#[utoipa::path(get, path = "/operations/{operationId}/events", tag = "operations", operation_id = "watchOperation",
    security(("bearer" = [])), params(("operationId" = String, Path),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that was received")),
    responses((status = 200, body = OperationEvent, content_type = "text/event-stream"),
        (status = 204, description = "The operation has ended and there are no further events"), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is none, or the caller is no member of its workspace")))]
pub(super) async fn watch(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<OperationKind>,
    headers: HeaderMap,
) -> Outcome<Response> {
    let after = last_event(&headers)?;
    let watch = app
        .operation_feed()
        .watch()
        .ok_or_else(|| Problem::busy("Too many operations are being watched; try again", "watchers"))?;
    {
        let mut connection = app.pool().acquire().await?;
        identity::operation(&mut connection, &caller, id, Action::ReadOperations).await?;
        let ended = operation::get(&mut connection, id)
            .await?
            .ok_or_else(|| Failure::not_found("Operation not found"))?
            .status
            .is_finished();
        if ended && operation_events::after(&mut connection, id, after, 1).await?.is_empty() {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
    let stream = events(Position {
        app,
        id,
        after,
        watch,
        waiting: VecDeque::new(),
        until: Instant::now() + LONGEST,
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(stream).keep_alive(keep_alive).into_response())
}

/// Where a stream is.
struct Position {
    app: App,
    id: OperationId,
    after: i64,
    watch: Watch,
    waiting: VecDeque<operation_events::Event>,
    until: Instant,
}

fn events(stream: Position) -> impl Stream<Item = Result<Event, Infallible>> {
    futures::stream::unfold(stream, async |mut stream| {
        loop {
            if let Some(event) = stream.waiting.pop_front() {
                stream.after = event.id;
                return Some((Ok(shown(stream.id, &event)), stream));
            }
            match stream.look().await {
                Ok(true) => return None,
                Ok(false) => {}
                Err(error) => {
                    // The client comes back with the last id.
                    tracing::debug!(operation = %stream.id, error = %Chain(&error), "a stream of events is cut off");
                    return None;
                }
            }
            if stream.waiting.is_empty()
                && (Instant::now() >= stream.until || !stream.watch.changed(stream.id, LOOK).await)
            {
                return None;
            }
        }
    })
}

impl Position {
    /// Reads what is new. True when nothing is, and nothing will be.
    async fn look(&mut self) -> Result<bool, authsome_db::DbError> {
        let mut connection = self.app.pool().acquire().await?;
        // First, so that no event comes between its end and the look.
        let ended = operation::get(&mut connection, self.id)
            .await?
            .is_none_or(|operation| operation.status.is_finished());
        self.waiting = operation_events::after(&mut connection, self.id, self.after, PAGE)
            .await?
            .into();
        Ok(ended && self.waiting.is_empty())
    }
}

fn shown(operation: OperationId, event: &operation_events::Event) -> Event {
    let mut data = event.data.clone();
    if let Some(data) = data.as_object_mut() {
        data.insert("operationId".to_owned(), json!(operation));
        data.insert(
            "at".to_owned(),
            json!(event.created_at.format(&Rfc3339).unwrap_or_default()),
        );
    }
    Event::default()
        .id(event.id.to_string())
        .event(event.kind.clone())
        .data(data.to_string())
}

fn last_event(headers: &HeaderMap) -> Outcome<i64> {
    let Some(given) = headers.get("last-event-id") else {
        return Ok(0);
    };
    let id = given.to_str().ok().and_then(|text| text.trim().parse::<i64>().ok());
    let id = id.filter(|id| *id >= 0);
    id.ok_or_else(|| Failure::invalid_request("Last-Event-ID must be the id of an event of this stream").into())
}
