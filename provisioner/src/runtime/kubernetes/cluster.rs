//! The calls that change something in one cluster: each bounded in time, and under the application's lease where they are about
//! one.
//!
//! Owns the client and the store that the watches and the answers to our own calls fill. An API server that is away makes
//! calls end in [`ClusterError::Unavailable`] or [`ClusterError::TimedOut`]; what runs in the cluster runs on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, ValidationDirective};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::json;

use super::compare;
use super::error::ClusterError;
use super::kind::Kind;
use super::manifest::{MANAGER, Manifest, NAME};
use super::store::{self, Store};
use crate::lease::Fence;
use crate::runtime::Site;

/// How long one call may take.
pub(super) const CALL: Duration = Duration::from_secs(10);
/// The field manager of the number of replicas, which is set apart from everything else: at the start, at a stop and at a
/// resume. In between it is the autoscaler's.
const SCALER: &str = "authsome-provisioner-scale";

/// Where the address and credentials of a cluster are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The cluster that this process runs in, by its service account.
    InCluster,
    /// A kubeconfig file, with the context to use if it is not the current one.
    File {
        /// Its path.
        path: std::path::PathBuf,
        /// The context.
        context: Option<String>,
    },
}

/// One cluster.
pub struct Cluster {
    pub(super) client: Client,
    /// What there is in it.
    pub store: Arc<Store>,
}

impl Cluster {
    /// A client for the cluster; nothing is asked of it yet. Needs a tokio runtime.
    pub async fn open(source: &Source) -> Result<Self, ClusterError> {
        let unusable = |error: &dyn std::error::Error| ClusterError::Config(error.to_string());
        let mut config = match source {
            Source::InCluster => Config::incluster().map_err(|error| unusable(&error))?,
            Source::File { path, context } => file(path, context.as_deref()).await?,
        };
        config.connect_timeout = Some(CALL / 2);
        config.write_timeout = Some(CALL);
        // A watch is silent for as long as nothing happens, but for a bookmark about every minute.
        config.read_timeout = Some(Duration::from_mins(5));
        let client = Client::try_from(config).map_err(|error| unusable(&error))?;
        Ok(Self::new(client))
    }

