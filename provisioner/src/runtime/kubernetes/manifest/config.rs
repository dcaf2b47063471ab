//! What an instance is told: its configuration in a ConfigMap, its secrets in a Secret or in Vault.

use std::collections::BTreeMap;

use authsome_core::secret::{ExposeSecret, SecretString};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::super::kind::Kind;
use super::super::settings::Vault;
use super::{Component, Manifest, NAME, Spec, Unusable, hash};
use crate::runtime::Workload;

/// The file of the configuration within its ConfigMap. What it holds is JSON, which is YAML too.
pub(super) const CONFIG_FILE: &str = "config.yaml";
/// The file of what the certificate of the shared Postgres is checked against, within the same ConfigMap.
pub(super) const DATABASE_CA_FILE: &str = "database-ca.crt";
/// Where instances find it.
pub(super) const DATABASE_CA_DIRECTORY: &str = "/etc/authsome-database";
/// The whole of that.
pub const DATABASE_CA_PATH: &str = "/etc/authsome-database/database-ca.crt";
/// A ConfigMap holds a mebibyte at most.
const LARGEST: usize = 900 * 1024;

/// The secret part of an instance's environment. Not for logs: it is never printed.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, SecretString>);

impl Environment {
    /// Everything secret that a workload is given. The platform's own names win over those of a team.
    pub fn of(workload: &Workload) -> Self {
        let own = [
            ("DATABASE_URL", workload.database_url.expose().to_owned()),
            ("REDIS_URL", workload.redis_url.expose().to_owned()),
        ];
        let given = workload.secrets.iter();
        let mut all: BTreeMap<_, _> = given.map(|(name, value)| (name.to_string(), value.clone())).collect();
        all.extend(own.map(|(name, value)| (name.to_owned(), SecretString::from(value))));
        Self(all)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// As a JSON object. It holds the secrets: for the one request that stores them.
    pub fn document(&self) -> Value {
        let members = self
            .0
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.expose_secret())));
        Value::Object(members.collect())
    }

    /// What changes when any of them changes. They hold a generated password, so it gives nothing away.
    pub fn hash(&self) -> String {
        hash(&self.document())
    }
}

/// What Vault is given to keep.
pub fn vault_document(environment: &Environment) -> Value {
    json!({ "data": environment.document() })
}

/// The configuration.
pub fn config_map(spec: &Spec<'_>, config: &Value) -> Result<Manifest, Unusable> {
    if !config.is_object() {
        return Err(Unusable::Config("is not a JSON object"));
    }
    let text = format!("{config:#}\n");
    let authority = database_ca(spec);
    if text.len() + authority.map_or(0, str::len) > LARGEST {
        return Err(Unusable::Config("is larger than 900 KiB"));
    }
    let mut body = json!({ "data": { CONFIG_FILE: text } });
    if let Some(authority) = authority {
        body["data"][DATABASE_CA_FILE] = authority.into();
    }
    Ok(spec.component(Kind::ConfigMap, NAME, Component::Instance, body))
}

/// What an application's instances check their Postgres against. One of an application's own has no certificate: only its
/// instances reach it.
pub(super) fn database_ca<'a>(spec: &Spec<'a>) -> Option<&'a str> {
    let authority = spec.settings.database_ca.as_deref();
    authority.filter(|_| !spec.site.own_database)
}

/// The Secret from which the Agent reads what it checks Vault's certificate against. Nothing in it is secret; the injector mounts no
/// other kind.
pub const VAULT_CA: &str = "authsome-vault-ca";
/// The file in it, and where the injector mounts it
/// (<https://developer.hashicorp.com/vault/docs/platform/k8s/injector/annotations>, `tls-secret`).
pub(super) const VAULT_CA_FILE: &str = "ca.crt";
/// The whole of that.
pub(super) const VAULT_CA_PATH: &str = "/vault/tls/ca.crt";

/// What the Agent checks Vault's certificate against, where the system does not know it.
pub fn vault_ca(spec: &Spec<'_>, vault: &Vault) -> Option<Manifest> {
    let authority = vault.ca.as_ref()?;
    let body = json!({ "type": "Opaque", "data": { VAULT_CA_FILE: STANDARD.encode(authority) } });
    Some(spec.component(Kind::Secret, VAULT_CA, Component::Instance, body))
}

/// The secrets, where the cluster keeps them.
pub fn secret(spec: &Spec<'_>, environment: &Environment) -> Manifest {
    let data: Map<String, Value> = environment
        .0
        .iter()
        .map(|(name, value)| (name.clone(), STANDARD.encode(value.expose_secret()).into()))
        .collect();
    let body = json!({ "type": "Opaque", "data": data });
    spec.component(Kind::Secret, NAME, Component::Instance, body)
}
