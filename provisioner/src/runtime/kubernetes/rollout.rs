//! How a roll-out is going, read from the Deployment and its pods. Pure.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::kind::Kind;
use super::manifest::{COMPONENT_LABEL, Component, GENERATION, NAME};
use super::store::{Seen, Store};
use super::trouble::trouble;
use crate::runtime::{InstanceState, Phase, Placement, Trouble};

/// The instances of a namespace as the watch saw them.
pub(super) fn placement(store: &Store, namespace: &str, floor: u32, port: u16, service: String) -> Placement {
    let deployment = store.get(Kind::Deployment, namespace, NAME);
    let pods: Vec<(String, Seen)> = store
        .list(Kind::Pod, namespace)
        .into_iter()
        .filter(|(_, pod)| is_instance(&pod.body))
        .collect();
    let trouble = trouble(
        deployment.as_ref().map(|seen| &*seen.body),
        &of_newest(deployment.as_ref(), &pods),
    );
    let instances = pods
        .iter()
        // One that is on its way out serves until it is gone, but is no instance to count on.
        .filter(|(_, pod)| !is_over(&pod.body))
        .map(|(_, pod)| state(pod, port, trouble.as_ref()))
        .collect();
    let replicas = deployment
        .as_ref()
        .and_then(|seen| seen.body["spec"]["replicas"].as_u64())
        .unwrap_or(0);
    Placement {
        instances,
        wanted: usize::try_from(replicas.max(u64::from(floor))).unwrap_or(usize::MAX),
        service: Some(service),
        trouble,
    }
}

/// The pods that are to stay. What is wrong with those before them is what a roll-out may be there to put right.
fn of_newest(deployment: Option<&Seen>, pods: &[(String, Seen)]) -> Vec<(String, Seen)> {
    let template = deployment.map(|seen| &seen.body["spec"]["template"]["metadata"]["annotations"][GENERATION]);
    let newest = template.filter(|generation| generation.is_string());
    pods.iter()
        .filter(|(_, pod)| newest.is_none_or(|newest| pod.body["metadata"]["annotations"][GENERATION] == *newest))
        .cloned()
        .collect()
}

pub(super) fn is_instance(pod: &Value) -> bool {
    pod["metadata"]["labels"][COMPONENT_LABEL] == Component::Instance.as_str()
}

pub(super) fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn state(pod: &Seen, port: u16, trouble: Option<&Trouble>) -> InstanceState {
    let body = &pod.body;
    let generation = body["metadata"]["annotations"][GENERATION].as_str();
    let ready = !pod.deleting && condition(body, "Ready") == Some("True");
    let ip: Option<IpAddr> = body["status"]["podIP"].as_str().and_then(|ip| ip.parse().ok());
    InstanceState {
        generation: generation.and_then(|text| text.parse().ok()).unwrap_or(0),
        address: ip.map(|ip| SocketAddr::new(ip, port)),
        phase: match trouble {
            _ if ready => Phase::Healthy,
            Some(trouble) => Phase::Failing(trouble.detail.clone()),
            None => Phase::Starting,
        },
    }
}

fn condition<'a>(body: &'a Value, name: &str) -> Option<&'a str> {
    let conditions = body["status"]["conditions"].as_array()?;
    conditions.iter().find(|one| one["type"] == name)?["status"].as_str()
}
