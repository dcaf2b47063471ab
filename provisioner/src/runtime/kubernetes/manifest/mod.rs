//! What a cluster is given for an application: pure functions from an application and the settings to objects.
//!
//! Manifests are JSON, as Kubernetes documents itself, and hold nothing but the fields that are ours: whatever is absent
//! belongs to the cluster or to others. Tests put every one of them through the typed API, which knows no unknown field, and
//! through the published schemas. Amounts are written as an API server writes them, so that what comes back is comparable.

mod config;
mod data;
mod fleet;
mod identity;
mod monitoring;
mod namespace;
mod network;
mod scaling;
mod service;
mod template;
mod workload;

use ring::digest;
use serde_json::{Map, Value, json};

pub use config::{DATABASE_CA_PATH, Environment, VAULT_CA, config_map, secret, vault_ca, vault_document};
pub use data::{postgres, redis};
pub use fleet::{DASHBOARD, fleet};
pub use identity::{Limits, Unusable, is_image_reference};
pub use monitoring::service_monitor;
pub(super) use namespace::DedicatedServers;
pub use namespace::namespace;
pub use network::policies;
pub use scaling::{autoscaler, disruption_budget};
pub use service::service;
pub(super) use template::is_injected;
pub use workload::{deployment, migration, migration_name};

use super::kind::Kind;
use super::settings::{Server, Settings};
use crate::runtime::Site;

/// The field manager of everything that is applied.
pub const MANAGER: &str = "authsome-provisioner";
/// The one name of everything that an application has one of; its namespace tells applications apart.
pub const NAME: &str = "authsome";
/// The dedicated Postgres of an application.
pub const POSTGRES: &str = "postgres";
/// The dedicated Redis of an application.
pub const REDIS: &str = "redis";

/// The application that an object belongs to.
pub const APP_LABEL: &str = "authsome.cloud/app-id";
/// What a pod is: `instance`, `migration`, `postgres`, `redis`.
pub const COMPONENT_LABEL: &str = "authsome.cloud/component";
/// Who keeps an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// On a pod: the generation of the intent that it was made for.
pub const GENERATION: &str = "authsome.cloud/generation";
/// On a pod: SHA-256 of the configuration and secrets that it was started with.
pub const CONFIG_HASH: &str = "authsome.cloud/config-hash";
/// On an object: SHA-256 of the manifest that was applied last.
pub const MANIFEST_HASH: &str = "authsome.cloud/manifest-hash";
/// On a namespace: where the dashboard shows its application.
pub const DASHBOARD_LINK: &str = "authsome.cloud/dashboard";

/// The parts of an application that have pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The AuthSome instance.
    Instance,
    /// The one-off job that prepares the schema.
    Migration,
    /// Dedicated Postgres.
    Postgres,
    /// Dedicated Redis.
    Redis,
}

impl Component {
    /// Its label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Migration => "migration",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }
}

/// An application and what manifests depend on besides it.
#[derive(Clone, Copy)]
pub struct Spec<'a> {
    /// The application.
    pub site: &'a Site,
    /// The installation.
    pub settings: &'a Settings,
}

