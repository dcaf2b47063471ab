//! The alerts, as Prometheus' own evaluator takes them: each fires when it should and is silent when it should be.

use std::path::Path;
use std::process::Command;

use authsome_provisioner::runtime::kubernetes::{Kind, Settings, manifest};
use serde_json::{Value, json};

use super::samples::{elaborate, settings};

/// One alert over some series: whether it fires for `app_a` after twenty minutes.
struct Case {
    alert: &'static str,
    what: &'static str,
    series: Vec<(&'static str, &'static str)>,
    fires: bool,
}

fn case(alert: &'static str, what: &'static str, fires: bool, series: &[(&'static str, &'static str)]) -> Case {
    Case {
        alert,
        what,
        series: series.to_vec(),
        fires,
    }
}

/// Runs `promtool test rules` over the alerts of an installation.
fn evaluate(settings: &Settings, cases: &[Case], directory: &Path) {
    let rules = manifest::fleet(settings)
        .into_iter()
        .find(|one| one.kind == Kind::PrometheusRule)
        .unwrap()
        .body["spec"]
        .clone();
    let rules = without_annotations(rules);
    let tests: Vec<Value> = cases
        .iter()
        .map(|case| {
            let rule = rules["groups"][0]["rules"]
                .as_array()
                .unwrap()
                .iter()
                .find(|rule| rule["alert"] == case.alert)
                .unwrap();
            let expected = if case.fires {
                json!([{ "exp_labels": { "severity": rule["labels"]["severity"], "application": "app_a" } }])
            } else {
                json!([])
            };
            let series: Vec<Value> = case
                .series
                .iter()
                .map(|(series, values)| json!({ "series": series, "values": values }))
                .collect();
            json!({
                "name": case.what,
                "interval": "1m",
                "input_series": series,
                "alert_rule_test": [{ "eval_time": "20m", "alertname": case.alert, "exp_alerts": expected }],
            })
        })
        .collect();
    // JSON is YAML, too.
    std::fs::write(directory.join("rules.yaml"), rules.to_string()).unwrap();
    let tests = json!({ "rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests });
    std::fs::write(directory.join("tests.yaml"), tests.to_string()).unwrap();
    let evaluated = Command::new("promtool")
        .args(["test", "rules", "tests.yaml"])
        .current_dir(directory)
        .output()
        .unwrap_or_else(|error| panic!("promtool, which comes with Prometheus: {error}; `./dev test` installs it"));
    assert!(
        evaluated.status.success(),
        "{}{}",
        String::from_utf8_lossy(&evaluated.stdout),
        String::from_utf8_lossy(&evaluated.stderr)
    );
}

/// Which alerts there are is what is looked at, not their words.
fn without_annotations(mut rules: Value) -> Value {
    for rule in rules["groups"][0]["rules"].as_array_mut().unwrap() {
        rule.as_object_mut().unwrap().remove("annotations");
    }
    rules
}

const READY: &str = r#"authsome_application_ready_instances{application="app_a",instance="one"}"#;
const READY_TOO: &str = r#"authsome_application_ready_instances{application="app_a",instance="two"}"#;
const UP: &str = r#"up{application="app_a",pod="one"}"#;
const DOWN: &str = "AuthsomeApplicationDown";

#[test]
fn that_nobody_answers_is_told_of_who_ought_to_serve_and_of_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let (none, two) = ("0x20", "2x20");
    let everywhere = [
        case(DOWN, "no instance is ready", true, &[(READY, none)]),
        case(
            DOWN,
            "no pod was ever made: nothing to scrape",
            true,
            &[(READY, none), (READY_TOO, none)],
        ),
        case(DOWN, "instances are ready", false, &[(READY, two)]),
        case(
            DOWN,
            "ready, and closed to Prometheus",
            false,
            &[(READY, two), (UP, none)],
        ),
        case(
            DOWN,
            "one provisioner is behind",
            false,
            &[(READY, none), (READY_TOO, two)],
        ),
        case(DOWN, "stopped on purpose", false, &[(READY, "2x5 _x15")]),
        case(DOWN, "away for a moment", false, &[(READY, "2x18 0 2")]),
    ];
    evaluate(&settings(), &everywhere, directory.path());
    evaluate(&elaborate(), &everywhere, directory.path());
    // Where Prometheus may scrape instances, it also knows while all provisioners are silent.
    let silent = |fires| {
        [case(
            DOWN,
            "provisioners are silent, nobody lets itself be scraped",
            fires,
            &[(UP, none)],
        )]
    };
    evaluate(&elaborate(), &silent(true), directory.path());
    evaluate(&settings(), &silent(false), directory.path());
}

#[test]
fn errors_and_slowness_are_told_from_shares_of_an_applications_own_requests() {
    let directory = tempfile::tempdir().unwrap();
    let requests = |status: &'static str| match status {
        "200" => r#"http_requests_total{application="app_a",status="200"}"#,
        "503" => r#"http_requests_total{application="app_a",status="503"}"#,
        _ => r#"http_requests_total{application="app_a",status="404"}"#,
    };
    let errors = "AuthsomeApplicationErrors";
    let (le_half, le_two, le_all) = (
        r#"http_request_duration_seconds_bucket{application="app_a",le="0.5"}"#,
        r#"http_request_duration_seconds_bucket{application="app_a",le="2"}"#,
        r#"http_request_duration_seconds_bucket{application="app_a",le="+Inf"}"#,
    );
    let slow = "AuthsomeApplicationSlow";
    let cases = [
        case(
            errors,
            "one in ten fails",
            true,
            &[(requests("200"), "0+90x20"), (requests("503"), "0+10x20")],
        ),
        case(
            errors,
            "one in a hundred fails",
            false,
            &[(requests("200"), "0+99x20"), (requests("503"), "0+1x20")],
        ),
        case(
            errors,
            "callers are wrong",
            false,
            &[(requests("200"), "0+50x20"), (requests("404"), "0+50x20")],
        ),
        case(
            errors,
            "nobody asks",
            false,
            &[(requests("200"), "90x20"), (requests("503"), "10x20")],
        ),
        case(
            slow,
            "one in ten takes longer than half a second",
            true,
            &[(le_half, "0+90x20"), (le_two, "0+100x20"), (le_all, "0+100x20")],
        ),
        case(
            slow,
            "one in a hundred does",
            false,
            &[(le_half, "0+99x20"), (le_two, "0+100x20"), (le_all, "0+100x20")],
        ),
    ];
    evaluate(&settings(), &cases, directory.path());
}

