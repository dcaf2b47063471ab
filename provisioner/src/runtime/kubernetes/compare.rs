//! Is an object as its manifest says? Only the fields that the manifest has are looked at: whatever else is there belongs to
//! the cluster or to others. But for what chooses pods and what opens ways to them: there an addition changes what the manifest
//! says, and nobody else has a say in it. (An API server takes these as one value, too: an apply puts all of it right.)

use std::fmt::Write;

use serde_json::Value;

use super::quantity::same_amount;

/// Members that are ours alone, with everything in them.
const WHOLE: [&str; 6] = [
    "selector",
    "podSelector",
    "namespaceSelector",
    "labelSelector",
    "ingress",
    "egress",
];
/// What an API server writes into those where a manifest says nothing.
const IMPLIED: [(&str, &str); 1] = [("protocol", "TCP")];

/// Where a live object differs from a manifest, as paths; nothing where it does not.
pub(super) fn differences(wanted: &Value, live: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(wanted, live, false, &mut String::new(), &mut found);
    found
}

/// `whole`: what the manifest does not have may not be there either.
fn walk(wanted: &Value, live: &Value, whole: bool, path: &mut String, found: &mut Vec<String>) {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            let length = path.len();
            for (name, value) in wanted {
                path.push('.');
                path.push_str(name);
                let whole = whole || WHOLE.contains(&name.as_str());
                walk(value, live.get(name).unwrap_or(&Value::Null), whole, path, found);
                path.truncate(length);
            }
            for (name, value) in live.iter().filter(|(name, _)| whole && !wanted.contains_key(*name)) {
                let is_implied = IMPLIED.iter().any(|(member, text)| name == member && value == text);
                if !is_implied && !is_empty(value) {
                    path.push('.');
                    path.push_str(name);
                    found.push(path.clone());
                    path.truncate(length);
                }
            }
        }
        // A server leaves out what is empty.
        (wanted, Value::Null) if is_empty(wanted) => {}
        (Value::Array(wanted), Value::Array(live)) => list(wanted, live, whole, path, found),
        (Value::String(wanted), Value::String(live)) => {
            if !same_amount(wanted, live) {
                found.push(path.clone());
            }
        }
        (wanted, live) => {
            if wanted != live {
                found.push(path.clone());
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(members) => members.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Bool(true) => false,
    }
}

/// Lists whose elements have a name are compared by name, since others may add elements of their own (a sidecar, say);
/// all others must be the same, element by element.
fn list(wanted: &[Value], live: &[Value], whole: bool, path: &mut String, found: &mut Vec<String>) {
    let key = ["name", "mountPath"]
        .into_iter()
        .find(|key| !wanted.is_empty() && wanted.iter().all(|element| element.get(key).is_some()));
    let length = path.len();
    if let Some(key) = key {
        for element in wanted {
            let name = &element[key];
            // Writing into a string cannot fail.
            let _ = write!(path, "[{}]", name.as_str().unwrap_or_default());
            match live.iter().find(|other| &other[key] == name) {
                Some(other) => walk(element, other, whole, path, found),
                None => found.push(path.clone()),
            }
            path.truncate(length);
        }
        return;
    }
    if wanted.len() != live.len() {
        found.push(path.clone());
        return;
    }
    for (position, (wanted, live)) in wanted.iter().zip(live).enumerate() {
        let _ = write!(path, "[{position}]");
        walk(wanted, live, whole, path, found);
        path.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_added_is_no_difference() {
        let wanted = json!({ "spec": { "a": 1, "containers": [{ "name": "x", "image": "i" }], "quota": "1000m" } });
        let live = json!({
            "spec": { "a": 1, "b": 2, "containers": [{ "name": "side" }, { "name": "x", "image": "i", "tty": false }], "quota": "1" },
            "status": {},
        });
        assert!(differences(&wanted, &live).is_empty());
    }

    #[test]
    fn what_is_changed_or_gone_is_named_by_its_path() {
        for (wanted, live, path) in [
            (json!({ "a": 1 }), json!({ "a": 2 }), ".a"),
            (json!({ "a": { "b": "x" } }), json!({ "a": {} }), ".a.b"),
            (json!({ "l": [1, 2] }), json!({ "l": [1] }), ".l"),
            (json!({ "l": [1, 2] }), json!({ "l": [1, 3] }), ".l[1]"),
            (
                json!({ "l": [{ "name": "x", "v": 1 }] }),
                json!({ "l": [{ "name": "x", "v": 2 }] }),
                ".l[x].v",
            ),
            (
                json!({ "l": [{ "name": "x" }] }),
                json!({ "l": [{ "name": "y" }] }),
                ".l[x]",
            ),
            (json!({ "q": "500m" }), json!({ "q": "600m" }), ".q"),
        ] {
            assert_eq!(differences(&wanted, &live), [path], "{wanted} {live}");
        }
    }

    #[test]
    fn what_somebody_added_to_a_selector_or_a_way_is_a_difference() {
        for (wanted, live, path) in [
            (
                json!({ "spec": { "podSelector": {}, "ingress": [] } }),
                json!({ "spec": { "podSelector": { "matchLabels": { "x": "y" } } } }),
                ".spec.podSelector.matchLabels",
            ),
            (
                json!({ "spec": { "podSelector": {}, "ingress": [] } }),
                json!({ "spec": { "podSelector": {}, "ingress": [{}] } }),
                ".spec.ingress",
            ),
            (
                json!({ "egress": [{ "ports": [{ "port": 53 }] }] }),
                json!({ "egress": [{ "ports": [{ "port": 53, "protocol": "TCP", "endPort": 65535 }] }] }),
                ".egress[0].ports[0].endPort",
            ),
            (
                json!({ "egress": [{ "to": [{ "ipBlock": { "cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"] } }] }] }),
                json!({ "egress": [{ "to": [{ "ipBlock": { "cidr": "0.0.0.0/0", "except": [] } }] }] }),
                ".egress[0].to[0].ipBlock.except",
            ),
            (
                json!({ "spec": { "selector": { "app": "a" } } }),
                json!({ "spec": { "selector": { "app": "a", "more": "b" }, "type": "ClusterIP" } }),
                ".spec.selector.more",
            ),
        ] {
            assert_eq!(differences(&wanted, &live), [path], "{wanted} {live}");
        }
        let implied = json!({ "ingress": [{ "ports": [{ "port": 80, "protocol": "TCP" }], "from": [] }] });
        assert!(differences(&json!({ "ingress": [{ "ports": [{ "port": 80 }] }] }), &implied).is_empty());
    }

    #[test]
    fn what_a_server_leaves_out_because_it_is_empty_is_no_difference() {
        let wanted = json!({ "a": {}, "b": [], "c": "", "d": false, "e": 0 });
        assert!(differences(&wanted, &json!({})).is_empty());
        assert_eq!(differences(&json!({ "d": true }), &json!({})), [".d"]);
    }
}
