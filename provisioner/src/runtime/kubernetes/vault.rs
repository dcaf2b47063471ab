//! Vault, or OpenBao: where an application's secrets are kept outside of the cluster.
//!
//! Owns three things for each application: its document in the KV version 2 engine, a policy that reads that document and
//! nothing else, and a login role that ties the policy to the service account of its namespace. While Vault is away nothing
//! is changed; instances that run have their secrets already.

mod patrol;
mod wire;

use std::collections::HashSet;
use std::time::Duration;

use authsome_core::id::ApplicationId;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::manifest::{Environment, NAME, hash, vault_document};
use super::settings::Vault;
use crate::lease::{CallError, Fence, Fenced};
use patrol::Listed;
pub(super) use patrol::patrol;
use wire::{Wire, WireError};

/// How long one call may take.
const CALL: Duration = Duration::from_secs(10);

/// Why Vault did not do what it was asked. Holds no secret and nothing of the document.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The lease is lost or too short; nothing was asked.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// It did not answer in time.
    #[error("Vault: {what}: no answer within {CALL:?}")]
    TimedOut {
        /// What was asked.
        what: &'static str,
    },
    /// It cannot be reached, or is not who it should be.
    #[error("Vault: {what}")]
    Unavailable {
        /// What was asked.
        what: &'static str,
        /// How it failed.
        source: WireError,
    },
    /// It is sealed, on stand-by or overloaded (5xx, 429), or refused (4xx).
    #[error("Vault: {what}: it answers {status}")]
    Answered {
        /// What was asked.
        what: &'static str,
        /// Its status.
        status: StatusCode,
    },
}

impl VaultError {
    /// May the same call succeed later without anybody changing anything?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Unavailable { source, .. } => source.is_transient(),
            Self::Answered { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            Self::Fenced(_) => false,
        }
    }
}

/// What reads one document and nothing else.
fn policy(path: &str) -> String {
    format!("path \"{path}\" {{ capabilities = [\"read\"] }}")
}

/// What ties that policy to the service account of a namespace, as it is written and as it is read.
fn role(namespace: &str) -> Value {
    json!({
        "bound_service_account_names": [NAME],
        "bound_service_account_namespaces": [namespace],
        "audience": "vault",
        "token_policies": [namespace],
        "token_ttl": 600,
        "token_no_default_policy": true,
    })
}

/// A client for one Vault.
pub struct VaultClient {
    wire: Wire,
    settings: Vault,
}

impl VaultClient {
    /// A client; nothing is asked yet.
    pub fn new(settings: Vault) -> Result<Self, VaultError> {
        let what = "prepare the client";
        let wire = Wire::new(&settings).map_err(|source| VaultError::Unavailable { what, source })?;
        Ok(Self { wire, settings })
    }

    /// Is it there, unsealed, and lets it us in?
    pub async fn check(&self) -> Result<(), VaultError> {
        let what = "look up the token";
        match tokio::time::timeout(CALL, self.send(what, Method::GET, "auth/token/lookup-self", None)).await {
            Ok(answer) => answer.map(|_| ()),
            Err(_) => Err(VaultError::TimedOut { what }),
        }
    }

    /// Stores the secrets of an application, and lets the account of its namespace read them. A document that is the same
    /// already is not written again: each write is another version.
    pub async fn keep(
        &self,
        application: ApplicationId,
        namespace: &str,
        environment: &Environment,
        fence: &Fence,
    ) -> Result<(), VaultError> {
        let path = self.path("data", application);
        let present = self.call(fence, "read secrets", Method::GET, &path, None).await?;
        let same = present.is_some_and(|answer| hash(&answer["data"]["data"]) == environment.hash());
        if !same {
            let document = vault_document(environment);
            self.call(fence, "store secrets", Method::POST, &path, Some(document))
                .await?;
        }
        let place = format!("sys/policies/acl/{namespace}");
        let policy = json!({ "policy": policy(&path) });
        self.call(fence, "write a policy", Method::PUT, &place, Some(policy))
            .await?;
        let place = format!("auth/{}/role/{namespace}", self.settings.auth_mount);
        self.call(fence, "write a login role", Method::POST, &place, Some(role(namespace)))
            .await?;
        Ok(())
    }

