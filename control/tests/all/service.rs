//! The API in this process, on a database of its own, and the people who call it.

use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::Plan;
use authsome_control::command::user::{self, Office};
use authsome_control::dns::{Dns, DnsSettings};
use authsome_control::identity::oidc::{Issuers, IssuersSetting};
use authsome_control::identity::{Passwords, Tokens};
use authsome_control::instance_logs::InstanceLogs;
use authsome_control::mail::{Security, Smtp};
use authsome_control::metrics::Metrics;
use authsome_control::outbound::Roots;
use authsome_control::readiness::Readiness;
use authsome_control::router;
use authsome_control::server::limiter::{Limiter, LimiterMetrics};
use authsome_control::settings::Settings;
use authsome_control::state::{App, Parts};
use authsome_control::tasks::edges::Edges;
use authsome_control::tasks::mailer::{MailMetrics, Mailer};
use authsome_control::time_series::Prometheus;
use authsome_control::webhook::client::WebhookClient;
use authsome_core::clock::{Clock, ManualClock, SystemClock};
use authsome_core::entropy::SystemEntropy;
use authsome_core::lifecycle::Shutdown;
use authsome_core::seal::PlatformRing;
use authsome_testkit::SmtpServer;
use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode, header};
use prometheus::Registry;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// Signs the tokens of the tests.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// 32 bytes in base64.
pub(crate) const RING: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

pub(crate) struct Service {
    pub(crate) app: App,
    pub(crate) pool: PgPool,
    pub(crate) clock: ManualClock,
    router: Router,
}

pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) token: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

pub(crate) fn settings() -> Settings {
    Settings {
        api_url: "https://api.test".to_owned(),
        edge_url: "https://edge.test".to_owned(),
        dashboard_url: "https://dashboard.test".to_owned(),
        apps_domain: Some("apps.test".to_owned()),
        regions: vec!["eu-west-1".to_owned(), "us-east-1".to_owned()],
        self_service_plans: vec![Plan::Free, Plan::Pro],
        trusted_proxies: Vec::new(),
        request_deadline: Duration::from_secs(30),
    }
}

/// What the service believes and asks outside of itself: nothing but the system's roots, unless a test says so.
#[derive(Default)]
struct Others {
    roots: Roots,
    issuers: IssuersSetting,
    dns: DnsSettings,
    logs: Option<InstanceLogs>,
    prometheus: Option<Prometheus>,
    /// Instead of those that [`SECRET`] signs.
    tokens: Option<Tokens>,
    /// With the rates of the plans.
    limited: bool,
}

impl Service {
    pub(crate) async fn new() -> Self {
        Self::with(Others::default()).await
    }

    /// Asking this name server.
    pub(crate) async fn asking(server: std::net::SocketAddr) -> Self {
        let dns = DnsSettings {
            servers: vec![server],
            timeout: Duration::from_secs(5),
        };
        Self::with(Others {
            dns,
            ..Others::default()
        })
        .await
    }

    /// Believing these issuers, and these roots beside the system's.
    pub(crate) async fn believing(roots: Roots, issuers: IssuersSetting) -> Self {
        Self::with(Others {
            roots,
            issuers,
            ..Others::default()
        })
        .await
    }

    /// With the rates of the plans.
    pub(crate) async fn limited() -> Self {
        Self::with(Others {
            limited: true,
            ..Others::default()
        })
        .await
    }

    /// With what reaches instances.
    pub(crate) async fn reaching(instance_logs: InstanceLogs, prometheus: Option<Prometheus>) -> Self {
        Self::with(Others {
            logs: Some(instance_logs),
            prometheus,
            ..Others::default()
        })
        .await
    }

    pub(crate) fn on(pool: PgPool, settings: Settings, pages: Router<App>) -> Self {
        Self::of(pool, settings, pages, Others::default())
    }