#[test]
fn a_database_is_nearly_full_by_its_size_or_by_its_volume_and_sessions_by_their_limit() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = r#"authsome_application_database_bytes{application="app_a"}"#;
    let limit = r#"authsome_application_storage_limit_bytes{application="app_a"}"#;
    let volume = |name: &'static str| match name {
        "used" => {
            r#"kubelet_volume_stats_used_bytes{namespace="authsome-app-a",persistentvolumeclaim="data-postgres-0"}"#
        }
        "redis" => {
            r#"kubelet_volume_stats_used_bytes{namespace="authsome-app-a",persistentvolumeclaim="data-redis-0"}"#
        }
        "redis capacity" => {
            r#"kubelet_volume_stats_capacity_bytes{namespace="authsome-app-a",persistentvolumeclaim="data-redis-0"}"#
        }
        _ => {
            r#"kubelet_volume_stats_capacity_bytes{namespace="authsome-app-a",persistentvolumeclaim="data-postgres-0"}"#
        }
    };
    let sessions = r#"authsome_application_database_connections{application="app_a"}"#;
    let may = r#"authsome_application_connection_limit{application="app_a"}"#;
    let (full, many) = (
        "AuthsomeApplicationDatabaseNearlyFull",
        "AuthsomeApplicationConnections",
    );
    let cases = [
        case(
            full,
            "nine tenths of a shared server's share",
            true,
            &[(bytes, "90x20"), (limit, "100x20")],
        ),
        case(full, "half of it", false, &[(bytes, "50x20"), (limit, "100x20")]),
        case(
            full,
            "nine tenths of a volume",
            true,
            &[(volume("used"), "90x20"), (volume("capacity"), "100x20")],
        ),
        case(
            full,
            "half of it",
            false,
            &[(volume("used"), "50x20"), (volume("capacity"), "100x20")],
        ),
        case(
            full,
            "the volume of Redis is another's business",
            false,
            &[(volume("redis"), "90x20"), (volume("redis capacity"), "100x20")],
        ),
        case(
            many,
            "nine of ten sessions",
            true,
            &[(sessions, "9x20"), (may, "10x20")],
        ),
        case(many, "five of ten", false, &[(sessions, "5x20"), (may, "10x20")]),
    ];
    evaluate(&settings(), &cases, directory.path());
}
