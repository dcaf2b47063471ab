//! Alerts and the dashboard of all applications together: made once, with the application as a label and a variable.

use authsome_core::id::ApplicationId;
use serde_json::{Map, Value, json};

use super::super::kind::Kind;
use super::super::settings::{Monitoring, Settings};
use super::{MANAGED_BY, MANAGER, Manifest};

/// The name of what the fleet has one of.
pub const DASHBOARD: &str = "authsome-applications";

/// The alerts and the dashboard.
pub fn fleet(settings: &Settings) -> Vec<Manifest> {
    let monitoring = &settings.monitoring;
    let mut labels: Map<String, Value> = monitoring
        .labels
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().into()))
        .collect();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.into());
    labels.insert("app.kubernetes.io/part-of".to_owned(), "authsome-cloud".into());
    let namespace = Some(monitoring.namespace.as_str());
    let rules = json!({ "spec": { "groups": [{ "name": DASHBOARD, "rules": alerts(monitoring) }] } });
    let rules = Manifest::new(Kind::PrometheusRule, namespace, DASHBOARD, &labels, rules);
    // The label by which Grafana's sidecar finds dashboards.
    labels.insert("grafana_dashboard".to_owned(), "1".into());
    let text = format!("{:#}\n", dashboard());
    let dashboard = json!({ "data": { format!("{DASHBOARD}.json"): text } });
    let dashboard = Manifest::new(Kind::ConfigMap, namespace, DASHBOARD, &labels, dashboard);
    vec![rules, dashboard]
}

/// Where the dashboard shows an application, if there is a Grafana.
pub(super) fn link(settings: &Settings, application: ApplicationId) -> Option<String> {
    let monitoring = &settings.monitoring;
    let grafana = monitoring.grafana.as_ref().filter(|_| monitoring.enabled)?;
    let grafana = grafana.trim_end_matches('/');
    Some(format!("{grafana}/d/{DASHBOARD}?var-application={application}"))
}

/// Instances that pass their health check, of each application that ought to serve; every worker tells the same.
const READY: &str = "max by (application) (authsome_application_ready_instances)";
/// Of applications whose provisioners are silent themselves: whether any instance lets itself be scraped.
const SCRAPED: &str = r#"max by (application) (up{application=~"app_.+"})"#;
/// Requests of one application in so much time, those that failed for the server's own reasons, and how long they took.
/// Sizes, sessions and limits of databases on shared servers come from the provisioners, each of which tells the same.
const ERRORS: &str = r#"sum by (application) (rate(http_requests_total{application=~"app_.+",status=~"5.."}[5m])) / sum by (application) (rate(http_requests_total{application=~"app_.+"}[5m]))"#;
const LATENCY: &str = r#"histogram_quantile(0.95, sum by (application, le) (rate(http_request_duration_seconds_bucket{application=~"app_.+"}[5m])))"#;
/// Of a database on a shared server, whether it is a whole one or a schema.
const SHARED: &str = "max by (application) (authsome_application_database_bytes) / max by (application) (authsome_application_storage_limit_bytes)";
/// Of a Postgres of the application's own, which nobody outside can ask: how full its volume is, as the kubelet tells it. The
/// application is in the name of the namespace.
const OWN: &str = r#"max by (application) (label_replace(kubelet_volume_stats_used_bytes{namespace=~"authsome-app-.+",persistentvolumeclaim="data-postgres-0"} / kubelet_volume_stats_capacity_bytes, "application", "app_$1", "namespace", "authsome-app-(.+)"))"#;
/// Of shared servers only: a server of an application's own keeps the same limit by itself, and tells nobody.
const CONNECTIONS: &str = "max by (application) (authsome_application_database_connections) / max by (application) (authsome_application_connection_limit)";

/// How full databases are, whatever the strategy. One that moved from one to the other is told by its present one.
fn database() -> String {
    format!("{OWN} or {SHARED}")
}

