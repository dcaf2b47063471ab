//! The runtime of production: every application is a namespace in a cluster, with everything in it.
//!
//! Owns the manifests, the calls that apply them and the watches that say what there is. Everything is server-side applied by
//! one field manager: fields that others set stay theirs, and the number of replicas is the autoscaler's. When the API server
//! is away nothing is changed and what runs goes on; a look then answers from what was last seen.

mod cluster;
mod compare;
mod dedicated;
mod error;
mod fleet;
mod hindrance;
mod kind;
mod logs;
mod look;
pub mod manifest;
mod migration;
mod monitors;
mod namespace;
mod preflight;
mod quantity;
mod rollout;
mod room;
mod settings;
mod store;
mod trouble;
mod vanishing;
mod vault;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use authsome_contract::model::Step;
use authsome_contract::wire::LogPage;
use authsome_core::id::ApplicationId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use cluster::{Cluster, Source};
pub use error::ClusterError;
pub use kind::Kind;
pub use manifest::{Manifest, Spec, Unusable};
pub use quantity::Quantity;
pub use settings::{Image, Monitoring, Pods, Secrets, Server, Settings, Vault};
pub use vault::{VaultClient, VaultError};

use super::{Container, OwnServers, Patience, Placement, Runtime, RuntimeError, Site, Trouble, Workload};
use crate::instance_logs::LogQuery;
use crate::redaction::{Redaction, excerpt};
use crate::step::Outcome;
use manifest::{Environment, Limits, NAME};
use monitors::Monitors;
use room::LastNodes;

/// Instances that always run.
const FLOOR: u32 = 2;
/// For how long a cluster that was found usable is not asked again. What it refuses in between, a later step says.
const STILL_USABLE: Duration = Duration::from_secs(30);
/// How long the first listing may take before a look says that nothing is known.
const WARM_UP: Duration = Duration::from_secs(8);
/// How long pods may take to end: their grace and a little. The lease is renewed meanwhile.
const ENDING: Duration = Duration::from_secs(75);

/// The namespace of an application.
pub fn namespace_of(application: ApplicationId) -> String {
    format!("authsome-app-{}", application.suffix())
}

