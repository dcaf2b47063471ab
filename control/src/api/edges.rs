//! The edges of the platform, as its customers see them: which there are, and whether their changes have come there. How large the
//! platform is, and which programs run, is told at the operators' port ([`crate::admin`]).

use axum::Json as Answer;
use axum::extract::State;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::fault::Refusals;
use super::page::{Listing, Page, PageQuery};
use crate::db::outbox::{self, Pulse};
use crate::error::Outcome;
use crate::identity::Caller;
use crate::state::App;
use crate::tasks::edges;

/// An edge.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Edge {
    /// Another one with each start of the edge.
    #[schema(value_type = String, pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    id: Uuid,
    /// As the operator named it.
    #[schema(example = "edge-1")]
    name: String,
    region: String,
    /// `missing`: it has not reported for three seconds.
    state: EdgeState,
    /// Changes that it does not have yet; `null` while it is of another restore epoch than the platform.
    lag: Option<u64>,
    #[serde(with = "time::serde::rfc3339")]
    last_report_at: OffsetDateTime,
}

/// Whether an edge reports.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum EdgeState {
    Live,
    Missing,
}

impl From<(edges::Edge, Pulse)> for Edge {
    fn from((edge, pulse): (edges::Edge, Pulse)) -> Self {
        let same_epoch = edge.epoch == pulse.epoch.unsigned_abs();
        Self {
            id: edge.id,
            name: edge.name,
            region: edge.region,
            state: if edge.is_live {
                EdgeState::Live
            } else {
                EdgeState::Missing
            },
            lag: same_epoch.then(|| pulse.last.unsigned_abs().saturating_sub(edge.position)),
            last_report_at: edge.last_report_at,
        }
    }
}

/// The edges, by region and name
///
/// An edge leaves the list when it stops in order, or after fifteen minutes without a report.
#[utoipa::path(get, path = "/edges", tag = "edges", operation_id = "listEdges", security(("bearer" = [])),
    params(PageQuery), responses((status = 200, body = Page<Edge>), Refusals))]
pub(super) async fn list(
    State(app): State<App>,
    _caller: Caller,
    Listing { window, .. }: Listing,
) -> Outcome<Answer<Page<Edge>>> {
    let mut connection = app.pool().acquire().await?;
    let pulse = outbox::pulse(&mut connection).await?;
    let members = app.edges().members(&mut connection).await?;
    Ok(Answer(
        window.cut(members.into_iter().map(|edge| (edge, pulse)).collect()),
    ))
}
