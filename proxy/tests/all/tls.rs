//! A certificate authority, and clients that trust it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use authsome_testkit::port;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            pem: root.pem(),
            root: root.der().clone(),
        }
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A server of this name.
    pub(crate) fn server(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Writes `{name}.crt` and `{name}.key` for these DNS names; the certificate.
    pub(crate) fn issue(&self, directory: &Path, name: &str, names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(2045, 6, 7);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        replace(&directory.join(format!("{name}.key")), &key.serialize_pem());
        replace(&directory.join(format!("{name}.crt")), &certificate.pem());
        certificate.der().clone()
    }

    /// A client with these protocols by ALPN.
    pub(crate) fn client(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        self.client_of(alpn, &[&rustls::version::TLS13, &rustls::version::TLS12])
    }

    pub(crate) fn client_of(&self, alpn: &[&str], versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// As certificate managers do it: never half a file.
pub(crate) fn replace(path: &Path, contents: &str) {
    let unfinished = path.with_extension("tmp");
    fs::write(&unfinished, contents).unwrap();
    fs::rename(unfinished, path).unwrap();
}

/// Connects by TLS, asking for `name`.
pub(crate) async fn connect(
    address: &str,
    name: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

/// The certificate that the server showed.
pub(crate) fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// What an edge needs to speak TLS as `api.authsome.test`.
pub(crate) struct Secure {
    pub(crate) authority: Authority,
    pub(crate) address: String,
    certificates: TempDir,
}

impl Secure {
    pub(crate) fn new() -> Self {
        let (authority, certificates) = (Authority::new(), tempfile::tempdir().unwrap());
        authority.issue(certificates.path(), "default", &["api.authsome.test"]);
        Self {
            authority,
            address: format!("127.0.0.1:{}", port::free().unwrap()),
            certificates,
        }
    }

    pub(crate) fn settings(&self) -> [(&str, &str); 2] {
        [
            ("AUTHSOME_LISTEN_TLS", self.address.as_str()),
            ("AUTHSOME_TLS_DIRECTORY", self.certificates.path().to_str().unwrap()),
        ]
    }

    pub(crate) async fn connect(&self, alpn: &[&str]) -> TlsStream<TcpStream> {
        connect(&self.address, "api.authsome.test", &self.authority.client(alpn))
            .await
            .unwrap()
    }
}
