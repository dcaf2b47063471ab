//! How an application's instances are scraped.

use serde_json::json;

use super::super::kind::Kind;
use super::{APP_LABEL, Component, Manifest, NAME, Spec, selector};

/// The monitor of an application; every series gets the application as its label `application`.
pub fn service_monitor(spec: &Spec<'_>) -> Manifest {
    let settings = spec.settings;
    let label = format!(
        "__meta_kubernetes_service_label_{}",
        APP_LABEL.replace(['.', '/', '-'], "_")
    );
    let body = json!({ "spec": {
        "jobLabel": "app.kubernetes.io/name",
        "selector": { "matchLabels": selector(Component::Instance) },
        "namespaceSelector": { "matchNames": [spec.site.namespace] },
        "sampleLimit": 5000,
        "endpoints": [{
            "port": "http",
            "path": format!("{}{}", spec.site.base_path, settings.image.metrics_path),
            "interval": "30s",
            "scrapeTimeout": "10s",
            "honorLabels": false,
            "relabelings": [{ "sourceLabels": [label], "targetLabel": "application", "action": "replace" }],
        }],
    }});
    let labels = settings.monitoring.labels.iter();
    spec.component(Kind::ServiceMonitor, NAME, Component::Instance, body)
        .labelled(labels.map(|(name, value)| (name.as_str(), value.as_str())))
}
