//! The alerts and the dashboard of all applications together: made with the first application that is scraped, and kept as they
//! should be from then on.
//!
//! They are nobody's in particular, so they are kept without an application's lease: every worker applies the same, and an
//! apply that changes nothing is harmless. Of two releases side by side the one that looked last has its way. A newer release brings its newer alerts. Where they cannot be set up (no namespace,
//! no permission, no kind for alerts) it is said once, tried again, and no application fails for it.

use std::sync::Arc;
use std::time::Duration;

use authsome_core::error::Chain;
use tokio::sync::{Mutex, OnceCell};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cluster::Cluster;
use super::error::ClusterError;
use super::kind::Kind;
use super::manifest::{self, Manifest};
use super::settings::Settings;
use super::{WARM_UP, watch};
use crate::lease::Fence;

/// How long until it is looked again where nothing was seen to change.
const AGAIN: Duration = Duration::from_secs(30);
/// How long what was applied is left alone. Two workers that want something else (of two releases, while one replaces the other)
/// would take it back from each other without a pause.
const CALM: Duration = Duration::from_secs(5);

/// What the fleet has one of in a cluster.
pub(super) struct Fleet {
    cluster: Arc<Cluster>,
    namespace: String,
    manifests: Vec<Manifest>,
    /// The kind of alerts is there and watched.
    watches_rules: OnceCell<()>,
    /// What was last said of why there are none. Held while they are set up, so that nobody does it twice at a time.
    told: Mutex<Option<String>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What a look came to.
pub(super) struct Settled {
    /// Alerts and dashboard are there.
    pub(super) complete: bool,
    /// Something was changed for it.
    applied: bool,
}

impl Fleet {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        settings: &Settings,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            namespace: settings.monitoring.namespace.clone(),
            manifests: manifest::fleet(settings),
            watches_rules: OnceCell::new(),
            told: Mutex::default(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        })
    }

    /// Keeps it as it should be until the runtime stops.
    pub(super) fn keep(self: &Arc<Self>) {
        let fleet = Arc::clone(self);
        self.tasks.spawn(async move {
            let keeping = async {
                loop {
                    let changes = fleet.cluster.store.changes(&fleet.namespace);
                    match fleet.settle(None).await {
                        Ok(settled) if settled.applied => tokio::time::sleep(CALM).await,
                        Ok(_) => {}
                        Err(error) => {
                            tracing::warn!(error = %Chain(&error), "cannot look after the fleet's alerts; looking again");
                            tokio::time::sleep(CALM).await;
                        }
                    }
                    let moved = || fleet.cluster.store.changes(&fleet.namespace) != changes;
                    fleet.cluster.until(AGAIN, moved).await;
                }
            };
            fleet.stop.run_until_cancelled(keeping).await;
        });
    }

    /// Applies what differs. Errors are those that may pass by themselves.
    pub(super) async fn settle(&self, fence: Option<&Fence>) -> Result<Settled, ClusterError> {
        let mut told = self.told.lock().await;
        let mut applied = false;
        let hindrance = match self.apply(fence, &mut applied).await {
            Ok(true) => None,
            Ok(false) => Some("the cluster has no kind for alerts".to_owned()),
            Err(error) if error.is_absent() || error.is_forbidden() => Some(Chain(&error).to_string()),
            Err(error) => return Err(error),
        };
        if let Some(error) = hindrance.as_ref().filter(|now| told.as_ref() != Some(*now)) {
            tracing::warn!(
                namespace = self.namespace,
                error,
                "the fleet lacks its alerts or its dashboard"
            );
        }
        *told = hindrance;
        Ok(Settled {
            complete: told.is_none(),
            applied,
        })
    }

    /// Returns whether there is a kind for everything.
    async fn apply(&self, fence: Option<&Fence>, applied: &mut bool) -> Result<bool, ClusterError> {
        let has_rules = self.has_rules().await?;
        for manifest in &self.manifests {
            if manifest.kind == Kind::PrometheusRule && !has_rules {
                continue;
            }
            if let Some(difference) = self.cluster.difference(manifest) {
                tracing::info!(difference, "the fleet's alerts and dashboard are not as they should be");
                self.cluster.apply(manifest, fence).await?;
                *applied = true;
            }
        }
        Ok(has_rules)
    }

    async fn has_rules(&self) -> Result<bool, ClusterError> {
        if !self.watches_rules.initialized() && !self.cluster.serves(Kind::PrometheusRule).await? {
            return Ok(false);
        }
        let kinds = [Kind::PrometheusRule];
        self.watches_rules
            .get_or_init(async || watch::begin(&self.cluster, &kinds, &self.tasks, &self.stop))
            .await;
        let listed = || self.cluster.store.has_listed(&kinds);
        if self.cluster.until(WARM_UP, listed).await {
            Ok(true)
        } else {
            Err(ClusterError::Warming)
        }
    }
}
