//! TLS towards clients: versions 1.2 and 1.3, HTTP/2 or HTTP/1.1 by ALPN, the certificate by the name that was asked for.
//!
//! Owns the handshake, its deadline and its metrics; [`Certificates`] owns which certificate is shown, [`Reload`] that new
//! files are noticed. A file that cannot be used leaves the certificate that it was to replace. Sessions are resumed with
//! tickets whose keys live in this process only: a client that comes to another edge, or after a restart, does one full
//! handshake more. There is no early data (0-RTT), which could be replayed.

mod certificate;
mod choose;
mod directory;
mod metrics;
mod reload;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream as Socket;
use pingora::protocols::tls::TlsStream;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};

pub use certificate::CertificateError;
pub use choose::Certificates;
pub use metrics::TlsMetrics;
pub use reload::Reload;
pub use settings::{TlsSettings, UnknownNames};

use metrics::Outcome;

/// TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is nothing to show to clients.
    #[error("listen.tls is set, and none of the certificates in tls.certificate and tls.directory can be used")]
    NoCertificate,
    /// The library refuses.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// Accepts TLS connections.
pub struct Tls {
    acceptor: Acceptor,
    timeout: Duration,
    metrics: TlsMetrics,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Shows these certificates. A handshake has to be complete within `timeout`.
    ///
    /// # Errors
    /// [`TlsError::Setup`].
    pub fn new(certificates: Arc<Certificates>, timeout: Duration, metrics: TlsMetrics) -> Result<Self, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = ring::Ticketer::new()?;
        // Tickets hold all that is needed; nothing is kept here for clients that may never return.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            acceptor: Acceptor::from_server_config(Arc::new(config)),
            timeout,
            metrics,
        })
    }

    /// Agrees with the client, or counts why not.
    pub(crate) async fn accept(&self, socket: Socket) -> Option<TlsStream<Socket>> {
        let handshake = tokio::time::timeout(self.timeout, self.acceptor.tls_handshake(socket));
        let (stream, outcome) = match handshake.await {
            Ok(Ok(stream)) => (Some(stream), Outcome::Ok),
            Ok(Err(error)) => {
                // Scanners and clients that left make most of these; the count is what operators watch.
                tracing::debug!(%error, "a TLS handshake failed");
                (None, Outcome::Failed)
            }
            Err(_) => (None, Outcome::Timeout),
        };
        self.metrics.handshake(outcome);
        stream
    }
}
