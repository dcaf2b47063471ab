//! Just enough of a cluster's controllers: Deployments and Jobs have pods, pods become ready or say why not, autoscalers keep
//! their floor, and a namespace that is deleted takes everything with it.

use std::sync::Arc;

use authsome_provisioner::runtime::kubernetes::Kind;
use serde_json::{Value, json};

use super::objects::{Key, Objects};
use super::{Inner, Trouble, apply};

/// A name that no resolver knows (RFC 6761).
const NO_REGISTRY: &str = "registry.invalid/";
/// What the API server says to whoever makes a pod too many.
pub const OVER_QUOTA: &str = "pods \"x\" is forbidden: exceeded quota: authsome, requested: limits.cpu=1, used: \
                              limits.cpu=8, limited: limits.cpu=8";

pub async fn run(inner: Arc<Inner>) {
    let mut seen = 0;
    loop {
        let changed = inner.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let trouble = inner.trouble.lock().unwrap().clone();
        let moved = {
            let mut objects = inner.objects();
            let mut namespaces: Vec<String> = objects.history[seen..]
                .iter()
                .map(|happened| {
                    let metadata = &happened.object["metadata"];
                    metadata["namespace"]
                        .as_str()
                        .or(metadata["name"].as_str())
                        .unwrap_or_default()
                        .to_owned()
                })
                .collect();
            seen = objects.history.len();
            namespaces.sort_unstable();
            namespaces.dedup();
            let before = objects.version();
            for namespace in namespaces {
                settle(&mut objects, &namespace, &trouble);
            }
            objects.version() != before
        };
        if moved {
            inner.changed.notify_waiters();
        } else {
            changed.await;
        }
    }
}

fn settle(objects: &mut Objects, namespace: &str, trouble: &Trouble) {
    let own = Key::new(Kind::Namespace, "", namespace);
    if objects
        .get(&own)
        .is_some_and(|object| object["metadata"].get("deletionTimestamp").is_some())
    {
        let inside: Vec<Key> = objects
            .iter()
            .filter(|(key, _)| key.namespace == namespace && **key != own)
            .map(|(key, _)| key.clone())
            .collect();
        for key in inside {
            objects.delete(&key);
        }
        match (trouble.held, objects.get(&own).cloned()) {
            (Some((condition, message)), Some(mut namespace)) => {
                let condition = json!({ "type": condition, "status": "True", "message": message });
                namespace["status"]["conditions"] = json!([condition]);
                objects.put(&own, namespace);
            }
            _ => {
                objects.delete(&own);
            }
        }
        return;
    }
    let of = |objects: &Objects, kind| -> Vec<(Key, Value)> {
        objects
            .of(kind, namespace)
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect()
    };
    for (_, scaler) in of(objects, Kind::HorizontalPodAutoscaler) {
        let target = Key::new(
            Kind::Deployment,
            namespace,
            scaler["spec"]["scaleTargetRef"]["name"].as_str().unwrap(),
        );
        if let Some(mut deployment) = objects.get(&target).cloned() {
            let replicas = deployment["spec"]["replicas"].as_u64().unwrap();
            let floor = scaler["spec"]["minReplicas"].as_u64().unwrap();
            if replicas > 0 && replicas < floor {
                deployment["spec"]["replicas"] = floor.into();
                apply::update(objects, &target, deployment, "kube-controller-manager");
            }
        }
    }
    for kind in [Kind::Deployment, Kind::StatefulSet, Kind::Job] {
        for (key, owner) in of(objects, kind) {
            pods(objects, &key, &owner, trouble);
        }
    }
    // Pods whose owner is gone go too.
    for (key, pod) in of(objects, Kind::Pod) {
        let owner = &pod["metadata"]["ownerReferences"][0];
        let kind = [Kind::Deployment, Kind::StatefulSet, Kind::Job]
            .into_iter()
            .find(|kind| owner["kind"] == kind.name());
        let present = kind.is_some_and(|kind| {
            objects
                .get(&Key::new(kind, namespace, owner["name"].as_str().unwrap()))
                .is_some()
        });
        if !present {
            objects.delete(&key);
        }
    }
}