/// One cluster, as a place where instances run. Dropping it ends its watches.
pub struct KubernetesRuntime {
    cluster: Arc<Cluster>,
    settings: Settings,
    vault: Option<Arc<VaultClient>>,
    patience: Patience,
    monitors: Arc<Monitors>,
    nodes: LastNodes,
    /// When the cluster was last found usable.
    checked: Mutex<Option<Instant>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Drop for KubernetesRuntime {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl KubernetesRuntime {
    /// Begins to watch the cluster. Needs a tokio runtime.
    pub fn start(cluster: Cluster, settings: Settings, patience: Patience) -> Result<Self, RuntimeError> {
        let vault = match &settings.secrets {
            Secrets::Kubernetes => None,
            Secrets::Vault(vault) => Some(Arc::new(VaultClient::new(vault.clone())?)),
        };
        let cluster = Arc::new(cluster);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let runtime = Self {
            monitors: Monitors::new(&cluster, &settings, &tasks, &stop),
            cluster,
            settings,
            vault,
            patience,
            nodes: LastNodes::default(),
            checked: Mutex::default(),
            tasks,
            stop,
        };
        watch::begin(&runtime.cluster, &watch::STANDARD, &runtime.tasks, &runtime.stop);
        if let Some(vault) = &runtime.vault {
            let patrol = vault::patrol(Arc::clone(vault), Arc::clone(&runtime.cluster.store));
            let stop = runtime.stop.clone();
            runtime
                .tasks
                .spawn(async move { stop.run_until_cancelled(patrol).await });
        }
        Ok(runtime)
    }

    /// The cluster.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    fn spec<'a>(&'a self, site: &'a Site) -> Spec<'a> {
        Spec {
            site,
            settings: &self.settings,
        }
    }

    /// Waits until everything was listed once.
    async fn warm(&self) -> Result<(), ClusterError> {
        let listed = async {
            while !self.cluster.store.has_listed(&watch::STANDARD) {
                let changed = self.cluster.store.changed.notified();
                if self.cluster.store.has_listed(&watch::STANDARD) {
                    break;
                }
                changed.await;
            }
        };
        tokio::time::timeout(WARM_UP, listed)
            .await
            .map_err(|_| ClusterError::Warming)
    }

    fn namespace_manifests(&self, site: &Site) -> Result<Vec<Manifest>, Unusable> {
        let spec = self.spec(site);
        let mut all = manifest::namespace(&spec)?;
        all.extend(manifest::policies(&spec));
        Ok(all)
    }

    fn instance_manifests(&self, workload: &Workload) -> Result<Vec<Manifest>, Unusable> {
        let spec = self.spec(&workload.site);
        let mut all = vec![manifest::config_map(&spec, &workload.config)?];
        match &self.settings.secrets {
            Secrets::Kubernetes => all.push(manifest::secret(&spec, &Environment::of(workload))),
            Secrets::Vault(vault) => all.extend(manifest::vault_ca(&spec, vault)),
        }
        all.extend([
            manifest::service(&spec),
            manifest::deployment(&spec, workload)?,
            manifest::autoscaler(&spec)?,
            manifest::disruption_budget(&spec),
        ]);
        Ok(all)
    }

    fn replicas(&self, namespace: &str) -> Option<u64> {
        let deployment = self.cluster.store.get(Kind::Deployment, namespace, NAME)?;
        deployment.body["spec"]["replicas"].as_u64()
    }

    /// Does the cluster keep secrets of before Vault did, that no instance reads any more?
    fn keeps_former_secrets(&self, namespace: &str) -> bool {
        let store = &self.cluster.store;
        let pods = store.list(Kind::Pod, namespace);
        let mut instances = pods.iter().filter(|(_, pod)| rollout::is_instance(&pod.body));
        self.vault.is_some()
            && store.get(Kind::Secret, namespace, NAME).is_some()
            && instances.all(|(_, pod)| manifest::is_injected(&pod.body))
    }

    /// Are there pods of the instance that have not ended? Dedicated servers and migrations are not counted.
    fn has_instances(&self, namespace: &str) -> bool {
        let pods = self.cluster.store.list(Kind::Pod, namespace);
        pods.iter()
            .any(|(_, pod)| rollout::is_instance(&pod.body) && !rollout::is_over(&pod.body))
    }
}

const NAMESPACE: &str = "namespace";
const INSTANCE: &str = "instance";
const MONITORING: &str = "monitoring";

#[async_trait]
impl Runtime for KubernetesRuntime {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn own_servers(&self) -> OwnServers {
        let (cluster, settings) = (&self.cluster, &self.settings);
        OwnServers {
            database: dedicated::postgres(cluster, settings),
            redis: dedicated::redis(cluster, settings),
        }
    }

    fn image(&self) -> Option<&str> {
        Some(&self.settings.image.reference)
    }

    fn skips(&self, step: Step) -> Option<&'static str> {
        match step {
            Step::Migrate if self.settings.image.migrate_command.is_empty() => {
                Some("The instance prepares its own schema when it starts; its health check proves it.")
            }
            Step::Bootstrap if self.settings.image.bootstrap_path.is_none() => {
                Some("The image offers no credentials of its own.")
            }
            Step::Monitoring if !self.settings.monitoring.enabled => {
                Some("Monitoring is not set up in this installation.")
            }
            Step::Monitoring if self.monitors.are_absent() => Some(monitors::ABSENT),
            _ => None,
        }
    }

    fn bootstrap_path(&self) -> Option<&str> {
        self.settings.image.bootstrap_path.as_deref()
    }

    fn patience(&self) -> Patience {
        self.patience
    }

    async fn check(&self) -> Result<(), RuntimeError> {
        // Many operations at a time need not each ask for every permission.
        let last = *self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|at| at.elapsed() >= STILL_USABLE) {
            preflight::check(&self.cluster, &self.settings).await?;
            if let Some(vault) = &self.vault {
                vault.check().await?;
            }
            *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        Ok(self.warm().await?)
    }

