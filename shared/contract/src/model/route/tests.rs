use authsome_core::{
    clock::SystemClock,
    entropy::SystemEntropy,
    id::{Id, Kind},
};

use super::*;
use crate::model::Refusal;

fn id<K: Kind>() -> Id<K> {
    Id::generate(&SystemClock, &SystemEntropy::new())
}

fn key_row() -> KeyRow {
    KeyRow {
        digest: vec![7; 32],
        id: id(),
        application_id: id(),
        r#type: "secret".to_owned(),
        epoch: 1,
        version: 3,
        scopes: vec!["users:read".to_owned()],
        networks: vec!["192.0.2.0/24".to_owned()],
        origins: Vec::new(),
        enabled: true,
        expires_at_ms: None,
        revoked: false,
    }
}

fn app_row() -> AppRow {
    AppRow {
        id: id(),
        workspace_id: id(),
        epoch: 1,
        version: 2,
        environment: "staging".to_owned(),
        region: "local".to_owned(),
        status: "active".to_owned(),
        activated: true,
        endpoints: vec!["127.0.0.1:4000".to_owned()],
        base_path: String::new(),
        edge_credentials: Some(vec![1, 2, 3]),
        origins: Vec::new(),
        path_policy: serde_json::json!([]),
        quota_exhausted: false,
        strict_seconds: Some(30),
        secret_from_browsers: false,
        edge_limits: None,
        cache_policy: serde_json::json!({}),
        cache_purges: serde_json::json!({}),
        instance_service: None,
        instance_tls: None,
        plan: "free".to_owned(),
        workspace_status: "active".to_owned(),
    }
}

#[test]
fn a_key_is_usable_only_while_active_and_before_its_expiry() {
    let usable = |enabled, revoked, expires_at_ms, now_ms| {
        let row = KeyRow {
            enabled,
            expires_at_ms,
            revoked,
            ..key_row()
        };
        row.into_record().unwrap().is_usable(now_ms)
    };
    assert!(usable(true, false, None, i64::MAX));
    assert!(usable(true, false, Some(1_000), 999));
    assert!(
        !usable(true, false, Some(1_000), 1_000),
        "the instant of expiry is past"
    );
    assert!(!usable(false, false, None, 0));
    assert!(!usable(true, true, None, 0));
    assert!(!usable(false, true, Some(1_000), 0));
}

#[test]
fn serve_comes_from_status_history_and_workspace() {
    let serve = |status: &str, activated, workspace: &str| {
        let row = AppRow {
            status: status.to_owned(),
            activated,
            workspace_status: workspace.to_owned(),
            ..app_row()
        };
        row.into_record().unwrap().serve
    };
    assert_eq!(serve("active", true, "active"), Serve::Yes);
    assert_eq!(serve("failed", true, "active"), Serve::Yes);
    assert_eq!(serve("failed", false, "active"), Serve::Refuse(Refusal::Failed));
    assert_eq!(serve("active", true, "suspended"), Serve::Refuse(Refusal::Suspended));
}

#[test]
fn a_row_that_is_not_understood_names_its_column_and_makes_no_record() {
    let column = |row: AppRow| row.into_record().unwrap_err().to_string();
    assert!(
        column(AppRow {
            status: "new".to_owned(),
            ..app_row()
        })
        .contains("column status")
    );
    assert!(
        column(AppRow {
            plan: "gold".to_owned(),
            ..app_row()
        })
        .contains("column plan")
    );
    assert!(
        column(AppRow {
            endpoints: vec!["nowhere".to_owned()],
            ..app_row()
        })
        .contains("column endpoints")
    );
    assert!(
        column(AppRow {
            path_policy: serde_json::json!([{"x": 1}]),
            ..app_row()
        })
        .contains("column path_policy")
    );
    assert!(
        column(AppRow {
            edge_limits: Some(serde_json::json!({"requestsPerSecond": 0})),
            ..app_row()
        })
        .contains("column edge_limits")
    );
    assert!(
        column(AppRow {
            cache_purges: serde_json::json!({"tags": ["a"]}),
            ..app_row()
        })
        .contains("column cache_purges")
    );
    let column = |row: KeyRow| row.into_record().unwrap_err().to_string();
    assert!(
        column(KeyRow {
            digest: vec![1; 31],
            ..key_row()
        })
        .contains("column digest")
    );
    assert!(
        column(KeyRow {
            scopes: vec!["all".to_owned()],
            ..key_row()
        })
        .contains("column scopes")
    );
    assert!(
        column(KeyRow {
            networks: vec!["10.0.0.0/33".to_owned()],
            ..key_row()
        })
        .contains("column networks")
    );
}
