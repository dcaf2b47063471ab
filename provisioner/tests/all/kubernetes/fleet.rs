//! Scraping, and the alerts and dashboard that all applications share.

use authsome_contract::model::Step;
use authsome_provisioner::runtime::kubernetes::{Kind, manifest};
use authsome_provisioner::runtime::{Runtime, RuntimeError};
use authsome_testkit::{RedisOptions, RedisServer, wait_for};

use super::life::{SOON, runtime};
use super::samples::{new_id, settings, site};
use crate::api_double::ApiDouble;
use crate::engine::Control;

const FLEET: [Kind; 2] = [Kind::PrometheusRule, Kind::ConfigMap];

async fn until(what: &str, holds: impl Fn() -> bool) {
    wait_for(what, SOON, async || holds().then_some(())).await.unwrap();
}

#[tokio::test]
async fn alerts_and_the_dashboard_are_made_again_and_put_right_without_any_application_asking_for_them() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, settings());
    let site = site(new_id(), 1);
    runtime.settle(Step::Namespace, &site).await.unwrap();
    runtime.settle(Step::Monitoring, &site).await.unwrap();
    for kind in FLEET {
        let there = || api.get(kind, "monitoring", manifest::DASHBOARD);
        let made = there().unwrap();
        api.delete(kind, "monitoring", manifest::DASHBOARD);
        until("it to be made again", || there().is_some()).await;
        api.edit(kind, "monitoring", manifest::DASHBOARD, |object| {
            if kind == Kind::PrometheusRule {
                object["spec"]["groups"][0]["rules"][0]["expr"] = "vector(0)".into();
            } else {
                object["data"][format!("{}.json", manifest::DASHBOARD)] = "{}".into();
            }
        });
        let put_right = || there().is_some_and(|now| (&now["spec"], &now["data"]) == (&made["spec"], &made["data"]));
        until("it to be put right", put_right).await;
    }
    assert_eq!(api.unknown(), Vec::<String>::new());
}

#[tokio::test]
async fn a_release_brings_its_alerts_with_the_first_look_at_an_application() {
    let api = ApiDouble::start().await;
    let site = site(new_id(), 1);
    {
        let older = runtime(&api, settings());
        older.settle(Step::Namespace, &site).await.unwrap();
        older.settle(Step::Monitoring, &site).await.unwrap();
        older.shutdown().await;
    }
    let alerts = || {
        api.get(Kind::PrometheusRule, "monitoring", manifest::DASHBOARD)
            .unwrap()["spec"]
            .clone()
    };
    let before = alerts();
    // What a newer release would say differently: here, for another installation of Prometheus.
    let newer = runtime(&api, super::samples::elaborate());
    newer.lacks(Step::Monitoring, &site).await.unwrap();
    until("newer alerts", || alerts() != before).await;
}

