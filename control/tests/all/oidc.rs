//! Tokens of identity providers: which are believed, whose they are, and what happens while the provider is away.

mod accounts;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authsome_control::identity::oidc::IssuersSetting;
use authsome_control::outbound::Roots;
use authsome_core::clock::Clock;
use authsome_core::config::FromValue;
use authsome_testkit::wait_for;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::service::{Answer, Service};

/// ring makes no RSA keys; this one signs nothing but tokens of these tests.
const RSA: &[u8] = include_bytes!("../fixtures/rsa-2048.pk8");
const AUDIENCE: &str = "https://api.authsome.test";

enum Secret {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A key of the provider.
struct Key {
    id: String,
    secret: Secret,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Key {
    fn rsa(id: &str) -> Self {
        Self::of(id, Secret::Rsa(RsaKeyPair::from_pkcs8(RSA).unwrap()))
    }

    fn ec(id: &str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        Self::of(id, Secret::Ec(pair))
    }

    fn ed(id: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::of(id, Secret::Ed(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap()))
    }

    fn of(id: &str, secret: Secret) -> Self {
        Self {
            id: id.to_owned(),
            secret,
        }
    }

    fn algorithm(&self) -> &'static str {
        match self.secret {
            Secret::Rsa(_) => "RS256",
            Secret::Ec(_) => "ES256",
            Secret::Ed(_) => "EdDSA",
        }
    }

    fn public(&self) -> Value {
        match &self.secret {
            Secret::Rsa(pair) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "kid": self.id, "use": "sig", "alg": "RS256", "n": encode(public.n), "e": encode(public.e) })
            }
            Secret::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "kid": self.id, "x": encode(&point[1..33]), "y": encode(&point[33..]) })
            }
            Secret::Ed(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": encode(pair.public_key()) })
            }
        }
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.secret {
            Secret::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
            Secret::Ec(pair) => pair.sign(&random, text.as_bytes()).unwrap().as_ref().to_vec(),
            Secret::Ed(pair) => pair.sign(text.as_bytes()).as_ref().to_vec(),
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        format!("{signed}.{}", encode(self.sign(&signed)))
    }
}

#[derive(Clone, Default)]
struct Shown {
    keys: Arc<Mutex<Vec<Value>>>,
    asked: Arc<AtomicUsize>,
}

/// An identity provider: discovery and keys, over HTTP.
struct Provider {
    address: SocketAddr,
    shown: Shown,
    serving: Option<JoinHandle<()>>,
}

