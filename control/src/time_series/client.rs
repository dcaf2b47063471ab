//! The HTTP API of Prometheus, as far as it is needed: range queries whose answer is one series at most.
//!
//! HTTP/1.1, a connection for each question, no redirects. What is read of an answer is bounded.

use std::sync::Arc;
use std::time::Duration;

use authsome_core::secret::{ExposeSecret, SecretString};
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;
use url::form_urlencoded::Serializer;

use super::{PrometheusSettings, Range};

/// The largest answer, in bytes: a point has about 40, and no series here has more than 2,100 points.
const ANSWER_MAX: usize = 1024 * 1024;

/// Why nothing was measured. For the log: it may name the server.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    /// The address leads nowhere.
    #[error("the address of Prometheus cannot be used")]
    Url,
    /// Nobody answers there.
    #[error("cannot connect to Prometheus: {0}")]
    Connect(#[source] std::io::Error),
    /// The request cannot be written.
    #[error("the question cannot be sent: {0}")]
    Request(#[source] http::Error),
    /// HTTP.
    #[error("no valid answer of Prometheus: {0}")]
    Http(#[source] hyper::Error),
    /// The answer breaks off, or is too long.
    #[error("the answer of Prometheus cannot be read: {0}")]
    Body(#[source] axum::Error),
    /// It answers something else than 200.
    #[error("Prometheus answers {0}")]
    Status(u16),
    /// It does not answer as Prometheus does.
    #[error("Prometheus is not understood: {0}")]
    Json(#[source] serde_json::Error),
    /// It has more to say than was asked.
    #[error("Prometheus answers {0} series to a question for one")]
    Several(usize),
    /// It says why not.
    #[error("Prometheus refuses")]
    Refused,
    /// Too slow.
    #[error("no answer of Prometheus in time")]
    Silent,
}

/// A server of Prometheus, or of anything with its API (Thanos, Mimir, VictoriaMetrics).
#[derive(Clone)]
pub struct Prometheus(Arc<Parts>);

struct Parts {
    url: Url,
    authorization: Option<SecretString>,
    timeout: Duration,
    request_histogram: String,
    tls: Option<Arc<ClientConfig>>,
}

impl std::fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prometheus")
    }
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    data: Data,
}

#[derive(Default, Deserialize)]
struct Data {
    #[serde(default)]
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    values: Vec<(f64, String)>,
}

impl Prometheus {
    /// The server of these settings, if it is one that `tls` believes.
    ///
    /// # Errors
    /// [`SeriesError::Url`] where the address names no host.
    pub fn new(settings: &PrometheusSettings, tls: Arc<ClientConfig>) -> Result<Self, SeriesError> {
        let mut url = Url::parse(settings.url.expose()).map_err(|_| SeriesError::Url)?;
        if url.host_str().is_none() {
            return Err(SeriesError::Url);
        }
        let authorization = match (&settings.token, url.password()) {
            (Some(token), _) => Some(format!("Bearer {}", token.expose_secret())),
            (None, Some(password)) => {
                let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
                let pair = format!("{}:{}", decoded(url.username()), decoded(password));
                Some(format!("Basic {}", STANDARD.encode(pair)))
            }
            (None, None) => None,
        };
        // Neither belongs into a request; a URL with a host may lose both.
        let _ = url.set_password(None);
        let _ = url.set_username("");
        let path = format!("{}/api/v1/query_range", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(Self(Arc::new(Parts {
            tls: (url.scheme() == "https").then_some(tls),
            url,
            authorization: authorization.map(SecretString::from),
            timeout: settings.timeout,
            request_histogram: settings.request_histogram.clone(),
        })))
    }

    pub(super) fn timeout(&self) -> Duration {
        self.0.timeout
    }

    pub(super) fn request_histogram(&self) -> &str {
        &self.0.request_histogram
    }

    /// The points of the one series that answers the question; none where there is no series. The caller bounds the time.
    pub(super) async fn query_range(&self, question: &str, range: Range) -> Result<Vec<(i64, f64)>, SeriesError> {
        let body = Serializer::new(String::new())
            .append_pair("query", question)
            .append_pair("start", &range.start.to_string())
            .append_pair("end", &range.end.to_string())
            .append_pair("step", &range.step.to_string())
            .finish();
        let url = &self.0.url;
        let (host, port) = url
            .host_str()
            .zip(url.port_or_known_default())
            .ok_or(SeriesError::Url)?;
        // Brackets belong to an address of IPv6 in a URL, and nowhere else.
        let host = host.trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, port)).await.map_err(SeriesError::Connect)?;
        let bytes = match &self.0.tls {
            Some(config) => {
                let name = ServerName::try_from(host.to_owned()).map_err(|_| SeriesError::Url)?;
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name, stream).await.map_err(SeriesError::Connect)?;
                self.ask(stream, body).await?
            }
            None => self.ask(stream, body).await?,
        };
        read(&bytes)
    }

    async fn ask<S>(&self, stream: S, body: String) -> Result<Vec<u8>, SeriesError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(SeriesError::Http)?;
        let mut request = http::Request::post(self.0.url.path())
            .header(HOST, self.0.url.authority())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(USER_AGENT, concat!("authsome-control/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.0.authorization {
            let mut value = http::HeaderValue::from_str(authorization.expose_secret())
                .map_err(|error| SeriesError::Request(error.into()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Body::from(body)).map_err(SeriesError::Request)?;
        let answering = async {
            let answer = sender.send_request(request).await.map_err(SeriesError::Http)?;
            let status = answer.status().as_u16();
            if status != 200 {
                return Err(SeriesError::Status(status));
            }
            let bytes = axum::body::to_bytes(Body::new(answer.into_body()), ANSWER_MAX).await;
            Ok(bytes.map_err(SeriesError::Body)?.to_vec())
        };
        tokio::pin!(answering);
        let mut connection = std::pin::pin!(connection);
        // The connection is driven until the answer is whole; its end alone decides nothing, since the answer may be there.
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                answer = &mut answering => return answer,
                ended = &mut connection, if open => {
                    open = false;
                    if let Err(error) = ended {
                        return Err(SeriesError::Http(error));
                    }
                }
            }
        }
    }
}

