//! Servers elsewhere that speak TLS: a mail server by STARTTLS, a customer's by https; and none whose certificate nobody vouches for.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use authsome_control::identity::oidc::IssuersSetting;
use authsome_control::outbound::Roots;
use authsome_control::tasks::webhooks::{WebhookMetrics, WebhookSender};
use authsome_testkit::{SmtpServer, wait_for};
use http::{Method, StatusCode};
use prometheus::Registry;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::service::{PASSWORD, Service};

const SOON: Duration = Duration::from_secs(30);

/// An authority of its own, and a server that it vouches for.
pub(crate) struct Authority {
    pub(crate) roots: Roots,
    pub(crate) acceptor: TlsAcceptor,
}

impl Authority {
    pub(crate) fn new(names: &[&str]) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &authority)
            .unwrap();
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Self {
            roots: Roots::parse(authority.pem().as_bytes()).unwrap(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }
}

/// Offers STARTTLS in front of a plain server: everything after the handshake is the server's.
async fn start_tls(acceptor: TlsAcceptor, plain: String) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, plain) = (acceptor.clone(), plain.clone());
            tokio::spawn(async move {
                let mut client = BufReader::new(client);
                client.write_all(b"220 front ESMTP\r\n").await?;
                let mut line = String::new();
                while client.read_line(&mut line).await? > 0 {
                    if line.to_ascii_uppercase().starts_with("STARTTLS") {
                        client.write_all(b"220 go on\r\n").await?;
                        break;
                    }
                    assert!(line.to_ascii_uppercase().starts_with("EHLO"), "before TLS: {line}");
                    client.write_all(b"250-front\r\n250 STARTTLS\r\n").await?;
                    line.clear();
                }
                let mut secure = acceptor.accept(client.into_inner()).await?;
                let mut server = BufReader::new(TcpStream::connect(plain).await?);
                let mut greeting = String::new();
                server.read_line(&mut greeting).await?;
                copy_bidirectional(&mut secure, &mut server).await?;
                std::io::Result::Ok(())
            });
        }
    });
    port
}

async fn signed_up(service: &Service) {
    let body = json!({ "email": "ada@example.com", "name": "Ada", "password": PASSWORD });
    let answer = service
        .call(Method::POST, "/api/v1/auth/signup", None, Some(body))
        .await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
}

#[tokio::test]
async fn a_letter_goes_out_by_starttls_to_a_server_that_the_operator_vouches_for() {
    let (service, smtp) = (Service::new().await, SmtpServer::start().await.unwrap());
    let authority = Authority::new(&["localhost"]);
    let plain = smtp.url().trim_start_matches("smtp://").to_owned();
    let port = start_tls(authority.acceptor, plain).await;
    signed_up(&service).await;
    {
        let _mailer = service.mailer_by(Service::secure_server(port, &Roots::default()));
        wait_for("a refusal", SOON, async || {
            let errors = service
                .count("SELECT count(*) FROM mails WHERE last_error LIKE '%ertificate%'")
                .await;
            (errors == 1).then_some(())
        })
        .await
        .unwrap();
    }
    assert!(smtp.letters().is_empty());
    service.clock.advance(Duration::from_hours(1));
    let _mailer = service.mailer_by(Service::secure_server(port, &authority.roots));
    let letter = smtp.letter_to("ada@example.com", 1, SOON).await.unwrap();
    assert!(letter.text().contains("verify-email?token="));
}

/// Answers 200 to every request over TLS, and gives what it was sent.
async fn https(acceptor: TlsAcceptor) -> (u16, tokio::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heard, hearing) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(mut secure) = acceptor.accept(client).await else {
                continue;
            };
            let mut request = vec![0; 16 * 1024];
            let mut length = 0;
            while !String::from_utf8_lossy(&request[..length]).contains("\"event\"") {
                match secure.read(&mut request[length..]).await {
                    Ok(read) if read > 0 => length += read,
                    _ => break,
                }
            }
            secure
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
            let _ = secure.shutdown().await;
            let _ = heard
                .send(String::from_utf8_lossy(&request[..length]).into_owned())
                .await;
        }
    });
    (port, hearing)
}

#[tokio::test]
async fn a_webhook_goes_out_by_https_to_a_server_whose_name_is_vouched_for() {
    let authority = Authority::new(&["127.0.0.1"]);
    let stranger = Authority::new(&["127.0.0.1"]);
    let other_name = Authority::new(&["hooks.example.com"]);
    let service = Service::believing(authority.roots.clone(), IssuersSetting::default()).await;
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "free").await;
    let (port, mut hearing) = https(authority.acceptor).await;
    let (stranger, _unheard) = https(stranger.acceptor).await;
    let (misnamed, _unheard_either) = https(other_name.acceptor).await;
    for port in [port, stranger, misnamed] {
        let body = json!({ "url": format!("https://127.0.0.1:{port}/hook") });
        let made = service
            .post(&format!("/api/v1/workspaces/{workspace}/webhooks"), &ada, body)
            .await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    }
    sqlx::query("SELECT emit_webhook($1, NULL, 'usage.threshold', '{}')")
        .bind(&workspace)
        .execute(&service.pool)
        .await
        .unwrap();
    service.clock.advance(Duration::from_mins(1));
    let sender = WebhookSender {
        app: service.app.clone(),
        metrics: WebhookMetrics::register(&Registry::new()).unwrap(),
    };
    assert_eq!(sender.look().await.unwrap(), 3);
    let request = hearing.recv().await.unwrap();
    assert!(request.starts_with("POST /hook HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("webhook-signature: v1,"), "{request}");
    let outcomes: Vec<(bool, String)> =
        sqlx::query_as("SELECT status = 'succeeded', coalesce(error, '') FROM webhook_deliveries ORDER BY id")
            .fetch_all(&service.pool)
            .await
            .unwrap();
    assert!(outcomes[0].0, "{outcomes:?}");
    for refused in &outcomes[1..] {
        assert!(!refused.0 && refused.1.contains("TLS failed"), "{outcomes:?}");
    }
}
