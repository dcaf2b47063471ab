//! What pages of the web may do.

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, key};
use crate::instance::{Instance, Reply};
use crate::wire::Message;

const SHOP: &str = "https://shop.example.com";

async fn shop(instance: &Instance) -> (Tenants, App) {
    let tenants = Tenants::new().await;
    let app = tenants
        .app(NewApp {
            origins: &[SHOP],
            ..NewApp::at(&[instance.endpoint()])
        })
        .await;
    (tenants, app)
}

fn preflight(origin: &str) -> String {
    format!(
        "origin: {origin}\r\naccess-control-request-method: POST\r\n\
         access-control-request-headers: content-type,x-publishable-key\r\n"
    )
}

/// Says every header of CORS that a page of `SHOP` needs, each once.
fn assert_granted(answer: &Message) {
    assert_eq!(answer.header("access-control-allow-origin"), Some(SHOP), "{answer:?}");
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    let exposed = answer.header("access-control-expose-headers").unwrap();
    for name in ["X-AuthSome-Request-ID", "X-RateLimit-Remaining", "Retry-After"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    assert!(answer.all("vary").contains(&"Origin"), "{answer:?}");
}

fn assert_not_granted(answer: &Message) {
    let said: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| name.starts_with("access-control-"))
        .collect();
    assert!(said.is_empty(), "{said:?}");
}

#[tokio::test]
async fn a_preflight_is_answered_by_the_edge_without_a_key_from_the_exact_origins() {
    let instance = Instance::echo().await;
    let (tenants, app) = shop(&instance).await;
    let suspended = tenants
        .app(NewApp {
            origins: &[SHOP],
            status: "suspended",
            ..NewApp::at(&[instance.endpoint()])
        })
        .await;
    let staging = tenants
        .app(NewApp {
            environment: "staging",
            ..NewApp::at(&[instance.endpoint()])
        })
        .await;
    let deleted = tenants
        .app(NewApp {
            origins: &[SHOP],
            status: "deleting",
            ..NewApp::at(&[instance.endpoint()])
        })
        .await;
    let edge = Edge::start(&tenants, &[]).await;
    let ask = async |id, origin: &str| edge.request("OPTIONS", id, "/v1/signin", &preflight(origin), "").await;

    for id in [app.id, suspended.id] {
        let answer = ask(id, SHOP).await;
        assert_eq!((answer.status(), answer.text().as_str()), (204, ""));
        assert_granted(&answer);
        assert!(
            answer
                .header("access-control-allow-methods")
                .unwrap()
                .contains("DELETE")
        );
        assert_eq!(
            answer.header("access-control-allow-headers"),
            Some("content-type,x-publishable-key")
        );
        assert_eq!(answer.header("access-control-max-age"), Some("7200"));
        assert_eq!(answer.header("x-authsome-app-id"), Some(&*id.to_string()));
    }
    for local in ["http://localhost:3000", "http://127.0.0.1:5173"] {
        let answer = ask(staging.id, local).await;
        assert_eq!(
            (answer.status(), answer.header("access-control-allow-origin")),
            (204, Some(local))
        );
        assert_eq!(ask(app.id, local).await.status(), 403, "not in production");
    }
    for other in [
        "https://evil.test",
        "null",
        "http://shop.example.com",
        "https://shop.example.com.evil.test",
    ] {
        let answer = ask(app.id, other).await;
        assert_eq!(
            (answer.status(), answer.error_code().as_str()),
            (403, "forbidden"),
            "{other}"
        );
        assert_eq!(answer.json()["error"]["reason"], "origin_not_allowed");
        assert_not_granted(&answer);
        assert!(answer.all("vary").contains(&"Origin"), "{answer:?}");
    }
    let unknown = crate::edge_refuses::unknown_app();
    for id in [unknown, deleted.id] {
        let answer = ask(id, SHOP).await;
        assert_eq!((answer.status(), answer.error_code().as_str()), (404, "not_found"));
        assert_not_granted(&answer);
        assert_eq!(answer.header("x-authsome-app-id"), None);
    }
    assert!(instance.seen().is_empty(), "no instance sees a preflight");
}

