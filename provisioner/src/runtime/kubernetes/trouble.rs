//! What keeps pods from coming up, read from their owner and from themselves and said in words that a customer can use. Pure.
//!
//! What a registry, a scheduler or an API server says goes to the log as it is; customers read what they can do something
//! about: the image and what is wrong with it, what is over the quota, what the cluster lacks.

use serde_json::Value;

use super::store::Seen;
use crate::runtime::{Container, Trouble};

/// Whose pods they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// The application's instances.
    Instance,
    /// Its own Postgres.
    Postgres,
    /// Its own Redis.
    Redis,
    /// The job that prepares its schema.
    Migration,
}

impl Who {
    /// After "The" and "the".
    const fn name(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Postgres => "application's own Postgres",
            Self::Redis => "application's own Redis",
            Self::Migration => "migration",
        }
    }
}

const ANOTHER_IMAGE: &str = "Choose an image that the registry has and that the cluster may pull, and try again.";
const OPERATORS: &str = "Contact support with the operation's id: the cluster's settings have to change.";

/// What keeps instances from coming up, the most telling first; `None` while nothing does. `pods` are those that are to stay.
pub(super) fn trouble(deployment: Option<&Value>, pods: &[(String, Seen)]) -> Option<Trouble> {
    in_containers(Who::Instance, pods)
        .or_else(|| deployment.and_then(refused))
        .or_else(|| in_scheduling(Who::Instance, pods))
        .or_else(|| deployment.and_then(|deployment| late(deployment, pods)))
}

/// The same, of pods that no Deployment speaks for.
pub(super) fn of_pods(who: Who, pods: &[(String, Seen)]) -> Option<Trouble> {
    in_containers(who, pods).or_else(|| in_scheduling(who, pods))
}

fn in_containers(who: Who, pods: &[(String, Seen)]) -> Option<Trouble> {
    live(pods).find_map(|(name, pod)| containers(&pod.body).find_map(|status| of_container(who, name, status)))
}

fn in_scheduling(who: Who, pods: &[(String, Seen)]) -> Option<Trouble> {
    live(pods).find_map(|(_, pod)| unscheduled(who, &pod.body))
}

fn live(pods: &[(String, Seen)]) -> impl Iterator<Item = &(String, Seen)> {
    pods.iter().filter(|(_, pod)| !pod.deleting)
}

/// The statuses of a pod's containers, those that come first first.
fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .filter_map(|kind| pod["status"][kind].as_array())
        .flatten()
}

fn of_container(who: Who, pod: &str, status: &Value) -> Option<Trouble> {
    let name = status["name"].as_str().unwrap_or_default();
    let waiting = &status["state"]["waiting"];
    let reason = waiting["reason"].as_str().unwrap_or_default();
    let message = waiting["message"].as_str().unwrap_or_default();
    let trouble = |public: String| Trouble::new(public, format!("{name} of {pod}: {reason}: {message}"));
    let whose = who.name();
    match reason {
        "ImagePullBackOff" | "ErrImagePull" | "ErrImageNeverPull" | "RegistryUnavailable" => {
            let image = status["image"].as_str().filter(|image| !image.is_empty());
            let image = image.map(|image| format!(" {image}")).unwrap_or_default();
            let (why, passes) = why_not_pulled(reason, message);
            Some(Trouble {
                remedy: (!passes).then_some(ANOTHER_IMAGE),
                ..trouble(format!("The image{image} of the {whose} cannot be pulled{why}."))
            })
        }
        "InvalidImageName" => Some(Trouble {
            remedy: Some(ANOTHER_IMAGE),
            ..trouble(format!("The image of the {whose} has no valid name."))
        }),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some(trouble(format!("The {whose} cannot be started as it is configured.")))
        }
        // A job tries again by itself, and says when it gave up.
        _ if who == Who::Migration => None,
        _ => crashed(who, pod, name, status),
    }
}

