//! What a cluster is given for an application.

use authsome_contract::model::Plan;
use authsome_core::secret::SecretString;
use authsome_provisioner::runtime::kubernetes::manifest::{self, Component, Environment, Limits};
use authsome_provisioner::runtime::kubernetes::{Kind, Manifest, Settings, Spec};
use authsome_provisioner::runtime::{Site, Workload};
use k8s_openapi::api::{apps::v1 as apps, autoscaling::v2 as autoscaling, batch::v1 as batch, core::v1 as core};
use k8s_openapi::api::{networking::v1 as networking, policy::v1 as policy};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::samples::{elaborate, new_id, settings, site, workload};

/// Everything that an installation makes for an application.
fn all(settings: &Settings, workload: &Workload) -> Vec<Manifest> {
    let spec = Spec {
        site: &workload.site,
        settings,
    };
    let mut all = manifest::namespace(&spec).unwrap();
    all.extend(manifest::policies(&spec));
    let (a, b) = (SecretString::from("a-password"), SecretString::from("b-password"));
    all.extend(manifest::postgres(&spec, "postgres:17", Some("fast"), [Some(&a), Some(&b)]).unwrap());
    all.extend(manifest::redis(&spec, "redis:7.4", None, [Some(&a), Some(&b)]).unwrap());
    all.extend([
        manifest::config_map(&spec, &workload.config).unwrap(),
        manifest::secret(&spec, &Environment::of(workload)),
        manifest::service(&spec),
        manifest::deployment(&spec, workload).unwrap(),
        manifest::autoscaler(&spec).unwrap(),
        manifest::disruption_budget(&spec),
        manifest::service_monitor(&spec),
    ]);
    all.extend(manifest::migration(&spec, workload).unwrap());
    all.extend(manifest::fleet(settings));
    all
}

fn named<'a>(all: &'a [Manifest], kind: Kind, name: &str) -> &'a Value {
    let found = all.iter().find(|one| one.kind == kind && one.name == name);
    &found.unwrap_or_else(|| panic!("no {} {name}", kind.name())).body
}

/// The typed API knows no unknown field and loses none that it knows.
fn round_trip<T: Serialize + DeserializeOwned>(body: &Value) {
    let typed: T = serde_json::from_value(body.clone()).unwrap_or_else(|error| panic!("{error}: {body:#}"));
    let back = serde_json::to_value(typed).unwrap();
    assert_eq!(&back, body, "{body:#}");
}

#[test]
fn every_manifest_passes_through_the_typed_api_unchanged() {
    for plan in [Plan::Free, Plan::Pro, Plan::Enterprise] {
        for settings in [settings(), elaborate()] {
            let mut workload = workload(new_id(), 3);
            workload.site.plan = plan;
            for manifest in all(&settings, &workload) {
                let body = &manifest.body;
                match manifest.kind {
                    Kind::Namespace => round_trip::<core::Namespace>(body),
                    Kind::ResourceQuota => round_trip::<core::ResourceQuota>(body),
                    Kind::LimitRange => round_trip::<core::LimitRange>(body),
                    Kind::ServiceAccount => round_trip::<core::ServiceAccount>(body),
                    Kind::NetworkPolicy => round_trip::<networking::NetworkPolicy>(body),
                    Kind::ConfigMap => round_trip::<core::ConfigMap>(body),
                    Kind::Secret => round_trip::<core::Secret>(body),
                    Kind::Service => round_trip::<core::Service>(body),
                    Kind::StatefulSet => round_trip::<apps::StatefulSet>(body),
                    Kind::Deployment => round_trip::<apps::Deployment>(body),
                    Kind::HorizontalPodAutoscaler => round_trip::<autoscaling::HorizontalPodAutoscaler>(body),
                    Kind::PodDisruptionBudget => round_trip::<policy::PodDisruptionBudget>(body),
                    Kind::Job => round_trip::<batch::Job>(body),
                    Kind::ServiceMonitor | Kind::PrometheusRule => {}
                    Kind::Pod => panic!("nobody makes pods by hand"),
                }
            }
        }
    }
}

/// Writes every manifest where the check against the published schemas reads them; see `./dev`.
#[test]
fn every_manifest_is_written_for_the_published_schemas() {
    let Some(directory) = std::env::var_os("AUTHSOME_MANIFESTS") else {
        return;
    };
    std::fs::create_dir_all(&directory).unwrap();
    let mut written = 0;
    for plan in [Plan::Free, Plan::Pro, Plan::Enterprise] {
        for (name, settings) in [("plain", settings()), ("elaborate", elaborate())] {
            let mut workload = workload(new_id(), 3);
            workload.site.plan = plan;
            for manifest in all(&settings, &workload) {
                let file = format!("{plan}-{name}-{}-{}.json", manifest.kind.name(), manifest.name);
                std::fs::write(std::path::Path::new(&directory).join(file), manifest.body.to_string()).unwrap();
                written += 1;
            }
        }
    }
    assert!(written > 150, "{written}");
}

