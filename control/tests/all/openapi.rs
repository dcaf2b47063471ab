//! The committed description of the API is that of the API.

use authsome_control::api;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::service::Service;

#[test]
fn the_committed_document_is_up_to_date() {
    let committed = include_str!("../../openapi.json");
    assert!(
        committed == api::document(),
        "control/openapi.json is out of date; run: cargo run -p authsome-control -- openapi > control/openapi.json"
    );
}

#[tokio::test]
async fn the_document_is_served_under_both_bases_to_anybody() {
    let service = Service::new().await;
    for base in ["/api/v1", "/control/v1"] {
        let answer = service
            .call(Method::GET, &format!("{base}/openapi.json"), None, None)
            .await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (StatusCode::OK, api::document().as_str())
        );
    }
}

#[test]
fn every_operation_says_who_may_call_it_and_how_it_refuses() {
    let document: Value = serde_json::from_str(&api::document()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{method} {path}");
            assert!(
                operation["operationId"].is_string() && operation["summary"].is_string(),
                "{name}"
            );
            let responses = operation["responses"].as_object().unwrap();
            for status in ["400", "401", "429", "500", "503"] {
                assert!(responses.contains_key(status), "{name} lacks {status}");
            }
            // Whoever needs a token may send that of a program, which may not do everything.
            let needs_token = operation["security"][0].get("bearer").is_some();
            assert!(!needs_token || responses.contains_key("403"), "{name} lacks 403");
            let takes_body = operation.get("requestBody").is_some();
            for status in ["408", "413", "415"] {
                assert!(!takes_body || responses.contains_key(status), "{name} lacks {status}");
            }
            let in_path = operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|p| p["in"] == "path")
                .count();
            assert_eq!(in_path, path.matches('{').count(), "{name}");
            assert_eq!(responses.contains_key("404"), in_path > 0, "{name}");
            assert!(operation["security"].is_array(), "{name}");
        }
    }
}

#[test]
fn every_answer_with_a_tag_can_be_asked_for_only_if_it_is_new() {
    let document: Value = serde_json::from_str(&api::document()).unwrap();
    let mut seen = Vec::new();
    for item in document["paths"].as_object().unwrap().values() {
        let Some(operation) = item.get("get") else { continue };
        let has_tag = operation["responses"]["200"]["headers"].get("ETag").is_some();
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let takes_tag = parameters
            .into_iter()
            .any(|parameter| parameter["name"] == "If-None-Match");
        let unchanged = operation["responses"].get("304").is_some();
        assert_eq!(
            (takes_tag, unchanged),
            (has_tag, has_tag),
            "{}",
            operation["operationId"]
        );
        if has_tag {
            seen.push(operation["operationId"].as_str().unwrap().to_owned());
        }
    }
    seen.sort();
    assert_eq!(
        seen,
        ["getApplication", "getKey", "getMember", "getWebhook", "getWorkspace"]
    );
}

#[test]
fn changes_are_taken_as_merge_patches_and_nothing_else_is() {
    let document: Value = serde_json::from_str(&api::document()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(content) = operation["requestBody"]["content"].as_object() else {
                continue;
            };
            let patch = content.contains_key("application/merge-patch+json");
            assert!(content.contains_key("application/json"), "{method} {path}");
            assert_eq!(patch, method == "patch", "{method} {path}");
        }
    }
}

#[test]
fn every_response_says_what_it_means() {
    let document: Value = serde_json::from_str(&api::document()).unwrap();
    let mut seen = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let description = response["description"].as_str().unwrap_or_default();
                assert!(!description.trim().is_empty(), "{method} {path}: {status}");
                seen += 1;
            }
        }
    }
    assert!(seen > 80, "only {seen} responses");
}
