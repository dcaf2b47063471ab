//! What is changed or removed by hand is put right, and what is not ours is left alone.

use authsome_contract::model::Step;
use authsome_provisioner::runtime::Runtime;
use authsome_provisioner::runtime::kubernetes::Kind;
use authsome_testkit::wait_for;
use serde_json::json;

use super::life::{SOON, build, runtime};
use super::samples::{new_id, settings, workload};
use crate::api_double::ApiDouble;

#[tokio::test]
async fn every_object_that_is_removed_is_noticed_and_made_again() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, settings());
    let workload = workload(new_id(), 1);
    let namespace = &workload.site.namespace;
    build(&runtime, &workload).await;
    let objects: Vec<(Kind, String)> = api
        .names(namespace)
        .iter()
        .filter_map(|name| {
            let (kind, name) = name.split_once('/').unwrap();
            let kind = Kind::ALL.into_iter().find(|one| one.name() == kind).unwrap();
            (kind != Kind::Namespace).then(|| (kind, name.to_owned()))
        })
        .collect();
    assert!(objects.len() > 12);
    for (kind, name) in objects {
        while tokio::time::timeout(std::time::Duration::from_millis(1), runtime.moved())
            .await
            .is_ok()
        {}
        api.delete(kind, namespace, &name);
        let moved = tokio::time::timeout(SOON, runtime.moved())
            .await
            .expect("the watch says so");
        assert_eq!(moved, workload.application);
        let mut lacking = runtime.lacks(Step::Namespace, &workload.site).await.unwrap();
        lacking.extend(runtime.differences(&workload).await.unwrap());
        lacking.extend(runtime.lacks(Step::Monitoring, &workload.site).await.unwrap());
        assert!(
            lacking.iter().any(|one| one.contains(&name)),
            "{kind:?} {name}: {lacking:?}"
        );
        build(&runtime, &workload).await;
        assert!(api.get(kind, namespace, &name).is_some(), "{kind:?} {name}");
    }
}

#[tokio::test]
async fn a_field_of_ours_is_taken_back_and_a_field_of_others_is_left_alone() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, settings());
    let workload = workload(new_id(), 1);
    let namespace = &workload.site.namespace;
    build(&runtime, &workload).await;
    assert!(runtime.differences(&workload).await.unwrap().is_empty());

    api.edit(Kind::Deployment, namespace, "authsome", |object| {
        object["metadata"]["annotations"]["team/note"] = "ours".into();
        object["spec"]["replicas"] = 7.into();
        object["spec"]["template"]["spec"]["priorityClassName"] = "high".into();
    });
    api.edit(Kind::HorizontalPodAutoscaler, namespace, "authsome", |object| {
        object["spec"]["maxReplicas"] = 99.into();
    });
    api.edit(Kind::NetworkPolicy, namespace, "allow-https", |object| {
        object["spec"]["egress"][0]["to"] = json!([{ "ipBlock": { "cidr": "0.0.0.0/0" } }]);
    });
    wait_for("the difference to be seen", SOON, async || {
        let found = runtime.differences(&workload).await.unwrap();
        found.iter().any(|one| one.contains("maxReplicas")).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(
        runtime.differences(&workload).await.unwrap().len(),
        1,
        "others' fields are no difference"
    );
    let lacking = runtime.lacks(Step::Namespace, &workload.site).await.unwrap();
    assert!(lacking.len() == 1 && lacking[0].contains("allow-https"), "{lacking:?}");

    build(&runtime, &workload).await;
    let deployment = api.get(Kind::Deployment, namespace, "authsome").unwrap();
    assert_eq!(deployment["spec"]["replicas"], 7);
    assert_eq!(deployment["metadata"]["annotations"]["team/note"], "ours");
    assert_eq!(deployment["spec"]["template"]["spec"]["priorityClassName"], "high");
    let scaler = api.get(Kind::HorizontalPodAutoscaler, namespace, "authsome").unwrap();
    assert_eq!(scaler["spec"]["maxReplicas"], 6);
    let policy = api.get(Kind::NetworkPolicy, namespace, "allow-https").unwrap();
    assert!(policy.to_string().contains("169.254.0.0/16"));
}

type Tamper = fn(&mut serde_json::Value);

#[tokio::test]
async fn what_is_added_to_a_selector_or_opens_a_way_is_taken_back() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, settings());
    let workload = workload(new_id(), 1);
    let namespace = &workload.site.namespace;
    build(&runtime, &workload).await;
    let tampered: [(Kind, &str, Tamper); 4] = [
        (Kind::NetworkPolicy, "default-deny", |object| {
            object["spec"]["podSelector"] = json!({ "matchLabels": { "nobody": "has" } });
        }),
        (Kind::NetworkPolicy, "default-deny", |object| {
            object["spec"]["ingress"] = json!([{}]);
        }),
        (Kind::NetworkPolicy, "allow-edge", |object| {
            object["spec"]["ingress"][0]["ports"][0]["endPort"] = 65535.into();
        }),
        (Kind::Service, "authsome", |object| {
            object["spec"]["selector"]["nobody"] = "has".into();
        }),
    ];
    for (kind, name, tamper) in tampered {
        let before = api.get(kind, namespace, name).unwrap()["spec"].clone();
        api.edit(kind, namespace, name, tamper);
        wait_for("the difference to be seen", SOON, async || {
            let mut found = runtime.differences(&workload).await.unwrap();
            found.extend(runtime.lacks(Step::Namespace, &workload.site).await.unwrap());
            found.iter().any(|one| one.contains(name)).then_some(())
        })
        .await
        .unwrap();
        build(&runtime, &workload).await;
        assert_eq!(api.get(kind, namespace, name).unwrap()["spec"], before, "{name}");
    }
}

#[tokio::test]
async fn instances_that_somebody_scaled_to_zero_are_started_again() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, settings());
    let workload = workload(new_id(), 1);
    build(&runtime, &workload).await;
    api.edit(Kind::Deployment, &workload.site.namespace, "authsome", |object| {
        object["spec"]["replicas"] = 0.into();
    });
    wait_for("it to be seen", SOON, async || {
        (!runtime.differences(&workload).await.unwrap().is_empty()).then_some(())
    })
    .await
    .unwrap();
    build(&runtime, &workload).await;
}

#[tokio::test]
async fn what_is_as_it_should_be_costs_no_call() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, settings());
    let workload = workload(new_id(), 1);
    build(&runtime, &workload).await;
    let before = api.count();
    for _ in 0..100 {
        runtime.observe(workload.application).await.unwrap();
        runtime.differences(&workload).await.unwrap();
        runtime.lacks(Step::Namespace, &workload.site).await.unwrap();
        runtime.lacks(Step::Monitoring, &workload.site).await.unwrap();
    }
    assert_eq!(api.count(), before);
    for (call, count) in api.calls() {
        if call.verb == "list" {
            // And whether the namespace is somebody else's, before it was made.
            let once = u64::from(call.resource == "namespaces");
            assert_eq!(count, 1 + once, "{call:?}");
        }
    }
}

#[tokio::test]
async fn a_new_process_finds_everything_by_looking() {
    let api = ApiDouble::start().await;
    let workload = workload(new_id(), 1);
    build(&runtime(&api, settings()), &workload).await;
    let second = runtime(&api, settings());
    assert!(second.observe(workload.application).await.unwrap().is_healthy(1));
    assert!(!second.is_verified(Step::Instance, &workload.site), "nobody looked yet");
    assert!(second.differences(&workload).await.unwrap().is_empty());
    assert!(second.is_verified(Step::Instance, &workload.site));
}
