//! The dashboard as a browser meets it: over HTTP, with cookies and forms.

mod manners;
mod once;

use std::{sync::Arc, time::Duration};

use authsome_contract::model::Plan;
use authsome_control::{
    command::user::{self, Office},
    dashboard,
    identity::{Passwords, Tokens},
    metrics::Metrics,
    readiness::Readiness,
    router,
    server::listener,
    settings::Settings,
    state::{App, Parts},
    tasks::edges::Edges,
};
use authsome_core::{clock::SystemClock, entropy::SystemEntropy, lifecycle::Shutdown};
use reqwest::{Method, StatusCode, redirect::Policy};
use sqlx::PgPool;

const PASSWORD: &str = "correct horse battery staple";

/// A running control plane without tasks.
struct Site {
    base: String,
    pool: PgPool,
    shutdown: Shutdown,
}

impl Site {
    async fn new() -> Self {
        let database = authsome_testkit::fresh_database(&authsome_db::MIGRATOR).await.unwrap();
        let pool = PgPool::connect_with(database.options).await.unwrap();
        let listener = listener::bind("test", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let entropy = Arc::new(SystemEntropy::new());
        let app = App::new(Parts {
            pool: pool.clone(),
            clock: Arc::new(SystemClock),
            entropy: entropy.clone(),
            tokens: Tokens::new(
                &"0123456789abcdef0123456789abcdef".to_owned().into(),
                &[],
                Duration::from_hours(1),
            ),
            passwords: Passwords::new(&*entropy).unwrap(),
            settings: Settings {
                api_url: base.clone(),
                edge_url: "http://edge.test".to_owned(),
                dashboard_url: base.clone(),
                apps_domain: None,
                regions: vec!["local".to_owned(), "eu-west-1".to_owned()],
                self_service_plans: vec![Plan::Free],
                trusted_proxies: Vec::new(),
                request_deadline: Duration::from_secs(30),
            },
            metrics: Metrics::new().unwrap(),
            readiness: Readiness::new(shutdown.clone()),
            limiter: authsome_control::server::limiter::Limiter::new(
                None,
                Arc::new(SystemClock),
                authsome_control::server::limiter::LimiterMetrics::register(&prometheus::Registry::new()).unwrap(),
            ),
            ring: None,
            issuers: authsome_control::identity::oidc::Issuers::default(),
            webhooks: authsome_control::webhook::client::WebhookClient::new(
                authsome_control::dns::Dns::new(authsome_control::dns::DnsSettings::default()),
                Vec::new(),
                authsome_control::outbound::Roots::default().tls(),
            ),
            instance_logs: authsome_control::instance_logs::InstanceLogs::new(None),
            prometheus: None,
            operation_feed: authsome_control::tasks::operation_feed::OperationFeed::default(),
            dns: authsome_control::dns::Dns::new(authsome_control::dns::DnsSettings::default()),
            edges: Edges::new(Arc::new(SystemClock)),
        });
        let pages = dashboard::router();
        tokio::spawn(listener::serve(listener, router::router(app, pages), shutdown.clone()));
        Self { base, pool, shutdown }
    }

    async fn person(&self, email: &str) {
        let (clock, entropy) = (SystemClock, SystemEntropy::new());
        let passwords = Passwords::new(&entropy).unwrap();
        let office = Office {
            pool: &self.pool,
            clock: &clock,
            entropy: &entropy,
            passwords: &passwords,
        };
        user::create(&office, email, "Ada <Lovelace>", PASSWORD.to_owned().into())
            .await
            .unwrap();
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    fn browser(&self) -> Browser {
        let http = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
        Browser {
            http,
            base: self.base.clone(),
            cookie: None,
        }
    }

    async fn signed_in(&self, email: &str) -> Browser {
        self.person(email).await;
        let mut browser = self.browser();
        let reply = browser
            .submit("/login", &[("email", email), ("password", PASSWORD)])
            .await;
        assert_eq!(
            (reply.status, reply.location.as_deref()),
            (StatusCode::SEE_OTHER, Some("/workspaces"))
        );
        browser
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shutdown.stop_hard();
    }
}

struct Browser {
    http: reqwest::Client,
    base: String,
    cookie: Option<String>,
}

#[derive(Debug)]
struct Reply {
    status: StatusCode,
    location: Option<String>,
    set_cookie: Option<String>,
    headers: reqwest::header::HeaderMap,
    html: String,
}

impl Reply {
    /// The value of the first hidden field of that name.
    fn field(&self, name: &str) -> String {
        self.between(&format!("name=\"{name}\" value=\""), "\"")
            .unwrap_or_else(|| panic!("no field {name}: {}", self.html))
    }

    fn between(&self, start: &str, end: &str) -> Option<String> {
        let from = self.html.find(start)? + start.len();
        Some(self.html[from..from + self.html[from..].find(end)?].to_owned())
    }
}

impl Browser {
    async fn send(&mut self, request: reqwest::RequestBuilder) -> Reply {
        let request = match &self.cookie {
            Some(cookie) => request.header("cookie", format!("authsome_dashboard={cookie}")),
            None => request,
        };
        let response = request.send().await.unwrap();
        let text = |name: &str| {
            response
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let set_cookie = text("set-cookie");
        if let Some(line) = &set_cookie {
            let value = line.split(';').next().unwrap().split_once('=').unwrap().1;
            self.cookie = (!value.is_empty()).then(|| value.to_owned());
        }
        Reply {
            status: response.status(),
            location: text("location"),
            set_cookie,
            headers: response.headers().clone(),
            html: response.text().await.unwrap(),
        }
    }

    async fn open(&mut self, path: &str) -> Reply {
        let request = self.http.get(format!("{}{path}", self.base));
        self.send(request).await
    }

    /// Sends a form as a page of the site would.
    async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let origin = self.base.clone();
        self.submit_from(&origin, path, fields).await
    }

    async fn submit_from(&mut self, origin: &str, path: &str, fields: &[(&str, &str)]) -> Reply {
        let body = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", encoded(value)))
            .collect::<Vec<_>>()
            .join("&");
        let request = self
            .http
            .request(Method::POST, format!("{}{path}", self.base))
            .header("origin", origin)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        self.send(request).await
    }

    /// A workspace of the person's own: its page.
    async fn workspace(&mut self, name: &str) -> String {
        let csrf = self.open("/workspaces").await.field("csrf");
        let reply = self.submit("/workspaces", &[("csrf", &csrf), ("name", name)]).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.html);
        reply.location.unwrap()
    }

    /// An application: its page, and the reply that shows its secret key.
    async fn application(&mut self, workspace: &str, name: &str) -> (String, Reply) {
        let form = self.open(workspace).await;
        let (csrf, id) = (form.field("csrf"), form.field("id"));
        let fields = [
            ("csrf", csrf.as_str()),
            ("id", &id),
            ("name", name),
            ("environment", "development"),
            ("region", "local"),
        ];
        let reply = self.submit(&format!("{workspace}/applications"), &fields).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.html);
        let page = reply.between("data-progress=\"", "/progress\"").unwrap();
        (page, reply)
    }
}