impl Spec<'_> {
    /// Labels of every object of the application.
    pub fn labels(&self) -> Map<String, Value> {
        let site = self.site;
        [
            ("app.kubernetes.io/name", NAME.to_owned()),
            ("app.kubernetes.io/part-of", "authsome-cloud".to_owned()),
            (MANAGED_BY, MANAGER.to_owned()),
            (APP_LABEL, site.application.to_string()),
            ("authsome.cloud/workspace-id", site.workspace.to_string()),
            ("authsome.cloud/plan", site.plan.to_string()),
            ("authsome.cloud/environment", site.environment.to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect()
    }

    /// Where the application's Postgres is.
    pub fn database(&self) -> &Server {
        let own = self.settings.own_database.as_ref().filter(|_| self.site.own_database);
        own.unwrap_or(&self.settings.database)
    }

    /// Where the application's Redis is.
    pub fn redis(&self) -> &Server {
        let own = self.settings.own_redis.as_ref().filter(|_| self.site.own_redis);
        own.unwrap_or(&self.settings.redis)
    }

    /// Labels of a component's pods.
    pub fn component_labels(&self, component: Component) -> Map<String, Value> {
        let mut labels = self.labels();
        labels.insert(COMPONENT_LABEL.to_owned(), component.as_str().into());
        labels
    }

    fn manifest(&self, kind: Kind, name: &str, body: Value) -> Manifest {
        Manifest::new(kind, Some(&self.site.namespace), name, &self.labels(), body)
    }

    fn component(&self, kind: Kind, name: &str, component: Component, body: Value) -> Manifest {
        let labels = self.component_labels(component);
        Manifest::new(kind, Some(&self.site.namespace), name, &labels, body)
    }
}

/// What selects the pods of a component within a namespace. Selectors of workloads can never change: keep it as it is.
fn selector(component: Component) -> Value {
    json!({ "app.kubernetes.io/name": NAME, COMPONENT_LABEL: component.as_str() })
}

/// One object as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// What it is.
    pub kind: Kind,
    /// Where it is; `None` for what has no namespace.
    pub namespace: Option<String>,
    /// Its name there.
    pub name: String,
    /// The whole of it, with `apiVersion`, `kind` and `metadata`.
    pub body: Value,
}

impl Manifest {
    /// `body` is everything but `apiVersion`, `kind` and `metadata`. Its hash goes into an annotation.
    pub fn new(kind: Kind, namespace: Option<&str>, name: &str, labels: &Map<String, Value>, body: Value) -> Self {
        let namespace = namespace.filter(|_| kind.is_namespaced()).map(str::to_owned);
        let mut whole = json!({
            "apiVersion": kind.api_version(),
            "kind": kind.name(),
            "metadata": { "name": name, "labels": labels },
        });
        if let Some(namespace) = &namespace {
            whole["metadata"]["namespace"] = namespace.as_str().into();
        }
        if let (Value::Object(whole), Value::Object(body)) = (&mut whole, body) {
            whole.extend(body);
        }
        let manifest = Self {
            kind,
            namespace,
            name: name.to_owned(),
            body: whole,
        };
        manifest.stamped()
    }

    /// With one more annotation.
    #[must_use]
    pub fn annotated(mut self, name: &str, value: &str) -> Self {
        self.body["metadata"]["annotations"][name] = value.into();
        self.stamped()
    }

    /// With more labels.
    #[must_use]
    pub fn labelled<'a>(mut self, labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        for (name, value) in labels {
            self.body["metadata"]["labels"][name] = value.into();
        }
        self.stamped()
    }

    /// The hash of the manifest, for comparison with what was applied last.
    pub fn hash(&self) -> &str {
        self.body["metadata"]["annotations"][MANIFEST_HASH]
            .as_str()
            .unwrap_or("")
    }

    fn stamped(mut self) -> Self {
        if let Some(annotations) = self.body["metadata"]
            .get_mut("annotations")
            .and_then(Value::as_object_mut)
        {
            annotations.remove(MANIFEST_HASH);
        }
        let hash = hash(&self.body);
        self.body["metadata"]["annotations"][MANIFEST_HASH] = hash.into();
        self
    }

    /// What it is and where, for the log.
    pub fn what(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} {namespace}/{}", self.kind.name(), self.name),
            None => format!("{} {}", self.kind.name(), self.name),
        }
    }
}

/// SHA-256 of a document, in hexadecimal, its first 32 digits. (`serde_json` keeps members sorted, so equal documents have
/// equal texts.) What holds secrets holds 256 random bits with them, so nothing can be guessed from it.
pub fn hash(document: &Value) -> String {
    use std::fmt::Write;
    let digest = digest::digest(&digest::SHA256, document.to_string().as_bytes());
    digest.as_ref()[..16]
        .iter()
        .fold(String::with_capacity(32), |mut text, byte| {
            // Writing into a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
