//! What was counted and measured of an application: by the edge always, and by Prometheus where one is configured.
//!
//! Totals are the edge's, exact to the request. Prometheus adds what the edge does not know of an application (latency, CPU,
//! memory) and what it does not count by (minutes). If it fails, the answer is what the edge counted, and says so.

use std::collections::BTreeMap;

use authsome_core::error::{Chain, Failure};
use authsome_core::id::Application as ApplicationKind;
use axum::Json as Answer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use utoipa::{IntoParams, ToSchema};

use super::fault::{ErrorEnvelope, Refusals};
use crate::db::applications;
use crate::db::usage_series::{self, Point};
use crate::error::{Fields, Outcome};
use crate::identity::{self, Action, Caller};
use crate::server::extract::{PathId, Query};
use crate::state::App;
use crate::time_series::{Measured, Points, Range};

/// The most points of a series: a week of five-minute ones.
const POINTS_MAX: i64 = 2_100;

/// Which part of it.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MetricsQuery {
    /// How far back. `24h` where it is left out.
    period: Option<Period>,
    /// How long one point is, 2,100 points at most. Where it is left out: `5m` up to 24 hours and `1h` beyond, and `1h` where only
    /// the edge counts, which does so by the hour.
    interval: Option<Interval>,
}

/// How far back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
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

impl Period {
    fn length(self) -> Duration {
        match self {
            Self::Hour => Duration::hours(1),
            Self::Day => Duration::hours(24),
            Self::Week => Duration::days(7),
            Self::Month => Duration::days(30),
        }
    }
}

/// How long one point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Deserialize, Serialize, ToSchema)]
enum Interval {
    #[serde(rename = "1m")]
    Minute,
    #[serde(rename = "5m")]
    FiveMinutes,
    #[serde(rename = "1h")]
    Hour,
    #[serde(rename = "1d")]
    Day,
}

impl Interval {
    const fn seconds(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::FiveMinutes => 300,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }

    /// As the database calls it; the edge counts by the hour at the finest.
    const fn unit(self) -> &'static str {
        match self {
            Self::Minute | Self::FiveMinutes | Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// Where the series comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Source {
    /// The edge's counters alone.
    Counters,
    /// Prometheus; for points of an hour and more, requests, errors and bytes are the edge's.
    Prometheus,
}

/// What was counted and measured.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ApplicationMetrics {
    period: Period,
    /// At least the one that was asked for: `1h` where only the edge counts.
    interval: Interval,
    source: Source,
    /// Of the period, as the edge counted: whole hours.
    totals: Counted,
    /// Oldest first. Intervals without anything have no point.
    series: Vec<MetricsPoint>,
}

/// One interval.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MetricsPoint {
    /// Its beginning.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// `null` where nothing is known.
    requests: Option<i64>,
    /// Of them, answered with 5xx.
    errors: Option<i64>,
    /// Of request bodies. Counted by the hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_in: Option<i64>,
    /// Sent to clients. Counted by the hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_out: Option<i64>,
    /// How long instances took; measured by Prometheus only.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Latency>,
    /// Cores in use by all instances; measured by Prometheus only.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_cores: Option<f64>,
    /// Bytes in use by all instances; measured by Prometheus only.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<i64>,
}

/// Milliseconds within which so many of a hundred requests were answered.
#[derive(Debug, Serialize, ToSchema)]
struct Latency {
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
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
    /// `null`, since the platform does not count users.
    active_users: Option<i64>,
}

impl Counted {
    fn of(rows: &[Point]) -> Self {
        let mut totals = Self::default();
        for row in rows {
            totals.requests += row.requests;
            totals.errors += row.errors;
            totals.bytes_in += row.bytes_in;
            totals.bytes_out += row.bytes_out;
        }
        totals
    }
}

impl MetricsPoint {
    const fn empty(at: OffsetDateTime) -> Self {
        Self {
            at,
            requests: None,
            errors: None,
            bytes_in: None,
            bytes_out: None,
            latency: None,
            cpu_cores: None,
            memory_bytes: None,
        }
    }

    fn count(&mut self, row: &Point) {
        self.requests = Some(row.requests);
        self.errors = Some(row.errors);
        self.bytes_in = Some(row.bytes_in);
        self.bytes_out = Some(row.bytes_out);
    }

    /// What was measured; requests and errors only where the edge did not count them.
    fn measure(&mut self, measured: &Measured, counts: bool) {
        if counts {
            self.requests = measured.requests.map(whole);
            // No series of errors is no error, where there are requests.
            self.errors = measured.errors.map(whole).or(self.requests.map(|_| 0));
        }
        let (p50, p95, p99) = (measured.p50, measured.p95, measured.p99);
        if p50.is_some() || p95.is_some() || p99.is_some() {
            let milliseconds = |seconds: Option<f64>| seconds.map(|seconds| (seconds * 1e6).round() / 1e3);
            self.latency = Some(Latency {
                p50: milliseconds(p50),
                p95: milliseconds(p95),
                p99: milliseconds(p99),
            });
        }
        self.cpu_cores = measured.cpu;
        self.memory_bytes = measured.memory.map(whole);
    }
}