#[test]
fn every_object_says_whose_it_is_and_what_was_applied() {
    let workload = workload(new_id(), 1);
    for manifest in all(&settings(), &workload) {
        let metadata = &manifest.body["metadata"];
        assert_eq!(
            metadata["labels"]["app.kubernetes.io/managed-by"],
            "authsome-provisioner"
        );
        assert_eq!(
            metadata["annotations"]["authsome.cloud/manifest-hash"]
                .as_str()
                .unwrap()
                .len(),
            32
        );
        if manifest.namespace.as_deref() == Some("monitoring") {
            continue;
        }
        assert_eq!(
            metadata["labels"]["authsome.cloud/app-id"],
            workload.application.to_string()
        );
        assert_eq!(
            metadata["labels"]["authsome.cloud/workspace-id"],
            workload.site.workspace.to_string()
        );
        assert_eq!(metadata["labels"]["authsome.cloud/plan"], "pro");
        assert_eq!(metadata.get("namespace").is_some(), manifest.kind != Kind::Namespace);
    }
}

#[test]
fn the_namespace_is_restricted_and_bounded_by_the_plan() {
    for (plan, replicas) in [(Plan::Free, 3), (Plan::Pro, 6), (Plan::Enterprise, 10)] {
        let mut workload = workload(new_id(), 1);
        workload.site.plan = plan;
        let all = all(&settings(), &workload);
        let namespace = named(&all, Kind::Namespace, &workload.site.namespace);
        assert!(workload.site.namespace.starts_with("authsome-app-"));
        for mode in ["enforce", "audit", "warn"] {
            assert_eq!(
                namespace["metadata"]["labels"][format!("pod-security.kubernetes.io/{mode}")],
                "restricted"
            );
        }
        assert!(
            namespace["metadata"]["annotations"]["authsome.cloud/dashboard"]
                .as_str()
                .unwrap()
                .ends_with(&format!(
                    "/d/authsome-applications?var-application={}",
                    workload.application
                ))
        );
        // One more while a change rolls, and a migration.
        let hard = &named(&all, Kind::ResourceQuota, "authsome")["spec"]["hard"];
        assert_eq!(hard["pods"], (replicas + 2).to_string());
        assert_eq!(hard["limits.cpu"], (replicas + 2).to_string());
        assert_eq!(hard["limits.memory"], format!("{}Gi", 2 * (replicas + 2)));
        assert_eq!(hard["services.loadbalancers"], "0");
        let range = &named(&all, Kind::LimitRange, "authsome")["spec"]["limits"][0];
        assert_eq!(
            (range["max"]["cpu"].as_str(), range["max"]["memory"].as_str()),
            (Some("1"), Some("2Gi"))
        );
        let scaler = &named(&all, Kind::HorizontalPodAutoscaler, "authsome")["spec"];
        assert_eq!(
            (scaler["minReplicas"].as_u64(), scaler["maxReplicas"].as_u64()),
            (Some(2), Some(replicas))
        );
        let account = named(&all, Kind::ServiceAccount, "authsome");
        assert_eq!(account["automountServiceAccountToken"], false);
    }
}

#[test]
fn dedicated_servers_have_room_in_the_quota() {
    let (plain, full) = (workload(new_id(), 1), elaborate());
    let all = all(&full, &plain);
    let hard = &named(&all, Kind::ResourceQuota, "authsome")["spec"]["hard"];
    assert_eq!(
        (hard["pods"].as_str(), hard["persistentvolumeclaims"].as_str()),
        (Some("10"), Some("2"))
    );
    assert_eq!(hard["requests.storage"], "40Gi");
}