    fn is_verified(&self, step: Step, site: &Site) -> bool {
        let store = &self.cluster.store;
        let part = match step {
            Step::Namespace => NAMESPACE,
            Step::Monitoring => MONITORING,
            _ => {
                let fingerprint = format!("{} {}", site.generation, cluster::fingerprint(site));
                return store.is_verified(&site.namespace, INSTANCE, &fingerprint);
            }
        };
        store.is_verified(&site.namespace, part, &cluster::fingerprint(site))
    }

    async fn lacks(&self, step: Step, site: &Site) -> Result<Vec<String>, RuntimeError> {
        self.warm().await?;
        let fingerprint = cluster::fingerprint(site);
        match step {
            Step::Namespace => {
                let manifests = self.namespace_manifests(site)?;
                Ok(self.cluster.compared(NAMESPACE, site, &fingerprint, &manifests))
            }
            Step::Monitoring if self.monitors.are_there().await? => {
                let monitor = manifest::service_monitor(&self.spec(site));
                Ok(self.cluster.compared(MONITORING, site, &fingerprint, &[monitor]))
            }
            // Not to be found in place, but left out, with the reason.
            Step::Monitoring => Ok(vec![monitors::ABSENT.to_owned()]),
            _ => Ok(Vec::new()),
        }
    }

    async fn settle(&self, step: Step, site: &Site) -> Result<Outcome, RuntimeError> {
        self.warm().await?;
        match step {
            Step::Namespace => self.settle_namespace(site).await,
            Step::Monitoring => self.set_up_monitoring(site).await,
            _ => Ok(Outcome::skipped(self.skips(step).unwrap_or_default())),
        }
    }

    async fn unsettle(&self, step: Step, site: &Site) -> Result<(), RuntimeError> {
        if step != Step::Namespace {
            return Ok(());
        }
        self.warm().await?;
        let namespace = &site.namespace;
        if let Some(vault) = &self.vault {
            vault.remove(site.application, namespace, &site.fence).await?;
        }
        self.remove_namespace(site).await
    }

    async fn differences(&self, workload: &Workload) -> Result<Vec<String>, RuntimeError> {
        self.warm().await?;
        let site = &workload.site;
        let fingerprint = format!("{} {}", site.generation, cluster::fingerprint(site));
        let manifests = self.instance_manifests(workload)?;
        // Before the comparison, which is remembered: a Vault that does not answer leaves nothing to remember.
        let lacks = match &self.vault {
            Some(vault) => {
                let environment = Environment::of(workload);
                vault
                    .lacks(site.application, &site.namespace, &environment, &site.fence)
                    .await?
            }
            None => None,
        };
        let mut differences = self.cluster.compared(INSTANCE, site, &fingerprint, &manifests);
        if let Some(lacks) = lacks {
            self.cluster.store.doubt(&site.namespace, INSTANCE);
            differences.push(lacks.to_owned());
        }
        if self.keeps_former_secrets(&site.namespace) {
            self.cluster.store.doubt(&site.namespace, INSTANCE);
            differences.push("the cluster keeps secrets that are in Vault".to_owned());
        }
        // With no replicas the autoscaler stands still: nobody but us would start it again.
        if differences.is_empty() && self.replicas(&site.namespace) == Some(0) {
            differences.push("the instances are scaled to zero".to_owned());
        }
        Ok(differences)
    }

    async fn migrate(&self, workload: &Workload) -> Result<Outcome, RuntimeError> {
        self.run_migration(workload).await
    }

    async fn observe(&self, application: ApplicationId) -> Result<Placement, RuntimeError> {
        self.warm().await?;
        let namespace = namespace_of(application);
        let port = self.settings.image.port;
        let service = format!("{NAME}.{namespace}.svc.{}:{port}", self.settings.cluster_domain);
        Ok(rollout::placement(
            &self.cluster.store,
            &namespace,
            FLOOR,
            port,
            service,
        ))
    }

