//! What the columns that the edge sees accept is what the models accept.

use authsome_contract::model::{CachePolicy, CachePurges, InstanceTls, LimitOverride, cache_purges, limit_override};
use serde_json::{Value, json};

use crate::fixture::tenancy;

/// Would the code have written this? Parsed as the model is read, unchanged when written again, within its bounds.
fn model<T: serde::de::DeserializeOwned + serde::Serialize>(
    value: &Value,
    check: impl Fn(&T, &mut dyn FnMut(&str, String)),
) -> bool {
    let Ok(parsed) = serde_json::from_value::<T>(value.clone()) else {
        return false;
    };
    let mut sound = true;
    check(&parsed, &mut |_, _| sound = false);
    // A field that the model drops is one that it does not know.
    let written = serde_json::to_value(&parsed).unwrap();
    let kept = value.as_object().is_some_and(|fields| {
        fields
            .keys()
            .all(|name| written.get(name).is_some() || is_default(&fields[name]))
    });
    sound && kept
}

fn is_default(value: &Value) -> bool {
    matches!(value, Value::Array(items) if items.is_empty())
        || matches!(value, Value::Object(items) if items.is_empty())
}

fn purges_are_sound(purges: &CachePurges, refuse: &mut dyn FnMut(&str, String)) {
    if purges.tags.len() > cache_purges::MOST_TAGS || !purges.tags.keys().all(|tag| cache_purges::is_tag(tag)) {
        refuse("tags", String::new());
    }
}

fn limits() -> Vec<Value> {
    let edges = [
        ("requestsPerSecond", u64::from(limit_override::MOST_PER_SECOND)),
        ("burst", u64::from(limit_override::MOST_BURST)),
        ("inFlight", u64::from(limit_override::MOST_IN_FLIGHT)),
        ("bodyBytes", limit_override::MOST_BODY_BYTES),
        ("requestsPerMonth", limit_override::MOST_PER_MONTH),
    ];
    let mut values = vec![json!({}), json!([]), json!(5), json!({"unknown": 5})];
    for (field, most) in edges {
        let one = |value: Value| Value::Object([(field.to_owned(), value)].into_iter().collect());
        values.extend(
            [
                json!(0),
                json!(1),
                json!(most),
                json!(most + 1),
                json!(-1),
                json!(1.5),
                json!("1"),
                json!({}),
            ]
            .map(one),
        );
    }
    values
}

fn policies() -> Vec<Value> {
    let rules = |rule: Value| json!({"rules": [rule]});
    let many = |count: usize| json!({"rules": vec![json!({"pattern": "/a", "bypass": true}); count]});
    vec![
        json!({}),
        json!({"enabled": false}),
        json!({"enabled": 1}),
        json!({"enabled": true, "rules": []}),
        json!({"rules": {}}),
        json!({"other": 1}),
        json!([]),
        many(32),
        many(33),
        rules(json!({"pattern": "/a/**", "ttlSeconds": 1})),
        rules(json!({"pattern": "/a", "ttlSeconds": 604_800})),
        rules(json!({"pattern": "/a", "ttlSeconds": 604_801})),
        rules(json!({"pattern": "/a", "ttlSeconds": 0})),
        rules(json!({"pattern": "/a"})),
        rules(json!({"pattern": "/a", "bypass": true, "ttlSeconds": 5})),
        rules(json!({"pattern": "/a", "bypass": true, "ttlSeconds": 0})),
        rules(json!({"pattern": "a", "bypass": true})),
        rules(json!({"pattern": "", "bypass": true})),
        rules(json!({"pattern": format!("/{}", "a".repeat(255)), "bypass": true})),
        rules(json!({"pattern": format!("/{}", "a".repeat(256)), "bypass": true})),
        rules(json!({"bypass": true})),
        rules(json!(7)),
    ]
}

