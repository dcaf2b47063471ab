//! The namespace of an application: made, and taken away with everything in it, only where it is ours.
//!
//! A namespace of the same name that somebody else made is neither taken over nor deleted: the operation fails and says so. What
//! is not in the store is asked of the API server, since the watch sees what is labelled as ours and nothing else.

use authsome_core::id::ApplicationId;
use kube::api::DynamicObject;

use super::kind::Kind;
use super::manifest::{APP_LABEL, MANAGER};
use super::{KubernetesRuntime, vanishing};
use crate::runtime::{RuntimeError, Site};
use crate::step::Outcome;

/// Whose a namespace is, as the API server says.
#[derive(Debug, PartialEq, Eq)]
enum Whose {
    Nobodys,
    Ours,
    Others,
}

impl KubernetesRuntime {
    /// Makes it, and what bounds it.
    pub(super) async fn settle_namespace(&self, site: &Site) -> Result<Outcome, RuntimeError> {
        // A namespace on its way out takes nothing in; what an undone deletion left goes first.
        let namespace = &site.namespace;
        let leaving = || {
            let seen = self.cluster.store.get(Kind::Namespace, namespace, namespace);
            seen.is_some_and(|seen| seen.deleting)
        };
        if leaving() && !self.cluster.until(self.patience.vanishing, || !leaving()).await {
            return Err(vanishing::remains(&self.cluster.store, namespace));
        }
        if self.whose(site).await? == Whose::Others {
            return Err(others(namespace));
        }
        self.cluster
            .apply_all(&self.namespace_manifests(site)?, &site.fence)
            .await?;
        Ok(Outcome::done(
            "The application has a namespace of its own, closed to everybody but the edge.",
        ))
    }

    /// Deletes it, and waits until it is gone.
    pub(super) async fn remove_namespace(&self, site: &Site) -> Result<(), RuntimeError> {
        let namespace = &site.namespace;
        let store = &self.cluster.store;
        match self.whose(site).await? {
            Whose::Nobodys => return Ok(()),
            Whose::Others => return Err(others(namespace)),
            Whose::Ours => {}
        }
        self.cluster
            .delete(Kind::Namespace, None, namespace, &site.fence)
            .await?;
        let gone = || store.get(Kind::Namespace, namespace, namespace).is_none();
        if self.cluster.until(self.patience.vanishing, gone).await {
            Ok(())
        } else {
            Err(vanishing::remains(store, namespace))
        }
    }

    async fn whose(&self, site: &Site) -> Result<Whose, RuntimeError> {
        let namespace = &site.namespace;
        if let Some(seen) = self.cluster.store.get(Kind::Namespace, namespace, namespace) {
            let label = &seen.body["metadata"]["labels"][APP_LABEL];
            if *label == site.application.to_string() {
                return Ok(Whose::Ours);
            }
        }
        let found = self.cluster.find(Kind::Namespace, namespace).await?;
        Ok(found.map_or(Whose::Nobodys, |found| whose(&found, site.application)))
    }
}

/// Ours has our label or fields of ours: who takes a label away does not take the namespace away. What is labelled for another
/// application is not this one's.
fn whose(namespace: &DynamicObject, application: ApplicationId) -> Whose {
    let labels = namespace.metadata.labels.as_ref();
    if let Some(label) = labels.and_then(|labels| labels.get(APP_LABEL)) {
        let ours = *label == application.to_string();
        return if ours { Whose::Ours } else { Whose::Others };
    }
    let managers = namespace.metadata.managed_fields.iter().flatten();
    let ours = managers
        .filter_map(|one| one.manager.as_deref())
        .any(|one| one == MANAGER);
    if ours { Whose::Ours } else { Whose::Others }
}

fn others(namespace: &str) -> RuntimeError {
    RuntimeError::Unfit {
        public: "The application's namespace exists already and is not the platform's.".to_owned(),
        detail: format!("somebody else made the namespace {namespace}; it is neither taken over nor deleted"),
    }
}

#[cfg(test)]
mod tests {
    use authsome_core::clock::SystemClock;
    use authsome_core::entropy::SystemEntropy;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_namespace_is_ours_by_its_label_or_by_the_fields_that_we_set() {
        let id = ApplicationId::generate(&SystemClock, &SystemEntropy::new());
        let of = |metadata: Value| {
            let object = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
            whose(&object, id)
        };
        let managed = |manager: &str| json!({ "managedFields": [{ "manager": "kubelet" }, { "manager": manager }] });
        assert_eq!(of(json!({})), Whose::Others);
        assert_eq!(of(json!({ "labels": { "team": "x" } })), Whose::Others);
        assert_eq!(of(json!({ "labels": { APP_LABEL: id.to_string() } })), Whose::Ours);
        assert_eq!(of(json!({ "labels": { APP_LABEL: "another" } })), Whose::Others);
        assert_eq!(of(managed(MANAGER)), Whose::Ours);
        assert_eq!(of(managed("kubectl")), Whose::Others);
    }
}
