//! Scraping of applications, where the cluster has the Prometheus operator. Without it nothing is made, and the step says so; it is
//! looked every few seconds whether there is one by now, and then every application is scraped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use authsome_core::error::Chain;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cluster::Cluster;
use super::error::ClusterError;
use super::fleet::Fleet;
use super::settings::Settings;
use super::{Kind, KubernetesRuntime, WARM_UP, manifest, watch};
use crate::runtime::{RuntimeError, Site};
use crate::step::Outcome;

/// How long until it is looked again whether the operator is there.
const AGAIN: Duration = Duration::from_secs(10);
/// Why nothing is scraped.
pub(super) const ABSENT: &str = "The cluster has no Prometheus operator; nothing scrapes the application.";

/// Whether the kind is there that says what is scraped.
pub(super) struct Monitors {
    cluster: Arc<Cluster>,
    fleet: Arc<Fleet>,
    /// It was not there at the last look.
    absent: AtomicBool,
    watching: OnceCell<()>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Monitors {
    pub(super) fn new(
        cluster: &Arc<Cluster>,
        settings: &Settings,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Arc<Self> {
        let monitors = Arc::new(Self {
            cluster: Arc::clone(cluster),
            fleet: Fleet::new(Arc::clone(cluster), settings, tasks, stop),
            absent: AtomicBool::new(false),
            watching: OnceCell::new(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        });
        if settings.monitoring.enabled {
            let looking = Arc::clone(&monitors);
            let stop = stop.clone();
            tasks.spawn(async move { stop.run_until_cancelled(looking.look()).await });
        }
        monitors
    }

    /// Looks until it is there.
    async fn look(&self) {
        loop {
            match self.are_there().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::debug!(error = %Chain(&error), "cannot look for the Prometheus operator"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Was it looked for, and not there?
    pub(super) fn are_absent(&self) -> bool {
        self.absent.load(Ordering::Relaxed)
    }

    /// From the first time on that it is there it is watched, and the fleet's alerts are kept.
    pub(super) async fn are_there(&self) -> Result<bool, ClusterError> {
        if !self.watching.initialized() && !self.cluster.serves(Kind::ServiceMonitor).await? {
            self.absent.store(true, Ordering::Relaxed);
            return Ok(false);
        }
        let kinds = [Kind::ServiceMonitor];
        self.watching
            .get_or_init(async || {
                watch::begin(&self.cluster, &kinds, &self.tasks, &self.stop);
                self.fleet.keep();
            })
            .await;
        let listed = || self.cluster.store.has_listed(&kinds);
        if self.cluster.until(WARM_UP, listed).await {
            self.absent.store(false, Ordering::Relaxed);
            Ok(true)
        } else {
            Err(ClusterError::Warming)
        }
    }
}

impl KubernetesRuntime {
    pub(super) async fn set_up_monitoring(&self, site: &Site) -> Result<Outcome, RuntimeError> {
        if !self.monitors.are_there().await? {
            return Ok(Outcome::skipped(ABSENT));
        }
        let fleet = self.monitors.fleet.settle(Some(&site.fence)).await?;
        self.cluster
            .apply_all(&[manifest::service_monitor(&self.spec(site))], &site.fence)
            .await?;
        Ok(Outcome::done(if fleet.complete {
            "The application is scraped, and watched by the fleet's alerts."
        } else {
            "The application is scraped; the platform could not set up its alerts."
        }))
    }
}
