//! What Prometheus measured of an application, where one is configured.
//!
//! Owns the questions ([`Measured`] says what is asked) and the way to the server. All of them are answered, or none is told:
//! whoever asks falls back to what the edge counted. Prometheus away, slow, or saying more than it may: [`SeriesError`], within
//! the configured time.

mod client;

use std::collections::BTreeMap;
use std::time::Duration;

use authsome_core::config::Reader;
use authsome_core::secret::{SecretString, SecretUrl};

pub use client::{Prometheus, SeriesError};

/// `prometheus.*`: the server, and what instances call their histogram of requests.
#[derive(Debug)]
pub struct PrometheusSettings {
    /// `prometheus.url`: `http(s)://[user:password@]host[/path]`, without `/api/v1`.
    pub url: SecretUrl,
    /// `prometheus.token`: sent as a bearer token.
    pub token: Option<SecretString>,
    /// `prometheus.timeout`: for all questions of one request together. Default 5s.
    pub timeout: Duration,
    /// `prometheus.request_histogram`: seconds that requests took, labelled `namespace` and `status`.
    pub request_histogram: String,
}

impl PrometheusSettings {
    /// Without `prometheus.url` there is no server.
    pub(crate) fn read(reader: &mut Reader) -> Option<Self> {
        let url: Option<SecretUrl> = reader.optional("prometheus.url");
        let token = reader.optional("prometheus.token");
        let timeout = reader.or("prometheus.timeout", Duration::from_secs(5));
        let request_histogram = reader.or(
            "prometheus.request_histogram",
            "http_request_duration_seconds".to_owned(),
        );
        let scheme = url.as_ref().is_none_or(|url| matches!(url.scheme(), "http" | "https"));
        reader.check("prometheus.url", scheme, "must begin with http:// or https://");
        let sensible = Duration::from_millis(100)..=Duration::from_secs(20);
        reader.check(
            "prometheus.timeout",
            sensible.contains(&timeout),
            "must be from 100ms to 20s",
        );
        let name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let named = request_histogram.chars().all(name)
            && request_histogram.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        reader.check(
            "prometheus.request_histogram",
            named,
            "must be the name of a metric, without _bucket or _count",
        );
        Some(Self {
            url: url?,
            token,
            timeout,
            request_histogram,
        })
    }
}

/// A stretch of time, in seconds since 1970. A point at `t` is what was measured in the `step` seconds before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first point.
    pub start: i64,
    /// The last point.
    pub end: i64,
    /// Between two points.
    pub step: i64,
}

/// What was measured in one step. `None`: nothing is known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Measured {
    /// Requests that instances answered.
    pub requests: Option<f64>,
    /// Of them, answered with 5xx.
    pub errors: Option<f64>,
    /// Half of the requests were answered within so many seconds.
    pub p50: Option<f64>,
    /// 95 of a hundred.
    pub p95: Option<f64>,
    /// 99 of a hundred.
    pub p99: Option<f64>,
    /// Cores in use by all instances together.
    pub cpu: Option<f64>,
    /// Bytes in use by all instances together.
    pub memory: Option<f64>,
}

impl Measured {
    /// What is asked for each of its fields, in their order. `namespace` consists of letters, digits and hyphens, and
    /// `histogram` is the name of a metric: neither can end a string.
    fn questions(namespace: &str, histogram: &str, step: i64) -> [String; 7] {
        // A rate needs two samples, and most servers take one every 15 to 60 seconds.
        let window = step.max(120);
        let quantile = |q: &str| {
            format!(
                "histogram_quantile({q}, sum by (le) (rate({histogram}_bucket{{namespace=\"{namespace}\"}}[{window}s])))"
            )
        };
        [
            format!("sum(increase({histogram}_count{{namespace=\"{namespace}\"}}[{step}s]))"),
            format!("sum(increase({histogram}_count{{namespace=\"{namespace}\",status=~\"5..\"}}[{step}s]))"),
            quantile("0.5"),
            quantile("0.95"),
            quantile("0.99"),
            format!(
                "sum(rate(container_cpu_usage_seconds_total{{namespace=\"{namespace}\",container!=\"\"}}[{window}s]))"
            ),
            format!("sum(container_memory_working_set_bytes{{namespace=\"{namespace}\",container!=\"\"}})"),
        ]
    }

    fn set(&mut self, field: usize, value: f64) {
        let place = match field {
            0 => &mut self.requests,
            1 => &mut self.errors,
            2 => &mut self.p50,
            3 => &mut self.p95,
            4 => &mut self.p99,
            5 => &mut self.cpu,
            _ => &mut self.memory,
        };
        *place = Some(value);
    }
}

/// Points by their time.
pub type Points = BTreeMap<i64, Measured>;

impl Prometheus {
    /// What was measured of the instances in a namespace.
    ///
    /// # Errors
    /// [`SeriesError`] if any question is not answered.
    pub async fn measured(&self, namespace: &str, range: Range) -> Result<Points, SeriesError> {
        let questions = Measured::questions(namespace, self.request_histogram(), range.step);
        let asking = futures::future::try_join_all(questions.iter().map(|question| self.query_range(question, range)));
        let answers = tokio::time::timeout(self.timeout(), asking)
            .await
            .unwrap_or(Err(SeriesError::Silent))?;
        let mut points = Points::new();
        for (field, answer) in answers.into_iter().enumerate() {
            for (at, value) in answer {
                points.entry(at).or_default().set(field, value);
            }
        }
        Ok(points)
    }
}
