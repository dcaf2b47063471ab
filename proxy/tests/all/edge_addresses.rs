//! Where a request comes from, and under which name.

use authsome_core::key::KeyType;

use crate::db::{NewApp, Tenants};
use crate::edge::{Edge, key};
use crate::instance::Instance;

#[tokio::test]
async fn a_trusted_proxy_says_who_the_client_is_and_whoever_else_says_so_is_not_believed() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let documentation = tenants.key(app.id, KeyType::Secret, &["*"]).await;
    tenants.allow_only_documentation_networks(&documentation).await;
    let spoofed = "x-forwarded-for: 192.0.2.9\r\nx-real-ip: 192.0.2.9\r\nforwarded: for=192.0.2.9;proto=https\r\n\
                   x-forwarded-proto: https\r\nx-forwarded-host: evil.test\r\nx-forwarded-prefix: /evil\r\n";

    let direct = Edge::start(&tenants, &[]).await;
    let answer = direct
        .get(app.id, "/users", &format!("{spoofed}{}", key(&documentation)))
        .await;
    assert_eq!(answer.status(), 403, "the list of addresses is about the real client");
    assert_eq!(direct.get(app.id, "/v1/health", spoofed).await.status(), 200);
    let seen = instance.only();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("api.authsome.test"));
    assert_eq!(seen.header("x-forwarded-prefix"), Some(&*format!("/v1/{}", app.id)));
    assert_eq!(seen.header("forwarded"), None);

    let behind = Edge::start(&tenants, &[("AUTHSOME_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8")]).await;
    for (chain, status) in [
        ("192.0.2.9", 200),
        ("1.1.1.1, [::ffff:192.0.2.9]:4711, 10.1.2.3", 200),
        ("192.0.2.9, 198.51.100.1", 403),
        ("192.0.2.9, unknown", 403),
    ] {
        let headers = format!(
            "x-forwarded-for: {chain}\r\nforwarded: for=192.0.2.9\r\nx-forwarded-proto: https\r\n{}",
            key(&documentation)
        );
        assert_eq!(behind.get(app.id, "/users", &headers).await.status(), status, "{chain}");
    }
    let seen = instance.seen().pop().unwrap();
    assert_eq!(seen.header("x-forwarded-for"), Some("192.0.2.9"));
    assert_eq!(seen.header("x-real-ip"), Some("192.0.2.9"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));

    let by_forwarded = Edge::start(
        &tenants,
        &[
            ("AUTHSOME_TRUSTED_PROXIES", "127.0.0.1"),
            ("AUTHSOME_FORWARDED_HEADER", "forwarded"),
        ],
    )
    .await;
    let headers = format!(
        "forwarded: for=\"192.0.2.9:99\";proto=https\r\nx-forwarded-for: 198.51.100.1\r\n{}",
        key(&documentation)
    );
    assert_eq!(by_forwarded.get(app.id, "/users", &headers).await.status(), 200);
    assert_eq!(
        instance.seen().pop().unwrap().header("x-forwarded-proto"),
        Some("https")
    );
}