/// As far as the registry's answer, in the words of the kubelet, says it; and whether it may pass by itself.
fn why_not_pulled(reason: &str, message: &str) -> (&'static str, bool) {
    let says = |words: &[&str]| {
        let message = message.to_ascii_lowercase();
        words.iter().any(|word| message.contains(word))
    };
    if reason == "ErrImageNeverPull" {
        (": it is not on the node, and may not be pulled", false)
    } else if says(&["toomanyrequests", "too many requests", "pull rate limit"]) {
        (": the registry takes no more requests for now", true)
    } else if says(&["unauthorized", "denied", "forbidden", "authentication"]) {
        (": the registry does not let the cluster have it", false)
    } else if says(&[
        "timeout",
        "no route",
        "connection refused",
        "lookup",
        "unreachable",
        "dial tcp",
    ]) {
        // Before "no such": that is also what is said of a host without an address.
        (": the registry cannot be reached", true)
    } else if says(&["not found", "manifest unknown", "no such", "does not exist"]) {
        (": the registry does not have it", false)
    } else {
        ("", true)
    }
}

/// One that has ended with an error, whether it waits for its next start, has just ended, or runs again without being ready.
fn crashed(who: Who, pod: &str, name: &str, status: &Value) -> Option<Trouble> {
    let (state, last) = (&status["state"], &status["lastState"]["terminated"]);
    let backs_off = state["waiting"]["reason"] == "CrashLoopBackOff";
    let ended = &state["terminated"];
    let again = status["restartCount"].as_u64().unwrap_or(0) > 0 && status["ready"] != true && last.is_object();
    let (end, previous) = if ended.is_object() && ended["exitCode"] != 0 {
        (ended, false)
    } else if backs_off || again {
        (last, true)
    } else {
        return None;
    };
    let code = end["exitCode"].as_i64();
    let who = who.name();
    let public = match (end["reason"].as_str(), code) {
        (Some("OOMKilled"), _) => format!("The {who} needs more memory than it may use."),
        // It ended well and is started again because a service must not end.
        (_, Some(0)) => format!("The {who} ends as soon as it starts, without an error."),
        (_, Some(code)) => format!("The {who} ends as soon as it starts, with exit code {code}."),
        _ => format!("The {who} ends as soon as it starts."),
    };
    let why = end["reason"].as_str().unwrap_or_default();
    let detail = format!("{name} of {pod}: ended with {why} {code:?}");
    Some(Trouble {
        last_lines_of: Some(container(pod, name, previous)),
        ..Trouble::new(public, detail)
    })
}

fn container(pod: &str, name: &str, previous: bool) -> Container {
    Container {
        pod: pod.to_owned(),
        name: name.to_owned(),
        previous,
    }
}

/// The API server takes no pod: over a quota, or against a policy.
fn refused(deployment: &Value) -> Option<Trouble> {
    let failure = condition(deployment, |one| {
        one["type"] == "ReplicaFailure" && one["status"] == "True"
    })?;
    Some(of_refusal(
        Who::Instance,
        failure["message"].as_str().unwrap_or_default(),
    ))
}

/// What the API server said when it took no pod.
pub(super) fn of_refusal(who: Who, message: &str) -> Trouble {
    if let Some(over) = over_quota(message) {
        return Trouble::new(over, message);
    }
    if message.contains("violates PodSecurity") {
        let public = format!("The cluster's security policy does not allow the {}.", who.name());
        return Trouble {
            remedy: Some(OPERATORS),
            ..Trouble::new(public, message)
        };
    }
    Trouble::new(format!("The cluster refuses the {}.", who.name()), message)
}

/// What is over which quota, from `… exceeded quota: NAME, requested: A, used: B, limited: C`.
pub(super) fn over_quota(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("exceeded quota")?;
    let part = |name: &str| {
        let (_, after) = rest.split_once(name)?;
        let end = [", used: ", ", limited: "]
            .iter()
            .filter_map(|next| after.find(next))
            .min();
        Some(after[..end.unwrap_or(after.len())].trim())
    };
    let reached = "The application has reached the limits of its plan in the cluster";
    Some(match (part("requested: "), part("used: "), part("limited: ")) {
        (Some(requested), Some(used), Some(limited)) => {
            format!("{reached}: it asks for {requested} more, uses {used} and may have {limited}.")
        }
        _ => format!("{reached}."),
    })
}

