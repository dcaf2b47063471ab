//! One list and one watch for each kind: everything that is known of the cluster comes from here.
//!
//! A watch that breaks is taken up again, with growing waits while the API server is away; what was known stays known. Kinds
//! of the Prometheus operator are watched only where the cluster has them.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cluster::Cluster;
use super::kind::Kind;
use super::manifest::{MANAGED_BY, MANAGER};
use super::store::place;

/// What every cluster has.
pub(super) const STANDARD: [Kind; 14] = [
    Kind::Namespace,
    Kind::ResourceQuota,
    Kind::LimitRange,
    Kind::ServiceAccount,
    Kind::NetworkPolicy,
    Kind::ConfigMap,
    Kind::Secret,
    Kind::Service,
    Kind::StatefulSet,
    Kind::Deployment,
    Kind::HorizontalPodAutoscaler,
    Kind::PodDisruptionBudget,
    Kind::Job,
    Kind::Pod,
];

/// Begins to watch these kinds, until `stop`.
pub(super) fn begin(cluster: &Arc<Cluster>, kinds: &[Kind], tasks: &TaskTracker, stop: &CancellationToken) {
    for &kind in kinds {
        let cluster = Arc::clone(cluster);
        let stop = stop.clone();
        tasks.spawn(async move { stop.run_until_cancelled(follow(&cluster, kind)).await });
    }
}

async fn follow(cluster: &Cluster, kind: Kind) {
    let selector = format!("{MANAGED_BY}={MANAGER}");
    let config = watcher::Config::default().labels(&selector).any_semantic();
    let mut events = watcher(cluster.api(kind, None), config).default_backoff().boxed();
    let mut present = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => present.clear(),
            Ok(Event::InitApply(object)) => {
                present.extend(place(kind, &object));
                cluster.store.in_list(kind, &object);
            }
            Ok(Event::InitDone) => {
                cluster.store.listed(kind, &present);
                present = HashSet::new();
            }
            Ok(Event::Apply(object)) => cluster.store.seen(kind, &object),
            Ok(Event::Delete(object)) => cluster.store.gone(kind, &object),
            Err(error) => tracing::warn!(kind = kind.name(), %error, "cannot watch; trying again"),
        }
    }
}
