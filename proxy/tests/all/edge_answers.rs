//! What an instance may say to a client, on the host that it shares with others.

use crate::db::{App, NewApp, Tenants};
use crate::edge::Edge;
use crate::instance::{Instance, Reply};

async fn stage(instance: &Instance, base_path: &'static str) -> (App, Edge) {
    let tenants = Tenants::new().await;
    let app = tenants
        .app(NewApp {
            base_path,
            ..NewApp::at(&[instance.endpoint()])
        })
        .await;
    let edge = Edge::start(&tenants, &[]).await;
    // The record must be in memory: the database goes when this function ends.
    assert_ne!(edge.get(app.id, "/v1/health", "").await.status(), 503);
    (app, edge)
}

#[tokio::test]
async fn cookies_are_confined_to_their_application() {
    let instance = Instance::start(|_| {
        Reply::ok(
            "set-cookie: session=1; Path=/; Domain=authsome.test; HttpOnly; SameSite=Lax\r\n\
             set-cookie: __Host-other=2; Path=/; Secure\r\nset-cookie: plain=3\r\n",
            "{}",
        )
    })
    .await;
    let (app, edge) = stage(&instance, "").await;
    let answer = edge.get(app.id, "/v1/health", "").await;
    let path = format!("Path=/v1/{}", app.id);
    assert_eq!(
        answer.all("set-cookie"),
        [
            format!("session=1; HttpOnly; SameSite=Lax; {path}"),
            format!("plain=3; {path}")
        ]
    );
    edge.counted("authsome_edge_cookies_dropped_total", 2).await;
}

#[tokio::test]
async fn redirects_stay_below_their_application() {
    let instance = Instance::start(|seen| {
        let to = seen
            .target()
            .split_once("to=")
            .map(|(_, to)| to.to_owned())
            .unwrap_or_default();
        Reply::Bytes(format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes())
    })
    .await;
    let (app, edge) = stage(&instance, "/api").await;
    let prefix = format!("/v1/{}", app.id);
    for (from, to) in [
        ("/api/login".to_owned(), format!("{prefix}/login")),
        (
            format!("http://{}/api/login", instance.address),
            format!("{prefix}/login"),
        ),
        ("http://api.authsome.test/login".to_owned(), format!("{prefix}/login")),
        (
            format!("http://localhost:{}/api/login", instance.address.port()),
            format!("{prefix}/login"),
        ),
        (
            "http://localhost:1/api/login".to_owned(),
            "http://localhost:1/api/login".to_owned(),
        ),
        (
            "https://github.test/login".to_owned(),
            "https://github.test/login".to_owned(),
        ),
        (format!("{prefix}/done"), format!("{prefix}/done")),
    ] {
        let answer = edge.get(app.id, &format!("/v1/health?to={from}"), "").await;
        assert_eq!(answer.header("location"), Some(&*to), "{from}");
    }
}

#[tokio::test]
async fn an_instance_cannot_speak_for_the_host_or_for_the_edge() {
    let instance = Instance::start(|_| {
        Reply::ok(
            "x-authsome-app-id: app_evil\r\nx-authsome-user-id: ausr_1\r\nx-authsome-region: mars\r\nserver: secret/1.0\r\n\
             x-powered-by: me\r\nclear-site-data: \"*\"\r\nservice-worker-allowed: /\r\nstrict-transport-security: max-age=0\r\n\
             content-security-policy: default-src 'self'\r\ncontent-type: text/html\r\nx-mine: kept\r\n",
            "<script>",
        )
    })
    .await;
    let (app, edge) = stage(&instance, "").await;
    let answer = edge.get(app.id, "/v1/health", "").await;
    assert_eq!(answer.header("x-authsome-app-id"), Some(&*app.id.to_string()));
    assert_eq!(answer.header("x-authsome-region"), Some("local"));
    for gone in [
        "x-authsome-user-id",
        "server",
        "x-powered-by",
        "clear-site-data",
        "service-worker-allowed",
        "strict-transport-security",
    ] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert_eq!(answer.all("content-security-policy"), ["default-src 'self'", "sandbox"]);
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("x-mine"), Some("kept"));
}

#[tokio::test]
async fn the_instances_own_errors_pass_as_they_are() {
    let instance = Instance::start(|_| {
        let body = "{\"error\":{\"code\":\"invalid_credentials\",\"status\":401}}";
        let head = format!(
            "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Reply::Bytes(format!("{head}{body}").into_bytes())
    })
    .await;
    let (app, edge) = stage(&instance, "").await;
    let answer = edge.get(app.id, "/v1/health", "").await;
    assert_eq!(
        (answer.status(), answer.json()["error"]["code"].as_str()),
        (401, Some("invalid_credentials"))
    );
    assert_eq!(answer.header("content-security-policy"), None);
}
