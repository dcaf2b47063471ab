//! How many instances run, and how many may be missing at a time.

use serde_json::json;

use super::super::kind::Kind;
use super::{Component, Limits, Manifest, NAME, Spec, Unusable, selector};

/// The autoscaler. It owns the number of replicas; with none (a suspended application) it stands still by itself.
pub fn autoscaler(spec: &Spec<'_>) -> Result<Manifest, Unusable> {
    let limits = Limits::of(spec.site)?;
    let metric = |name: &str, percent: u32| {
        json!({ "type": "Resource", "resource": {
            "name": name,
            "target": { "type": "Utilization", "averageUtilization": percent },
        }})
    };
    let body = json!({ "spec": {
        "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": NAME },
        "minReplicas": limits.min_replicas,
        "maxReplicas": limits.max_replicas,
        "metrics": [metric("cpu", 70), metric("memory", 80)],
        "behavior": {
            "scaleUp": {
                "stabilizationWindowSeconds": 60,
                "policies": [{ "type": "Percent", "value": 50, "periodSeconds": 60 }],
            },
            "scaleDown": {
                "stabilizationWindowSeconds": 300,
                "policies": [{ "type": "Pods", "value": 1, "periodSeconds": 60 }],
            },
        },
    }});
    Ok(spec.component(Kind::HorizontalPodAutoscaler, NAME, Component::Instance, body))
}

/// One instance at a time may be taken away for maintenance.
pub fn disruption_budget(spec: &Spec<'_>) -> Manifest {
    let body = json!({ "spec": {
        "maxUnavailable": 1,
        "selector": { "matchLabels": selector(Component::Instance) },
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }});
    spec.component(Kind::PodDisruptionBudget, NAME, Component::Instance, body)
}