/// Points that are numbers. Prometheus writes numbers as text, `NaN` where a quantile of nothing is asked for.
fn read(bytes: &[u8]) -> Result<Vec<(i64, f64)>, SeriesError> {
    let answer: Answer = serde_json::from_slice(bytes).map_err(SeriesError::Json)?;
    if answer.status != "success" {
        return Err(SeriesError::Refused);
    }
    let mut result = answer.data.result;
    if result.len() > 1 {
        return Err(SeriesError::Several(result.len()));
    }
    let values = result.pop().map(|series| series.values).unwrap_or_default();
    Ok(values
        .into_iter()
        .filter_map(|(at, text)| {
            let value: f64 = text.parse().ok()?;
            #[expect(clippy::cast_possible_truncation, reason = "the seconds that were asked for")]
            value.is_finite().then_some((at.round() as i64, value))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_prometheus_writes_them() {
        let text = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},
            "values":[[1700000000,"3"],[1700000060.0,"NaN"],[1700000120,"+Inf"],[1700000180,"0.25"]]}]}}"#;
        assert_eq!(
            read(text.as_bytes()).unwrap(),
            [(1_700_000_000, 3.0), (1_700_000_180, 0.25)]
        );
        let empty = r#"{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["x"]}"#;
        assert_eq!(read(empty.as_bytes()).unwrap(), []);
        let two = r#"{"status":"success","data":{"result":[{"values":[]},{"values":[]}]}}"#;
        assert!(matches!(read(two.as_bytes()), Err(SeriesError::Several(2))));
        let refused = r#"{"status":"error","errorType":"bad_data","error":"x"}"#;
        assert!(matches!(read(refused.as_bytes()), Err(SeriesError::Refused)));
        assert!(matches!(read(b"<html>"), Err(SeriesError::Json(_))));
    }
}
