//! The calls of an application's users, made as SDKs make them, against the sample instance: its own database, real sessions.

use std::time::Duration;

use authsome_testkit::{Database, Program, ProgramCommand, databases, port};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::db::{App, NewApp, Tenants};
use crate::edge::Edge;

const SHOP: &str = "https://shop.example.com";

struct Sample {
    _program: Program,
    _database: Database,
    _log: TempDir,
    endpoint: String,
}

impl Sample {
    async fn start() -> Self {
        let (log, port) = (tempfile::tempdir().unwrap(), port::free().unwrap());
        let database = databases::empty_database().await.unwrap();
        let endpoint = format!("127.0.0.1:{port}");
        let program = ProgramCommand::new("authsome-sample", log.path().join("log"))
            .unwrap()
            .env("PORT", port.to_string())
            .env("BASE_PATH", "/api/auth")
            .env("DATABASE_URL", &database.url)
            .env_remove("REDIS_URL")
            .ready_at(&endpoint, "/api/auth/v1/health")
            .deadline(Duration::from_mins(1))
            .start()
            .await
            .unwrap();
        Self {
            _program: program,
            _database: database,
            _log: log,
            endpoint,
        }
    }
}

struct Stage {
    _sample: Sample,
    _tenants: Tenants,
    app: App,
    edge: Edge,
    client: Client,
}

async fn stage() -> Stage {
    let (sample, tenants) = (Sample::start().await, Tenants::new().await);
    let app = tenants
        .app(NewApp {
            base_path: "/api/auth",
            origins: &[SHOP],
            ..NewApp::at(std::slice::from_ref(&sample.endpoint))
        })
        .await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_PUBLIC_APPS_DOMAIN", "apps.authsome.test")]).await;
    Stage {
        _sample: sample,
        _tenants: tenants,
        app,
        edge,
        client: Client::new(),
    }
}

impl Stage {
    /// A request to the base URL that an SDK is configured with.
    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}/v1/{}{path}", self.edge.address, self.app.id);
        self.client.request(method, url).timeout(Duration::from_secs(20))
    }
}

async fn json_of(reply: Response, status: u16) -> Value {
    let (given, text) = (reply.status(), reply.text().await.unwrap());
    assert_eq!(given, status, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}"))
}

#[tokio::test]
async fn a_user_signs_up_in_refreshes_and_out_with_the_session_in_authorization() {
    let stage = stage().await;
    // A browser's SDK has the publishable key and a page; a server's has the secret key and neither.
    for (header, key, page) in [
        ("X-Publishable-Key", &stage.app.public, Some(SHOP)),
        ("X-API-Key", &stage.app.public, None),
        ("X-API-Key", &stage.app.secret, None),
    ] {
        let call = |method, path| {
            let call = stage.call(method, path).header(header, key.expose());
            match page {
                Some(page) => call.header("Origin", page).header("Sec-Fetch-Site", "cross-site"),
                None => call,
            }
        };
        let kind = key.parsed().key_type().as_str();
        let email = format!("{kind}-{}@example.com", header.to_lowercase());
        let account = json!({ "email": email, "password": "correct horse", "name": "Ada" });
        let reply = call(Method::POST, "/v1/signup").json(&account).send().await.unwrap();
        assert_eq!(reply.headers()["x-authsome-app-id"], stage.app.id.to_string().as_str());
        assert!(
            !reply.headers().contains_key("x-authsome-user-id"),
            "that is for the platform"
        );
        let allowed = reply.headers().get("access-control-allow-origin");
        assert_eq!(allowed.map(|value| value.to_str().unwrap()), page);
        json_of(reply, 201).await;

        let wrong = json!({ "email": email, "password": "wrong horse" });
        let reply = call(Method::POST, "/v1/signin").json(&wrong).send().await.unwrap();
        json_of(reply, 401).await;
        let right = json!({ "email": email, "password": "correct horse" });
        let session = json_of(call(Method::POST, "/v1/signin").json(&right).send().await.unwrap(), 200).await;
        let bearer = text(&session, "session_token");
        let me = json_of(
            call(Method::GET, "/v1/me").bearer_auth(bearer).send().await.unwrap(),
            200,
        )
        .await;
        assert!(me.to_string().contains(&email), "{me}");

        let body = json!({ "refresh_token": text(&session, "refresh_token") });
        let fresh = json_of(call(Method::POST, "/v1/refresh").json(&body).send().await.unwrap(), 200).await;
        let renewed = text(&fresh, "session_token");
        assert_ne!(renewed, bearer);
        json_of(
            call(Method::GET, "/v1/me").bearer_auth(renewed).send().await.unwrap(),
            200,
        )
        .await;
        json_of(
            call(Method::POST, "/v1/signout")
                .bearer_auth(renewed)
                .send()
                .await
                .unwrap(),
            200,
        )
        .await;
        json_of(
            call(Method::GET, "/v1/me").bearer_auth(renewed).send().await.unwrap(),
            401,
        )
        .await;
    }
    // A server may also put its key where the session is not.
    let listed = stage.call(Method::GET, "/users").bearer_auth(stage.app.secret.expose());
    let listed = json_of(listed.send().await.unwrap(), 200).await;
    assert!(listed.to_string().contains("@example.com"), "{listed}");
    let keyless = stage.call(Method::GET, "/.well-known/jwks.json").send().await.unwrap();
    json_of(keyless, 200).await;
}

