//! TLS to instances: whom the edge trusts, and as whom it appears.
//!
//! Owns the files behind `upstream.tls.*`. They are read when the edge starts, which fails on any that is not right, and again
//! when they change; what is then not right is logged and the previous ones stay in use. Whether an application's instances
//! speak TLS, and under which name, is in its record. The library trusts anybody whose name it is not told, so a connection
//! without a name is never made.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use authsome_core::config::Reader;
use pingora::protocols::tls::CaType;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, RootCertStore};

/// Where the files are. Read and judged once already.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// `upstream.tls.ca`: PEM; without it those that the system trusts.
    pub ca: Option<PathBuf>,
    /// `upstream.tls.certificate`: PEM, the edge's own first.
    pub certificate: Option<PathBuf>,
    /// `upstream.tls.key`: PEM.
    pub key: Option<PathBuf>,
}

/// Time of change, length and number of each file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp([Option<(SystemTime, u64, u64)>; 3]);

/// What a connection needs of them.
#[derive(Clone, Default)]
pub struct TlsIdentity {
    /// Whom to trust, if not those whom the system trusts.
    pub ca: Option<Arc<CaType>>,
    /// As whom to appear, if asked.
    pub certificate: Option<Arc<CertKey>>,
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsIdentity")
            .field("ca", &self.ca.as_ref().map(|ca| ca.len()))
            .field("certificate", &self.certificate.is_some())
            .finish()
    }
}

/// What is wrong with the files. Never shows the key.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// Cannot be read, or is not PEM.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// Holds no certificate.
    #[error("{} holds no certificate", .0.display())]
    Empty(PathBuf),
    /// A certificate or a key that cannot be used, or that do not belong together.
    #[error("{} cannot be used: {source}", path.display())]
    Use {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl TlsFiles {
    /// Reads the settings, and checks the files.
    pub fn read(reader: &mut Reader) -> Self {
        let files = Self {
            ca: reader.optional("upstream.tls.ca"),
            certificate: reader.optional("upstream.tls.certificate"),
            key: reader.optional("upstream.tls.key"),
        };
        reader.check(
            "upstream.tls.key",
            files.certificate.is_some() == files.key.is_some(),
            "is needed exactly where upstream.tls.certificate is set",
        );
        if let Err(error) = files.load_ca() {
            reader.check("upstream.tls.ca", false, &error.to_string());
        }
        if let Err(error) = files.load_certificate() {
            reader.check("upstream.tls.certificate", false, &error.to_string());
        }
        files
    }

    /// Reads the files.
    pub fn load(&self) -> Result<TlsIdentity, TlsFileError> {
        Ok(TlsIdentity {
            ca: self.load_ca()?,
            certificate: self.load_certificate()?,
        })
    }

    /// Which files they are now; differs from an earlier one if any of them was replaced or written.
    pub fn stamp(&self) -> Stamp {
        let one = |path| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len(), meta.ino()))
        };
        Stamp([&self.ca, &self.certificate, &self.key].map(|path| path.as_ref().and_then(one)))
    }

    fn load_ca(&self) -> Result<Option<Arc<CaType>>, TlsFileError> {
        let Some(path) = &self.ca else { return Ok(None) };
        let certificates = certificates(path)?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|source| TlsFileError::Use {
                path: path.clone(),
                source,
            })?;
        }
        let wrapped: Vec<WrappedX509> = certificates
            .iter()
            .map(|certificate| WrappedX509::new(certificate.to_vec(), parse_x509))
            .collect();
        Ok(Some(wrapped.into()))
    }

    /// The library panics on a key or a certificate that it cannot use, so all of it is tried here first.
    fn load_certificate(&self) -> Result<Option<Arc<CertKey>>, TlsFileError> {
        let (Some(path), Some(key_path)) = (&self.certificate, &self.key) else {
            return Ok(None);
        };
        let chain = certificates(path)?;
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| TlsFileError::Use { path, source }
        };
        for certificate in &chain {
            ParsedCertificate::try_from(certificate).map_err(unusable(path))?;
        }
        let key = PrivateKeyDer::from_pem_file(key_path).map_err(|source| TlsFileError::Read {
            path: key_path.clone(),
            source,
        })?;
        let der = key.secret_der().to_vec();
        // What the library will make of the bytes, whose kind it guesses.
        let guessed = PrivateKeyDer::try_from(der.clone()).map_err(|text| TlsFileError::Use {
            path: key_path.clone(),
            source: rustls::Error::General(text.to_owned()),
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable(path))?
            .with_root_certificates(RootCertStore::empty())
            .with_client_auth_cert(chain.clone(), guessed)
            .map_err(unusable(key_path))?;
        let chain = chain.iter().map(|certificate| certificate.to_vec()).collect();
        Ok(Some(Arc::new(CertKey::new(chain, der))))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let read = |source| TlsFileError::Read {
        path: path.to_owned(),
        source,
    };
    let all: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .map_err(read)?
        .collect::<Result<_, _>>()
        .map_err(read)?;
    if all.is_empty() {
        return Err(TlsFileError::Empty(path.to_owned()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;

    use super::*;

    struct Files {
        directory: TempDir,
    }

    impl Files {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
            }
        }

        fn write(&self, name: &str, content: &str) -> PathBuf {
            let path = self.directory.path().join(name);
            fs::write(&path, content).unwrap();
            path
        }

        fn pair(&self, name: &str) -> (PathBuf, PathBuf) {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(vec![name.to_owned()])
                .unwrap()
                .self_signed(&key)
                .unwrap();
            (
                self.write(&format!("{name}.crt"), &certificate.pem()),
                self.write(&format!("{name}.key"), &key.serialize_pem()),
            )
        }
    }

    #[test]
    fn nothing_set_is_nothing_loaded() {
        let identity = TlsFiles::default().load().unwrap();
        assert!(identity.ca.is_none() && identity.certificate.is_none());
    }

    #[test]
    fn what_belongs_together_is_loaded() {
        let files = Files::new();
        let (certificate, key) = files.pair("edge");
        let loaded = TlsFiles {
            ca: Some(certificate.clone()),
            certificate: Some(certificate),
            key: Some(key),
        };
        let identity = loaded.load().unwrap();
        assert_eq!(identity.ca.unwrap().len(), 1);
        assert!(identity.certificate.is_some());
    }

    #[test]
    fn what_cannot_be_used_is_an_error_and_never_a_panic() {
        let files = Files::new();
        let (certificate, key) = files.pair("edge");
        let (_, foreign) = files.pair("other");
        let broken = files.write(
            "broken.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        );
        let empty = files.write("empty.pem", "nothing here\n");
        let gone = files.directory.path().join("gone.pem");
        for ca in [&broken, &empty, &gone, &key] {
            let files = TlsFiles {
                ca: Some(ca.clone()),
                ..TlsFiles::default()
            };
            assert!(files.load().is_err(), "{ca:?}");
        }
        for (certificate, key) in [
            (&certificate, &foreign),
            (&broken, &key),
            (&certificate, &certificate),
            (&empty, &key),
            (&certificate, &gone),
        ] {
            let files = TlsFiles {
                ca: None,
                certificate: Some(certificate.clone()),
                key: Some(key.clone()),
            };
            let error = files.load().unwrap_err().to_string();
            assert!(!error.contains("PRIVATE"), "{error}");
        }
    }
}
