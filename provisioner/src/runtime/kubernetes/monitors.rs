//! Scraping of an application, and the alerts and dashboard of the fleet, where the cluster has the Prometheus operator. Without
//! it nothing is made, and the step says so.

use std::sync::atomic::Ordering;

use super::error::ClusterError;
use super::{Kind, KubernetesRuntime, WARM_UP, manifest, watch};
use crate::runtime::{RuntimeError, Site};
use crate::step::Outcome;

impl KubernetesRuntime {
    /// Are the kinds of the Prometheus operator there? From the first time on they are watched.
    pub(super) async fn has_monitors(&self) -> Result<bool, ClusterError> {
        if self.watches_monitors.initialized() {
            return Ok(true);
        }
        if !self.cluster.has_group(Kind::ServiceMonitor.group()).await? {
            return Ok(false);
        }
        let kinds = [Kind::ServiceMonitor, Kind::PrometheusRule];
        self.watches_monitors
            .get_or_init(async || watch::begin(&self.cluster, &kinds, &self.tasks, &self.stop))
            .await;
        if self
            .cluster
            .until(WARM_UP, || self.cluster.store.has_listed(&kinds))
            .await
        {
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
        if !self.has_fleet.load(Ordering::Relaxed) {
            self.cluster
                .apply_all(&manifest::fleet(&self.settings), &site.fence)
                .await?;
            self.has_fleet.store(true, Ordering::Relaxed);
        }
        self.cluster
            .apply_all(&[manifest::service_monitor(&self.spec(site))], &site.fence)
            .await?;
        Ok(Outcome::done(
            "The application is scraped, and watched by the fleet's alerts.",
        ))
    }
}
