//! The whole life of an application, in order, over the API double.

use std::time::Duration;

use authsome_contract::model::Step;
use authsome_provisioner::runtime::kubernetes::{Cluster, Kind, KubernetesRuntime, Settings};
use authsome_provisioner::runtime::{Runtime, RuntimeError, Workload};
use authsome_testkit::wait_for;

use super::samples::{new_id, patience, settings, workload};
use crate::api_double::ApiDouble;

pub const SOON: Duration = Duration::from_secs(30);

pub fn runtime(api: &ApiDouble, settings: Settings) -> KubernetesRuntime {
    KubernetesRuntime::start(Cluster::new(api.client()), settings, patience()).unwrap()
}

/// Namespace, instance and monitoring, until all instances are ready.
pub async fn build(runtime: &KubernetesRuntime, workload: &Workload) {
    runtime.settle(Step::Namespace, &workload.site).await.unwrap();
    runtime.ensure(workload).await.unwrap();
    until_healthy(runtime, workload).await;
    runtime.settle(Step::Monitoring, &workload.site).await.unwrap();
}

pub async fn until_healthy(runtime: &KubernetesRuntime, workload: &Workload) {
    wait_for("healthy instances", SOON, async || {
        let placement = runtime.observe(workload.application).await.unwrap();
        placement
            .is_healthy(workload.generation)
            .then_some(())
            .ok_or(format!("{placement:?}"))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_application_is_created_updated_suspended_resumed_and_purged() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, settings());
    runtime.check().await.unwrap();
    let mut workload = workload(new_id(), 1);
    let namespace = workload.site.namespace.clone();
    build(&runtime, &workload).await;

    let mut names = api.names(&namespace);
    names.retain(|name| !name.starts_with("NetworkPolicy/"));
    assert_eq!(
        names,
        [
            format!("Namespace/{namespace}").as_str(),
            "ResourceQuota/authsome",
            "LimitRange/authsome",
            "ServiceAccount/authsome",
            "ConfigMap/authsome",
            "Secret/authsome",
            "Service/authsome",
            "Deployment/authsome",
            "HorizontalPodAutoscaler/authsome",
            "PodDisruptionBudget/authsome",
            "ServiceMonitor/authsome",
        ]
    );
    let placement = runtime.observe(workload.application).await.unwrap();
    assert_eq!((placement.wanted, placement.endpoints(1).len()), (2, 2));
    assert_eq!(
        placement.service,
        Some(format!("authsome.{namespace}.svc.cluster.local:8080"))
    );
    assert!(
        api.get(Kind::PrometheusRule, "monitoring", "authsome-applications")
            .is_some()
    );

    // Done twice is done once.
    let before = api.count();
    build(&runtime, &workload).await;
    assert_eq!(api.count(), before, "everything was as it should be");
    assert!(runtime.differences(&workload).await.unwrap().is_empty());
    assert!(runtime.lacks(Step::Namespace, &workload.site).await.unwrap().is_empty());
    assert!(
        runtime.is_verified(Step::Instance, &workload.site) && runtime.is_verified(Step::Namespace, &workload.site)
    );

    // An update rolls, and the autoscaler's number stays.
    api.edit(Kind::Deployment, &namespace, "authsome", |object| {
        object["spec"]["replicas"] = 5.into();
    });
    workload.config["session"]["token_ttl"] = "2h".into();
    (workload.generation, workload.site.generation) = (2, 2);
    runtime.ensure(&workload).await.unwrap();
    until_healthy(&runtime, &workload).await;
    wait_for("the older ones to go", SOON, async || {
        let placement = runtime.observe(workload.application).await.unwrap();
        (placement.endpoints(2).len() == 5 && placement.endpoints(1).is_empty()).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(
        api.get(Kind::Deployment, &namespace, "authsome").unwrap()["spec"]["replicas"],
        5
    );

    runtime.stop(&workload.site).await.unwrap();
    assert!(api.list(Kind::Pod, &namespace).is_empty());
    runtime.stop(&workload.site).await.unwrap();
    (workload.generation, workload.site.generation) = (3, 3);
    runtime.ensure(&workload).await.unwrap();
    until_healthy(&runtime, &workload).await;
    assert_eq!(
        api.get(Kind::Deployment, &namespace, "authsome").unwrap()["spec"]["replicas"],
        2
    );

    for _ in 0..2 {
        runtime.remove(&workload.site).await.unwrap();
        runtime.unsettle(Step::Namespace, &workload.site).await.unwrap();
    }
    assert_eq!(api.names(&namespace), Vec::<String>::new());
    wait_for("the watch to see it", SOON, async || {
        runtime.cluster().store.is_empty(&namespace).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(api.unknown(), Vec::<String>::new());
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_failed_change_leaves_the_older_instances_serving() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, settings());
    let mut workload = workload(new_id(), 1);
    build(&runtime, &workload).await;
    api.trouble(|trouble| {
        trouble.images.insert("ghcr.io/example/authsome:broken".to_owned());
    });
    (workload.generation, workload.site.generation) = (2, 2);
    workload.site.image = Some("ghcr.io/example/authsome:broken".to_owned());
    runtime.ensure(&workload).await.unwrap();
    wait_for("the newer ones to fail", SOON, async || {
        let placement = runtime.observe(workload.application).await.unwrap();
        placement.failure(2).map(str::to_owned)
    })
    .await
    .unwrap();
    let placement = runtime.observe(workload.application).await.unwrap();
    assert_eq!((placement.is_healthy(2), placement.endpoints(1).len()), (false, 2));
}

#[tokio::test]
async fn a_migration_runs_once_and_its_failure_stops_the_operation() {
    let api = ApiDouble::start().await;
    let mut with_migration = settings();
    with_migration.image.migrate_command = vec!["/authsome".to_owned(), "migrate".to_owned()];
    let image = with_migration.image.reference.clone();
    let runtime = runtime(&api, with_migration);
    let workload = workload(new_id(), 1);
    build(&runtime, &workload).await;
    for _ in 0..2 {
        assert!(!runtime.migrate(&workload).await.unwrap().skipped);
    }
    let namespace = &workload.site.namespace;
    assert_eq!(api.list(Kind::Job, namespace).len(), 1);

    let failing = super::samples::workload(new_id(), 1);
    build(&runtime, &failing).await;
    api.trouble(|trouble| {
        trouble.crashing.insert(image.clone());
    });
    let error = runtime.migrate(&failing).await.unwrap_err();
    assert!(
        matches!(&error, RuntimeError::Unfit { public, .. } if public.contains("migration")),
        "{error}"
    );
    assert!(
        api.list(Kind::Job, &failing.site.namespace).is_empty(),
        "out of the way of the next attempt"
    );
}
