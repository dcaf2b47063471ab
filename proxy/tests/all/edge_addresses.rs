//! Where a request comes from, and under which name.

use authsome_core::key::KeyType;

use crate::db::{NewApp, Tenants};
use crate::edge::{Edge, key};
use crate::instance::{Instance, Reply};
use crate::wire::{Message, PATIENCE, exchange};

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

/// A GET of this target under this host name.
async fn at(edge: &Edge, host: &str, target: &str, headers: &str) -> Message {
    let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n");
    exchange(&edge.address, request).await
}

const OF_AN_INSTANCE: &str = "content-type: text/html\r\nset-cookie: __Host-s=1; Path=/; Secure\r\n\
     set-cookie: t=2; Path=/; Domain=x.test\r\nlocation: /api/login\r\nrefresh: 5; url=/api/next\r\n\
     content-location: /api/me\r\nstrict-transport-security: max-age=1\r\n";

#[tokio::test]
async fn on_its_own_host_the_path_is_the_applications_and_nothing_is_rewritten() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|_| Reply::ok(OF_AN_INSTANCE, "<html>")).await;
    let app = tenants
        .app(NewApp {
            base_path: "/api",
            ..NewApp::at(&[instance.endpoint()])
        })
        .await;
    let edge = Edge::start(
        &tenants,
        &[
            ("AUTHSOME_PUBLIC_EDGE", "https://api.authsome.test"),
            ("AUTHSOME_PUBLIC_APPS_DOMAIN", "apps.authsome.test"),
        ],
    )
    .await;
    let home = format!("{}.apps.authsome.test", &*app.id.suffix());

    let answer = at(&edge, &home, "/v1/me?a=1", &key(&app.public)).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(
        answer.all("set-cookie"),
        ["__Host-s=1; Path=/; Secure", "t=2; Path=/; Domain=x.test"]
    );
    assert_eq!(answer.header("location"), Some("/api/login"));
    assert_eq!(answer.header("refresh"), Some("5; url=/api/next"));
    assert_eq!(answer.header("content-location"), Some("/api/me"));
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=1"));
    assert_eq!(answer.header("content-security-policy"), None);
    assert_eq!(answer.header("x-authsome-app-id"), Some(&*app.id.to_string()));
    let seen = instance.only();
    assert_eq!(seen.target(), "/api/v1/me?a=1");
    assert_eq!(seen.header("x-forwarded-host"), Some(&*home));
    assert_eq!(seen.header("x-forwarded-prefix"), None);
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));

    // The same rules about keys hold there, and the edge's own probes are not there.
    assert_eq!(at(&edge, &home, "/users", &key(&app.public)).await.status(), 403);
    assert_eq!(at(&edge, &home, "/v1/me", "").await.status(), 401);
    assert_eq!(at(&edge, &home, "/health", "").await.status(), 401);
    assert_eq!(at(&edge, &home, "/health", &key(&app.secret)).await.status(), 200);
    assert_eq!(instance.seen().pop().unwrap().target(), "/api/health");
    for bad in ["//evil.test/x", "/../x", "/a/%2e%2e/x", "/a%2fb"] {
        assert_eq!(at(&edge, &home, bad, &key(&app.secret)).await.status(), 400, "{bad}");
    }
    // Another application's path means nothing there.
    let path = format!("/v1/{}/v1/health", app.id);
    assert_eq!(at(&edge, &home, &path, "").await.status(), 401);

    // Upper case, a port and a dot at the end are the same name; other names below the domain are nobody's.
    let odd = format!("{}:8081", home.to_uppercase().replace(".TEST", ".TEST."));
    assert_eq!(at(&edge, &odd, "/v1/me", &key(&app.public)).await.status(), 200);
    for nobody in ["apps.authsome.test", "www.apps.authsome.test", &format!("x.{home}")] {
        let answer = at(&edge, nobody, &format!("/v1/{}/v1/health", app.id), "").await;
        assert_eq!(
            (answer.status(), answer.error_code().as_str()),
            (404, "not_found"),
            "{nobody}"
        );
    }
    let stranger = format!("{}.apps.authsome.test", &*crate::edge_refuses::unknown_app().suffix());
    assert_eq!(at(&edge, &stranger, "/v1/health", "").await.status(), 404);
    assert_eq!(at(&edge, &stranger, "/users", "").await.status(), 401);

    // Every other name leads to the edge, and the path to the application.
    for shared in ["api.authsome.test", "127.0.0.1:8081", "localhost", "elsewhere.test"] {
        let answer = at(&edge, shared, &format!("/v1/{}/v1/me", app.id), &key(&app.public)).await;
        assert_eq!(answer.status(), 200, "{shared}");
        let prefix = format!("/v1/{}", app.id);
        assert_eq!(answer.all("set-cookie"), [format!("t=2; Path={prefix}")]);
        assert_eq!(answer.header("location"), Some(&*format!("{prefix}/login")));
        assert_eq!(answer.header("refresh"), Some(&*format!("5; url={prefix}/next")));
        assert_eq!(answer.header("content-location"), Some(&*format!("{prefix}/me")));
        assert_eq!(answer.header("strict-transport-security"), None);
        assert_eq!(answer.header("content-security-policy"), Some("sandbox"));
        assert_eq!(at(&edge, shared, "/health", "").await.status(), 200);
    }
    edge.counted("authsome_edge_cookies_dropped_total", 4).await;
}

#[tokio::test]
async fn a_custom_domain_leads_to_its_application_until_it_is_given_up() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|_| Reply::ok(OF_AN_INSTANCE, "<html>")).await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    tenants.host("auth.acme.test", app.id).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_PUBLIC_EDGE", "https://api.authsome.test")]).await;

    for host in ["auth.acme.test", "Auth.Acme.TEST.:443"] {
        let answer = at(&edge, host, "/v1/me", &key(&app.public)).await;
        assert_eq!(answer.status(), 200, "{host}");
        assert_eq!(answer.header("location"), Some("/api/login"), "nothing is rewritten");
        let seen = instance.seen().pop().unwrap();
        assert_eq!(seen.header("x-forwarded-host"), Some(host));
        assert_eq!(seen.header("x-forwarded-prefix"), None);
    }
    // A page of that host is at home there, and nowhere else.
    let home = format!("origin: https://auth.acme.test\r\n{}", key(&app.public));
    assert_eq!(at(&edge, "auth.acme.test", "/v1/me", &home).await.status(), 200);
    assert_eq!(edge.get(app.id, "/v1/me", &home).await.status(), 403);
    assert_eq!(
        at(&edge, "auth.acme.test", "/health", "").await.status(),
        401,
        "no probe of the edge"
    );
    let answer = at(&edge, "other.acme.test", "/v1/me", &key(&app.public)).await;
    assert_eq!((answer.status(), answer.error_code().as_str()), (404, "not_found"));
    assert_eq!(at(&edge, "other.acme.test", "/health", "").await.status(), 200);

    // A path of the shared host needs no name.
    let shared = format!("/v1/{}/v1/me", app.id);
    assert_eq!(
        at(&edge, "unheard.acme.test", &shared, &key(&app.public))
            .await
            .status(),
        200
    );

    tenants.remove_host("auth.acme.test").await;
    let began = std::time::Instant::now();
    while at(&edge, "auth.acme.test", "/v1/me", &key(&app.public)).await.status() != 404 {
        assert!(began.elapsed() < PATIENCE, "the name still leads to the application");
    }
}