/// Nobody answers. An application that is stopped on purpose is not told of, and has no instances to scrape. Where nobody may
/// scrape instances, that none can be scraped says nothing.
fn down(monitoring: &Monitoring) -> String {
    match monitoring.scrapers {
        Some(_) => format!("{READY} == 0 or ({SCRAPED} == 0 unless on (application) {READY})"),
        None => format!("{READY} == 0"),
    }
}

fn alerts(monitoring: &Monitoring) -> Value {
    let alert = |name: &str, expression: String, wait: &str, severity: &str, summary: &str| {
        json!({
            "alert": name,
            "expr": expression,
            "for": wait,
            "labels": { "severity": severity },
            "annotations": { "summary": summary, "dashboard": format!("/d/{DASHBOARD}?var-application={{{{ $labels.application }}}}") },
        })
    };
    json!([
        alert(
            "AuthsomeApplicationDown",
            down(monitoring),
            "2m",
            "critical",
            "No instance of {{ $labels.application }} answers.",
        ),
        alert(
            "AuthsomeApplicationErrors",
            format!("{ERRORS} > 0.05"),
            "5m",
            "warning",
            "More than 5 % of the requests of {{ $labels.application }} fail.",
        ),
        alert(
            "AuthsomeApplicationSlow",
            format!("{LATENCY} > 0.5"),
            "10m",
            "warning",
            "The 95th percentile of {{ $labels.application }} is over 500 ms.",
        ),
        alert(
            "AuthsomeApplicationDatabaseNearlyFull",
            format!("({}) > 0.85", database()),
            "15m",
            "warning",
            "The database of {{ $labels.application }} uses more than 85 % of its storage.",
        ),
        alert(
            "AuthsomeApplicationConnections",
            format!("{CONNECTIONS} > 0.85"),
            "10m",
            "warning",
            "{{ $labels.application }} uses more than 85 % of its database connections.",
        ),
        alert(
            "AuthsomeImageUpgradeHalted",
            "max by (region) (authsome_provisioner_image_upgrade_halted) > 0".to_owned(),
            "1m",
            "warning",
            "The image upgrade of {{ $labels.region }} stands: `authsome-provisioner upgrade status` says why.",
        ),
    ])
}

fn dashboard() -> Value {
    let of = |expression: &str| expression.replace(r#"application=~"app_.+""#, r#"application=~"$application""#);
    let panel = |index: u32, title: &str, unit: &str, expression: String| {
        json!({
            "id": index + 1,
            "type": "timeseries",
            "title": title,
            "datasource": { "type": "prometheus", "uid": "${datasource}" },
            "gridPos": { "x": (index % 2) * 12, "y": (index / 2) * 8, "w": 12, "h": 8 },
            "fieldConfig": { "defaults": { "unit": unit }, "overrides": [] },
            "targets": [{ "refId": "A", "expr": expression, "legendFormat": "{{application}}" }],
        })
    };
    let selected = |expression: &str| {
        format!(
            r#"({expression}) and on (application) authsome_application_ready_instances{{application=~"$application"}}"#
        )
    };
    json!({
        "uid": DASHBOARD,
        "title": "AuthSome applications",
        "tags": ["authsome"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": { "from": "now-6h", "to": "now" },
        "templating": { "list": [
            { "name": "datasource", "type": "datasource", "query": "prometheus" },
            {
                "name": "application",
                "type": "query",
                "datasource": { "type": "prometheus", "uid": "${datasource}" },
                "query": { "query": "label_values(authsome_application_ready_instances, application)", "refId": "A" },
                "multi": true,
                "includeAll": true,
                "refresh": 2,
            },
        ]},
        "panels": [
            panel(0, "Instances that answer", "short", r#"max by (application) (authsome_application_ready_instances{application=~"$application"})"#.to_owned()),
            panel(1, "Requests a second", "reqps", r#"sum by (application) (rate(http_requests_total{application=~"$application"}[5m]))"#.to_owned()),
            panel(2, "Share of requests that fail", "percentunit", of(ERRORS)),
            panel(3, "95th percentile", "s", of(LATENCY)),
            panel(4, "Share of the database's storage in use", "percentunit", selected(&database())),
            panel(5, "Share of the database's connections in use", "percentunit", selected(CONNECTIONS)),
        ],
    })
}
