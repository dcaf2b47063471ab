//! The operators' port: liveness, readiness, metrics, and the edges with all that is known of them. Not for the internet, and without
//! authentication.

use authsome_core::telemetry::METRICS_CONTENT_TYPE;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use serde_json::json;
use time::format_description::well_known::Rfc3339;

use crate::error::Outcome;
use crate::state::App;

/// The router of the admin port.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/edges", get(edges))
        .with_state(app)
}

/// 200 for as long as the process answers at all.
pub async fn live() -> Response {
    axum::Json(json!({ "status": "ok" })).into_response()
}

/// 200 when requests may be sent here, 503 otherwise; the body names each dependency.
pub async fn ready(State(app): State<App>) -> Response {
    let (ready, report) = app.readiness().look(app.pool()).await;
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, axum::Json(report)).into_response()
}

/// The edges that count, with how much each holds and how far it has come.
async fn edges(State(app): State<App>) -> Outcome<Response> {
    let mut connection = app.pool().acquire().await?;
    let members = app.edges().members(&mut connection).await?;
    let shown: Vec<_> = members
        .iter()
        .map(|edge| {
            json!({
                "id": edge.id,
                "name": edge.name,
                "region": edge.region,
                "version": edge.version,
                "live": edge.is_live,
                "epoch": edge.epoch,
                "position": edge.position,
                "table": { "keys": edge.table.keys, "applications": edge.table.apps, "bytes": edge.table.bytes },
                "lastReportAt": edge.last_report_at.format(&Rfc3339).unwrap_or_default(),
            })
        })
        .collect();
    Ok(axum::Json(json!({ "edges": shown })).into_response())
}

async fn metrics(State(app): State<App>) -> Response {
    (
        [(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)],
        app.metrics().encode(app.pool()),
    )
        .into_response()
}
