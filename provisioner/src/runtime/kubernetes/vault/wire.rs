//! The requests that Vault is sent: over HTTPS, whose certificate is checked against the system's authorities or against one of
//! the installation's own, or over HTTP.
//!
//! Owns the connections. A certificate that is not trusted is a refusal like any other that nobody but an operator can change:
//! it is told apart from a Vault that is away.

use std::sync::Arc;

use authsome_core::secret::{ExposeSecret, SecretString};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

use crate::runtime::kubernetes::settings::Vault;

/// Of one answer. A document holds what a ConfigMap could.
const LARGEST: usize = 4 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The settings make no client.
    #[error("{0}")]
    Settings(String),
    /// Its certificate is not one that is trusted.
    #[error("its certificate is not trusted")]
    Untrusted(#[source] rustls::Error),
    /// It cannot be reached, or broke off.
    #[error("it cannot be reached")]
    Connect(#[source] hyper_util::client::legacy::Error),
    /// It broke off, or says more than anybody can use.
    #[error("its answer cannot be read")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl WireError {
    /// May the same call succeed later without anybody changing anything?
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Read(_))
    }
}

/// Where requests go.
pub(super) struct Wire {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Without a slash at its end.
    address: String,
    token: SecretString,
}

impl Wire {
    pub(super) fn new(settings: &Vault) -> Result<Self, WireError> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(settings.ca.as_deref())?)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            address: settings.address.trim_end_matches('/').to_owned(),
            token: settings.token.clone(),
        })
    }

    /// The status of the answer, and what it says where that is JSON.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Option<Value>), WireError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/v1/{path}", self.address))
            .header("X-Vault-Token", self.token.expose_secret())
            .header("X-Vault-Request", "true")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body.map(|body| body.to_string()).unwrap_or_default()))
            .map_err(|error| WireError::Settings(error.to_string()))?;
        let answer = self.client.request(request).await.map_err(told)?;
        let status = answer.status();
        let read = Limited::new(answer.into_body(), LARGEST).collect().await;
        let bytes = read.map_err(WireError::Read)?.to_bytes();
        Ok((status, serde_json::from_slice(&bytes).ok()))
    }
}

/// Tells a certificate that is not trusted from everything else.
fn told(error: hyper_util::client::legacy::Error) -> WireError {
    match of_tls(&error) {
        Some(refused @ rustls::Error::InvalidCertificate(_)) => WireError::Untrusted(refused.clone()),
        _ => WireError::Connect(error),
    }
}

/// What TLS said, however it is wrapped: an I/O error does not hand on what it holds as its source.
fn of_tls<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match (error.downcast_ref(), held) {
        (Some(found), _) => Some(found),
        (None, Some(held)) => of_tls(held),
        (None, None) => of_tls(error.source()?),
    }
}

/// Trusts the authorities of this PEM, or the system's.
fn tls(ca: Option<&[u8]>) -> Result<ClientConfig, WireError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let usable = certificate.map_err(|error| WireError::Settings(format!("vault.ca: {error}")))?;
                let added = roots.add(usable);
                added.map_err(|error| WireError::Settings(format!("vault.ca: {error}")))?;
            }
            if roots.is_empty() {
                return Err(WireError::Settings("vault.ca: it holds no certificate".to_owned()));
            }
        }
        None => {
            // A system without any trusts nobody; over HTTP that is no harm.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| WireError::Settings(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_that_are_none_are_refused() {
        for (pem, said) in [
            (&b""[..], "no certificate"),
            (
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "vault.ca",
            ),
        ] {
            let error = tls(Some(pem)).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
            assert!(!error.is_transient());
        }
        assert!(tls(None).is_ok());
    }
}