    /// With a client of the caller's.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            store: Arc::default(),
        }
    }

    pub(super) fn api(&self, kind: Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = kind.resource();
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    async fn call<T>(
        fence: Option<&Fence>,
        what: impl Fn() -> String,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ClusterError> {
        let Some(fence) = fence else {
            return Self::bounded(what, call).await;
        };
        match fence.call(CALL, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(ClusterError::from_kube(what(), error)),
            Err(error) => Err(ClusterError::from_call(what(), error)),
        }
    }

    /// Makes an object as its manifest says. Fields of the manifest that somebody else changed are taken back; that is said,
    /// and tried without force first, so that it happens knowingly. Without a fence only for what is no application's.
    pub async fn apply<'a>(
        &self,
        manifest: &Manifest,
        fence: impl Into<Option<&'a Fence>>,
    ) -> Result<(), ClusterError> {
        let fence = fence.into();
        let api = self.api(manifest.kind, manifest.namespace.as_deref());
        let mut parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::default()
        };
        let patch = Patch::Apply(&manifest.body);
        let what = || format!("apply {}", manifest.what());
        let applied = match Self::call(fence, what, api.patch(&manifest.name, &parameters, &patch)).await {
            Err(ClusterError::Refused { code: 409, message, .. }) => {
                tracing::warn!(
                    object = manifest.what(),
                    message,
                    "somebody changed what is ours; taking it back"
                );
                parameters.force = true;
                Self::call(fence, what, api.patch(&manifest.name, &parameters, &patch)).await?
            }
            applied => applied?,
        };
        self.store.answered(manifest.kind, &applied);
        Ok(())
    }

    /// Waits until the store satisfies a condition; false if it did not within `limit`.
    pub async fn until(&self, limit: Duration, holds: impl Fn() -> bool) -> bool {
        let waiting = async {
            loop {
                let changed = self.store.changed.notified();
                if holds() {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, waiting).await.is_ok()
    }

    /// Applies what differs from what was seen, in order. Returns how many were applied.
    pub async fn apply_all(&self, manifests: &[Manifest], fence: &Fence) -> Result<usize, ClusterError> {
        let mut applied = 0;
        for manifest in manifests {
            if self.difference(manifest).is_some() {
                self.apply(manifest, fence).await?;
                applied += 1;
            }
        }
        Ok(applied)
    }

    /// What of an object differs from its manifest; `None` where nothing does.
    pub fn difference(&self, manifest: &Manifest) -> Option<String> {
        let place = manifest.namespace.as_deref().unwrap_or(&manifest.name);
        let Some(seen) = self.store.get(manifest.kind, place, &manifest.name) else {
            return Some(format!("{} is missing", manifest.what()));
        };
        if seen.deleting {
            return Some(format!("{} is being deleted", manifest.what()));
        }
        let mut wanted = manifest.body.clone();
        if let Some(members) = wanted.as_object_mut() {
            for implied in ["apiVersion", "kind"] {
                members.remove(implied);
            }
            if let Some(metadata) = members.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
                metadata.remove("name");
                metadata.remove("namespace");
            }
            if manifest.kind == Kind::Secret
                && let Some(data) = members.get_mut("data")
            {
                *data = store::hashed(data);
            }
        }
        let differences = compare::differences(&wanted, &seen.body);
        (!differences.is_empty()).then(|| format!("{} differs at {}", manifest.what(), differences.join(", ")))
    }

    /// What differs of a part of an application; remembered while nothing changes.
    pub fn compared(&self, part: &'static str, site: &Site, fingerprint: &str, manifests: &[Manifest]) -> Vec<String> {
        let store = &self.store;
        let changes = store.changes(&site.namespace);
        let differences: Vec<String> = manifests.iter().filter_map(|one| self.difference(one)).collect();
        if differences.is_empty() {
            store.verified(&site.namespace, part, fingerprint, changes);
        }
        differences
    }

    /// Sets the number of replicas of an application's instances.
    pub async fn scale(&self, namespace: &str, replicas: u32, fence: &Fence) -> Result<(), ClusterError> {
        let api = self.api(Kind::Deployment, Some(namespace));
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let parameters = PatchParams {
            field_manager: Some(SCALER.to_owned()),
            ..PatchParams::default()
        };
        let what = || format!("scale {namespace}/{NAME} to {replicas}");
        let scaled = Self::call(Some(fence), what, api.patch(NAME, &parameters, &patch)).await?;
        self.store.answered(Kind::Deployment, &scaled);
        Ok(())
    }

    /// Deletes an object, and none of the same name that came after the one that was seen: a deletion that arrives late, when
    /// another worker has made it anew, is refused. What is gone already is a success; that it is gone in the end is for the
    /// watch to say.
    pub async fn delete(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        name: &str,
        fence: &Fence,
    ) -> Result<(), ClusterError> {
        let api = self.api(kind, namespace);
        let what = || format!("delete {} {}/{name}", kind.name(), namespace.unwrap_or_default());
        let seen = self.store.get(kind, namespace.unwrap_or(name), name);
        let mut parameters = DeleteParams::background();
        parameters.preconditions = seen.and_then(|seen| seen.uid).map(|uid| Preconditions {
            uid: Some(uid.to_string()),
            resource_version: None,
        });
        match Self::call(Some(fence), what, api.delete(name, &parameters)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_absent() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

async fn file(path: &Path, context: Option<&str>) -> Result<Config, ClusterError> {
    let unusable = |error: &dyn std::error::Error| ClusterError::Config(error.to_string());
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| unusable(&error))?;
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| unusable(&error))
}

/// What the site's parts depend on besides the workload, for remembering what was compared.
pub(super) fn fingerprint(site: &Site) -> String {
    format!(
        "{} {} {} {} {} {:?} {} {} {}",
        site.plan,
        site.environment,
        site.cpu,
        site.memory,
        site.storage,
        site.image,
        site.base_path,
        site.own_database,
        site.own_redis
    )
}