/// Name, value and path of the only cookie that a reply sets.
fn cookie(reply: &Response) -> (String, String) {
    let mut cookies = reply.headers().get_all("set-cookie").iter();
    let (Some(cookie), None) = (cookies.next(), cookies.next()) else {
        panic!("not one cookie in {reply:?}");
    };
    let text = cookie.to_str().unwrap();
    let pair = text.split(';').next().unwrap().to_owned();
    let path = text
        .split("; Path=")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    assert!(!text.to_lowercase().contains("domain="), "{text}");
    (pair, path)
}

#[tokio::test]
async fn a_session_cookie_works_on_the_shared_host_below_its_application_and_on_its_own_host_everywhere() {
    let stage = stage().await;
    let key = stage.app.public.expose();
    let account = json!({ "email": "ada@example.com", "password": "correct horse" });
    let reply = stage
        .call(Method::POST, "/v1/signup")
        .header("X-Publishable-Key", key)
        .json(&account)
        .send()
        .await
        .unwrap();
    let (pair, path) = cookie(&reply);
    assert_eq!(path, format!("/v1/{}", stage.app.id));
    json_of(reply, 201).await;
    let me = stage.call(Method::GET, "/v1/me").header("X-Publishable-Key", key);
    let me = json_of(me.header("Cookie", &pair).send().await.unwrap(), 200).await;
    assert!(me.to_string().contains("ada@example.com"), "{me}");

    let home = format!("{}.apps.authsome.test", &*stage.app.id.suffix());
    let own = |method, path: &str| {
        stage
            .client
            .request(method, format!("http://{}{path}", stage.edge.address))
            .header("Host", &home)
            // A page of that very host.
            .header("Origin", format!("http://{home}"))
            .header("X-Publishable-Key", key)
    };
    let reply = own(Method::POST, "/v1/signin").json(&account).send().await.unwrap();
    let (pair, path) = cookie(&reply);
    assert_eq!(path, "/", "nothing is rewritten there");
    json_of(reply, 200).await;
    json_of(
        own(Method::GET, "/v1/me").header("Cookie", &pair).send().await.unwrap(),
        200,
    )
    .await;
    let out = own(Method::POST, "/v1/signout").header("Cookie", &pair);
    json_of(out.send().await.unwrap(), 200).await;
    json_of(
        own(Method::GET, "/v1/me").header("Cookie", &pair).send().await.unwrap(),
        401,
    )
    .await;
}
