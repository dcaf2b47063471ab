//! What runs, and how it is run and scaled.

use authsome_provisioner::runtime::kubernetes::manifest::{self, Component};
use authsome_provisioner::runtime::kubernetes::{Kind, Spec};
use serde_json::{Value, json};

use super::{all, named};
use crate::kubernetes::samples::{elaborate, new_id, settings, workload};

/// What Pod Security `restricted` asks (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>), and more.
fn assert_restricted(pod: &Value) {
    assert_eq!(pod["automountServiceAccountToken"], false);
    let security = &pod["securityContext"];
    assert_eq!(security["runAsNonRoot"], true);
    assert!(security["runAsUser"].as_u64().unwrap() > 0);
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
    for forbidden in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod.get(forbidden).is_none());
    }
    for container in pod["containers"].as_array().unwrap() {
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["capabilities"], json!({ "drop": ["ALL"] }));
        for bound in ["limits", "requests"] {
            for amount in ["cpu", "memory"] {
                assert!(container["resources"][bound][amount].is_string(), "{container:#}");
            }
        }
    }
    let allowed = ["configMap", "emptyDir", "projected", "secret"];
    for volume in pod["volumes"].as_array().unwrap() {
        let kind = volume.as_object().unwrap().keys().find(|key| *key != "name").unwrap();
        assert!(allowed.contains(&kind.as_str()), "{kind}");
        if kind == "emptyDir" {
            assert!(volume["emptyDir"]["sizeLimit"].is_string(), "unbounded: {volume}");
        }
    }
}

#[test]
fn every_pod_is_restricted_bounded_and_without_a_token() {
    for settings in [settings(), elaborate()] {
        let application = workload(new_id(), 1);
        let mut pods = 0;
        for manifest in all(&settings, &application) {
            if let Some(pod) = manifest.body["spec"].pointer("/template/spec") {
                assert_restricted(pod);
                pods += 1;
            }
        }
        assert!(pods >= 3);
    }
}

#[test]
fn the_deployment_is_probed_spread_and_leaves_its_replicas_to_the_autoscaler() {
    let mut application = workload(new_id(), 4);
    application.base_path = "/auth".to_owned();
    let all = all(&settings(), &application);
    let spec = &named(&all, Kind::Deployment, "authsome")["spec"];
    assert!(spec.get("replicas").is_none());
    assert_eq!(
        spec["strategy"]["rollingUpdate"],
        json!({ "maxUnavailable": 0, "maxSurge": 1 })
    );
    let pod = &spec["template"]["spec"];
    let container = &pod["containers"][0];
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        assert_eq!(container[probe]["httpGet"]["path"], "/auth/v1/health");
        assert!(container[probe]["timeoutSeconds"].as_u64().unwrap() > 0);
    }
    assert_eq!(pod["topologySpreadConstraints"].as_array().unwrap().len(), 2);
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    let linger = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
    assert!(linger >= 5 && grace >= linger + 30);
    assert_eq!(
        spec["template"]["metadata"]["annotations"]["authsome.cloud/generation"],
        "4"
    );
    assert_eq!(
        spec["selector"]["matchLabels"],
        json!({
            "app.kubernetes.io/name": "authsome", "authsome.cloud/component": Component::Instance.as_str(),
        })
    );
    let service = &named(&all, Kind::Service, "authsome")["spec"];
    assert_eq!(
        (service["clusterIP"].as_str(), &service["selector"]),
        (Some("None"), &spec["selector"]["matchLabels"])
    );
    let budget = &named(&all, Kind::PodDisruptionBudget, "authsome")["spec"];
    assert_eq!(
        (budget["maxUnavailable"].as_u64(), &budget["selector"]["matchLabels"]),
        (Some(1), &service["selector"])
    );
}

#[test]
fn a_pinned_image_is_what_runs() {
    let mut application = workload(new_id(), 1);
    application.site.image = Some("ghcr.io/example/authsome:1.5.0".to_owned());
    let all = all(&settings(), &application);
    let pod = &named(&all, Kind::Deployment, "authsome")["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], "ghcr.io/example/authsome:1.5.0");
    application.site.image = Some("not an image".to_owned());
    let settings = settings();
    let spec = Spec {
        site: &application.site,
        settings: &settings,
    };
    assert!(manifest::deployment(&spec, &application).is_err());
}

#[test]
fn the_autoscaler_behaves_as_designed() {
    let all = all(&settings(), &workload(new_id(), 1));
    let spec = &named(&all, Kind::HorizontalPodAutoscaler, "authsome")["spec"];
    assert_eq!(
        spec["behavior"],
        json!({
            "scaleUp": {
                "stabilizationWindowSeconds": 60,
                "policies": [{ "type": "Percent", "value": 50, "periodSeconds": 60 }],
            },
            "scaleDown": {
                "stabilizationWindowSeconds": 300,
                "policies": [{ "type": "Pods", "value": 1, "periodSeconds": 60 }],
            },
        })
    );
    let targets: Vec<(&str, u64)> = spec["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|metric| &metric["resource"])
        .map(|one| {
            (
                one["name"].as_str().unwrap(),
                one["target"]["averageUtilization"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(targets, [("cpu", 70), ("memory", 80)]);
}