fn purges() -> Vec<Value> {
    let many = |count: usize| {
        let tags: serde_json::Map<_, _> = (0..count).map(|n| (format!("t{n}"), json!(n))).collect();
        json!({ "tags": tags })
    };
    vec![
        json!({}),
        json!({"allMs": 1_700_000_000_000_i64}),
        json!({"allMs": "x"}),
        json!({"allMs": 1.5}),
        json!({"tags": {"users:42": 5, "a-b": 6, "+": 7, "~!": 8}}),
        json!({"tags": {"": 5}}),
        json!({"tags": {"a,b": 5}}),
        json!({"tags": {"a b": 5}}),
        json!({"tags": {"é": 5}}),
        json!({"tags": {"x".repeat(128): 5}}),
        json!({"tags": {"x".repeat(129): 5}}),
        json!({"tags": {"a": "b"}}),
        json!({"tags": []}),
        json!({"other": 1}),
        many(64),
        many(65),
    ]
}

#[tokio::test]
async fn the_columns_accept_exactly_what_the_models_accept() {
    let tenancy = tenancy().await;
    let app = tenancy.application("shop").await;
    let mut cases: Vec<(&'static str, Value, bool)> = Vec::new();
    for value in limits() {
        let sound = model::<LimitOverride>(&value, LimitOverride::check);
        cases.push(("UPDATE applications SET edge_limits = $2 WHERE id = $1", value, sound));
    }
    for value in policies() {
        let sound = model::<CachePolicy>(&value, CachePolicy::check);
        cases.push(("UPDATE applications SET cache_policy = $2 WHERE id = $1", value, sound));
    }
    for value in purges() {
        let sound = model::<CachePurges>(&value, purges_are_sound);
        cases.push(("UPDATE applications SET cache_purges = $2 WHERE id = $1", value, sound));
    }
    for value in [
        json!({"serverName": "shop.svc"}),
        json!({}),
        json!([]),
        json!({"serverName": 5}),
    ] {
        let sound = model::<InstanceTls>(&value, |_, _| {});
        cases.push(("UPDATE applications SET instance_tls = $2 WHERE id = $1", value, sound));
    }
    assert!(cases.iter().any(|(_, _, sound)| *sound) && cases.iter().any(|(_, _, sound)| !*sound));
    for (statement, value, sound) in cases {
        let outcome = sqlx::query(statement)
            .bind(app)
            .bind(&value)
            .execute(&tenancy.pool)
            .await;
        assert_eq!(outcome.is_ok(), sound, "{statement}: {value} {outcome:?}");
    }
}

#[tokio::test]
async fn a_service_is_a_host_name_and_a_port() {
    let tenancy = tenancy().await;
    let app = tenancy.application("shop").await;
    let long = format!("{}:80", "a".repeat(64));
    for (address, sound) in [
        ("authsome.authsome-app-x.svc.cluster.local:8080", true),
        ("localhost:65535", true),
        ("localhost:65536", false),
        ("localhost:0", false),
        ("localhost", false),
        ("localhost:", false),
        (":80", false),
        ("a:80:80", false),
        ("UPPER:80", false),
        ("a..b:80", false),
        ("-a:80", false),
        ("a.:80", false),
        (long.as_str(), false),
    ] {
        let outcome = sqlx::query("UPDATE applications SET instance_service = $2 WHERE id = $1")
            .bind(app)
            .bind(address)
            .execute(&tenancy.pool)
            .await;
        assert_eq!(outcome.is_ok(), sound, "{address} {outcome:?}");
    }
}

#[tokio::test]
async fn a_host_name_is_the_same_to_the_database_and_to_the_edge() {
    use authsome_contract::model::is_host_name;
    let tenancy = tenancy().await;
    let (label, name) = ("a".repeat(63), ["abcdefg"; 31].join("."));
    let (long_label, long) = (format!("{label}a"), ["abcdefg"; 32].join("."));
    for text in [
        "a",
        "a.b",
        "1.2",
        "xn--bcher-kva.example",
        "a-b.c",
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "A.b",
        "-a.b",
        "a-.b",
        "a_b",
        "a b",
        "é.b",
        "a:80",
        "a\n",
        &label,
        &name,
        &long_label,
        &long,
    ] {
        let sql: bool = sqlx::query_scalar("SELECT is_host_name($1)")
            .bind(text)
            .fetch_one(&tenancy.pool)
            .await
            .unwrap();
        assert_eq!(sql, is_host_name(text), "{text:?}");
    }
}
