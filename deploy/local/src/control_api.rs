//! The control API as any client uses it: over HTTP, with a sign-in.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::LocalError;

/// Each request is answered within this or fails; so long it waits before another attempt.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at an operation that nothing is heard of.
const LOOK: Duration = Duration::from_secs(2);

/// A signed-in client.
pub(crate) struct ControlApi {
    client: Client,
    base: String,
    token: String,
}

/// A page of things.
#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
}

/// A workspace.
#[derive(Deserialize)]
pub(crate) struct Workspace {
    pub(crate) id: String,
    pub(crate) slug: String,
}

/// An application. The secret key and the operation come with its creation only.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Application {
    pub(crate) id: String,
    pub(crate) slug: String,
    pub(crate) status: String,
    pub(crate) public_key: Option<String>,
    pub(crate) secret_key: Option<String>,
}

/// A long piece of work.
#[derive(Deserialize)]
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) remediation: Option<String>,
    /// Only when asked for by id.
    #[serde(default)]
    pub(crate) steps: Vec<Step>,
}

/// A step of it.
#[derive(Deserialize)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) status: String,
    pub(crate) detail: Option<String>,
}

/// The events of an operation, which say that there is something new. Polling would use up what a person may ask in a minute, and
/// then each poll takes the place of the next one.
#[derive(Default)]
pub(crate) struct Events(Option<Response>);

impl Events {
    /// Until something has happened to the operation, or for two seconds.
    pub(crate) async fn next(&mut self, api: &ControlApi, operation: &str) {
        let heard = async {
            if self.0.is_none() {
                self.0 = api.events(operation).await.ok();
            }
            let said = match &mut self.0 {
                Some(stream) => stream.chunk().await.ok().flatten(),
                None => None,
            };
            if said.is_none() {
                self.0 = None;
                std::future::pending::<()>().await;
            }
        };
        let _ = tokio::time::timeout(LOOK, heard).await;
    }
}

#[derive(Deserialize)]
struct SignedIn {
    token: String,
}

#[derive(Deserialize)]
struct Key {
    key: String,
}

impl ControlApi {
    /// Signs in.
    ///
    /// # Errors
    /// [`LocalError::Http`], [`LocalError::Api`].
    pub(crate) async fn sign_in(url: &str, email: &str, password: &str) -> Result<Self, LocalError> {
        let client = Client::builder().timeout(PATIENCE).no_proxy().build()?;
        let mut api = Self {
            client,
            base: format!("{url}/api/v1"),
            token: String::new(),
        };
        let body = json!({ "email": email, "password": password });
        api.token = api
            .send::<SignedIn>(Method::POST, "/auth/login", Some(body))
            .await?
            .token;
        Ok(api)
    }

    /// The workspace with this slug, created if absent.
    pub(crate) async fn workspace(&self, name: &str, slug: &str) -> Result<Workspace, LocalError> {
        let page: Page<Workspace> = self.send(Method::GET, "/workspaces?pageSize=100", None).await?;
        match page.data.into_iter().find(|workspace| workspace.slug == slug) {
            Some(workspace) => Ok(workspace),
            None => {
                self.send(Method::POST, "/workspaces", Some(json!({ "name": name, "slug": slug })))
                    .await
            }
        }
    }

    /// The application with this slug, created if absent.
    pub(crate) async fn application(&self, workspace: &str, name: &str, slug: &str) -> Result<Application, LocalError> {
        let path = format!("/workspaces/{workspace}/applications");
        let page: Page<Application> = self.send(Method::GET, &format!("{path}?pageSize=100"), None).await?;
        if let Some(application) = page.data.into_iter().find(|application| application.slug == slug) {
            return Ok(application);
        }
        let body = json!({ "name": name, "slug": slug, "environment": "development" });
        self.send(Method::POST, &path, Some(body)).await
    }

    /// An application as it is now.
    pub(crate) async fn get_application(&self, id: &str) -> Result<Application, LocalError> {
        self.send(Method::GET, &format!("/applications/{id}"), None).await
    }

    /// The newest operation of an application, with its steps.
    pub(crate) async fn newest_operation(&self, application: &str) -> Result<Option<Operation>, LocalError> {
        let page: Page<Operation> = self
            .send(Method::GET, &format!("/applications/{application}/operations"), None)
            .await?;
        match page.data.into_iter().next() {
            Some(newest) => self
                .send(Method::GET, &format!("/operations/{}", newest.id), None)
                .await
                .map(Some),
            None => Ok(None),
        }
    }

    /// A new key of an application: the whole of it, this once.
    pub(crate) async fn create_key(&self, application: &str, name: &str, kind: &str) -> Result<String, LocalError> {
        let body = json!({ "name": name, "type": kind });
        let key: Key = self
            .send(Method::POST, &format!("/applications/{application}/keys"), Some(body))
            .await?;
        Ok(key.key)
    }

    async fn events(&self, operation: &str) -> Result<Response, LocalError> {
        self.ask(Method::GET, &format!("/operations/{operation}/events"), None)
            .await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, LocalError> {
        Ok(self.ask(method, path, body).await?.json().await?)
    }

    /// A successful answer. One that says "too often", and for how long, is waited out.
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Response, LocalError> {
        loop {
            let mut request = self.client.request(method.clone(), format!("{}{path}", self.base));
            if !self.token.is_empty() {
                request = request.bearer_auth(&self.token);
            }
            if let Some(body) = &body {
                request = request.json(body);
            }
            let reply = request.send().await?;
            let status = reply.status();
            let after = reply.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok());
            let after = after.and_then(|after| after.parse().ok()).map(Duration::from_secs);
            if let (StatusCode::TOO_MANY_REQUESTS, Some(after)) = (status, after)
                && after <= PATIENCE
            {
                tokio::time::sleep(after).await;
                continue;
            }
            if !status.is_success() {
                return Err(LocalError::Api {
                    request: format!("{method} {path}"),
                    status: status.as_u16(),
                    body: reply.text().await.unwrap_or_default(),
                });
            }
            return Ok(reply);
        }
    }
}
