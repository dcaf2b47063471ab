//! Alerts and the dashboard ask for what somebody exports.

use std::collections::BTreeSet;

use authsome_contract::model::AppStatus;
use authsome_provisioner::runtime::kubernetes::{Kind, Spec, manifest};
use authsome_provisioner::usage::{Measured, Meter};
use authsome_testkit::{RedisOptions, RedisServer};
use serde_json::Value;

use super::dedicated::{mixed, own_site, passwords};
use super::samples::{elaborate, new_id, settings};
use crate::api_double::ApiDouble;
use crate::engine::{Control, REGION};

/// What is not ours to export, and whose it is.
const OTHERS: [(&str, &str); 5] = [
    ("kubelet_volume_stats_used_bytes", "the kubelet"),
    ("kubelet_volume_stats_capacity_bytes", "the kubelet"),
    ("up", "Prometheus itself, for whatever it scrapes"),
    ("http_requests_total", "the AuthSome instance"),
    ("http_request_duration_seconds_bucket", "the AuthSome instance"),
];
/// The words of the query language that alerts and the dashboard use.
const WORDS: [&str; 15] = [
    "unless",
    "label_replace",
    "or",
    "sum",
    "max",
    "by",
    "region",
    "rate",
    "histogram_quantile",
    "and",
    "on",
    "application",
    "le",
    "status",
    "label_values",
];

/// The names of metrics in an expression: words that are neither the language's, nor inside braces, quotes or brackets.
fn names(expression: &str) -> BTreeSet<String> {
    let mut plain = String::new();
    let (mut depth, mut quoted) = (0_u32, false);
    for c in expression.chars() {
        match c {
            '"' => quoted = !quoted,
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            c if depth == 0 && !quoted => plain.push(c),
            _ => {}
        }
    }
    plain
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase()) && !WORDS.contains(word))
        .map(str::to_owned)
        .collect()
}

/// Every expression in alerts and dashboard.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(text) if name == "expr" || name == "query" && text.contains('(') => {
                        found.push(text.clone());
                    }
                    value => expressions(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[test]
fn every_metric_of_the_alerts_and_the_dashboard_is_exported_by_somebody() {
    let metrics = authsome_provisioner::metrics::Metrics::new().unwrap();
    metrics.usage(&[Measured {
        application: new_id(),
        bytes: 1,
        connections: 1,
        storage_limit: 10,
        connection_limit: 10,
    }]);
    metrics.upgrade_halted("eu", false);
    metrics.ready("eu", &[(new_id(), [2])]);
    let exported = metrics.encode();
    let mut found = Vec::new();
    for manifest in manifest::fleet(&elaborate()) {
        if manifest.kind == Kind::ConfigMap {
            let text = manifest.body["data"].as_object().unwrap().values().next().unwrap();
            expressions(&serde_json::from_str(text.as_str().unwrap()).unwrap(), &mut found);
        } else {
            expressions(&manifest.body, &mut found);
        }
    }
    let asked: BTreeSet<String> = found.iter().flat_map(|expression| names(expression)).collect();
    assert!(found.len() >= 12 && asked.len() >= 7, "{found:?}");
    for name in &asked {
        let ours = exported.contains(&format!("\n{name}{{"));
        let others = OTHERS.iter().any(|(other, _)| other == name);
        assert!(ours || others, "nobody exports {name}");
    }
    for (other, whose) in OTHERS {
        assert!(asked.contains(other), "{other} of {whose} is not asked for any more");
    }
}

/// What the alert reads of a server of an application's own is what the manifests call it.
#[test]
fn the_alert_of_a_nearly_full_database_knows_the_volume_of_a_postgres_of_an_applications_own() {
    let rules = manifest::fleet(&settings())
        .into_iter()
        .find(|one| one.kind == Kind::PrometheusRule);
    let rules = rules.unwrap().body["spec"]["groups"][0]["rules"].clone();
    let alert = rules
        .as_array()
        .unwrap()
        .iter()
        .find(|rule| rule["alert"] == "AuthsomeApplicationDatabaseNearlyFull");
    let expression = alert.unwrap()["expr"].as_str().unwrap().to_owned();

    let id = new_id();
    let site = own_site(id);
    let installation = mixed();
    let spec = Spec {
        site: &site,
        settings: &installation,
    };
    let [a, b] = &passwords();
    let made = manifest::postgres(&spec, "postgres:17", None, [Some(a), Some(b)]).unwrap();
    let set = made.iter().find(|one| one.kind == Kind::StatefulSet).unwrap();
    let template = &set.body["spec"]["volumeClaimTemplates"][0]["metadata"]["name"];
    // As a StatefulSet names the claim of its first pod.
    let claim = format!("{}-{}-0", template.as_str().unwrap(), set.name);
    assert!(
        expression.contains(&format!("persistentvolumeclaim=\"{claim}\"")),
        "{expression}"
    );
    let suffix = site.namespace.strip_prefix("authsome-app-").unwrap();
    assert!(
        expression.contains(r#""app_$1", "namespace", "authsome-app-(.+)""#),
        "{expression}"
    );
    assert_eq!(format!("app_{suffix}"), id.to_string(), "the label that others have");
    assert!(
        expression.contains("authsome_application_database_bytes"),
        "and of databases on shared servers"
    );
}

#[tokio::test]
async fn what_applications_use_is_measured_with_one_statement_for_each_server() {
    let control = Control::start().await;
    let api = ApiDouble::start().await;
    let redis = RedisServer::start(RedisOptions::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let engine = crate::upgrade::engine(&control, &api, &redis, directory.path()).await;
    let mut built = Vec::new();
    for _ in 0..2 {
        let wanted = control.wanted().await;
        while engine.execute(wanted.operation).await.unwrap() != authsome_provisioner::execution::Execution::Over {}
        built.push(wanted.application);
    }
    let unbuilt = control.application(AppStatus::Provisioning).await;
    let meter = |regions: &[&str]| Meter {
        engine: engine.clone(),
        regions: regions.iter().map(|region| (*region).to_owned()).collect(),
        interval: std::time::Duration::from_mins(5),
    };
    let measured = meter(&[REGION]).measure().await.unwrap();
    assert_eq!(measured.len(), 2, "{measured:?}");
    assert!(measured.iter().all(|one| one.application != unbuilt));
    for one in &measured {
        assert!(built.contains(&one.application));
        // An empty database of Postgres has several megabytes of catalog.
        assert!(one.bytes > 1 << 20 && one.bytes < one.storage_limit, "{one:?}");
        assert_eq!((one.storage_limit, one.connections), (5 << 30, 0));
        assert!(one.connection_limit > 0);
    }
    assert!(
        meter(&["elsewhere"]).measure().await.unwrap().is_empty(),
        "others' regions are others'"
    );

    let metrics = &engine.metrics;
    metrics.usage(&measured);
    let line = format!(
        "authsome_application_storage_limit_bytes{{application=\"{}\"}} {}",
        built[0],
        5_u64 << 30
    );
    assert!(metrics.encode().contains(&line));
    metrics.usage(&measured[..1]);
    let gone = format!(
        "authsome_application_database_bytes{{application=\"{}\"}}",
        measured[1].application
    );
    assert!(
        !metrics.encode().contains(&gone),
        "what is gone is not exported for ever"
    );
}
