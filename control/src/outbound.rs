//! Connections to servers elsewhere: whose certificates are believed, and one bounded GET.
//!
//! Believed are the roots of the system and those that the operator adds (`tls.roots`), for webhooks, identity providers and the
//! mail server alike. A GET follows no redirect, reads at most so much, and ends in time, whatever the server does.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
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

/// Why a GET brought nothing. For operators.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// Neither https, nor http to this machine.
    #[error("the address is not https")]
    Url,
    /// Nobody answers there.
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    /// TLS.
    #[error("TLS failed: {0}")]
    Tls(#[source] std::io::Error),
    /// HTTP.
    #[error("no valid answer: {0}")]
    Http(#[source] hyper::Error),
    /// The request cannot be written.
    #[error("the request cannot be made: {0}")]
    Request(#[source] http::Error),
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
    if url.scheme() == "http" {
        return read(stream, url, longest).await;
    }
    let server = ServerName::try_from(bare.to_owned()).map_err(|_| GetError::Url)?;
    let connector = TlsConnector::from(Arc::clone(tls));
    let stream = connector.connect(server, stream).await.map_err(GetError::Tls)?;
    read(stream, url, longest).await
}

async fn read<S>(stream: S, url: &Url, longest: usize) -> Result<Vec<u8>, GetError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(GetError::Http)?;
    let name = url.host_str().unwrap_or_default();
    let host = url
        .port()
        .map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    let path = url
        .query()
        .map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let request = http::Request::get(path)
        .header(http::header::HOST, host)
        .header(http::header::ACCEPT, "application/json")
        .header(
            http::header::USER_AGENT,
            concat!("AuthSome-Cloud/", env!("CARGO_PKG_VERSION")),
        )
        .body(Body::empty())
        .map_err(GetError::Request)?;
    let answering = async {
        let answer = sender.send_request(request).await.map_err(GetError::Http)?;
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
    };
    let mut connection = std::pin::pin!(connection);
    let mut answering = std::pin::pin!(answering);
    tokio::select! {
        answer = &mut answering => answer,
        ended = &mut connection => match ended {
            // The server closed after its answer, which may not be read to its end yet.
            Ok(()) => answering.await,
            Err(error) => Err(GetError::Http(error)),
        },
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
