//! Scraping of an application, where the cluster has the Prometheus operator. Without it nothing is made, and the step says so.

use super::error::ClusterError;
use super::{Kind, KubernetesRuntime, WARM_UP, manifest, watch};
use crate::runtime::{RuntimeError, Site};
use crate::step::Outcome;

impl KubernetesRuntime {
    /// Is the kind there that says what is scraped? From the first time on it is watched, and the fleet is kept.
    pub(super) async fn has_monitors(&self) -> Result<bool, ClusterError> {
        if !self.watches_monitors.initialized() && !self.cluster.serves(Kind::ServiceMonitor).await? {
            return Ok(false);
        }
        let kinds = [Kind::ServiceMonitor];
        self.watches_monitors
            .get_or_init(async || {
                watch::begin(&self.cluster, &kinds, &self.tasks, &self.stop);
                self.fleet.keep();
            })
            .await;
        let listed = || self.cluster.store.has_listed(&kinds);
        if self.cluster.until(WARM_UP, listed).await {
            Ok(true)
        } else {
            Err(ClusterError::Warming)
        }
    }

    pub(super) async fn set_up_monitoring(&self, site: &Site) -> Result<Outcome, RuntimeError> {
        if !self.has_monitors().await? {
            return Ok(Outcome::skipped(
                "The cluster has no Prometheus operator; nothing scrapes the application.",
            ));
        }
        let has_alerts = self.fleet.settle(Some(&site.fence)).await?;
        self.cluster
            .apply_all(&[manifest::service_monitor(&self.spec(site))], &site.fence)
            .await?;
        Ok(Outcome::done(if has_alerts {
            "The application is scraped, and watched by the fleet's alerts."
        } else {
            "The application is scraped; the platform could not set up its alerts."
        }))
    }
}
