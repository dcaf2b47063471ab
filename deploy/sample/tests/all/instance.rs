//! A running instance with a database of its own.

use std::time::Duration;

use authsome_testkit::{Database, Program, ProgramCommand, RedisServer, databases, port};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};

/// A running instance.
pub(crate) struct Instance {
    pub(crate) program: Program,
    pub(crate) database: Database,
    pub(crate) url: String,
    pub(crate) client: Client,
    _log: tempfile::TempDir,
}

/// The command that starts an instance on `port`, not yet given a database.
pub(crate) fn command(port: u16, base_path: &str, directory: &tempfile::TempDir) -> ProgramCommand {
    ProgramCommand::new("authsome-sample", directory.path().join("log"))
        .unwrap()
        .env("PORT", port.to_string())
        .env("BASE_PATH", base_path)
        .env("APP_ID", "app_01jd0000000000000000000000")
        .env(
            "PUBLIC_BASE_URL",
            "https://api.example.com/v1/app_01jd0000000000000000000000",
        )
        .env_remove("REDIS_URL")
        .ready_at(format!("127.0.0.1:{port}"), format!("{base_path}/v1/health"))
        .deadline(Duration::from_secs(20))
}

impl Instance {
    pub(crate) async fn start() -> Self {
        Self::with(databases::empty_database().await.unwrap(), "", None).await
    }

    pub(crate) async fn with(database: Database, base_path: &str, redis: Option<(&RedisServer, &str)>) -> Self {
        let (log, port) = (tempfile::tempdir().unwrap(), port::free().unwrap());
        let mut command = command(port, base_path, &log).env("DATABASE_URL", &database.url);
        if let Some((redis, prefix)) = redis {
            command = command.env("REDIS_URL", redis.url()).env("REDIS_KEY_PREFIX", prefix);
        }
        let program = command.start().await.unwrap();
        let url = format!("http://127.0.0.1:{port}{base_path}");
        Self {
            program,
            database,
            url,
            client: Client::new(),
            _log: log,
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.url))
            .timeout(Duration::from_secs(20))
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Response {
        self.request(Method::GET, path).bearer_auth(token).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Response {
        self.request(Method::POST, path).json(&body).send().await.unwrap()
    }

    /// Signs a user up and returns the reply.
    pub(crate) async fn sign_up(&self, email: &str) -> Value {
        let reply = self
            .post("/v1/signup", json!({ "email": email, "password": "correct horse" }))
            .await;
        assert_eq!(reply.status(), 201);
        reply.json().await.unwrap()
    }
}

/// Asserts that a reply is an error in the real server's shape.
pub(crate) async fn assert_error(reply: Response, status: u16, code: &str) -> Value {
    assert_eq!(reply.status(), status);
    let body: Value = reply.json().await.unwrap();
    assert_eq!(body["error"]["code"], code, "{body}");
    assert_eq!(body["error"]["status"], status, "{body}");
    assert!(body["error"]["message"].is_string(), "{body}");
    body
}
