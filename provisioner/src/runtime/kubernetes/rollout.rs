//! How a roll-out is going, read from the Deployment and its pods. Pure.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::kind::Kind;
use super::manifest::{COMPONENT_LABEL, Component, GENERATION, NAME};
use super::store::{Seen, Store};
use crate::runtime::{InstanceState, Phase, Placement, Trouble};

/// The instances of a namespace as the watch saw them.
pub(super) fn placement(store: &Store, namespace: &str, floor: u32, port: u16, service: String) -> Placement {
    let deployment = store.get(Kind::Deployment, namespace, NAME);
    let pods: Vec<(String, Seen)> = store
        .list(Kind::Pod, namespace)
        .into_iter()
        .filter(|(_, pod)| is_instance(&pod.body))
        .collect();
    let trouble = trouble(deployment.as_ref().map(|seen| &*seen.body), &pods);
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

/// What keeps instances from coming up, the most telling first; `None` while nothing does.
fn trouble(deployment: Option<&Value>, pods: &[(String, Seen)]) -> Option<Trouble> {
    let live = || pods.iter().filter(|(_, pod)| !pod.deleting);
    let of_container = live().find_map(|(name, pod)| {
        let kinds = ["initContainerStatuses", "containerStatuses"];
        let mut statuses = kinds
            .iter()
            .filter_map(|kind| pod.body["status"][kind].as_array())
            .flatten();
        statuses.find_map(|status| container_trouble(name, status))
    });
    of_container
        .or_else(|| deployment.and_then(quota_trouble))
        .or_else(|| live().find_map(|(_, pod)| schedule_trouble(&pod.body)))
        .or_else(|| deployment.and_then(late))
}

fn container_trouble(pod: &str, status: &Value) -> Option<Trouble> {
    let waiting = &status["state"]["waiting"];
    let message = waiting["message"].as_str().unwrap_or_default();
    let container = status["name"].as_str().unwrap_or_default().to_owned();
    let trouble = |public: String| {
        Some(Trouble {
            detail: format!(
                "{container} of {pod}: {}: {message}",
                waiting["reason"].as_str().unwrap_or_default()
            ),
            public,
            last_lines_of: None,
        })
    };
    match waiting["reason"].as_str()? {
        "ImagePullBackOff" | "ErrImagePull" | "ErrImageNeverPull" | "RegistryUnavailable" => {
            trouble("The image of the instance cannot be pulled.".to_owned())
        }
        "InvalidImageName" => trouble("The image of the instance has no valid name.".to_owned()),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            trouble("The instance cannot be started as it is configured.".to_owned())
        }
        "CrashLoopBackOff" => {
            let end = &status["lastState"]["terminated"];
            let public = match (end["reason"].as_str(), end["exitCode"].as_i64()) {
                (Some("OOMKilled"), _) => "The instance needs more memory than it may use.".to_owned(),
                (_, Some(code)) => format!("The instance ends as soon as it starts, with exit code {code}."),
                _ => "The instance ends as soon as it starts.".to_owned(),
            };
            let mut trouble = trouble(public)?;
            trouble.last_lines_of = Some((pod.to_owned(), container.clone()));
            Some(trouble)
        }
        _ => None,
    }
}

fn quota_trouble(deployment: &Value) -> Option<Trouble> {
    let conditions = deployment["status"]["conditions"].as_array()?;
    let failure = conditions
        .iter()
        .find(|one| one["type"] == "ReplicaFailure" && one["status"] == "True")?;
    let message = failure["message"].as_str().unwrap_or_default();
    let public = if message.contains("exceeded quota") {
        "The application has reached the limits of its plan in the cluster."
    } else {
        "The cluster refuses the instance."
    };
    Some(Trouble::new(public, message))
}

fn schedule_trouble(pod: &Value) -> Option<Trouble> {
    let conditions = pod["status"]["conditions"].as_array()?;
    let unscheduled = conditions
        .iter()
        .find(|one| one["type"] == "PodScheduled" && one["status"] == "False" && one["reason"] == "Unschedulable")?;
    let message = unscheduled["message"].as_str().unwrap_or_default();
    Some(Trouble::new(
        "The cluster of this region has no room for the instance.",
        message,
    ))
}

fn late(deployment: &Value) -> Option<Trouble> {
    let conditions = deployment["status"]["conditions"].as_array()?;
    let late = conditions
        .iter()
        .find(|one| one["type"] == "Progressing" && one["reason"] == "ProgressDeadlineExceeded")?;
    let message = late["message"].as_str().unwrap_or_default();
    Some(Trouble::new("The instance did not become healthy in time.", message))
}
