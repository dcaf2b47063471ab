//! One certificate with its key, as read from two PEM files.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A longer file is not a certificate chain.
const LENGTH_MAX: u64 = 1024 * 1024;

/// Why a certificate cannot be used. Shows nothing of the key.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file holds no certificate, or something that is none.
    #[error("{0}: not a PEM certificate chain")]
    NoCertificate(PathBuf),
    /// A file holds no private key.
    #[error("{0}: not a PEM private key")]
    NoKey(PathBuf),
    /// The key is of a kind that is not supported, or of another certificate.
    #[error("{path}: the key cannot be used with the certificate: {source}")]
    Key {
        /// That of the certificate.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// Clients look at nothing but the subject's alternative names.
    #[error("{0}: the certificate has no DNS name as subject alternative name")]
    NoName(PathBuf),
}

/// A certificate that can be shown.
#[derive(Debug)]
pub(super) struct Certificate {
    /// DNS names, in lower case; `*.example.com` for one label more.
    pub(super) names: Vec<String>,
    /// The end of its life, seconds since the Unix epoch.
    pub(super) not_after: i64,
    pub(super) key: Arc<CertifiedKey>,
}

impl Certificate {
    /// Reads and checks a certificate chain and its key.
    pub(super) fn read(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let bad_chain = || CertificateError::NoCertificate(certificate.to_owned());
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&contents(certificate)?)
            .collect::<Result<_, _>>()
            .map_err(|_| bad_chain())?;
        let private =
            PrivateKeyDer::from_pem_slice(&contents(key)?).map_err(|_| CertificateError::NoKey(key.to_owned()))?;
        let leaf = chain.first().ok_or_else(bad_chain)?;
        let (names, not_after) = subject(leaf).ok_or_else(bad_chain)?;
        if names.is_empty() {
            return Err(CertificateError::NoName(certificate.to_owned()));
        }
        let key = CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|source| {
            CertificateError::Key {
                path: certificate.to_owned(),
                source,
            }
        })?;
        Ok(Self {
            names,
            not_after,
            key: Arc::new(key),
        })
    }
}

fn contents(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |source| CertificateError::Io {
        path: path.to_owned(),
        source,
    };
    let mut contents = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(LENGTH_MAX).read_to_end(&mut contents).map_err(failed)?;
    Ok(contents)
}

fn subject(leaf: &CertificateDer<'_>) -> Option<(Vec<String>, i64)> {
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    let names = match parsed.subject_alternative_name().ok()? {
        None => Vec::new(),
        Some(extension) => extension
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            })
            .collect(),
    };
    Some((names, parsed.validity().not_after.timestamp()))
}
