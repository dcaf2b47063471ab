//! The records that the edge decides by, and how they come from rows.
//!
//! Times are milliseconds since the Unix epoch: the edge compares them with its clock on every request. Unknown fields are
//! ignored and absent ones have defaults, so that programs of neighbouring releases understand each other.

use std::net::SocketAddr;

use authsome_core::{
    id::{ApplicationId, KeyId, WorkspaceId},
    key::{Digest, KeyType},
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    AppStatus, CachePolicy, CachePurges, Environment, InstanceTls, LimitOverride, PathRule, Plan, Scopes, Serve,
    Version, WorkspaceStatus,
};

/// An API key, found by the SHA-256 of its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRecord {
    /// SHA-256 of the key; its name everywhere.
    pub digest: Digest,
    /// Id of the key.
    pub id: KeyId,
    /// The application it opens.
    pub application_id: ApplicationId,
    /// Public or secret.
    #[serde(rename = "type")]
    pub key_type: KeyType,
    /// What a secret key may do.
    pub scopes: Scopes,
    /// Usable, disabled or revoked.
    pub state: KeyState,
    /// The instant from which it is dead, by the clock alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
    /// Networks that may use it; empty is any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
    /// Browser origins that may use a public key; empty is what the application allows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
    /// Version of the row.
    pub version: Version,
}

/// Whether a key opens anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// It does.
    Active,
    /// Switched off; can be switched on.
    Disabled,
    /// Dead for good.
    Revoked,
}

impl KeyRecord {
    /// Does the key open its application at `now_ms`? Revocation and expiry are both checked.
    pub fn is_usable(&self, now_ms: i64) -> bool {
        self.state == KeyState::Active && self.expires_at_ms.is_none_or(|at| now_ms < at)
    }
}

/// An application as the edge sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppRecord {
    /// Id of the application.
    pub id: ApplicationId,
    /// The workspace that pays.
    pub workspace_id: WorkspaceId,
    /// Production, staging or development.
    pub environment: Environment,
    /// Home region.
    pub region: String,
    /// Forward, or refuse and why.
    pub serve: Serve,
    /// Addresses of its instances.
    #[serde(default)]
    pub endpoints: Vec<SocketAddr>,
    /// Prefix that the instance serves below; empty or `/…` without a slash at the end.
    #[serde(default)]
    pub base_path: String,
    /// Plan of the workspace; the limits follow from it.
    pub plan: Plan,
    /// The month's requests are used up.
    #[serde(default)]
    pub quota_exhausted: bool,
    /// Exact browser origins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
    /// The application's own path classes, before the defaults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path_policy: Vec<PathRule>,
    /// Credentials of the instance, sealed under the edge's ring (base64).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge_credentials: Option<String>,
    /// Seconds for which secret keys may be decided by a table that no heartbeat vouched for; after them they fail closed.
    /// `None`: for as long as the edge serves what it last knew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict_seconds: Option<u32>,
    /// Secret keys may come with the marks of a browser (`Origin`, `Sec-Fetch-Site`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret_from_browsers: bool,
    /// Limits of a contract, before those of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitOverride>,
    /// What the response cache may do.
    #[serde(default, skip_serializing_if = "CachePolicy::is_default")]
    pub cache_policy: CachePolicy,
    /// What was thrown away of it.
    #[serde(default, skip_serializing_if = "CachePurges::is_empty")]
    pub cache_purges: CachePurges,
    /// `name:port` of a headless Service whose addresses are instances, beside [`Self::endpoints`]. The edge resolves it
    /// outside of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_service: Option<String>,
    /// The instances speak TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_tls: Option<InstanceTls>,
    /// Version of the row.
    pub version: Version,
}

/// A host name that leads to an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostRecord {
    /// Lower-case host name without port.
    pub host: String,
    /// The application it leads to.
    pub application_id: ApplicationId,
    /// Version of the row.
    pub version: Version,
}

/// A row of the view `edge_apps`, as its columns come.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the view, documented there")]
pub struct AppRow {
    pub id: ApplicationId,
    pub workspace_id: WorkspaceId,
    pub epoch: i64,
    pub version: i64,
    pub environment: String,
    pub region: String,
    pub status: String,
    pub activated: bool,
    pub endpoints: Vec<String>,
    pub base_path: String,
    pub edge_credentials: Option<Vec<u8>>,
    pub origins: Vec<String>,
    pub path_policy: serde_json::Value,
    pub quota_exhausted: bool,
    pub strict_seconds: Option<i32>,
    pub secret_from_browsers: bool,
    pub edge_limits: Option<serde_json::Value>,
    pub cache_policy: serde_json::Value,
    pub cache_purges: serde_json::Value,
    pub instance_service: Option<String>,
    pub instance_tls: Option<serde_json::Value>,
    pub plan: String,
    pub workspace_status: String,
}

