//! The admin port: whether the process lives, whether it works, and its metrics.
//!
//! `/livez` answers 200 while the process runs, `/readyz` 200 once the control database answered at start and until the
//! process is to end. NATS and the tenants' servers do not count: without them the provisioner retries, and restarting it
//! would not help.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use authsome_core::lifecycle::Shutdown;
use authsome_core::telemetry::METRICS_CONTENT_TYPE;
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::metrics::Metrics;

/// What the admin port shows.
#[derive(Clone)]
struct Shown {
    metrics: Arc<Metrics>,
    started: watch::Receiver<bool>,
    shutdown: Shutdown,
}

/// The admin port cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on the admin address {address}")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// Binds the admin port, so that a taken one is known before anything else starts.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ListenError { address, source })
}

/// Serves until the soft stop. `started` says whether everything needed at start was there.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    started: watch::Receiver<bool>,
    shutdown: Shutdown,
) -> io::Result<()> {
    let soft = shutdown.soft().clone();
    let routes = Router::new()
        .route("/livez", get(async || Json(json!({ "status": "ok" }))))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(Shown {
            metrics,
            started,
            shutdown,
        });
    axum::serve(listener, routes)
        .with_graceful_shutdown(soft.cancelled_owned())
        .await
}

async fn ready(State(shown): State<Shown>) -> impl IntoResponse {
    let (code, status) = if shown.shutdown.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else if *shown.started.borrow() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting")
    };
    (code, Json(json!({ "status": status })))
}

async fn metrics_text(State(shown): State<Shown>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], shown.metrics.encode())
}