    pub(crate) fn signing(pool: PgPool, settings: Settings, pages: Router<App>, tokens: Tokens) -> Self {
        let tokens = Some(tokens);
        Self::of(
            pool,
            settings,
            pages,
            Others {
                tokens,
                ..Others::default()
            },
        )
    }

    /// The way to a mail server that must use TLS.
    pub(crate) fn secure_server(port: u16, roots: &Roots) -> Smtp {
        let from = "AuthSome Cloud <noreply@authsome.test>".parse().unwrap();
        let url = format!("smtp://localhost:{port}");
        Smtp::new(&url.parse().unwrap(), Security::Required, from, roots).unwrap()
    }

    /// On a database of its own.
    async fn with(others: Others) -> Self {
        let database = authsome_testkit::fresh_database(&authsome_db::MIGRATOR).await.unwrap();
        let pool = PgPool::connect_with(database.options).await.unwrap();
        Self::of(pool, settings(), Router::new(), others)
    }

    fn of(pool: PgPool, settings: Settings, pages: Router<App>, others: Others) -> Self {
        let clock = ManualClock::new(SystemClock.now());
        let entropy = Arc::new(SystemEntropy::new());
        let counters = LimiterMetrics::register(&Registry::new()).unwrap();
        let limiter = if others.limited {
            Limiter::new(None, Arc::new(clock.clone()), counters)
        } else {
            Limiter::counting_only(Arc::new(clock.clone()), counters)
        };
        let tls = others.roots.tls();
        let keeper: Arc<dyn Clock> = Arc::new(clock.clone());
        let issuers = Issuers::new(others.issuers, &tls, &keeper);
        let app = App::new(Parts {
            pool: pool.clone(),
            clock: Arc::new(clock.clone()),
            entropy: entropy.clone(),
            tokens: others
                .tokens
                .unwrap_or_else(|| Tokens::new(&SECRET.into(), &[], Duration::from_hours(1))),
            issuers,
            passwords: Passwords::new(&*entropy).unwrap(),
            settings,
            metrics: Metrics::new().unwrap(),
            readiness: Readiness::new(Shutdown::new()),
            edges: Edges::new(Arc::new(SystemClock)),
            ring: Some(Arc::new(PlatformRing::parse(RING).unwrap())),
            webhooks: WebhookClient::new(
                Dns::new(others.dns.clone()),
                vec!["127.0.0.1/32".parse().unwrap()],
                tls.clone(),
            ),
            limiter,
            instance_logs: others.logs.unwrap_or_else(|| InstanceLogs::new(None)),
            prometheus: others.prometheus,
            operation_feed: authsome_control::tasks::operation_feed::OperationFeed::default(),
            dns: Dns::new(others.dns),
        });
        Self {
            router: router::router(app.clone(), pages),
            app,
            pool,
            clock,
        }
    }

    /// A new person who has signed in.
    pub(crate) async fn person(&self, email: &str) -> Person {
        let entropy = SystemEntropy::new();
        let office = Office {
            pool: &self.pool,
            clock: &self.clock,
            entropy: &entropy,
            passwords: self.app.passwords(),
        };
        let id = user::create(&office, email, "Ada", PASSWORD.into()).await.unwrap();
        let answer = self.login(email, PASSWORD).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        Person {
            id: id.to_string(),
            token: answer.string("token"),
        }
    }

    pub(crate) async fn login(&self, email: &str, password: &str) -> Answer {
        self.call(
            Method::POST,
            "/api/v1/auth/login",
            None,
            Some(json!({ "email": email, "password": password })),
        )
        .await
    }

    pub(crate) async fn get(&self, path: &str, person: &Person) -> Answer {
        self.call(Method::GET, path, Some(&person.token), None).await
    }

