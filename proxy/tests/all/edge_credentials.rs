//! Where keys may stand, and that they go no further than the edge.

use authsome_core::seal::{Aad, EdgeRing};

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, key, request};
use crate::instance::{Instance, Reply};
use crate::wire::Wire;

/// An instance that accepts every upgrade, choosing this subprotocol.
async fn websocket(chooses: &'static str) -> Instance {
    Instance::connected(move |_, mut wire| async move {
        wire.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n{chooses}\r\n"
        ))
        .await;
        None
    })
    .await
}

fn upgrade(app: &App, offer: &str) -> String {
    let head = format!("upgrade: websocket\r\nconnection: upgrade\r\n{offer}");
    request("GET", &format!("/v1/{}/v1/me/events", app.id), &head, "")
}

#[tokio::test]
async fn a_publishable_key_as_a_subprotocol_opens_a_websocket_and_never_reaches_the_instance() {
    let tenants = Tenants::new().await;
    for (chooses, offer, forwarded, answered) in [
        ("", "KEY", None, Some("KEY")),
        ("", "chat, KEY", Some("chat"), Some("KEY")),
        (
            "sec-websocket-protocol: v2\r\n",
            "chat, KEY, v2",
            Some("chat, v2"),
            Some("v2"),
        ),
    ] {
        let instance = websocket(chooses).await;
        let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
        let token = format!("authsome.key.{}", app.public.expose());
        let edge = Edge::start(&tenants, &[]).await;
        let mut wire = Wire::connect(&edge.address).await;
        let offer = format!("sec-websocket-protocol: {}\r\n", offer.replace("KEY", &token));
        wire.send(upgrade(&app, &offer)).await;
        let answer = wire.receive_head().await.unwrap();
        assert_eq!(answer.status(), 101, "{answer:?}");
        let answered = answered.map(|text| text.replace("KEY", &token));
        assert_eq!(answer.header("sec-websocket-protocol"), answered.as_deref());
        let seen = instance.only();
        assert_eq!(seen.header("sec-websocket-protocol"), forwarded);
        assert_eq!(seen.header("x-authsome-key-type"), Some("public"));
        assert!(!format!("{seen:?}").contains(app.public.expose()));
        assert!(!edge.program.log().contains(app.public.expose()));
    }
}

#[tokio::test]
async fn a_secret_key_in_a_url_or_a_subprotocol_is_refused_and_raises_an_alert() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let mut edge = Edge::start(&tenants, &[]).await;
    let in_query = edge
        .get(
            app.id,
            &format!("/users?key={}", app.secret.expose()),
            &key(&app.secret),
        )
        .await;
    let mut wire = Wire::connect(&edge.address).await;
    let offer = format!("sec-websocket-protocol: authsome.key.{}\r\n", app.secret.expose());
    wire.send(upgrade(&app, &offer)).await;
    let in_subprotocol = wire.receive().await.unwrap();
    for answer in [in_query, in_subprotocol] {
        assert_eq!(
            (answer.status(), answer.error_code().as_str()),
            (400, "invalid_request")
        );
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains("roll it"));
    }
    for place in ["query", "subprotocol"] {
        let series = format!("authsome_edge_leaked_keys_total{{place=\"{place}\"}}");
        edge.counted(&series, 1).await;
    }
    assert!(instance.seen().is_empty());
    edge.program.stop().await.unwrap();
    let log = edge.program.log();
    let alert = log.lines().find(|line| line.contains("authsome_proxy::leak")).unwrap();
    assert!(
        alert.contains(&app.secret.masked()) && alert.contains(&app.id.to_string()),
        "{alert}"
    );
    assert!(!log.contains(app.secret.expose()), "{log}");
}

#[tokio::test]
async fn a_publishable_key_in_a_url_is_for_get_alone_and_leaves_no_trace() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let mut edge = Edge::start(&tenants, &[]).await;
    let with_key = format!("key={}", app.public.expose());
    let refused = edge
        .request("POST", app.id, &format!("/v1/signin?{with_key}"), "", "{}")
        .await;
    assert_eq!(
        (refused.status(), refused.error_code().as_str()),
        (400, "invalid_request")
    );
    let referer = format!("referer: https://a.test/page?{with_key}&tab=2\r\n");
    let answer = edge.get(app.id, &format!("/v1/me?{with_key}&x=1"), &referer).await;
    assert_eq!(answer.status(), 200);
    let seen = instance.only();
    assert_eq!(seen.target(), "/v1/me?x=1");
    assert_eq!(seen.header("referer"), Some("https://a.test/page?tab=2"));
    assert!(!format!("{seen:?}").contains(app.public.expose()));
    edge.program.stop().await.unwrap();
    assert!(!edge.program.log().contains(app.public.expose()));
}

