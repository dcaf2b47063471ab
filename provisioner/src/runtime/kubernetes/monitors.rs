//! Scraping of an application, and the alerts and dashboard of the fleet, where the cluster has the Prometheus operator. Without
//! it nothing is made, and the step says so.

use std::sync::atomic::Ordering;

use authsome_core::error::Chain;

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
        let mut told = "The application is scraped, and watched by the fleet's alerts.";
        if !self.has_fleet.load(Ordering::Relaxed) {
            let fleet = manifest::fleet(&self.settings);
            match self.cluster.apply_all(&fleet, &site.fence).await {
                Ok(_) => self.has_fleet.store(true, Ordering::Relaxed),
                // The namespace of the alerts is not there, or is not ours to write into: no application fails for it.
                Err(error) if error.is_absent() || error.is_forbidden() => {
                    let namespace = &self.settings.monitoring.namespace;
                    tracing::warn!(namespace, error = %Chain(&error), "the fleet has no alerts and no dashboard");
                    told = "The application is scraped; the platform could not set up its alerts.";
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.cluster
            .apply_all(&[manifest::service_monitor(&self.spec(site))], &site.fence)
            .await?;
        Ok(Outcome::done(told))
    }
}