fn unscheduled(who: Who, pod: &Value) -> Option<Trouble> {
    let unscheduled = condition(pod, |one| {
        one["type"] == "PodScheduled" && one["status"] == "False" && one["reason"] == "Unschedulable"
    })?;
    let message = unscheduled["message"].as_str().unwrap_or_default();
    let mut lacking: Vec<&str> = message
        .split("Insufficient ")
        .skip(1)
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-./".contains(c));
            rest[..end.unwrap_or(rest.len())].trim_end_matches('.')
        })
        .collect();
    lacking.sort_unstable();
    lacking.dedup();
    let who = who.name();
    let public = if !lacking.is_empty() {
        let lacking = lacking.join(" and ");
        format!("The cluster of this region has no room for the {who}: it lacks {lacking}.")
    } else if message.contains("PersistentVolumeClaim") {
        format!("The cluster of this region has no volume for the {who}.")
    } else {
        format!("The cluster of this region has no room for the {who}.")
    };
    Some(Trouble::new(public, message))
}

fn late(deployment: &Value, pods: &[(String, Seen)]) -> Option<Trouble> {
    let late = condition(deployment, |one| {
        one["type"] == "Progressing" && one["reason"] == "ProgressDeadlineExceeded"
    })?;
    let message = late["message"].as_str().unwrap_or_default();
    let silent = pods.iter().find_map(|(pod, seen)| {
        containers(&seen.body)
            .find(|status| status["state"]["running"].is_object() && status["ready"] == false)
            .and_then(|status| Some(container(pod, status["name"].as_str()?, false)))
    });
    let public = if silent.is_some() {
        "The instance runs, but does not answer its health check."
    } else {
        "The instance did not become healthy in time."
    };
    Some(Trouble {
        last_lines_of: silent,
        ..Trouble::new(public, message)
    })
}