#[tokio::test]
async fn keys_that_contradict_each_other_are_a_400_and_a_session_stays_the_instances() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let second = tenants.key(app.id, authsome_core::key::KeyType::Secret, &["*"]).await;
    let edge = Edge::start(&tenants, &[]).await;
    let both = format!("{}authorization: Bearer {}\r\n", key(&app.secret), second.expose());
    let answer = edge.get(app.id, "/users", &both).await;
    assert_eq!(
        (answer.status(), answer.error_code().as_str()),
        (400, "invalid_request")
    );
    let session = format!("{}authorization: Bearer eyJ.a.b\r\n", key(&app.public));
    assert_eq!(edge.get(app.id, "/v1/me", &session).await.status(), 200);
    let same = format!("{}authorization: Bearer {}\r\n", key(&app.secret), app.secret.expose());
    assert_eq!(edge.get(app.id, "/users", &same).await.status(), 200);
    let seen = instance.seen();
    assert_eq!(seen[0].header("authorization"), Some("Bearer eyJ.a.b"));
    assert_eq!(seen[1].header("authorization"), None);
}

#[tokio::test]
async fn a_client_cannot_have_the_instances_credentials_removed() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|_| Reply::ok("", "{}")).await;
    // 32 bytes of zeros, in base64.
    let ring_text = format!("{}=", "A".repeat(43));
    let new = NewApp::at(&[instance.endpoint()]);
    let aad = Aad {
        table_column: authsome_proxy::upstream::EDGE_CREDENTIALS_COLUMN,
        row: &new.id.text(),
    };
    let json = br#"{"publishableKey":"pk_of_instance","appId":"aapp_1","serviceKey":"ask_of_instance"}"#;
    let sealed = EdgeRing::parse(&ring_text)
        .unwrap()
        .seal(aad, json, &authsome_core::entropy::SystemEntropy::new());
    let app = tenants
        .app(NewApp {
            edge_credentials: Some(sealed),
            ..new
        })
        .await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_ENCRYPTION_EDGE_KEY", &ring_text)]).await;
    for name in ["X-API-Key", "X-Publishable-Key", "Authorization"] {
        let headers = format!("connection: {name}\r\n{}", key(&app.secret));
        assert_eq!(edge.get(app.id, "/users", &headers).await.status(), 400, "{name}");
    }
    let named = "connection: X-App-ID, X-AuthSome-App-ID, X-AuthSome-Scopes\r\n";
    let forged = "x-app-id: aapp_forged\r\nx_api_key: forged\r\n";
    let secret = format!("{named}{forged}{}", key(&app.secret));
    assert_eq!(edge.get(app.id, "/users", &secret).await.status(), 200);
    let public = format!("{named}{forged}x-publishable-key: {}\r\n", app.public.expose());
    assert_eq!(edge.get(app.id, "/v1/me", &public).await.status(), 200);
    let seen = instance.seen();
    assert_eq!(seen[0].header("x-api-key"), Some("ask_of_instance"));
    assert_eq!(seen[0].header("x-app-id"), Some("aapp_1"));
    assert_eq!(seen[0].header("x-authsome-scopes"), Some("*"));
    assert_eq!(seen[1].header("x-publishable-key"), Some("pk_of_instance"));
    assert_eq!(seen[1].header("x-app-id"), None);
    for seen in seen {
        assert_eq!(seen.header("x_api_key"), None);
        assert_eq!(seen.header("x-authsome-app-id"), Some(&*app.id.to_string()));
    }
}

#[tokio::test]
async fn no_spelling_of_a_path_opens_more_than_the_path() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants
        .app(NewApp {
            path_policy: r#"[{"pattern":"/v1/me/export","class":"secret","scope":"users:read"}]"#,
            ..NewApp::at(&[instance.endpoint()])
        })
        .await;
    let edge = Edge::start(&tenants, &[]).await;
    for tail in [
        "/v1/me/export",
        "/v1/me/export/",
        "/v1/me/EXPORT",
        "/v1/me/%65xport",
        "/v1/me//export",
        "/v1/me/x/../export",
        "/v1/me/%2e/export",
        "/v1/me/export;a=b",
        "/v1/me/export%3b",
        "/v1/me/export%3fx",
        "/v1/me%2fexport",
        "/v1/me/..%5cexport",
        "/v1/signup/../admin/users",
        "/.well-known/../users",
        "/V1/signin",
        "/users",
    ] {
        let answer = edge.get(app.id, tail, &key(&app.public)).await;
        assert_eq!(answer.status(), 403, "{tail}");
    }
    assert!(instance.seen().is_empty(), "{:?}", instance.seen());
    assert_eq!(
        edge.get(app.id, "/v1/me/exports", &key(&app.public)).await.status(),
        200
    );
}
