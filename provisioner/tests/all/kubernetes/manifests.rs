//! What a cluster is given for an application.

mod namespace;
mod network;
mod pods;
mod secrets;

use authsome_contract::model::Plan;
use authsome_core::secret::SecretString;
use authsome_provisioner::runtime::kubernetes::manifest::{self, Environment, Limits};
use authsome_provisioner::runtime::kubernetes::{Kind, Manifest, Secrets, Settings, Spec};
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
    if let Secrets::Vault(vault) = &settings.secrets {
        all.extend(manifest::vault_ca(&spec, vault));
    }
    all.extend(manifest::migration(&spec, workload).unwrap());
    all.extend(manifest::fleet(settings));
    all
}

/// Installations that between them choose everything that can be chosen.
fn installations() -> [(&'static str, Settings); 3] {
    let mut with_authorities = elaborate();
    let pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
    with_authorities.database = settings().database;
    with_authorities.database_ca = Some(pem.to_owned());
    if let Secrets::Vault(vault) = &mut with_authorities.secrets {
        vault.ca = Some(pem.into());
    }
    [
        ("plain", settings()),
        ("elaborate", elaborate()),
        ("with-authorities", with_authorities),
    ]
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
        for (_, settings) in installations() {
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
        for (name, settings) in installations() {
            let mut workload = workload(new_id(), 3);
            workload.site.plan = plan;
            for manifest in all(&settings, &workload) {
                let file = format!("{plan}-{name}-{}-{}.json", manifest.kind.name(), manifest.name);
                std::fs::write(std::path::Path::new(&directory).join(file), manifest.body.to_string()).unwrap();
                written += 1;
            }
        }
    }
    assert!(written > 225, "{written}");
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
            "AuthsomeImageUpgradeHalted",
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