/// A Deployment that is healthy replaces its older pods; one whose newer pods do not come up keeps them.
fn pods(objects: &mut Objects, key: &Key, owner: &Value, trouble: &Trouble) {
    let template = &owner["spec"]["template"];
    let wanted = match key.kind {
        Kind::Job => 1,
        _ => owner["spec"]["replicas"].as_u64().unwrap_or(1),
    };
    let revision = authsome_provisioner::runtime::kubernetes::manifest::hash(template)[..8].to_owned();
    let prefix = format!("{}-{revision}-", key.name);
    let mine = |pod: &Value| {
        let owner = &pod["metadata"]["ownerReferences"][0];
        owner["name"] == key.name && owner["kind"] == key.kind.name()
    };
    let existing: Vec<(Key, Value)> = objects
        .of(Kind::Pod, &key.namespace)
        .filter(|(_, pod)| mine(pod))
        .map(|(key, pod)| (key.clone(), pod.clone()))
        .collect();
    let over_quota = trouble.over_quota && existing.iter().all(|(pod, _)| !pod.name.starts_with(&prefix)) && wanted > 0;
    let mut ready = 0;
    if !over_quota {
        for number in 0..wanted {
            let pod_key = Key::new(Kind::Pod, &key.namespace, &format!("{prefix}{number}"));
            let mut pod = objects.get(&pod_key).cloned().unwrap_or_else(|| {
                json!({
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": {
                        "name": pod_key.name, "namespace": key.namespace,
                        "labels": template["metadata"]["labels"], "annotations": template["metadata"]["annotations"],
                        "ownerReferences": [{ "kind": key.kind.name(), "name": key.name }],
                    },
                    "spec": template["spec"],
                })
            });
            let (status, is_ready) = status(&pod["spec"], number, trouble, key);
            ready += u64::from(is_ready);
            pod["status"] = status;
            objects.put(&pod_key, pod);
        }
    }
    for (pod, _) in &existing {
        let number = pod
            .name
            .strip_prefix(&prefix)
            .and_then(|number| number.parse::<u64>().ok());
        let outdated = number.is_none() && (ready == wanted);
        if outdated || number.is_some_and(|number| number >= wanted) || wanted == 0 {
            objects.delete(pod);
        }
    }
    let mut owner = owner.clone();
    owner["status"] = match key.kind {
        // Only events tell of theirs.
        Kind::Job | Kind::StatefulSet if over_quota => {
            json!({ "observedGeneration": owner["metadata"]["generation"], "replicas": 0 })
        }
        Kind::Job if ready > 0 => json!({ "succeeded": 1, "conditions": [{ "type": "Complete", "status": "True" }] }),
        Kind::Job => {
            json!({ "failed": 1, "conditions": [{ "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded" }] })
        }
        _ if over_quota => json!({ "conditions": [{
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
            "message": OVER_QUOTA,
        }]}),
        _ => {
            json!({ "observedGeneration": owner["metadata"]["generation"], "replicas": wanted, "readyReplicas": ready })
        }
    };
    objects.put(key, owner);
}

fn status(spec: &Value, number: u64, trouble: &Trouble, owner: &Key) -> (Value, bool) {
    let container = &spec["containers"][0];
    let image = container["image"].as_str().unwrap_or_default();
    let waiting = |reason: &str, message: &str, last: Value| {
        (
            json!({
                "phase": "Pending",
                "conditions": [{ "type": "Ready", "status": "False" }],
                "containerStatuses": [{
                    "name": container["name"], "image": image, "ready": false, "lastState": last,
                    "state": { "waiting": { "reason": reason, "message": message } },
                }],
            }),
            false,
        )
    };
    let no_volume = trouble.no_volumes && owner.kind == Kind::StatefulSet;
    if trouble.full || no_volume {
        let message = if no_volume {
            "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."
        } else {
            "0/3 nodes are available"
        };
        let status = json!({ "phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        }]});
        return (status, false);
    }
    if image.starts_with(NO_REGISTRY) {
        let message = format!("failed to pull {image:?}: dial tcp: lookup registry.invalid: no such host");
        return waiting("ErrImagePull", &message, json!({}));
    }
    if trouble.images.contains(image) {
        let message = format!("Back-off pulling image {image:?}: not found");
        return waiting("ImagePullBackOff", &message, json!({}));
    }
    if trouble.starting.contains(image) {
        let status = json!({
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "False" }],
            "containerStatuses": [{ "name": container["name"], "ready": false, "restartCount": 0, "state": { "running": {} } }],
        });
        return (status, false);
    }
    let here = (owner.namespace.clone(), image.to_owned());
    if trouble.crashing.contains(image) || trouble.crashing_in.contains(&here) {
        let last = json!({ "terminated": { "exitCode": 101, "reason": "Error" } });
        return waiting("CrashLoopBackOff", "back-off 10s restarting failed container", last);
    }
    let phase = if owner.kind == Kind::Job {
        "Succeeded"
    } else {
        "Running"
    };
    (
        json!({
            "phase": phase,
            "podIP": format!("10.42.0.{}", number + 1),
            "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [{ "name": container["name"], "ready": true, "state": { "running": {} } }],
        }),
        true,
    )
}