/// All that a policy allows, as text: direction, pods, peers and ports.
fn flows(all: &[Manifest]) -> Vec<String> {
    let mut found = Vec::new();
    for policy in all.iter().filter(|one| one.kind == Kind::NetworkPolicy) {
        let spec = &policy.body["spec"];
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            for rule in spec[direction].as_array().into_iter().flatten() {
                let ports: Vec<String> = rule["ports"]
                    .as_array()
                    // Without them it would allow all ports.
                    .unwrap()
                    .iter()
                    .map(|port| format!("{}/{}", port["protocol"].as_str().unwrap(), port["port"]))
                    .collect();
                // Without them it would allow everybody.
                for peer in rule[peers].as_array().unwrap() {
                    assert_ne!(peer, &json!({}));
                    if let Some(selector) = peer.get("namespaceSelector") {
                        assert_ne!(selector, &json!({}), "every namespace of the cluster");
                        assert!(peer.get("podSelector").is_some(), "every pod of a namespace");
                    }
                    found.push(format!("{direction} {} {}", policy.name, ports.join("+")));
                }
            }
        }
    }
    found
}

#[test]
fn only_the_flows_that_are_needed_are_open() {
    let application = workload(new_id(), 1);
    let shared = all(&settings(), &application);
    assert_eq!(
        flows(&shared),
        [
            "egress allow-dns UDP/53+TCP/53",
            "ingress allow-edge TCP/8080",
            "egress allow-postgres TCP/5432",
            "egress allow-redis TCP/6379",
            "egress allow-https TCP/443",
            "egress allow-https TCP/443",
        ]
    );
    let deny = named(&shared, Kind::NetworkPolicy, "default-deny");
    assert_eq!(
        deny["spec"],
        json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] })
    );
    let edge = &named(&shared, Kind::NetworkPolicy, "allow-edge")["spec"]["ingress"][0]["from"];
    assert_eq!(
        edge,
        &json!([{
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "authsome-system" } },
            "podSelector": { "matchLabels": { "app.kubernetes.io/name": "authsome-proxy" } },
        }])
    );
    let database = &named(&shared, Kind::NetworkPolicy, "allow-postgres")["spec"]["egress"][0]["to"];
    assert_eq!(database, &json!([{ "ipBlock": { "cidr": "10.20.0.0/24" } }]));

    let dedicated = all(&elaborate(), &application);
    let flows = flows(&dedicated);
    for flow in [
        "ingress allow-scraping TCP/8080",
        "egress allow-vault TCP/8200",
        "ingress allow-postgres-from-instance TCP/5432",
        "ingress allow-redis-from-instance TCP/6379",
    ] {
        assert!(flows.iter().any(|one| one == flow), "{flow} is not among {flows:?}");
    }
    assert_eq!(flows.len(), 10);
    for (name, component) in [
        ("allow-postgres-from-instance", "postgres"),
        ("allow-redis-from-instance", "redis"),
    ] {
        let spec = &named(&dedicated, Kind::NetworkPolicy, name)["spec"];
        assert_eq!(
            spec["podSelector"]["matchLabels"]["authsome.cloud/component"],
            component
        );
        let peer = &spec["ingress"][0]["from"][0];
        assert!(
            peer.get("namespaceSelector").is_none(),
            "only pods of the same namespace"
        );
        assert_eq!(
            peer["podSelector"]["matchExpressions"][0]["values"],
            json!(["instance", "migration"])
        );
    }
}

#[test]
fn the_internet_is_everything_but_what_is_inside() {
    use ipnet::IpNet;
    let application = workload(new_id(), 1);
    let all = all(&elaborate(), &application);
    let to = &named(&all, Kind::NetworkPolicy, "allow-https")["spec"]["egress"][0]["to"];
    let open = |address: &str| {
        let address: std::net::IpAddr = address.parse().unwrap();
        to.as_array().unwrap().iter().any(|peer| {
            let block = &peer["ipBlock"];
            let inside = |cidr: &Value| cidr.as_str().unwrap().parse::<IpNet>().unwrap().contains(&address);
            inside(&block["cidr"]) && !block["except"].as_array().unwrap().iter().any(inside)
        })
    };
    for outside in ["1.1.1.1", "93.184.216.34", "2606:4700::1111"] {
        assert!(open(outside), "{outside}");
    }
    for inside in [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "203.0.112.9",
        "::1",
        "fe80::1",
        "fd00:ec2::254",
        "fc00::1",
        "ff02::1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        "2001:db9::1",
    ] {
        assert!(!open(inside), "{inside}");
    }
    for peer in to.as_array().unwrap() {
        let whole: IpNet = peer["ipBlock"]["cidr"].as_str().unwrap().parse().unwrap();
        for except in peer["ipBlock"]["except"].as_array().unwrap() {
            let except: IpNet = except.as_str().unwrap().parse().unwrap();
            assert!(whole.contains(&except) && except.trunc() == except, "{except}");
        }
    }
}

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