    pub(crate) async fn post(&self, path: &str, person: &Person, body: Value) -> Answer {
        self.call(Method::POST, path, Some(&person.token), Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, person: &Person, body: Value) -> Answer {
        self.call(Method::PATCH, path, Some(&person.token), Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, person: &Person, body: Value) -> Answer {
        self.call(Method::PUT, path, Some(&person.token), Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str, person: &Person) -> Answer {
        self.call(Method::DELETE, path, Some(&person.token), None).await
    }

    pub(crate) async fn call(&self, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        // Two requests never happen at the same moment.
        self.clock.advance(Duration::from_millis(1));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer {
            status: parts.status,
            headers: parts.headers,
            text,
            json,
        }
    }

    /// A workspace of the person, by id.
    pub(crate) async fn workspace(&self, owner: &Person, plan: &str) -> String {
        let slug = format!("w-{}", &owner.id[owner.id.len() - 12..]);
        let body = json!({ "name": "Workspace", "slug": slug, "plan": plan });
        let answer = self.post("/api/v1/workspaces", owner, body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        answer.string("id")
    }

    /// Ada, and the ids of her workspace of this plan and of the application `shop` in it.
    pub(crate) async fn shop(&self, plan: &str) -> (Person, String, String) {
        let ada = self.person("ada@example.com").await;
        let workspace = self.workspace(&ada, plan).await;
        let app = self.application(&ada, &workspace, "shop").await.string("id");
        (ada, workspace, app)
    }

    /// The answer to a new application.
    pub(crate) async fn application(&self, owner: &Person, workspace: &str, slug: &str) -> Answer {
        let body = json!({ "name": "Shop", "slug": slug, "environment": "production" });
        let answer = self
            .post(&format!("/api/v1/workspaces/{workspace}/applications"), owner, body)
            .await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
        answer
    }

    /// Makes the person a member.
    pub(crate) async fn join(&self, workspace: &str, person: &Person, role: &str) {
        let id = authsome_core::id::MemberId::generate(&self.clock, &SystemEntropy::new());
        sqlx::query(
            "INSERT INTO team_members (id, workspace_id, user_id, email, role, status)
             VALUES ($1, $2, $3, $3 || '@x.io', $4, 'active')",
        )
        .bind(id)
        .bind(workspace)
        .bind(&person.id)
        .bind(role)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// Sends letters by this server until the answer is dropped.
    pub(crate) fn mailer(&self, server: &SmtpServer) -> DropGuard {
        self.mailer_by(Self::server(server))
    }

    /// The way to the server, as it is configured.
    pub(crate) fn server(server: &SmtpServer) -> Smtp {
        let from = "AuthSome Cloud <noreply@authsome.test>".parse().unwrap();
        Smtp::new(&server.url().parse().unwrap(), Security::None, from, &Roots::default()).unwrap()
    }

    pub(crate) fn mailer_by(&self, server: Smtp) -> DropGuard {
        let stop = CancellationToken::new();
        let mailer = Mailer {
            app: self.app.clone(),
            server: Some(server),
            metrics: MailMetrics::register(&prometheus::Registry::new()).unwrap(),
        };
        tokio::spawn(mailer.run(stop.clone()));
        stop.drop_guard()
    }

    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap()
    }
}

impl Answer {
    pub(crate) fn string(&self, field: &str) -> String {
        self.json[field]
            .as_str()
            .unwrap_or_else(|| panic!("no {field} in {}", self.text))
            .to_owned()
    }

    /// Checks that it is an error of the platform, and gives its code.
    pub(crate) fn code(&self) -> &str {
        let error = &self.json["error"];
        assert!(
            error["message"].as_str().is_some_and(|message| !message.is_empty()),
            "{}",
            self.text
        );
        assert_eq!(
            error["requestId"],
            self.headers["x-request-id"].to_str().unwrap(),
            "{}",
            self.text
        );
        error["code"].as_str().unwrap()
    }

    /// Checks status and code of an error.
    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.code()), (status, code), "{}", self.text);
    }

    pub(crate) fn message(&self) -> &str {
        self.json["error"]["message"].as_str().unwrap_or_default()
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        self.json["error"]["details"]["fields"][name]
            .as_str()
            .unwrap_or_default()
    }
}