fn condition(body: &Value, is: impl Fn(&Value) -> bool) -> Option<&Value> {
    body["status"]["conditions"].as_array()?.iter().find(|one| is(one))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of_pod(status: &Value) -> Option<Trouble> {
        let pod = Seen::new(json!({ "status": status }));
        trouble(None, &[("authsome-1".to_owned(), pod)])
    }

    fn of_status(status: &Value) -> Option<Trouble> {
        of_pod(&json!({ "containerStatuses": [status] }))
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_named_with_what_the_registry_says() {
        for (message, why) in [
            (
                "rpc error: code = NotFound desc = failed to resolve reference: not found",
                ": the registry does not have it.",
            ),
            (
                "failed to authorize: 401 Unauthorized",
                ": the registry does not let the cluster have it.",
            ),
            (
                "dial tcp: lookup ghcr.io: i/o timeout",
                ": the registry cannot be reached.",
            ),
            ("Back-off pulling image", "pulled."),
        ] {
            let waiting = json!({ "reason": "ErrImagePull", "message": message });
            let found = of_status(&json!({
                "name": "authsome", "image": "ghcr.io/x/authsome:2", "ready": false, "state": { "waiting": waiting },
            }))
            .unwrap();
            assert!(
                found.public.contains("The image ghcr.io/x/authsome:2") && found.public.ends_with(why),
                "{found:?}"
            );
            assert!(found.detail.contains(message) && found.last_lines_of.is_none());
        }
    }

    #[test]
    fn a_crash_is_seen_in_every_state_of_its_loop_and_names_the_log_that_tells_why() {
        let end = json!({ "exitCode": 101, "reason": "Error" });
        for (state, last, previous) in [
            (
                json!({ "waiting": { "reason": "CrashLoopBackOff" } }),
                json!({ "terminated": end }),
                true,
            ),
            (json!({ "terminated": end }), json!({}), false),
            (json!({ "running": {} }), json!({ "terminated": end }), true),
        ] {
            let status =
                json!({ "name": "authsome", "ready": false, "restartCount": 2, "state": state, "lastState": last });
            let found = of_status(&status).unwrap();
            assert_eq!(
                found.public,
                "The instance ends as soon as it starts, with exit code 101."
            );
            assert_eq!(found.last_lines_of, Some(container("authsome-1", "authsome", previous)));
        }
        let first = json!({ "name": "authsome", "ready": false, "restartCount": 0, "state": { "running": {} }, "lastState": {} });
        assert_eq!(of_status(&first), None, "it has just been started");
        let again = json!({
            "name": "authsome", "ready": true, "restartCount": 3, "state": { "running": {} }, "lastState": { "terminated": end },
        });
        assert_eq!(of_status(&again), None, "it recovered");
        let memory = json!({
            "name": "authsome", "ready": false, "restartCount": 1, "state": { "waiting": { "reason": "CrashLoopBackOff" } },
            "lastState": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } },
        });
        assert!(of_status(&memory).unwrap().public.contains("more memory"));
    }

    #[test]
    fn a_quota_is_told_with_what_was_asked_used_and_allowed() {
        let of = |message: &str| {
            let condition = json!({ "type": "ReplicaFailure", "status": "True", "message": message });
            trouble(Some(&json!({ "status": { "conditions": [condition] } })), &[])
                .unwrap()
                .public
        };
        assert_eq!(
            of(
                "pods \"a-1\" is forbidden: exceeded quota: authsome, requested: limits.cpu=500m,limits.memory=1Gi, \
                used: limits.cpu=2,limits.memory=4Gi, limited: limits.cpu=2,limits.memory=4Gi"
            ),
            "The application has reached the limits of its plan in the cluster: it asks for limits.cpu=500m,limits.memory=1Gi \
             more, uses limits.cpu=2,limits.memory=4Gi and may have limits.cpu=2,limits.memory=4Gi."
        );
        assert_eq!(
            of("exceeded quota: x"),
            "The application has reached the limits of its plan in the cluster."
        );
        assert!(of("pods \"a\" is forbidden: violates PodSecurity \"restricted:latest\"").contains("security policy"));
        assert_eq!(of("admission webhook said no"), "The cluster refuses the instance.");
    }

    #[test]
    fn what_the_cluster_lacks_is_named_once_and_its_nodes_are_not() {
        let of = |message: &str| {
            let condition =
                json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message });
            of_pod(&json!({ "conditions": [condition] })).unwrap().public
        };
        assert_eq!(
            of(
                "0/3 nodes are available: 2 Insufficient cpu, 1 Insufficient memory. preemption: 0/3 nodes are available: 3 \
                Insufficient cpu."
            ),
            "The cluster of this region has no room for the instance: it lacks cpu and memory."
        );
        assert_eq!(
            of("0/3 nodes are available: 3 node(s) had untolerated taint {x: y}."),
            "The cluster of this region has no room for the instance."
        );
    }

    #[test]
    fn one_that_runs_and_never_answers_is_told_apart_from_one_that_does_not_run() {
        let deployment = json!({ "status": { "conditions": [
            { "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "late" },
        ]}});
        let status = json!({ "name": "authsome", "ready": false, "restartCount": 0, "state": { "running": {} } });
        let silent = Seen::new(json!({ "status": { "containerStatuses": [status] } }));
        let found = trouble(Some(&deployment), &[("p".to_owned(), silent)]).unwrap();
        assert!(found.public.contains("does not answer its health check") && found.last_lines_of.is_some());
        let found = trouble(Some(&deployment), &[("p".to_owned(), Seen::new(json!({})))]).unwrap();
        assert_eq!(found.public, "The instance did not become healthy in time.");
    }
}