impl Provider {
    async fn start(keys: &[&Key]) -> Self {
        let mut provider = Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            shown: Shown::default(),
            serving: None,
        };
        provider.show(keys);
        provider.open().await;
        provider
    }

    async fn open(&mut self) {
        let listener = tokio::net::TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let issuer = self.issuer();
        let discovery = async move || {
            Json(
                json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys"), "response_types_supported": ["code"] }),
            )
        };
        let keys = async |State(shown): State<Shown>| {
            shown.asked.fetch_add(1, Ordering::Relaxed);
            Json(json!({ "keys": *shown.keys.lock().unwrap() }))
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .with_state(self.shown.clone());
        self.serving = Some(tokio::spawn(
            async move { axum::serve(listener, router).await.unwrap() },
        ));
    }

    async fn close(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    fn show(&self, keys: &[&Key]) {
        *self.shown.keys.lock().unwrap() = keys.iter().map(|key| key.public()).collect();
    }

    fn asked(&self) -> usize {
        self.shown.asked.load(Ordering::Relaxed)
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    fn settings(&self, more: &Value) -> IssuersSetting {
        let mut issuer = json!({ "issuer": self.issuer(), "audience": AUDIENCE });
        for (name, value) in more.as_object().unwrap() {
            issuer[name] = value.clone();
        }
        IssuersSetting::from_text(&json!([issuer]).to_string()).unwrap()
    }

    async fn service(&self, more: &Value) -> Service {
        Service::believing(Roots::default(), self.settings(more)).await
    }

    /// The claims of a good token, and what is different.
    fn claims(&self, service: &Service, change: &Value) -> Value {
        let now = service.clock.now().unix_timestamp();
        let mut claims = json!({
            "iss": self.issuer(), "sub": "auth0|1", "aud": AUDIENCE, "iat": now, "exp": now + 3_600,
            "email": "ada@example.com", "email_verified": true, "name": "Ada Lovelace",
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    fn token(&self, service: &Service, key: &Key, change: &Value) -> String {
        let header = json!({ "alg": key.algorithm(), "kid": key.id, "typ": "JWT" });
        key.token(&header, &self.claims(service, change))
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }
}

async fn me(service: &Service, token: &str) -> Answer {
    service.call(Method::GET, "/api/v1/auth/me", Some(token), None).await
}

#[tokio::test]
async fn a_token_of_a_provider_is_a_person_whatever_it_is_signed_with() {
    for key in [Key::rsa("r1"), Key::ec("e1"), Key::ed("d1")] {
        let provider = Provider::start(&[&key]).await;
        let service = provider.service(&json!({})).await;
        let token = provider.token(&service, &key, &json!({}));
        let answer = me(&service, &token).await;
        assert_eq!(answer.status, StatusCode::OK, "{}: {}", key.algorithm(), answer.text);
        assert_eq!(answer.json["email"], "ada@example.com");
        assert_eq!(answer.json["name"], "Ada Lovelace");
        assert_eq!(answer.json["emailVerified"], true);
        // The same person, by the subject, also when the address is another one by now.
        let later = provider.token(
            &service,
            &key,
            &json!({ "email": "new@example.com", "email_verified": false }),
        );
        assert_eq!(me(&service, &later).await.json["id"], answer.json["id"]);
        let other = provider.token(&service, &key, &json!({ "sub": "auth0|2", "email": "bob@example.com" }));
        assert_ne!(me(&service, &other).await.json["id"], answer.json["id"]);
        // What people do, they do.
        let made = service
            .call(
                Method::POST,
                "/api/v1/workspaces",
                Some(&token),
                Some(json!({ "name": "Acme" })),
            )
            .await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
        assert_eq!(provider.asked(), 1, "keys are kept");
    }
}

#[tokio::test]
async fn nothing_but_a_good_token_of_the_issuer_is_believed() {
    let key = Key::rsa("one");
    let (ec, ed) = (Key::ec("ec"), Key::ed("ed"));
    let provider = Provider::start(&[&key, &ec, &ed]).await;
    let service = provider.service(&json!({ "authorized_parties": ["web"] })).await;
    let now = service.clock.now().unix_timestamp();
    let good = json!({ "azp": "web" });
    let token = provider.token(&service, &key, &good);
    assert_eq!(me(&service, &token).await.status, StatusCode::OK);

    let claims = provider.claims(&service, &good);
    let mut bad: Vec<(&str, String)> = Vec::new();
    for (what, change) in [
        ("another audience", json!({ "aud": "https://other.test", "azp": "web" })),
        ("another issuer", json!({ "iss": "http://127.0.0.1:1", "azp": "web" })),
        ("another party", json!({ "azp": "stranger" })),
        ("no party", json!({})),
        ("expired", json!({ "azp": "web", "exp": now - 61 })),
        ("too young", json!({ "azp": "web", "nbf": now + 120 })),
        ("of the future", json!({ "azp": "web", "iat": now + 120 })),
    ] {
        bad.push((what, provider.token(&service, &key, &change)));
    }
    for alg in ["none", "None", "HS256", "HS512", "RS512", "PS256", "ES256", "EdDSA", ""] {
        bad.push((
            "another algorithm",
            key.token(&json!({ "alg": alg, "kid": "one" }), &claims),
        ));
    }
    let head = json!({ "alg": "RS256", "kid": "one" });
    let unsigned = format!(
        "{}.{}.",
        encode(json!({ "alg": "none" }).to_string()),
        encode(claims.to_string())
    );
    bad.push(("unsigned", unsigned));
    bad.push((
        "unsigned, as it were",
        format!("{}.", token.rsplit_once('.').unwrap().0),
    ));
    // The public key as a secret: the classic confusion.
    let signed = format!(
        "{}.{}",
        encode(json!({ "alg": "HS256", "kid": "one", "typ": "JWT" }).to_string()),
        encode(claims.to_string())
    );
    for secret in [key.public().to_string(), key.public()["n"].as_str().unwrap().to_owned()] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
        bad.push(("confused", format!("{signed}.{}", encode(tag))));
    }
    // A key of the set, by the name of another one.
    bad.push((
        "another key",
        ec.token(&json!({ "alg": "ES256", "kid": "ed" }), &claims),
    ));
    bad.push((
        "unnamed and unknown",
        Key::ec("x").token(&json!({ "alg": "ES256" }), &claims),
    ));
    bad.push((
        "logout",
        key.token(&json!({ "alg": "RS256", "kid": "one", "typ": "logout+jwt" }), &claims),
    ));
    bad.push((
        "critical",
        key.token(&json!({ "alg": "RS256", "kid": "one", "crit": ["x"], "x": 1 }), &claims),
    ));
    bad.push(("four parts", format!("{token}.x")));
    bad.push((
        "too long",
        key.token(
            &head,
            &provider.claims(&service, &json!({ "azp": "web", "x": "y".repeat(20_000) })),
        ),
    ));
    let mut flipped = token.clone().into_bytes();
    let middle = token.find('.').unwrap() + 20;
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    bad.push(("changed", String::from_utf8(flipped).unwrap()));
    for (what, token) in &bad {
        let answer = me(&service, token).await;
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::UNAUTHORIZED, "unauthorized"),
            "{what}"
        );
    }
    // Keys that are not named are found where there is one only.
    assert_eq!(
        me(&service, &ec.token(&json!({ "alg": "ES256" }), &claims))
            .await
            .status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn keys_rotate_and_nobody_can_have_them_fetched_all_the_time() {
    let (old, new) = (Key::ec("old"), Key::ec("new"));
    let provider = Provider::start(&[&old]).await;
    let service = provider.service(&json!({})).await;
    assert_eq!(
        me(&service, &provider.token(&service, &old, &json!({}))).await.status,
        StatusCode::OK
    );
    // Made-up keys: the first look is allowed half a minute after the last, the next ones are not.
    service.clock.advance(Duration::from_secs(31));
    for number in 0..20 {
        let stranger = Key::ec(&format!("made-up-{number}"));
        let token = provider.token(&service, &stranger, &json!({}));
        assert_eq!(me(&service, &token).await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(provider.asked(), 2);
    // Rotation: the new key is found with its first token, once half a minute has passed.
    provider.show(&[&old, &new]);
    service.clock.advance(Duration::from_secs(31));
    assert_eq!(
        me(&service, &provider.token(&service, &new, &json!({}))).await.status,
        StatusCode::OK
    );
    assert_eq!(provider.asked(), 3);
    // The old one is withdrawn: it ends with the next look, which an old set is due.
    provider.show(&[&new]);
    service.clock.advance(Duration::from_mins(11));
    wait_for("the end of the old key", Duration::from_secs(30), async || {
        let answer = me(&service, &provider.token(&service, &old, &json!({}))).await;
        (answer.status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(
        me(&service, &provider.token(&service, &new, &json!({}))).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn while_the_provider_is_away_known_keys_are_believed_for_a_day() {
    let (key, new) = (Key::ed("one"), Key::ed("two"));
    let mut provider = Provider::start(&[&key]).await;
    let service = provider.service(&json!({})).await;
    provider.close().await;
    // Nothing was ever fetched: nobody can be judged, and nobody is let in.
    let unknown = me(&service, &provider.token(&service, &key, &json!({}))).await;
    unknown.assert_error(503, "service_unavailable");
    assert_eq!(unknown.json["error"]["reason"], "issuer_unavailable");
    assert!(unknown.headers.contains_key("retry-after"));
    provider.open().await;
    service.clock.advance(Duration::from_secs(6));
    assert_eq!(
        me(&service, &provider.token(&service, &key, &json!({}))).await.status,
        StatusCode::OK
    );

    provider.close().await;
    service.clock.advance(Duration::from_hours(23));
    assert_eq!(
        me(&service, &provider.token(&service, &key, &json!({}))).await.status,
        StatusCode::OK
    );
    // One that may be new cannot be told from a made-up one.
    let answer = me(&service, &provider.token(&service, &new, &json!({}))).await;
    answer.assert_error(503, "service_unavailable");
    service.clock.advance(Duration::from_hours(2));
    me(&service, &provider.token(&service, &key, &json!({})))
        .await
        .assert_error(503, "service_unavailable");
    provider.show(&[&key, &new]);
    provider.open().await;
    service.clock.advance(Duration::from_secs(31));
    assert_eq!(
        me(&service, &provider.token(&service, &new, &json!({}))).await.status,
        StatusCode::OK
    );
}
