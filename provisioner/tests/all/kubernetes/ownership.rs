//! What is not ours is neither taken over nor deleted.

use authsome_contract::model::Step;
use authsome_provisioner::runtime::kubernetes::Kind;
use authsome_provisioner::runtime::{Runtime, RuntimeError};
use authsome_testkit::wait_for;
use serde_json::json;

use super::life::{SOON, build, runtime};
use super::samples::{new_id, settings, site, workload};
use crate::api_double::ApiDouble;

fn refused(error: &RuntimeError) {
    let RuntimeError::Unfit { public, .. } = error else {
        panic!("{error}")
    };
    assert!(public.contains("not the platform's"), "{public}");
}

#[tokio::test]
async fn a_namespace_that_somebody_else_made_is_neither_taken_over_nor_deleted() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, settings());
    let site = site(new_id(), 1);
    let namespace = &site.namespace;
    let theirs = json!({ "metadata": { "labels": { "team": "billing" } } });
    api.make(Kind::Namespace, namespace, namespace, theirs);
    let before = api.get(Kind::Namespace, namespace, namespace);
    refused(&runtime.settle(Step::Namespace, &site).await.unwrap_err());
    refused(&runtime.unsettle(Step::Namespace, &site).await.unwrap_err());
    assert_eq!(api.get(Kind::Namespace, namespace, namespace), before);
    assert_eq!(api.names(namespace), [format!("Namespace/{namespace}")]);

    // Labelled as the platform's, for another application.
    let other = super::samples::site(new_id(), 1);
    let labels = json!({ "app.kubernetes.io/managed-by": "authsome-provisioner", "authsome.cloud/app-id": new_id().to_string() });
    api.make(
        Kind::Namespace,
        &other.namespace,
        &other.namespace,
        json!({ "metadata": { "labels": labels } }),
    );
    refused(&runtime.settle(Step::Namespace, &other).await.unwrap_err());
    refused(&runtime.unsettle(Step::Namespace, &other).await.unwrap_err());
    assert_eq!(api.unknown(), Vec::<String>::new());
}

#[tokio::test]
async fn a_namespace_of_ours_whose_labels_somebody_took_is_still_ours() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, settings());
    let workload = workload(new_id(), 1);
    let (site, namespace) = (&workload.site, &workload.site.namespace);
    build(&runtime, &workload).await;
    api.edit(Kind::Namespace, namespace, namespace, |object| {
        object["metadata"]["labels"] = json!({ "kubernetes.io/metadata.name": namespace });
        // As a server keeps it for what we applied.
        object["metadata"]["managedFields"] = json!([{ "manager": "authsome-provisioner", "operation": "Apply" }]);
    });
    wait_for("the watch to see it", SOON, async || {
        let lacking = runtime.lacks(Step::Namespace, site).await.unwrap();
        (!lacking.is_empty()).then_some(())
    })
    .await
    .unwrap();
    runtime.settle(Step::Namespace, site).await.unwrap();
    let labels = || api.get(Kind::Namespace, namespace, namespace).unwrap()["metadata"]["labels"].clone();
    assert_eq!(labels()["pod-security.kubernetes.io/enforce"], "restricted");
}

#[tokio::test]
async fn a_namespace_that_is_deleted_by_hand_comes_back_with_everything_in_it() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, settings());
    let workload = workload(new_id(), 1);
    let namespace = &workload.site.namespace;
    build(&runtime, &workload).await;
    let before = api.names(namespace);
    api.delete(Kind::Namespace, namespace, namespace);
    wait_for("it to be gone", SOON, async || {
        runtime.cluster().store.is_empty(namespace).then_some(())
    })
    .await
    .unwrap();
    let lacking = runtime.lacks(Step::Namespace, &workload.site).await.unwrap();
    assert!(lacking.iter().any(|one| one.contains("Namespace")), "{lacking:?}");
    assert!(!runtime.differences(&workload).await.unwrap().is_empty());
    build(&runtime, &workload).await;
    assert_eq!(api.names(namespace), before);
}

#[tokio::test]
async fn a_deletion_that_comes_late_spares_what_was_made_anew() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, settings());
    let workload = workload(new_id(), 1);
    let (site, namespace) = (&workload.site, &workload.site.namespace);
    build(&runtime, &workload).await;
    // Another worker's, which this one's watch has not seen yet: it ended with the runtime.
    runtime.shutdown().await;
    let anew = api.get(Kind::Service, namespace, "authsome").unwrap();
    api.delete(Kind::Service, namespace, "authsome");
    api.make(Kind::Service, namespace, "authsome", anew);
    let late = runtime
        .cluster()
        .delete(Kind::Service, Some(namespace), "authsome", &site.fence);
    assert!(late.await.unwrap_err().is_transient());
    assert!(api.get(Kind::Service, namespace, "authsome").is_some());
}
