//! Connections to servers elsewhere: whose certificates are believed, one request over a connection, and one bounded GET.
//!
//! Believed are the roots of the system and those that the operator adds (`tls.roots`), for webhooks, identity providers and the
//! mail server alike. A GET follows no redirect, reads at most so much, and ends in time, whatever the server does.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt;
use http::{Response, header};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use url::{Host, Url};

/// For a whole GET.
const ANSWER: Duration = Duration::from_secs(5);

/// Root certificates beside those of the system.
#[derive(Debug, Clone, Default)]
pub struct Roots(Vec<CertificateDer<'static>>);

/// What is no file of certificates.
#[derive(Debug, thiserror::Error)]
#[error("holds no certificate in PEM")]
pub struct RootsError;

impl Roots {
    /// Reads certificates in PEM, at least one.
    pub fn parse(pem: &[u8]) -> Result<Self, RootsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        found.ok().filter(|found| !found.is_empty()).map(Self).ok_or(RootsError)
    }

    /// Those certificates.
    pub fn extra(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// TLS of clients, on ring.
    pub fn tls(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (_, ignored) = roots.add_parsable_certificates(found.certs.into_iter().chain(self.0.clone()));
        if roots.is_empty() {
            tracing::warn!(
                ignored,
                "this system has no root certificates; connections by https fail"
            );
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap_or_else(|error| unreachable!("ring has the default versions: {error}"))
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

/// Why an open connection brought no answer. Fit for customers: it names nothing of the inside.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// No certificate can be for this host.
    #[error("the host of the URL is no name")]
    Name,
    /// TLS.
    #[error("TLS failed: {0}")]
    Tls(#[source] std::io::Error),
    /// HTTP.
    #[error("no valid answer: {0}")]
    Http(#[source] hyper::Error),
    /// The request cannot be written.
    #[error("the request cannot be made")]
    Request(#[source] http::Error),
}

/// Why a GET brought nothing. For operators.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// Neither https, nor http to this machine.
    #[error("the address is not https")]
    Url,
    /// Nobody answers there.
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    /// The connection brought no answer.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// Anything but 200.
    #[error("the server answered {0}")]
    Status(u16),
    /// The body broke off.
    #[error("the answer broke off: {0}")]
    Body(#[source] axum::Error),
    /// Too much.
    #[error("the answer is too long")]
    TooLong,
    /// Too slow.
    #[error("no answer within 5 seconds")]
    Silent,
}

/// May this be asked: https, or http to this very machine?
pub fn is_safe(url: &Url) -> bool {
    let here = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let known = url.scheme() == "https" || (url.scheme() == "http" && here);
    known && url.host().is_some() && url.username().is_empty() && url.password().is_none()
}

/// Reads a document of at most `longest` bytes.
pub async fn get(tls: &Arc<ClientConfig>, url: &Url, longest: usize) -> Result<Vec<u8>, GetError> {
    tokio::time::timeout(ANSWER, asked(tls, url, longest))
        .await
        .unwrap_or(Err(GetError::Silent))
}

async fn asked(tls: &Arc<ClientConfig>, url: &Url, longest: usize) -> Result<Vec<u8>, GetError> {
    if !is_safe(url) {
        return Err(GetError::Url);
    }
    let name = url.host_str().ok_or(GetError::Url)?;
    let port = url.port_or_known_default().ok_or(GetError::Url)?;
    // Brackets are of URLs, not of addresses.
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, port)).await.map_err(GetError::Connect)?;
    let request = http::Request::get(target(url))
        .header(header::ACCEPT, "application/json")
        .header(
            header::USER_AGENT,
            concat!("AuthSome-Cloud/", env!("CARGO_PKG_VERSION")),
        );
    exchange(tls, stream, url, request, Body::empty(), async |answer| {
        if answer.status() != http::StatusCode::OK {
            return Err(GetError::Status(answer.status().as_u16()));
        }
        let mut pieces = Body::new(answer.into_body()).into_data_stream();
        let mut document = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(GetError::Body)?;
            if document.len() + piece.len() > longest {
                return Err(GetError::TooLong);
            }
            document.extend_from_slice(&piece);
        }
        Ok(document)
    })
    .await
}

/// What a request asks a server for: path and query.
pub fn target(url: &Url) -> String {
    url.query()
        .map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
}

/// Sends one request over a connection that is open, by TLS where the URL is https, and has `read` take what it wants of the answer.
/// The connection ends with it, whatever more the server wants to say. Time is the caller's to bound.
pub async fn exchange<T, E: From<ExchangeError>>(
    tls: &Arc<ClientConfig>,
    stream: TcpStream,
    url: &Url,
    request: http::request::Builder,
    body: Body,
    read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, E>,
) -> Result<T, E> {
    let stream = match url.scheme() {
        "https" => {
            let connector = TlsConnector::from(Arc::clone(tls));
            let stream = connector.connect(server_name(url)?, stream).await;
            Either::Left(stream.map_err(ExchangeError::Tls)?)
        }
        _ => Either::Right(stream),
    };
    let name = url.host_str().unwrap_or_default();
    let host = url
        .port()
        .map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    let request = request
        .header(header::HOST, host)
        .body(body)
        .map_err(ExchangeError::Request)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(ExchangeError::Http)?;
    let answering = async move { read(sender.send_request(request).await.map_err(ExchangeError::Http)?).await };
    let mut connection = std::pin::pin!(connection);
    let mut answering = std::pin::pin!(answering);
    tokio::select! {
        answer = &mut answering => answer,
        ended = &mut connection => match ended {
            // The server closed after its answer, which may not be read to its end yet.
            Ok(()) => answering.await,
            Err(error) => Err(ExchangeError::Http(error).into()),
        },
    }
}

fn server_name(url: &Url) -> Result<ServerName<'static>, ExchangeError> {
    match url.host() {
        Some(Host::Domain(name)) => ServerName::try_from(name.to_owned()).map_err(|_| ExchangeError::Name),
        Some(Host::Ipv4(address)) => Ok(IpAddr::V4(address).into()),
        Some(Host::Ipv6(address)) => Ok(IpAddr::V6(address).into()),
        None => Err(ExchangeError::Name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_asked_but_on_this_machine() {
        for safe in [
            "https://issuer.example.com/",
            "https://10.0.0.1/",
            "http://127.0.0.1:9000/x",
            "http://localhost/",
            "http://[::1]:80/",
        ] {
            assert!(is_safe(&Url::parse(safe).unwrap()), "{safe}");
        }
        for unsafe_ in [
            "http://issuer.example.com/",
            "http://10.0.0.1/",
            "http://localhost.example.com/",
            "https://user:password@issuer.example.com/",
            "ftp://localhost/",
            "data:text/plain,x",
        ] {
            assert!(!is_safe(&Url::parse(unsafe_).unwrap()), "{unsafe_}");
        }
    }
}