/// A row of the view `edge_keys`, as its columns come.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the view, documented there")]
pub struct KeyRow {
    pub digest: Vec<u8>,
    pub id: KeyId,
    pub application_id: ApplicationId,
    pub r#type: String,
    pub epoch: i64,
    pub version: i64,
    pub scopes: Vec<String>,
    pub networks: Vec<String>,
    pub origins: Vec<String>,
    pub enabled: bool,
    pub expires_at_ms: Option<i64>,
    pub revoked: bool,
}

/// A row of the view `edge_hosts`, as its columns come.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the view, documented there")]
pub struct HostRow {
    pub host: String,
    pub application_id: ApplicationId,
    pub epoch: i64,
    pub version: i64,
}

impl HostRow {
    /// The record. Nothing in the row can be wrong.
    pub fn into_record(self) -> HostRecord {
        HostRecord {
            host: self.host,
            application_id: self.application_id,
            version: Version::from_columns(self.epoch, self.version),
        }
    }
}

/// A row that this release cannot understand. The record is not served; an operator must look.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{table} {row}: column {column} is not understood: {detail}")]
pub struct InconsistentRow {
    table: &'static str,
    row: String,
    column: &'static str,
    detail: String,
}

impl AppRow {
    /// The record, or which column is wrong.
    pub fn into_record(self) -> Result<AppRecord, InconsistentRow> {
        let id = self.id;
        let wrong = |column: &'static str, detail: &dyn std::fmt::Display| InconsistentRow {
            table: "application",
            row: id.to_string(),
            column,
            detail: detail.to_string(),
        };
        let status: AppStatus = self.status.parse().map_err(|e| wrong("status", &e))?;
        let workspace: WorkspaceStatus = self
            .workspace_status
            .parse()
            .map_err(|e| wrong("workspace_status", &e))?;
        let endpoints = self
            .endpoints
            .iter()
            .map(|text| text.parse())
            .collect::<Result<Vec<SocketAddr>, _>>();
        Ok(AppRecord {
            id,
            workspace_id: self.workspace_id,
            environment: self.environment.parse().map_err(|e| wrong("environment", &e))?,
            region: self.region,
            serve: status.serve(self.activated, workspace),
            endpoints: endpoints.map_err(|e| wrong("endpoints", &e))?,
            base_path: self.base_path,
            plan: self.plan.parse().map_err(|e| wrong("plan", &e))?,
            quota_exhausted: self.quota_exhausted,
            origins: self.origins,
            path_policy: serde_json::from_value(self.path_policy).map_err(|e| wrong("path_policy", &e))?,
            edge_credentials: self
                .edge_credentials
                .map(|sealed| base64::Engine::encode(&BASE64, sealed)),
            strict_seconds: self
                .strict_seconds
                .map(u32::try_from)
                .transpose()
                .map_err(|e| wrong("strict_seconds", &e))?,
            secret_from_browsers: self.secret_from_browsers,
            limits: self
                .edge_limits
                .map(serde_json::from_value)
                .transpose()
                .map_err(|e| wrong("edge_limits", &e))?,
            cache_policy: serde_json::from_value(self.cache_policy).map_err(|e| wrong("cache_policy", &e))?,
            cache_purges: serde_json::from_value(self.cache_purges).map_err(|e| wrong("cache_purges", &e))?,
            instance_service: self.instance_service,
            instance_tls: self
                .instance_tls
                .map(serde_json::from_value)
                .transpose()
                .map_err(|e| wrong("instance_tls", &e))?,
            version: Version::from_columns(self.epoch, self.version),
        })
    }
}

impl KeyRow {
    /// The record, or which column is wrong.
    pub fn into_record(self) -> Result<KeyRecord, InconsistentRow> {
        let id = self.id;
        let wrong = |column: &'static str, detail: &dyn std::fmt::Display| InconsistentRow {
            table: "key",
            row: id.to_string(),
            column,
            detail: detail.to_string(),
        };
        let state = match (self.revoked, self.enabled) {
            (true, _) => KeyState::Revoked,
            (false, false) => KeyState::Disabled,
            (false, true) => KeyState::Active,
        };
        let networks = self
            .networks
            .iter()
            .map(|text| text.parse())
            .collect::<Result<Vec<IpNet>, _>>();
        Ok(KeyRecord {
            digest: Digest::try_from(self.digest.as_slice()).map_err(|e| wrong("digest", &e))?,
            id,
            application_id: self.application_id,
            key_type: self.r#type.parse().map_err(|e| wrong("type", &e))?,
            scopes: Scopes::from_names(&self.scopes).map_err(|e| wrong("scopes", &e))?,
            state,
            expires_at_ms: self.expires_at_ms,
            networks: networks.map_err(|e| wrong("networks", &e))?,
            origins: self.origins,
            version: Version::from_columns(self.epoch, self.version),
        })
    }
}

const BASE64: base64::engine::GeneralPurpose = base64::engine::general_purpose::STANDARD;

#[cfg(test)]
mod tests;