#[tokio::test]
async fn alerts_come_by_themselves_once_their_namespace_does() {
    let api = ApiDouble::start().await;
    let mut elsewhere = settings();
    elsewhere.monitoring.namespace = "observability".to_owned();
    let runtime = runtime(&api, elsewhere);
    let site = site(new_id(), 1);
    runtime.settle(Step::Namespace, &site).await.unwrap();
    let outcome = runtime.settle(Step::Monitoring, &site).await.unwrap();
    assert!(
        !outcome.skipped && outcome.detail.contains("could not set up its alerts"),
        "{outcome:?}"
    );
    api.make(Kind::Namespace, "observability", "observability", serde_json::json!({}));
    let outcome = runtime.settle(Step::Monitoring, &site).await.unwrap();
    assert!(outcome.detail.contains("watched by the fleet's alerts"), "{outcome:?}");
    for kind in FLEET {
        assert!(
            api.get(kind, "observability", manifest::DASHBOARD).is_some(),
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn a_cluster_with_a_kind_for_scraping_and_none_for_alerts_scrapes() {
    let without: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| *kind != Kind::PrometheusRule)
        .collect();
    let api = ApiDouble::with(&without).await;
    let runtime = runtime(&api, settings());
    let site = site(new_id(), 1);
    runtime.settle(Step::Namespace, &site).await.unwrap();
    let outcome = runtime.settle(Step::Monitoring, &site).await.unwrap();
    assert!(
        !outcome.skipped && outcome.detail.contains("could not set up its alerts"),
        "{outcome:?}"
    );
    assert!(api.get(Kind::ServiceMonitor, &site.namespace, "authsome").is_some());
    assert!(api.get(Kind::ConfigMap, "monitoring", manifest::DASHBOARD).is_some());
    assert!(runtime.lacks(Step::Monitoring, &site).await.unwrap().is_empty());
    assert_eq!(api.unknown(), Vec::<String>::new());
}

#[tokio::test]
async fn preflight_names_the_kind_that_may_not_be_watched_or_scraped_with() {
    for (verb, kind) in [
        ("list", Kind::StatefulSet),
        ("watch", Kind::Pod),
        ("create", Kind::ServiceMonitor),
    ] {
        let api = ApiDouble::start().await;
        api.trouble(|trouble| _ = trouble.denied.insert((verb.to_owned(), kind.plural().to_owned())));
        let error = runtime(&api, settings()).check().await.unwrap_err();
        let RuntimeError::Unfit { detail, .. } = &error else {
            panic!("{error}")
        };
        assert!(detail.contains(&format!("{verb} {}", kind.plural())), "{detail}");
    }
    // Of kinds that a cluster does not have, or that nobody wants, nothing is asked.
    let create = || ("create".to_owned(), Kind::ServiceMonitor.plural().to_owned());
    let standard: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| !kind.is_custom()).collect();
    let bare = ApiDouble::with(&standard).await;
    bare.trouble(|trouble| _ = trouble.denied.insert(create()));
    runtime(&bare, settings()).check().await.unwrap();
    let api = ApiDouble::start().await;
    api.trouble(|trouble| _ = trouble.denied.insert(create()));
    let mut unmonitored = settings();
    unmonitored.monitoring.enabled = false;
    runtime(&api, unmonitored).check().await.unwrap();
}

#[tokio::test]
async fn without_the_prometheus_operator_monitoring_is_skipped_with_a_note() {
    let standard: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| !kind.is_custom()).collect();
    let api = ApiDouble::with(&standard).await;
    let runtime = runtime(&api, settings());
    let site = site(new_id(), 1);
    runtime.settle(Step::Namespace, &site).await.unwrap();
    let outcome = runtime.settle(Step::Monitoring, &site).await.unwrap();
    assert!(
        outcome.skipped && outcome.detail.contains("no Prometheus operator"),
        "{outcome:?}"
    );
    // Whoever asks afterwards leaves the step out, for the same reason and without a call.
    assert!(runtime.skips(Step::Monitoring).is_some_and(|why| outcome.detail == why));
    assert_eq!(
        api.unknown(),
        Vec::<String>::new(),
        "nobody asked for kinds that are not there"
    );

    // The operator comes: the application is scraped.
    api.serve(&Kind::ALL);
    until("the step not to be left out", || {
        runtime.skips(Step::Monitoring).is_none()
    })
    .await;
    assert!(!runtime.lacks(Step::Monitoring, &site).await.unwrap().is_empty());
    let outcome = runtime.settle(Step::Monitoring, &site).await.unwrap();
    assert!(!outcome.skipped, "{outcome:?}");
    assert!(api.get(Kind::ServiceMonitor, &site.namespace, "authsome").is_some());
}

#[tokio::test]
async fn alerts_that_cannot_be_set_up_fail_no_application_and_are_set_up_once_they_can_be() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, settings());
    let (first, second) = (site(new_id(), 1), site(new_id(), 1));
    let rule = ("create".to_owned(), Kind::PrometheusRule.plural().to_owned());
    api.trouble(|trouble| trouble.denied.extend([rule.clone()]));
    runtime.settle(Step::Namespace, &first).await.unwrap();
    let outcome = runtime.settle(Step::Monitoring, &first).await.unwrap();
    assert!(outcome.detail.contains("could not set up its alerts"), "{outcome:?}");
    assert!(
        runtime.lacks(Step::Monitoring, &first).await.unwrap().is_empty(),
        "it is scraped"
    );

    api.trouble(|trouble| assert!(trouble.denied.remove(&rule)));
    runtime.settle(Step::Namespace, &second).await.unwrap();
    let outcome = runtime.settle(Step::Monitoring, &second).await.unwrap();
    assert!(outcome.detail.contains("watched by the fleet's alerts"), "{outcome:?}");
    assert_eq!(api.all(Kind::PrometheusRule).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_records_that_monitoring_was_left_out_and_why() {
    let standard: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| !kind.is_custom()).collect();
    let (control, api) = (Control::start().await, ApiDouble::with(&standard).await);
    let redis = RedisServer::start(RedisOptions::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let engine = crate::upgrade::engine(&control, &api, &redis, directory.path()).await;
    let wanted = control.wanted().await;
    while engine.execute(wanted.operation).await.unwrap() != authsome_provisioner::execution::Execution::Over {}
    let steps = control.steps(wanted.operation).await;
    let monitoring = steps.iter().find(|row| row.step == Step::Monitoring).unwrap();
    assert_eq!(monitoring.status, "skipped", "{monitoring:?}");
    assert!(
        monitoring
            .detail
            .as_deref()
            .is_some_and(|detail| detail.contains("no Prometheus operator")),
        "{monitoring:?}"
    );
}