#[tokio::test]
async fn every_answer_of_a_known_application_can_be_read_by_its_pages_errors_included() {
    let instance = Instance::start(|_| {
        Reply::ok(
            "access-control-allow-origin: *\r\naccess-control-allow-credentials: false\r\nvary: Accept-Encoding\r\n",
            "{}",
        )
    })
    .await;
    let (tenants, app) = shop(&instance).await;
    let nobody = tenants
        .app(NewApp {
            origins: &[SHOP],
            ..NewApp::at(&[crate::instance::nobody()])
        })
        .await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_LIMITS_BODY_BYTES", "10B")]).await;
    let from = |headers: &str| format!("origin: {SHOP}\r\n{headers}");

    let answer = edge.get(app.id, "/v1/me", &from(&key(&app.public))).await;
    assert_eq!(answer.status(), 200);
    assert_granted(&answer);
    assert_eq!(answer.all("vary"), ["Accept-Encoding", "Origin"]);

    for (app, method, tail, headers, body, status) in [
        (&app, "GET", "/users", key(&app.public), "", 403),
        (&app, "GET", "/v1/me", String::new(), "", 401),
        (
            &app,
            "GET",
            "/v1/me",
            "x-api-key: pk_live_nonsense\r\n".to_owned(),
            "",
            401,
        ),
        (&app, "GET", "/v1/me?key=sk_live_nonsense", String::new(), "", 400),
        (&app, "POST", "/v1/signin", key(&app.public), "more than ten bytes", 413),
        (&nobody, "POST", "/v1/signin", key(&nobody.public), "{}", 502),
    ] {
        let answer = edge.request(method, app.id, tail, &from(&headers), body).await;
        assert_eq!(answer.status(), status, "{tail} {headers}");
        answer.error_code();
        assert_granted(&answer);
        let tells = status != 401 && status != 400;
        assert_eq!(answer.header("x-authsome-app-id").is_some(), tells, "{status}");
    }

    let evil = format!("origin: https://evil.test\r\n{}", key(&app.public));
    let answer = edge.get(app.id, "/v1/me", &evil).await;
    assert_eq!((answer.status(), answer.error_code().as_str()), (403, "forbidden"));
    assert_not_granted(&answer);
    let missing = edge.get(app.id, "/v1/me", "origin: https://evil.test\r\n").await;
    assert_eq!(missing.status(), 401);
    assert_not_granted(&missing);
    let without = edge.get(app.id, "/v1/me", &key(&app.public)).await;
    assert_not_granted(&without);
    assert!(
        without.all("vary").contains(&"Origin"),
        "a cache must not give it to a page"
    );
}

#[tokio::test]
async fn a_publishable_key_with_origins_is_for_those_pages_only() {
    let instance = Instance::echo().await;
    let (tenants, app) = shop(&instance).await;
    tenants.allow_only_from(&app.public, "https://kiosk.example.com").await;
    let edge = Edge::start(&tenants, &[]).await;
    for (origin, status) in [
        ("origin: https://kiosk.example.com\r\n", 200),
        ("origin: https://shop.example.com\r\n", 403),
        ("origin: null\r\n", 403),
        ("", 200),
    ] {
        let answer = edge
            .get(app.id, "/v1/me", &format!("{origin}{}", key(&app.public)))
            .await;
        assert_eq!(answer.status(), status, "{origin}");
    }
}

#[tokio::test]
async fn a_secret_key_from_a_browser_is_refused_unless_the_application_allows_it() {
    let instance = Instance::echo().await;
    let (tenants, app) = shop(&instance).await;
    let trusting = tenants
        .app(NewApp {
            origins: &[SHOP],
            secret_from_browsers: true,
            ..NewApp::at(&[instance.endpoint()])
        })
        .await;
    let edge = Edge::start(&tenants, &[]).await;
    for mark in [
        "origin: https://shop.example.com\r\n",
        "origin: null\r\n",
        "sec-fetch-site: same-origin\r\n",
        "Sec-Fetch-Site: none\r\n",
    ] {
        let answer = edge.get(app.id, "/users", &format!("{mark}{}", key(&app.secret))).await;
        assert_eq!(
            (answer.status(), answer.error_code().as_str()),
            (403, "forbidden"),
            "{mark}"
        );
        assert_eq!(answer.json()["error"]["reason"], "secret_key_in_browser");
        let answer = edge
            .get(trusting.id, "/users", &format!("{mark}{}", key(&trusting.secret)))
            .await;
        assert_eq!(answer.status(), 200, "{mark}");
    }
    assert_eq!(edge.get(app.id, "/users", &key(&app.secret)).await.status(), 200);
}
