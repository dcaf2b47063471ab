//! A customer of the platform: an account, a workspace and applications, made through the control API.

use std::process::Stdio;
use std::time::Duration;

use authsome_testkit::{programs, wait_for};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::platform::Platform;

/// For an operation, on a machine that is busy with something else.
const OPERATION: Duration = Duration::from_mins(1);

/// A signed-in customer with a workspace.
pub(crate) struct Customer<'a> {
    platform: &'a Platform,
    token: String,
    pub(crate) workspace: String,
}

/// An active application.
pub(crate) struct App {
    pub(crate) id: String,
    pub(crate) public_key: String,
    pub(crate) secret_key: String,
}

impl<'a> Customer<'a> {
    /// A new account with a workspace of this name.
    pub(crate) async fn new(platform: &'a Platform, email: &str, workspace: &str) -> Self {
        let mut child = tokio::process::Command::new(programs::binary("authsome-control").unwrap())
            .arg("--config")
            .arg(platform.state("config/control.toml"))
            .args([
                "admin",
                "create-user",
                "--email",
                email,
                "--name",
                "A customer",
                "--password-stdin",
            ])
            .env_remove("DATABASE_URL")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(b"a long enough password")
            .await
            .unwrap();
        assert!(child.wait().await.unwrap().success());
        let mut customer = Self {
            platform,
            token: String::new(),
            workspace: String::new(),
        };
        let body = json!({ "email": email, "password": "a long enough password" });
        customer.token = customer.ask(Method::POST, "/auth/login", Some(body)).await["token"]
            .as_str()
            .unwrap()
            .to_owned();
        let made = customer
            .ask(Method::POST, "/workspaces", Some(json!({ "name": workspace })))
            .await;
        customer.workspace = made["id"].as_str().unwrap().to_owned();
        customer
    }

    /// Asks the control API and expects success.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}/api/v1{path}", self.platform.demo("controlUrl"));
        let mut request = self.platform.client.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let reply = request.send().await.unwrap();
        let status = reply.status();
        let text = reply.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Follows an operation by its events until they end, and returns the operation.
    pub(crate) async fn follow(&self, operation: &str, within: Duration) -> Value {
        let url = format!("{}/api/v1/operations/{operation}", self.platform.demo("controlUrl"));
        let events = self
            .platform
            .client
            .get(format!("{url}/events"))
            .bearer_auth(&self.token)
            .timeout(within);
        let events = events.send().await.unwrap();
        assert_eq!(events.status(), 200);
        events.text().await.unwrap();
        self.ask(Method::GET, &format!("/operations/{operation}"), None).await
    }

    /// Creates an application and waits until the edge serves it.
    pub(crate) async fn application(&self, name: &str) -> App {
        let body = json!({ "name": name, "environment": "production" });
        let made = self
            .ask(
                Method::POST,
                &format!("/workspaces/{}/applications", self.workspace),
                Some(body),
            )
            .await;
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        let app = App {
            id: text("id"),
            public_key: text("publicKey"),
            secret_key: text("secretKey"),
        };
        let ended = self.follow(made["operationId"].as_str().unwrap(), OPERATION).await;
        assert_eq!(ended["status"], "succeeded", "{ended}\n{}", self.platform.logs());
        // 403 is the edge's own answer to a public key on this path: it serves the application, and nothing is metered.
        let served = async || {
            let request = self
                .platform
                .edge(Method::GET, &app.id, "/users")
                .header("x-api-key", &app.public_key);
            match request.send().await.unwrap().status().as_u16() {
                403 => Ok(()),
                other => Err(other),
            }
        };
        wait_for("the edge to serve the application", Duration::from_secs(20), served)
            .await
            .unwrap();
        app
    }
}