    /// What of an application Vault does not keep as it should; nothing where it does.
    pub async fn lacks(
        &self,
        application: ApplicationId,
        namespace: &str,
        environment: &Environment,
        fence: &Fence,
    ) -> Result<Option<&'static str>, VaultError> {
        let path = self.path("data", application);
        let present = self.call(fence, "read secrets", Method::GET, &path, None).await?;
        if present.is_none_or(|answer| hash(&answer["data"]["data"]) != environment.hash()) {
            return Ok(Some("Vault does not hold the secrets as they are"));
        }
        let place = format!("sys/policies/acl/{namespace}");
        let present = self.call(fence, "read a policy", Method::GET, &place, None).await?;
        if present.is_none_or(|answer| answer["data"]["policy"] != policy(&path)) {
            return Ok(Some("Vault does not have the policy as it should be"));
        }
        let place = format!("auth/{}/role/{namespace}", self.settings.auth_mount);
        let present = self.call(fence, "read a login role", Method::GET, &place, None).await?;
        let wanted = role(namespace);
        let same = |present: Value| {
            let mut members = wanted.as_object().into_iter().flatten();
            members.all(|(name, value)| present["data"][name] == *value)
        };
        Ok((!present.is_some_and(same)).then_some("Vault does not have the login role as it should be"))
    }

    /// The names of everything that is kept, of all applications.
    async fn listed(&self) -> Result<Listed, VaultError> {
        Ok(Listed {
            documents: self
                .names(
                    "list secrets",
                    &format!("{}/metadata/applications", self.settings.mount),
                )
                .await?,
            policies: self.names("list policies", "sys/policies/acl").await?,
            roles: self
                .names("list login roles", &format!("auth/{}/role", self.settings.auth_mount))
                .await?,
        })
    }

    async fn names(&self, what: &'static str, path: &str) -> Result<HashSet<String>, VaultError> {
        let path = format!("{path}?list=true");
        let listed = match tokio::time::timeout(CALL, self.send(what, Method::GET, &path, None)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(VaultError::TimedOut { what }),
        };
        let keys = listed.map(|answer| answer["data"]["keys"].clone()).unwrap_or_default();
        let names = keys.as_array().into_iter().flatten().filter_map(Value::as_str);
        Ok(names.map(str::to_owned).collect())
    }

    /// Removes everything of an application, every version of its document included. What is gone already is a success.
    pub async fn remove(&self, application: ApplicationId, namespace: &str, fence: &Fence) -> Result<(), VaultError> {
        for (what, path) in [
            (
                "remove a login role",
                format!("auth/{}/role/{namespace}", self.settings.auth_mount),
            ),
            ("remove a policy", format!("sys/policies/acl/{namespace}")),
            ("remove secrets", self.path("metadata", application)),
        ] {
            self.call(fence, what, Method::DELETE, &path, None).await?;
        }
        Ok(())
    }

    fn path(&self, kind: &str, application: ApplicationId) -> String {
        format!("{}/{kind}/applications/{application}", self.settings.mount)
    }

    async fn call(
        &self,
        fence: &Fence,
        what: &'static str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Option<Value>, VaultError> {
        match fence.call(CALL, self.send(what, method, path, body)).await {
            Ok(answer) => answer,
            Err(CallError::Fenced(fenced)) => Err(fenced.into()),
            Err(CallError::TimedOut(_)) => Err(VaultError::TimedOut { what }),
        }
    }

    /// `None` where there is nothing.
    async fn send(
        &self,
        what: &'static str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Option<Value>, VaultError> {
        let sent = self.wire.send(method, path, body).await;
        let (status, answer) = sent.map_err(|source| VaultError::Unavailable { what, source })?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::NO_CONTENT => Ok(Some(Value::Null)),
            status if status.is_success() => Ok(Some(answer.unwrap_or_default())),
            status => Err(VaultError::Answered { what, status }),
        }
    }
}
