//! What the edge counted of an application's requests.

use authsome_core::id::Application as ApplicationKind;
use axum::Json as Answer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use utoipa::{IntoParams, ToSchema};

use super::fault::{ErrorEnvelope, Refusals};
use crate::db::usage_series::{self, Point};
use crate::error::Outcome;
use crate::identity::{self, Action, Caller};
use crate::server::extract::{PathId, Query};
use crate::state::App;

/// Which part of it.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MetricsQuery {
    /// How far back. `24h` where it is left out.
    period: Option<Period>,
    /// How long one point is. `1h` where it is left out; the edge counts by the hour.
    interval: Option<Interval>,
}

/// How far back.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, ToSchema)]
enum Period {
    #[serde(rename = "1h")]
    Hour,
    #[serde(rename = "24h")]
    Day,
    #[serde(rename = "7d")]
    Week,
    #[serde(rename = "30d")]
    Month,
}

/// How long one point is.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, ToSchema)]
enum Interval {
    #[serde(rename = "1h")]
    Hour,
    #[serde(rename = "1d")]
    Day,
}

/// What was counted. Hours without requests have no point.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ApplicationMetrics {
    period: Period,
    interval: Interval,
    totals: Counted,
    /// Oldest first.
    series: Vec<MetricsPoint>,
}

/// What was counted in one interval.
#[derive(Debug, Serialize, ToSchema)]
struct MetricsPoint {
    /// Its beginning.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    #[serde(flatten)]
    counted: Counted,
}

/// Counters.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Counted {
    requests: i64,
    /// Of them, answered with 5xx.
    errors: i64,
    /// Of request bodies.
    bytes_in: i64,
    /// Sent to clients.
    bytes_out: i64,
}

impl From<Point> for MetricsPoint {
    fn from(row: Point) -> Self {
        Self {
            at: row.at,
            counted: Counted {
                requests: row.requests,
                errors: row.errors,
                bytes_in: row.bytes_in,
                bytes_out: row.bytes_out,
            },
        }
    }
}

/// Requests of an application over time, as the edge counted them
#[utoipa::path(get, path = "/applications/{applicationId}/metrics", tag = "applications", operation_id = "getApplicationMetrics",
    security(("bearer" = [])), params(("applicationId" = String, Path), MetricsQuery),
    responses((status = 200, body = ApplicationMetrics), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member")))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<ApplicationKind>,
    Query(query): Query<MetricsQuery>,
) -> Outcome<Answer<ApplicationMetrics>> {
    let period = query.period.unwrap_or(Period::Day);
    let interval = query.interval.unwrap_or(Interval::Hour);
    let mut connection = app.pool().acquire().await?;
    identity::application(&mut connection, &caller, id, Action::ReadApplications).await?;
    let back = match period {
        Period::Hour => Duration::hours(1),
        Period::Day => Duration::hours(24),
        Period::Week => Duration::days(7),
        Period::Month => Duration::days(30),
    };
    let unit = match interval {
        Interval::Hour => "hour",
        Interval::Day => "day",
    };
    let rows = usage_series::of_application(&mut connection, id, app.clock().now() - back, unit).await?;
    let mut totals = Counted::default();
    for row in &rows {
        totals.requests += row.requests;
        totals.errors += row.errors;
        totals.bytes_in += row.bytes_in;
        totals.bytes_out += row.bytes_out;
    }
    Ok(Answer(ApplicationMetrics {
        period,
        interval,
        totals,
        series: rows.into_iter().map(MetricsPoint::from).collect(),
    }))
}