/// Status and number of instances, as the script finds them.
fn standing(reply: &Reply) -> (String, String) {
    let status = reply.between("<span data-part=\"status\"><span class=\"status ", "\"");
    let instances = reply.between("<span data-part=\"instances\">", "<");
    (status.unwrap(), instances.unwrap())
}

fn encoded(text: &str) -> String {
    text.bytes()
        .fold(String::new(), |encoded, byte| encoded + &format!("%{byte:02X}"))
}

#[tokio::test]
async fn whoever_is_not_signed_in_is_led_to_sign_in_and_back() {
    let site = Site::new().await;
    site.person("ada@example.com").await;
    let mut browser = site.browser();
    assert_eq!(browser.open("/").await.location.as_deref(), Some("/workspaces"));
    let reply = browser.open("/workspaces?a=b").await;
    assert_eq!(reply.location.as_deref(), Some("/login?next=/workspaces%3Fa%3Db"));
    let form = browser.open("/login?next=/workspaces%3Fa%3Db").await;
    assert_eq!(form.status, StatusCode::OK);
    let next = form.field("next");
    let fields = [("email", "Ada@example.com"), ("password", PASSWORD), ("next", &next)];
    let reply = browser.submit("/login", &fields).await;
    assert_eq!(reply.location.as_deref(), Some("/workspaces?a=b"));
    let cookie = reply.set_cookie.unwrap();
    for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age="] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "over plain HTTP a browser would drop it");

    let page = browser.open("/workspaces").await;
    assert!(
        page.html.contains("Ada &#60;Lovelace&#62;"),
        "what people type is text: {}",
        page.html
    );
    let reply = browser.submit("/logout", &[("csrf", &page.field("csrf"))]).await;
    assert_eq!(
        (reply.location.as_deref(), browser.cookie.as_deref()),
        (Some("/login"), None)
    );
    assert_eq!(browser.open("/workspaces").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_wrong_password_shows_the_form_again_without_it() {
    let site = Site::new().await;
    site.person("ada@example.com").await;
    let mut browser = site.browser();
    let reply = browser
        .submit(
            "/login",
            &[("email", "ada@example.com"), ("password", "wrong but long")],
        )
        .await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert!(reply.html.contains("Invalid email or password") && reply.html.contains("ada@example.com"));
    assert!(!reply.html.contains("wrong but long"));
    assert_eq!(browser.cookie, None);
}

#[tokio::test]
async fn an_application_is_created_watched_and_its_keys_made_and_revoked() {
    let site = Site::new().await;
    let mut browser = site.signed_in("ada@example.com").await;
    let workspace = browser.workspace("Acme & <Sons>").await;
    let (page, created) = browser.application(&workspace, "Shop").await;
    let secret = created.between("data-copy=\"sk_test_", "\"").unwrap();
    assert!(created.html.contains("cannot be shown again"));
    assert_eq!(created.headers["cache-control"], "no-store");

    let shown = browser.open(&page).await;
    assert!(!shown.html.contains(&secret), "a secret key is shown once");
    assert!(shown.html.contains("sk_test_"), "masked");
    let id = page.strip_prefix("/applications/").unwrap();
    assert!(shown.html.contains(&format!("http://edge.test/v1/{id}")) && shown.html.contains("pk_test_"));
    assert!(shown.html.contains("Create the database and its roles"));
    assert!(
        shown.html.contains("http-equiv=\"refresh\""),
        "progress without JavaScript"
    );
    assert!(browser.open(&workspace).await.html.contains("provisioning"));

    let fragment = browser.open(&format!("{page}/progress")).await;
    assert_eq!(fragment.headers["x-authsome-live"], "yes");
    assert_eq!(standing(&fragment), ("provisioning".to_owned(), "0".to_owned()));
    assert_eq!(
        standing(&shown),
        standing(&fragment),
        "the page has the places that the fragment fills"
    );
    sqlx::query("UPDATE provisioning_steps SET status = 'done', detail = 'database <ready>' WHERE step = 'database'")
        .execute(&site.pool)
        .await
        .unwrap();
    sqlx::query("UPDATE operations SET status = 'succeeded', finished_at = now()")
        .execute(&site.pool)
        .await
        .unwrap();
    sqlx::query(
        "UPDATE applications SET status = 'active', status_deadline = NULL, endpoints = '{10.0.0.7:8080,10.0.0.8:8080}'",
    )
    .execute(&site.pool)
    .await
    .unwrap();
    let fragment = browser.open(&format!("{page}/progress")).await;
    assert_eq!(fragment.headers["x-authsome-live"], "no");
    assert_eq!(standing(&fragment), ("active".to_owned(), "2".to_owned()));
    assert!(fragment.html.contains("database &#60;ready&#62;"), "{}", fragment.html);

    let csrf = shown.field("csrf");
    let id = shown.field("id");
    let fields = [
        ("csrf", csrf.as_str()),
        ("id", &id),
        ("name", "CI server"),
        ("type", "secret"),
    ];
    let reply = browser.submit(&format!("{page}/keys"), &fields).await;
    assert_eq!(reply.status, StatusCode::CREATED);
    assert!(reply.html.contains("CI server"));
    let revoke = reply
        .html
        .rsplit_once("/revoke\"")
        .unwrap()
        .0
        .rsplit_once("action=\"")
        .unwrap()
        .1
        .to_owned();
    let reply = browser.submit(&format!("{revoke}/revoke"), &[("csrf", &csrf)]).await;
    assert_eq!(reply.location.as_deref(), Some(page.as_str()));
    assert!(!browser.open(&page).await.html.contains("CI server"));
    let revoked: i64 = sqlx::query_scalar("SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL")
        .fetch_one(&site.pool)
        .await
        .unwrap();
    assert_eq!(revoked, 1);
}

#[tokio::test]
async fn forms_from_elsewhere_change_nothing() {
    let site = Site::new().await;
    let mut browser = site.signed_in("ada@example.com").await;
    let csrf = browser.open("/workspaces").await.field("csrf");
    let fields = [("csrf", csrf.as_str()), ("name", "Stolen")];
    let reply = browser
        .submit_from("https://evil.example", "/workspaces", &fields)
        .await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    let reply = browser
        .submit("/workspaces", &[("csrf", "0000"), ("name", "Stolen")])
        .await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    let request = browser
        .http
        .post(format!("{}/workspaces", site.base))
        .header("sec-fetch-site", "cross-site");
    let request = request
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("csrf={csrf}&name=Stolen"));
    assert_eq!(browser.send(request).await.status, StatusCode::FORBIDDEN);
    // Signing somebody in as another person is an attack as well.
    let credentials = [("email", "ada@example.com"), ("password", PASSWORD)];
    let reply = browser
        .submit_from("https://evil.example", "/login", &credentials)
        .await;
    assert_eq!((reply.status, reply.set_cookie), (StatusCode::FORBIDDEN, None));
    let workspaces: i64 = sqlx::query_scalar("SELECT count(*) FROM workspaces")
        .fetch_one(&site.pool)
        .await
        .unwrap();
    assert_eq!(workspaces, 0);
}

#[tokio::test]
async fn what_belongs_to_others_is_not_found() {
    let site = Site::new().await;
    let mut ada = site.signed_in("ada@example.com").await;
    let workspace = ada.workspace("Acme").await;
    let (application, _) = ada.application(&workspace, "Shop").await;
    let mut eve = site.signed_in("eve@example.com").await;
    let csrf = eve.open("/workspaces").await.field("csrf");
    let id = ada.open(&application).await.field("id");
    for path in [
        workspace.clone(),
        application.clone(),
        format!("{application}/progress"),
        "/workspaces/nonsense".to_owned(),
    ] {
        let reply = eve.open(&path).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
        assert!(
            reply.html.contains("<h1>Not found</h1>") && !reply.html.contains("Shop"),
            "{}",
            reply.html
        );
    }
    let fields = [
        ("csrf", csrf.as_str()),
        ("id", &id),
        ("name", "Mine"),
        ("type", "secret"),
    ];
    assert_eq!(
        eve.submit(&format!("{application}/keys"), &fields).await.status,
        StatusCode::NOT_FOUND
    );
    sqlx::query("UPDATE team_members SET role = 'viewer'")
        .execute(&site.pool)
        .await
        .unwrap();
    let page = ada.open(&application).await;
    assert!(
        page.html.contains("API keys") && !page.html.contains("Create key"),
        "a viewer looks on"
    );
    assert!(!ada.open(&workspace).await.html.contains("New application"));
}

#[tokio::test]
async fn a_refused_form_is_shown_again_with_the_reason_and_what_was_typed() {
    let site = Site::new().await;
    let mut browser = site.signed_in("ada@example.com").await;
    let workspace = browser.workspace("Acme").await;
    browser.application(&workspace, "Shop").await;
    let form = browser.open(&workspace).await;
    let (csrf, id) = (form.field("csrf"), form.field("id"));
    let fields = [
        ("csrf", csrf.as_str()),
        ("id", &id),
        ("name", "Shop"),
        ("environment", "staging"),
        ("region", "local"),
    ];
    let reply = browser.submit(&format!("{workspace}/applications"), &fields).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert!(
        reply.html.contains("is taken") && reply.html.contains("value=\"Shop\""),
        "{}",
        reply.html
    );
    assert!(
        reply.html.contains("<option value=\"staging\" selected>"),
        "{}",
        reply.html
    );
}
