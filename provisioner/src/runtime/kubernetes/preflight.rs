//! Can the cluster be used at all: it answers, is new enough, and lets us do what we do.

use super::cluster::Cluster;
use super::kind::Kind;
use super::settings::Settings;
use super::watch;
use crate::runtime::RuntimeError;

/// The oldest API server that has everything that manifests use.
const OLDEST: (u32, u32) = (1, 30);

/// What is done with objects of applications: every verb, on every kind. The ClusterRole grants exactly this. An apply that makes an
/// object needs `create` beside `patch`.
pub(super) const PERMISSIONS: [(&str, Kind, Option<&str>); 36] = [
    ("create", Kind::Namespace, None),
    ("patch", Kind::Namespace, None),
    ("delete", Kind::Namespace, None),
    ("create", Kind::ResourceQuota, None),
    ("patch", Kind::ResourceQuota, None),
    ("create", Kind::LimitRange, None),
    ("patch", Kind::LimitRange, None),
    ("create", Kind::ServiceAccount, None),
    ("patch", Kind::ServiceAccount, None),
    ("create", Kind::NetworkPolicy, None),
    ("patch", Kind::NetworkPolicy, None),
    ("create", Kind::ConfigMap, None),
    ("patch", Kind::ConfigMap, None),
    ("delete", Kind::ConfigMap, None),
    ("create", Kind::Secret, None),
    ("patch", Kind::Secret, None),
    ("delete", Kind::Secret, None),
    ("create", Kind::Service, None),
    ("patch", Kind::Service, None),
    ("delete", Kind::Service, None),
    ("create", Kind::StatefulSet, None),
    ("patch", Kind::StatefulSet, None),
    ("delete", Kind::StatefulSet, None),
    ("create", Kind::Deployment, None),
    ("patch", Kind::Deployment, None),
    ("delete", Kind::Deployment, None),
    ("create", Kind::HorizontalPodAutoscaler, None),
    ("patch", Kind::HorizontalPodAutoscaler, None),
    ("delete", Kind::HorizontalPodAutoscaler, None),
    ("create", Kind::PodDisruptionBudget, None),
    ("patch", Kind::PodDisruptionBudget, None),
    ("delete", Kind::PodDisruptionBudget, None),
    ("create", Kind::Job, None),
    ("patch", Kind::Job, None),
    ("delete", Kind::Job, None),
    ("get", Kind::Pod, Some("log")),
];
/// What is done with the kind that says what is scraped, where a cluster has it. Alerts and the dashboard are not asked for: where
/// they cannot be set up, no application fails.
pub(super) const SCRAPING: [&str; 4] = ["create", "patch", "list", "watch"];

/// Looks without changing anything.
pub(super) async fn check(cluster: &Cluster, settings: &Settings) -> Result<(), RuntimeError> {
    let version = cluster.version().await?;
    if version < OLDEST {
        return Err(RuntimeError::Unfit {
            public: "The cluster of this region is too old.".to_owned(),
            detail: format!(
                "it has {}.{}, and {}.{} is needed",
                version.0, version.1, OLDEST.0, OLDEST.1
            ),
        });
    }
    let mut asked = PERMISSIONS.to_vec();
    // What is not listed would look like a cluster that takes its time, what is not watched like one in which nothing happens.
    for kind in watch::STANDARD {
        asked.extend([("list", kind, None), ("watch", kind, None)]);
    }
    if settings.monitoring.enabled && cluster.serves(Kind::ServiceMonitor).await? {
        asked.extend(SCRAPING.map(|verb| (verb, Kind::ServiceMonitor, None)));
    }
    let asked = asked.into_iter().map(async |(verb, kind, subresource)| {
        Ok::<_, RuntimeError>((cluster.may(verb, kind, subresource).await?, verb, kind, subresource))
    });
    let mut lacking = Vec::new();
    for answer in futures::future::join_all(asked).await {
        let (allowed, verb, kind, subresource) = answer?;
        if !allowed {
            let of = subresource.map(|name| format!("/{name}")).unwrap_or_default();
            lacking.push(format!("{verb} {}{of}", kind.plural()));
        }
    }
    if !lacking.is_empty() {
        return Err(RuntimeError::Unfit {
            public: "The platform lacks a permission in the cluster of this region.".to_owned(),
            detail: format!("the service account may not {}", lacking.join(", ")),
        });
    }
    if !super::manifest::is_image_reference(&settings.image.reference) {
        return Err(super::Unusable::Image(settings.image.reference.clone()).into());
    }
    Ok(())
}