    async fn hindrance(&self, step: Step, site: &Site) -> Option<Trouble> {
        hindrance::of(&self.cluster, step, site).await
    }

    async fn last_lines(&self, application: ApplicationId, trouble: &Trouble) -> Option<String> {
        let of = trouble.last_lines_of.as_ref()?;
        self.cluster.last_lines(&namespace_of(application), of).await
    }

    async fn room(&self, site: &Site) -> Result<Option<&'static str>, RuntimeError> {
        self.warm().await?;
        room::check(&self.cluster, &self.spec(site), &self.nodes, self.settings.grows)
            .await
            .map(Some)
    }

    fn accepts(&self, site: &Site, config: &serde_json::Value) -> Result<(), RuntimeError> {
        let spec = self.spec(site);
        Limits::of(site)?;
        spec.image()?;
        manifest::config_map(&spec, config)?;
        Ok(())
    }

    async fn ensure(&self, workload: &Workload) -> Result<(), RuntimeError> {
        self.warm().await?;
        let site = &workload.site;
        let limits = Limits::of(site)?;
        // Before the pods that read them.
        if let Some(vault) = &self.vault {
            let environment = Environment::of(workload);
            vault
                .keep(site.application, &site.namespace, &environment, &site.fence)
                .await?;
        }
        self.cluster
            .apply_all(&self.instance_manifests(workload)?, &site.fence)
            .await?;
        if self.keeps_former_secrets(&site.namespace) {
            let namespace = Some(site.namespace.as_str());
            self.cluster.delete(Kind::Secret, namespace, NAME, &site.fence).await?;
        }
        // A new Deployment has one, a resumed one has none; from the floor on it is the autoscaler's.
        if self.replicas(&site.namespace).unwrap_or(0) < u64::from(limits.min_replicas) {
            self.cluster
                .scale(&site.namespace, limits.min_replicas, &site.fence)
                .await?;
        }
        Ok(())
    }

    /// A roll-out takes older instances away by itself.
    async fn retire(&self, _site: &Site) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn stop(&self, site: &Site) -> Result<(), RuntimeError> {
        self.warm().await?;
        let namespace = &site.namespace;
        match self.cluster.scale(namespace, 0, &site.fence).await {
            Err(error) if !error.is_absent() => return Err(error.into()),
            _ => {}
        }
        if self.cluster.until(ENDING, || !self.has_instances(namespace)).await {
            Ok(())
        } else {
            Err(RuntimeError::Remains {
                public: "The instances have not ended yet.".to_owned(),
                detail: format!("instances in {namespace} have not ended within {ENDING:?}"),
            })
        }
    }

    async fn remove(&self, site: &Site) -> Result<(), RuntimeError> {
        self.stop(site).await?;
        let namespace = Some(site.namespace.as_str());
        for kind in [
            Kind::HorizontalPodAutoscaler,
            Kind::PodDisruptionBudget,
            Kind::Deployment,
            Kind::Service,
            Kind::Secret,
            Kind::ConfigMap,
        ] {
            self.cluster.delete(kind, namespace, NAME, &site.fence).await?;
        }
        if self.vault.is_some() {
            let authority = manifest::VAULT_CA;
            self.cluster
                .delete(Kind::Secret, namespace, authority, &site.fence)
                .await?;
        }
        Ok(())
    }

    async fn logs(&self, application: ApplicationId, query: &LogQuery) -> Result<LogPage, RuntimeError> {
        self.warm().await?;
        let namespace = namespace_of(application);
        let pods = self.cluster.store.list(Kind::Pod, &namespace);
        let pods = pods.iter().filter(|(_, pod)| rollout::is_instance(&pod.body));
        let pods: Vec<String> = pods.map(|(name, _)| name.clone()).collect();
        logs::read(&self.cluster, &namespace, &pods, query).await
    }

    async fn moved(&self) -> ApplicationId {
        self.cluster.store.moves.next().await
    }

    /// The watches end; what runs in the cluster runs on.
    async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