#[test]
fn no_secret_is_anywhere_but_in_a_secret() {
    for settings in [settings(), elaborate()] {
        for manifest in all(&settings, &workload(new_id(), 1)) {
            let text = manifest.body.to_string();
            let found = ["database-password", "redis-password", "a-password", "b-password"]
                .iter()
                .any(|secret| text.contains(secret));
            assert!(!found, "{} holds a password in clear", manifest.what());
        }
    }
}

#[test]
fn with_vault_the_agent_writes_secrets_and_the_cluster_keeps_none() {
    let application = workload(new_id(), 1);
    let settings = elaborate();
    let spec = Spec {
        site: &application.site,
        settings: &settings,
    };
    let deployment = manifest::deployment(&spec, &application).unwrap();
    let template = &deployment.body["spec"]["template"];
    let annotations = &template["metadata"]["annotations"];
    let path = format!("secret/data/applications/{}", application.application);
    for (name, value) in [
        ("agent-inject", "true"),
        ("role", application.site.namespace.as_str()),
        ("agent-inject-secret-0", path.as_str()),
        ("agent-inject-file-0", "DATABASE_URL"),
        ("agent-inject-file-1", "MAILER_SMTP_PASSWORD"),
        ("agent-inject-file-2", "REDIS_URL"),
    ] {
        assert_eq!(annotations[format!("vault.hashicorp.com/{name}")], value, "{name}");
    }
    let env = template["spec"]["containers"][0]["env"].as_array().unwrap();
    assert!(
        env.iter()
            .any(|one| one["name"] == "DATABASE_URL" && one["value"] == "file:///vault/secrets/DATABASE_URL")
    );
    assert!(env.iter().all(|one| one.get("valueFrom").is_none()));
    assert!(
        template["spec"]["containers"][0]["volumeMounts"]
            .as_array()
            .unwrap()
            .iter()
            .all(|m| m["name"] != "vault-token")
    );
}

#[test]
fn whatever_an_instance_is_told_rolls_it_and_nothing_else_does() {
    let application = workload(new_id(), 1);
    let (settings, id) = (settings(), application.application);
    let template = |workload: &Workload| {
        let spec = Spec {
            site: &workload.site,
            settings: &settings,
        };
        manifest::deployment(&spec, workload).unwrap().body["spec"]["template"].clone()
    };
    let before = template(&application);
    assert_eq!(template(&application.clone()), before);
    let changed = |change: &dyn Fn(&mut Workload)| {
        let mut other = workload(id, 1);
        change(&mut other);
        template(&other) != before
    };
    assert!(changed(&|w| w.config["session"]["token_ttl"] = "2h".into()));
    assert!(changed(
        &|w| w.database_url = authsome_core::secret::SecretUrl::parse("postgres://b:other@db/x").unwrap()
    ));
    assert!(changed(&|w| w.generation = 2));
    assert!(changed(&|w| w.site.cpu = "2".to_owned()));
    assert!(!changed(&|w| w.previous = vec!["10.0.0.1:80".parse().unwrap()]));
}

#[test]
fn a_limit_that_is_no_amount_and_a_configuration_that_is_no_object_are_refused() {
    let settings = settings();
    let mut broken: Site = site(new_id(), 1);
    broken.cpu = "plenty".to_owned();
    assert!(Limits::of(&broken).is_err());
    let site = site(new_id(), 1);
    let spec = Spec {
        site: &site,
        settings: &settings,
    };
    assert!(manifest::config_map(&spec, &json!([])).is_err());
    assert!(manifest::config_map(&spec, &json!({ "x": "y".repeat(1 << 20) })).is_err());
}

#[test]
fn alerts_and_the_dashboard_are_made_once_for_the_fleet() {
    let fleet = manifest::fleet(&settings());
    let rules = named(&fleet, Kind::PrometheusRule, "authsome-applications");
    let alerts: Vec<&str> = rules["spec"]["groups"][0]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["alert"].as_str().unwrap())
        .collect();
    assert_eq!(
        alerts,
        [
            "AuthsomeApplicationDown",
            "AuthsomeApplicationErrors",
            "AuthsomeApplicationSlow",
            "AuthsomeApplicationDatabaseNearlyFull",
            "AuthsomeApplicationConnections",
        ]
    );
    assert_eq!(rules["metadata"]["labels"]["release"], "prometheus");
    let dashboard = named(&fleet, Kind::ConfigMap, "authsome-applications");
    let text = dashboard["data"]["authsome-applications.json"].as_str().unwrap();
    let dashboard: Value = serde_json::from_str(text).unwrap();
    assert!(
        dashboard["templating"]["list"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["name"] == "application")
    );
}
