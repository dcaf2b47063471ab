//! What keeps servers of an application's own, or its migration, from coming up: read from their pods, and where there are
//! none, from what the API server said when they were to be made.

use authsome_contract::model::Step;

use super::cluster::Cluster;
use super::kind::Kind;
use super::manifest::{self, COMPONENT_LABEL, Component, GENERATION, POSTGRES, REDIS};
use super::store::Seen;
use super::trouble::{self, Who};
use crate::runtime::{Site, Trouble};

/// Of what the step waits for. One call, and only while there is no pod to read from.
pub(super) async fn of(cluster: &Cluster, step: Step, site: &Site) -> Option<Trouble> {
    let (kind, name, who) = match step {
        Step::Database if site.own_database => (Kind::StatefulSet, POSTGRES.to_owned(), Who::Postgres),
        Step::Redis if site.own_redis => (Kind::StatefulSet, REDIS.to_owned(), Who::Redis),
        Step::Migrate => (Kind::Job, manifest::migration_name(site.generation), Who::Migration),
        _ => return None,
    };
    cluster.store.get(kind, &site.namespace, &name)?;
    let pods = pods(cluster, site, who);
    if pods.is_empty() {
        let message = cluster.refusal(kind, &site.namespace, &name).await?;
        return Some(trouble::of_refusal(who, &message));
    }
    trouble::of_pods(who, &pods)
}

/// A migration's are those of the site's generation: others have ended long since.
fn pods(cluster: &Cluster, site: &Site, who: Who) -> Vec<(String, Seen)> {
    let component = match who {
        Who::Instance => Component::Instance,
        Who::Migration => Component::Migration,
        Who::Postgres => Component::Postgres,
        Who::Redis => Component::Redis,
    };
    let generation = site.generation.to_string();
    let is_one = |seen: &Seen| {
        let metadata = &seen.body["metadata"];
        metadata["labels"][COMPONENT_LABEL] == component.as_str()
            && (who != Who::Migration || metadata["annotations"][GENERATION] == generation.as_str())
    };
    let pods = cluster.store.list(Kind::Pod, &site.namespace);
    pods.into_iter().filter(|(_, seen)| is_one(seen)).collect()
}
