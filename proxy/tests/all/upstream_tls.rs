//! TLS from the edge to an instance: whom the edge trusts, and as whom it appears.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use authsome_testkit::wait_for;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, key, request};
use crate::wire::{PATIENCE, Wire};

const NAME: &str = "instance.test";

/// An authority and what it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
struct Pair {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
        }
    }

    fn sign(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair { certificate, key }
    }

    fn der(&self) -> CertificateDer<'static> {
        self.issuer.as_ref().der().clone()
    }
}

/// Files of the edge.
struct Files(TempDir);

impl Files {
    fn write(&self, name: &str, pem: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.display().to_string()
    }
}

/// An instance that speaks TLS, and asks for a certificate of `clients` if that is given. Counts what it answered.
async fn instance(pair: &Pair, clients: Option<&Authority>) -> (String, Arc<AtomicUsize>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::try_from(pair.key.serialize_der()).unwrap();
    let config = builder
        .with_single_cert(vec![pair.certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answered = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&answered);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, counted) = (acceptor.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut head = Vec::new();
                let mut part = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut part).await {
                    head.extend_from_slice(&part[..read]);
                    if head.ends_with(b"\r\n\r\n") {
                        counted.fetch_add(1, Ordering::SeqCst);
                        head.clear();
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        if stream.write_all(answer).await.is_err() || stream.flush().await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    (address, answered)
}

async fn secured(tenants: &Tenants, address: String, name: &str) -> App {
    let app = tenants.app(NewApp::at(&[address])).await;
    let tls = format!(r#"{{"serverName": "{name}"}}"#);
    tenants
        .change_app(
            app.id,
            "UPDATE applications SET instance_tls = $2::jsonb WHERE id = $1",
            &tls,
        )
        .await;
    app
}

async fn status(edge: &Edge, app: &App) -> u16 {
    let answer = edge.get(app.id, "/users", &key(&app.secret)).await;
    if answer.status() != 200 {
        assert_eq!(answer.error_code(), "bad_gateway");
        assert!(!answer.text().contains("certificate"), "{}", answer.text());
    }
    answer.status()
}

#[tokio::test]
async fn an_instance_is_trusted_for_its_authority_and_its_name_only() {
    let (tenants, files) = (Tenants::new().await, Files(tempfile::tempdir().unwrap()));
    let (ours, foreign) = (Authority::new(), Authority::new());
    let usage = || ExtendedKeyUsagePurpose::ServerAuth;
    let (right, answered) = instance(&ours.sign(NAME, usage()), None).await;
    let (stranger, unheard) = instance(&foreign.sign(NAME, usage()), None).await;
    let good = secured(&tenants, right.clone(), NAME).await;
    let misnamed = secured(&tenants, right.clone(), "other.test").await;
    let untrusted = secured(&tenants, stranger, NAME).await;
    let plain = tenants.app(NewApp::at(&[right])).await;
    let ca = files.write("ca.pem", &ours.issuer.as_ref().pem());
    let edge = Edge::start(&tenants, &[("AUTHSOME_UPSTREAM_TLS_CA", &ca)]).await;
    for _ in 0..3 {
        assert_eq!(status(&edge, &good).await, 200);
    }
    assert_eq!(answered.load(Ordering::SeqCst), 3);
    assert_eq!(status(&edge, &misnamed).await, 502);
    assert_eq!(status(&edge, &untrusted).await, 502);
    assert_eq!(
        status(&edge, &plain).await,
        502,
        "TLS is spoken where the record says so"
    );
    assert_eq!(status(&edge, &good).await, 200);
    assert_eq!(
        (answered.load(Ordering::SeqCst), unheard.load(Ordering::SeqCst)),
        (4, 0)
    );
    assert!(!edge.program.log().contains("panicked"), "{}", edge.program.log());
}

#[tokio::test]
async fn an_instance_that_asks_for_a_certificate_gets_the_edges() {
    let (tenants, files) = (Tenants::new().await, Files(tempfile::tempdir().unwrap()));
    let (ours, foreign) = (Authority::new(), Authority::new());
    let (address, answered) = instance(&ours.sign(NAME, ExtendedKeyUsagePurpose::ServerAuth), Some(&ours)).await;
    let app = secured(&tenants, address, NAME).await;
    let ca = files.write("ca.pem", &ours.issuer.as_ref().pem());

    let nobody = Edge::start(&tenants, &[("AUTHSOME_UPSTREAM_TLS_CA", &ca)]).await;
    assert_eq!(status(&nobody, &app).await, 502);
    for (authority, expected) in [(&ours, 200), (&foreign, 502)] {
        let pair = authority.sign("edge.test", ExtendedKeyUsagePurpose::ClientAuth);
        let certificate = files.write("edge.pem", &pair.certificate.pem());
        let key = files.write("edge.key", &pair.key.serialize_pem());
        let settings = [
            ("AUTHSOME_UPSTREAM_TLS_CA", ca.as_str()),
            ("AUTHSOME_UPSTREAM_TLS_CERTIFICATE", certificate.as_str()),
            ("AUTHSOME_UPSTREAM_TLS_KEY", key.as_str()),
        ];
        let edge = Edge::start(&tenants, &settings).await;
        assert_eq!(status(&edge, &app).await, expected);
        assert!(!edge.program.log().contains("PRIVATE KEY"));
    }
    assert_eq!(answered.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_certificate_that_was_renewed_is_shown_without_a_restart_and_a_broken_one_is_not() {
    let (tenants, files) = (Tenants::new().await, Files(tempfile::tempdir().unwrap()));
    let (ours, foreign) = (Authority::new(), Authority::new());
    let (address, _) = instance(&ours.sign(NAME, ExtendedKeyUsagePurpose::ServerAuth), Some(&ours)).await;
    let app = secured(&tenants, address, NAME).await;
    let write = |authority: &Authority| {
        let pair = authority.sign("edge.test", ExtendedKeyUsagePurpose::ClientAuth);
        [
            files.write("edge.pem", &pair.certificate.pem()),
            files.write("edge.key", &pair.key.serialize_pem()),
        ]
    };
    let ca = files.write("ca.pem", &ours.issuer.as_ref().pem());
    let [certificate, key] = write(&foreign);
    let settings = [
        ("AUTHSOME_UPSTREAM_TLS_CA", ca.as_str()),
        ("AUTHSOME_UPSTREAM_TLS_CERTIFICATE", certificate.as_str()),
        ("AUTHSOME_UPSTREAM_TLS_KEY", key.as_str()),
    ];
    let edge = Edge::start(&tenants, &settings).await;
    assert_eq!(status(&edge, &app).await, 502);
    write(&ours);
    wait_for("the renewed certificate", PATIENCE, async || {
        (status(&edge, &app).await == 200).then_some(())
    })
    .await
    .unwrap();
    files.write("edge.pem", "noise");
    wait_for("the broken certificate to be noticed", PATIENCE, async || {
        let log = edge.program.log();
        log.contains("the certificates for instances stay as they were")
            .then_some(())
    })
    .await
    .unwrap();
    assert_eq!(status(&edge, &app).await, 200);
    write(&foreign);
    wait_for(
        "connections with the former certificate to be used no more",
        PATIENCE,
        async || (status(&edge, &app).await == 502).then_some(()),
    )
    .await
    .unwrap();
}

/// An instance that speaks TLS, accepts a tunnel before it has read the request, and sends back what it hears.
async fn hasty(pair: &Pair) -> String {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(pair.key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut wire = Wire::new(acceptor.accept(stream).await.unwrap());
                wire.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
                    .await;
                wire.receive_head().await.unwrap();
                while let Some(heard) = wire.heard().await {
                    wire.send(heard).await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_tunnel_through_tls_stays_open_however_early_the_instance_accepts_it() {
    let (tenants, files, authority) = (
        Tenants::new().await,
        Files(tempfile::tempdir().unwrap()),
        Authority::new(),
    );
    let address = hasty(&authority.sign(NAME, ExtendedKeyUsagePurpose::ServerAuth)).await;
    let app = secured(&tenants, address, NAME).await;
    let ca = files.write("ca.pem", &authority.issuer.as_ref().pem());
    let edge = Edge::start(&tenants, &[("AUTHSOME_UPSTREAM_TLS_CA", &ca)]).await;
    let head = format!("{}upgrade: websocket\r\nconnection: upgrade\r\n", key(&app.public));
    for round in 0..100 {
        let mut wire = Wire::connect(&edge.address).await;
        wire.send(request("GET", &format!("/v1/{}/v1/me/events", app.id), &head, ""))
            .await;
        assert_eq!(wire.receive_head().await.unwrap().status(), 101, "{round}");
        wire.send("ping").await;
        assert_eq!(wire.exactly(4).await, b"ping", "{round}");
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_a_504() {
    let tenants = Tenants::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap().to_string();
    let holding = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let app = secured(&tenants, silent, NAME).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_UPSTREAM_TLS_TIMEOUT", "300ms")]).await;
    let answer = edge.get(app.id, "/users", &key(&app.secret)).await;
    assert_eq!(
        (answer.status(), answer.error_code().as_str()),
        (504, "gateway_timeout")
    );
    holding.abort();
}