/// Prometheus estimates counts between samples.
fn whole(value: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
    let whole = value.round() as i64;
    whole.max(0)
}

/// The series: counters and measurements of the same interval in one point. Pure.
fn series(rows: &[Point], measured: &Points, interval: Interval) -> Vec<MetricsPoint> {
    let counts = interval < Interval::Hour;
    let mut points = BTreeMap::new();
    for row in rows.iter().filter(|_| !counts) {
        let at = row.at.unix_timestamp();
        points
            .entry(at)
            .or_insert_with(|| MetricsPoint::empty(row.at))
            .count(row);
    }
    for (end, measured) in measured {
        let at = end - interval.seconds();
        if let Ok(begins) = OffsetDateTime::from_unix_timestamp(at) {
            points
                .entry(at)
                .or_insert_with(|| MetricsPoint::empty(begins))
                .measure(measured, counts);
        }
    }
    points.into_values().collect()
}

/// Requests of an application over time, and how its instances do
///
/// The edge counts requests, errors and bytes by the hour. Where the platform has a Prometheus, latency, CPU and memory of the
/// instances come from there, and finer intervals; `source` says whether they did.
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
    let back = period.length();
    let short = matches!(period, Period::Hour | Period::Day);
    let asked = query
        .interval
        .unwrap_or(if short { Interval::FiveMinutes } else { Interval::Hour });
    let mut fields = Fields::new();
    fields.require(
        back.whole_seconds() / asked.seconds() <= POINTS_MAX,
        "interval",
        "is too short for the period: at most 2100 points are told",
    );
    fields.finish()?;
    let now = app.clock().now();
    let (rows, namespace) = {
        let mut connection = app.pool().acquire().await?;
        identity::application(&mut connection, &caller, id, Action::ReadApplications).await?;
        let rows = usage_series::of_application(&mut connection, id, now - back, asked.unit()).await?;
        let found = applications::whereabouts(&mut connection, id).await?;
        let found = found.ok_or_else(|| Failure::not_found("Application not found"))?;
        (rows, found.namespace)
    };
    let range = range(now, back, asked);
    let measured = match app.prometheus() {
        Some(prometheus) => match prometheus.measured(&namespace, range).await {
            Ok(points) => Some(points),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "only what the edge counted is told");
                None
            }
        },
        None => None,
    };
    let (source, interval) = match &measured {
        Some(_) => (Source::Prometheus, asked),
        None if asked < Interval::Hour => (Source::Counters, Interval::Hour),
        None => (Source::Counters, asked),
    };
    Ok(Answer(ApplicationMetrics {
        period,
        interval,
        source,
        totals: Counted::of(&rows),
        series: series(&rows, &measured.unwrap_or_default(), interval),
    }))
}

/// The ends of whole intervals of the period.
fn range(now: OffsetDateTime, back: Duration, interval: Interval) -> Range {
    let step = interval.seconds();
    let end = now.unix_timestamp() / step * step;
    let first = end - back.whole_seconds() / step * step + step;
    Range {
        start: first.min(end),
        end,
        step,
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn row(at: OffsetDateTime, requests: i64) -> Point {
        Point {
            at,
            requests,
            errors: 1,
            bytes_in: 2,
            bytes_out: 3,
        }
    }

    #[test]
    fn counters_and_measurements_of_one_interval_are_one_point() {
        let hour = datetime!(2026-01-31 11:00 UTC);
        let measured = Points::from([
            (
                hour.unix_timestamp() + 3_600,
                Measured {
                    requests: Some(99.0),
                    p95: Some(0.012_345_6),
                    memory: Some(1e6),
                    ..Measured::default()
                },
            ),
            (hour.unix_timestamp() + 7_200, Measured::default()),
        ]);
        let points = series(&[row(hour, 7)], &measured, Interval::Hour);
        assert_eq!(points.len(), 2);
        assert_eq!((points[0].requests, points[0].memory_bytes), (Some(7), Some(1_000_000)));
        assert_eq!(points[0].latency.as_ref().and_then(|latency| latency.p95), Some(12.346));
        assert_eq!((points[1].requests, points[1].errors), (None, None));
        // Below an hour the edge has counted nothing that could be told.
        let points = series(&[row(hour, 7)], &measured, Interval::FiveMinutes);
        assert_eq!(
            (points.len(), points[0].requests, points[0].errors),
            (2, Some(99), Some(0))
        );
        assert_eq!(
            series(&[row(hour, 7)], &Points::new(), Interval::Hour)[0].bytes_out,
            Some(3)
        );
    }

    #[test]
    fn a_range_ends_with_the_last_whole_interval() {
        let now = datetime!(2026-01-31 12:34:56 UTC);
        let told = range(now, Duration::hours(1), Interval::FiveMinutes);
        assert_eq!(told.end, datetime!(2026-01-31 12:30 UTC).unix_timestamp());
        assert_eq!((told.end - told.start) / told.step + 1, 12);
        let told = range(now, Duration::hours(1), Interval::Day);
        assert_eq!(told.start, told.end);
    }
}
